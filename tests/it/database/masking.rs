//! Masked columns and hidden tables: on every engine, attacks beside uses.

mod generated;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;
use tollgate_tests::database_servers;
use tollgate_tests::mcp_process::McpProcess;

const TABLES: &str = "
    CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR(40), email VARCHAR(60), ssn VARCHAR(20), team INT);
    INSERT INTO users VALUES (1, 'Ada', 'ada@hidden.test', '123-45-6789', 1), (2, 'Bob', NULL, '987-65-4321', 1), (3, 'Cyd', 'cyd@hidden.test', NULL, 2);
    CREATE TABLE customers (id INT PRIMARY KEY, email VARCHAR(60));
    INSERT INTO customers VALUES (1, 'shown@open.test'), (2, 'ada@open.test');
    CREATE TABLE secrets (id INT PRIMARY KEY, word VARCHAR(40));
    INSERT INTO secrets VALUES (1, 'hidden.test');
    CREATE VIEW people AS SELECT id, name, email AS contact FROM users;
    CREATE VIEW names AS SELECT id, name FROM users;
    CREATE VIEW over_people AS SELECT contact FROM people;
    CREATE VIEW words AS SELECT word FROM secrets;";

const CONFIGURATION: &str = "masked_columns = ['users.email', '*.ssn']\ntables = { deny = ['secrets', 'hidden_*'] }\ncache_ms = 0\ntimeout_ms = 10000\n";

/// What no answer may have in it.
const HIDDEN: [&str; 4] = ["hidden.test", "123-45", "987-65", "ada@"];

/// On every engine.
const ATTACKS: &[&str] = &[
    "SELECT email FROM users",
    "SELECT EMAIL FROM users",
    "SELECT users.email FROM users",
    "SELECT u.email FROM users u",
    "SELECT u.ssn AS id FROM users AS u",
    "SELECT email AS name, name AS email FROM users",
    "SELECT upper(email) FROM users",
    "SELECT substr(u.email, 1, 1) FROM users u",
    "SELECT length(email) FROM users",
    "SELECT coalesce(email, 'x') FROM users",
    "SELECT CASE WHEN email LIKE 'a%' THEN 1 ELSE 0 END FROM users",
    "SELECT nullif(email, 'ada@hidden.test') FROM users",
    "SELECT min(email), max(ssn) FROM users",
    "SELECT count(DISTINCT email) FROM users",
    "SELECT count(CASE WHEN email > 'b' THEN 1 END) FROM users",
    "SELECT count(nullif(email, 'x')) FROM users",
    "SELECT id FROM users WHERE email = 'ada@hidden.test'",
    "SELECT id FROM users WHERE email LIKE 'a%'",
    "SELECT id FROM users WHERE email IN ('ada@hidden.test')",
    "SELECT id FROM users WHERE 'ada@hidden.test' = email",
    "SELECT id FROM users WHERE email BETWEEN 'a' AND 'b'",
    "SELECT count(*) FROM users WHERE ssn > '5'",
    "SELECT id FROM users ORDER BY email",
    "SELECT id FROM users ORDER BY lower(ssn) DESC",
    "SELECT count(*) FROM users GROUP BY email",
    "SELECT team, count(*) FROM users GROUP BY team HAVING max(email) > 'b'",
    "SELECT id, row_number() OVER (ORDER BY email) FROM users",
    "SELECT id, count(*) OVER (PARTITION BY ssn) FROM users",
    "SELECT id, lag(email) OVER (ORDER BY id) FROM users",
    "SELECT c.id FROM customers c JOIN users u ON u.email = c.email",
    "SELECT c.id FROM customers c JOIN users u USING (email)",
    "SELECT * FROM customers NATURAL JOIN users",
    "SELECT id FROM customers WHERE email IN (SELECT email FROM users)",
    "SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM users u WHERE u.email = c.email)",
    "SELECT (SELECT email FROM users WHERE id = 1)",
    "SELECT c.id, (SELECT max(u.email) FROM users u WHERE u.id = c.id) FROM customers c",
    "SELECT id FROM customers UNION SELECT ssn FROM users",
    "SELECT * FROM customers UNION ALL SELECT id, email FROM users",
    "SELECT id, email FROM customers UNION ALL SELECT * FROM (SELECT id, ssn FROM users) s",
    "WITH x AS (SELECT email FROM users) SELECT * FROM x",
    "WITH x (a, b) AS (SELECT id, email FROM users) SELECT b FROM x",
    "WITH x (a, b, c, d, e) AS (SELECT * FROM users) SELECT c FROM x",
    "WITH x AS (SELECT * FROM users) SELECT * FROM x",
    "WITH users AS (SELECT * FROM users) SELECT email FROM users",
    "WITH users AS (SELECT 1 AS email) SELECT email FROM users",
    "SELECT x.email FROM (SELECT * FROM users) x",
    "SELECT * FROM (SELECT u.* FROM users u) x",
    "SELECT a FROM (SELECT email AS a FROM users) x ORDER BY a",
    "SELECT DISTINCT * FROM users",
    "SELECT * FROM users ORDER BY 3",
    "SELECT * FROM users WHERE email > 'b'",
    "SELECT * FROM people",
    "SELECT contact FROM people",
    "SELECT count(*) FROM people WHERE contact LIKE 'a%'",
    "SELECT contact FROM over_people",
    "SELECT id FROM names WHERE id IN (SELECT id FROM people WHERE contact > 'b')",
    "SELECT (email) FROM users",
    "SELECT ((u.email)) FROM users u",
    "SELECT email || '' FROM users",
    "SELECT email IS NULL OR email = 'x' FROM users",
    "SELECT email = 'ada@hidden.test' IS NULL FROM users",
    "SELECT id FROM users u JOIN users v ON v.id = u.id AND v.ssn = u.ssn",
    "SELECT sum(length(ssn)) FROM users",
    "SELECT group_concat(name, email) FROM users",
    "VALUES ((SELECT email FROM users WHERE id = 1))",
    "SELECT id FROM customers ORDER BY (SELECT email FROM users WHERE users.id = customers.id)",
    "SELECT id FROM customers LIMIT (SELECT length(email) FROM users WHERE id = 1)",
];

/// On every engine, what the operator hides.
const DENIED: &[&str] = &[
    "SELECT * FROM secrets",
    "SELECT word FROM words",
    "SELECT count(*) FROM secrets",
    "SELECT id FROM users WHERE EXISTS (SELECT 1 FROM secrets)",
    "WITH secrets AS (SELECT * FROM secrets) SELECT * FROM secrets",
    "SELECT table_name FROM information_schema.tables",
];

/// On every engine, with what they answer.
fn uses() -> Vec<(&'static str, Value)> {
    vec![
        ("SELECT name FROM users ORDER BY id", json!([["Ada"], ["Bob"], ["Cyd"]])),
        ("SELECT count(email), count(ssn), count(*) FROM users", json!([[2, 2, 3]])),
        ("SELECT team, count(u.email) FROM users u GROUP BY team ORDER BY team", json!([[1, 1], [2, 1]])),
        ("SELECT id FROM users WHERE email IS NULL", json!([[2]])),
        ("SELECT id FROM users u WHERE u.email IS NOT NULL ORDER BY id", json!([[1], [3]])),
        (
            "SELECT * FROM users ORDER BY id",
            json!([[1, "Ada", "***", "***", 1], [2, "Bob", null, "***", 1], [3, "Cyd", "***", null, 2]]),
        ),
        ("SELECT u.* FROM users AS u WHERE u.id = 1", json!([[1, "Ada", "***", "***", 1]])),
        (
            "SELECT c.email FROM customers c JOIN users u ON u.id = c.id ORDER BY c.id",
            json!([["shown@open.test"], ["ada@open.test"]]),
        ),
        ("SELECT email FROM customers WHERE id = 1", json!([["shown@open.test"]])),
        ("SELECT id FROM names ORDER BY id", json!([[1], [2], [3]])),
        ("WITH x AS (SELECT id, name FROM users) SELECT name FROM x WHERE id = 2", json!([["Bob"]])),
        ("SELECT users.name FROM users JOIN customers ON customers.id = users.id WHERE users.id = 1", json!([["Ada"]])),
        ("SELECT (SELECT count(u.ssn) FROM users u WHERE u.team = v.team) FROM users v WHERE v.id = 3", json!([[0]])),
        ("SELECT 'email', 'é email' FROM users WHERE id = 1", json!([["email", "é email"]])),
    ]
}

struct World {
    dir: TempDir,
}

impl World {
    fn new(url: &str) -> Self {
        let world = Self { dir: TempDir::new().unwrap() };
        world.configure(url, CONFIGURATION);
        world
    }

    fn configure(&self, url: &str, configuration: &str) {
        let text = format!("[database.connections.shop]\nurl = '{url}'\n{configuration}");
        fs::write(self.dir.path().join("tollgate.toml"), text).unwrap();
    }

    fn start(&self) -> McpProcess {
        McpProcess::start("mcp-database", self.dir.path(), &[], &[])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

async fn sqlite(more: &str) -> World {
    let world = World::new("sqlite:shop.db");
    let mut connection =
        SqliteConnectOptions::new().filename(world.path("shop.db")).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("{TABLES}{more}"))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    world
}

async fn postgres(more: &str) -> Option<World> {
    let server = database_servers::postgres()?;
    let name = format!("masked_{}", std::process::id());
    let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
    let mut connection = PgConnection::connect(&server.url(&name)).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("{TABLES}{more}"))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    Some(World::new(&server.url(&name)))
}

async fn mysql(more: &str) -> Option<World> {
    let server = database_servers::mysql()?;
    let name = format!("masked_{}", std::process::id());
    let mut admin = MySqlConnection::connect(&server.url("mysql")).await.unwrap();
    let create = format!("CREATE DATABASE {name}; USE {name}; {TABLES}{more}");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    Some(World::new(&server.url(&name)))
}

/// Runs everything against one engine; attacks must be refused by a rule or, where the engine lacks the syntax, fail.
async fn check(world: &World, attacks: &[&str], denied: &[&str], uses: &[(&str, Value)]) {
    let server = world.start();
    let mut wrong = Vec::new();
    for (sql, expected) in ATTACKS
        .iter()
        .chain(attacks)
        .map(|sql| (sql, "masked_column"))
        .chain(DENIED.iter().chain(denied).map(|sql| (sql, "table_not_allowed")))
    {
        for tool in ["query", "explain", "validate_query"] {
            // One row only, since what bounds the answer must not bound what is asked of the catalogue.
            let arguments = if tool == "query" { json!({"sql": sql, "max_rows": 1}) } else { json!({"sql": sql}) };
            let called = server.call(tool, arguments).await;
            let text = called.structured.to_string();
            let code = match tool {
                "validate_query" => called.structured["reasons"][0]["code"].clone(),
                _ => called.structured["error"]["code"].clone(),
            };
            let code = code.as_str().unwrap_or("ok");
            // Not this engine's syntax, function or catalogue.
            let foreign = matches!(code, "query_failed" | "not_parsed" | "function_not_allowed")
                || (expected == "masked_column" && code == "table_not_allowed");
            if code != expected && !foreign {
                wrong.push(format!("{tool}: {sql}: {code}: {text}"));
            }
            if HIDDEN.iter().any(|hidden| text.contains(hidden))
                && !sql.contains("hidden.test")
                && !sql.contains("ada@")
            {
                wrong.push(format!("{tool}: {sql}: shown: {text}"));
            }
        }
    }
    for (sql, expected) in
        self::uses().iter().map(|(sql, rows)| (*sql, rows)).chain(uses.iter().map(|(sql, rows)| (*sql, rows)))
    {
        let called = server.call("query", json!({"sql": sql})).await;
        if called.structured["rows"] != *expected {
            wrong.push(format!("{sql}: {}", called.structured));
        }
        let explained = server.call("explain", json!({"sql": sql})).await;
        if explained.is_error || explained.structured["text"].as_str().unwrap_or_default().is_empty() {
            wrong.push(format!("explain: {sql}: {}", explained.structured));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));

    let described = server.ok("describe_table", json!({"table": "users", "sample": 2})).await;
    let names: Vec<(&str, bool)> = described["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column["name"].as_str().unwrap(), column["masked"] == true))
        .collect();
    assert_eq!(names, [("id", false), ("name", false), ("email", true), ("ssn", true), ("team", false)]);
    assert_eq!(described["primary_key"], json!(["id"]));
    assert_eq!(described["sample"]["rows"].as_array().unwrap().len(), 2);
    assert!(!HIDDEN.iter().any(|hidden| described.to_string().contains(hidden)), "{described}");
    assert_eq!(server.refused("describe_table", json!({"table": "secrets"})).await["code"], "table_not_allowed");
    assert_eq!(server.refused("describe_table", json!({"table": "nothing"})).await["code"], "unknown_table");
    assert_eq!(
        server.refused("describe_table", json!({"table": "people", "sample": 1})).await["code"],
        "masked_column"
    );
    let listed = server.ok("list_tables", json!({})).await;
    let tables: Vec<&str> =
        listed["tables"].as_array().unwrap().iter().map(|table| table["name"].as_str().unwrap()).collect();
    assert!(tables.contains(&"users") && !tables.contains(&"secrets"), "{tables:?}");
    let found = server.ok("list_tables", json!({"search": "SSN"})).await;
    let found = found["tables"].as_array().unwrap();
    assert!(found.iter().any(|table| table["name"] == "users" && table["matching_columns"] == json!(["ssn"])));
    assert!(!found.iter().any(|table| table["name"] == "customers"));
    assert!(server.pollution().is_empty());
}

#[tokio::test]
async fn sqlite_shows_no_masked_value() {
    let world = sqlite(
        "CREATE TABLE computed (id INTEGER PRIMARY KEY, ssn TEXT, start TEXT AS (substr(ssn, 1, 3)));
         INSERT INTO computed (id, ssn) VALUES (1, '123-45-6789');
         CREATE VIRTUAL TABLE search USING fts5(name, email, content='users', content_rowid='id');
         INSERT INTO search (search) VALUES ('rebuild');
         CREATE VIEW user_mails AS SELECT id AS rowid, id, email FROM users;
         CREATE VIRTUAL TABLE mails USING fts5(email, content='user_mails', content_rowid='id');
         INSERT INTO mails (mails) VALUES ('rebuild');
         CREATE VIRTUAL TABLE mail_words USING fts5vocab('mails', 'row');
         CREATE VIRTUAL TABLE secret_search USING fts5(note, content='secrets');
         CREATE VIRTUAL TABLE secret_words USING fts5vocab('secret_search', 'instance');
         CREATE TABLE articles (id INTEGER PRIMARY KEY, body TEXT);
         INSERT INTO articles VALUES (1, 'plain words');
         CREATE VIRTUAL TABLE article_search USING fts5(body, content='articles', content_rowid='id');
         INSERT INTO article_search (article_search) VALUES ('rebuild');
         CREATE TABLE numbers (ssn INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO numbers VALUES (1234567, 'x');
         CREATE TABLE hidden_one (id INTEGER);",
    )
    .await;
    let attacks = [
        "SELECT email FROM main.users",
        "SELECT * FROM main.users",
        "SELECT \"email\" FROM \"users\"",
        "SELECT [email] FROM users",
        "SELECT `email` FROM `users`",
        "SELECT start FROM computed",
        "SELECT * FROM search",
        "SELECT rowid FROM search WHERE search MATCH 'hidden'",
        "SELECT * FROM search_data",
        "SELECT * FROM main.search_content",
        "SELECT rowid FROM mails WHERE mails MATCH 'ada*'",
        "SELECT * FROM mail_words",
        "SELECT * FROM mails_data",
        "SELECT * FROM secret_words",
        "SELECT rowid FROM secret_search WHERE secret_search MATCH 'a*'",
        "SELECT * FROM secret_search_data",
        "SELECT rowid FROM main.numbers",
        "SELECT _rowid_, oid FROM main.numbers",
        "SELECT id FROM main.users WHERE main.users.email > 'b'",
        "SELECT json_object('a', email) FROM users",
        "SELECT id FROM users WHERE (email, 1) > ('b', 0)",
        "SELECT id FROM users WHERE 'x' NOT IN (SELECT ssn FROM main.users)",
        "WITH RECURSIVE x (e) AS (SELECT email FROM users UNION ALL SELECT e FROM x) SELECT e FROM x LIMIT 3",
        "SELECT * FROM temp.users",
        "SELECT * FROM sqlite_temp_master",
        "SELECT iif(ssn > '5', 1, 0) FROM users",
    ];
    let denied = [
        "SELECT * FROM main.secrets",
        "SELECT * FROM sqlite_schema",
        "SELECT * FROM pragma_table_info('secrets')",
        "SELECT * FROM hidden_one",
    ];
    let uses = [
        ("SELECT id FROM computed", json!([[1]])),
        ("SELECT name FROM numbers", json!([["x"]])),
        ("SELECT rowid FROM article_search WHERE article_search MATCH 'words'", json!([[1]])),
        ("SELECT id FROM main.users WHERE id = 1", json!([[1]])),
    ];
    check(&world, &attacks, &denied, &uses).await;
}

#[tokio::test]
async fn sqlite_shows_no_denied_table_by_its_index() {
    let world = sqlite(
        "CREATE VIRTUAL TABLE secret_search USING fts5(note, content='secrets');
         CREATE VIRTUAL TABLE secret_words USING fts5vocab('secret_search', 'instance');
         CREATE VIRTUAL TABLE hidden_search USING fts5(note);
         CREATE TABLE articles (id INTEGER PRIMARY KEY, body TEXT, secret INTEGER);
         INSERT INTO articles VALUES (1, 'plain words', 2);
         CREATE VIRTUAL TABLE article_search USING fts5(body, content='articles', content_rowid='id');
         INSERT INTO article_search (article_search) VALUES ('rebuild');",
    )
    .await;
    world.configure("sqlite:shop.db", "tables = { deny = ['secrets', 'hidden_*'] }\n");
    let server = world.start();
    for sql in [
        "SELECT * FROM secret_words",
        "SELECT rowid FROM secret_search WHERE secret_search MATCH 'a*'",
        "SELECT * FROM secret_search_data",
        "SELECT * FROM secrets",
        "SELECT * FROM hidden_search",
    ] {
        let code = server.refused("query", json!({"sql": sql})).await["code"].clone();
        assert!(["table_not_allowed", "masked_column"].iter().any(|known| code == *known), "{sql}: {code}");
    }
    let sql = "SELECT rowid, secret FROM articles WHERE id IN (SELECT rowid FROM article_search WHERE article_search MATCH 'words')";
    assert_eq!(server.ok("query", json!({"sql": sql})).await["rows"], json!([[1, 2]]));
}

#[tokio::test]
async fn postgres_shows_no_masked_value() {
    let more = "
        CREATE TABLE computed (id int, ssn text, start text GENERATED ALWAYS AS (substr(ssn, 1, 3)) STORED);
        INSERT INTO computed (id, ssn) VALUES (1, '123-45-6789');
        CREATE TABLE hidden_parts (id int, note text) PARTITION BY LIST (id);
        CREATE TABLE part_one PARTITION OF hidden_parts FOR VALUES IN (1);
        INSERT INTO hidden_parts VALUES (1, 'ada@hidden.test');
        CREATE VIEW over_part AS SELECT id FROM part_one;
        CREATE VIEW common_values AS SELECT most_common_vals::text FROM pg_stats;
        CREATE TABLE parted (id int, ssn text) PARTITION BY LIST (id);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
        INSERT INTO parted VALUES (1, '123-45-6789');
        CREATE TABLE more_users (extra int) INHERITS (users);
        CREATE MATERIALIZED VIEW kept AS SELECT email FROM users;
        CREATE VIEW whole AS SELECT to_jsonb(u) AS j FROM users u;
        CREATE VIEW joined AS SELECT c.id FROM customers c JOIN users u ON u.email = c.email;
        CREATE SCHEMA other;
        CREATE TABLE other.users (id int, email text);
        INSERT INTO other.users VALUES (1, 'ada@hidden.test');
        CREATE TABLE hidden_one (id int);
        ANALYZE;";
    let Some(world) = postgres(more).await else { return };
    let attacks = [
        "SELECT u FROM users u",
        "SELECT users FROM users",
        "SELECT users::text FROM users",
        "SELECT to_jsonb(u) FROM users u",
        "SELECT row_to_json(users) FROM users",
        "SELECT json_agg(u) FROM users u",
        "SELECT to_json(u.*) FROM users u",
        "SELECT ROW(u.*) FROM users u",
        "SELECT (u).email FROM users u",
        "SELECT (u.*)::text FROM users u",
        "SELECT (SELECT x FROM users x WHERE x.id = 1)",
        "SELECT public.users.email FROM public.users",
        "SELECT \"email\" FROM \"users\"",
        "SELECT e FROM users AS u (a, b, e, d)",
        "SELECT * FROM users AS u (a, b, c, d, e)",
        "SELECT k.key, k.value FROM users u, LATERAL jsonb_each(to_jsonb(u)) k",
        "SELECT l.e FROM customers c, LATERAL (SELECT u.email AS e FROM users u WHERE u.id = c.id) l",
        "SELECT array_agg(email) FROM users",
        "SELECT string_agg(ssn, ',') FROM users",
        "SELECT id FROM users WHERE email = ANY (ARRAY['a'])",
        "SELECT DISTINCT ON (email) id FROM users",
        "SELECT count(*) FILTER (WHERE email > 'b') FROM users",
        "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM users",
        "SELECT id FROM users GROUP BY GROUPING SETS ((id), (email))",
        "SELECT row_number() OVER w FROM users WINDOW w AS (ORDER BY email)",
        "SELECT start FROM computed",
        "SELECT ssn FROM parted_1",
        "SELECT email FROM more_users",
        "SELECT * FROM kept",
        "SELECT j FROM whole",
        "SELECT id FROM joined",
        "SELECT email FROM other.users",
        "SELECT * FROM pg_stats WHERE tablename = 'users'",
        "SELECT most_common_vals FROM pg_catalog.pg_stats",
        "SELECT histogram_bounds FROM pg_stats",
        "TABLE users",
        "SELECT query_to_xml('select email from users', true, true, '')",
        "SELECT table_to_xml('users', true, true, '')",
        "SELECT email(u) FROM users u",
        "SELECT id FROM users WHERE users > ROW(1, 'x', 'b', '', 1)",
        "SELECT id FROM users ORDER BY users",
        "SELECT xmlforest(email) FROM users",
        "SELECT id FROM users JOIN LATERAL (SELECT users.email AS x) y ON y.x > 'b'",
    ];
    let denied = [
        "SELECT * FROM public.secrets",
        "SELECT relname FROM pg_class",
        "SELECT * FROM hidden_one",
        "SELECT * FROM hidden_parts",
        "SELECT id FROM part_one",
        "SELECT * FROM over_part",
        "SELECT * FROM common_values",
    ];
    let uses = [
        ("SELECT * FROM other.users", json!([[1, "***"]])),
        ("SELECT * FROM parted", json!([[1, "***"]])),
        ("SELECT name FROM public.users WHERE public.users.id = 1", json!([["Ada"]])),
        ("SELECT count(u.email) FILTER (WHERE u.team = 1) FROM users u", json!([[1]])),
        ("SELECT to_jsonb(c) ->> 'email' FROM customers c WHERE id = 1", json!([["shown@open.test"]])),
    ];
    check(&world, &attacks, &denied, &uses).await;
}

#[tokio::test]
async fn mysql_shows_no_masked_value() {
    let more = "
        CREATE TABLE computed (id INT, ssn VARCHAR(20), start VARCHAR(20) AS (SUBSTR(ssn, 1, 3)));
        INSERT INTO computed (id, ssn) VALUES (1, '123-45-6789');
        CREATE VIEW joined AS SELECT c.id FROM customers c JOIN users u ON u.email = c.email;
        CREATE TABLE hidden_one (id INT);";
    let Some(world) = mysql(more).await else { return };
    let attacks = [
        "SELECT `email` FROM `users`",
        "SELECT GROUP_CONCAT(email) FROM users",
        "SELECT JSON_OBJECT('a', email) FROM users",
        "SELECT JSON_ARRAYAGG(ssn) FROM users",
        "SELECT id FROM users WHERE email REGEXP '^a'",
        "SELECT id FROM users WHERE email RLIKE '^a'",
        "SELECT id FROM users WHERE email <=> 'ada@hidden.test'",
        "SELECT IF(ssn > '5', 1, 0) FROM users",
        "SELECT id FROM users WHERE MATCH (email) AGAINST ('ada')",
        "SELECT start FROM computed",
        "SELECT id FROM joined",
        "SELECT HEX(email) FROM users",
        "SELECT CONVERT(email USING utf8mb4) FROM users",
        "SELECT * FROM information_schema.COLUMN_STATISTICS",
        "SELECT * FROM mysql.column_stats",
    ];
    let denied = ["SELECT * FROM hidden_one", "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES"];
    let uses = [("SELECT id FROM computed", json!([[1]]))];
    check(&world, &attacks, &denied, &uses).await;
}

#[tokio::test]
async fn pages_cache_and_warnings() {
    let world = sqlite("").await;
    world.configure("sqlite:shop.db", "cache_ms = 60000\n");
    let server = world.start();
    let sql = "SELECT id FROM users ORDER BY id";
    let first = server.ok("query", json!({"sql": sql, "max_rows": 2})).await;
    assert_eq!((&first["rows"], &first["truncated"]), (&json!([[1], [2]]), &json!(true)));
    let cursor = first["cursor"].as_str().unwrap();
    let second = server.ok("query", json!({"sql": sql, "max_rows": 2, "cursor": cursor})).await;
    assert_eq!((&second["rows"], second.get("cursor")), (&json!([[3]]), None));
    for (sql, cursor) in [("SELECT id FROM users ORDER BY name", cursor), (sql, "00"), (sql, &cursor.replace('0', "1"))]
    {
        let error = server.refused("query", json!({"sql": sql, "cursor": cursor})).await;
        assert_eq!(error["code"], "invalid_cursor");
    }
    // White space and comments make no difference, values do.
    let again = server.ok("query", json!({"sql": "SELECT  id /* x */ FROM users ORDER BY id", "max_rows": 2})).await;
    assert_eq!((&again["cached"], &again["cost_usd"]), (&json!(true), &json!("0")), "{again}");
    let asked = |id: i64| json!({"sql": "SELECT name FROM users WHERE id = ?", "params": [id]});
    assert_eq!(server.ok("query", asked(1)).await["rows"], json!([["Ada"]]));
    assert_eq!(server.ok("query", asked(2)).await["rows"], json!([["Bob"]]));
    assert!(server.ok("clear_cache", json!({})).await["cleared"].as_u64().unwrap() >= 3);
    assert_eq!(server.ok("query", asked(1)).await["cached"], false);
    let warned = server.ok("query", json!({"sql": "SELECT id FROM users WHERE name = 'x' OR 1 = 1"})).await;
    assert_eq!(warned["warnings"][0]["signal"], "tautology");
    assert_eq!(warned["warnings"][0]["parametrised"], "SELECT id FROM users WHERE name = ? OR ? = ?");
    let statistics = server.ok("pool_stats", json!({})).await;
    assert_eq!(
        (&statistics["databases"][0]["running"], &statistics["databases"][0]["cache_hits"]),
        (&json!(0), &json!(1))
    );
    assert!(world.path(".tollgate/database-cursors.key").exists());
}
