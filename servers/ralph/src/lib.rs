//! mcp-ralph: verification with content-hash caching.
//!
//! A file is [read](roots) once, so that what was verified is what was read; each [`check`] is a function of
//! that content alone, so its result is [cached](cache) by the content's hash; [`verify`] puts both together
//! and counts what it costs. Only `pass` is a pass: what could not be checked says so.

pub mod baseline;
pub mod cache;
pub mod changes;
pub mod check;
pub mod cli;
pub mod client;
pub mod command;
pub mod config;
pub mod language;
pub mod repository;
pub mod roots;
pub mod sarif;
pub mod secrets;
pub mod tools;
pub mod verify;
pub mod workers;

use std::sync::Arc;
use std::time::Duration;

use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::serve::tool::Toolbox;
use tollgate_shared::serve::{Server, Startup};

use cache::ResultCache;
use check::security::user::UserRules;
use check::syntax::Limits;
use command::run::Commands;
use config::RalphConfig;
use roots::Roots;
use workers::Workers;

/// The verifier: where files may be, what is remembered, how much is done at a time.
pub struct Ralph {
    /// The folders that files may be in.
    pub roots: Arc<Roots>,
    /// What checks found before.
    pub cache: ResultCache,
    /// What one parse may take.
    pub limits: Limits,
    /// Where checks run.
    pub workers: Workers,
    /// What tells one configuration from another in the records of verified trees.
    pub rules: ContentHash,
    /// The operator's own rules.
    pub user_rules: Arc<UserRules>,
    /// What changes are compared with, where the operator says so.
    pub base: Option<String>,
    /// The operator's own commands.
    pub commands: Commands,
}

impl Server for Ralph {
    const NAME: &'static str = "ralph";
    const PROGRAM: &'static str = "mcp-ralph";
    const TITLE: &'static str = "Tollgate Ralph";
    const INSTRUCTIONS: &'static str = "Ralph decides whether a change may go on. pass: verified, go on. fail: fix what \
        the findings say and verify again. blocked: stop, a human decides. skipped and inconclusive: nothing was \
        verified, this is not a pass. Verify each file after changing it; unchanged content costs nothing.";

    type Config = RalphConfig;

    fn new(config: RalphConfig, startup: &Startup) -> anyhow::Result<Self> {
        let limits =
            Limits { bytes_max: config.file_bytes_max, duration_max: Duration::from_millis(config.parse_timeout_ms) };
        let roots = Roots::new(&startup.workspace, &config.roots)?;
        let commands = config.commands.iter().map(|(name, settings)| settings.resolve(name));
        let readable = config.readable.iter().map(|path| startup.workspace.join(path)).collect();
        let state = startup.state_dir.path().to_owned();
        let untrusted = config.roots.iter().map(|root| startup.workspace.join(root)).chain([startup.workspace.clone()]);
        let untrusted = untrusted.map(|path| path.canonicalize().unwrap_or(path)).collect();
        let commands =
            Commands::new(commands.collect::<anyhow::Result<_>>()?, config.sandbox, readable, untrusted, state);
        Ok(Self {
            commands,
            user_rules: Arc::new(UserRules::load(&startup.workspace, &config.rules)?),
            base: config.base,
            roots: Arc::new(roots),
            cache: ResultCache::new(startup.state_dir.clone(), config.cache_entries_max),
            limits,
            workers: Workers::default(),
            rules: startup.ralph_rules,
        })
    }

    fn tools() -> Toolbox<Self> {
        Toolbox::new(vec![
            tools::verify_file::tool(),
            tools::verify_batch::tool(),
            tools::verify_changes::tool(),
            tools::list_checks::tool(),
            tools::clear_cache::tool(),
        ])
    }
}
