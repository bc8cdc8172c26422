//! Tables, views and plans, as PostgreSQL's catalogue and planner have them.

use std::sync::Arc;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Row};
use tokio::sync::OwnedSemaphorePermit;
use tollgate_shared::refusal::Refusal;

use super::{Lease, Postgres, as_text, typed};
use crate::connection::early::Leased;
use crate::connection::unknown_table;
use crate::parameters::Parameter;
use crate::schema::{Plan, TableEntry, TableSchema};
use crate::statement::ReadStatement;

const TABLES: &str = "SELECT name, nspname, relname, kind, columns, rows, comment, matches FROM (
        SELECT CASE WHEN nspname = ANY (current_schemas(false)) THEN relname ELSE nspname || '.' || relname END
                COLLATE \"C\" AS name, nspname::text, relname::text,
            CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'
                WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END AS kind,
            (SELECT count(*) FROM pg_attribute WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped)
                AS columns,
            CASE WHEN reltuples >= 0 AND relkind IN ('r', 'p', 'm') THEN reltuples::bigint END AS rows,
            obj_description(class.oid, 'pg_class') AS comment,
            ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped
                AND $3 <> '' AND position(lower($3) IN lower(attname)) > 0 ORDER BY attnum LIMIT 20) AS matches
        FROM pg_class class JOIN pg_namespace namespace ON namespace.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition AND nspname <> 'information_schema'
            AND nspname NOT LIKE 'pg\\_%' AND has_schema_privilege(namespace.oid, 'USAGE')
            AND has_any_column_privilege(class.oid, 'SELECT')) AS entry
    WHERE name > $1 AND ($3 = '' OR cardinality(matches) > 0
        OR position(lower($3) IN lower(concat(nspname, '.', relname, ' ', comment))) > 0)
    ORDER BY name LIMIT $2";

const DESCRIBE: &str = "SELECT jsonb_build_object(
        'schema', nspname, 'name', relname,
        'kind', CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'
            WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END,
        'comment', obj_description(class.oid, 'pg_class'),
        'estimated_rows', CASE WHEN reltuples >= 0 AND relkind IN ('r', 'p', 'm') THEN reltuples::bigint END,
        'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                'name', attname, 'type', format_type(atttypid, atttypmod), 'nullable', NOT attnotnull,
                'default', CASE WHEN attidentity <> '' THEN 'identity' ELSE pg_get_expr(adbin, adrelid) END,
                'comment', col_description(attrelid, attnum), 'generated', attgenerated <> '',
                'values', (SELECT coalesce(jsonb_agg(enumlabel ORDER BY enumsortorder), '[]') FROM pg_enum
                    WHERE enumtypid = atttypid)) ORDER BY attnum), '[]')
            FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped),
        'primary_key', (SELECT coalesce(jsonb_agg(attname ORDER BY place), '[]')
            FROM pg_constraint, unnest(conkey) WITH ORDINALITY AS key (number, place)
                JOIN pg_attribute ON attrelid = class.oid AND attnum = number
            WHERE conrelid = class.oid AND contype = 'p'),
        'indexes', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', entry.relname, 'unique', indisunique,
                'columns', (SELECT jsonb_agg(coalesce(attname, '(expression)') ORDER BY place)
                    FROM unnest(indkey::int2[]) WITH ORDINALITY AS key (number, place)
                        LEFT JOIN pg_attribute ON attrelid = class.oid AND attnum = number)) ORDER BY entry.relname), '[]')
            FROM pg_index JOIN pg_class entry ON entry.oid = indexrelid WHERE indrelid = class.oid),
        'foreign_keys', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                'table', CASE WHEN other_schema.nspname = ANY (current_schemas(false)) THEN other.relname
                    ELSE other_schema.nspname || '.' || other.relname END,
                'columns', (SELECT jsonb_agg(attname ORDER BY place) FROM unnest(conkey) WITH ORDINALITY AS key (number, place)
                    JOIN pg_attribute ON attrelid = conrelid AND attnum = number),
                'referenced', (SELECT jsonb_agg(attname ORDER BY place) FROM unnest(confkey) WITH ORDINALITY AS key (number, place)
                    JOIN pg_attribute ON attrelid = confrelid AND attnum = number)) ORDER BY conname), '[]')
            FROM pg_constraint JOIN pg_class other ON other.oid = confrelid
                JOIN pg_namespace other_schema ON other_schema.oid = other.relnamespace
            WHERE conrelid = class.oid AND contype = 'f'))::text
    FROM pg_class class JOIN pg_namespace namespace ON namespace.oid = relnamespace
    WHERE class.oid = to_regclass($1) AND relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname <> 'information_schema'
        AND nspname NOT LIKE 'pg\\_%' AND has_schema_privilege(namespace.oid, 'USAGE')
        AND has_any_column_privilege(class.oid, 'SELECT')";

type Listed = (String, String, String, String, i64, Option<i64>, Option<String>, Vec<String>);

impl Postgres {
    /// Lists tables and views.
    pub(in crate::connection) async fn tables(
        self: Arc<Self>,
        slot: OwnedSemaphorePermit,
        after: &str,
        limit: usize,
        search: &str,
    ) -> Result<Vec<TableEntry>, Refusal> {
        let mut lease = Arc::clone(&self).begin(slot).await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = sqlx::query_as(TABLES).bind(after).bind(limit).bind(search).fetch_all(lease.connection()).await;
        lease.end().await;
        let rows: Vec<Listed> = rows.map_err(|error| self.refusal(&error))?;
        let entry = |(name, schema, plain_name, kind, columns, rows, comment, matches): Listed| TableEntry {
            name,
            schema,
            plain_name,
            kind,
            columns: usize::try_from(columns).unwrap_or(0),
            rows: rows.and_then(|rows| u64::try_from(rows).ok()),
            comment,
            matches,
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    /// Returns what the catalogue says of one table.
    pub(in crate::connection) async fn describe_table(
        self: Arc<Self>,
        slot: OwnedSemaphorePermit,
        table: &str,
    ) -> Result<TableSchema, Refusal> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let mut candidates = vec![quoted(table)];
        candidates.extend(table.split_once('.').map(|(schema, name)| format!("{}.{}", quoted(schema), quoted(name))));
        let mut lease = Arc::clone(&self).begin(slot).await?;
        let mut found = None;
        for candidate in candidates {
            let row: Result<Option<String>, sqlx::Error> =
                sqlx::query_scalar(DESCRIBE).bind(candidate).fetch_optional(lease.connection()).await;
            found = row.map_err(|error| self.refusal(&error))?;
            if found.is_some() {
                break;
            }
        }
        lease.end().await;
        let text = found.ok_or_else(|| unknown_table(table))?;
        serde_json::from_str(&text).map_err(|error| {
            tracing::error!(%error, "a description cannot be read");
            Refusal::failed("internal_error", "the description cannot be read", "report this as a bug")
        })
    }

    /// Returns how the server would run `statement`; runs nothing.
    pub(in crate::connection) async fn explain(
        self: Arc<Self>,
        slot: OwnedSemaphorePermit,
        statement: &ReadStatement,
        parameters: &[Parameter],
    ) -> Result<Plan, Refusal> {
        let mut lease = Arc::clone(&self).begin(slot).await?;
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
        let statement = self.permitted(lease, statement).await?;
        // Refuses whatever is no read, before it stands behind EXPLAIN.
        let described = self.describe(lease, &statement).await?;
        described.takes(parameters)?;
        let types = self.type_names(lease, &described.parameters).await?;
        let inner = typed(&statement, &types);
        let mut answers = Vec::with_capacity(2);
        for format in ["JSON", "TEXT"] {
            let text = format!("EXPLAIN (FORMAT {format}) SELECT * FROM (\n{inner}\n) AS q");
            let mut query = sqlx::query(AssertSqlSafe(text)).persistent(false);
            for parameter in parameters {
                query = query.bind(as_text(parameter));
            }
            let rows = query.fetch_all(lease.connection()).await.map_err(|error| self.refusal(&error))?;
            let lines: Result<Vec<String>, sqlx::Error> =
                rows.iter().map(|row| row.try_get_unchecked::<String, _>(0)).collect();
            answers.push(lines.map_err(|error| self.refusal(&error))?.join("\n"));
        }
        let (structure, text) = (answers.remove(0), answers.remove(0));
        let plan: Value = serde_json::from_str(structure.trim_start_matches('\u{1}')).unwrap_or(Value::Null);
        let top = plan.pointer("/0/Plan");
        let estimated_rows = top.and_then(|top| top.get("Plan Rows")).and_then(Value::as_u64);
        let estimated_cost = top.and_then(|top| top.get("Total Cost")).and_then(Value::as_f64);
        Ok(Plan { text, plan, estimated_rows, estimated_cost })
    }
}
