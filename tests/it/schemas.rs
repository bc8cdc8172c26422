//! What tools say about themselves, and whether their answers keep to it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_tests::mcp_process::McpProcess;
use tollgate_tests::world::repository_root;

const SERVERS: [&str; 4] = ["mcp-ralph", "mcp-git", "mcp-database", "mcp-deploy"];

/// Four bytes a token is what English and JSON come to with the tokenizers of today's models.
const SCHEMA_BYTES_MAX: usize = 3_000 * 4;

fn start(name: &str) -> (TempDir, McpProcess) {
    let folder = tempfile::tempdir().unwrap();
    let server = McpProcess::start(name, folder.path(), &[], &[]);
    (folder, server)
}

/// Calls `visit` with every schema in `schema`, itself included.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&Value, &str)) {
    visit(schema, path);
    match schema {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| walk(value, &format!("{path}/{name}"), visit)),
        Value::Array(items) => items.iter().for_each(|value| walk(value, path, visit)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_is_described_flat_short_and_honest() {
    for name in SERVERS {
        let (_folder, server) = start(name);
        let tools = server.tools().await;
        let mut bytes = 0;
        for tool in &tools {
            let tool_name = tool["name"].as_str().unwrap();
            assert!(tool_name.len() <= 40, "{tool_name}");
            assert!(
                tool["title"].is_string() && tool["description"].as_str().is_some_and(|text| text.len() > 20),
                "{tool}"
            );
            for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
                assert!(tool["annotations"][hint].is_boolean(), "{tool_name} {hint}");
            }
            assert!(tool["_meta"]["io.tollgate/price"]["currency"].is_string(), "{tool_name} has no price");
            assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool_name} takes unknown arguments");
            for (argument, schema) in tool["inputSchema"]["properties"].as_object().into_iter().flatten() {
                assert!(schema["description"].is_string(), "{tool_name}.{argument} is not described");
            }
            for schema in ["inputSchema", "outputSchema"] {
                assert_eq!(tool[schema]["type"], "object", "{tool_name}");
                jsonschema::meta::validate(&tool[schema]).unwrap();
                for root in ["oneOf", "anyOf", "allOf"] {
                    assert!(tool[schema].get(root).is_none(), "{tool_name} {schema} has {root}");
                }
                walk(&tool[schema], tool_name, &mut |part, path| {
                    assert!(part.get("$ref").is_none() && part.get("$defs").is_none(), "{path} is not flat");
                });
            }
            bytes += tool_name.len() + tool["description"].to_string().len() + tool["inputSchema"].to_string().len();
        }
        assert!(bytes <= SCHEMA_BYTES_MAX, "{name}: names, descriptions and input schemas are {bytes} bytes");
        let names: BTreeSet<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
        assert_eq!(names.len(), tools.len());
        assert!(names.contains("cost_report"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_refusals_keep_to_the_output_schema() {
    for name in SERVERS {
        let (_folder, server) = start(name);
        for tool in server.tools().await {
            let tool_name = tool["name"].as_str().unwrap().to_owned();
            let validator = jsonschema::validator_for(&tool["outputSchema"]).unwrap();
            for arguments in [json!({}), json!({"no_such_argument": 1})] {
                let called = server.call(&tool_name, arguments.clone()).await;
                let errors: Vec<String> =
                    validator.iter_errors(&called.structured).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{tool_name} {arguments}: {errors:?} in {}", called.structured);
                assert_eq!(called.structured["cost_usd"].as_str(), Some(called.receipt.amount.to_string().as_str()));
                assert_eq!(called.structured["cached"], called.receipt.cached);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_keep_to_their_schema() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(repository_root().join("schemas/receipt.json")).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let (_folder, server) = start("mcp-ralph");
    for (tool, arguments) in [
        ("verify_file", json!({"path": "a.py", "content": "x = 1\n"})),
        ("verify_file", json!({"path": "a.py", "content": "x = 1\n"})),
        ("verify_file", json!({"path": "/etc/passwd"})),
        ("list_checks", json!({})),
    ] {
        let answer = server.request("tools/call", json!({"name": tool, "arguments": arguments})).await;
        let receipt = &answer["result"]["_meta"]["io.tollgate/receipt"];
        let errors: Vec<String> = validator.iter_errors(receipt).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {receipt}");
    }
}

/// The files of schemas/ are what the servers answer: `cargo xtask schemas` writes them, `--check` compares.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_schemas_are_what_the_servers_list() {
    for name in SERVERS {
        let (_folder, server) = start(name);
        let folder = repository_root().join("schemas").join(name.trim_start_matches("mcp-"));
        let mut files: BTreeSet<String> = fs::read_dir(&folder)
            .unwrap_or_else(|_| panic!("{} is missing: run `cargo xtask schemas`", folder.display()))
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        for tool in server.tools().await {
            let file = format!("{}.json", tool["name"].as_str().unwrap());
            // Every server has this one, made by the house.
            if file == "cost_report.json" {
                continue;
            }
            assert!(files.remove(&file), "schemas/ has no {name} {file}: run `cargo xtask schemas`");
            let written: Value = serde_json::from_str(&fs::read_to_string(folder.join(&file)).unwrap()).unwrap();
            assert_eq!(written, tool, "{name} {file} is not up to date: run `cargo xtask schemas`");
        }
        assert!(files.is_empty(), "schemas of tools that {name} does not have: {files:?}");
    }
}

/// What is said here of the configuration holds for every server: checked, masked, and wrong keys named.
#[test]
fn configuration_is_checked_with_secrets_masked() {
    let folder = tempfile::tempdir().unwrap();
    let check = |program: &str, text: &str| {
        fs::write(folder.path().join("tollgate.toml"), text).unwrap();
        std::process::Command::new(tollgate_tests::world::program(program))
            .arg("--check-config")
            .current_dir(folder.path())
            .env_remove("TOLLGATE_CONFIG")
            .env("SHOP_URL", "sqlite:secret-name.db")
            .output()
            .unwrap()
    };
    let good = check("mcp-database", "[database.connections.shop]\nurl = \"${SHOP_URL}\"\n");
    let said = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success() && said.contains("${SHOP_URL}") && !said.contains("secret-name"), "{said}");
    for (program, text, expected) in [
        ("mcp-git", "[git]\nprotected_branch = [\"main\"]\n", "protected_branches"),
        ("mcp-ralph", "[ralph]\nroot = [\".\"]\n", "roots"),
        ("mcp-database", "[database.connections.shop]\nurl = \"${NOT_SET_ANYWHERE}\"\n", "NOT_SET_ANYWHERE"),
        ("mcp-deploy", "[deploy.environments.dev]\napproval = 1\n", "approvals"),
        ("mcp-git", "[gti]\n", "git"),
        ("mcp-git", "[git\n", "not valid TOML"),
        ("mcp-git", "[prices]\n\"git.commit\" = \"-1\"\n", "git.commit"),
        ("mcp-git", "[prices]\n\"git.comit\" = \"1\"\n", "git.commit"),
    ] {
        let wrong = check(program, text);
        let said = String::from_utf8_lossy(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(2), "{program} took {text}");
        assert!(said.contains(expected), "{program} {text}: {said}");
        assert!(wrong.stdout.is_empty());
    }
}
