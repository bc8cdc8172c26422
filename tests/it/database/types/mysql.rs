//! MariaDB's types.

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use serde_json::{Value, json};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Connection, Decode, Row};
use tollgate_tests::mcp_process::McpProcess;
use tollgate_tests::shop::MysqlShop;

use super::{Form, GIVEN_BACK, clock, compared, date, integer, json_text, real, single, smallest_wrong, text};

/// A type with its values and how they are written.
struct Column {
    name: &'static str,
    values: BoxedStrategy<String>,
    form: Form,
    /// What a generated text becomes a value with.
    made: &'static str,
    /// What the engine's text is asked for with.
    shown: &'static str,
    /// What an answer is compared with the value with when it is given back; empty where it is not.
    given: &'static str,
}

fn column(name: &'static str, form: Form, values: impl Strategy<Value = String> + 'static) -> Column {
    let given = if form == Form::Text { "BINARY v <=> BINARY ?" } else { "v <=> ?" };
    Column { name, values: values.boxed(), form, made: "?", shown: "v", given }
}

/// Bytes, which come and go in hexadecimal.
fn bytes(name: &'static str, values: impl Strategy<Value = Vec<u8>> + 'static) -> Column {
    let values = values.prop_map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    Column { made: "UNHEX(?)", shown: "LOWER(HEX(v))", ..column(name, Form::Bytes, values) }
}

/// Bits, which come as decimal numbers and are shown as whole bytes.
fn bits(name: &'static str, shown: &'static str, most: u64) -> Column {
    Column { made: "CAST(? AS UNSIGNED)", shown, given: "", ..column(name, Form::Bytes, integer(0, most.into())) }
}

fn shape(name: &'static str, values: impl Strategy<Value = String> + 'static) -> Column {
    let values = values.boxed();
    Column { made: "ST_GeomFromText(?, 4326)", shown: "LOWER(HEX(v))", given: "", ..column(name, Form::Bytes, values) }
}

fn one_of(texts: &[&str]) -> BoxedStrategy<String> {
    prop::sample::select(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).boxed()
}

fn place() -> BoxedStrategy<String> {
    (-1e6..1e6_f64, -90.0..90.0_f64).prop_map(|(x, y)| format!("{x:?} {y:?}")).boxed()
}

fn moment(zero: &'static str, years: (u32, u32)) -> BoxedStrategy<String> {
    let made = (date(years.0, years.1), clock(24)).prop_map(|(date, time)| format!("{date} {time}"));
    prop_oneof![6 => made, 1 => Just(zero.to_owned())].boxed()
}

/// Times longer than days, with and without a sign.
fn time() -> BoxedStrategy<String> {
    (one_of(&["", "-"]), prop_oneof![clock(24), clock(838), one_of(&["838:59:59", "00:00:00"])])
        .prop_map(|(sign, time)| sign + &time)
        .boxed()
}

fn decimal(before: u32, after: u32) -> BoxedStrategy<String> {
    proptest::string::string_regex(&format!("-?[0-9]{{1,{before}}}\\.[0-9]{{1,{after}}}")).unwrap().boxed()
}

fn blob(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=most)
}

fn columns() -> Vec<Column> {
    let text_of = |name, values| column(name, Form::Text, values);
    let whole = |name, least: i128, most: i128| column(name, Form::Integer, integer(least, most));
    let address = |name, values| Column { given: "v <=> ?", ..column(name, Form::Text, values) };
    vec![
        whole("BOOLEAN", -128, 127),
        whole("TINYINT", -128, 127),
        whole("TINYINT(1) UNSIGNED", 0, 255),
        whole("TINYINT UNSIGNED", 0, 255),
        whole("SMALLINT", i16::MIN.into(), i16::MAX.into()),
        whole("SMALLINT UNSIGNED", 0, u16::MAX.into()),
        whole("MEDIUMINT", -8_388_608, 8_388_607),
        whole("MEDIUMINT UNSIGNED", 0, 16_777_215),
        whole("INT", i32::MIN.into(), i32::MAX.into()),
        whole("INT UNSIGNED", 0, u32::MAX.into()),
        Column { shown: "v + 0", ..whole("INT(8) ZEROFILL", 0, u32::MAX.into()) },
        Column { given: "v <=> CAST(? AS SIGNED)", ..whole("BIGINT", i64::MIN.into(), i64::MAX.into()) },
        Column { given: "v <=> CAST(? AS UNSIGNED)", ..whole("BIGINT UNSIGNED", 0, u64::MAX.into()) },
        Column { given: "v <=> CAST(? AS DECIMAL(65, 30))", ..text_of("DECIMAL(65, 30)", decimal(35, 30)) },
        Column { given: "v <=> CAST(? AS DECIMAL(20))", ..text_of("DECIMAL(20)", decimal(19, 3)) },
        Column {
            given: "v <=> CAST(? AS DECIMAL(10, 2))",
            ..text_of(
                "DECIMAL(10, 2) UNSIGNED",
                decimal(8, 2).prop_map(|text| text.trim_start_matches('-').to_owned()).boxed(),
            )
        },
        // The engine writes six digits of what it has; all of it as another type.
        Column {
            shown: "CAST(v AS DOUBLE)",
            given: "v <=> CAST(? AS FLOAT)",
            ..column("FLOAT", Form::Single, single(false))
        },
        Column {
            shown: "CAST(v AS DOUBLE)",
            given: "v <=> CAST(? AS FLOAT)",
            ..column("FLOAT(9, 3)", Form::Single, decimal(5, 3))
        },
        column("DOUBLE", Form::Real, real(false)),
        column("DOUBLE(20, 5)", Form::Real, decimal(9, 5)),
        bits("BIT(1)", "LOWER(LPAD(HEX(v), 2, '0'))", 1),
        bits("BIT(13)", "LOWER(LPAD(HEX(v), 4, '0'))", 8191),
        bits("BIT(64)", "LOWER(LPAD(HEX(v), 16, '0'))", u64::MAX),
        column("YEAR", Form::Integer, prop_oneof![integer(1901, 2155), Just("0".to_owned())]),
        column(
            "DATE",
            Form::Time,
            prop_oneof![6 => date(0, 9999), 1 => one_of(&["0000-00-00", "2024-00-00", "2024-02-00"])],
        ),
        column("DATETIME", Form::Time, moment("0000-00-00 00:00:00", (0, 9998))),
        column("DATETIME(6)", Form::Time, moment("0000-00-00 00:00:00", (0, 9999))),
        column("DATETIME(3)", Form::Time, moment("2024-00-00 00:00:00.5", (0, 9998))),
        column("TIMESTAMP(6) NULL", Form::Time, moment("0000-00-00 00:00:00", (1971, 2037))),
        column("TIMESTAMP NULL", Form::Time, moment("1970-01-01 00:00:01", (1971, 2037))),
        column("TIME", Form::Time, time()),
        column("TIME(6)", Form::Time, time()),
        column("TIME(2)", Form::Time, time()),
        text_of("CHAR(20)", text()),
        text_of("VARCHAR(50)", text()),
        text_of("VARCHAR(50) COLLATE utf8mb4_bin", text()),
        Column { given: "", ..text_of("VARCHAR(50) CHARACTER SET latin1", "[ -~éß€]{0,12}".boxed()) },
        Column {
            given: "",
            ..text_of("VARCHAR(50) CHARACTER SET latin1 COLLATE latin1_bin", "[ -~éß€]{0,12}".boxed())
        },
        Column { given: "", ..text_of("VARCHAR(50) CHARACTER SET utf16", text()) },
        Column { given: "", ..text_of("CHAR(10) CHARACTER SET ucs2", "[ -~éß漢]{0,10}".boxed()) },
        text_of("TINYTEXT", text()),
        text_of("TEXT", text()),
        text_of("TEXT COLLATE utf8mb4_bin", text()),
        text_of("MEDIUMTEXT", text()),
        text_of("LONGTEXT", text()),
        bytes("BINARY(8)", prop::collection::vec(any::<u8>(), 8)),
        bytes("VARBINARY(20)", blob(20)),
        bytes("TINYBLOB", blob(20)),
        bytes("BLOB", blob(20)),
        bytes("MEDIUMBLOB", blob(20)),
        bytes("LONGBLOB", blob(20)),
        text_of("ENUM('sad', 'ok', 'a \"b\"', 'é', '')", one_of(&["sad", "ok", "a \"b\"", "é", ""])),
        text_of("ENUM('sad', 'ok') COLLATE utf8mb4_bin", one_of(&["sad", "ok"])),
        text_of("SET('a', 'b c', 'é', 'd''e')", one_of(&["", "a", "a,b c", "é,d'e", "a,b c,é,d'e"])),
        text_of("SET('a', 'b') COLLATE utf8mb4_bin", one_of(&["", "a", "a,b"])),
        text_of("JSON", json_text()),
        address("UUID", "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}".boxed()),
        address(
            "INET6",
            prop_oneof![
                any::<std::net::Ipv6Addr>().prop_map(|address| address.to_string()),
                one_of(&["::", "::ffff:1.2.3.4"])
            ]
            .boxed(),
        ),
        address("INET4", any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()).boxed()),
        shape("GEOMETRY", place().prop_map(|place| format!("POINT({place})"))),
        shape("POINT", place().prop_map(|place| format!("POINT({place})"))),
        shape("LINESTRING", (place(), place()).prop_map(|(a, b)| format!("LINESTRING({a}, {b})"))),
        shape("POLYGON", one_of(&["POLYGON((0 0, 0 3, 3 3, 0 0))"])),
        shape("MULTIPOINT", (place(), place()).prop_map(|(a, b)| format!("MULTIPOINT({a}, {b})"))),
        shape("GEOMETRYCOLLECTION", place().prop_map(|place| format!("GEOMETRYCOLLECTION(POINT({place}))"))),
    ]
}

/// What the engine itself writes for the values of a table, in the protocol in which it sends text.
async fn written(connection: &mut MySqlConnection, table: &str, shown: &str) -> Vec<Option<String>> {
    let sql = format!("SELECT {shown} FROM {table} ORDER BY id");
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await.unwrap();
    let text = |row: &MySqlRow| {
        let value = row.try_get_raw(0).unwrap();
        let bytes = <&[u8] as Decode<sqlx::MySql>>::decode(value).ok()?;
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    };
    rows.iter().map(text).collect()
}

async fn check(
    server: &McpProcess,
    shop: &MysqlShop,
    table: &str,
    column: &Column,
    values: &[Option<String>],
) -> Result<(), String> {
    let mut connection = shop.connect().await;
    // Dates of zeros are what this mode lets in.
    let empty = format!("SET SESSION sql_mode = ''; DELETE FROM {table}");
    sqlx::raw_sql(AssertSqlSafe(empty)).execute(&mut connection).await.unwrap();
    for (id, value) in values.iter().enumerate() {
        let fill = format!("INSERT INTO {table} VALUES ({id}, {})", column.made);
        let filled = sqlx::query(AssertSqlSafe(fill)).bind(value).execute(&mut connection).await;
        filled.map_err(|error| format!("the engine does not take it: {error}"))?;
    }
    let written = written(&mut connection, table, column.shown).await;
    connection.close().await.unwrap();
    let called = server.call("query", json!({"sql": format!("SELECT v FROM {table} ORDER BY id")})).await;
    let rows = called.structured["rows"].as_array().ok_or_else(|| called.structured.to_string())?;
    if rows.len() != values.len() || called.structured["truncated"] != false {
        return Err(format!("{} of {} rows", rows.len(), values.len()));
    }
    for (row, text) in rows.iter().zip(&written) {
        compared(column.form, &row[0], text.as_deref())?;
    }
    for (id, row) in rows.iter().enumerate().take(if column.given.is_empty() { 0 } else { GIVEN_BACK }) {
        let sql = format!("SELECT {} FROM {table} WHERE id = {id}", column.given);
        let called = server.call("query", json!({"sql": sql, "params": [row[0]]})).await;
        if called.structured["rows"] != json!([[1]]) {
            return Err(format!("{} given back is another: {}", row[0], called.structured));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_mariadb_is_answered_as_the_engine_writes_it() {
    let Some(shop) = MysqlShop::with("timeout_ms = 10000\ncache_ms = 0\n").await else { return };
    let server = shop.start();
    let mut wrong = Vec::new();
    for (place, column) in columns().iter().enumerate() {
        let table = format!("type_{place}");
        shop.run(&format!("CREATE TABLE {table} (id INT, v {})", column.name)).await;
        let found = smallest_wrong(column.values.clone(), &async |values: &[Option<String>]| {
            check(&server, &shop, &table, column, values).await
        });
        wrong.extend(found.map(|found| format!("{}: {found}", column.name)));
    }
    let null = server.ok("query", json!({"sql": "SELECT NULL, ''"})).await;
    assert_eq!(null["rows"], json!([[Value::Null, ""]]));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
