//! What happened is written once, is missed by nobody who follows, and is not kept for ever: the same on every engine.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use orchestrator::queue::event::{Event, Follower};
use orchestrator::queue::lease::Settlement;
use orchestrator::queue::store::Queue;
use serde_json::{Value, json};
use tollgate_shared::money::Money;

use super::engines::{Engine, LEASE, add, task};

/// Everything that there is.
async fn all(queue: &Queue) -> Vec<Event> {
    rest(&mut queue.follow(Timestamp::UNIX_EPOCH)).await
}

async fn rest(follower: &mut Follower) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let next = follower.next().await.unwrap();
        if next.is_empty() {
            return events;
        }
        events.extend(next);
    }
}

/// The events about `id`, as "kind what".
async fn about(queue: &Queue, id: &str) -> Vec<String> {
    all(queue)
        .await
        .iter()
        .filter(|event| event.task == id)
        .map(|event| format!("{} {}", event.kind, event.what))
        .collect()
}

/// A statement that writes an event as if its transaction had done so `ago_ms` ago.
fn insert(now: i64, ago_ms: i64, end: &str, task: &str) -> String {
    let at = now - ago_ms;
    format!("INSERT INTO queue_event VALUES ('{at}-{end}', {at}, '{task}', '', 'task', 'late', '', '', 'null')")
}

fn usd(text: &str) -> Money {
    text.parse().unwrap()
}

#[tokio::test]
async fn what_happens_to_a_task_is_told_in_order_and_refused_writes_are_not() {
    for engine in Engine::all().await {
        let queue = engine.open().await;
        add(&queue, &[task("a", json!({}))]).await.unwrap();
        let old = queue.claim("w0", "here", Duration::ZERO).await.unwrap().unwrap();
        let lease = queue.claim("w1", "here", LEASE).await.unwrap().unwrap();
        assert!(queue.checkpoint(&old, "", "verdict", "x").await.is_err());
        assert!(queue.spend(&old, usd("1"), usd("1")).await.is_err());
        assert!(queue.settle(&old, &Settlement::Again("x".into()), Money::ZERO).await.is_err());

        queue.route(&lease, &json!({"reason": "worth it", "fallback": true})).await.unwrap();
        queue.attach(&lease, "s-1", "here").await.unwrap();
        queue.checkpoint(&lease, "", "iteration", "1").await.unwrap();
        queue.checkpoint(&lease, "testwriter", "iteration", "1").await.unwrap();
        // The warning comes at 80 % and once.
        for cost in ["3.999", "4", "4.5"] {
            queue.spend(&lease, usd(cost), usd("5")).await.unwrap();
        }
        queue.checkpoint(&lease, "", "verdict", "fail: again").await.unwrap();
        queue.settle(&lease, &Settlement::Again("not done".into()), usd("4.75")).await.unwrap();
        let lease = queue.claim("w1", "here", LEASE).await.unwrap().unwrap();
        queue.settle(&lease, &Settlement::NeedsPerson("yours".into()), Money::ZERO).await.unwrap();
        queue.retry("a").await.unwrap();
        let expected = [
            "task imported",
            "task claimed",
            "task claimed",
            "task routed",
            "fallback fallback",
            "task attempt",
            "iteration iteration",
            "specialist iteration",
            "cost_update spent",
            "cost_update spent",
            "cost_warning near_budget",
            "cost_update spent",
            "verdict verdict",
            "task failed",
            "cost_summary attempt_ended",
            "task claimed",
            "escalation needs_person",
            "task retried",
        ];
        assert_eq!(about(&queue, "a").await, expected, "{}", engine.name);

        let events = all(&queue).await;
        let of = |what: &str| events.iter().filter(|event| event.what == what).collect::<Vec<_>>();
        assert_eq!(of("attempt_ended")[0].cost_usd, Some(usd("4.75")));
        assert_eq!(of("attempt_ended")[0].data["outcome"], "failed");
        assert_eq!(of("attempt_ended")[0].data["task_usd"], "4.75");
        assert_eq!(of("near_budget")[0].note, "$4 of $5 are spent");
        assert_eq!(of("iteration")[1].member, "testwriter");
        assert_eq!((&of("claimed")[1].data["worker"], &of("claimed")[1].data["lost"]), (&json!("w1"), &json!(1)));
        let now = queue.now_ms().await.unwrap();
        assert!(events.iter().all(|event| (now - event.at.as_millisecond()).abs() < 120_000), "{}", engine.name);
        assert_eq!(queue.last_events(2).await.unwrap(), events[events.len() - 2..], "{}", engine.name);
    }
}

#[tokio::test]
async fn attempt_whose_end_nobody_counted_costs_what_was_written_down() {
    for engine in Engine::all().await {
        let queue = engine.open().await;
        add(&queue, &[task("a", json!({}))]).await.unwrap();
        let lease = queue.claim("w", "here", LEASE).await.unwrap().unwrap();
        queue.attach(&lease, "s", "here").await.unwrap();
        queue.spend(&lease, usd("1.5"), usd("5")).await.unwrap();
        queue.settle(&lease, &Settlement::Released, Money::ZERO).await.unwrap();
        assert_eq!(queue.find("a").await.unwrap().unwrap().cost_usd, Money::ZERO, "it goes on: {}", engine.name);
        let lease = queue.claim("w", "here", LEASE).await.unwrap().unwrap();
        queue.settle(&lease, &Settlement::Blocked("gone too often".into()), Money::ZERO).await.unwrap();
        assert_eq!(queue.find("a").await.unwrap().unwrap().cost_usd, usd("1.5"), "{}", engine.name);
    }
}

#[tokio::test]
async fn who_follows_misses_nothing_that_is_committed_late_and_sees_it_once() {
    for engine in Engine::all().await {
        let queue = engine.open().await;
        let mut follower = queue.follow(Timestamp::UNIX_EPOCH);
        add(&queue, &[task("a", json!({}))]).await.unwrap();
        assert_eq!(rest(&mut follower).await.len(), 1, "{}", engine.name);
        let now = queue.now_ms().await.unwrap();
        engine.execute(&[insert(now, 30_000, "a", "late-1")], Duration::ZERO).await;
        queue.cancel("a", "no").await.unwrap();
        engine.execute(&[insert(now, 50_000, "b", "late-2"), insert(now, 10, "c", "late-3")], Duration::ZERO).await;
        let tasks: Vec<String> = rest(&mut follower).await.into_iter().map(|event| event.task).collect();
        assert_eq!(tasks, ["late-2", "late-1", "late-3", "a"], "{}", engine.name);
        assert_eq!(rest(&mut follower).await, [], "{}", engine.name);

        // From now on only.
        let mut follower = queue.follow(Timestamp::from_millisecond(queue.now_ms().await.unwrap() + 1).unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(rest(&mut follower).await, [], "{}", engine.name);
        queue.retry("a").await.unwrap();
        assert_eq!(rest(&mut follower).await.len(), 1, "{}", engine.name);
    }
}

#[tokio::test]
async fn many_writers_with_slow_commits_are_followed_while_they_write() {
    const WRITERS: usize = 4;
    const EACH: usize = 40;
    for engine in Engine::all().await {
        let queue = engine.open().await;
        let mut follower = queue.follow(Timestamp::UNIX_EPOCH);
        let (engine, done) = (&engine, &std::sync::atomic::AtomicUsize::new(0));
        let writing = futures::future::join_all((0..WRITERS).map(|writer| {
            let queue = queue.clone();
            async move {
                for number in 0..EACH {
                    let now = queue.now_ms().await.unwrap();
                    let statement = insert(now, 0, &format!("{writer}-{number:02}"), &format!("{writer}-{number}"));
                    // Nobody's commit is in the order of the ids.
                    engine
                        .execute(&[statement], Duration::from_millis((writer as u64 * 13 + number as u64 * 7) % 30))
                        .await;
                }
                done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }));
        let following = async {
            let mut seen = Vec::new();
            loop {
                let is_over = done.load(std::sync::atomic::Ordering::SeqCst) == WRITERS;
                seen.extend(follower.next().await.unwrap().into_iter().map(|event| event.task));
                if is_over {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        };
        let (_, seen) = futures::join!(writing, following);
        assert_eq!(seen.len(), WRITERS * EACH, "once each: {}", engine.name);
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), WRITERS * EACH, "{}", engine.name);
    }
}

#[tokio::test]
async fn more_events_than_are_read_at_a_time_come_all_and_once() {
    const EVENTS: usize = 1_700;
    for engine in Engine::all().await {
        let queue = engine.open().await;
        let now = queue.now_ms().await.unwrap();
        // Half of them long ago, half within what is looked at again; many in one millisecond.
        let statements: Vec<String> = (0..EVENTS)
            .map(|number| {
                let ago = if number < EVENTS / 2 { 3_600_000 } else { 10_000 };
                insert(now, ago - number as i64 / 100, &format!("{number:06}"), &number.to_string())
            })
            .collect();
        engine.execute(&statements, Duration::ZERO).await;
        let tasks: Vec<String> = all(&queue).await.into_iter().map(|event| event.task).collect();
        let expected: Vec<String> = (0..EVENTS).map(|number| number.to_string()).collect();
        assert_eq!(tasks, expected, "{}", engine.name);
    }
}

#[tokio::test]
async fn events_are_taken_out_by_age_and_number_but_not_those_of_tasks_under_way() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    for engine in Engine::all().await {
        let queue = engine.open().await;
        add(&queue, &[task("working", json!({})), task("waiting", json!({"priority": "P3"}))]).await.unwrap();
        let now = queue.now_ms().await.unwrap();
        let mut statements = Vec::new();
        for (days, task) in [(40, "working"), (40, "waiting"), (31, ""), (29, "waiting"), (28, ""), (27, "working")] {
            statements.push(insert(now, days * DAY_MS, &format!("x{}", statements.len()), task));
        }
        engine.execute(&statements, Duration::ZERO).await;
        let lease = queue.claim("w", "here", LEASE).await.unwrap().unwrap();
        assert_eq!(lease.entry.task.id, "working");
        let left = async || -> Vec<(String, Value)> {
            let events = all(&queue).await.into_iter();
            events.map(|event| (event.task, json!((now - event.at.as_millisecond() + DAY_MS / 2) / DAY_MS))).collect()
        };
        let of = |expected: &[(&str, i64)]| -> Vec<(String, Value)> {
            expected.iter().map(|(task, days)| ((*task).to_owned(), json!(days))).collect()
        };
        assert_eq!(queue.prune_events(30, 1_000).await.unwrap(), 2, "{}", engine.name);
        let kept = [("working", 40), ("waiting", 29), ("", 28), ("working", 27), ("", 0), ("working", 0)];
        assert_eq!(left().await, of(&kept), "{}", engine.name);
        assert_eq!(queue.prune_events(30, 1_000).await.unwrap(), 0, "{}", engine.name);
        // The three youngest stay, and what is of a task that is under way.
        assert_eq!(queue.prune_events(30, 3).await.unwrap(), 2, "{}", engine.name);
        let kept = [("working", 40), ("working", 27), ("", 0), ("working", 0)];
        assert_eq!(left().await, of(&kept), "{}", engine.name);
        queue.settle(&lease, &Settlement::Blocked("x".into()), Money::ZERO).await.unwrap();
        assert_eq!(queue.prune_events(30, 1).await.unwrap(), 4, "{}", engine.name);
        assert_eq!(left().await, of(&[("working", 0)]), "{}", engine.name);
    }
}
