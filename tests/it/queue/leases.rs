//! Who gets which task when, and what those who lost theirs can still write: the same on every engine.

use std::collections::HashSet;
use std::time::Duration;

use orchestrator::queue::lease::Settlement;
use orchestrator::queue::store::{Queue, QueueError};
use orchestrator::queue::task::Status;
use serde_json::{Value, json};
use tollgate_shared::money::Money;

use super::engines::{Engine, LEASE, add, task};

/// The tasks in the order in which they are claimed, each completed before the next.
async fn drained(queue: &Queue) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(lease) = queue.claim("w", "here", LEASE).await.unwrap() {
        ids.push(lease.entry.task.id.clone());
        let done = Settlement::Completed { branch: "b".into(), commit: "c".into() };
        queue.settle(&lease, &done, Money::ZERO).await.unwrap();
    }
    ids
}

#[tokio::test]
async fn tasks_come_by_dependency_then_priority_then_age_then_order() {
    for engine in Engine::all().await {
        let queue = engine.open().await;
        let tasks = [
            task("late", json!({"priority": "P1", "created_at": "2026-02-01T00:00:00Z"})),
            task("early", json!({"priority": "P1", "created_at": "2026-01-01T00:00:00Z"})),
            task("low", json!({"priority": "P3"})),
            task("same-1", json!({"created_at": "2026-01-01T00:00:00Z"})),
            task("same-2", json!({"created_at": "2026-01-01T00:00:00Z"})),
            task("urgent-but-waits", json!({"priority": "P0", "depends_on": ["low", "early"]})),
            task("ready-because-done", json!({"priority": "P0", "depends_on": ["done"]})),
            task("done", json!({"status": "completed"})),
            task("blocked", json!({"status": "blocked", "priority": "P0"})),
            task("never", json!({"depends_on": ["blocked"], "priority": "P0"})),
        ];
        add(&queue, &tasks).await.unwrap();
        let expected = ["ready-because-done", "early", "late", "same-1", "same-2", "low", "urgent-but-waits"];
        assert_eq!(drained(&queue).await, expected, "{}", engine.name);
        assert_eq!(queue.find("never").await.unwrap().unwrap().open_dependencies, 1, "{}", engine.name);
        queue.retry("blocked").await.unwrap();
        assert_eq!(drained(&queue).await, ["blocked", "never"], "{}", engine.name);
    }
}

#[tokio::test]
async fn expired_lease_is_claimed_first_and_goes_on_from_its_checkpoint() {
    for engine in Engine::all().await {
        let queue = engine.open().await;
        add(&queue, &[task("low", json!({"priority": "P3"}))]).await.unwrap();
        let first = queue.claim("w1", "here", Duration::ZERO).await.unwrap().unwrap();
        queue.attach(&first, "session-1", "here").await.unwrap();
        queue.checkpoint(&first, "", "iteration", "1").await.unwrap();
        add(&queue, &[task("urgent", json!({"priority": "P0"}))]).await.unwrap();

        // What was begun elsewhere stays there: its working tree is nowhere else.
        let elsewhere = queue.claim("w2", "elsewhere", LEASE).await.unwrap().unwrap();
        assert_eq!(elsewhere.entry.task.id, "urgent", "{}", engine.name);
        let second = queue.claim("w2", "here", LEASE).await.unwrap().unwrap();
        let entry = &second.entry;
        assert_eq!(
            (entry.task.id.as_str(), entry.session.as_str(), entry.attempts, entry.lost),
            ("low", "session-1", 1, 1)
        );
        assert!(entry.token > first.entry.token);
        assert!(queue.claim("w3", "here", LEASE).await.unwrap().is_none(), "{}", engine.name);

        // Given back is not lost.
        queue.settle(&second, &Settlement::Released, Money::ZERO).await.unwrap();
        let third = queue.claim("w3", "here", LEASE).await.unwrap().unwrap();
        assert_eq!((third.entry.session.as_str(), third.entry.lost), ("session-1", 1), "{}", engine.name);
        let what: Vec<String> = queue.checkpoints("low").await.unwrap().into_iter().map(|point| point.what).collect();
        assert_eq!(what, ["attempt", "iteration", "released"], "{}", engine.name);
    }
}

#[tokio::test]
async fn every_write_with_an_old_token_is_refused_and_changes_nothing() {
    for engine in Engine::all().await {
        let queue = engine.open().await;
        add(&queue, &[task("a", json!({})), task("b", json!({"depends_on": ["a"]}))]).await.unwrap();
        let old = queue.claim("w1", "here", Duration::ZERO).await.unwrap().unwrap();
        let new = queue.claim("w2", "here", LEASE).await.unwrap().unwrap();
        let before = format!("{:?}", queue.find("a").await.unwrap());
        let history = queue.checkpoints("a").await.unwrap().len();
        let done = Settlement::Completed { branch: "b".into(), commit: "c".into() };
        let settlements = [
            done.clone(),
            Settlement::Blocked("x".into()),
            Settlement::NeedsPerson("x".into()),
            Settlement::Again("x".into()),
            Settlement::Released,
            Settlement::Deferred(1, "x".into()),
        ];
        let one = "1".parse().unwrap();
        let mut refused: Vec<Result<(), QueueError>> = vec![
            queue.renew("a", old.entry.token, LEASE).await.map(drop),
            queue.attach(&old, "s", "here").await,
            queue.route(&old, &json!({"reason": "r"})).await,
            queue.checkpoint(&old, "", "x", "y").await,
            queue.spend(&old, one, one).await,
        ];
        for settlement in &settlements {
            refused.push(queue.settle(&old, settlement, one).await);
        }
        for (number, result) in refused.iter().enumerate() {
            assert!(matches!(result, Err(QueueError::LeaseLost { .. })), "{} {number}: {result:?}", engine.name);
        }
        assert_eq!(format!("{:?}", queue.find("a").await.unwrap()), before, "{}", engine.name);
        assert_eq!(queue.checkpoints("a").await.unwrap().len(), history, "{}", engine.name);
        assert_eq!(queue.find("b").await.unwrap().unwrap().open_dependencies, 1, "{}", engine.name);

        // Beside them, whoever has it writes; once it is settled nobody does, with whatever token.
        queue.renew("a", new.entry.token, LEASE).await.unwrap();
        queue.settle(&new, &done, one).await.unwrap();
        assert!(matches!(queue.settle(&new, &done, one).await, Err(QueueError::LeaseLost { .. })));
        let b = queue.find("b").await.unwrap().unwrap();
        assert_eq!(b.open_dependencies, 0, "counted down once: {}", engine.name);
    }
}

#[tokio::test]
async fn people_take_tasks_away_and_give_them_back() {
    for engine in Engine::all().await {
        let queue = engine.open().await;
        add(&queue, &[task("a", json!({})), task("b", json!({}))]).await.unwrap();
        let lease = queue.claim("w1", "here", LEASE).await.unwrap().unwrap();
        queue.attach(&lease, "s", "here").await.unwrap();
        queue.block("a", "wrong").await.unwrap();
        let lost = queue.renew("a", lease.entry.token, LEASE).await;
        assert!(matches!(lost, Err(QueueError::LeaseLost { .. })), "{}", engine.name);
        let entry = queue.find("a").await.unwrap().unwrap();
        assert_eq!((entry.status, entry.reason.as_str()), (Status::Blocked, "wrong"));

        queue.retry("a").await.unwrap();
        let entry = queue.find("a").await.unwrap().unwrap();
        assert_eq!((entry.status, entry.attempts, entry.session.as_str()), (Status::Pending, 0, ""));
        queue.cancel("b", "no").await.unwrap();
        assert_eq!(drained(&queue).await, ["a"], "{}", engine.name);

        for (result, part) in [
            (queue.retry("a").await, "a is completed"),
            (queue.block("a", "x").await, "a is completed"),
            (queue.cancel("b", "x").await, "b is cancelled"),
            (queue.archive("b").await, "b is cancelled"),
            (queue.retry("zz").await, "no task zz"),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(part), "{}: {error}", engine.name);
        }
        queue.archive("a").await.unwrap();
        add(&queue, &[task("c", json!({"depends_on": ["a"]}))]).await.unwrap();
        assert_eq!(drained(&queue).await, ["c"], "archived is completed: {}", engine.name);
    }
}

#[tokio::test]
async fn imports_roll_back_until_a_worker_had_one_of_their_tasks() {
    for engine in Engine::all().await {
        let queue = engine.open().await;
        add(&queue, &[task("old", json!({}))]).await.unwrap();
        let first = add(&queue, &[task("a", json!({"depends_on": ["old"]})), task("b", json!({}))]).await.unwrap();
        let second = add(&queue, &[task("c", json!({"depends_on": ["b"]}))]).await.unwrap();
        let error = queue.roll_back_import(Some(&first.id)).await.unwrap_err().to_string();
        assert!(error.contains("c depend on"), "{error}");
        assert_eq!(queue.roll_back_import(None).await.unwrap(), (second.id, 1), "{}", engine.name);
        assert_eq!(queue.roll_back_import(Some(&first.id)).await.unwrap(), (first.id.clone(), 2));
        assert!(queue.roll_back_import(Some(&first.id)).await.is_err(), "once");
        assert_eq!(queue.ids().await.unwrap(), HashSet::from(["old".to_owned()]));
        queue.claim("w", "here", LEASE).await.unwrap().unwrap();
        let error = queue.roll_back_import(None).await.unwrap_err().to_string();
        assert!(error.contains("workers had old"), "{}: {error}", engine.name);
        assert_eq!(queue.ids().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn many_workers_at_once_get_each_task_once() {
    const TASKS: usize = 120;
    for engine in Engine::all().await {
        let queue = engine.open().await;
        let tasks: Vec<Value> = (0..TASKS).map(|number| task(&format!("t-{number}"), json!({}))).collect();
        add(&queue, &tasks).await.unwrap();
        let mut workers = Vec::new();
        for number in 0..4 {
            let queue = engine.open().await;
            workers.push(tokio::spawn(async move {
                let mut had = Vec::new();
                while let Some(lease) = queue.claim(&format!("w{number}"), "here", LEASE).await.unwrap() {
                    let done = Settlement::Completed { branch: String::new(), commit: String::new() };
                    queue.settle(&lease, &done, Money::ZERO).await.unwrap();
                    had.push(lease.entry.task.id.clone());
                }
                had
            }));
        }
        let mut had = Vec::new();
        for worker in workers {
            had.extend(worker.await.unwrap());
        }
        assert_eq!(had.len(), TASKS, "{}", engine.name);
        assert_eq!(had.into_iter().collect::<HashSet<_>>().len(), TASKS, "{}", engine.name);
    }
}
