//! Which columns of a statement's tables are masked, as PostgreSQL's catalogue has it.
//!
//! A column is masked where a pattern names it, where it is the same column of a parent, a child or a partition, and
//! where it is computed from a masked one. A view or a materialized view that reads one is refused: which of its own
//! columns show it cannot be told from the catalogue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use tollgate_shared::refusal::Refusal;

use super::resolve::Failed;
use crate::connection::fresh::Fresh;
use crate::mask::{Masked, MaskedTables, Protection, hands_on};
use crate::statement::ReadStatement;

const MASKS: &str = include_str!("masks.sql");

type Found = (String, i64, i64, i32, String, String, String);
type Names = BTreeSet<(Option<String>, String)>;

/// The answers of the catalogue that are still fresh.
#[derive(Debug, Default)]
pub(super) struct KnownMasks(Fresh<Names, MaskedTables>);

impl KnownMasks {
    /// Returns the tables of `statement` that have masked columns, if they are known.
    pub(super) fn get(&self, statement: &ReadStatement, protection: &Protection) -> Option<Arc<MaskedTables>> {
        let names = statement.relations();
        if protection.masks_nothing() || names.is_empty() {
            return Some(Arc::default());
        }
        self.0.get(names)
    }

    /// Returns the tables of `statement` that have masked columns.
    pub(super) async fn of(
        &self,
        connection: &mut PgConnection,
        statement: &ReadStatement,
        protection: &Protection,
    ) -> Result<Arc<MaskedTables>, Failed> {
        if let Some(known) = self.get(statement, protection) {
            return Ok(known);
        }
        let names = statement.relations();
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let asked: BTreeMap<String, (Option<String>, String)> = names
            .iter()
            .map(|(schema, name)| {
                let text = match schema {
                    Some(schema) => format!("{}.{}", quoted(schema), quoted(name)),
                    None => quoted(name),
                };
                (text, (schema.clone(), name.clone()))
            })
            .collect();
        let texts: Vec<&str> = asked.keys().map(String::as_str).collect();
        let found: Vec<Found> =
            sqlx::query_as(MASKS).bind(texts).fetch_all(connection).await.map_err(Failed::Engine)?;
        Ok(self.0.keep(names.clone(), judge(&found, &asked, protection).map_err(Failed::Refused)?))
    }
}

fn judge(
    found: &[Found],
    asked: &BTreeMap<String, (Option<String>, String)>,
    protection: &Protection,
) -> Result<MaskedTables, Refusal> {
    let rows = |kind: &'static str| found.iter().filter(move |row| row.0 == kind);
    let mut tables: BTreeMap<i64, Masked> = BTreeMap::new();
    let mut numbers: BTreeMap<(i64, i64), String> = BTreeMap::new();
    // By table and name, since children number their columns in their own way.
    let mut masked: BTreeSet<(i64, String)> = BTreeSet::new();
    for (_, table, _, number, schema, name, column) in rows("column") {
        let entry = tables.entry(*table).or_default();
        entry.schema.clone_from(schema);
        entry.name.clone_from(name);
        entry.columns.push((column.clone(), false));
        numbers.insert((*table, i64::from(*number)), column.clone());
        if protection.masks(schema, name, column) {
            masked.insert((*table, column.clone()));
        }
    }
    loop {
        let before = masked.len();
        for (_, parent, child, ..) in rows("child") {
            for (from, to) in [(parent, child), (child, parent)] {
                let handed: Vec<String> =
                    masked.iter().filter(|(table, _)| table == from).map(|(_, column)| column.clone()).collect();
                for column in handed {
                    if tables.get(to).is_some_and(|table| table.columns.iter().any(|(name, _)| *name == column)) {
                        masked.insert((*to, column));
                    }
                }
            }
        }
        for (_, table, source, number, ..) in rows("generated") {
            let column = |number: i64| numbers.get(&(*table, number)).cloned();
            if let (Some(source), Some(computed)) = (column(*source), column(i64::from(*number)))
                && masked.contains(&(*table, source))
            {
                masked.insert((*table, computed));
            }
        }
        if masked.len() == before {
            break;
        }
    }
    for (_, view, base, number, ..) in rows("view") {
        let reads = match *number {
            // A whole row somewhere: of which table is not told.
            -1 => masked.iter().any(|(table, _)| table == base),
            number => {
                numbers.get(&(*base, i64::from(number))).is_some_and(|column| masked.contains(&(*base, column.clone())))
            }
        };
        if reads {
            return Err(hands_on(tables.get(view).map_or("a view", |view| &view.name)));
        }
    }
    let mut answer = MaskedTables::new();
    for (_, oid, _, _, name, ..) in rows("named") {
        let (Some(called), Some(table)) = (asked.get(name), tables.get(oid)) else { continue };
        let mut table = table.clone();
        for (column, is_masked) in &mut table.columns {
            *is_masked = masked.contains(&(*oid, column.clone()));
        }
        if table.columns.iter().any(|(_, masked)| *masked) {
            answer.insert(called.clone(), table);
        }
    }
    Ok(answer)
}
