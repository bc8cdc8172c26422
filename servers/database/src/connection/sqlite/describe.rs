//! Tables, views and plans, as SQLite has them.

use rusqlite::OptionalExtension;
use serde_json::{Value, json};
use tollgate_shared::refusal::Refusal;

use super::{Places, Session, SqliteFile, Watch};
use crate::connection::unknown_table;
use crate::parameters::Parameter;
use crate::schema::{ColumnSchema, ForeignKey, IndexSchema, Plan, TableEntry, TableSchema};
use crate::statement::ReadStatement;

/// How many steps a plan has at most.
const STEPS_MAX: usize = 2_000;

impl SqliteFile {
    /// Lists tables and views.
    pub(in crate::connection) fn tables(
        &self,
        after: &str,
        limit: usize,
        search: &str,
        watch: &Watch,
    ) -> Result<Vec<TableEntry>, Refusal> {
        self.read(watch, |session| session.ours(|| session.tables(after, limit, search)))
    }

    /// Returns what the schema says of one table.
    pub(in crate::connection) fn describe_table(&self, table: &str, watch: &Watch) -> Result<TableSchema, Refusal> {
        self.read(watch, |session| session.ours(|| session.describe(table))?.ok_or_else(|| unknown_table(table)))
    }

    /// Returns how SQLite would run `statement`; runs nothing.
    pub(in crate::connection) fn explain(
        &self,
        statement: &ReadStatement,
        parameters: &[Parameter],
        watch: &Watch,
    ) -> Result<Plan, Refusal> {
        self.read(watch, |session| session.plan(statement, parameters))
    }
}

impl Session<'_> {
    /// Runs statements of our own, which may read the catalogue whatever is hidden from agents.
    fn ours<T>(&self, work: impl FnOnce() -> rusqlite::Result<T>) -> Result<T, Refusal> {
        self.authorizer.trust(true);
        let result = work();
        // What was compiled as ours would be taken for an agent's own statement of the same text.
        self.connection.flush_prepared_statement_cache();
        self.authorizer.trust(false);
        result.map_err(|error| self.refusal(error))
    }

    fn tables(&self, after: &str, limit: usize, search: &str) -> rusqlite::Result<Vec<TableEntry>> {
        const TABLES: &str = "SELECT name, type, ncol FROM pragma_table_list AS list WHERE schema = 'main'
            AND type IN ('table', 'view', 'virtual') AND substr(name, 1, 7) <> 'sqlite_' AND name > ?1
            AND (?3 = '' OR instr(lower(name), lower(?3)) > 0)
            ORDER BY name LIMIT ?2";
        const SEARCHED: &str = "SELECT name, type, ncol FROM pragma_table_list AS list WHERE schema = 'main'
            AND type IN ('table', 'view', 'virtual') AND substr(name, 1, 7) <> 'sqlite_' AND name > ?1
            ORDER BY name";
        let searched = !search.is_empty();
        let mut statement = self.connection.prepare(if searched { SEARCHED } else { TABLES })?;
        let mut entries = Vec::new();
        let limit_bound = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows =
            if searched { statement.query([after])? } else { statement.query((after, limit_bound, search))? };
        while let Some(row) = rows.next()? {
            let text = |column| -> rusqlite::Result<String> {
                Ok(String::from_utf8_lossy(row.get_ref(column)?.as_bytes().unwrap_or_default()).into_owned())
            };
            let name = text(0)?;
            let matches = if searched { self.matching(&name, search) } else { Vec::new() };
            if searched && matches.is_empty() && !name.to_lowercase().contains(&search.to_lowercase()) {
                continue;
            }
            let rows = self.estimated(&name);
            entries.push(TableEntry {
                plain_name: name.clone(),
                schema: "main".to_owned(),
                kind: text(1)?,
                columns: usize::try_from(row.get::<_, i64>(2)?).unwrap_or_default(),
                rows,
                comment: None,
                matches,
                name,
            });
            if entries.len() >= limit {
                break;
            }
        }
        Ok(entries)
    }

    /// Returns the columns with `search` in their names; none where the table cannot be compiled.
    fn matching(&self, table: &str, search: &str) -> Vec<String> {
        let search = search.to_lowercase();
        let found = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare_cached("SELECT name FROM pragma_table_xinfo(?1, 'main')")?;
            statement.query_map([table], |row| row.get(0))?.collect()
        };
        let names = found().unwrap_or_default();
        names.into_iter().filter(|name| name.to_lowercase().contains(&search)).take(20).collect()
    }

    /// Returns how many rows a table has, as the last ANALYZE left it.
    fn estimated(&self, table: &str) -> Option<u64> {
        let asked = self.connection.prepare_cached("SELECT stat FROM main.sqlite_stat1 WHERE tbl = ?1 LIMIT 1");
        let stat: String = asked.ok()?.query_row([table], |row| row.get(0)).ok()?;
        stat.split(' ').next()?.parse().ok()
    }

    fn describe(&self, table: &str) -> rusqlite::Result<Option<TableSchema>> {
        let found: Option<(String, String)> = self
            .connection
            .query_row(
                "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'view', 'virtual')
                    AND substr(name, 1, 7) <> 'sqlite_' AND lower(name) = lower(?1)",
                [table.strip_prefix("main.").unwrap_or(table)],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((name, kind)) = found else { return Ok(None) };
        let mut described = TableSchema {
            schema: "main".to_owned(),
            estimated_rows: self.estimated(&name),
            kind,
            name,
            ..TableSchema::default()
        };
        let name = described.name.clone();
        let mut key: Vec<(i64, String)> = Vec::new();
        let mut statement = self.connection.prepare(
            "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1",
        )?;
        let mut rows = statement.query([&name])?;
        while let Some(row) = rows.next()? {
            let place: i64 = row.get(4)?;
            let column = ColumnSchema {
                name: row.get(0)?,
                r#type: row.get(1)?,
                nullable: row.get::<_, i64>(2)? == 0,
                default: row.get(3)?,
                generated: row.get::<_, i64>(5)? > 1,
                ..ColumnSchema::default()
            };
            if place > 0 {
                key.push((place, column.name.clone()));
            }
            described.columns.push(column);
        }
        key.sort();
        described.primary_key = key.into_iter().map(|(_, name)| name).collect();
        let mut statement =
            self.connection.prepare("SELECT name, \"unique\" FROM pragma_index_list(?1, 'main') ORDER BY name")?;
        let mut columns = self.connection.prepare("SELECT name FROM pragma_index_info(?1, 'main') ORDER BY seqno")?;
        let mut rows = statement.query([&name])?;
        while let Some(row) = rows.next()? {
            let index: String = row.get(0)?;
            let names = columns.query_map([&index], |row| {
                Ok(row.get::<_, Option<String>>(0)?.unwrap_or_else(|| "(expression)".to_owned()))
            })?;
            let columns = names.collect::<rusqlite::Result<_>>()?;
            described.indexes.push(IndexSchema { name: index, unique: row.get::<_, i64>(1)? != 0, columns });
        }
        let mut statement = self.connection.prepare(
            "SELECT id, \"table\", \"from\", coalesce(\"to\", '') FROM pragma_foreign_key_list(?1, 'main') ORDER BY id, seq",
        )?;
        let mut rows = statement.query([&name])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            if last != Some(id) {
                described.foreign_keys.push(ForeignKey { table: row.get(1)?, ..ForeignKey::default() });
                last = Some(id);
            }
            if let Some(key) = described.foreign_keys.last_mut() {
                key.columns.push(row.get(2)?);
                let referenced: String = row.get(3)?;
                // Nothing where the key refers to the primary key.
                key.referenced.extend(Some(referenced).filter(|name| !name.is_empty()));
            }
        }
        Ok(Some(described))
    }

    fn plan(&self, statement: &ReadStatement, parameters: &[Parameter]) -> Result<Plan, Refusal> {
        // Compiles it as a query would be, and refuses what it would be refused for.
        let compiled = self.compile(statement)?;
        let places = Places::of(&compiled)?;
        places.check(parameters)?;
        drop(compiled);
        let steps = || -> rusqlite::Result<Vec<(i64, i64, String)>> {
            let mut plan = self.connection.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.text()))?;
            places.bind(&mut plan, parameters)?;
            let mut rows = plan.raw_query();
            let mut steps = Vec::new();
            while let Some(row) = rows.next()? {
                steps.push((row.get(0)?, row.get(1)?, row.get(3)?));
                if steps.len() >= STEPS_MAX {
                    break;
                }
            }
            Ok(steps)
        };
        let steps = steps().map_err(|error| self.refusal(error))?;
        let secret = self.authorizer.secret();
        let shown = |detail: &str| if secret.is_empty() { detail.to_owned() } else { detail.replace(&secret, "") };
        let mut depths: Vec<(i64, usize)> = Vec::new();
        let mut text = String::new();
        let mut plan = Vec::new();
        for (id, parent, detail) in &steps {
            let depth = depths.iter().rev().find(|(known, _)| known == parent).map_or(0, |(_, depth)| depth + 1);
            depths.push((*id, depth));
            text.push_str(&"  ".repeat(depth.min(100)));
            text.push_str(&shown(detail));
            text.push('\n');
            plan.push(json!({ "id": id, "parent": parent, "detail": shown(detail) }));
        }
        Ok(Plan { text, plan: Value::Array(plan), estimated_rows: None, estimated_cost: None })
    }
}
