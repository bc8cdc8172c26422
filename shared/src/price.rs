//! What things cost.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::money::{InvalidMoney, Money};

/// The `_meta` key that carries a tool's price list in `tools/list`.
pub const PRICE_META_KEY: &str = "io.tollgate/price";

/// The `_meta` key under which a caller says what a call may cost at most, as decimal text. A call that only reads stops
/// before it costs more. It needs no proof: who sets it limits nobody but himself.
pub const ALLOWANCE_META_KEY: &str = "io.tollgate/allowance";

/// What can be charged for: dotted words, the first one the server's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct Sku(#[schemars(with = "String")] Cow<'static, str>);

/// The default price of every sku, in US dollars; `*` stands for all other last words.
const DEFAULTS: &[(&str, &str)] = &[
    ("ralph.base", "0.001"),
    ("ralph.check.linting", "0.0003"),
    ("ralph.check.type_checking", "0.0005"),
    ("ralph.check.security", "0.0007"),
    ("ralph.check.formatting", "0.0002"),
    ("ralph.check.*", "0.0001"),
    ("git.commit", "0.0005"),
    ("git.branch_create", "0.0002"),
    ("git.branch_delete", "0.0001"),
    ("git.switch", "0.0001"),
    ("git.merge", "0.001"),
    ("git.pull", "0.001"),
    ("git.push", "0.0015"),
    ("git.stage", "0.00001"),
    ("git.read", "0.00001"),
    ("database.query", "0.0001"),
    ("database.schema", "0.00005"),
    ("database.validate", "0.00005"),
    ("deploy.dev", "0.001"),
    ("deploy.staging", "0.005"),
    ("deploy.prod", "0.025"),
    // An environment of the operator's own is priced like staging until the operator says otherwise.
    ("deploy.*", "0.005"),
];

/// The servers whose skus are all known, so that a misspelt override can be told from a new one.
const OWN_SERVERS: &[&str] = &["ralph", "git", "database", "deploy"];

/// The price of every sku: the defaults with the operator's overrides on top.
#[derive(Clone, Debug)]
pub struct PriceList {
    prices: BTreeMap<Cow<'static, str>, Money>,
}

/// An override that cannot be taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvalidPrice {
    /// Not a sku of the server that its first word names.
    #[error("unknown sku `{sku}`{}", crate::config::did_you_mean(.nearest.as_deref()))]
    UnknownSku {
        /// What was written.
        sku: String,
        /// The nearest known sku.
        nearest: Option<String>,
    },
    /// Not an amount.
    #[error("price of `{sku}`")]
    Amount {
        /// What was priced.
        sku: String,
        /// What is wrong with the amount.
        #[source]
        source: InvalidMoney,
    },
}

impl Sku {
    /// Names a sku that is known when the program is written.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Sku {
    fn from(name: String) -> Self {
        Self(Cow::Owned(name))
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Default for PriceList {
    fn default() -> Self {
        let prices =
            DEFAULTS.iter().filter_map(|(sku, price)| Some((Cow::Borrowed(*sku), price.parse().ok()?))).collect();
        Self { prices }
    }
}

impl PriceList {
    /// Returns the default prices with `overrides` on top.
    ///
    /// # Errors
    ///
    /// [`InvalidPrice`] names the first override that is not a sku or not an amount.
    pub fn with_overrides(overrides: &BTreeMap<String, String>) -> Result<Self, InvalidPrice> {
        let mut list = Self::default();
        for (sku, price) in overrides {
            list.check_known(sku)?;
            let amount = price.parse().map_err(|source| InvalidPrice::Amount { sku: sku.clone(), source })?;
            list.prices.insert(Cow::Owned(sku.clone()), amount);
        }
        Ok(list)
    }

    /// Returns what one `sku` costs: its own price, else that of the nearest `*` above it, else nothing.
    #[must_use]
    pub fn price(&self, sku: &Sku) -> Money {
        // A rollback costs what a deployment to its environment costs, unless priced by itself.
        let name = match sku.as_str().strip_prefix("deploy.rollback.") {
            Some(environment) if !self.prices.contains_key(sku.as_str()) => format!("deploy.{environment}"),
            _ => sku.as_str().to_owned(),
        };
        if let Some(price) = self.prices.get(name.as_str()) {
            return *price;
        }
        let mut parent = name.as_str();
        while let Some((rest, _)) = parent.rsplit_once('.') {
            if let Some(price) = self.prices.get(format!("{rest}.*").as_str()) {
                return *price;
            }
            parent = rest;
        }
        Money::ZERO
    }

    /// Returns every price whose sku starts with `server` and a dot.
    pub fn of_server(&self, server: &str) -> impl Iterator<Item = (&str, Money)> {
        self.prices
            .iter()
            .filter(move |(sku, _)| sku.strip_prefix(server).is_some_and(|rest| rest.starts_with('.')))
            .map(|(sku, price)| (sku.as_ref(), *price))
    }

    fn check_known(&self, sku: &str) -> Result<(), InvalidPrice> {
        let (server, rest) = sku.split_once('.').unwrap_or((sku, ""));
        let wild = OWN_SERVERS.contains(&server)
            && (sku.starts_with("ralph.check.") || server == "deploy")
            && !rest.is_empty();
        if self.prices.contains_key(sku) || wild || (!OWN_SERVERS.contains(&server) && !rest.is_empty()) {
            return Ok(());
        }
        let nearest = crate::config::nearest(sku, self.prices.keys().map(AsRef::as_ref));
        Err(InvalidPrice::UnknownSku { sku: sku.to_owned(), nearest: nearest.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(list: &PriceList, sku: &'static str) -> String {
        list.price(&Sku::new(sku)).to_string()
    }

    #[test]
    fn every_default_parses() {
        assert_eq!(PriceList::default().prices.len(), DEFAULTS.len());
    }

    #[test]
    fn most_exact_price_wins() {
        let list = PriceList::default();
        assert_eq!(price(&list, "ralph.check.security"), "0.0007");
        assert_eq!(price(&list, "ralph.check.syntax"), "0.0001");
        assert_eq!(price(&list, "deploy.rollback.prod"), "0.025");
        assert_eq!(price(&list, "deploy.qa"), "0.005");
        assert_eq!(price(&list, "foreign.echo"), "0");
    }

    #[test]
    fn overrides_apply_and_misspellings_do_not() {
        let overrides =
            |sku: &str, amount: &str| PriceList::with_overrides(&BTreeMap::from([(sku.to_owned(), amount.to_owned())]));
        assert_eq!(price(&overrides("git.read", "0.5").unwrap(), "git.read"), "0.5");
        assert_eq!(price(&overrides("foreign.*", "0.5").unwrap(), "foreign.echo"), "0.5");
        let error = overrides("git.comit", "1").unwrap_err().to_string();
        assert!(error.contains("did you mean `git.commit`"), "{error}");
        assert!(overrides("git.commit", "-1").is_err());
        assert!(overrides("git.commit", "cheap").is_err());
        assert!(overrides("git", "1").is_err());
    }
}
