//! How ledger entries hang together.

use serde::{Deserialize, Serialize};

use crate::audit::AuditEntry;
use crate::content_hash::ContentHash;
use crate::ids::EntryId;
use crate::receipt::Receipt;

/// What an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A [`Receipt`].
    Receipt,
    /// An [`AuditEntry`].
    Audit,
}

impl EntryKind {
    /// Returns the word stored in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Audit => "audit",
        }
    }
}

/// An entry that has no place in the chain yet.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Unique; the same id recorded twice counts once.
    pub id: EntryId,
    /// What `body` holds.
    pub kind: EntryKind,
    /// JSON.
    pub body: String,
}

/// An entry as it stands in the ledger, unchecked.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredEntry {
    /// Place in the chain, from 1.
    pub seq: i64,
    /// UUIDv7 in text.
    pub id: String,
    /// `receipt` or `audit`.
    pub kind: String,
    /// JSON.
    pub body: String,
    /// The hash that the entry before should have.
    pub prev: Vec<u8>,
    /// The hash that this entry should have.
    pub hash: Vec<u8>,
}

/// The end of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of entries.
    pub seq: i64,
    /// The hash of the last one.
    pub hash: ContentHash,
}

impl Head {
    /// The end of an empty chain.
    pub const EMPTY: Self = Self { seq: 0, hash: ContentHash::ZERO };

    /// Returns the head after an entry with these fields.
    #[must_use]
    pub fn after(self, id: &str, kind: &str, body: &str) -> Self {
        let seq = self.seq + 1;
        let hash = ContentHash::builder("tollgate ledger entry 1")
            .field(&seq.to_be_bytes())
            .field(self.hash.as_bytes())
            .field(id.as_bytes())
            .field(kind.as_bytes())
            .field(body.as_bytes())
            .finish();
        Self { seq, hash }
    }
}

impl NewEntry {
    /// Makes the entry of a receipt.
    ///
    /// # Errors
    ///
    /// What serialising fails with, which no receipt of this crate does.
    pub fn receipt(receipt: &Receipt) -> serde_json::Result<Self> {
        Ok(Self { id: receipt.id, kind: EntryKind::Receipt, body: serde_json::to_string(receipt)? })
    }

    /// Makes the entry of a decision.
    ///
    /// # Errors
    ///
    /// What serialising fails with, which no entry of this crate does.
    pub fn audit(entry: &AuditEntry) -> serde_json::Result<Self> {
        Ok(Self { id: entry.id, kind: EntryKind::Audit, body: serde_json::to_string(entry)? })
    }
}
