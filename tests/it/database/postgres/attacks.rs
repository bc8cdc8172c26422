//! Statements that must not get through, and what is left as it was afterwards.

use serde_json::json;

use super::World;
use super::corpus::ATTACKS;

/// What a rule says no with; `query_failed` is the engine's own no, and neither a rule nor a proof of anything.
const REFUSALS: [&str; 6] =
    ["not_read_only", "multiple_statements", "not_parsed", "function_not_allowed", "table_not_allowed", "too_complex"];

#[tokio::test]
async fn attacks_are_refused_by_a_role_that_could_do_anything() {
    let Some(world) = World::new().await else { return };
    let server = world.start();
    let before = world.state().await;
    let mut wrong = Vec::new();
    for sql in ATTACKS {
        let called = server.call("query", json!({"sql": sql})).await;
        let code = called.structured["error"]["code"].as_str().unwrap_or("ok").to_owned();
        if !REFUSALS.contains(&code.as_str()) {
            wrong.push(format!("{sql}: {}", called.structured));
        }
        let validated = server.call("validate_query", json!({"sql": sql})).await;
        if validated.structured["verdict"] != "refused" {
            wrong.push(format!("validated: {sql}: {}", validated.structured));
        }
    }
    assert_eq!(world.state().await, before);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ATTACKS.len(), wrong.join("\n"));
    assert!(server.pollution().is_empty());
}
