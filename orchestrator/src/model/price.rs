//! What the tokens of a model cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::money::Money;
use tollgate_shared::price::Sku;
use tollgate_shared::receipt::ReceiptLine;

/// What a model costs, in US dollars per million tokens.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Of what is sent.
    pub input: Money,
    /// Of what comes back, reasoning included.
    pub output: Money,
    /// Of what is sent and read from the provider's cache; as `input` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Money>,
    /// Of what is sent and kept in the provider's cache; as `input` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Money>,
    /// What holds instead for a request with many input tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongPrices>,
}

/// What holds for the whole of a request with more input tokens than `above`, in US dollars per million tokens.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongPrices {
    /// With more input tokens than this.
    pub above: u64,
    /// Of what is sent.
    pub input: Money,
    /// Of what comes back.
    pub output: Money,
    /// Of what is read from the cache; as `input` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Money>,
    /// Of what is kept in the cache; as `input` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Money>,
}

/// What one token costs, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// One that is sent.
    pub input: Money,
    /// One that comes back.
    pub output: Money,
    /// One that is read from the cache.
    pub cache_read: Money,
    /// One that is kept in the cache.
    pub cache_write: Money,
}

/// How many tokens a request had, as the provider reports it; each token in one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Sent, and neither read from the cache nor kept there.
    pub input: u64,
    /// Sent, and read from the cache.
    pub cache_read: u64,
    /// Sent, and kept in the cache.
    pub cache_write: u64,
    /// Come back, without `reasoning`.
    pub output: u64,
    /// Come back as reasoning.
    pub reasoning: u64,
    /// Sent, as far as this side can tell: the provider did not report any.
    pub input_unreported: u64,
    /// Come back, as far as this side can tell: the provider did not report any.
    pub output_unreported: u64,
}

impl Tokens {
    /// Returns how many were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
            .saturating_add(self.input_unreported)
    }
}

impl Tokens {
    /// Returns what came since the count was `before`, of a count that only grows.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            input: self.input.saturating_sub(before.input),
            cache_read: self.cache_read.saturating_sub(before.cache_read),
            cache_write: self.cache_write.saturating_sub(before.cache_write),
            output: self.output.saturating_sub(before.output),
            reasoning: self.reasoning.saturating_sub(before.reasoning),
            input_unreported: self.input_unreported.saturating_sub(before.input_unreported),
            output_unreported: self.output_unreported.saturating_sub(before.output_unreported),
        }
    }
}

impl Prices {
    /// Whether what single tokens cost can be written down: with more than six decimals in a price for a million it cannot.
    #[must_use]
    pub fn can_be_written(&self) -> bool {
        let long = self.long.as_ref();
        let of_long = long.map(|long| [Some(long.input), Some(long.output), long.cache_read, long.cache_write]);
        let all = [Some(self.input), Some(self.output), self.cache_read, self.cache_write].into_iter();
        let mut all = all.chain(of_long.into_iter().flatten()).flatten();
        all.all(|price| price.per_million().to_string().parse::<Money>().is_ok())
    }

    /// Returns what a token costs in a request with so many input tokens.
    #[must_use]
    pub fn of(&self, input_tokens: u64) -> Rates {
        let rates = |input: Money, output: Money, read: Option<Money>, write: Option<Money>| Rates {
            input: input.per_million(),
            output: output.per_million(),
            cache_read: read.unwrap_or(input).per_million(),
            cache_write: write.unwrap_or(input).per_million(),
        };
        match &self.long {
            Some(long) if input_tokens > long.above => {
                rates(long.input, long.output, long.cache_read, long.cache_write)
            }
            _ => rates(self.input, self.output, self.cache_read, self.cache_write),
        }
    }

    /// Returns the lines of the receipt of a request to the model `id`; kinds without tokens have none.
    #[must_use]
    pub fn lines(&self, id: &str, tokens: &Tokens) -> Vec<ReceiptLine> {
        let rates = self.of(tokens.sent());
        [
            ("input", tokens.input, rates.input),
            ("cache_read", tokens.cache_read, rates.cache_read),
            ("cache_write", tokens.cache_write, rates.cache_write),
            ("output", tokens.output, rates.output),
            ("reasoning", tokens.reasoning, rates.output),
            ("input_unreported", tokens.input_unreported, rates.dearest_input()),
            ("output_unreported", tokens.output_unreported, rates.output),
        ]
        .into_iter()
        .filter(|(_, quantity, _)| *quantity > 0)
        .map(|(kind, quantity, unit_price)| ReceiptLine {
            sku: Sku::from(format!("model.{id}.{kind}")),
            quantity,
            unit_price,
            amount: unit_price.times(quantity),
        })
        .collect()
    }
}

impl Rates {
    /// Returns what a token that is sent costs at most.
    #[must_use]
    pub fn dearest_input(&self) -> Money {
        self.input.max(self.cache_read).max(self.cache_write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn prices() -> Prices {
        toml::from_str(
            "input = '2'\noutput = '10'\ncache_read = '0.10'\ncache_write = '2.50'\nlong = { above = 1000, input = '4', output = '15' }",
        )
        .unwrap()
    }

    #[test]
    fn each_kind_of_token_has_its_price_and_the_sum_is_exact() {
        let tokens =
            Tokens { input: 10, cache_read: 700, cache_write: 7, output: 3, reasoning: 5, ..Tokens::default() };
        let lines = prices().lines("openai/x", &tokens);
        let amounts: Vec<(&str, Money)> = lines.iter().map(|line| (line.sku.as_str(), line.amount)).collect();
        assert_eq!(
            amounts,
            [
                ("model.openai/x.input", money("0.00002")),
                ("model.openai/x.cache_read", money("0.00007")),
                ("model.openai/x.cache_write", money("0.0000175")),
                ("model.openai/x.output", money("0.00003")),
                ("model.openai/x.reasoning", money("0.00005")),
            ]
        );
        assert!(prices().lines("openai/x", &Tokens::default()).is_empty());
    }

    #[test]
    fn prices_whose_tokens_cannot_be_written_down_are_known() {
        for (price, expected) in [("3", true), ("0.000001", true), ("0.0000001", false), ("1.2345678", false)] {
            assert_eq!(Prices { output: money(price), ..prices() }.can_be_written(), expected, "{price}");
            let long = LongPrices { cache_read: Some(money(price)), ..prices().long.unwrap() };
            assert_eq!(Prices { long: Some(long), ..prices() }.can_be_written(), expected, "{price}");
        }
    }

    #[test]
    fn long_requests_cost_more_from_the_first_token_on() {
        let at = |input| prices().lines("x", &Tokens { input, ..Tokens::default() })[0].amount;
        assert_eq!(at(1000), money("0.002"));
        assert_eq!(at(1001), money("0.004004"));
        assert_eq!(prices().of(1001).cache_read, money("0.000004"), "as input where nothing else is said");
    }

    #[test]
    fn what_was_not_reported_is_paid_for_at_the_dearest() {
        let lines = prices().lines("x", &Tokens { input_unreported: 100, ..Tokens::default() });
        assert_eq!(lines[0].amount, money("0.00025"));
    }
}
