//! Tables, views and plans, as MySQL and MariaDB have them.

use std::sync::Arc;

use serde_json::Value;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Column as _, Row};
use tokio::sync::OwnedSemaphorePermit;
use tollgate_shared::refusal::Refusal;

use super::{Lease, Mysql, bound};
use crate::connection::early::Leased;
use crate::connection::unknown_table;
use crate::parameters::Parameter;
use crate::schema::{ColumnSchema, ForeignKey, IndexSchema, Plan, TableEntry, TableSchema};
use crate::statement::ReadStatement;

const TABLES: &str =
    "SELECT CAST(t.TABLE_NAME AS CHAR), CAST(t.TABLE_SCHEMA AS CHAR), CASE t.TABLE_TYPE WHEN 'VIEW' THEN 'view' ELSE 'table' END,
        (SELECT COUNT(*) FROM information_schema.COLUMNS c
            WHERE c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME),
        CAST(t.TABLE_ROWS AS UNSIGNED), CAST(CASE t.TABLE_TYPE WHEN 'VIEW' THEN '' ELSE t.TABLE_COMMENT END AS CHAR),
        CAST((SELECT GROUP_CONCAT(c.COLUMN_NAME ORDER BY c.ORDINAL_POSITION SEPARATOR '\n') FROM information_schema.COLUMNS c
            WHERE c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME AND ? <> ''
                AND LOCATE(LOWER(?), LOWER(c.COLUMN_NAME)) > 0) AS CHAR)
    FROM information_schema.TABLES t
    WHERE t.TABLE_SCHEMA = DATABASE() AND t.TABLE_TYPE IN ('BASE TABLE', 'VIEW')
        AND CAST(t.TABLE_NAME AS BINARY) > CAST(? AS BINARY)
        AND (? = '' OR LOCATE(LOWER(?), LOWER(CONCAT(t.TABLE_NAME, ' ', t.TABLE_COMMENT))) > 0
            OR EXISTS (SELECT 1 FROM information_schema.COLUMNS c
                WHERE c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME
                    AND LOCATE(LOWER(?), LOWER(c.COLUMN_NAME)) > 0))
    ORDER BY CAST(t.TABLE_NAME AS BINARY) LIMIT ?";

const TABLE: &str =
    "SELECT CAST(TABLE_SCHEMA AS CHAR), CAST(TABLE_NAME AS CHAR), CASE TABLE_TYPE WHEN 'VIEW' THEN 'view' ELSE 'table' END,
        CAST(CASE TABLE_TYPE WHEN 'VIEW' THEN '' ELSE TABLE_COMMENT END AS CHAR), CAST(TABLE_ROWS AS UNSIGNED)
    FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? AND TABLE_TYPE IN ('BASE TABLE', 'VIEW')";

const COLUMNS: &str =
    "SELECT CAST(COLUMN_NAME AS CHAR), CAST(COLUMN_TYPE AS CHAR), IS_NULLABLE = 'YES', CAST(COLUMN_DEFAULT AS CHAR),
        CAST(COLUMN_COMMENT AS CHAR), EXTRA LIKE '%GENERATED%' AND EXTRA NOT LIKE '%DEFAULT_GENERATED%', EXTRA LIKE '%auto_increment%'
    FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";

const INDEXES: &str =
    "SELECT CAST(INDEX_NAME AS CHAR), NON_UNIQUE = 0, COALESCE(CAST(COLUMN_NAME AS CHAR), '(expression)')
    FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX";

const FOREIGN_KEYS: &str =
    "SELECT CAST(CONSTRAINT_NAME AS CHAR), CAST(COLUMN_NAME AS CHAR), CAST(REFERENCED_TABLE_SCHEMA AS CHAR),
        CAST(REFERENCED_TABLE_NAME AS CHAR), CAST(REFERENCED_COLUMN_NAME AS CHAR)
    FROM information_schema.KEY_COLUMN_USAGE
    WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND REFERENCED_TABLE_NAME IS NOT NULL
    ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION";

type Listed = (String, String, String, i64, Option<u64>, Option<String>, Option<String>);
type Table = (String, String, String, Option<String>, Option<u64>);

impl Mysql {
    /// Lists tables and views.
    pub(in crate::connection) async fn tables(
        self: Arc<Self>,
        slot: OwnedSemaphorePermit,
        after: &str,
        limit: usize,
        search: &str,
    ) -> Result<Vec<TableEntry>, Refusal> {
        let mut lease = Arc::clone(&self).begin(slot, usize::MAX).await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut query = sqlx::query_as(TABLES).bind(search).bind(search).bind(after);
        for _ in 0..3 {
            query = query.bind(search);
        }
        let rows = query.bind(limit).fetch_all(lease.connection()).await;
        lease.end().await;
        let rows: Vec<Listed> = rows.map_err(|error| self.refusal(&error))?;
        let entry = |(name, schema, kind, columns, rows, comment, matches): Listed| TableEntry {
            plain_name: name.clone(),
            name,
            schema,
            kind,
            columns: usize::try_from(columns).unwrap_or(0),
            rows,
            comment: comment.filter(|comment| !comment.is_empty()),
            matches: matches.iter().flat_map(|names| names.lines()).take(20).map(str::to_owned).collect(),
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    /// Returns what the catalogue says of one table.
    pub(in crate::connection) async fn describe_table(
        self: Arc<Self>,
        slot: OwnedSemaphorePermit,
        table: &str,
    ) -> Result<TableSchema, Refusal> {
        let mut lease = Arc::clone(&self).begin(slot, usize::MAX).await?;
        let described = described(lease.connection(), table).await;
        lease.end().await;
        described.map_err(|error| self.refusal(&error))?.ok_or_else(|| unknown_table(table))
    }

    /// Returns how the server would run `statement`; runs nothing.
    pub(in crate::connection) async fn explain(
        self: Arc<Self>,
        slot: OwnedSemaphorePermit,
        statement: &ReadStatement,
        parameters: &[Parameter],
    ) -> Result<Plan, Refusal> {
        let mut lease = Arc::clone(&self).begin(slot, usize::MAX).await?;
        let plan = self.plan(&mut lease, statement, parameters).await;
        lease.end().await;
        plan
    }

    async fn plan(
        &self,
        lease: &mut Lease,
        statement: &ReadStatement,
        parameters: &[Parameter],
    ) -> Result<Plan, Refusal> {
        let (statement, _) = self.permitted(lease, statement).await?;
        // Refuses whatever is no read, before it stands behind EXPLAIN.
        let (takes, _) = self.describe(lease, &statement).await?;
        super::takes(takes, parameters)?;
        let asked = |format: &str| AssertSqlSafe(format!("EXPLAIN {format} {}", statement.text()));
        let query = bound(sqlx::query(asked("FORMAT=JSON")).persistent(false), parameters);
        let row = query.fetch_one(lease.connection()).await.map_err(|error| self.refusal(&error))?;
        let json: Vec<u8> = row.try_get_unchecked(0).map_err(|error| self.refusal(&error))?;
        let plan: Value = serde_json::from_slice(&json).unwrap_or(Value::Null);
        let query = bound(sqlx::query(asked("")).persistent(false), parameters);
        let rows = query.fetch_all(lease.connection()).await.map_err(|error| self.refusal(&error))?;
        let mut text = String::new();
        let mut product: Option<u64> = Some(1);
        for row in &rows {
            let kinds = super::values::Kind::of_row(row);
            let shown = |index: usize| {
                let mut written = Vec::new();
                let made = kinds.get(index).and_then(|kind| super::values::made(row, index, *kind, &mut written).ok());
                made.map_or_else(String::new, |made| made.shown())
            };
            let mut fields = Vec::new();
            for (index, column) in row.columns().iter().enumerate() {
                let value = shown(index);
                if !value.is_empty() {
                    fields.push(format!("{}={value}", column.name()));
                }
            }
            text.push_str(&fields.join(" "));
            text.push('\n');
            let of = |name: &str| row.columns().iter().position(|column| column.name() == name).map(shown);
            // The joined tables of the outermost SELECT.
            if of("id").is_some_and(|id| id == "1") && of("table").is_some_and(|table| !table.is_empty()) {
                let rows = of("rows").and_then(|rows| rows.parse::<u64>().ok());
                product = product.zip(rows).map(|(product, rows)| product.saturating_mul(rows));
            }
        }
        let block = plan.get("query_block");
        let cost = |path: &str| block.and_then(|block| block.pointer(path));
        let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
        let estimated_cost = cost("/cost_info/query_cost").or_else(|| cost("/cost")).and_then(number);
        Ok(Plan { text, plan, estimated_rows: product, estimated_cost })
    }
}

async fn described(connection: &mut MySqlConnection, table: &str) -> Result<Option<TableSchema>, sqlx::Error> {
    let mut candidates = vec![(None, table)];
    candidates.extend(table.split_once('.').map(|(schema, name)| (Some(schema), name)));
    let mut found: Option<Table> = None;
    for (schema, name) in candidates {
        let hidden = ["information_schema", "performance_schema", "mysql", "sys"];
        if schema.is_some_and(|schema| hidden.iter().any(|name| schema.eq_ignore_ascii_case(name))) {
            continue;
        }
        found = sqlx::query_as(TABLE).bind(schema).bind(name).fetch_optional(&mut *connection).await?;
        if found.is_some() {
            break;
        }
    }
    let Some((schema, name, kind, comment, estimated_rows)) = found else { return Ok(None) };
    let mut described = TableSchema {
        schema,
        name,
        kind,
        comment: comment.filter(|comment| !comment.is_empty()),
        estimated_rows,
        ..TableSchema::default()
    };
    type Column = (String, String, bool, Option<String>, Option<String>, bool, bool);
    let (schema, name) = (described.schema.clone(), described.name.clone());
    let columns: Vec<Column> = sqlx::query_as(COLUMNS).bind(&schema).bind(&name).fetch_all(&mut *connection).await?;
    for (name, r#type, nullable, default, comment, generated, increments) in columns {
        let values = enumerated(&r#type);
        // MariaDB writes NULL where there is no default but NULL.
        let default = default.filter(|default| default != "NULL");
        described.columns.push(ColumnSchema {
            name,
            r#type,
            nullable,
            default: if increments { Some("auto_increment".to_owned()) } else { default },
            comment: comment.filter(|comment| !comment.is_empty()),
            generated,
            masked: false,
            values,
        });
    }
    let indexes: Vec<(String, bool, String)> =
        sqlx::query_as(INDEXES).bind(&schema).bind(&name).fetch_all(&mut *connection).await?;
    for (index, unique, column) in indexes {
        if index == "PRIMARY" {
            described.primary_key.push(column.clone());
        }
        match described.indexes.last_mut().filter(|last| last.name == index) {
            Some(last) => last.columns.push(column),
            None => described.indexes.push(IndexSchema { name: index, unique, columns: vec![column] }),
        }
    }
    let keys: Vec<(String, String, String, String, String)> =
        sqlx::query_as(FOREIGN_KEYS).bind(&schema).bind(&name).fetch_all(&mut *connection).await?;
    let mut last_name = None;
    for (constraint, column, other_schema, other, referenced) in keys {
        if last_name.as_ref() != Some(&constraint) {
            let table = if other_schema == schema { other } else { format!("{other_schema}.{other}") };
            described.foreign_keys.push(ForeignKey { table, ..ForeignKey::default() });
            last_name = Some(constraint);
        }
        if let Some(key) = described.foreign_keys.last_mut() {
            key.columns.push(column);
            key.referenced.push(referenced);
        }
    }
    Ok(Some(described))
}

/// Returns the values of `enum('a','b')` and `set('a','b')`.
fn enumerated(written: &str) -> Vec<String> {
    let inner = ["enum(", "set("].iter().find_map(|start| written.strip_prefix(start)?.strip_suffix(')'));
    let Some(inner) = inner.and_then(|inner| inner.strip_prefix('\'')?.strip_suffix('\'')) else { return Vec::new() };
    inner.split("','").map(|value| value.replace("''", "'")).collect()
}
