//! Identifiers made by Tollgate.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::{ContextV7, Timestamp, Uuid};

/// The identifier of one ledger entry: a UUIDv7, so identifiers sort by the time they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct EntryId(#[schemars(with = "String")] Uuid);

impl EntryId {
    /// Makes an identifier for the present instant.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// Returns the identifier of the attempt `number`, from 0, at what this one names: of several attempts each has its own
    /// entry, and whoever knows this identifier finds them all.
    #[must_use]
    pub fn attempt(self, number: u32) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().wrapping_add(u128::from(number))))
    }

    /// Returns the smallest identifier that an entry made at `instant` or later can have.
    #[must_use]
    pub fn lower_bound(instant: jiff::Timestamp) -> Self {
        let millis = instant.as_millisecond().max(0).unsigned_abs();
        let timestamp = Timestamp::from_unix(ContextV7::new(), millis / 1000, ((millis % 1000) * 1_000_000) as u32);
        let mut bytes = *Uuid::new_v7(timestamp).as_bytes();
        bytes[6] = 0x70;
        bytes[7] = 0;
        bytes[8] = 0x80;
        bytes[9..].fill(0);
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

impl std::str::FromStr for EntryId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_bound_precedes_what_is_made_afterwards() {
        let bound = EntryId::lower_bound(jiff::Timestamp::now());
        assert!(bound.to_string() <= EntryId::generate().to_string());
        let earlier = EntryId::lower_bound(jiff::Timestamp::now() - jiff::Span::new().milliseconds(10));
        assert!(earlier < bound);
    }
}
