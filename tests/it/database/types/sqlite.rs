//! SQLite's storage classes, in columns of every affinity.

use proptest::prelude::*;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteJournalMode, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use tollgate_tests::mcp_process::McpProcess;

use super::{Form, GIVEN_BACK, compared, integer, real, smallest_wrong};
use crate::database::world::World;

/// Declared types, one for each affinity and some that people write.
const TYPES: [&str; 12] = [
    "INTEGER",
    "REAL",
    "TEXT",
    "NUMERIC",
    "BLOB",
    "",
    "BOOLEAN",
    "DATE",
    "TIMESTAMP",
    "DECIMAL(10,2)",
    "VARCHAR(3)",
    "ANY",
];

/// A value as SQL writes it, of any class whatever the column says.
fn literal() -> impl Strategy<Value = String> {
    let hexadecimal = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    prop_oneof![
        integer(i64::MIN.into(), i64::MAX.into()).prop_map(|integer| match integer.as_str() {
            // The text of the least one is that of a number too large with a sign before it.
            "-9223372036854775808" => "(-9223372036854775807 - 1)".to_owned(),
            _ => integer,
        }),
        real(false),
        prop::sample::select(vec![
            "9e999",
            "-9e999",
            "-0.0",
            "1e22",
            "'1.0'",
            "'0x10'",
            "' 7'",
            "'9223372036854775808'"
        ])
        .prop_map(str::to_owned),
        // Text with NUL in it, and text that is not UTF-8.
        any::<String>().prop_map(move |text| format!("CAST(x'{}' AS TEXT)", hexadecimal(text.into_bytes()))),
        prop::collection::vec(any::<u8>(), 0..12)
            .prop_map(move |bytes| format!("CAST(x'{}' AS TEXT)", hexadecimal(bytes))),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(move |bytes| format!("x'{}'", hexadecimal(bytes))),
    ]
}

/// What the engine says that a value is: its class, and the value itself.
async fn stored(connection: &mut SqliteConnection) -> Vec<(String, Option<String>)> {
    let sql = "SELECT typeof(v), CASE typeof(v) WHEN 'integer' THEN CAST(v AS TEXT) WHEN 'null' THEN NULL ELSE lower(hex(v)) END, v FROM kept ORDER BY id";
    let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
    let one = |row: &SqliteRow| {
        let class: String = row.get(0);
        // The engine's text of a float has fewer digits than the float.
        let text = if class == "real" { Some(format!("{:?}", row.get::<f64, _>(2))) } else { row.get(1) };
        (class, text)
    };
    rows.iter().map(one).collect()
}

async fn check(server: &McpProcess, world: &World, declared: &str, values: &[Option<String>]) -> Result<(), String> {
    let mut connection = world.writer(SqliteJournalMode::Delete).await;
    let rows: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(id, value)| format!("({id}, {})", value.as_deref().unwrap_or("NULL")))
        .collect();
    let fill = format!(
        "DROP TABLE IF EXISTS kept; CREATE TABLE kept (id INTEGER, v {declared}); INSERT INTO kept VALUES {}",
        rows.join(", ")
    );
    sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut connection).await.map_err(|error| error.to_string())?;
    let stored = stored(&mut connection).await;
    connection.close().await.unwrap();
    let called = server.call("query", json!({"sql": "SELECT v FROM kept ORDER BY id"})).await;
    let rows = called.structured["rows"].as_array().ok_or_else(|| called.structured.to_string())?;
    if rows.len() != values.len() {
        return Err(format!("{} of {} rows", rows.len(), values.len()));
    }
    for (row, (class, text)) in rows.iter().zip(&stored) {
        let answered = &row[0];
        match class.as_str() {
            "integer" => compared(Form::Integer, answered, text.as_deref())?,
            "real" => {
                let text = text.as_deref().map(|text| text.replace("inf", "Infinity"));
                compared(Form::Real, answered, text.as_deref())?;
            }
            "blob" => compared(Form::Bytes, answered, text.as_deref())?,
            "text" => {
                let bytes = match answered {
                    Value::String(text) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
                    answered => super::unbase64(answered["text_base64"].as_str().ok_or(answered.to_string())?),
                };
                if Some(&bytes) != text.as_ref() {
                    return Err(format!("{answered} where the engine has {text:?}"));
                }
            }
            _ if answered.is_null() => {}
            class => return Err(format!("{answered} where the engine has {class}")),
        }
    }
    for (id, (row, (class, _))) in rows.iter().zip(&stored).enumerate().take(GIVEN_BACK) {
        let (given, cast) = match (&row[0], class.as_str()) {
            // What is written as text is text to the engine until it is told.
            (Value::String(text), "integer") => (json!(text), "CAST(? AS INTEGER)"),
            (Value::String(text), "real") => {
                (json!(if text.starts_with('-') { "-9e999" } else { "9e999" }), "CAST(? AS REAL)")
            }
            (Value::Object(object), "text") => (json!({"base64": object["text_base64"]}), "CAST(? AS TEXT)"),
            (value, _) => (value.clone(), "?"),
        };
        let sql = format!("SELECT v IS {cast}, typeof(v) FROM kept WHERE id = {id}");
        let called = server.call("query", json!({"sql": sql, "params": [given]})).await;
        if called.structured["rows"] != json!([[1, class]]) {
            return Err(format!("{} given back is another: {}", row[0], called.structured));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_sqlite_is_answered_as_the_engine_has_it() {
    let world = World::new().await;
    let server = world.start();
    let mut wrong = Vec::new();
    for declared in TYPES {
        let found = smallest_wrong(literal().boxed(), &async |values: &[Option<String>]| {
            check(&server, &world, declared, values).await
        });
        wrong.extend(found.map(|found| format!("{declared:?}: {found}")));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
