//! `orchestrator hosts`: other programs' configurations, and back.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tollgate_tests::world::orchestrator;

fn hosts(world: &TempDir, arguments: &[&str]) -> Output {
    let home = world.path().join("home");
    let mut command = Command::new(orchestrator());
    command.arg("hosts").args(arguments).current_dir(world.path()).env("HOME", &home);
    command.env_remove("XDG_CONFIG_HOME").env_remove("CODEX_HOME").stdin(std::process::Stdio::null());
    command.output().unwrap()
}

fn world() -> TempDir {
    let world = tempfile::tempdir().unwrap();
    fs::write(world.path().join("tollgate.toml"), "[git]\nrepositories = [\".\"]\n").unwrap();
    world
}

fn written(world: &TempDir, path: &str) -> std::path::PathBuf {
    let path = world.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

const FILES: &[(&str, &str, &str)] = &[
    ("claude", ".mcp.json", "{\"mcpServers\": {\"other\": {\"command\": \"x\"}}}"),
    ("claude-user", "home/.claude.json", "{\"numStartups\": 7, \"mcpServers\": {}, \"projects\": {}}"),
    ("codex", "home/.codex/config.toml", "# mine\nmodel = \"o4\"\n\n[mcp_servers.other]\ncommand = \"x\"\n"),
    ("cursor", ".cursor/mcp.json", "{\"mcpServers\":{}}"),
    ("vscode", ".vscode/mcp.json", "{\"servers\": {}, \"inputs\": []}"),
    (
        "goose",
        "home/.config/goose/config.yaml",
        "# mine\nGOOSE_MODE: auto\nextensions:\n  memory:\n    enabled: true\n",
    ),
    ("gemini", ".gemini/settings.json", "{\"theme\": \"Default\"}"),
    ("opencode", "opencode.json", "{\"$schema\": \"https://opencode.ai/config.json\"}"),
    ("windsurf", "home/.codeium/windsurf/mcp_config.json", "{}"),
    ("zed", ".zed/settings.json", "{}"),
];

#[test]
fn every_host_is_shown_the_change_keeps_what_it_had_and_gets_it_back() {
    let world = world();
    for (host, file, before) in FILES {
        let path = written(&world, file);
        fs::write(&path, before).unwrap();
        let shown = hosts(&world, &["install", host]);
        let diff = String::from_utf8_lossy(&shown.stdout);
        assert_eq!(shown.status.code(), Some(1), "{host}: {diff}{}", String::from_utf8_lossy(&shown.stderr));
        assert!(diff.contains("tollgate") && diff.contains("serve") && diff.contains("--yes"), "{host}: {diff}");
        assert_eq!(fs::read_to_string(&path).unwrap(), *before, "{host}: nobody agreed");
        assert!(hosts(&world, &["install", host, "--yes"]).status.success(), "{host}");
        let after = fs::read_to_string(&path).unwrap();
        assert!(after.contains("orchestrator") && after.contains("tollgate.toml"), "{host}: {after}");
        assert!(hosts(&world, &["install", host, "--yes"]).status.success(), "{host}: twice is once");
        assert_eq!(fs::read_to_string(&path).unwrap(), after);
        assert!(hosts(&world, &["undo", host]).status.success(), "{host}");
        assert_eq!(fs::read_to_string(&path).unwrap(), *before, "{host}");
        assert!(!hosts(&world, &["undo", host]).status.success(), "{host}: there is nothing left to undo");
    }
}

#[test]
fn a_missing_file_is_made_and_unmade_and_servers_go_in_one_by_one() {
    let world = world();
    assert!(hosts(&world, &["install", "claude", "--servers", "git,ralph", "--yes"]).status.success());
    let path = world.path().join(".mcp.json");
    let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let servers = file["mcpServers"].as_object().unwrap();
    assert_eq!(servers.keys().collect::<Vec<_>>(), ["git", "ralph"]);
    let program = servers["git"]["command"].as_str().unwrap();
    assert!(program.ends_with("mcp-git") && Path::new(program).is_absolute(), "{program}");
    // Installed in two steps, undone in one.
    assert!(hosts(&world, &["install", "claude", "--gateway", "--yes"]).status.success());
    assert!(hosts(&world, &["undo", "claude"]).status.success());
    assert!(!path.exists());
    let unknown = hosts(&world, &["install", "claude", "--servers", "nobody", "--yes"]);
    assert!(!unknown.status.success() && !path.exists());
}

#[test]
fn what_somebody_else_wrote_is_not_undone_nor_overwritten() {
    let world = world();
    let path = written(&world, ".cursor/mcp.json");
    assert!(hosts(&world, &["install", "cursor", "--yes"]).status.success());
    let changed = fs::read_to_string(&path).unwrap().replace("mcpServers", "mcpServers2");
    fs::write(&path, &changed).unwrap();
    let refused = hosts(&world, &["undo", "cursor"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("changed since"), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), changed);
    for text in ["{ // comment\n}", "{\"mcpServers\": {\"tollgate\": {\"command\": \"mine\"}}}", "[]"] {
        fs::write(&path, text).unwrap();
        assert!(!hosts(&world, &["install", "cursor", "--yes"]).status.success(), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
