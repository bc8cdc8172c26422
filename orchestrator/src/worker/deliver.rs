//! Sends what webhooks are to be told.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tollgate_shared::error_chain::Chain;

use crate::queue::store::{Queue, QueueError};
use crate::queue::webhook::{Delivery, Sent, Webhook, timestamp_seconds};

/// How long a receiver has to answer, connecting included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked whether there is something to send.
const EVERY: Duration = Duration::from_secs(1);

/// How long what was taken at once may take: well within the minute after which another takes it.
const BATCH_MAX: Duration = Duration::from_secs(30);

/// How long the others wait when one failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How long a worker that ends goes on telling what is left; another sends the rest.
const LAST: Duration = Duration::from_secs(10);

/// Sends what is to be sent.
#[derive(Clone)]
pub(super) struct Deliveries {
    queue: Queue,
    web: reqwest::Client,
}

/// What is being sent.
pub(super) struct Sending {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

impl Sending {
    /// Sends what is left, as far as there is time.
    pub(super) async fn end(mut self) {
        let _ = self.end.send(());
        if tokio::time::timeout(LAST, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Deliveries {
    /// Prepares to send; `None` when nobody is told.
    pub(super) fn of(queue: &Queue) -> anyhow::Result<Option<Self>> {
        if queue.webhooks().is_empty() {
            return Ok(None);
        }
        // One provider of cryptography for the whole program; whoever comes second finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let web = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // What is signed for one receiver is not another's.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Some(Self { queue: queue.clone(), web }))
    }

    /// Sends from now on.
    pub(super) fn start(self) -> Sending {
        let (end, mut ended) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            loop {
                self.send_due().await;
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => {}
                    _ = &mut ended => return self.send_due().await,
                }
            }
        });
        Sending { task, end }
    }

    /// Sends what is to be sent now; what fails is tried again later.
    async fn send_due(&self) {
        // One receiver that hangs keeps nobody else waiting.
        join_all(self.queue.webhooks().iter().map(|(name, webhook)| async move {
            if let Err(error) = self.send_to(name, webhook).await {
                tracing::warn!(webhook = name, error = %Chain(&error), "what is to be sent cannot be looked up");
            }
        }))
        .await;
    }

    async fn send_to(&self, name: &str, webhook: &Webhook) -> Result<(), QueueError> {
        loop {
            let due = self.queue.take_deliveries(name).await?;
            if due.is_empty() {
                return Ok(());
            }
            let begun = Instant::now();
            let mut due = due.into_iter();
            while let Some(delivery) = due.next() {
                if begun.elapsed() > BATCH_MAX {
                    return self.queue.give_back(std::iter::once(delivery).chain(due), Duration::ZERO).await;
                }
                let sent = self.send(webhook, &delivery).await;
                let given_up = self.queue.delivered(&delivery, &sent).await?;
                match &sent {
                    Sent::Taken => {}
                    Sent::Unwanted(reason) => {
                        tracing::warn!(webhook = name, event = delivery.event, reason, "given up");
                    }
                    Sent::Failed(reason, _) => {
                        tracing::warn!(webhook = name, event = delivery.event, reason, given_up, "not delivered");
                        // The receiver may be down, or dislike this one alone: the rest is tried without it, soon.
                        return self.queue.give_back(due, AFTER_FAILURE).await;
                    }
                }
            }
        }
    }

    async fn send(&self, webhook: &Webhook, delivery: &Delivery) -> Sent {
        let timestamp = timestamp_seconds();
        let request = self
            .web
            .post(&webhook.url)
            .header("content-type", "application/json")
            .header("webhook-id", &delivery.event)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", webhook.sign(&delivery.event, timestamp, &delivery.body))
            .body(delivery.body.clone());
        match request.send().await {
            Ok(response) if response.status().is_success() => Sent::Taken,
            Ok(response) if response.status() == http::StatusCode::GONE => {
                Sent::Unwanted("it answered 410 Gone".to_owned())
            }
            Ok(response) => {
                let after =
                    response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
                Sent::Failed(format!("it answered {}", response.status()), after.map(Duration::from_secs))
            }
            // Its address may have a secret in it.
            Err(error) => Sent::Failed(Chain(&error.without_url()).to_string(), None),
        }
    }
}
