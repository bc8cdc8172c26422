//! Webhooks: what is to be sent is written in the transaction in which it happens, and sent by whichever worker comes first
//! until somebody takes it, as <https://www.standardwebhooks.com> has it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;

use super::database::{Changes, Columns};
use super::event::{Event, EventKind};
use super::store::{Queue, QueueError};

/// `[queue.webhooks.NAME]`: somebody who is told of events.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where each event is sent by POST: `https://…`, or `http://` on this machine.
    pub url: String,
    /// What signs it: `whsec_` and 24 to 64 bytes in base64, as `${NAME}` from the environment.
    pub secret: String,
    /// Which events: `kind.what`, such as `task.completed`; `alert.*` is every event of a kind, `*` every event.
    #[serde(default = "usual_events")]
    pub events: Vec<String>,
}

fn usual_events() -> Vec<String> {
    ["task.completed", "escalation.*", "fallback.*", "cost_warning.*", "alert.*"].map(str::to_owned).to_vec()
}

/// How long after each failed try the next one is made; after the last one an event is given up.
const RETRIES: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(5 * 60 * 60),
    Duration::from_secs(10 * 60 * 60),
    Duration::from_secs(14 * 60 * 60),
    Duration::from_secs(20 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

/// Longest that is waited because the receiver asks for it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long whoever sends something has for it, before another sends it.
const SENDING: Duration = Duration::from_secs(60);

/// How many are sent at once to one receiver.
const BATCH: i64 = 20;

/// For how long what was given up is kept to be looked at.
const GIVEN_UP_DAYS: i64 = 30;

/// Longest reason that is kept, in characters.
const REASON_LENGTH_MAX: usize = 300;

/// Most webhooks: each is written with every event.
const WEBHOOKS_MAX: usize = 20;

/// Who is told of what.
#[derive(Debug, Default)]
pub struct Webhooks(BTreeMap<String, Webhook>);

/// Somebody who is told.
pub struct Webhook {
    /// Where.
    pub url: String,
    key: Vec<u8>,
    events: Vec<String>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Webhook").field("url", &self.url).field("events", &self.events).finish_non_exhaustive()
    }
}

impl Webhooks {
    /// Reads `[queue.webhooks]`.
    ///
    /// # Errors
    ///
    /// [`QueueError::Refused`] names the key and says what is wrong; never a secret.
    pub fn read(config: &BTreeMap<String, WebhookConfig>) -> Result<Self, QueueError> {
        if config.len() > WEBHOOKS_MAX {
            return Err(QueueError::Refused(format!("`[queue.webhooks]` has more than {WEBHOOKS_MAX}")));
        }
        let read = |(name, config): (&String, &WebhookConfig)| {
            let wrong = |key: &str, why: &str| QueueError::Refused(format!("`[queue.webhooks.{name}] {key}` {why}"));
            let url = reqwest::Url::parse(&config.url).map_err(|_| wrong("url", "is no URL"))?;
            let host = url.host_str().unwrap_or_default();
            let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
            if !(url.scheme() == "https" || (url.scheme() == "http" && is_here)) || host.is_empty() {
                return Err(wrong("url", "is neither https://… nor http:// on this machine"));
            }
            let text = config.secret.strip_prefix("whsec_").unwrap_or(&config.secret);
            let key = STANDARD.decode(text).ok().filter(|key| (24..=64).contains(&key.len()));
            let key = key.ok_or_else(|| wrong("secret", "is not `whsec_` and 24 to 64 bytes in base64"))?;
            for pattern in &config.events {
                let kind = pattern.split_once('.').map(|(kind, _)| kind);
                if pattern != "*" && kind.and_then(EventKind::parse).is_none() {
                    let kinds = EventKind::WORDS.join(", ");
                    let why = format!("has `{pattern}`, which is neither `*` nor begins with one of {kinds} and a dot");
                    return Err(wrong("events", &why));
                }
            }
            Ok((name.clone(), Webhook { url: config.url.clone(), key, events: config.events.clone() }))
        };
        Ok(Self(config.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Whether nobody is told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns who is told, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Webhook)> {
        self.0.iter().map(|(name, webhook)| (name.as_str(), webhook))
    }

    fn of(&self, kind: EventKind, what: &str) -> impl Iterator<Item = &str> {
        let wants = move |pattern: &String| {
            pattern == "*"
                || pattern
                    .split_once('.')
                    .is_some_and(|(of, word)| of == kind.as_str() && (word == "*" || word == what))
        };
        self.0.iter().filter(move |(_, webhook)| webhook.events.iter().any(wants)).map(|(name, _)| name.as_str())
    }
}

impl Webhook {
    /// Returns the signature of a message, as it stands in the header `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_seconds: i64, body: &str) -> String {
        // HMAC takes a key of any length.
        let mac = Hmac::<Sha256>::new_from_slice(&self.key);
        let signed =
            mac.map(|mac| mac.chain_update(format!("{id}.{timestamp_seconds}.{body}")).finalize().into_bytes());
        format!("v1,{}", STANDARD.encode(signed.unwrap_or_default()))
    }
}

/// Something that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event, which names the message: whoever gets it twice can tell.
    pub event: String,
    /// To whom.
    pub webhook: String,
    /// What.
    pub body: String,
    /// How often it was tried, this time included.
    pub attempts: i64,
}

/// What became of a try.
#[derive(Clone, Debug)]
pub enum Sent {
    /// Taken.
    Taken,
    /// Not taken: why, and when the receiver wants to be asked again.
    Failed(String, Option<Duration>),
    /// The receiver wants no such thing any more.
    Unwanted(String),
}

/// How one webhook fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookState {
    /// Its name.
    pub name: String,
    /// Events that are still to be sent.
    pub waiting: i64,
    /// Events that nobody tries any more, of the last thirty days.
    pub given_up: i64,
    /// Why the latest of those that were tried failed; empty when none did.
    pub error: String,
}

impl Queue {
    /// Writes down for whom `event` is, in its transaction.
    pub(super) async fn post(&self, step: &mut Changes, event: &Event) -> Result<(), QueueError> {
        for name in self.webhooks.of(event.kind, &event.what) {
            let body =
                json!({ "type": format!("{}.{}", event.kind, event.what), "timestamp": event.at, "data": event });
            let sql = "INSERT INTO queue_delivery VALUES ($1, $2, $3, 0, 0, '')";
            step.execute(sql, &[event.id.as_str().into(), name.into(), body.to_string().into()]).await?;
        }
        Ok(())
    }

    /// Returns who is told of what.
    #[must_use]
    pub fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    /// Takes some of what is to be sent to `webhook` now, oldest first; whoever takes it says within a minute what became of it.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn take_deliveries(&self, webhook: &str) -> Result<Vec<Delivery>, QueueError> {
        let now = self.now_ms().await?;
        let skipping = self.database.skipping_locked();
        let sql = format!(
            "WITH due AS MATERIALIZED (SELECT event FROM queue_delivery
                 WHERE webhook = $2 AND next_at >= 0 AND next_at <= $3 ORDER BY event LIMIT $4 {skipping})
             UPDATE queue_delivery SET attempts = attempts + 1, next_at = $1
             WHERE webhook = $2 AND event IN (SELECT event FROM due)
             RETURNING event, webhook, body, attempts"
        );
        let values = [later(now, SENDING).into(), webhook.into(), now.into(), BATCH.into()];
        let read = |row: &dyn Columns| {
            Ok(Delivery { event: row.text(0)?, webhook: row.text(1)?, body: row.text(2)?, attempts: row.whole(3)? })
        };
        let mut step = self.database.begin().await?;
        let mut taken = step.fetch(&sql, &values, read).await?;
        step.commit().await?;
        taken.sort_by(|a, b| a.event.cmp(&b.event));
        Ok(taken)
    }

    /// Gives back what was taken and not tried, to be taken again after `wait`.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn give_back(
        &self,
        deliveries: impl Iterator<Item = Delivery>,
        wait: Duration,
    ) -> Result<(), QueueError> {
        let sql = "UPDATE queue_delivery SET attempts = attempts - 1, next_at = $3 WHERE webhook = $1 AND event = $2";
        let next_at = later(self.now_ms().await?, wait);
        for delivery in deliveries {
            let values = [delivery.webhook.into(), delivery.event.into(), next_at.into()];
            self.database.execute(sql, &values).await?;
        }
        Ok(())
    }

    /// Writes down what became of a try; returns whether it is given up.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn delivered(&self, delivery: &Delivery, sent: &Sent) -> Result<bool, QueueError> {
        let key = [delivery.webhook.as_str().into(), delivery.event.as_str().into()];
        let (reason, wait) = match sent {
            Sent::Taken => {
                let sql = "DELETE FROM queue_delivery WHERE webhook = $1 AND event = $2";
                self.database.execute(sql, &key).await?;
                return Ok(false);
            }
            Sent::Failed(reason, after) => {
                let retry = usize::try_from(delivery.attempts.saturating_sub(1)).ok().and_then(|at| RETRIES.get(at));
                (reason, retry.map(|retry| after.unwrap_or_default().min(RETRY_AFTER_MAX).max(*retry)))
            }
            Sent::Unwanted(reason) => (reason, None),
        };
        let next_at = match wait {
            Some(wait) => later(self.now_ms().await?, wait),
            None => -1,
        };
        let sql = "UPDATE queue_delivery SET next_at = $3, error = $4 WHERE webhook = $1 AND event = $2";
        let reason = crate::report::table::shorten(reason, REASON_LENGTH_MAX);
        self.database.execute(sql, &[&key[..], &[next_at.into(), reason.into()]].concat()).await?;
        Ok(wait.is_none())
    }

    /// Returns how each webhook fares that is configured or that something is still for.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn webhook_states(&self) -> Result<Vec<WebhookState>, QueueError> {
        let empty = |name: &str| WebhookState { name: name.to_owned(), waiting: 0, given_up: 0, error: String::new() };
        let mut states: BTreeMap<String, WebhookState> =
            self.webhooks.iter().map(|(name, _)| (name.to_owned(), empty(name))).collect();
        let sql = "SELECT webhook, CAST(SUM(CASE WHEN next_at >= 0 THEN 1 ELSE 0 END) AS BIGINT),
                       CAST(SUM(CASE WHEN next_at < 0 THEN 1 ELSE 0 END) AS BIGINT),
                       COALESCE((SELECT error FROM queue_delivery l WHERE l.webhook = d.webhook AND l.error <> ''
                                 ORDER BY event DESC LIMIT 1), '')
                   FROM queue_delivery d GROUP BY webhook";
        let read = |row: &dyn Columns| {
            Ok(WebhookState {
                name: row.text(0)?,
                waiting: row.whole(1)?,
                given_up: row.whole(2)?,
                error: row.text(3)?,
            })
        };
        states.extend(self.database.fetch(sql, &[], read).await?.into_iter().map(|state| (state.name.clone(), state)));
        Ok(states.into_values().collect())
    }

    /// Lets what waits for `webhook` or was given up be tried at once, from the beginning; returns how many events that are.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn retry_deliveries(&self, webhook: &str) -> Result<u64, QueueError> {
        let sql = "UPDATE queue_delivery SET next_at = 0, attempts = 0 WHERE webhook = $1";
        self.database.execute(sql, &[webhook.into()]).await
    }

    /// Takes out what was given up long ago, and what is for webhooks that there were long ago.
    pub(super) async fn prune_deliveries(&self) -> Result<(), QueueError> {
        let long_ago = self.now_ms().await?.saturating_sub(GIVEN_UP_DAYS * 24 * 60 * 60 * 1000);
        let end = super::event::id_start(long_ago);
        self.database.execute("DELETE FROM queue_delivery WHERE event < $1", &[end.into()]).await?;
        Ok(())
    }
}

fn later(now: i64, wait: Duration) -> i64 {
    now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

/// Returns the seconds since 1970, for the header `webhook-timestamp`.
#[must_use]
pub fn timestamp_seconds() -> i64 {
    Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, serde_json::Value)]) -> Result<Webhooks, QueueError> {
        let mut config =
            json!({ "url": "https://example.com/hook", "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD" });
        for (name, value) in fields {
            config[name] = value.clone();
        }
        Webhooks::read(&BTreeMap::from([("ops".to_owned(), serde_json::from_value(config).unwrap())]))
    }

    /// The vector of the reference implementation's own tests.
    #[test]
    fn signs_as_the_reference_implementation() {
        let webhooks = read(&[]).unwrap();
        let body = r#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            webhooks.0["ops"].sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        );
        assert!(!format!("{webhooks:?}").contains("11, 97"), "its key is in no log");
    }

    #[test]
    fn what_is_wrong_is_named_without_the_secret() {
        let refused = |fields: &[(&str, serde_json::Value)]| read(fields).unwrap_err().to_string();
        for url in
            ["http://example.com/", "ftp://localhost/", "example.com", "http://127.0.0.1.example.com/", "https://"]
        {
            assert!(refused(&[("url", json!(url))]).contains("[queue.webhooks.ops] url"), "{url}");
        }
        for url in ["http://localhost:1/", "http://127.0.0.1:1/x", "http://[::1]:1/", "https://example.com"] {
            read(&[("url", json!(url))]).unwrap();
        }
        for secret in ["", "whsec_", "whsec_QUJD", "whsec_!!!!"] {
            assert!(refused(&[("secret", json!(secret))]).contains("24 to 64 bytes"));
        }
        assert!(!refused(&[("secret", json!("whsec_secretsecret"))]).contains("secretsecret"));
        for events in [json!(["blocked"]), json!(["blokced.*"]), json!([""]), json!(["**"])] {
            assert!(refused(&[("events", events.clone())]).contains("events"), "{events}");
        }
    }

    #[test]
    fn events_are_chosen_by_kind_and_word() {
        let of =
            |events: serde_json::Value, kind, what| read(&[("events", events)]).unwrap().of(kind, what).count() == 1;
        assert!(of(json!(["*"]), EventKind::CostUpdate, "spent"));
        assert!(of(json!(["alert.*"]), EventKind::Alert, "day_cost"));
        assert!(of(json!(["task.completed"]), EventKind::Task, "completed"));
        assert!(!of(json!(["task.completed"]), EventKind::Task, "claimed"));
        assert!(!of(json!(["alert.*"]), EventKind::Task, "claimed"));
        assert!(!of(json!([]), EventKind::Task, "claimed"));
        let usual = read(&[]).unwrap();
        let told = |kind, what| usual.of(kind, what).count() == 1;
        assert!(told(EventKind::Escalation, "blocked") && told(EventKind::Task, "completed"));
        assert!(!told(EventKind::Iteration, "iteration") && !told(EventKind::Task, "claimed"));
    }
}
