//! What surrounds every call, whoever makes it: money set aside before, a receipt afterwards.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};
use tokio::time::Instant;
use tollgate_shared::audit::AuditEntry;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::identity::Identity;
use tollgate_shared::ids::EntryId;
use tollgate_shared::ledger::{Ledger, LedgerError, NewEntry};
use tollgate_shared::money::{Currency, Money};
use tollgate_shared::price::PriceList;
use tollgate_shared::receipt::{Outcome, Receipt, ReceiptLine};

use super::{Called, failure};
use crate::budget::{BUDGET_EXCEEDED, BudgetError, Budgets, Estimate, Intent, Warning};
use crate::config::ServerSpec;
use crate::telemetry;

/// How often the ledger is asked for the receipt of a call that was just cancelled, and how long between.
const RECEIPT_ATTEMPTS: u32 = 20;
const RECEIPT_PAUSE: Duration = Duration::from_millis(100);

/// The ledger, the prices and the budgets.
pub(crate) struct Account {
    ledger: Arc<Ledger>,
    prices: PriceList,
    budgets: Budgets,
}

/// A call that may be made.
#[derive(Clone, Debug)]
pub(crate) struct PendingCall {
    pub(crate) server: String,
    pub(crate) tool: String,
    pub(crate) identity: Identity,
    pub(crate) started_at: Timestamp,
    clock: Instant,
    /// What it may cost, where the server has to stop by itself.
    pub(crate) allowance: Option<Money>,
    request_bytes: u64,
    warnings: Vec<Warning>,
}

/// Whether a call may be made.
pub(crate) enum Admitted {
    Yes(Box<PendingCall>),
    /// What it is answered with instead.
    No(Box<Called>),
}

impl PendingCall {
    /// Begins a call that has its own name in the ledger.
    pub(crate) fn new(server: &str, tool: &str, identity: &Identity) -> Self {
        Self::named(EntryId::generate(), server, tool, identity)
    }

    /// Begins a call under a name in the ledger that was chosen before.
    pub(crate) fn named(call_id: EntryId, server: &str, tool: &str, identity: &Identity) -> Self {
        Self {
            server: server.to_owned(),
            tool: tool.to_owned(),
            identity: Identity { call_id: Some(call_id.to_string()), ..identity.clone() },
            started_at: Timestamp::now(),
            clock: Instant::now(),
            allowance: None,
            request_bytes: 0,
            warnings: Vec::new(),
        }
    }

    /// Whether something is to be written down beside its receipt.
    pub(crate) fn is_warned(&self) -> bool {
        !self.warnings.is_empty()
    }
}

impl Account {
    pub(crate) fn new(ledger: Arc<Ledger>, prices: PriceList, budgets: Budgets) -> Self {
        Self { ledger, prices, budgets }
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// Sets aside what the call may cost; the answer to it where it does not fit.
    pub(crate) async fn admit(
        &self,
        spec: &ServerSpec,
        listed: Option<&Tool>,
        arguments: &JsonObject,
        mut call: PendingCall,
    ) -> Result<Admitted, LedgerError> {
        if !spec.own && spec.price.per_byte_usd.is_some() {
            call.request_bytes = bytes_of(arguments);
        }
        if !self.budgets.limits().limits_anything() {
            return Ok(Admitted::Yes(Box::new(call)));
        }
        let estimate = Estimate::of(spec, &call.tool, listed, arguments, &self.prices);
        Box::pin(self.admit_estimated(estimate, call)).await
    }

    /// Sets aside what the call may cost according to `estimate`; the answer to it where it does not fit.
    pub(crate) async fn admit_estimated(
        &self,
        estimate: Estimate,
        mut call: PendingCall,
    ) -> Result<Admitted, LedgerError> {
        let intent = Intent {
            server: call.server.clone(),
            tool: call.tool.clone(),
            identity: call.identity.clone(),
            started_at: call.started_at,
            estimate,
        };
        match self.budgets.reserve(&self.ledger, intent).await {
            Ok(reserved) => {
                call.allowance = Some(reserved.amount).filter(|_| estimate.least < estimate.most);
                call.warnings = reserved.warnings;
                Ok(Admitted::Yes(Box::new(call)))
            }
            Err(BudgetError::Ledger(error)) => Err(error),
            Err(BudgetError::Exceeded(exceeded)) => {
                let (message, hint) = (exceeded.to_string(), exceeded.hint());
                let mut called = self.refused(&call, BUDGET_EXCEEDED, &message, &hint, json!(exceeded)).await?;
                called.structured["budget"] = json!(exceeded);
                Ok(Admitted::No(Box::new(called)))
            }
            Err(error @ BudgetError::Store { .. }) => {
                let hint = "make the state folder writable and free disk space, then call again";
                let reason = Chain(&error).to_string();
                drop(error);
                self.unanswered(&call, "budget_unavailable", &reason, hint)
                    .await
                    .map(|called| Admitted::No(Box::new(called)))
            }
        }
    }

    /// Records and answers a call that a rule of this house refuses.
    pub(crate) async fn refused(
        &self,
        call: &PendingCall,
        code: &str,
        message: &str,
        hint: &str,
        detail: Value,
    ) -> Result<Called, LedgerError> {
        let receipt = self.refuse(call, code, message, detail).await?;
        Ok(Called { is_error: true, structured: failure(code, message, hint), receipt })
    }

    /// Records and answers a call that its server did not answer.
    pub(crate) async fn unanswered(
        &self,
        call: &PendingCall,
        code: &str,
        message: &str,
        hint: &str,
    ) -> Result<Called, LedgerError> {
        let receipt = self.receipt(call, Outcome::Failed, Some(code.to_owned()), Vec::new());
        self.append(call, &receipt, Vec::new()).await?;
        Ok(Called { is_error: true, structured: failure(code, message, hint), receipt })
    }

    /// Records and answers a call that took too long; a foreign server's time is paid for.
    pub(crate) async fn timed_out(
        &self,
        spec: &ServerSpec,
        call: &PendingCall,
        message: &str,
        hint: &str,
    ) -> Result<Called, LedgerError> {
        if spec.own {
            return self.unanswered(call, "timeout", message, hint).await;
        }
        let receipt = self.priced(spec, call, Outcome::Failed, Some("timeout".to_owned()), || 0).await?;
        Ok(Called { is_error: true, structured: failure("timeout", message, hint), receipt })
    }

    /// Records a call that a foreign server answered, at the operator's prices.
    pub(crate) async fn priced(
        &self,
        spec: &ServerSpec,
        call: &PendingCall,
        outcome: Outcome,
        code: Option<String>,
        answer_bytes: impl FnOnce() -> u64,
    ) -> Result<Receipt, LedgerError> {
        let bytes = || call.request_bytes.saturating_add(answer_bytes());
        let lines = spec.price.lines(spec, &call.tool, outcome, bytes, call.clock.elapsed(), &self.prices);
        let receipt = self.receipt(call, outcome, code, lines);
        self.append(call, &receipt, Vec::new()).await?;
        Ok(receipt)
    }

    /// Records a call that this program made itself.
    pub(crate) async fn charged(
        &self,
        call: &PendingCall,
        outcome: Outcome,
        code: Option<String>,
        lines: Vec<ReceiptLine>,
    ) -> Result<Receipt, LedgerError> {
        let receipt = self.receipt(call, outcome, code, lines);
        self.append(call, &receipt, Vec::new()).await?;
        Ok(receipt)
    }

    /// Records what is known only after the receipt that a server wrote itself.
    pub(crate) async fn settled(&self, call: &PendingCall, receipt: &Receipt) -> Result<(), LedgerError> {
        telemetry::receipt(receipt);
        if call.warnings.is_empty() {
            return Ok(());
        }
        self.ledger.append(self.warnings(call, receipt.id)?).await
    }

    /// Returns the receipt that a server wrote before it died, if it did.
    pub(crate) async fn lost_receipt(&self, call: &PendingCall) -> Result<Option<Receipt>, LedgerError> {
        let Some(mut reader) = self.ledger.reader().await? else { return Ok(None) };
        let call_id = call.identity.call_id.as_deref().unwrap_or_default();
        Ok(receipt_of_work(reader.receipts_of_call(call_id, call.started_at).await?))
    }

    /// Returns the receipt of a call that was just cancelled, as soon as its server wrote it.
    pub(crate) async fn await_receipt(&self, call: &PendingCall) -> Result<Option<Receipt>, LedgerError> {
        for _ in 0..RECEIPT_ATTEMPTS {
            if let Some(receipt) = self.lost_receipt(call).await? {
                return Ok(Some(receipt));
            }
            tokio::time::sleep(RECEIPT_PAUSE).await;
        }
        Ok(None)
    }

    async fn refuse(
        &self,
        call: &PendingCall,
        code: &str,
        reason: &str,
        detail: Value,
    ) -> Result<Receipt, LedgerError> {
        let receipt = self.receipt(call, Outcome::Refused, Some(code.to_owned()), Vec::new());
        let decision = entry(call, receipt.id, "refused", Some(code), reason, detail);
        self.append(call, &receipt, vec![audit(&decision)?]).await?;
        Ok(receipt)
    }

    fn receipt(&self, call: &PendingCall, outcome: Outcome, code: Option<String>, lines: Vec<ReceiptLine>) -> Receipt {
        Receipt {
            id: EntryId::generate(),
            server: call.server.clone(),
            tool: call.tool.clone(),
            amount: lines.iter().map(|line| line.amount).sum::<Money>(),
            currency: Currency::Usd,
            lines,
            cached: false,
            saved: Money::ZERO,
            outcome,
            code,
            duration_ms: u64::try_from(call.clock.elapsed().as_millis()).unwrap_or(u64::MAX),
            agent: call.identity.agent.clone(),
            task_id: call.identity.task_id.clone(),
            call_id: call.identity.call_id.clone(),
            started_at: call.started_at,
        }
    }

    async fn append(
        &self,
        call: &PendingCall,
        receipt: &Receipt,
        mut entries: Vec<NewEntry>,
    ) -> Result<(), LedgerError> {
        entries.extend(self.warnings(call, receipt.id)?);
        entries.push(NewEntry::receipt(receipt).map_err(|error| LedgerError::Append(error.to_string()))?);
        self.ledger.append(entries).await?;
        telemetry::receipt(receipt);
        Ok(())
    }

    fn warnings(&self, call: &PendingCall, receipt_id: EntryId) -> Result<Vec<NewEntry>, LedgerError> {
        let warned = call.warnings.iter().map(|warning| {
            let reason = format!(
                "${} of the ${} of {} {} are used",
                warning.used_usd.normalized(),
                warning.limit_usd.normalized(),
                warning.scope.key(),
                warning.name
            );
            tracing::warn!("{reason}");
            audit(&entry(call, receipt_id, "budget_warning", None, &reason, json!(warning)))
        });
        warned.collect()
    }
}

/// Returns the first of a call's receipts that is for work: that a question was asked says nothing of what was done after
/// it was answered.
pub(crate) fn receipt_of_work(receipts: Vec<Receipt>) -> Option<Receipt> {
    receipts.into_iter().find(|receipt| receipt.code.as_deref() != Some("input_required"))
}

fn audit(entry: &AuditEntry) -> Result<NewEntry, LedgerError> {
    NewEntry::audit(entry).map_err(|error| LedgerError::Append(error.to_string()))
}

fn entry(
    call: &PendingCall,
    receipt_id: EntryId,
    action: &str,
    code: Option<&str>,
    reason: &str,
    detail: Value,
) -> AuditEntry {
    AuditEntry {
        id: EntryId::generate(),
        at: Timestamp::now(),
        action: action.to_owned(),
        server: call.server.clone(),
        tool: call.tool.clone(),
        code: code.map(str::to_owned),
        reason: reason.to_owned(),
        agent: call.identity.agent.clone(),
        task_id: call.identity.task_id.clone(),
        receipt_id,
        detail,
    }
}

/// Returns the length of `value` as compact JSON.
pub(crate) fn bytes_of(value: &impl serde::Serialize) -> u64 {
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_is_no_work() {
        let receipt = |outcome: &str, code: Option<&str>| -> Receipt {
            serde_json::from_value(json!({
                "id": EntryId::generate(), "server": "git", "tool": "git_push", "lines": [], "amount": "0",
                "currency": "USD", "cached": false, "saved": "0", "outcome": outcome, "code": code, "duration_ms": 1,
                "agent": {"name": "a", "role": null}, "task_id": null, "call_id": "c",
                "started_at": "2026-11-29T00:00:00Z",
            }))
            .unwrap()
        };
        let asked = || receipt("refused", Some("input_required"));
        assert!(receipt_of_work(vec![asked(), asked()]).is_none());
        for (outcome, code) in [("ok", None), ("failed", Some("push_rejected")), ("refused", Some("protected_branch"))]
        {
            let done = receipt(outcome, code);
            let found = receipt_of_work(vec![asked(), done.clone(), asked()]).unwrap();
            assert_eq!(found.id, done.id, "{outcome}");
        }
    }
}
