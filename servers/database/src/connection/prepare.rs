//! Whether a statement has to be run: the answers that are there already, and what identifies them.

use std::sync::Arc;
use std::time::Instant;

use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;

use super::{Page, Position, Queried, stopped};
use crate::cache::Cache;
use crate::parameters::Parameter;
use crate::rows::Rows;
use crate::statement::{ReadStatement, Warning};

/// What is needed to tell whether a statement must be run.
pub(super) struct Prepare {
    /// The name of the connection.
    pub(super) name: String,
    pub(super) cache: Arc<Cache<Rows>>,
    pub(super) rows_max: usize,
    /// When the call began: what is answered is no newer.
    pub(super) started: Instant,
}

/// Whether an answer is there already.
pub(super) enum Ready {
    Kept(Queried),
    Ask(Box<Ask>),
}

/// A statement that has to be run.
pub(super) struct Ask {
    pub(super) page: Page,
    key: ContentHash,
    prepare: Prepare,
    warnings: Vec<Warning>,
    is_sorted: bool,
    digest: ContentHash,
}

impl Prepare {
    /// Looks for the answer to `statement` from `position` on.
    ///
    /// # Errors
    ///
    /// Those of `position`.
    pub(super) fn ready(
        self,
        statement: &ReadStatement,
        parameters: &[Parameter],
        position: Option<Position>,
    ) -> Result<Ready, Refusal> {
        let digest = digest(&self.name, statement, parameters);
        let offset = position.map_or(Ok(0), |position| position(&digest))?;
        let page = Page { rows_max: self.rows_max, offset };
        let warnings = statement.warnings().to_vec();
        let is_sorted = statement.is_sorted();
        // What is masked is fixed with the connection, and its cache belongs to no other.
        let key = ContentHash::builder("tollgate database answer 1")
            .field(digest.as_bytes())
            .field(&offset.to_le_bytes())
            .field(&self.rows_max.to_le_bytes())
            .finish();
        Ok(match self.cache.get(&key) {
            Some(rows) => Ready::Kept(Queried { rows, cached: true, warnings, is_sorted, digest, offset }),
            None => Ready::Ask(Box::new(Ask { page, key, prepare: self, warnings, is_sorted, digest })),
        })
    }
}

impl Ready {
    /// Returns the answer that is there.
    ///
    /// # Errors
    ///
    /// `internal_error` when there is none.
    pub(super) fn answer(self) -> Result<Queried, Refusal> {
        match self {
            Self::Kept(queried) => Ok(queried),
            Self::Ask(_) => Err(stopped()),
        }
    }
}

impl Ask {
    /// Keeps and returns the answer that has these rows.
    pub(super) fn answer(self, rows: Rows) -> Queried {
        let rows = Arc::new(rows);
        self.prepare.cache.keep(self.key, Arc::clone(&rows), rows.bytes(), self.prepare.started);
        Queried {
            rows,
            cached: false,
            warnings: self.warnings,
            is_sorted: self.is_sorted,
            digest: self.digest,
            offset: self.page.offset,
        }
    }
}

/// Returns the SHA-256 of a connection, a statement as the engine gets it, and its values.
fn digest(connection: &str, statement: &ReadStatement, parameters: &[Parameter]) -> ContentHash {
    let mut digest = ContentHash::builder("tollgate database statement 1")
        .field(connection.as_bytes())
        .field(statement.text().as_bytes());
    for parameter in parameters {
        digest = match parameter {
            Parameter::Null => digest.field(b"n").field(b""),
            Parameter::Boolean(value) => digest.field(b"b").field(&[u8::from(*value)]),
            Parameter::Integer(integer) => digest.field(b"i").field(&integer.to_le_bytes()),
            Parameter::Real(real) => digest.field(b"r").field(&real.to_bits().to_le_bytes()),
            Parameter::Text(text) => digest.field(b"t").field(text.as_bytes()),
            Parameter::Blob(bytes) => digest.field(b"x").field(bytes),
        };
    }
    digest.finish()
}
