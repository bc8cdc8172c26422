//! MariaDB or MySQL, with a role that could do anything.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tempfile::TempDir;

use crate::corpus::MYSQL_SHOP;
use crate::database_servers::{self, DatabaseServer};
use crate::mcp_process::McpProcess;

/// A database of one test's own, and a folder with a `tollgate.toml` that names it `shop`.
pub struct MysqlShop {
    /// Where it is.
    pub server: &'static DatabaseServer,
    /// Its name there.
    pub database: String,
    dir: TempDir,
}

impl MysqlShop {
    /// A shop whose connection is root's; `None` where there is no server.
    pub async fn with(configuration: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = database_servers::mysql()?;
        let database = format!("shop_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut admin = MySqlConnection::connect(&server.url("mysql")).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {database} CHARACTER SET utf8mb4"));
        sqlx::raw_sql(create).execute(&mut admin).await.unwrap();
        let shop = Self { server, database, dir: TempDir::new().unwrap() };
        shop.run(MYSQL_SHOP).await;
        shop.configure(&shop.url(), configuration);
        Some(shop)
    }

    /// Returns the URL of root.
    pub fn url(&self) -> String {
        self.server.url(&self.database)
    }

    /// Names the database by `url` from now on.
    pub fn configure(&self, url: &str, configuration: &str) {
        let text = format!("[database.connections.shop]\nurl = '{url}'\n{configuration}");
        fs::write(self.dir.path().join("tollgate.toml"), text).unwrap();
    }

    /// Opens a connection of root.
    pub async fn connect(&self) -> MySqlConnection {
        MySqlConnection::connect(&self.url()).await.unwrap()
    }

    /// Runs statements behind the server's back.
    pub async fn run(&self, sql: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Makes an account that may do nothing but SELECT, and returns its URL.
    pub async fn reader(&self) -> String {
        let Self { database, .. } = self;
        let role = format!("reader_{database}");
        self.run(&format!("CREATE USER {role}@localhost; GRANT SELECT ON {database}.* TO {role}@localhost")).await;
        self.server.url_of(&role, database)
    }

    /// Starts `mcp-database` on it.
    pub fn start(&self) -> McpProcess {
        McpProcess::start("mcp-database", self.dir.path(), &[], &[])
    }

    /// Everything that a statement might change: rows, sequences, objects, settings, accounts, plugins, files.
    pub async fn state(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        let state = self.state_by(&mut connection).await;
        connection.close().await.unwrap();
        state
    }

    /// The same, asked with a connection that is there already.
    pub async fn state_by(&self, connection: &mut MySqlConnection) -> Vec<String> {
        const PARTS: &[&str] = &[
            "SELECT GROUP_CONCAT(CONCAT_WS(' ', TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_COMMENT) ORDER BY 1) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()",
            "SELECT GROUP_CONCAT(CONCAT_WS(' ', TABLE_NAME, COLUMN_NAME, COLUMN_TYPE) ORDER BY 1) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()",
            "SELECT GROUP_CONCAT(CONCAT_WS(' ', TABLE_NAME, VIEW_DEFINITION) ORDER BY 1) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = DATABASE()",
            "SELECT GROUP_CONCAT(CONCAT(ROUTINE_NAME, ROUTINE_TYPE) ORDER BY 1) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE()",
            "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()",
            "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()",
            "SELECT GROUP_CONCAT(CONCAT(VARIABLE_NAME, VARIABLE_VALUE) ORDER BY 1) FROM information_schema.GLOBAL_VARIABLES WHERE VARIABLE_NAME NOT LIKE 'gtid%'",
            "SELECT GROUP_CONCAT(SCHEMA_NAME ORDER BY 1) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT LIKE 'shop%'",
            "SELECT GROUP_CONCAT(CONCAT(User, Host, Priv) ORDER BY 1) FROM mysql.global_priv WHERE User NOT LIKE 'reader%'",
            "SELECT CAST(COUNT(*) AS CHAR) FROM mysql.plugin",
            "SELECT CAST(COUNT(*) AS CHAR) FROM mysql.func",
            "SELECT CAST(COUNT(*) AS CHAR) FROM mysql.servers",
        ];
        sqlx::raw_sql("SET SESSION group_concat_max_len = 1000000").execute(&mut *connection).await.unwrap();
        let mut state = Vec::new();
        for part in PARTS {
            let row = sqlx::query(*part).fetch_one(&mut *connection).await.unwrap();
            let bytes: Option<Vec<u8>> = row.try_get_unchecked(0).unwrap();
            state.push(format!("{part}: {:?}", bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())));
        }
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT CAST(TABLE_NAME AS CHAR) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE IN ('BASE TABLE', 'SEQUENCE') ORDER BY 1",
        )
        .fetch_all(&mut *connection)
        .await
        .unwrap();
        let quoted: Vec<String> = tables.iter().map(|name| format!("`{name}`")).collect();
        let sums = AssertSqlSafe(format!("CHECKSUM TABLE {}", quoted.join(", ")));
        for row in sqlx::raw_sql(sums).fetch_all(&mut *connection).await.unwrap() {
            state.push(format!("{}: {:?}", row.get::<String, _>(0), row.get::<Option<i64>, _>(1)));
        }
        for folder in
            [Some(PathBuf::from("/tmp")), self.server.folder().map(|folder| folder.join("data").join(&self.database))]
        {
            let names = folder.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
            let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().display().to_string()).collect();
            names.retain(|name| name.contains("attack"));
            state.extend(names);
        }
        state
    }

    /// How many queries of this database's users the server works on.
    pub async fn at_work(&self) -> i64 {
        let mut connection = self.connect().await;
        let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND COMMAND <> 'Sleep' AND ID <> CONNECTION_ID()";
        sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
    }
}
