//! Finding what was tampered with.

use std::fmt;
use std::pin::pin;

use futures::StreamExt;
use serde::Serialize;

use super::chain::{Head, StoredEntry};
use super::store::{Ledger, LedgerError};
use crate::audit::AuditEntry;
use crate::receipt::Receipt;

/// What reading the whole chain found.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// The end of the chain as computed from its entries. Note it elsewhere: with it a later run also
    /// finds a ledger that was rewritten from beginning to end.
    pub head: Head,
    /// How many receipts were read.
    pub receipts: u64,
    /// How many decisions were read.
    pub decisions: u64,
    /// Everything that is wrong, at most [`FAULTS_MAX`].
    pub faults: Vec<Fault>,
}

/// Enough to see where a chain is broken; a rewritten one would list every entry.
pub const FAULTS_MAX: usize = 20;

/// One thing that is wrong with the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// The entries before `seq` are not there.
    Missing {
        /// The first place that is not filled.
        seq: i64,
    },
    /// The entry does not carry the hash of the one before.
    Unlinked {
        /// Which.
        seq: i64,
    },
    /// The entry is not what its hash says.
    Changed {
        /// Which.
        seq: i64,
    },
    /// The entry is not a receipt or a decision, or has another id than its body.
    Malformed {
        /// Which.
        seq: i64,
    },
    /// The entry is not found by its id: whoever asks for a period would miss it.
    Unindexed {
        /// Which.
        seq: i64,
    },
    /// The chain ends elsewhere than where it says it does: entries were cut off or added by hand.
    HeadDiffers {
        /// What the ledger says.
        recorded: Head,
    },
    /// The head noted earlier is not in the chain: it was cut back or rewritten.
    NotedHeadMissing {
        /// What was noted.
        noted: Head,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { seq } => write!(formatter, "entry {seq} is missing"),
            Self::Unlinked { seq } => write!(formatter, "entry {seq} does not follow the entry before it"),
            Self::Changed { seq } => write!(formatter, "entry {seq} was changed after it was written"),
            Self::Malformed { seq } => write!(formatter, "entry {seq} is neither a receipt nor a decision"),
            Self::Unindexed { seq } => write!(formatter, "entry {seq} is missing from the index of ids"),
            Self::HeadDiffers { recorded } => {
                write!(formatter, "the chain should end at entry {} with hash {}", recorded.seq, recorded.hash)
            }
            Self::NotedHeadMissing { noted } => {
                write!(formatter, "entry {} with hash {}, noted earlier, is not in the chain", noted.seq, noted.hash)
            }
        }
    }
}

/// Reads the whole chain and returns what it found; no ledger at all is an empty, whole chain.
///
/// `noted` is a head that an earlier run returned and that was kept elsewhere.
///
/// # Errors
///
/// [`LedgerError`] when the file cannot be read as a database at all.
pub async fn verify(ledger: &Ledger, noted: Option<Head>) -> Result<Verification, LedgerError> {
    let mut found = Verification { head: Head::EMPTY, receipts: 0, decisions: 0, faults: Vec::new() };
    let mut noted_seen = noted.is_none_or(|noted| noted == Head::EMPTY);
    if let Some(mut reader) = ledger.reader().await? {
        // The head is read first: what is appended meanwhile only makes the chain longer.
        let recorded = reader.head().await?;
        let mut recorded_seen = recorded == Head::EMPTY;
        {
            let mut entries = pin!(reader.entries());
            while let Some(entry) = entries.next().await {
                found.follow(&entry?);
                recorded_seen |= found.head == recorded;
                noted_seen |= Some(found.head) == noted;
            }
        }
        if !recorded_seen {
            found.fault(Fault::HeadDiffers { recorded });
        }
        if let Some(seq) = reader.first_unindexed().await? {
            found.fault(Fault::Unindexed { seq });
        }
        // Entries beyond the head as it was read are fine only if the head moved with them.
        let latest = reader.head().await?;
        if recorded_seen && latest.seq < found.head.seq {
            found.fault(Fault::HeadDiffers { recorded: latest });
        }
    }
    if let Some(noted) = noted.filter(|_| !noted_seen) {
        found.fault(Fault::NotedHeadMissing { noted });
    }
    Ok(found)
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    pub(super) fn follow(&mut self, entry: &StoredEntry) {
        if entry.seq != self.head.seq + 1 {
            self.fault(Fault::Missing { seq: self.head.seq + 1 });
            self.head.seq = entry.seq - 1;
        }
        if entry.prev != self.head.hash.as_bytes() {
            self.fault(Fault::Unlinked { seq: entry.seq });
        }
        let after = self.head.after(&entry.id, &entry.kind, &entry.body);
        if entry.hash != after.hash.as_bytes() {
            self.fault(Fault::Changed { seq: entry.seq });
        }
        // Go on from what the entry says it is, so that one broken link is one fault and not all the rest.
        let claimed: Option<[u8; 32]> = entry.hash.as_slice().try_into().ok();
        self.head = claimed.map_or(after, |hash| Head { seq: entry.seq, hash: hash.into() });
        let id = match entry.kind.as_str() {
            "receipt" => {
                self.receipts += 1;
                serde_json::from_str::<Receipt>(&entry.body).map(|receipt| receipt.id).ok()
            }
            _ => {
                self.decisions += 1;
                serde_json::from_str::<AuditEntry>(&entry.body).map(|decision| decision.id).ok()
            }
        };
        if id.map(|id| id.to_string()).as_deref() != Some(entry.id.as_str()) {
            self.fault(Fault::Malformed { seq: entry.seq });
        }
    }
}
