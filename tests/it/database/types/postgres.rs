//! PostgreSQL's types.

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};
use tollgate_tests::mcp_process::McpProcess;

use super::{
    Form, GIVEN_BACK, clock, compared, compared_elements, date, integer, json_text, real, single, smallest_wrong, text,
};
use crate::database::postgres::World;

/// What the types are made of.
const TYPES: &str = "
    CREATE TYPE temper AS ENUM ('sad', 'ok', 'a \"b\", {c}');
    CREATE TYPE odd AS ENUM ('NULL');
    CREATE TYPE pair AS (a integer, b text);
    CREATE TYPE spans AS (a int4multirange);
    CREATE DOMAIN short_text AS text;
    CREATE DOMAIN frame AS box;";

/// A type with its values and how they are written.
struct Column {
    name: String,
    values: BoxedStrategy<String>,
    form: Form,
    /// What the elements of an array are asked for with.
    elements: &'static str,
}

fn column(name: &str, form: Form, values: impl Strategy<Value = String> + 'static) -> Column {
    Column { name: name.to_owned(), values: values.boxed(), form, elements: "to_jsonb(v::text[])" }
}

fn one_of(texts: &[&str]) -> BoxedStrategy<String> {
    prop::sample::select(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).boxed()
}

fn numeric() -> BoxedStrategy<String> {
    prop_oneof![
        6 => "-?[0-9]{1,40}(\\.[0-9]{1,30})?",
        2 => "-?[1-9]e-?[0-9]{1,2}",
        2 => one_of(&["NaN", "Infinity", "-Infinity", "0", "0.000", "-0.10", "1e-1000", "9e1000"]),
    ]
    .boxed()
}

fn or_infinite(values: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    prop_oneof![8 => values, 1 => Just("infinity".to_owned()), 1 => Just("-infinity".to_owned())].boxed()
}

fn timestamp() -> BoxedStrategy<String> {
    prop_oneof![
        3 => (date(1, 294_275), clock(24)).prop_map(|(date, time)| format!("{date} {time}")),
        1 => (date(1, 4_712), clock(24)).prop_map(|(date, time)| format!("{date} {time} BC")),
    ]
    .boxed()
}

fn zone() -> BoxedStrategy<String> {
    prop_oneof![
        (0_u32..15, 0_u32..60).prop_map(|(hours, minutes)| format!("+{hours:02}:{minutes:02}")),
        one_of(&["-15:59:59", "+00", "-03:30"])
    ]
    .boxed()
}

fn coordinate() -> BoxedStrategy<String> {
    prop_oneof![
        (-1e6..1e6_f64).prop_map(|real| format!("{real:?}")),
        one_of(&["0", "-0", "0.1", "1e-300", "1.7976931348623157e308", "Infinity", "NaN"]),
    ]
    .boxed()
}

fn place() -> BoxedStrategy<String> {
    (coordinate(), coordinate()).prop_map(|(x, y)| format!("({x},{y})")).boxed()
}

fn places() -> BoxedStrategy<String> {
    prop::collection::vec(place(), 1..4).prop_map(|places| places.join(",")).boxed()
}

fn network() -> BoxedStrategy<String> {
    prop_oneof![
        (any::<std::net::Ipv4Addr>(), 0..=32).prop_map(|(address, bits)| format!("{address}/{bits}")),
        (any::<std::net::Ipv6Addr>(), 0..=128).prop_map(|(address, bits)| format!("{address}/{bits}")),
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
    ]
    .boxed()
}

fn hexadecimal(bytes: usize) -> BoxedStrategy<String> {
    prop::collection::vec(any::<u8>(), bytes)
        .prop_map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        .boxed()
}

fn uuid() -> BoxedStrategy<String> {
    hexadecimal(16).boxed()
}

fn bytea() -> BoxedStrategy<String> {
    prop::collection::vec(any::<u8>(), 0..20)
        .prop_map(|bytes| bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")))
        .boxed()
}

fn interval() -> BoxedStrategy<String> {
    (any::<i32>(), any::<i32>(), -9_000_000_000_000_000_i64..9_000_000_000_000_000)
        .prop_map(|(months, days, micros)| format!("{months} months {days} days {micros} microseconds"))
        .boxed()
}

/// A range between two of `ends`, which come in order.
fn range(ends: impl Strategy<Value = (String, String)> + 'static) -> BoxedStrategy<String> {
    prop_oneof![
        6 => (ends, one_of(&["[", "("]), one_of(&["]", ")"])).prop_map(|((from, to), open, close)| format!("{open}{from},{to}{close}")),
        1 => one_of(&["empty", "(,)"]),
    ]
    .boxed()
}

fn integers_in_order() -> BoxedStrategy<(String, String)> {
    (-100_000_i64..100_000, 0_i64..1000).prop_map(|(from, more)| (from.to_string(), (from + more).to_string())).boxed()
}

fn dates_in_order() -> BoxedStrategy<(String, String)> {
    (date(1, 1999), date(2000, 9999)).boxed()
}

/// Arrays of `elements`: of one, two and three dimensions, empty ones, and some with bounds of their own.
fn arrays(elements: BoxedStrategy<String>, delimiter: char) -> BoxedStrategy<String> {
    let element = prop::option::weighted(0.8, elements).prop_map(|element| match element {
        None => "NULL".to_owned(),
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    });
    let bounded = move |inner: BoxedStrategy<String>, length: std::ops::RangeInclusive<usize>| {
        prop::collection::vec(inner, length)
            .prop_map(move |items| format!("{{{}}}", items.join(&delimiter.to_string())))
    };
    let flat = bounded(element.clone().boxed(), 0..=5);
    let square = bounded(bounded(element.clone().boxed(), 2..=2).boxed(), 1..=3);
    let cube = bounded(bounded(bounded(element.clone().boxed(), 1..=1).boxed(), 2..=2).boxed(), 2..=2);
    let moved = bounded(element.boxed(), 2..=2).prop_map(|array| format!("[-1:0]={array}"));
    prop_oneof![4 => flat, 2 => square, 1 => cube, 1 => moved].boxed()
}

#[expect(clippy::too_many_lines, reason = "one line for each type of PostgreSQL")]
fn columns() -> Vec<Column> {
    let text_of = |name: &str, values: BoxedStrategy<String>| column(name, Form::Text, values);
    let pair = || {
        (integer(-5, 5), text())
            .prop_map(|(a, b)| format!("({a},\"{}\")", b.replace('\\', "\\\\").replace('"', "\"\"")))
    };
    let temper = || one_of(&["sad", "ok", "a \"b\", {c}"]);
    let mut columns = vec![
        column("boolean", Form::Boolean, one_of(&["true", "false"])),
        column("smallint", Form::Integer, integer(i16::MIN.into(), i16::MAX.into())),
        column("integer", Form::Integer, integer(i32::MIN.into(), i32::MAX.into())),
        column("bigint", Form::Integer, integer(i64::MIN.into(), i64::MAX.into())),
        column("oid", Form::Integer, integer(0, u32::MAX.into())),
        column("real", Form::Single, single(true)),
        column("double precision", Form::Real, real(true)),
        text_of("numeric", numeric()),
        text_of("numeric(20,5)", "-?[0-9]{1,15}\\.[0-9]{1,8}".boxed()),
        text_of("money", "-?[0-9]{1,12}\\.[0-9]{2}".boxed()),
        text_of("text", text()),
        text_of("character varying(12)", text()),
        text_of("character(12)", text()),
        text_of("name", text()),
        text_of("\"char\"", "[ -~]{0,1}".boxed()),
        column("bytea", Form::Bytes, bytea()),
        text_of(
            "date",
            or_infinite(prop_oneof![3 => date(1, 5_874_897), 1 => date(1, 4_712).prop_map(|date| date + " BC")]),
        ),
        text_of("time", prop_oneof![5 => clock(24), 1 => Just("24:00:00".to_owned())].boxed()),
        text_of("time(2)", clock(23)),
        text_of("time with time zone", (clock(24), zone()).prop_map(|(time, zone)| time + &zone).boxed()),
        text_of("timestamp", or_infinite(timestamp())),
        text_of("timestamp(0)", or_infinite(timestamp())),
        text_of(
            "timestamp with time zone",
            or_infinite(
                (date(2, 9999), clock(24), zone()).prop_map(|(date, time, zone)| format!("{date} {time}{zone}")),
            ),
        ),
        text_of("interval", interval()),
        text_of("uuid", uuid()),
        text_of("json", json_text()),
        text_of("jsonb", json_text().prop_filter("too large for jsonb", |text| !text.contains("1e400")).boxed()),
        text_of("jsonpath", one_of(&["$", "$.a[*] ? (@ > 1)", "strict $.\"a b\".size()"])),
        text_of(
            "xml",
            ("[a-c]", "[ a-z0-9é]{0,6}")
                .prop_map(|(name, text)| format!("<{name} x=\"{text}\">{text}<!-- {name} --></{name}>"))
                .boxed(),
        ),
        text_of("inet", network()),
        text_of(
            "cidr",
            prop_oneof![
                any::<u32>().prop_map(|bits| format!("{}/16", std::net::Ipv4Addr::from(bits & 0xffff_0000))),
                Just("2001:db8::/32".to_owned())
            ]
            .boxed(),
        ),
        text_of("macaddr", hexadecimal(6)),
        text_of("macaddr8", hexadecimal(8)),
        text_of("bit(5)", "[01]{5}".boxed()),
        text_of("bit varying", "[01]{0,40}".boxed()),
        text_of("point", place()),
        text_of("line", (1..9, -9..9, -9..9).prop_map(|(a, b, c)| format!("{{{a},{b},{c}.5}}")).boxed()),
        text_of("lseg", (place(), place()).prop_map(|(a, b)| format!("[{a},{b}]")).boxed()),
        text_of("box", (place(), place()).prop_map(|(a, b)| format!("{a},{b}")).boxed()),
        text_of(
            "path",
            prop_oneof![
                places().prop_map(|places| format!("[{places}]")),
                places().prop_map(|places| format!("({places})"))
            ]
            .boxed(),
        ),
        text_of("polygon", places().prop_map(|places| format!("({places})")).boxed()),
        text_of("circle", (place(), 0.0..1e6_f64).prop_map(|(place, radius)| format!("<{place},{radius:?}>")).boxed()),
        text_of("tsvector", one_of(&["", "a b:2A 'c d':3,4B", "'it''s' é"])),
        text_of("tsquery", one_of(&["a & !b | 'c d':*", "a <2> b"])),
        text_of("int4range", range(integers_in_order())),
        text_of("int8range", range(integers_in_order())),
        text_of("numrange", range(integers_in_order())),
        text_of("daterange", range(dates_in_order())),
        text_of("tsrange", range(dates_in_order())),
        text_of("tstzrange", range(dates_in_order())),
        text_of("pg_lsn", one_of(&["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"])),
        text_of("pg_snapshot", one_of(&["10:20:10,14,15", "1:1:"])),
        text_of("txid_snapshot", one_of(&["10:20:10,14,15"])),
        text_of("xid", integer(0, u32::MAX.into())),
        text_of("xid8", integer(0, u64::MAX.into())),
        text_of("cid", integer(0, u32::MAX.into())),
        text_of("tid", (0_u32..1000, 1_u16..500).prop_map(|(block, item)| format!("({block},{item})")).boxed()),
        text_of(
            "int2vector",
            prop::collection::vec(any::<i16>(), 0..4)
                .prop_map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
                .boxed(),
        ),
        text_of(
            "oidvector",
            prop::collection::vec(any::<u32>(), 0..4)
                .prop_map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
                .boxed(),
        ),
        text_of("regtype", one_of(&["integer", "text[]", "temper"])),
        text_of("regclass", one_of(&["pg_class", "book"])),
        text_of("refcursor", text()),
        text_of("temper", temper()),
        text_of("pair", pair().boxed()),
        text_of("short_text", text()),
        // Arrays whose elements are parted by something else stay text.
        text_of("box[]", arrays((place(), place()).prop_map(|(a, b)| format!("{a},{b}")).boxed(), ';')),
        text_of("frame[]", arrays((place(), place()).prop_map(|(a, b)| format!("{a},{b}")).boxed(), ';')),
    ];
    let arrays_of: [(&str, &'static Form, BoxedStrategy<String>); 17] = [
        ("boolean", &Form::Boolean, one_of(&["true", "false"])),
        ("integer", &Form::Integer, integer(i32::MIN.into(), i32::MAX.into())),
        ("bigint", &Form::Integer, integer(i64::MIN.into(), i64::MAX.into())),
        ("real", &Form::Single, single(true)),
        ("double precision", &Form::Real, real(true)),
        ("numeric", &Form::Text, numeric()),
        ("text", &Form::Text, text()),
        ("character varying(12)", &Form::Text, text()),
        ("bytea", &Form::Text, bytea()),
        ("timestamp with time zone", &Form::Text, or_infinite(timestamp())),
        ("interval", &Form::Text, interval()),
        ("uuid", &Form::Text, uuid()),
        ("jsonb", &Form::Text, json_text().prop_filter("too large for jsonb", |text| !text.contains("1e400")).boxed()),
        ("point", &Form::Text, place()),
        ("int4range", &Form::Text, range(integers_in_order())),
        ("temper", &Form::Text, temper()),
        ("pair", &Form::Text, pair().boxed()),
    ];
    for (name, form, values) in arrays_of {
        columns.push(column(&format!("{name}[]"), Form::Array(form), arrays(values, ',')));
    }
    // As text, these would lose their blanks, or get a mask.
    for (name, values) in [("character(3)[]", "[a-c ]{0,3}".boxed()), ("inet[]", network())] {
        let array = column(name, Form::Array(&Form::Text), arrays(values, ','));
        columns.push(Column { elements: "to_jsonb(v)", ..array });
    }
    columns.push(column("short_text[]", Form::Array(&Form::Text), arrays(text(), ',')));
    columns
}

/// What the engine itself writes for the values of a table: the text, and the texts of an array's elements.
async fn written(
    connection: &mut PgConnection,
    table: &str,
    elements: &str,
) -> Result<Vec<(Option<String>, Option<String>)>, sqlx::Error> {
    // The simple protocol, in which the engine sends text.
    let sql = format!("SELECT v, {elements} FROM {table} ORDER BY id");
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await?;
    let text = |row: &sqlx::postgres::PgRow, index: usize| {
        let value = row.try_get_raw(index).unwrap();
        (!sqlx::ValueRef::is_null(&value)).then(|| value.as_str().unwrap().to_owned())
    };
    Ok(rows.iter().map(|row| (text(row, 0), text(row, 1))).collect())
}

async fn check(
    server: &McpProcess,
    world: &World,
    table: &str,
    column: &Column,
    values: &[Option<String>],
) -> Result<(), String> {
    let mut connection = world.connect().await;
    let fill = format!(
        "TRUNCATE {table}; INSERT INTO {table} SELECT place, value::{} FROM unnest($1) WITH ORDINALITY AS u (value, place)",
        column.name
    );
    let (empty, fill) = fill.split_once("; ").unwrap();
    sqlx::raw_sql(AssertSqlSafe(empty.to_owned())).execute(&mut connection).await.unwrap();
    let filled = sqlx::query(AssertSqlSafe(fill.to_owned())).bind(values).execute(&mut connection).await;
    filled.map_err(|error| format!("the engine does not take it: {error}"))?;
    let is_array = matches!(column.form, Form::Array(_));
    let elements = if is_array { column.elements } else { "NULL" };
    let written = written(&mut connection, table, elements).await.map_err(|error| error.to_string())?;
    sqlx::Connection::close(connection).await.unwrap();

    let called = server.call("query", json!({"sql": format!("SELECT v FROM {table} ORDER BY id")})).await;
    let rows = called.structured["rows"].as_array().ok_or_else(|| called.structured.to_string())?;
    if rows.len() != values.len() || called.structured["truncated"] != false {
        return Err(format!("{} of {} rows", rows.len(), values.len()));
    }
    for (row, (text, elements)) in rows.iter().zip(&written) {
        match (column.form, &row[0]) {
            (Form::Array(form), Value::Array(_)) => {
                let elements: Value = serde_json::from_str(elements.as_deref().unwrap_or("null")).unwrap();
                compared_elements(*form, &row[0], &elements)?;
            }
            (form, answered) => compared(form, answered, text.as_deref())?,
        }
    }
    for (row, (text, _)) in rows.iter().zip(&written).take(GIVEN_BACK) {
        // An array is given as the engine writes it.
        let given = if row[0].is_array() { json!(text) } else { row[0].clone() };
        let sql = format!("SELECT $1::{}", column.name);
        let called = server.call("query", json!({"sql": sql, "params": [given]})).await;
        if called.structured["rows"] != json!([[row[0]]]) {
            return Err(format!("{} comes back as {}", row[0], called.structured));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_postgresql_is_answered_as_the_engine_writes_it() {
    let Some(world) = World::with("timeout_ms = 10000\ncache_ms = 0\n").await else { return };
    world.run(TYPES).await;
    let server = world.start();
    let mut wrong = Vec::new();
    for (place, column) in columns().iter().enumerate() {
        let table = format!("type_{place}");
        world.run(&format!("CREATE TABLE {table} (id bigint, v {})", column.name)).await;
        let found = smallest_wrong(column.values.clone(), &async |values: &[Option<String>]| {
            check(&server, &world, &table, column, values).await
        });
        wrong.extend(found.map(|found| format!("{}: {found}", column.name)));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn types_that_cannot_be_answered_are_refused_and_read_as_text() {
    let Some(world) = World::with("timeout_ms = 10000\ncache_ms = 0\n").await else { return };
    world.run(TYPES).await;
    let server = world.start();
    for (place, (name, value)) in [
        ("int4multirange", "{[1,3),[7,9)}"),
        ("int8multirange", "{}"),
        ("nummultirange", "{[1.5,2.5]}"),
        ("datemultirange", "{[2024-01-01,2024-02-01)}"),
        ("tsmultirange", "{(,\"2024-01-01 00:00:00\")}"),
        ("tstzmultirange", "{[\"2024-01-01 00:00:00+00\",)}"),
        ("int4multirange[]", "{\"{[1,3)}\",NULL}"),
        ("spans", "(\"{[1,3)}\")"),
        ("odd", "NULL"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("refused_{place}");
        world.run(&format!("CREATE TABLE {table} (v {name}); INSERT INTO {table} VALUES ('{value}'), (NULL)")).await;
        let error = server.refused("query", json!({"sql": format!("SELECT v FROM {table}")})).await;
        assert_eq!(error["code"], "unsupported_type", "{name}: {error}");
        assert!(error["hint"].as_str().unwrap().contains("::text"), "{name}: {error}");
        let rows = server.ok("query", json!({"sql": format!("SELECT v::text FROM {table}")})).await;
        assert_eq!(rows["rows"], json!([[value], [null]]), "{name}");
    }
}

/// A database without an encoding has text that need not be UTF-8, which its bytes are the way to.
#[tokio::test]
async fn text_that_is_not_utf8_is_refused_and_read_as_bytes() {
    let Some(world) = World::with("").await else { return };
    let name = format!("plain_{}", world.database);
    world
        .run(&format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"))
        .await;
    let url = world.server.url(&name);
    world.configure(&url, "timeout_ms = 10000\ncache_ms = 0\n");
    let mut connection = <PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let fill =
        "CREATE TABLE t (id integer, v text); INSERT INTO t VALUES (1, convert_from('\\xff41', 'SQL_ASCII')), (2, 'A')";
    sqlx::raw_sql(fill).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let server = world.start();
    let error = server.refused("query", json!({"sql": "SELECT v FROM t"})).await;
    assert_eq!(error["code"], "unsupported_type", "{error}");
    assert!(error["hint"].as_str().unwrap().contains("convert_to"), "{error}");
    let answer = server.ok("query", json!({"sql": "SELECT convert_to(v, 'SQL_ASCII') FROM t ORDER BY id"})).await;
    assert_eq!(answer["rows"], json!([[{"base64": "/0E="}], [{"base64": "QQ=="}]]));
    assert_eq!(server.ok("query", json!({"sql": "SELECT v FROM t WHERE id = 2"})).await["rows"], json!([["A"]]));
}
