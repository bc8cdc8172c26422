//! mcp-database: read-only, guarded, parametrised queries.
//!
//! Three locks: the [`statement`] is parsed and only a read is let through; the [`connection`] is one that cannot
//! write and asks about every table and function again; and what is allowed is bounded in time, memory, rows and bytes.
//! The role of a server's connection is looked at too, and the log says when it could write.

pub mod base64;
pub mod cache;
pub mod config;
pub mod connection;
pub mod cursor;
pub mod mask;
pub mod parameters;
pub mod rows;
pub mod schema;
pub mod statement;
pub mod tools;

use tollgate_shared::serve::tool::Toolbox;
use tollgate_shared::serve::{Server, Startup};
use tollgate_shared::state_dir::StateDir;

use config::DatabaseConfig;
use connection::Connections;
use cursor::Seal;

/// The database server: the databases that agents may read.
#[derive(Debug)]
pub struct Database {
    /// The databases by name.
    pub connections: Connections,
    /// Where the state of this server is.
    pub state: StateDir,
    /// What cursors are sealed with.
    pub seal: Seal,
}

impl Server for Database {
    const NAME: &'static str = "database";
    const PROGRAM: &'static str = "mcp-database";
    const TITLE: &'static str = "Tollgate database";
    const INSTRUCTIONS: &'static str = "Read-only SQL. list_tables and describe_table show what there is, query runs one SELECT \
        with bound parameters. Anything that is not a read is refused; validate_query says why without running it.";

    type Config = DatabaseConfig;

    fn new(config: DatabaseConfig, startup: &Startup) -> anyhow::Result<Self> {
        Ok(Self {
            connections: Connections::new(&config, &startup.workspace)?,
            state: startup.state_dir.clone(),
            seal: Seal::default(),
        })
    }

    fn tools() -> Toolbox<Self> {
        tools::toolbox()
    }
}
