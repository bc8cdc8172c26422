//! Which columns of a statement's tables are masked, as MySQL's catalogue has it.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::mysql::MySqlConnection;
use tollgate_shared::refusal::Refusal;

use crate::mask::{Masked, MaskedTables, Protection, hands_on};
use crate::statement::ReadStatement;

/// What is found behind the names of a statement.
#[derive(Debug, Default)]
pub(super) struct Behind {
    tables: BTreeMap<(String, String), Masked>,
    called: BTreeMap<(Option<String>, String), (String, String)>,
    views: BTreeMap<(String, String), View>,
}

#[derive(Debug)]
struct View {
    identifiers: BTreeSet<String>,
    has_stars: bool,
    reads: Vec<(String, String)>,
}

impl Behind {
    /// Notes a table or view, and by which name the statement or a view calls it.
    pub(super) async fn note(
        &mut self,
        connection: &mut MySqlConnection,
        called: Option<(Option<String>, String)>,
        key: (String, String),
        protection: &Protection,
    ) -> Result<(), sqlx::Error> {
        // With a LIMIT of its own: that of the session is for the rows of the answer, and would cut this short.
        const COLUMNS: &str = "SELECT CAST(COLUMN_NAME AS CHAR), CAST(GENERATION_EXPRESSION AS CHAR)
            FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION LIMIT 100000";
        if let Some(called) = called {
            self.called.insert(called, key.clone());
        }
        if protection.masks_nothing() || self.tables.contains_key(&key) {
            return Ok(());
        }
        let (schema, name) = &key;
        let columns: Vec<(String, Option<String>)> =
            sqlx::query_as(COLUMNS).bind(schema).bind(name).fetch_all(connection).await?;
        let mut masked: BTreeSet<String> = columns
            .iter()
            .filter(|(column, _)| protection.masks(schema, name, column))
            .map(|(column, _)| column.to_lowercase())
            .collect();
        loop {
            let before = masked.len();
            for (column, expression) in &columns {
                let expression = expression.as_deref().unwrap_or_default().to_lowercase();
                // A word of the expression, or a part of one: rather too many than too few.
                if masked.iter().any(|source| expression.contains(source.as_str())) {
                    masked.insert(column.to_lowercase());
                }
            }
            if masked.len() == before {
                break;
            }
        }
        let columns = columns.into_iter().map(|(column, _)| (column.clone(), masked.contains(&column.to_lowercase())));
        let table = Masked { schema: schema.clone(), name: name.clone(), columns: columns.collect() };
        self.tables.insert(key, table);
        Ok(())
    }

    /// Notes what a view reads.
    pub(super) fn note_view(&mut self, key: (String, String), view: &ReadStatement, reads: Vec<(String, String)>) {
        let mentions = view.mentions();
        let identifiers = mentions.identifiers.clone();
        self.views.insert(key, View { identifiers, has_stars: !mentions.stars.is_empty(), reads });
    }

    /// Returns the tables of the statement that have masked columns.
    ///
    /// # Errors
    ///
    /// `masked_column` where a view names one: which of its own columns show it is not told.
    pub(super) fn masked(self) -> Result<MaskedTables, Refusal> {
        for (key, view) in &self.views {
            let mut pending = view.reads.clone();
            let mut seen = BTreeSet::new();
            while let Some(read) = pending.pop() {
                // The names of schemas and tables may be written in other letters.
                let read = (read.0.to_lowercase(), read.1.to_lowercase());
                if !seen.insert(read.clone()) {
                    continue;
                }
                let same = |key: &(String, String)| key.0.to_lowercase() == read.0 && key.1.to_lowercase() == read.1;
                for (_, table) in self.tables.iter().filter(|(key, _)| same(key)) {
                    let mut masked = table.columns.iter().filter(|(_, masked)| *masked).peekable();
                    let names = masked.peek().is_some() && view.has_stars
                        || masked.any(|(column, _)| view.identifiers.contains(&column.to_lowercase()));
                    if names {
                        return Err(hands_on(&key.1));
                    }
                }
                for (_, inner) in self.views.iter().filter(|(key, _)| same(key)) {
                    pending.extend(inner.reads.iter().cloned());
                }
            }
        }
        let mut answer = MaskedTables::new();
        for (called, key) in self.called {
            if let Some(table) = self.tables.get(&key).filter(|table| table.columns.iter().any(|(_, masked)| *masked)) {
                answer.insert(called, table.clone());
            }
        }
        Ok(answer)
    }
}
