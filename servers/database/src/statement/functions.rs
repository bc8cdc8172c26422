//! The functions that a read may call: those that only compute.
//!
//! An allowlist, because what a new version of an engine or an extension adds is not known to be harmless.

/// Functions of SQLite that neither write, wait, open a file nor change a setting.
///
/// Left out on purpose: `load_extension`, `fts3_tokenizer` and `optimize`, which reach beyond the query, and
/// whatever tells of the connection or the library (`changes`, `last_insert_rowid`, `sqlite_*`). Functions that
/// make large values (`zeroblob`, `printf`, `replace`) stay: the connection bounds every value.
const SQLITE: &[&str] = &[
    "->",
    "->>",
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg",
    "bm25",
    "ceil",
    "ceiling",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cosh",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "highlight",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_length",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_patch",
    "json_pretty",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_type",
    "json_valid",
    "jsonb",
    "jsonb_array",
    "jsonb_extract",
    "jsonb_group_array",
    "jsonb_group_object",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_patch",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "match",
    "matchinfo",
    "max",
    "median",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "offsets",
    "percent_rank",
    "percentile",
    "percentile_cont",
    "percentile_disc",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "random",
    "randomblob",
    "rank",
    "regexp",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sin",
    "sinh",
    "snippet",
    "soundex",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "tan",
    "tanh",
    "time",
    "timediff",
    "total",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unistr",
    "unixepoch",
    "unlikely",
    "upper",
    "zeroblob",
];

/// Functions of SQLite that stand where a table does: they take JSON apart or describe the schema.
const SQLITE_TABLES: &[&str] = &[
    "json_each",
    "json_tree",
    "jsonb_each",
    "jsonb_tree",
    "pragma_foreign_key_list",
    "pragma_index_info",
    "pragma_index_list",
    "pragma_index_xinfo",
    "pragma_table_info",
    "pragma_table_list",
    "pragma_table_xinfo",
];

/// Tables that SQLite has without anybody making them, and that tell of the file or the connection.
const SQLITE_INTERNAL: &[&str] =
    &["bytecode", "dbstat", "fts3tokenize", "fts5vocab", "sqlite_dbpage", "sqlite_stmt", "tables_used"];

/// Returns whether a read may call the function `name`.
#[must_use]
pub fn is_allowed(name: &str) -> bool {
    contains(SQLITE, name)
}

/// Returns whether a read may use the function `name` as a table.
#[must_use]
pub fn is_allowed_as_table(name: &str) -> bool {
    contains(SQLITE_TABLES, name)
}

/// Returns whether a read may name the table `name` without arguments.
#[must_use]
pub fn is_table(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // The table-valued pragmas answer without arguments too.
    let pragma = name.starts_with("pragma_") && !contains(SQLITE_TABLES, &name);
    !pragma && !contains(SQLITE_INTERNAL, &name)
}

/// Returns whether the connection may answer the pragma `name`: those that describe the schema, and what full-text
/// search asks of its own tables.
#[must_use]
pub fn is_pragma(name: &str, value: Option<&str>) -> bool {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "data_version" | "page_size" => value.is_none(),
        _ => contains(SQLITE_TABLES, &format!("pragma_{name}")),
    }
}

fn contains(sorted: &[&str], name: &str) -> bool {
    sorted.binary_search(&name.to_ascii_lowercase().as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        for list in [SQLITE, SQLITE_TABLES, SQLITE_INTERNAL] {
            assert!(list.is_sorted());
        }
    }

    #[test]
    fn what_reaches_beyond_the_query_is_not_allowed() {
        for name in
            ["load_extension", "LOAD_EXTENSION", "writefile", "readfile", "edit", "fts3_tokenizer", "optimize", ""]
        {
            assert!(!is_allowed(name), "{name}");
        }
        assert!(is_allowed("COUNT"));
    }

    #[test]
    fn pragmas_that_describe_the_schema_are_allowed() {
        assert!(is_table("pragma_table_info") && is_pragma("table_info", Some("orders")));
        assert!(!is_table("Pragma_Database_List") && !is_pragma("database_list", None));
        assert!(!is_table("dbstat") && !is_table("SQLITE_DBPAGE"));
        assert!(!is_pragma("page_size", Some("4096")) && is_pragma("page_size", None));
        assert!(!is_pragma("query_only", Some("0")));
    }
}
