//! Exact amounts of money.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An exact amount in [`Currency`]; a string in JSON, never a float.
///
/// Amounts come from the price list, never from a tool's arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Money(#[serde(with = "rust_decimal::serde::str")] Decimal);

/// The unit of every [`Money`] of one installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Currency {
    /// US dollars.
    #[default]
    #[serde(rename = "USD")]
    Usd,
}

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoney {
    /// Not a plain decimal number such as `0.0015`.
    #[error("`{0}` is not a decimal amount such as \"0.0015\"")]
    NotDecimal(String),
    /// Below zero.
    #[error("`{0}` is negative")]
    Negative(String),
    /// Larger than [`Money::MAX`], or with more digits than an exact sum can keep.
    #[error("`{0}` is larger than 1000000000 or has more than 12 decimal places")]
    OutOfRange(String),
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// The largest amount that can be written in a price list or a budget.
    ///
    /// A decimal has 28 digits: 10 before the point and 12 after leave six for the count of
    /// summands, so that no sum in a report is ever rounded.
    pub const MAX: Self = Self(Decimal::from_parts(1_000_000_000, 0, 0, false, 0));

    /// Returns this amount `quantity` times.
    #[must_use]
    pub fn times(self, quantity: u64) -> Self {
        Self(self.0.saturating_mul(Decimal::from(quantity)))
    }

    /// Returns what is left of this amount after `used`; nothing where more was used.
    #[must_use]
    pub fn left_after(self, used: Self) -> Self {
        Self(self.0.saturating_sub(used.0).max(Decimal::ZERO))
    }

    /// Whether this is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Returns this amount without trailing zeros, for people.
    #[must_use]
    pub fn normalized(self) -> Self {
        Self(self.0.normalize())
    }

    /// Returns a millionth of this amount, exactly.
    #[must_use]
    pub fn per_million(self) -> Self {
        Self(self.0 * Decimal::new(1, 6))
    }

    /// Returns how often `price` goes into this amount; `None` when the price is nothing.
    #[must_use]
    pub fn quantity_at(self, price: Self) -> Option<u64> {
        u64::try_from((self.0.checked_div(price.0)?).trunc()).ok()
    }

    /// Returns this amount divided by `count`, rounded to eight places, for averages.
    ///
    /// An average is never added to anything; sums stay exact.
    #[must_use]
    pub fn average_over(self, count: u64) -> Self {
        if count == 0 { Self::ZERO } else { Self((self.0 / Decimal::from(count)).round_dp(8)) }
    }
}

impl FromStr for Money {
    type Err = InvalidMoney;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let amount =
            Decimal::from_str_exact(text).map_err(|_| InvalidMoney::NotDecimal(text.chars().take(64).collect()))?;
        if amount.is_sign_negative() && !amount.is_zero() {
            return Err(InvalidMoney::Negative(text.to_owned()));
        }
        if amount > Self::MAX.0 || amount.scale() > 12 {
            return Err(InvalidMoney::OutOfRange(text.to_owned()));
        }
        Ok(Self(amount.abs()))
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$" })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usd => formatter.write_str("USD"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tenths_add_up_exactly() {
        let tenth: Money = "0.1".parse().unwrap();
        assert_eq!((0..10).map(|_| tenth).sum::<Money>(), "1".parse().unwrap());
    }

    #[test]
    fn floats_in_json_are_refused() {
        assert!(serde_json::from_str::<Money>("0.1").is_err());
        assert!(serde_json::from_str::<Money>("\"0.1\"").is_ok());
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for text in ["", "-0.1", "1e3", "0x1", "1,5", "NaN", "inf", "1000000001", "0.0000000000001", "１"] {
            assert!(text.parse::<Money>().is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn sums_do_not_depend_on_order(cents in prop::collection::vec(0u64..1_000_000_000, 0..200)) {
            let amounts: Vec<Money> = cents.iter().map(|c| "0.000001".parse::<Money>().unwrap().times(*c)).collect();
            let forward: Money = amounts.iter().copied().sum();
            let backward: Money = amounts.iter().rev().copied().sum();
            prop_assert_eq!(forward, backward);
            prop_assert_eq!(forward, "0.000001".parse::<Money>().unwrap().times(cents.iter().sum()));
        }

        #[test]
        fn text_round_trips(units in 0u64..10_000_000_000, scale in 0u32..12) {
            let text = Decimal::from_i128_with_scale(i128::from(units), scale).to_string();
            if let Ok(money) = text.parse::<Money>() {
                prop_assert_eq!(serde_json::from_str::<Money>(&serde_json::to_string(&money).unwrap()).unwrap(), money);
            }
        }
    }
}
