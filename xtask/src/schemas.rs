//! `cargo xtask schemas`: the JSON Schemas of everything that others write or read.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use orchestrator::agent::acp::config::AgentsConfig;
use orchestrator::agent::script::Script;
use orchestrator::budget::BudgetConfig;
use orchestrator::config::{ForeignServers, OrchestratorConfig};
use orchestrator::gateway::policy::GatewayConfig;
use orchestrator::model::ModelsConfig;
use orchestrator::queue::config::QueueConfig;
use orchestrator::queue::task::Task;
use orchestrator::router::RouterConfig;
use orchestrator::team::TeamConfig;
use orchestrator::telemetry::TelemetryConfig;
use serde_json::{Value, json};
use tollgate_shared::audit::AuditEntry;
use tollgate_shared::config::schema::inlined;
use tollgate_shared::price::PriceList;
use tollgate_shared::receipt::Receipt;
use tollgate_shared::serve::{Server, Toolbox};

use tollgate_tests::world::repository_root;

/// Writes every schema, or with `check` fails when one is not what the types say.
pub fn run(check: bool) -> anyhow::Result<()> {
    let folder = repository_root().join("schemas");
    let mut stale = Vec::new();
    for (name, schema) in all() {
        let path = folder.join(name);
        let text = format!("{}\n", serde_json::to_string_pretty(&schema)?);
        if fs::read_to_string(&path).ok().as_deref() == Some(text.as_str()) {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
            continue;
        }
        fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if stale.is_empty() { Ok(()) } else { bail!("run `cargo xtask schemas`; not up to date: {}", stale.join(", ")) }
}

fn all() -> BTreeMap<PathBuf, Value> {
    let mut schemas = BTreeMap::from([
        (PathBuf::from("config.json"), config()),
        (PathBuf::from("receipt.json"), inlined::<Receipt>()),
        (PathBuf::from("audit-entry.json"), inlined::<AuditEntry>()),
        (PathBuf::from("script.json"), inlined::<Script>()),
        (PathBuf::from("task.json"), inlined::<Task>()),
    ]);
    tools::<mcp_ralph::Ralph>(&mut schemas);
    tools::<mcp_git::Git>(&mut schemas);
    tools::<mcp_database::Database>(&mut schemas);
    tools::<mcp_deploy::Deploy>(&mut schemas);
    schemas
}

/// Adds every tool of `S` as its `tools/list` shows it.
fn tools<S: Server>(schemas: &mut BTreeMap<PathBuf, Value>) {
    let toolbox: Toolbox<S> = S::tools();
    for tool in toolbox.iter() {
        let listed = tool.listed(&PriceList::default());
        schemas.insert(PathBuf::from(format!("{}/{}.json", S::NAME, tool.name())), json!(listed));
    }
}

fn config() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tollgate.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "prices": {
                "description": "Overrides of the price list: sku to price in US dollars, as text.",
                "type": "object",
                "additionalProperties": { "anyOf": [{ "type": "string" }, { "type": "object" }] },
            },
            "ralph": inlined::<<mcp_ralph::Ralph as Server>::Config>(),
            "git": inlined::<<mcp_git::Git as Server>::Config>(),
            "database": inlined::<<mcp_database::Database as Server>::Config>(),
            "deploy": inlined::<<mcp_deploy::Deploy as Server>::Config>(),
            "orchestrator": inlined::<OrchestratorConfig>(),
            "servers": inlined::<ForeignServers>(),
            "budget": inlined::<BudgetConfig>(),
            "gateway": inlined::<GatewayConfig>(),
            "models": inlined::<ModelsConfig>(),
            "agents": inlined::<AgentsConfig>(),
            "queue": inlined::<QueueConfig>(),
            "router": inlined::<RouterConfig>(),
            "team": inlined::<TeamConfig>(),
            "telemetry": inlined::<TelemetryConfig>(),
        },
    })
}
