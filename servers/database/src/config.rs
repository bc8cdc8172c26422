//! The table `[database]` of `tollgate.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which databases agents may read.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// The databases, by the name that agents use.
    pub connections: BTreeMap<String, ConnectionConfig>,
}

/// One database.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionConfig {
    /// Where it is: `postgres://user:password@host/database`, `mysql://` alike for MySQL and MariaDB, or `sqlite:` and
    /// the path of a file, relative to the workspace. Agents never see it.
    pub url: String,
    /// How many rows an answer has at most; 1 to 10000.
    #[serde(default = "max_rows_default")]
    pub max_rows: u32,
    /// How long a query may run, in milliseconds; 1 to 50000, since hosts give up after a minute.
    #[serde(default = "timeout_ms_default")]
    pub timeout_ms: u32,
    /// PostgreSQL: the schemas whose tables need no schema before their name; `public` when there are none.
    #[serde(default)]
    pub schemas: Vec<String>,
    /// PostgreSQL: functions of the database's own that agents may call, as `schema.name`; they must be immutable or
    /// stable.
    #[serde(default)]
    pub allowed_functions: Vec<String>,
    /// Columns whose values agents never see, as `table.column` or `schema.table.column`, with `*` for any part of a name:
    /// they may be counted, and asked whether they are NULL.
    #[serde(default)]
    pub masked_columns: Vec<String>,
    /// Which tables agents may read; all when there is nothing here.
    #[serde(default)]
    pub tables: TablesConfig,
    /// How long the same query is answered with the same rows, in milliseconds; at most 600000, and 0 for not at all.
    #[serde(default = "cache_ms_default")]
    pub cache_ms: u32,
    /// Refuses every query when the role of the connection could do more than read; otherwise the log says so.
    #[serde(default)]
    pub require_read_only_role: bool,
}

fn max_rows_default() -> u32 {
    1000
}

fn timeout_ms_default() -> u32 {
    5000
}

fn cache_ms_default() -> u32 {
    2000
}

/// Which tables agents may read, as `table` or `schema.table`, with `*` for any part of a name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TablesConfig {
    /// These alone may be named in a statement; every table when there are none. A view of the list may read others.
    pub allow: Vec<String>,
    /// These may not be read, views neither.
    pub deny: Vec<String>,
}
