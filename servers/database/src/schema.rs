//! What the catalogue of an engine says of its tables, in one form for all engines.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mask::Protection;

/// A table or view in a list.
#[derive(Debug, Default)]
pub struct TableEntry {
    /// Its name as a statement may write it, with its schema where that is needed.
    pub name: String,
    /// The schema that it is in.
    pub schema: String,
    /// Its name without the schema.
    pub plain_name: String,
    /// `table`, `view`, `materialized view`, `foreign table` or `virtual`.
    pub kind: String,
    /// How many columns it has.
    pub columns: usize,
    /// How many rows it has, about.
    pub rows: Option<u64>,
    /// What people wrote about it.
    pub comment: Option<String>,
    /// The columns with what was searched in their names.
    pub matches: Vec<String>,
}

/// A table or view in full.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TableSchema {
    /// The schema that it is in: `main` on SQLite, the database on MySQL.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `table`, `view`, `materialized view`, `foreign table` or `virtual`.
    pub kind: String,
    /// What people wrote about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// How many rows it has, about, as the engine's statistics say; left out where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_rows: Option<u64>,
    /// Its columns in order.
    pub columns: Vec<ColumnSchema>,
    /// The columns of the primary key, in the order of the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primary_key: Vec<String>,
    /// Its indexes, those of keys too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<IndexSchema>,
    /// What its columns refer to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_keys: Vec<ForeignKey>,
}

/// One column.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ColumnSchema {
    /// Its name.
    pub name: String,
    /// Its type as the engine writes it.
    pub r#type: String,
    /// Whether it can be NULL.
    pub nullable: bool,
    /// The expression for rows that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What people wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it is computed from others.
    #[serde(default, skip_serializing_if = "is_false")]
    pub generated: bool,
    /// Whether its values are hidden: it may be counted, and asked whether it is NULL.
    #[serde(default, skip_serializing_if = "is_false")]
    pub masked: bool,
    /// The values that it can have, of an enumeration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// One index.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct IndexSchema {
    /// Its name.
    pub name: String,
    /// Whether no two rows have the same values.
    pub unique: bool,
    /// Its columns in order; `(expression)` for what is computed.
    pub columns: Vec<String>,
}

/// What columns refer to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ForeignKey {
    /// The columns.
    pub columns: Vec<String>,
    /// The table that they refer to.
    pub table: String,
    /// Its columns.
    pub referenced: Vec<String>,
}

/// How an engine would run a statement.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Plan {
    /// The plan as the engine writes it for people.
    pub text: String,
    /// The plan as the engine has it.
    #[schemars(schema_with = "any_schema")]
    pub plan: Value,
    /// How many rows it would answer with, about; SQLite does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_rows: Option<u64>,
    /// What it would cost, in the engine's own unit; SQLite and older MariaDB do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_cost: Option<f64>,
}

fn any_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({})
}

impl TableSchema {
    /// Notes which columns are masked, and leaves out what the tables of others are called where those may not be read.
    #[must_use]
    pub fn hiding(mut self, protection: &Protection) -> Self {
        for column in &mut self.columns {
            column.masked |= protection.masks(&self.schema, &self.name, &column.name);
            if column.masked {
                // A default is a value too.
                column.default = None;
            }
        }
        let masked = self.columns.iter().any(|column| column.masked);
        // What is computed from masked columns is not told from the rest.
        for column in self.columns.iter_mut().filter(|column| masked && column.generated) {
            column.masked = true;
        }
        self.foreign_keys.retain(|key| {
            let (schema, table) = key.table.split_once('.').unwrap_or((&self.schema, &key.table));
            protection.allows(schema, table)
        });
        self
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
