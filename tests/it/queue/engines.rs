//! The queue on each engine that it can be on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orchestrator::queue::config::QueueConfig;
use orchestrator::queue::file::{Batch, Item};
use orchestrator::queue::store::{ImportOrder, Imported, Queue, QueueError};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;
use tollgate_shared::state_dir::StateDir;
use tollgate_tests::database_servers;

/// Long enough that no test outlives it.
pub const LEASE: Duration = Duration::from_secs(600);

/// A queue of one test's own.
pub struct Engine {
    pub name: &'static str,
    pub config: QueueConfig,
    pub state: StateDir,
    _dir: TempDir,
}

impl Engine {
    /// Every engine that there is on this machine.
    pub async fn all() -> Vec<Self> {
        let mut engines = vec![Self::of("sqlite", None)];
        engines.extend(postgres_url().await.map(|url| Self::of("postgres", Some(url))));
        engines
    }

    fn of(name: &'static str, url: Option<String>) -> Self {
        let dir = TempDir::new().unwrap();
        let state = StateDir::choose(None, dir.path());
        Self { name, config: QueueConfig { url, ..QueueConfig::default() }, state, _dir: dir }
    }

    /// Carries out statements in one transaction behind its back, with a while between them and its end.
    pub async fn execute(&self, statements: &[String], before_end: Duration) {
        if let Some(url) = &self.config.url {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let mut step = connection.begin().await.unwrap();
            for statement in statements {
                sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut *step).await.unwrap();
            }
            tokio::time::sleep(before_end).await;
            step.commit().await.unwrap();
        } else {
            let path = self.state.path().join("queue.db");
            let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
            let mut step = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
            for statement in statements {
                sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut *step).await.unwrap();
            }
            tokio::time::sleep(before_end).await;
            step.commit().await.unwrap();
        }
    }

    /// Opens it, as each process does.
    pub async fn open(&self) -> Queue {
        Queue::open(&self.config, &self.state).await.unwrap()
    }
}

/// A new database on the server of the tests.
pub async fn postgres_url() -> Option<String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = database_servers::postgres()?;
    let name = format!("queue_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(&server.url("postgres")).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    Some(server.url(&name))
}

/// A task of those fields, and what every task has.
pub fn task(id: &str, fields: Value) -> Value {
    let mut body =
        json!({"id": id, "description": format!("do {id}"), "status": "pending", "priority": "P2", "type": "bug"});
    let Value::Object(fields) = fields else { panic!("{fields} is no object") };
    for (name, value) in fields {
        body[name] = value;
    }
    body
}

/// Adds tasks.
pub async fn add(queue: &Queue, tasks: &[Value]) -> Result<Imported, QueueError> {
    let item = |body: &Value| {
        let body = body.as_object().unwrap().clone();
        Item { task: serde_json::from_value(Value::Object(body.clone())).unwrap(), body, feature: None }
    };
    let batch = Batch { items: tasks.iter().map(item).collect(), ..Batch::default() };
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let id = format!("import-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let order = ImportOrder { id: &id, source: "test", backup: "", changes: false, try_only: false };
    queue.import(&batch, &order).await
}
