//! What costs too much stops work until a person says otherwise; what fails too often is told: the same on every engine.

use std::time::Duration;

use jiff::Timestamp;
use orchestrator::queue::alarm::{AlarmName, AlertConfig};
use orchestrator::queue::lease::{Lease, Settlement};
use orchestrator::queue::store::{Queue, QueueError};
use serde_json::json;
use tollgate_shared::money::Money;

use super::engines::{Engine, LEASE, add, task};

fn usd(text: &str) -> Money {
    text.parse().unwrap()
}

fn engine(engine: Engine, alerts: AlertConfig) -> Engine {
    let mut engine = engine;
    engine.config.alerts = alerts;
    engine
}

async fn names(queue: &Queue) -> Vec<AlarmName> {
    queue.alarms().await.unwrap().into_iter().map(|alarm| alarm.name).collect()
}

/// What was told of alarms, in order.
async fn told(queue: &Queue) -> Vec<String> {
    let mut follower = queue.follow(Timestamp::UNIX_EPOCH);
    let mut told = Vec::new();
    loop {
        let events = follower.next().await.unwrap();
        if events.is_empty() {
            return told;
        }
        let alerts = events.into_iter().filter(|event| event.kind.as_str() == "alert");
        told.extend(alerts.map(|event| format!("{} {}", event.what, event.task)));
    }
}

/// Claims the next task and begins an attempt, by a team or by one agent.
async fn attempt(queue: &Queue, decision: &str) -> Lease {
    let lease = queue.claim("w", "here", LEASE).await.unwrap().unwrap();
    queue.route(&lease, &json!({"decision": decision, "reason": "r"})).await.unwrap();
    queue.attach(&lease, &format!("s-{}", lease.entry.token), "here").await.unwrap();
    lease
}

/// Has the next task end after one attempt, by a team or by one agent.
async fn end(queue: &Queue, decision: &str, settlement: &Settlement, cost: &str) {
    let lease = attempt(queue, decision).await;
    queue.settle(&lease, settlement, usd(cost)).await.unwrap();
}

fn blocked() -> Settlement {
    Settlement::Blocked("no".into())
}

fn again() -> Settlement {
    Settlement::Again("no".into())
}

fn completed() -> Settlement {
    Settlement::Completed { branch: "b".into(), commit: "c".into() }
}

#[tokio::test]
async fn a_day_that_costs_too_much_stops_work_until_a_person_resets_it() {
    for one in Engine::all().await {
        let engine = engine(one, AlertConfig { day_usd: usd("1"), ..AlertConfig::default() });
        let queue = engine.open().await;
        let tasks: Vec<_> = ["a", "b", "c", "d"].iter().map(|id| task(id, json!({}))).collect();
        add(&queue, &tasks).await.unwrap();
        let (a, b) = (attempt(&queue, "single").await, attempt(&queue, "single").await);
        let gone = queue.claim("gone", "here", Duration::ZERO).await.unwrap().unwrap();
        queue.spend(&a, usd("0.6"), usd("5")).await.unwrap();
        // What is said twice, or less than before, is spent once.
        queue.spend(&a, usd("0.6"), usd("5")).await.unwrap();
        queue.spend(&a, usd("0.2"), usd("5")).await.unwrap();
        queue.spend(&b, usd("0.4"), usd("5")).await.unwrap();
        assert_eq!((queue.spent_today().await.unwrap(), names(&queue).await), (usd("1"), vec![]), "{}", engine.name);
        queue.settle(&b, &completed(), usd("0.400001")).await.unwrap();
        assert_eq!(names(&queue).await, [AlarmName::DayCost], "{}", engine.name);
        // Neither what is new nor what was begun is claimed, by nobody; what is under way goes on.
        for worker in [&queue, &engine.open().await] {
            assert!(worker.claim("w", "here", LEASE).await.unwrap().is_none(), "{}", engine.name);
        }
        queue.renew("a", a.entry.token, LEASE).await.unwrap();
        queue.settle(&a, &completed(), usd("0.7")).await.unwrap();
        assert_eq!(queue.spent_today().await.unwrap(), usd("1.100001"), "{}", engine.name);

        assert_eq!(queue.reset(&[AlarmName::TaskCost], "ann").await.unwrap(), [], "{}", engine.name);
        assert!(queue.claim("w", "here", LEASE).await.unwrap().is_none());
        let reset = queue.reset(&[AlarmName::DayCost, AlarmName::TaskCost], "ann").await.unwrap();
        assert!(reset.len() == 1 && reset[0].note.contains("$1.000001"), "{reset:?}");
        let next = queue.claim("w", "here", LEASE).await.unwrap().unwrap();
        assert_eq!(next.entry.task.id, gone.entry.task.id, "{}", engine.name);
        // Once more only when as much again is spent.
        queue.attach(&next, "s", "here").await.unwrap();
        queue.spend(&next, usd("0.899999"), usd("5")).await.unwrap();
        assert_eq!(names(&queue).await, [], "{}", engine.name);
        queue.spend(&next, usd("0.9"), usd("5")).await.unwrap();
        assert_eq!(names(&queue).await, [AlarmName::DayCost], "{}", engine.name);
        assert_eq!(told(&queue).await, ["day_cost b", "reset ", "day_cost c"], "{}", engine.name);
    }
}

#[tokio::test]
async fn a_task_that_costs_too_much_stops_work_over_all_its_attempts() {
    for one in Engine::all().await {
        let engine = engine(one, AlertConfig { task_usd: usd("2"), day_usd: usd("0"), ..AlertConfig::default() });
        let queue = engine.open().await;
        add(&queue, &[task("a", json!({"priority": "P0"})), task("b", json!({}))]).await.unwrap();
        end(&queue, "single", &again(), "1.5").await;
        let lease = attempt(&queue, "single").await;
        queue.spend(&lease, usd("0.5"), usd("5")).await.unwrap();
        assert_eq!(names(&queue).await, [], "{}", engine.name);
        queue.spend(&lease, usd("0.51"), usd("5")).await.unwrap();
        assert_eq!(names(&queue).await, [AlarmName::TaskCost], "{}", engine.name);
        assert!(queue.claim("w", "here", LEASE).await.unwrap().is_none());
        // Whoever takes a task away keeps what its attempt cost.
        queue.cancel("a", "too dear").await.unwrap();
        let entry = queue.find("a").await.unwrap().unwrap();
        assert_eq!((entry.cost_usd, entry.spent_usd), (usd("2.01"), usd("2.01")), "{}", engine.name);
        queue.reset(&[AlarmName::TaskCost], "ann").await.unwrap();
        assert_eq!(attempt(&queue, "single").await.entry.task.id, "b", "{}", engine.name);
        let all = queue.follow(Timestamp::UNIX_EPOCH).next().await.unwrap();
        let ended: Vec<_> =
            all.iter().filter(|event| event.what == "attempt_ended").map(|event| event.cost_usd).collect();
        assert_eq!(ended, [Some(usd("1.5")), Some(usd("0.51"))], "{}", engine.name);
    }
}

#[tokio::test]
async fn rates_are_told_once_and_clear_by_themselves() {
    for one in Engine::all().await {
        let alerts = AlertConfig { window: 4, window_min: 2, failure_percent_max: 25, ..AlertConfig::default() };
        let engine = engine(one, alerts);
        let queue = engine.open().await;
        let tasks: Vec<_> = (0..8).map(|number| task(&format!("t{number}"), json!({}))).collect();
        add(&queue, &tasks).await.unwrap();
        let mut seen = Vec::new();
        // A person's tasks are nobody's failure, and one that fails alone is no rate.
        let ends = ["blocked", "person", "completed", "completed", "completed", "completed", "blocked", "blocked"];
        for ended in ends {
            let settlement = match ended {
                "completed" => completed(),
                "blocked" => blocked(),
                _ => Settlement::NeedsPerson("yours".into()),
            };
            end(&queue, "single", &settlement, "0").await;
            seen.push(!names(&queue).await.is_empty());
        }
        assert_eq!(seen, [false, false, true, true, false, false, false, true], "{}", engine.name);
        assert_eq!(told(&queue).await, ["failure_rate ", "cleared ", "failure_rate "], "{}", engine.name);
        assert!(queue.claim("w", "here", LEASE).await.unwrap().is_none(), "all are done");
        add(&queue, &[task("more", json!({}))]).await.unwrap();
        // Rates stop nobody.
        for _ in 0..3 {
            end(&queue, "single", &again(), "0").await;
        }
        assert_eq!(names(&queue).await, [AlarmName::FailureRate], "attempts with others to come are no failures yet");
    }
}

#[tokio::test]
async fn tasks_that_need_more_than_one_attempt_are_told() {
    for one in Engine::all().await {
        let engine = engine(one, AlertConfig { window: 4, window_min: 2, ..AlertConfig::default() });
        let queue = engine.open().await;
        add(&queue, &[task("a", json!({})), task("b", json!({})), task("c", json!({}))]).await.unwrap();
        for _ in 0..3 {
            end(&queue, "single", &again(), "0").await;
            end(&queue, "single", &completed(), "0").await;
        }
        assert_eq!(told(&queue).await, ["retry_rate "], "{}", engine.name);
    }
}

#[tokio::test]
async fn teams_that_complete_too_little_or_cost_too_much_are_turned_off() {
    for cost in ["0", "3.01"] {
        for one in Engine::all().await {
            let alerts = AlertConfig {
                window: 4,
                window_min: 3,
                team_success_percent_min: 50,
                team_cost_usd_max: usd("3"),
                failure_percent_max: 100,
                retry_percent_max: 100,
                ..AlertConfig::default()
            };
            let engine = engine(one, alerts);
            let queue = engine.open().await;
            let tasks: Vec<_> = (0..12).map(|number| task(&format!("t{number}"), json!({}))).collect();
            add(&queue, &tasks).await.unwrap();
            // Neither does a task say anything about teams that they never began with, nor what one agent does.
            for _ in 0..3 {
                let lease = queue.claim("w", "here", LEASE).await.unwrap().unwrap();
                queue.route(&lease, &json!({"decision": "team", "reason": "r"})).await.unwrap();
                queue.settle(&lease, &Settlement::Blocked("no budget".into()), Money::ZERO).await.unwrap();
            }
            for _ in 0..3 {
                end(&queue, "single", &blocked(), "9").await;
            }
            for number in 0..3 {
                assert_eq!(queue.teams_off().await.unwrap(), None, "{} {number}", engine.name);
                let lease = attempt(&queue, "team").await;
                if cost == "0" && number != 1 {
                    // One agent did it: the task is done, the team failed.
                    let routing = json!({"decision": "team", "fallback": true, "reason": "r"});
                    queue.route(&lease, &routing).await.unwrap();
                }
                queue.settle(&lease, &completed(), usd(cost)).await.unwrap();
            }
            let off = queue.teams_off().await.unwrap().unwrap();
            let expected = if cost == "0" { "completed 1 of their last 3" } else { "cost $3.01 on average" };
            assert!(off.contains(expected), "{off}");
            assert!(queue.claim("w", "here", LEASE).await.unwrap().is_some(), "others go on");
            // A person lets them again, and they begin anew.
            queue.reset(&[AlarmName::TeamRollout], "ann").await.unwrap();
            end(&queue, "team", &blocked(), "9").await;
            assert_eq!(queue.teams_off().await.unwrap(), None, "{}", engine.name);
        }
    }
}

#[tokio::test]
async fn eight_workers_never_lose_a_cent_of_a_day() {
    for one in Engine::all().await {
        let engine = engine(one, AlertConfig { day_usd: usd("0"), ..AlertConfig::default() });
        let queue = engine.open().await;
        let tasks: Vec<_> = (0..8).map(|number| task(&format!("t{number}"), json!({}))).collect();
        add(&queue, &tasks).await.unwrap();
        let mut workers = Vec::new();
        for _ in 0..8 {
            let queue = engine.open().await;
            workers.push(tokio::spawn(async move {
                let lease = attempt(&queue, "single").await;
                for cents in 1..=20_u64 {
                    // One that waits too long for the others is not written down, and is with the next.
                    let spent = queue.spend(&lease, usd("0.01").times(cents), usd("5")).await;
                    assert!(matches!(spent, Ok(()) | Err(QueueError::Statement(_))), "{spent:?}");
                }
                queue.settle(&lease, &completed(), usd("0.21")).await.unwrap();
            }));
        }
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!(queue.spent_today().await.unwrap(), usd("1.68"), "{}", engine.name);
    }
}

#[tokio::test]
async fn letting_teams_again_forgets_no_task_that_failed() {
    for one in Engine::all().await {
        let engine = engine(one, AlertConfig { window: 4, window_min: 2, ..AlertConfig::default() });
        let queue = engine.open().await;
        add(&queue, &[task("a", json!({})), task("b", json!({})), task("c", json!({}))]).await.unwrap();
        for _ in 0..2 {
            end(&queue, "team", &blocked(), "0").await;
        }
        assert_eq!(names(&queue).await, [AlarmName::FailureRate, AlarmName::TeamRollout], "{}", engine.name);
        queue.reset(&[AlarmName::TeamRollout], "ann").await.unwrap();
        end(&queue, "single", &completed(), "0").await;
        assert_eq!(names(&queue).await, [AlarmName::FailureRate], "{}: two of three are blocked", engine.name);
    }
}
