//! An approval is used once, whoever is killed between a vote and the end of what it is for.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sqlx::{Connection, SqliteConnection};
use tokio::process::Command;
use tokio::time::sleep;
use tollgate_tests::mcp_process::McpProcess;
use tollgate_tests::world::program;

use super::people::{PRODUCTION, People, request, terms};
use super::world::{World, dist, history};

/// Where a server is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    /// After the vote, before anybody asked again.
    BeforeTheCall,
    /// While it deploys, after so many milliseconds.
    InTheCall(u64),
    /// While the new release's health is checked.
    InTheCheck,
}

/// How many votes there are for a request, and whether it was used.
async fn recorded(world: &World, id: &str) -> (i64, bool) {
    let file = world.work().join(".tollgate/deploy.db");
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}?mode=ro", file.display())).await.unwrap();
    let votes = sqlx::query_scalar("SELECT count(*) FROM approval_vote WHERE deployment_id = ?").bind(id);
    let votes = votes.fetch_one(&mut connection).await.unwrap();
    let used = sqlx::query_scalar("SELECT used_at IS NOT NULL FROM approval_request WHERE deployment_id = ?").bind(id);
    let used = used.fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    (votes, used)
}

/// How often a deployment began.
async fn begun(server: &McpProcess, id: &str) -> usize {
    let history = server.ok("deployment_history", json!({"environment": "prod", "limit": 50})).await;
    let all = history["deployments"].as_array().unwrap();
    let one = all.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("{id} is not in {history}"));
    let steps: &Vec<Value> = one["transitions"].as_array().unwrap();
    steps.iter().filter(|step| step["event"] == "start").count()
}

/// Votes, and is killed after so many milliseconds.
async fn vote_and_be_killed(world: &World, id: &str, signature: &[u8], after_ms: u64) {
    let file = world.path("signature");
    std::fs::write(&file, signature).unwrap();
    let mut voting = Command::new(program("mcp-deploy"))
        .args(["approve", id, "--signature"])
        .arg(&file)
        .current_dir(world.work())
        .env_remove("TOLLGATE_CONFIG")
        .env_remove("TOLLGATE_STATE_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    sleep(Duration::from_millis(after_ms)).await;
    let _ = voting.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_is_used_once_whoever_is_killed() {
    let world = World::configured(PRODUCTION);
    let people = People::new(&["alice"]);
    people.let_approve(&world, &[("alice", "alice")]);
    let here = world.path("here");
    let mut seen = [0, 0];
    let times = [2, 10, 20, 30, 45, 60, 80, 110, 150, 200, 300, 450].map(Kill::InTheCall);
    for (round, kill) in [Kill::BeforeTheCall, Kill::InTheCheck].into_iter().chain(times).enumerate() {
        let version = format!("{round}.0");
        let pause = format!("touch {}; sleep 1", here.display());
        world.build("dist", &version, if kill == Kill::InTheCheck { &pause } else { "exit 0" });
        let mut server = world.start();
        let id = request(&server, &version).await;
        // Whoever votes dies as well: the vote is there or it is not, and voting again makes it one.
        let signature = people.sign("alice", "tollgate-deploy", &terms(&world, &id));
        vote_and_be_killed(&world, &id, &signature, 3 * round as u64).await;
        people.submit(&world, &id, &signature);
        assert_eq!(recorded(&world, &id).await, (1, false), "{kill:?}");
        if kill != Kill::BeforeTheCall {
            let deploying = server.try_call("deploy", dist("prod", &version), Map::new());
            let instant = async {
                match kill {
                    Kill::InTheCall(ms) => sleep(Duration::from_millis(ms)).await,
                    _ => {
                        while !here.exists() {
                            sleep(Duration::from_millis(2)).await;
                        }
                    }
                }
            };
            tokio::select! {
                _ = deploying => {}
                () = instant => {}
            }
        }
        server.kill().await;

        let server = world.start();
        let states = history(&server, "prod").await;
        let about = format!("{kill:?}: {states:?}");
        let (votes, used) = recorded(&world, &id).await;
        assert_eq!((votes, begun(&server, &id).await), (1, usize::from(used)), "{about}");
        assert!(kill != Kill::BeforeTheCall || !used, "{about}");
        assert!(kill != Kill::InTheCheck || used, "{about}");
        seen[usize::from(used)] += 1;

        // Asked again: what was not used is used now; what was used and came to nothing needs people anew.
        let was_live = states.contains(&format!("{version} live"));
        let again = server.call("deploy", dist("prod", &version)).await;
        match (used, was_live) {
            (false, _) => {
                assert_eq!(again.structured["state"], "live", "{about}: {}", again.structured);
                assert_eq!((&again.structured["id"], &again.structured["unchanged"]), (&json!(id), &json!(false)));
            }
            (true, true) => assert_eq!(again.structured["unchanged"], true, "{about}: {}", again.structured),
            (true, false) => {
                assert_eq!(again.structured["error"]["code"], "approval_required", "{about}: {}", again.structured);
                assert_ne!(again.structured["id"], id.as_str(), "{about}");
            }
        }
        let is_live = !again.is_error;
        assert_eq!(recorded(&world, &id).await, (1, true), "{about}");
        assert_eq!(begun(&server, &id).await, 1, "an approval was used twice: {about}");
        assert_eq!(world.current("prod").as_deref() == Some(version.as_str()), is_live, "{about}");
        let _ = std::fs::remove_file(&here);
    }
    eprintln!("killed before an approval was used {} times, and after it {} times", seen[0], seen[1]);
}
