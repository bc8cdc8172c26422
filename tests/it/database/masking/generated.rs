//! Masked columns as a property: generated queries over two databases that differ in nothing but the values of the masked
//! columns get the same answer from both, or are refused; and those that leave the columns alone are answered.
//!
//! `TOLLGATE_MASKING_CASES` queries of each kind per engine from `TOLLGATE_MASKING_SEED`; what fails is shrunk.

mod queries;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tollgate_tests::database_servers;
use tollgate_tests::mcp_process::{Called, McpProcess};

use super::{CONFIGURATION, World};
use queries::{Dialect, Query, query};

/// The masked values of each database: of other lengths and in another order, equal to each other here and not there, and
/// equal to what is not masked in another table here and not there.
const MASKED: [[Option<(&str, &str)>; 5]; 2] = [
    [
        Some(("canary-a@hidden.test", "canary-111")),
        None,
        Some(("canary-a@hidden.test", "canary-9")),
        Some(("shown@open.test", "canary-5555555")),
        Some(("Canary", "canary-2")),
    ],
    [
        Some(("zz-canary@hidden.test", "canary-7")),
        None,
        Some(("a-canary", "canary-0")),
        Some(("x", "canary-33")),
        Some(("b@open.test", "canary-1")),
    ],
];

/// What stands in the masked columns alone.
const CANARY: &str = "canary";

/// How often a database is asked again before its answer counts as its only one.
const ASKED_AGAIN: usize = 6;

fn tables(which: usize) -> String {
    let users: Vec<String> = MASKED[which]
        .iter()
        .enumerate()
        .map(|(row, masked)| {
            let masked = masked.map_or("NULL, NULL".to_owned(), |(email, ssn)| format!("'{email}', '{ssn}'"));
            let (id, name) = (row + 1, ["Ada", "Bob", "Cyd", "Dan", "Eve"][row]);
            format!("({id}, '{name}', {masked}, {})", row % 2 + 1)
        })
        .collect();
    format!(
        "CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR(40), email VARCHAR(60), ssn VARCHAR(20), team INT);
         INSERT INTO users VALUES {};
         CREATE TABLE customers (id INT PRIMARY KEY, email VARCHAR(60));
         INSERT INTO customers VALUES (1, 'shown@open.test'), (2, 'b@open.test'), (3, NULL), (4, 'x');
         CREATE VIEW people AS SELECT id, name, email AS contact FROM users;
         CREATE VIEW names AS SELECT id, name FROM users;",
        users.join(", ")
    )
}

/// A folder whose `tollgate.toml` names both databases.
fn world(urls: [&str; 2]) -> World {
    let world = World::new(urls[0]);
    let twin = format!("{CONFIGURATION}[database.connections.twin]\nurl = '{}'\n{CONFIGURATION}", urls[1]);
    world.configure(urls[0], &twin);
    world
}

/// What an answer says, without how long it took.
fn said(called: &Called) -> Value {
    let of = |key: &str| called.structured.get(key).cloned();
    json!([called.is_error, of("error"), of("rows"), of("columns"), of("truncated"), of("note"), of("cut_values")])
}

/// How the queries went, so that it can be seen that they ask for something.
#[derive(Debug, Default)]
struct Went {
    honest: u32,
    masked: u32,
    failed: u32,
    answered: u32,
    /// Answered otherwise by the same database the next time: rows that are equal in what they are sorted by.
    unstable: u32,
}

/// Asks both databases, and says what is wrong with the answers.
async fn check(server: &McpProcess, query: &Query, went: &mut Went) -> Result<(), String> {
    let ask = |database: &'static str| server.call("query", json!({"sql": query.sql, "database": database}));
    let (here, there) = (ask("shop").await, ask("twin").await);
    if said(&here) != said(&there) {
        for _ in 0..ASKED_AGAIN {
            if said(&ask("shop").await) != said(&here) || said(&ask("twin").await) != said(&there) {
                went.unstable += 1;
                return Ok(());
            }
        }
        return Err(format!("the answers differ:\n{}\n{}\n{}", query.sql, here.structured, there.structured));
    }
    // An answer may repeat the statement.
    if !query.sql.contains(CANARY) && here.structured.to_string().to_lowercase().contains(CANARY) {
        return Err(format!("a masked value is shown:\n{}\n{}", query.sql, here.structured));
    }
    let code = here.structured["error"]["code"].as_str();
    if !query.touches && code.is_some() {
        return Err(format!("an honest query is refused:\n{}\n{}", query.sql, here.structured));
    }
    match code {
        None if query.touches => went.answered += 1,
        None => went.honest += 1,
        Some("masked_column") => went.masked += 1,
        Some(_) => went.failed += 1,
    }
    Ok(())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs queries that touch masked columns, and queries that do not.
fn hold(world: &World, dialect: Dialect) {
    let server = world.start();
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("TOLLGATE_MASKING_SEED", 0x7011_6a7e).to_le_bytes());
    let went = std::cell::RefCell::new(Went::default());
    for masked in [true, false] {
        let config = Config {
            cases: u32::try_from(number("TOLLGATE_MASKING_CASES", 150)).unwrap(),
            max_shrink_iters: 500,
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let result = runner.run(&query(dialect, masked), |query| {
            let mut went = went.borrow_mut();
            let checked = block_in_place(|| Handle::current().block_on(check(&server, &query, &mut went)));
            checked.map_err(TestCaseError::fail)
        });
        if let Err(error) = result {
            panic!("{dialect:?}: {error}");
        }
    }
    let went = went.into_inner();
    eprintln!("{dialect:?}: {went:?}");
    // It asks for masked columns, in statements that the engine takes.
    let of_masked = went.masked + went.failed + went.answered;
    assert!(went.masked * 2 > of_masked && went.failed * 5 < of_masked, "{went:?}");
    assert!(went.unstable * 20 < of_masked, "{went:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_answers_depend_on_no_masked_value() {
    let world = world(["sqlite:shop.db", "sqlite:twin.db"]);
    for (which, name) in ["shop.db", "twin.db"].into_iter().enumerate() {
        let options = SqliteConnectOptions::new().filename(world.path(name)).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(tables(which))).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
    hold(&world, Dialect::Sqlite);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_answers_depend_on_no_masked_value() {
    let Some(server) = database_servers::postgres() else { return };
    let names = ["shop", "twin"].map(|name| format!("generated_{name}_{}", std::process::id()));
    let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
    for (which, name) in names.iter().enumerate() {
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
        let mut connection = PgConnection::connect(&server.url(name)).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(tables(which))).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
    hold(&world([&server.url(&names[0]), &server.url(&names[1])]), Dialect::Postgres);
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_answers_depend_on_no_masked_value() {
    let Some(server) = database_servers::mysql() else { return };
    let names = ["shop", "twin"].map(|name| format!("generated_{name}_{}", std::process::id()));
    let mut admin = MySqlConnection::connect(&server.url("mysql")).await.unwrap();
    for (which, name) in names.iter().enumerate() {
        let create = format!("CREATE DATABASE {name}; USE {name}; {}", tables(which));
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
    }
    hold(&world([&server.url(&names[0]), &server.url(&names[1])]), Dialect::Mysql);
}
