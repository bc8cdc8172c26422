//! Masked columns of a SQLite file.
//!
//! For every table with a masked column the session has a temporary view of the same name, which SQLite finds first and
//! which shows a constant for every value. The authorizer lets nothing but that view read the column itself: it knows it
//! by a name that nobody can guess.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use tollgate_shared::refusal::Refusal;

use crate::base64;
use crate::mask::{MASKED, Masked, MaskedTables, Protection, quoted};
use crate::statement::{ReadStatement, Syntax};

/// How many tables a file with masked columns has at most.
const TABLES_MAX: usize = 10_000;

/// The masked columns of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Masks {
    /// By the name in lower case.
    pub(super) tables: BTreeMap<String, Masked>,
    /// Tables that keep or index what is masked in a form of their own, in lower case.
    pub(super) sealed: BTreeSet<String>,
    /// What the views begin with that may read masked columns.
    pub(super) secret: String,
}

impl Masks {
    /// Looks for the masked columns of the open file and puts views before them.
    pub(super) fn install(connection: &Connection, protection: &Protection) -> rusqlite::Result<Self> {
        let mut masks = Self { secret: secret(), ..Self::default() };
        if protection.masks_nothing() && protection.denies_nothing() {
            return Ok(masks);
        }
        let tables = list(connection)?;
        for (name, kind, _) in &tables {
            let columns = match columns(connection, name) {
                Ok(columns) => columns,
                // What cannot be compiled cannot be read either.
                Err(_) => continue,
            };
            let mut masked: Vec<(String, bool)> = Vec::new();
            let any = columns.iter().any(|(column, _)| protection.masks("main", name, column));
            for (column, generated) in columns {
                // What is computed from masked columns is not told from the rest.
                let hide = protection.masks("main", name, &column) || (any && generated);
                masked.push((column, hide));
            }
            if !any {
                continue;
            }
            if kind == "virtual" {
                masks.sealed.insert(name.to_lowercase());
            }
            let table = Masked { schema: "main".to_owned(), name: name.clone(), columns: masked };
            masks.tables.insert(name.to_lowercase(), table);
        }
        let denied = tables.iter().map(|(name, ..)| name).filter(|name| protection.denies("main", name));
        masks.seal(&tables, denied.map(|name| name.to_lowercase()).collect());
        for (name, table) in &masks.tables {
            if masks.sealed.contains(name) {
                continue;
            }
            connection.execute_batch(&view(table, &masks.secret))?;
        }
        Ok(masks)
    }

    /// Seals virtual tables whose definition names a table that is masked or `denied`, or a view of one, and what virtual tables keep their
    /// content in.
    fn seal(&mut self, tables: &[(String, String, String)], denied: BTreeSet<String>) {
        // What shows values that must not be seen, or is made of them.
        let mut tainted = denied;
        tainted.extend(self.tables.keys().cloned());
        for (name, kind, _) in tables {
            if kind == "virtual" && tainted.contains(&name.to_lowercase()) {
                self.sealed.insert(name.to_lowercase());
            }
        }
        loop {
            let before = tainted.len() + self.sealed.len();
            for (name, kind, sql) in tables {
                let name = name.to_lowercase();
                if self.sealed.contains(&name) || (kind == "view" && tainted.contains(&name)) {
                    continue;
                }
                let sql = sql.to_lowercase();
                let is_tainted = match kind.as_str() {
                    "virtual" | "view" => tainted.iter().any(|other| *other != name && names(&sql, other)),
                    "shadow" => self.sealed.iter().any(|table| name.starts_with(&format!("{table}_"))),
                    _ => false,
                };
                if is_tainted {
                    // A view is read as it is: its tables are masked or refused behind it.
                    if kind != "view" {
                        self.sealed.insert(name.clone());
                    }
                    tainted.insert(name);
                }
            }
            if tainted.len() + self.sealed.len() == before {
                return;
            }
        }
    }

    /// Returns the tables of `statement` that have masked columns.
    pub(super) fn of(&self, statement: &ReadStatement) -> Result<MaskedTables, Refusal> {
        let mut answer = MaskedTables::new();
        for (schema, name) in statement.relations() {
            let known = name.to_lowercase();
            if self.sealed.contains(&known) {
                return Err(crate::mask::hands_on(name));
            }
            if let Some(table) = self.tables.get(&known) {
                answer.insert((schema.clone(), name.clone()), table.clone());
            }
        }
        Ok(answer)
    }

    /// Whether a read of this column of the file must be refused, when `reader` asks for it.
    pub(super) fn hides(&self, table: &str, column: &str, reader: Option<&str>) -> bool {
        let table = table.to_lowercase();
        if self.sealed.contains(&table) {
            return true;
        }
        let Some(masked) = self.tables.get(&table) else { return false };
        let hidden =
            masked.columns.iter().any(|(name, hidden)| *hidden && name.to_lowercase() == column.to_lowercase());
        hidden && !reader.is_some_and(|reader| self.is_ours(reader))
    }

    /// Whether this is one of the views that may read masked columns.
    pub(super) fn is_ours(&self, table: &str) -> bool {
        !self.secret.is_empty() && table.starts_with(&self.secret)
    }
}

/// Whether a definition may name a table; both are in lower case.
fn names(sql: &str, table: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    // A quote in a name may be written twice.
    let is_odd = table.is_empty() || table.contains(['"', '\'', '`', ']']);
    is_odd
        || sql
            .match_indices(table)
            .any(|(at, _)| !sql[..at].ends_with(is_word) && !sql[at + table.len()..].starts_with(is_word))
}

fn view(table: &Masked, secret: &str) -> String {
    let name = |text: &str| quoted(text, Syntax::Sqlite);
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|(column, masked)| {
            let column = name(column);
            if *masked {
                format!("CASE WHEN {column} IS NULL THEN NULL ELSE '{MASKED}' END AS {column}")
            } else {
                column
            }
        })
        .collect();
    let own = name(&format!("{secret}{}", table.name));
    let table = name(&table.name);
    format!(
        "CREATE TEMP VIEW {own} AS SELECT {} FROM main.{table}; CREATE TEMP VIEW {table} AS SELECT * FROM temp.{own};",
        columns.join(", ")
    )
}

fn list(connection: &Connection) -> rusqlite::Result<Vec<(String, String, String)>> {
    let mut statement = connection.prepare(
        "SELECT list.name, list.type, coalesce(entry.sql, '') FROM pragma_table_list AS list
            LEFT JOIN main.sqlite_schema AS entry ON entry.name = list.name AND entry.type IN ('table', 'view')
         WHERE list.schema = 'main' AND list.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' LIMIT ?1",
    )?;
    let rows = statement.query_map([i64::try_from(TABLES_MAX).unwrap_or(i64::MAX)], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    rows.collect()
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, bool)>> {
    let mut statement = connection.prepare("SELECT name, hidden FROM pragma_table_xinfo(?1) WHERE hidden <> 1")?;
    let rows = statement.query_map([table], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? > 1)))?;
    rows.collect()
}

/// Nobody can name a view with this name, and nobody sees it: the list of temporary views is not readable.
fn secret() -> String {
    let mut bytes = [0; 16];
    // Without randomness nothing may read masked columns, our view neither.
    match getrandom::fill(&mut bytes) {
        Ok(()) => format!("tollgate_{}_", base64::hex(&bytes)),
        Err(_) => String::new(),
    }
}
