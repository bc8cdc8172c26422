//! What SQLite asks while it compiles: may this table be read, may this function be called?
//!
//! It asks about what it has understood itself, views and all, so no disagreement between parsers gets past it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use crate::statement::{Syntax, functions};

/// Answers SQLite's questions, and remembers them.
#[derive(Clone, Debug, Default)]
pub(super) struct Authorizer(Arc<Mutex<State>>);

/// What a statement reads and calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The tables, those behind views too.
    pub(super) tables: BTreeSet<String>,
    /// The functions, in lower case.
    pub(super) functions: BTreeSet<String>,
}

/// What was not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Function(String),
    Table(String),
    Other,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    denied: Option<Denied>,
}

impl Authorizer {
    /// Has SQLite ask from now on.
    pub(super) fn guard(&self, connection: &Connection) -> rusqlite::Result<()> {
        let state = Arc::clone(&self.0);
        connection.authorizer(Some(move |context: AuthContext<'_>| lock(&state).answer(context.action)))
    }

    /// Returns what was asked for and allowed.
    pub(super) fn seen(&self) -> Seen {
        lock(&self.0).seen.clone()
    }

    /// Returns the first thing that was not allowed.
    pub(super) fn denied(&self) -> Option<Denied> {
        lock(&self.0).denied.clone()
    }
}

impl State {
    fn answer(&mut self, action: AuthAction<'_>) -> Authorization {
        let denied = match action {
            AuthAction::Select | AuthAction::Recursive => None,
            AuthAction::Read { table_name, .. } if functions::is_table(Syntax::Sqlite, None, table_name) => {
                if !functions::is_allowed_as_table(Syntax::Sqlite, table_name) && !self.seen.tables.contains(table_name)
                {
                    self.seen.tables.insert(table_name.to_owned());
                }
                None
            }
            AuthAction::Read { table_name, .. } => Some(Denied::Table(table_name.to_owned())),
            AuthAction::Function { function_name } if functions::is_allowed(Syntax::Sqlite, function_name) => {
                self.seen.functions.insert(function_name.to_ascii_lowercase());
                None
            }
            AuthAction::Function { function_name } => Some(Denied::Function(function_name.to_owned())),
            AuthAction::Pragma { pragma_name, pragma_value } if functions::is_pragma(pragma_name, pragma_value) => None,
            _ => Some(Denied::Other),
        };
        match denied {
            None => Authorization::Allow,
            Some(denied) => {
                self.denied.get_or_insert(denied);
                Authorization::Deny
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
