//! The servers as children: started when first needed, restarted when they die, one call at a time bounded.

pub(crate) mod account;
pub(crate) mod answer;
pub(crate) mod child;
pub(crate) mod heard;
pub(crate) mod member;
pub(crate) mod pipes;
pub(crate) mod relay;

use std::sync::Arc;

use futures::future::join_all;
use rmcp::model::{CallToolResult, JsonObject, RequestMetaObject, Tool};
use rmcp::service::{Peer, RoleServer};
use serde_json::{Value, json};
use tollgate_shared::error_chain::Chain;
use tollgate_shared::identity::{IDENTITY_META_KEY, Identity, RunSecret};
use tollgate_shared::ids::EntryId;
use tollgate_shared::ledger::{Ledger, LedgerError};
use tollgate_shared::price::ALLOWANCE_META_KEY;
use tollgate_shared::receipt::{Outcome, RECEIPT_META_KEY, Receipt};

use crate::budget::Budgets;
use crate::config::{House, ServerSpec};
use crate::telemetry;
pub(crate) use account::bytes_of;
use account::{Account, Admitted, PendingCall};
pub use answer::Answers;
use child::{CallError, Child};
use member::Member;
use relay::{Changes, Facing};

/// Changes that wait for a client to hear of them; who is further behind hears the next one, which says the same.
const CHANGES_CAPACITY: usize = 256;

/// What to do about a server that does not answer.
pub(crate) const UNAVAILABLE_HINT: &str =
    "see its stderr with `--log info`, correct its entry in tollgate.toml, or wait for its restart";

/// Every server of the configuration.
pub struct Fleet {
    servers: Vec<Arc<Member>>,
    account: Arc<Account>,
    pub(crate) secret: RunSecret,
    facing: Facing,
    pub(crate) client: Option<Peer<RoleServer>>,
    changes: Arc<Changes>,
    answers: Option<Answers>,
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
        let account = Account::new(
            Arc::new(Ledger::new(house.state_dir.clone())),
            house.prices.clone(),
            Budgets::new(house.budget.clone(), house.state_dir.clone()),
        );
        Ok(Self {
            servers: house.servers.iter().cloned().map(Member::new).collect(),
            account: Arc::new(account),
            secret: RunSecret::generate()?,
            facing: Facing::default(),
            client: None,
            changes: Changes::new(CHANGES_CAPACITY),
            answers: None,
        })
    }

    /// Lets servers ask; `answers` says who answers.
    #[must_use]
    pub fn answered_by(mut self, answers: Option<Answers>) -> Self {
        self.answers = answers;
        self
    }

    /// Gathers the same servers for one client of its own, whom they may ask; none is started yet.
    pub(crate) fn for_session(&self, facing: Facing, client: Peer<RoleServer>) -> Self {
        Self {
            servers: self.servers.iter().map(|member| Member::new(member.spec.clone())).collect(),
            account: Arc::clone(&self.account),
            secret: self.secret.clone(),
            facing,
            client: Some(client),
            changes: Changes::new(CHANGES_CAPACITY),
            answers: None,
        }
    }

    /// Gathers the same servers for clients that have no session; none is started yet.
    pub(crate) fn without_session(&self) -> Self {
        Self {
            servers: self.servers.iter().map(|member| Member::new(member.spec.clone())).collect(),
            account: Arc::clone(&self.account),
            secret: self.secret.clone(),
            facing: Facing::default(),
            client: None,
            changes: Changes::new(CHANGES_CAPACITY),
            answers: None,
        }
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn members(&self) -> &[Arc<Member>] {
        &self.servers
    }

    pub(crate) fn facing(&self) -> &Facing {
        &self.facing
    }

    /// Returns who answers the questions of a server; a server of the house may take an answer for an approval, which
    /// only a person gives.
    fn answers_to(&self, spec: &ServerSpec) -> Option<&Answers> {
        self.answers.as_ref().filter(|answers| !spec.own || answers.is_person())
    }

    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Returns the ledger that every call is recorded in.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        self.account.ledger()
    }

    /// Returns the names of the servers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|member| member.spec.name.as_str())
    }

    /// Lists the tools of every server, starting those that are not running; all at once.
    pub async fn list(&self) -> Vec<Listing> {
        self.list_trying(1).await
    }

    /// Lists as [`list`](Self::list) does, for one who goes on with what is listed for hours: a server that dies of the
    /// moment is started again, up to `tries` times altogether.
    pub async fn list_trying(&self, tries: u32) -> Vec<Listing> {
        join_all(self.servers.iter().map(|member| async move {
            let mut tools = self.list_one(member).await;
            for _ in 1..tries {
                if tools.is_ok() {
                    break;
                }
                tools = self.list_one(member).await;
            }
            (member.spec.clone(), tools)
        }))
        .await
    }

    async fn list_one(&self, member: &Member) -> Result<Vec<Tool>, String> {
        self.connected(member).await?.tools().await.map_err(|error| error.to_string())
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
        self.call_as(EntryId::generate(), server, tool, arguments, identity).await
    }

    /// Calls as [`call`](Self::call) does, under a name in the ledger that the caller chose and wrote down before.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] when the call cannot be recorded.
    pub async fn call_as(
        &self,
        call_id: EntryId,
        server: &str,
        tool: &str,
        arguments: JsonObject,
        identity: &Identity,
    ) -> Result<Called, LedgerError> {
        let member = self.servers.iter().find(|member| member.spec.name == server);
        let span = member.and_then(|member| telemetry::mcp::client(&member.spec, telemetry::mcp::CALL, None));
        telemetry::within(span.as_ref(), self.make(call_id, server, tool, arguments, identity)).await
    }

    async fn make(
        &self,
        call_id: EntryId,
        server: &str,
        tool: &str,
        arguments: JsonObject,
        identity: &Identity,
    ) -> Result<Called, LedgerError> {
        let call = PendingCall::named(call_id, server, tool, identity);
        let Some(member) = self.servers.iter().find(|member| member.spec.name == server) else {
            let known: Vec<&str> = self.names().collect();
            let message = format!("there is no server `{server}`; there are {}", known.join(", "));
            return self.account.unanswered(&call, "unknown_server", &message, "use one of these servers").await;
        };
        let child = match self.connected(member).await {
            Ok(child) => child,
            Err(reason) => {
                let (code, hint) = member.spec.why_down();
                return self.account.unanswered(&call, code, &reason, &hint).await;
            }
        };
        // Over HTTP, what a tool's schema says decides what stands in the head of a request; and only what is listed is told.
        let is_needed =
            self.account.budgets().limits().limits_anything() || member.spec.url.is_some() || telemetry::is_on();
        let listed = if is_needed { child.listed(tool).await } else { None };
        if listed.is_some() {
            telemetry::mcp::resolved(&member.spec, tool, tool);
        }
        let call = match self.account.admit(&member.spec, listed.as_ref(), &arguments, call).await? {
            Admitted::Yes(call) => call,
            Admitted::No(called) => return Ok(*called),
        };
        let meta = self.meta(member, &call);
        match child.call(tool, arguments, meta, member.spec.call_timeout, self.answers_to(&member.spec)).await {
            Ok(result) => self.answered(member, &call, result).await,
            Err(CallError::Died(reason)) => {
                member.died(&child).await;
                if member.spec.own
                    && let Some(receipt) = self.account.lost_receipt(&call).await?
                {
                    self.account.settled(&call, &receipt).await?;
                    let hint = "the work was done and is charged; read the present state before calling again";
                    let error = failure("answer_lost", &format!("{server} ended before it answered: {reason}"), hint);
                    return Ok(Called { is_error: true, structured: error, receipt });
                }
                let message = format!("{server} ended while it worked on the call: {reason}");
                self.account.unanswered(&call, "server_died", &message, "read the present state, then call again").await
            }
            Err(CallError::Refused(refusal)) => {
                let hint = refusal.hint(server);
                self.account.unanswered(&call, refusal.code(), &refusal.to_string(), &hint).await
            }
            Err(CallError::TimedOut(limit)) => {
                let message = format!("no answer within {} ms; the call was cancelled", limit.as_millis());
                let hint = "ask for less, or raise call_timeout_ms";
                if member.spec.own {
                    // The server records the cancelled call itself; two receipts would be one too many.
                    if let Some(receipt) = self.account.await_receipt(&call).await? {
                        self.account.settled(&call, &receipt).await?;
                        return Ok(Called { is_error: true, structured: failure("timeout", &message, hint), receipt });
                    }
                }
                self.account.timed_out(&member.spec, &call, &message, hint).await
            }
            Err(CallError::Protocol(reason)) => {
                let hint = "check the tool's name with `orchestrator tools`";
                self.account.unanswered(&call, "protocol_error", &reason, hint).await
            }
        }
    }

    /// Ends every server: closes its stdin, then asks, then kills.
    pub async fn close(&self) {
        join_all(self.servers.iter().map(|member| async move {
            member.close().await;
        }))
        .await;
    }

    /// Returns the running server, started where there is none.
    pub(crate) async fn connected(&self, member: &Member) -> Result<Arc<Child>, String> {
        let owner_file = if member.spec.own {
            self.account.budgets().owner_file(self.account.ledger()).await.map_err(|error| Chain(&error).to_string())?
        } else {
            None
        };
        member.connected(self, owner_file.as_deref()).await
    }

    /// Returns what a server of the house is told beside the arguments.
    fn meta(&self, member: &Member, call: &PendingCall) -> RequestMetaObject {
        let mut meta = RequestMetaObject::new();
        self.stamp(member, call, &mut meta);
        telemetry::mcp::inject(&mut meta);
        meta
    }

    /// Says to a server of the house on whose behalf a call is, and what it may cost.
    pub(crate) fn stamp(&self, member: &Member, call: &PendingCall, meta: &mut RequestMetaObject) {
        if member.spec.own {
            meta.0.0.insert(IDENTITY_META_KEY.to_owned(), json!(self.secret.sign(&call.identity)));
            if let Some(allowance) = call.allowance {
                meta.0.0.insert(ALLOWANCE_META_KEY.to_owned(), json!(allowance));
            }
        }
    }

    async fn answered(
        &self,
        member: &Member,
        call: &PendingCall,
        result: CallToolResult,
    ) -> Result<Called, LedgerError> {
        let bytes = if member.spec.own { 0 } else { bytes_of(&result) };
        if bytes > member.spec.answer_bytes_max {
            let limit = member.spec.answer_bytes_max;
            let message = format!("the answer has {bytes} bytes, and at most {limit} are taken; the work was done");
            let code = Some("answer_too_large".to_owned());
            let receipt = self.account.priced(&member.spec, call, Outcome::Failed, code, || limit).await?;
            let structured =
                failure("answer_too_large", &message, "ask for less, or raise the server's answer_bytes_max");
            return Ok(Called { is_error: true, structured, receipt });
        }
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
            Some(receipt) => {
                self.account.settled(call, &receipt).await?;
                receipt
            }
            None => {
                let outcome = if is_error { Outcome::Failed } else { Outcome::Ok };
                let code = structured["error"]["code"].as_str().map(str::to_owned);
                self.account.priced(&member.spec, call, outcome, code, || bytes).await?
            }
        };
        Ok(Called { is_error, structured, receipt })
    }
}

/// Returns the structured answer of a call that failed here and not in the server.
pub(crate) fn failure(code: &str, message: &str, hint: &str) -> Value {
    json!({ "error": { "code": code, "message": message, "hint": hint } })
}
