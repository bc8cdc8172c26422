//! What is to be sent is sent by one worker at a time, until it is taken or given up: the same on every engine.

use std::collections::BTreeSet;
use std::time::Duration;

use orchestrator::queue::store::Queue;
use orchestrator::queue::webhook::{Delivery, Sent, WebhookState};
use serde_json::{Value, json};

use super::engines::{Engine, add, task};

/// Every engine, with one webhook that is told of imports.
async fn engines() -> Vec<Engine> {
    let hook = json!({"ops": {"url": "https://example.com/", "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "events": ["task.imported"]}});
    let mut engines = Engine::all().await;
    for engine in &mut engines {
        engine.config.webhooks = serde_json::from_value(hook.clone()).unwrap();
    }
    engines
}

/// Has `count` events be told of.
async fn happen(queue: &Queue, count: usize) {
    for number in 0..count {
        add(queue, &[task(&format!("t{number}"), json!({}))]).await.unwrap();
    }
}

async fn state(queue: &Queue) -> WebhookState {
    let states = queue.webhook_states().await.unwrap();
    assert_eq!(states.len(), 1, "{states:?}");
    states.into_iter().next().unwrap()
}

/// Lets everything be due that somebody tries again at all.
async fn make_due(engine: &Engine) {
    let sql = "UPDATE queue_delivery SET next_at = 0 WHERE next_at >= 0".to_owned();
    engine.execute(&[sql], Duration::ZERO).await;
}

#[tokio::test]
async fn two_workers_never_send_the_same_and_a_killed_ones_are_sent_by_another() {
    for engine in engines().await {
        let (queue, other) = (engine.open().await, engine.open().await);
        happen(&queue, 50).await;
        let (first, second) = tokio::join!(queue.take_deliveries("ops"), other.take_deliveries("ops"));
        let mut taken: Vec<Delivery> = first.unwrap();
        taken.extend(second.unwrap());
        taken.extend(queue.take_deliveries("ops").await.unwrap());
        let events: BTreeSet<&str> = taken.iter().map(|delivery| delivery.event.as_str()).collect();
        assert_eq!((taken.len(), events.len()), (50, 50), "{}", engine.name);
        for delivery in &taken {
            let body: Value = serde_json::from_str(&delivery.body).unwrap();
            assert_eq!((&body["type"], &body["data"]["id"]), (&json!("task.imported"), &json!(delivery.event)));
        }
        assert!(other.take_deliveries("ops").await.unwrap().is_empty(), "they are being sent");
        // Whoever had them is gone.
        make_due(&engine).await;
        let again = other.take_deliveries("ops").await.unwrap();
        assert!(!again.is_empty() && again.iter().all(|delivery| delivery.attempts == 2), "{}", engine.name);
        assert_eq!(state(&queue).await.waiting, 50, "{}", engine.name);
    }
}

#[tokio::test]
async fn what_is_not_taken_is_tried_ten_times_and_what_was_not_tried_does_not_count() {
    for engine in engines().await {
        let queue = engine.open().await;
        happen(&queue, 1).await;
        for attempt in 1..=10 {
            make_due(&engine).await;
            let delivery = queue.take_deliveries("ops").await.unwrap().pop().unwrap();
            queue.give_back(std::iter::once(delivery), Duration::ZERO).await.unwrap();
            let delivery = queue.take_deliveries("ops").await.unwrap().pop().unwrap();
            assert_eq!(delivery.attempts, attempt, "{}", engine.name);
            let long = "x".repeat(10_000_000);
            let given_up = queue.delivered(&delivery, &Sent::Failed(long, None)).await.unwrap();
            assert_eq!(given_up, attempt == 10, "{} {attempt}", engine.name);
            assert!(queue.take_deliveries("ops").await.unwrap().is_empty(), "it waits at least five seconds");
        }
        let given_up = state(&queue).await;
        assert_eq!((given_up.waiting, given_up.given_up), (0, 1), "{}", engine.name);
        assert!(given_up.error.chars().count() <= 300, "{}", given_up.error.len());
        assert_eq!(queue.retry_deliveries("ops").await.unwrap(), 1);
        let delivery = queue.take_deliveries("ops").await.unwrap().pop().unwrap();
        assert_eq!(delivery.attempts, 1, "{}", engine.name);
        queue.delivered(&delivery, &Sent::Taken).await.unwrap();
        assert_eq!((state(&queue).await.waiting, state(&queue).await.given_up), (0, 0), "{}", engine.name);
    }
}
