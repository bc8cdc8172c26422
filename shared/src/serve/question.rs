//! Asking the person at the host in the middle of a call, in every way that the protocol has.
//!
//! A client of 2025-11-25 or older is sent `elicitation/create`. A newer one gets the question as the answer and calls
//! again with the reply; what ties the two together travels with it, sealed. In a task the question waits in the task.
//! Whoever answers is the host: a reply is no proof that there was a person.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rmcp::model::{
    ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema, InputRequest,
    InputRequiredResult, InputResponses, JsonObject, ServerRequest,
};
use rmcp::service::PeerRequestOptions;
use rmcp::task_manager::TaskContext;
use rmcp::{Peer, RoleServer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;

use super::charge::Call;
use crate::content_hash::ContentHash;
use crate::refusal::Refusal;

/// The code of the refusal that stands in the ledger for a call that was answered with a question.
pub(super) const INPUT_REQUIRED: &str = "input_required";

/// The one key under which a question is asked and its reply is expected.
const KEY: &str = "question";

/// Longest sealed state that is looked at.
const STATE_BYTES_MAX: usize = 16 * 1024;

/// A question with a form to fill in.
#[derive(Clone, Debug)]
pub struct Question {
    /// What the person reads.
    pub message: String,
    /// The fields of the form, each a flat JSON Schema; all have to be filled in.
    pub fields: JsonObject,
    /// What the reply is for; comes back with it, and no client can change it.
    pub subject: String,
    /// For how long a reply counts.
    pub patience: Duration,
}

/// What the host answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The form, filled in.
    Accepted(JsonObject),
    /// No.
    Declined,
    /// Nothing: closed without an answer, not answered in time, or the host could not show it.
    Dismissed,
}

/// A reply, and what it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Replied {
    /// As in the [`Question`].
    pub subject: String,
    /// What was answered.
    pub reply: Reply,
}

/// The way in which a client can be asked.
pub(super) enum Asker {
    /// Not at all.
    Nobody,
    /// By a request to the client.
    Peer(Peer<RoleServer>),
    /// By answering with the question; the call may carry the reply to an earlier one.
    Rounds {
        /// What came back of the sealed state.
        state: Option<String>,
        /// The replies.
        responses: Option<InputResponses>,
    },
    /// In the task that the call has become.
    Task(TaskContext),
}

/// What seals questions; made anew by every process, so there is nothing to steal and nothing outlives it.
pub(super) struct Sealer {
    key: Option<[u8; 32]>,
    begun: Instant,
    asked: AtomicU64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    /// Who was asked, through which tool, with which arguments.
    context: ContentHash,
    subject: String,
    /// In milliseconds of the process, which no clock turns back.
    expires_ms: u64,
}

impl Sealer {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        let key = getrandom::fill(&mut key).is_ok().then_some(key);
        Self { key, begun: Instant::now(), asked: AtomicU64::new(0) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn mac(&self, payload: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key?).ok()?;
        mac.update(b"tollgate.question.1\0");
        mac.update(payload);
        Some(mac)
    }

    fn seal(&self, context: ContentHash, subject: &str, patience: Duration) -> Option<String> {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = self.now_ms().saturating_add(patience_ms);
        let payload = serde_json::to_vec(&Sealed { context, subject: subject.to_owned(), expires_ms }).ok()?;
        let proof = self.mac(&payload)?.finalize().into_bytes();
        Some(format!("{}.{}", hex::encode(payload), hex::encode(proof)))
    }

    fn open(&self, state: &str, context: ContentHash) -> Result<String, Refusal> {
        let invalid = || {
            Refusal::refused(
                "input_invalid",
                "the request state is not one that this server gave out for this call",
                "call again without `requestState` and `inputResponses`",
            )
        };
        if state.len() > STATE_BYTES_MAX {
            return Err(invalid());
        }
        let (payload, proof) = state.split_once('.').ok_or_else(invalid)?;
        let payload = hex::decode(payload).map_err(|_| invalid())?;
        let proof = hex::decode(proof).map_err(|_| invalid())?;
        self.mac(&payload).ok_or_else(invalid)?.verify_slice(&proof).map_err(|_| invalid())?;
        let sealed: Sealed = serde_json::from_slice(&payload).map_err(|_| invalid())?;
        if sealed.context != context {
            return Err(invalid());
        }
        if self.now_ms() >= sealed.expires_ms {
            return Err(Refusal::refused(
                "input_expired",
                "the question was answered too late",
                "call again without `requestState` and `inputResponses` to be asked anew",
            ));
        }
        Ok(sealed.subject)
    }
}

impl Call {
    /// Whether the host says that it can put a question to somebody.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        !matches!(self.asker(), Asker::Nobody) && self.house().sealer().key.is_some()
    }

    /// Returns the reply that this call carries to a question that an earlier one was answered with.
    ///
    /// # Errors
    ///
    /// `input_invalid` when it is no reply to a question of this server to the same caller in the same call;
    /// `input_expired` when it comes too late.
    pub fn replied(&self) -> Result<Option<Replied>, Refusal> {
        let Asker::Rounds { state: Some(state), responses } = self.asker() else { return Ok(None) };
        let subject = self.house().sealer().open(state, self.context())?;
        let response = responses.as_ref().and_then(|responses| responses.get(KEY));
        let reply = response.map_or(Reply::Dismissed, |response| parse(response.clone()));
        Ok(Some(Replied { subject, reply }))
    }

    /// Puts `question` to the host. Where the answer to this call has to be the question, that is an error to be
    /// returned at once; the next call has the reply in [`replied`](Self::replied).
    ///
    /// # Errors
    ///
    /// `input_required`, `cancelled`.
    pub async fn ask(&self, question: Question) -> Result<Replied, Refusal> {
        let Question { message, fields, subject, patience } = question;
        let Some(params) = form(message, &fields) else {
            tracing::error!("a question has a form that cannot be asked");
            return Ok(Replied { subject, reply: Reply::Dismissed });
        };
        let reply = match self.asker() {
            Asker::Nobody => Reply::Dismissed,
            Asker::Peer(peer) => self.unless_cancelled(ask_peer(peer, params, patience)).await?,
            Asker::Task(task) => {
                let number = self.house().sealer().asked.fetch_add(1, Ordering::Relaxed);
                let key = format!("{KEY}-{number}");
                let asked = task.request_input(key, InputRequest::Elicitation(ElicitRequest::new(params)));
                match self.unless_cancelled(tokio::time::timeout(patience, asked)).await? {
                    Ok(Ok(response)) => parse(response),
                    Ok(Err(_)) => return Err(Refusal::cancelled()),
                    Err(_) => Reply::Dismissed,
                }
            }
            Asker::Rounds { .. } => {
                let Some(state) = self.house().sealer().seal(self.context(), &subject, patience) else {
                    return Ok(Replied { subject, reply: Reply::Dismissed });
                };
                let request = InputRequest::Elicitation(ElicitRequest::new(params));
                let requests = BTreeMap::from([(KEY.to_owned(), request)]);
                let mut pending = self.pending().lock().unwrap_or_else(PoisonError::into_inner);
                *pending = Some(InputRequiredResult::new(Some(requests), Some(state)));
                return Err(Refusal::refused(
                    INPUT_REQUIRED,
                    "the person at the host has to answer a question first",
                    "answer `inputRequests` and call again with `inputResponses` and `requestState`",
                ));
            }
        };
        Ok(Replied { subject, reply })
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Refusal> {
        tokio::select! {
            done = work => Ok(done),
            () = self.cancelled().cancelled() => Err(Refusal::cancelled()),
        }
    }

    /// Returns the identity of this call: who, through which tool, with which arguments.
    fn context(&self) -> ContentHash {
        let identity = self.identity();
        let who = json!([identity.agent.name, identity.agent.role, identity.task_id]);
        ContentHash::builder("tollgate.question.context.1")
            .field(who.to_string().as_bytes())
            .field(self.tool().as_bytes())
            .field(self.arguments().as_bytes())
            .finish()
    }
}

async fn ask_peer(peer: &Peer<RoleServer>, params: ElicitRequestParams, patience: Duration) -> Reply {
    let request = ServerRequest::ElicitRequest(ElicitRequest::new(params));
    let asked = async {
        peer.send_request_with_option(request, PeerRequestOptions::with_timeout(patience)).await?.await_response().await
    };
    match asked.await {
        Ok(ClientResult::ElicitResult(result)) => reply(result),
        Ok(_) => Reply::Dismissed,
        Err(error) => {
            tracing::warn!(%error, "the host did not answer a question");
            Reply::Dismissed
        }
    }
}

/// Returns the question as the protocol has it. Without a title: a widespread client cancels unseen what has one.
fn form(message: String, fields: &JsonObject) -> Option<ElicitRequestParams> {
    let required: Vec<String> = fields.keys().cloned().collect();
    let schema = json!({ "type": "object", "properties": fields, "required": required });
    let requested_schema = serde_json::from_value::<ElicitationSchema>(schema).ok()?;
    Some(ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema })
}

fn parse(response: Value) -> Reply {
    serde_json::from_value::<ElicitResult>(response).map_or(Reply::Dismissed, reply)
}

fn reply(result: ElicitResult) -> Reply {
    match (result.action, result.content) {
        (ElicitationAction::Accept, Some(Value::Object(form))) => Reply::Accepted(form),
        (ElicitationAction::Accept, None) => Reply::Accepted(JsonObject::new()),
        (ElicitationAction::Decline, _) => Reply::Declined,
        _ => Reply::Dismissed,
    }
}

/// Returns `arguments` as text in which the order of their names makes no difference.
pub(super) fn canonical(arguments: &JsonObject) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(object) => {
                let names: BTreeMap<&String, &Value> = object.iter().collect();
                Value::Object(names.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    sorted(&Value::Object(arguments.clone())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_state_opens_once_more_for_the_same_call_only() {
        let (sealer, other) = (Sealer::new(), Sealer::new());
        let (mine, foreign) = (ContentHash::of(b"mine"), ContentHash::of(b"foreign"));
        let state = sealer.seal(mine, "request 1", Duration::from_secs(60)).unwrap();
        assert_eq!(sealer.open(&state, mine).unwrap(), "request 1");
        let code = |sealer: &Sealer, state: &str, context| sealer.open(state, context).unwrap_err().code;
        assert_eq!(code(&sealer, &state, foreign), "input_invalid");
        assert_eq!(code(&other, &state, mine), "input_invalid", "another process, another key");
        let late = sealer.seal(mine, "request 1", Duration::ZERO).unwrap();
        assert_eq!(code(&sealer, &late, mine), "input_expired");
        let (payload, proof) = state.split_once('.').unwrap();
        let changed = hex::encode(String::from_utf8(hex::decode(payload).unwrap()).unwrap().replace('1', "2"));
        for forged in ["", ".", "00.00", payload, &format!("{changed}.{proof}"), &format!("{payload}."), "é.é"] {
            assert_eq!(code(&sealer, forged, mine), "input_invalid", "{forged}");
        }
        assert_eq!(code(&sealer, &"0".repeat(STATE_BYTES_MAX + 1), mine), "input_invalid");
    }

    #[test]
    fn order_of_arguments_makes_no_difference() {
        let object = |text: &str| serde_json::from_str::<JsonObject>(text).unwrap();
        assert_eq!(canonical(&object(r#"{"b":[{"d":1,"c":2}],"a":1}"#)), r#"{"a":1,"b":[{"c":2,"d":1}]}"#);
        assert_ne!(canonical(&object(r#"{"a":1}"#)), canonical(&object(r#"{"a":"1"}"#)));
    }

    #[test]
    fn only_a_filled_in_form_is_an_acceptance() {
        let accepted = parse(json!({"action": "accept", "content": {"approve": true}}));
        assert_eq!(accepted, Reply::Accepted(JsonObject::from_iter([("approve".to_owned(), json!(true))])));
        for (response, expected) in [
            (json!({"action": "decline"}), Reply::Declined),
            (json!({"action": "cancel", "content": {"approve": true}}), Reply::Dismissed),
            (json!({"action": "accept", "content": [true]}), Reply::Dismissed),
            (json!({"action": "yes"}), Reply::Dismissed),
            (json!("accept"), Reply::Dismissed),
        ] {
            assert_eq!(parse(response.clone()), expected, "{response}");
        }
    }

    #[test]
    fn form_has_no_title() {
        let fields = JsonObject::from_iter([("approve".to_owned(), json!({"type": "boolean", "title": "Approve"}))]);
        let Some(ElicitRequestParams::FormElicitationParams { requested_schema, .. }) = form("?".into(), &fields)
        else {
            panic!("no form")
        };
        let schema = serde_json::to_value(requested_schema).unwrap();
        assert_eq!(schema.get("title"), None);
        assert_eq!(schema["required"], json!(["approve"]));
    }
}
