//! The servers as children: started when first needed, restarted when they die, one call at a time bounded.

mod child;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use rmcp::model::{CallToolResult, JsonObject, RequestMetaObject, Tool};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::identity::{IDENTITY_META_KEY, Identity, RunSecret};
use tollgate_shared::ids::EntryId;
use tollgate_shared::ledger::{Ledger, LedgerError, NewEntry};
use tollgate_shared::money::{Currency, Money};
use tollgate_shared::price::{PriceList, Sku};
use tollgate_shared::receipt::{Meter, Outcome, RECEIPT_META_KEY, Receipt};
use uuid::Uuid;

use crate::config::{House, ServerSpec};
use child::{CallError, Child};

/// First wait before a server that died is started again; doubles with every death in a row.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Longest wait: a server that keeps dying costs at most two starts a minute.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Longest that a call waits for a restart before it is answered with `server_unavailable`.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(5);

/// A server that ran this long has recovered; its next death starts at [`BACKOFF_FIRST`] again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Every server of the configuration.
pub struct Fleet {
    servers: Vec<Arc<Member>>,
    ledger: Arc<Ledger>,
    prices: PriceList,
    secret: RunSecret,
}

struct Member {
    spec: ServerSpec,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    child: Option<Arc<Child>>,
    started_at: Option<Instant>,
    deaths: VecDeque<Instant>,
    not_before: Option<Instant>,
}

/// What a call was answered with.
#[derive(Clone, Debug)]
pub struct Called {
    /// Whether the answer is a refusal or a failure.
    pub is_error: bool,
    /// The structured content; for a server without it, its text under `text`.
    pub structured: Value,
    /// What the call cost.
    pub receipt: Receipt,
}

/// A server's tools, or why there are none.
pub type Listing = (ServerSpec, Result<Vec<Tool>, String>);

impl Fleet {
    /// Gathers the servers of `house`; none is started yet.
    ///
    /// # Errors
    ///
    /// When the operating system gives no random numbers for the secret of the run.
    pub fn new(house: &House) -> anyhow::Result<Self> {
        Ok(Self {
            servers: house
                .servers
                .iter()
                .map(|spec| Arc::new(Member { spec: spec.clone(), state: Mutex::default() }))
                .collect(),
            ledger: Arc::new(Ledger::new(house.state_dir.clone())),
            prices: house.prices.clone(),
            secret: RunSecret::generate()?,
        })
    }

    /// Returns the ledger that every call is recorded in.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns the names of the servers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|member| member.spec.name.as_str())
    }

    /// Lists the tools of every server, starting those that are not running; all at once.
    pub async fn list(&self) -> Vec<Listing> {
        join_all(self.servers.iter().map(|member| async move {
            let tools = match member.connected(&self.secret).await {
                Ok(child) => child.tools().await.map_err(|error| error.to_string()),
                Err(reason) => Err(reason),
            };
            (member.spec.clone(), tools)
        }))
        .await
    }

    /// Calls a tool of a server, on behalf of `identity`.
    ///
    /// Whatever happens there is a receipt: the server's own; where the server died after it wrote one,
    /// that one, found in the ledger; else one of the orchestrator's, recorded here.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] when the call cannot be recorded.
    pub async fn call(
        &self,
        server: &str,
        tool: &str,
        arguments: JsonObject,
        identity: &Identity,
    ) -> Result<Called, LedgerError> {
        let call = PendingCall {
            server: server.to_owned(),
            tool: tool.to_owned(),
            identity: Identity { call_id: Some(Uuid::now_v7().to_string()), ..identity.clone() },
            started_at: Timestamp::now(),
            clock: Instant::now(),
        };
        let Some(member) = self.servers.iter().find(|member| member.spec.name == server) else {
            let known: Vec<&str> = self.names().collect();
            let message = format!("there is no server `{server}`; there are {}", known.join(", "));
            return self.unanswered(&call, "unknown_server", &message, "use one of these servers").await;
        };
        let child = match member.connected(&self.secret).await {
            Ok(child) => child,
            Err(reason) => {
                let hint =
                    "see its stderr with `--log info`, correct its entry in tollgate.toml, or wait for its restart";
                return self.unanswered(&call, "server_unavailable", &reason, hint).await;
            }
        };
        let mut meta = RequestMetaObject::new();
        if member.spec.own {
            meta.0.0.insert(IDENTITY_META_KEY.to_owned(), json!(self.secret.sign(&call.identity)));
        }
        match child.call(tool, arguments, meta, member.spec.call_timeout).await {
            Ok(result) => self.answered(member, &call, result).await,
            Err(CallError::Died(reason)) => {
                member.died(&child).await;
                if member.spec.own
                    && let Some(receipt) = self.lost_receipt(&call).await?
                {
                    let hint = "the work was done and is charged; read the present state before calling again";
                    let error = failure("answer_lost", &format!("{server} ended before it answered: {reason}"), hint);
                    return Ok(Called { is_error: true, structured: error, receipt });
                }
                let message = format!("{server} ended while it worked on the call: {reason}");
                self.unanswered(&call, "server_died", &message, "read the present state, then call again").await
            }
            Err(CallError::TimedOut(limit)) => {
                let message = format!("no answer within {} ms; the call was cancelled", limit.as_millis());
                let hint = "ask for less, or raise call_timeout_ms";
                if member.spec.own {
                    // The server records the cancelled call itself; two receipts would be one too many.
                    if let Some(receipt) = self.await_receipt(&call).await? {
                        return Ok(Called { is_error: true, structured: failure("timeout", &message, hint), receipt });
                    }
                }
                self.unanswered(&call, "timeout", &message, hint).await
            }
            Err(CallError::Protocol(reason)) => {
                self.unanswered(&call, "protocol_error", &reason, "check the tool's name with `orchestrator tools`")
                    .await
            }
        }
    }

    /// Ends every server: closes its stdin, then asks, then kills.
    pub async fn close(&self) {
        join_all(self.servers.iter().map(|member| async move {
            if let Some(child) = member.state.lock().await.child.take() {
                child.close().await;
            }
        }))
        .await;
    }

    async fn answered(
        &self,
        member: &Member,
        call: &PendingCall,
        result: CallToolResult,
    ) -> Result<Called, LedgerError> {
        let is_error = result.is_error.unwrap_or(false);
        let text = || {
            let texts: Vec<&str> =
                result.content.iter().filter_map(|block| block.as_text().map(|text| text.text.as_str())).collect();
            json!({ "text": texts.join("\n") })
        };
        let structured = result.structured_content.clone().unwrap_or_else(text);
        let own_receipt = result
            .meta
            .as_ref()
            .filter(|_| member.spec.own)
            .and_then(|meta| serde_json::from_value::<Receipt>(meta.get(RECEIPT_META_KEY)?.clone()).ok());
        let receipt = match own_receipt {
            Some(receipt) => receipt,
            None => {
                let outcome = if is_error { Outcome::Failed } else { Outcome::Ok };
                let code = structured["error"]["code"].as_str().map(str::to_owned);
                self.record(call, outcome, code).await?
            }
        };
        Ok(Called { is_error, structured, receipt })
    }

    /// Records and answers a call that its server did not answer.
    async fn unanswered(
        &self,
        call: &PendingCall,
        code: &str,
        message: &str,
        hint: &str,
    ) -> Result<Called, LedgerError> {
        let receipt = self.record(call, Outcome::Failed, Some(code.to_owned())).await?;
        Ok(Called { is_error: true, structured: failure(code, message, hint), receipt })
    }

    async fn record(&self, call: &PendingCall, outcome: Outcome, code: Option<String>) -> Result<Receipt, LedgerError> {
        let mut meter = Meter::default();
        if outcome == Outcome::Ok {
            meter.charge(Sku::from(format!("{}.{}", call.server, call.tool)), 1);
        }
        let (lines, saved) = meter.settle(&self.prices);
        let receipt = Receipt {
            id: EntryId::generate(),
            server: call.server.clone(),
            tool: call.tool.clone(),
            amount: lines.iter().map(|line| line.amount).sum::<Money>(),
            currency: Currency::Usd,
            lines,
            cached: false,
            saved,
            outcome,
            code,
            duration_ms: u64::try_from(call.clock.elapsed().as_millis()).unwrap_or(u64::MAX),
            agent: call.identity.agent.clone(),
            task_id: call.identity.task_id.clone(),
            call_id: call.identity.call_id.clone(),
            started_at: call.started_at,
        };
        let entry = NewEntry::receipt(&receipt).map_err(|error| LedgerError::Append(error.to_string()))?;
        self.ledger.append(vec![entry]).await?;
        Ok(receipt)
    }

    /// Returns the receipt that a server wrote before it died, if it did.
    async fn lost_receipt(&self, call: &PendingCall) -> Result<Option<Receipt>, LedgerError> {
        let Some(mut reader) = self.ledger.reader().await? else { return Ok(None) };
        let call_id = call.identity.call_id.as_deref().unwrap_or_default();
        Ok(reader.receipts_of_call(call_id, call.started_at).await?.into_iter().next())
    }

    /// Returns the receipt of a call that was just cancelled, as soon as its server wrote it.
    async fn await_receipt(&self, call: &PendingCall) -> Result<Option<Receipt>, LedgerError> {
        for _ in 0..20 {
            if let Some(receipt) = self.lost_receipt(call).await? {
                return Ok(Some(receipt));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(None)
    }
}

struct PendingCall {
    server: String,
    tool: String,
    identity: Identity,
    started_at: Timestamp,
    clock: Instant,
}

/// Returns the structured answer of a call that failed here and not in the server.
pub(crate) fn failure(code: &str, message: &str, hint: &str) -> Value {
    json!({ "error": { "code": code, "message": message, "hint": hint } })
}

impl Member {
    /// Returns the running child, starting it where there is none.
    async fn connected(&self, secret: &RunSecret) -> Result<Arc<Child>, String> {
        let mut state = self.state.lock().await;
        if let Some(child) = state.child.as_ref().filter(|child| !child.is_closed()) {
            return Ok(Arc::clone(child));
        }
        if let Some(dead) = state.child.take() {
            state.bury(Instant::now());
            tracing::warn!(server = self.spec.name, reason = dead.last_words(), "the server ended");
        }
        let wait = state.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        if wait > RESTART_WAIT_MAX {
            return Err(format!("{} keeps ending; it is started again in {} s", self.spec.name, wait.as_secs() + 1));
        }
        tokio::time::sleep(wait).await;
        match Child::start(&self.spec, secret).await {
            Ok(child) => {
                let child = Arc::new(child);
                state.started_at = Some(Instant::now());
                state.child = Some(Arc::clone(&child));
                Ok(child)
            }
            Err(error) => {
                state.bury(Instant::now());
                Err(format!("{} cannot be started: {}", self.spec.name, Chain(error.as_ref())))
            }
        }
    }

    /// Forgets a child that died, so that the next call starts another.
    async fn died(&self, child: &Arc<Child>) {
        let mut state = self.state.lock().await;
        if state.child.as_ref().is_some_and(|current| Arc::ptr_eq(current, child)) {
            state.child = None;
            state.bury(Instant::now());
        }
    }
}

impl State {
    /// Notes a death and when the next start may be.
    fn bury(&mut self, now: Instant) {
        if self.started_at.take().is_some_and(|at| now.duration_since(at) >= STABLE_AFTER) {
            self.deaths.clear();
        }
        let doublings = u32::try_from(self.deaths.len()).unwrap_or(u32::MAX).min(16);
        self.deaths.push_back(now);
        self.deaths.truncate(16);
        self.not_before = Some(now + BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_double_up_to_a_bound_and_start_over_after_a_stable_run() {
        let now = Instant::now();
        let mut state = State::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            state.bury(now);
            waits.push(state.not_before.unwrap() - now);
        }
        assert_eq!(waits[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(waits[11], BACKOFF_MAX);
        state.started_at = Some(now);
        state.bury(now + STABLE_AFTER);
        assert_eq!(state.not_before.unwrap() - (now + STABLE_AFTER), BACKOFF_FIRST);
    }
}
