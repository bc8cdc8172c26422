//! PostgreSQL, with a role that could do anything.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tempfile::TempDir;

use crate::corpus::POSTGRES_SHOP;
use crate::database_servers::{self, DatabaseServer};
use crate::mcp_process::McpProcess;

/// A database of one test's own, and a folder with a `tollgate.toml` that names it `shop`.
pub struct PostgresShop {
    /// Where it is.
    pub server: &'static DatabaseServer,
    /// Its name there.
    pub database: String,
    dir: TempDir,
}

/// The engine's own catalogues, as far as statements change them; those of the whole server without what other tests do.
const CATALOGUES: [&str; 26] = [
    "SELECT oid, relname, relkind, relfilenode, relacl, relowner, reloptions, relrowsecurity FROM pg_class
        WHERE relnamespace <> 'pg_toast'::regnamespace AND oid >= 16384 AND relpersistence <> 't'",
    "SELECT attrelid, attname, atttypid, attnotnull, attacl FROM pg_attribute WHERE attrelid >= 16384 AND attrelid IN (SELECT oid FROM pg_class
        WHERE relpersistence <> 't' AND relnamespace <> 'pg_toast'::regnamespace)",
    "SELECT * FROM pg_proc WHERE oid >= 16384",
    "SELECT oid, nspname, nspowner, nspacl FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%temp%'",
    "SELECT oid, typname, typowner FROM pg_type WHERE oid >= 16384 AND typrelid = 0 AND typelem = 0",
    "SELECT * FROM pg_authid WHERE rolname NOT LIKE 'reader%'",
    "SELECT * FROM pg_auth_members",
    "SELECT * FROM pg_db_role_setting",
    "SELECT datname, datacl, datconnlimit FROM pg_database WHERE datname = current_database()",
    "SELECT name, setting FROM pg_settings WHERE name NOT IN ('transaction_isolation', 'transaction_read_only')",
    "SELECT sourcefile, name, setting FROM pg_file_settings",
    "SELECT * FROM pg_extension",
    "SELECT * FROM pg_foreign_server",
    "SELECT * FROM pg_user_mapping",
    "SELECT oid, tgrelid, tgname, tgenabled FROM pg_trigger",
    "SELECT oid, polname FROM pg_policy",
    "SELECT oid, ev_class, rulename FROM pg_rewrite WHERE oid >= 16384",
    "SELECT * FROM pg_description WHERE objoid >= 16384",
    "SELECT * FROM pg_default_acl",
    "SELECT * FROM pg_event_trigger",
    "SELECT oid, pubname FROM pg_publication UNION ALL SELECT oid, subname FROM pg_subscription",
    "SELECT * FROM pg_replication_origin",
    "SELECT slot_name, plugin FROM pg_replication_slots",
    "SELECT loid, pageno, data FROM pg_largeobject",
    "SELECT transaction, gid FROM pg_prepared_xacts",
    "SELECT locktype, classid, objid FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
];

impl PostgresShop {
    /// A shop whose connection is the superuser's; `None` where there is no server.
    pub async fn new() -> Option<Self> {
        Self::with("timeout_ms = 3000\n").await
    }

    /// A shop with more lines in the table of its connection.
    pub async fn with(configuration: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = database_servers::postgres()?;
        let database = format!("shop_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {database}"));
        sqlx::raw_sql(create).execute(&mut admin).await.unwrap();
        let shop = Self { server, database, dir: TempDir::new().unwrap() };
        shop.run(POSTGRES_SHOP).await;
        shop.configure(&shop.url(), configuration);
        Some(shop)
    }

    /// Returns the URL of its superuser.
    pub fn url(&self) -> String {
        self.server.url(&self.database)
    }

    /// Names the database by `url` from now on.
    pub fn configure(&self, url: &str, configuration: &str) {
        let text = format!("[database.connections.shop]\nurl = '{url}'\n{configuration}");
        fs::write(self.dir.path().join("tollgate.toml"), text).unwrap();
    }

    /// Opens a connection of the superuser.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// Runs statements behind the server's back.
    pub async fn run(&self, sql: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Makes a role that may do nothing but SELECT, and returns its URL.
    pub async fn reader(&self) -> String {
        let role = format!("reader_{}", self.database);
        self.run(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")).await;
        self.server.url_of(&role, &self.database)
    }

    /// Starts `mcp-database` on it.
    pub fn start(&self) -> McpProcess {
        McpProcess::start("mcp-database", self.dir.path(), &[], &[])
    }

    /// Everything that a statement might change: rows, sequences, objects, settings, roles, locks, files.
    pub async fn state(&self) -> Vec<String> {
        const STORED: &str = "SELECT string_agg(format('SELECT %L::text, md5(string_agg(t::text, E''\\n'' ORDER BY t::text)) FROM (SELECT * FROM %s) t', oid::regclass, oid::regclass), ' UNION ALL ')
            FROM pg_class WHERE relkind IN ('r', 'm', 'S') AND oid >= 16384 AND relpersistence <> 't' AND relnamespace <> 'pg_toast'::regnamespace";
        let mut connection = self.connect().await;
        let stored: String = sqlx::query_scalar(STORED).fetch_one(&mut connection).await.unwrap();
        let parts = CATALOGUES.map(|part| {
            format!("SELECT $part${part}$part$, md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM ({part}) t")
        });
        let all = format!(
            "{stored} UNION ALL {} UNION ALL SELECT 'files', string_agg(name, ' ' ORDER BY name) FROM pg_ls_dir('.') AS name WHERE name NOT LIKE 'pg_stat%'",
            parts.join(" UNION ALL ")
        );
        let rows = sqlx::query(AssertSqlSafe(all)).persistent(false).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let mut state: Vec<String> = rows
            .iter()
            .map(|row| format!("{}: {:?}", row.get::<String, _>(0), row.get::<Option<String>, _>(1)))
            .collect();
        state.sort();
        let names = fs::read_dir("/tmp").unwrap().map(|entry| entry.unwrap().file_name().display().to_string());
        state.extend(names.filter(|name| name.starts_with("tollgate-attack")));
        state
    }
}
