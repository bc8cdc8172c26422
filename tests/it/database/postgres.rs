//! PostgreSQL: a real server, with a role that could do anything.

mod attacks;
mod corpus;
mod limits;
mod uses;

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tempfile::TempDir;
use tollgate_tests::database_servers::{self, DatabaseServer};
use tollgate_tests::mcp_process::McpProcess;

/// A database of one test's own, and a folder `work` with a `tollgate.toml` that names it `shop`.
pub struct World {
    pub server: &'static DatabaseServer,
    pub database: String,
    dir: TempDir,
}

const SHOP: &str = include_str!("postgres/shop.sql");

impl World {
    /// A world whose connection is the superuser's; `None` where there is no server.
    pub async fn new() -> Option<Self> {
        Self::with("timeout_ms = 3000\n").await
    }

    /// A world with more lines in the table of its connection.
    pub async fn with(configuration: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = database_servers::postgres()?;
        let database = format!("shop_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {database}"));
        sqlx::raw_sql(create).execute(&mut admin).await.unwrap();
        let world = Self { server, database, dir: TempDir::new().unwrap() };
        world.run(SHOP).await;
        world.configure(&world.server.url(&world.database), configuration);
        Some(world)
    }

    /// Names the database by `url` from now on.
    pub fn configure(&self, url: &str, configuration: &str) {
        let text = format!("[database.connections.shop]\nurl = '{url}'\n{configuration}");
        fs::write(self.dir.path().join("tollgate.toml"), text).unwrap();
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.server.url(&self.database)).await.unwrap()
    }

    /// Runs statements behind the server's back.
    pub async fn run(&self, sql: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub fn start(&self) -> McpProcess {
        McpProcess::start("mcp-database", self.dir.path(), &[], &[])
    }

    /// Everything that a statement might change: rows, sequences, objects, settings, roles, locks, files.
    pub async fn state(&self) -> Vec<String> {
        const PARTS: &[&str] = &[
            "SELECT string_agg(t::text, ';' ORDER BY t.id) FROM book t",
            "SELECT string_agg(t::text, ';' ORDER BY t.id) FROM orders t",
            "SELECT string_agg(t::text, ';') FROM touched t",
            "SELECT string_agg(concat(last_value, is_called), ';') FROM counter",
            "SELECT string_agg(concat(oid, relname, relkind, relfilenode, relacl), ';' ORDER BY oid)
                FROM pg_class WHERE relnamespace <> 'pg_toast'::regnamespace AND oid >= 16384",
            "SELECT string_agg(concat(oid, proname, prosrc), ';' ORDER BY oid) FROM pg_proc WHERE oid >= 16384",
            "SELECT string_agg(concat(oid, nspname), ';' ORDER BY oid) FROM pg_namespace WHERE nspname NOT LIKE 'pg_%temp%'",
            "SELECT string_agg(concat(name, setting), ';' ORDER BY name) FROM pg_settings
                WHERE name NOT IN ('transaction_isolation', 'transaction_read_only')",
            "SELECT string_agg(concat(rolname, rolsuper, rolpassword), ';' ORDER BY rolname) FROM pg_authid",
            "SELECT string_agg(concat(setdatabase, setrole, setconfig), ';') FROM pg_db_role_setting",
            "SELECT count(*)::text FROM pg_largeobject_metadata",
            "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            "SELECT count(*)::text FROM pg_prepared_xacts",
            "SELECT count(*)::text FROM pg_replication_slots",
            "SELECT string_agg(extname, ';' ORDER BY extname) FROM pg_extension",
            "SELECT string_agg(name, ';' ORDER BY name) FROM pg_ls_dir('.') AS name WHERE name NOT LIKE 'pg_stat%'",
        ];
        let mut connection = self.connect().await;
        let mut state = Vec::new();
        for part in PARTS {
            let row = sqlx::query(*part).fetch_one(&mut connection).await.unwrap();
            state.push(format!("{part}: {:?}", row.get::<Option<String>, _>(0)));
        }
        connection.close().await.unwrap();
        let outside = |name: &str| name.starts_with("tollgate-attack");
        state.extend(
            fs::read_dir("/tmp")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().display().to_string())
                .filter(|name| outside(name)),
        );
        state
    }
}

/// Runs a query that must succeed and returns its rows.
pub async fn rows(server: &McpProcess, sql: &str, params: Value) -> Value {
    server.ok("query", serde_json::json!({"sql": sql, "params": params})).await["rows"].clone()
}
