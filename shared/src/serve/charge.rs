//! The wrapper around every call: who calls, what it costs, the entry in the ledger, the answer.
//!
//! A tool gets a [`Call`] and says what it used; it never sees a price, a receipt or the ledger, so
//! it cannot forget them.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use jiff::Timestamp;
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, InputRequiredResult, JsonObject, MetaObject};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::drain::Drain;
use super::progress::Progress;
use super::question::{self, Asker, INPUT_REQUIRED, Sealer};
use super::tool::{Defined, Effect, RawAnswer};
use super::written;
use crate::audit::AuditEntry;
use crate::costs::CostReport;
use crate::error_chain::Chain;
use crate::identity::{Identity, IdentitySource};
use crate::ids::EntryId;
use crate::ledger::{Ledger, LedgerError, NewEntry};
use crate::money::{Currency, Money};
use crate::price::{ALLOWANCE_META_KEY, PriceList, Sku};
use crate::receipt::{Meter, Outcome, RECEIPT_META_KEY, Receipt};
use crate::refusal::Refusal;

/// Largest answer that leaves: clients of the same SDK drop messages over 16 MiB and wait for ever, and text
/// and structured content both count.
const ANSWER_BYTES_MAX: usize = 7 * 1024 * 1024;

/// What all calls of one server share: its name, the prices, the ledger and what the session cost so far.
pub struct House {
    /// The server's short name.
    pub server: &'static str,
    /// The prices in force.
    pub prices: PriceList,
    /// Where every call is recorded.
    pub ledger: Ledger,
    identities: IdentitySource,
    session: Mutex<CostReport>,
    sealer: Sealer,
    drain: Arc<Drain>,
}

/// One call in the hands of a tool.
#[derive(Clone)]
pub struct Call(Arc<CallState>);

struct CallState {
    house: Arc<House>,
    tool: &'static str,
    receipt_id: EntryId,
    identity: Identity,
    cancelled: CancellationToken,
    allowance: Option<Allowance>,
    asker: Asker,
    /// The arguments, for what is sealed; empty where nobody can be asked.
    arguments: String,
    pending: Mutex<Option<InputRequiredResult>>,
    meter: Mutex<Meter>,
    decisions: Mutex<Vec<AuditEntry>>,
    progress: Progress,
}

/// What a call that only reads may cost, as its caller says.
struct Allowance {
    most: Money,
    exceeded: AtomicBool,
}

/// What surrounds one call: the request's `_meta`, the client's name, how it is taken back, how
/// somebody is asked, how the client is told how far it is.
pub(super) struct Circumstances {
    pub(super) meta: JsonObject,
    pub(super) client: Option<String>,
    pub(super) cancelled: CancellationToken,
    pub(super) asker: Asker,
    pub(super) progress: Progress,
}

impl House {
    /// Puts together what all calls of the server `server` share.
    #[must_use]
    pub fn new(server: &'static str, prices: PriceList, ledger: Ledger, identities: IdentitySource) -> Self {
        Self {
            server,
            prices,
            ledger,
            identities,
            session: Mutex::default(),
            sealer: Sealer::new(),
            drain: Arc::default(),
        }
    }

    pub(super) fn drain(&self) -> &Arc<Drain> {
        &self.drain
    }

    pub(super) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Returns what the calls answered since the server started cost.
    #[must_use]
    pub fn session(&self) -> CostReport {
        lock(&self.session).clone()
    }
}

impl Call {
    /// Returns on whose behalf the call is made.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Returns the id that the call's receipt will have.
    #[must_use]
    pub fn receipt_id(&self) -> EntryId {
        self.0.receipt_id
    }

    /// Returns what is shared by all calls.
    #[must_use]
    pub fn house(&self) -> &House {
        &self.0.house
    }

    /// Returns the token that is cancelled when the client takes the call back.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.0.cancelled
    }

    /// Counts `quantity` of `sku` as used.
    pub fn charge(&self, sku: impl Into<Sku>, quantity: u64) {
        let mut meter = lock(&self.0.meter);
        meter.charge(sku.into(), quantity);
        if let Some(allowance) = &self.0.allowance {
            let (lines, _) = meter.settle(&self.house().prices);
            if lines.iter().map(|line| line.amount).sum::<Money>() > allowance.most {
                allowance.exceeded.store(true, Ordering::Relaxed);
                self.0.cancelled.cancel();
            }
        }
    }

    /// Counts `quantity` of `sku` as answered from a cache: not paid, but reported as saved.
    pub fn save(&self, sku: impl Into<Sku>, quantity: u64) {
        lock(&self.0.meter).save(sku.into(), quantity);
    }

    /// Says that `done` of `total` steps are done, to a client that asked to be told.
    pub fn progress(&self, done: usize, total: usize, message: impl FnOnce() -> String) {
        self.0.progress.tell(done as u64, total as u64, message);
    }

    /// Records a decision or an effect in the audit trail, together with the call's receipt.
    pub fn decide(&self, action: &str, reason: impl Into<String>, detail: Value) {
        let entry = self.entry(action, None, reason.into(), detail);
        lock(&self.0.decisions).push(entry);
    }

    /// Lets `work` go on after the answer has left; the server waits for it before it ends.
    pub fn go_on(&self, work: impl Future<Output = ()> + Send + 'static) {
        let drain = Arc::clone(&self.house().drain);
        tokio::spawn(async move {
            let _running = drain.run();
            work.await;
        });
    }

    /// Writes to the ledger what was decided so far, for work that goes on after the answer has left.
    ///
    /// # Errors
    ///
    /// Why it cannot be recorded.
    pub async fn record_decisions(&self) -> Result<(), LedgerError> {
        let decisions = std::mem::take(&mut *lock(&self.0.decisions));
        if decisions.is_empty() {
            return Ok(());
        }
        self.house().ledger.append(entries(&decisions)?).await
    }

    pub(super) fn tool(&self) -> &'static str {
        self.0.tool
    }

    pub(super) fn asker(&self) -> &Asker {
        &self.0.asker
    }

    pub(super) fn arguments(&self) -> &str {
        &self.0.arguments
    }

    pub(super) fn pending(&self) -> &Mutex<Option<InputRequiredResult>> {
        &self.0.pending
    }

    /// Runs `work` where blocking is allowed.
    ///
    /// # Errors
    ///
    /// What `work` returns, or `internal_error` when it panics.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Refusal> + Send + 'static,
    {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(internal_error(self.0.tool, &error)),
        }
    }

    fn entry(&self, action: &str, code: Option<&str>, reason: String, detail: Value) -> AuditEntry {
        AuditEntry {
            id: EntryId::generate(),
            at: Timestamp::now(),
            action: action.to_owned(),
            server: self.0.house.server.to_owned(),
            tool: self.0.tool.to_owned(),
            code: code.map(str::to_owned),
            reason,
            agent: self.0.identity.agent.clone(),
            task_id: self.0.identity.task_id.clone(),
            receipt_id: self.0.receipt_id,
            detail,
        }
    }
}

impl From<&'static str> for Sku {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

/// Runs one call of `tool` and returns its answer, with its receipt in the ledger and in the result.
pub(super) async fn charged<S: Send + Sync + 'static>(
    house: Arc<House>,
    server: Arc<S>,
    tool: &Defined<S>,
    arguments: JsonObject,
    circumstances: Circumstances,
) -> CallToolResponse {
    let started_at = Timestamp::now();
    let clock = Instant::now();
    let Circumstances { meta, client, cancelled, asker, progress } = circumstances;
    let identified = house.identities.identify(&meta, client.as_deref());
    let allowance = allowance(&meta).filter(|_| tool.effect() == Effect::Reads);
    // Of its own where this side may stop the call: who takes a call back is not answered, who overspends is.
    let cancelled = if allowance.is_some() { cancelled.child_token() } else { cancelled };
    let call = Call(Arc::new(CallState {
        tool: tool.name(),
        receipt_id: EntryId::generate(),
        identity: identified.as_ref().map_or_else(|_| house.identities.unclaimed(client.as_deref()), Clone::clone),
        cancelled,
        allowance,
        arguments: if matches!(asker, Asker::Nobody) { String::new() } else { question::canonical(&arguments) },
        asker,
        pending: Mutex::default(),
        meter: Mutex::default(),
        decisions: Mutex::default(),
        progress,
        house,
    }));
    // No effect without a ledger to record it in.
    let result = match identified {
        Err(refusal) => Err(refusal),
        Ok(_) => match call.house().ledger.open().await {
            Err(error) => return unrecorded(&error, "nothing was done").into(),
            Ok(()) => run(tool, server, arguments, &call).await,
        },
    };
    let result = within_allowance(&call, result);
    call.0.progress.close().await;
    let receipt = settle(&call, tool, &result, started_at, clock);
    let written = match record(&call, &receipt, result.as_ref().err()).await {
        Ok(written) => written,
        Err(error) => {
            let done =
                if result.is_ok() { "the call was carried out but not recorded" } else { "nothing more was done" };
            return unrecorded(&error, done).into();
        }
    };
    lock(&call.house().session).add(&receipt);
    let pending = lock(&call.0.pending).take();
    match (pending, &result) {
        (Some(asked), Err(refusal)) if refusal.code == INPUT_REQUIRED => asked.with_meta(receipt_meta(&receipt)).into(),
        _ => answer(result, &receipt, written).into(),
    }
}

fn allowance(meta: &JsonObject) -> Option<Allowance> {
    let most = meta.get(ALLOWANCE_META_KEY)?.as_str()?.parse().ok()?;
    Some(Allowance { most, exceeded: AtomicBool::new(false) })
}

/// Refuses a call that went beyond its allowance; a refused call costs nothing.
fn within_allowance(call: &Call, result: Result<RawAnswer, Refusal>) -> Result<RawAnswer, Refusal> {
    match &call.0.allowance {
        Some(allowance) if allowance.exceeded.load(Ordering::Relaxed) => Err(Refusal::refused(
            "budget_exceeded",
            format!("the call would cost more than the ${} that it may", allowance.most.normalized()),
            "ask for less at a time, or have the operator raise the budget",
        )),
        _ => result,
    }
}

async fn run<S: Send + Sync + 'static>(
    tool: &Defined<S>,
    server: Arc<S>,
    arguments: JsonObject,
    call: &Call,
) -> Result<RawAnswer, Refusal> {
    let work = AssertUnwindSafe((tool.handler)(server, arguments, call.clone())).catch_unwind();
    let finished = if tool.effect() == Effect::Reads {
        tokio::select! {
            finished = work => finished,
            () = call.cancelled().cancelled() => return Err(Refusal::cancelled()),
        }
    } else {
        work.await
    };
    let answer = finished.unwrap_or_else(|panic| {
        let reason =
            panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(internal_error(call.0.tool, &reason.unwrap_or("a panic without a message")))
    })?;
    let text_bytes = answer.text.as_ref().map_or(0, String::len);
    if text_bytes + answer.structured.len() > ANSWER_BYTES_MAX {
        return Err(Refusal::failed(
            "answer_too_large",
            format!("the answer is larger than {ANSWER_BYTES_MAX} bytes"),
            "ask for less: use a limit, a filter or a cursor",
        ));
    }
    Ok(answer)
}

fn settle<S>(
    call: &Call,
    tool: &Defined<S>,
    result: &Result<RawAnswer, Refusal>,
    started_at: Timestamp,
    clock: Instant,
) -> Receipt {
    let outcome = result.as_ref().map_or_else(|refusal| refusal.outcome, |_| Outcome::Ok);
    let mut meter = lock(&call.0.meter).clone();
    match outcome {
        Outcome::Ok => {
            if let Some(sku) = tool.per_call() {
                meter.charge(sku, 1);
            }
        }
        // Work that was done before it went wrong is paid for.
        Outcome::Failed => {}
        Outcome::Refused | Outcome::Cancelled => meter = Meter::default(),
    }
    let (lines, saved) = meter.settle(&call.house().prices);
    let amount: Money = lines.iter().map(|line| line.amount).sum();
    let identity = call.identity();
    Receipt {
        id: call.0.receipt_id,
        server: call.house().server.to_owned(),
        tool: call.0.tool.to_owned(),
        amount,
        currency: Currency::Usd,
        cached: amount.is_zero() && !saved.is_zero(),
        lines,
        saved,
        outcome,
        code: result.as_ref().err().map(|refusal| refusal.code.to_owned()),
        duration_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        agent: identity.agent.clone(),
        task_id: identity.task_id.clone(),
        call_id: identity.call_id.clone(),
        started_at,
    }
}

/// Writes the receipt and what was decided to the ledger; returns the receipt as it stands there.
async fn record(call: &Call, receipt: &Receipt, refusal: Option<&Refusal>) -> Result<String, LedgerError> {
    let mut decisions = std::mem::take(&mut *lock(&call.0.decisions));
    if let Some(refusal) = refusal.filter(|refusal| refusal.outcome == Outcome::Refused) {
        let action = if refusal.code == INPUT_REQUIRED { "asked" } else { "refused" };
        decisions.push(call.entry(action, Some(refusal.code), refusal.message.clone(), Value::Null));
    }
    let mut entries = entries(&decisions)?;
    let entry = NewEntry::receipt(receipt).map_err(|error| LedgerError::Append(error.to_string()))?;
    let written = entry.body.clone();
    entries.push(entry);
    call.house().ledger.append(entries).await?;
    Ok(written)
}

fn entries(decisions: &[AuditEntry]) -> Result<Vec<NewEntry>, LedgerError> {
    let mut entries = Vec::with_capacity(1 + decisions.len());
    for decision in decisions {
        entries.push(NewEntry::audit(decision).map_err(|error| LedgerError::Append(error.to_string()))?);
    }
    Ok(entries)
}

fn answer(result: Result<RawAnswer, Refusal>, receipt: &Receipt, written: String) -> CallToolResult {
    let failed = result.is_err();
    let RawAnswer { mut structured, text } = result
        .unwrap_or_else(|refusal| RawAnswer { structured: Value::Object(refused(refusal)).to_string(), text: None });
    append(&mut structured, "cost_usd", &format!("\"{}\"", receipt.amount));
    append(&mut structured, "cached", if receipt.cached { "true" } else { "false" });
    let content = text.map(ContentBlock::text).into_iter().collect();
    let mut result = if failed { CallToolResult::error(content) } else { CallToolResult::success(content) };
    written::put(&mut result, structured, written);
    result
}

/// Appends one more member to the text of a JSON object, which has none of this name; `name` has nothing to escape, and `value` is JSON.
fn append(object: &mut String, name: &str, value: &str) {
    debug_assert!(is_whole(object, name), "an answer has a name twice, or `{name}`: {object}");
    object.truncate(object.len() - 1);
    if object.len() > 1 {
        object.push(',');
    }
    object.extend(["\"", name, "\":", value, "}"]);
}

/// Whether `object` is a JSON object that has no name twice, and not `name`.
fn is_whole(object: &str, name: &str) -> bool {
    let again = |object: &Map<String, Value>| serde_json::to_string(object).unwrap_or_default();
    serde_json::from_str(object)
        .is_ok_and(|read: Map<String, Value>| !read.contains_key(name) && again(&read) == object)
}

fn receipt_meta(receipt: &Receipt) -> MetaObject {
    MetaObject(Map::from_iter([(RECEIPT_META_KEY.to_owned(), json!(receipt))]))
}

fn refused(refusal: Refusal) -> Map<String, Value> {
    let mut structured = Map::new();
    let error = json!({ "code": refusal.code, "message": refusal.message, "hint": refusal.hint });
    structured.insert("error".to_owned(), error);
    structured.extend(refusal.detail.into_iter().filter(|(name, _)| name != "error"));
    structured
}

/// The one answer without a receipt: there is nowhere to record it.
fn unrecorded(error: &LedgerError, done: &str) -> CallToolResult {
    tracing::error!(error = %Chain(error), "the ledger cannot be written");
    let refusal = Refusal::failed(
        "ledger_unavailable",
        format!("{done}: {}", Chain(error)),
        "make the state folder writable and free disk space, then call again",
    );
    let mut structured = refused(refusal);
    structured.insert("cost_usd".to_owned(), json!(Money::ZERO));
    structured.insert("cached".to_owned(), json!(false));
    let structured = Value::Object(structured);
    let mut result = CallToolResult::error(vec![ContentBlock::text(structured.to_string())]);
    result.structured_content = Some(structured);
    result
}

fn internal_error(tool: &str, reason: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(tool, %reason, "a tool panicked");
    Refusal::failed("internal_error", format!("the tool stopped unexpectedly: {reason}"), "report this as a bug")
}

/// Takes a lock whose holder may have panicked: a panicking tool must not take the next call with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
