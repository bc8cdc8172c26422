//! What SQLite asks while it compiles: may this table be read, may this function be called?
//!
//! It asks about what it has understood itself, views and all, so no disagreement between parsers gets past it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use tollgate_shared::refusal::Refusal;

use super::masks::Masks;
use crate::mask::{self, MaskedTables, Protection};
use crate::statement::{ReadStatement, Syntax, functions};

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
#[derive(Clone, Debug)]
pub(super) enum Denied {
    Function(String),
    Table(String),
    /// What the operator hides.
    Hidden(Refusal),
    Other,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    denied: Option<Denied>,
    masks: Masks,
    protection: Arc<Protection>,
    /// The tables that the statement names, in lower case.
    named: BTreeSet<String>,
    /// Whether the statement is our own.
    trusted: bool,
}

impl Authorizer {
    /// Has SQLite ask from now on.
    pub(super) fn guard(
        &self,
        connection: &Connection,
        masks: Masks,
        protection: Arc<Protection>,
    ) -> rusqlite::Result<()> {
        let mut state = lock(&self.0);
        state.masks = masks;
        state.protection = protection;
        drop(state);
        let state = Arc::clone(&self.0);
        connection.authorizer(Some(move |context: AuthContext<'_>| lock(&state).answer(&context)))
    }

    /// Forgets what was asked, and by whom: the next statement is another call's.
    pub(super) fn forget(&self) {
        let mut state = lock(&self.0);
        state.seen = Seen::default();
        state.denied = None;
        state.named.clear();
        state.trusted = false;
    }

    /// Says whether the statements that follow are our own.
    pub(super) fn trust(&self, trusted: bool) {
        lock(&self.0).trusted = trusted;
    }

    /// Returns the tables of `statement` that have masked columns, and remembers what it names.
    pub(super) fn of(&self, statement: &ReadStatement) -> Result<MaskedTables, Refusal> {
        let mut state = lock(&self.0);
        state.named = statement.relations().iter().map(|(_, name)| name.to_lowercase()).collect();
        state.masks.of(statement)
    }

    /// Returns what our own views begin with.
    pub(super) fn secret(&self) -> String {
        lock(&self.0).masks.secret.clone()
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
    fn answer(&mut self, context: &AuthContext<'_>) -> Authorization {
        if let AuthAction::Read { table_name, column_name } = context.action
            && let Err(refusal) = self.permit_read(table_name, column_name, context)
        {
            self.denied.get_or_insert(Denied::Hidden(refusal));
            return Authorization::Deny;
        }
        let denied = match context.action {
            AuthAction::Select | AuthAction::Recursive => None,
            AuthAction::Read { table_name, .. } if functions::is_table(Syntax::Sqlite, None, table_name) => {
                if !functions::is_allowed_as_table(Syntax::Sqlite, table_name)
                    && !self.seen.tables.contains(table_name)
                    && !self.masks.is_ours(table_name)
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

impl State {
    fn permit_read(&self, table: &str, column: &str, context: &AuthContext<'_>) -> Result<(), Refusal> {
        // Of our own views, which show nothing that is hidden.
        if context.database_name == Some("temp") || self.trusted {
            return Ok(());
        }
        if self.masks.hides(table, column, context.accessor) {
            return Err(match context.accessor {
                Some(view) if !self.masks.is_ours(view) && !self.named.contains(&table.to_lowercase()) => {
                    mask::hands_on(view)
                }
                _ => mask::untraceable("the statement reads a masked column, directly or through a view"),
            });
        }
        if self.protection.allows_all() {
            return Ok(());
        }
        let name = table.to_lowercase();
        if name.starts_with("sqlite_") || name.starts_with("pragma_") {
            self.protection.permit_catalogue("main", table)
        } else if self.named.contains(&name) {
            self.protection.permit_table("main", table)
        } else {
            self.protection.permit_behind("main", table)
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
