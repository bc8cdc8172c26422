//! A tool call through the gateway: who calls, whether the money is there, the call, the receipt.

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest, ContentBlock, ErrorData,
    JsonObject, MetaObject, ResultType, ServerResult,
};
use rmcp::service::{RequestContext, RoleServer};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tollgate_shared::error_chain::Chain;
use tollgate_shared::identity::Identity;
use tollgate_shared::ledger::LedgerError;
use tollgate_shared::receipt::{Outcome, RECEIPT_META_KEY, Receipt};
use tollgate_shared::serve::written;

use super::backends::{Backends, Route};
use super::forward::{Ended, forward, meta_for};
use super::front::{Front, task_name};
use super::search;
use crate::agent::cost_report;
use crate::catalogue::{BUILT_IN, COST_REPORT};
use crate::fleet::account::{Admitted, PendingCall};
use crate::fleet::child::Child;
use crate::fleet::heard::TextAnswer;
use crate::fleet::member::Member;
use crate::fleet::pipes::AsText;
use crate::fleet::{Called, bytes_of, failure};
use crate::telemetry;

/// The code of an answer that is a question.
const INPUT_REQUIRED: &str = "input_required";

impl Front {
    /// Carries out a call of a tool, or of one of the two that stand for all.
    pub(super) async fn call_here(
        &self,
        mut request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let _running = self.gateway().drain.run();
        let backends = self.backends().await;
        let invalid = |reason: String| {
            let hint = "write the arguments as the tool's input schema says";
            Ok(structured(failure("invalid_arguments", &reason, hint), true).into())
        };
        if request.name == search::search_name() {
            let tools = backends.tools().await;
            return match search::search(&tools, request.arguments.unwrap_or_default()) {
                Ok(found) => Ok(structured(found, false).into()),
                Err(reason) => invalid(reason),
            };
        }
        if request.name == search::call_name() {
            request = match search::unwrap(request) {
                Ok(request) => request,
                Err(reason) => return invalid(reason),
            };
        }
        self.call(&backends, request, context).await
    }

    /// Carries out a call of a tool by the name that the host knows.
    async fn call(
        &self,
        backends: &Backends,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let gateway = self.gateway();
        let client = context.client_info().map(|client| client.name);
        let identity = match gateway.identities.identify(&context.meta.0.0, client.as_deref()) {
            Ok(identity) => identity,
            Err(refusal) => {
                let identity = gateway.identities.unclaimed(client.as_deref());
                let call = PendingCall::new(BUILT_IN, "call", &identity);
                let called = backends
                    .fleet
                    .account()
                    .refused(&call, refusal.code, &refusal.message, &refusal.hint, Value::Null)
                    .await;
                return Ok(answer_of(called).into());
            }
        };
        if request.name == format!("{BUILT_IN}__{COST_REPORT}") && gateway.policy.permits(&request.name) {
            let report = cost_report(&backends.fleet, &Value::Object(request.arguments.unwrap_or_default())).await;
            let failed = report.get("error").is_some();
            return Ok(structured(report, failed).into());
        }
        let Some(route) = backends.route(&request.name).await else {
            return Err(self.unknown_tool(backends, &request.name).await);
        };
        match self.carry_out(backends, &route, request, &identity, context).await {
            Ok(answer) => answer,
            Err(error) => Ok(unrecorded(&error).into()),
        }
    }

    async fn carry_out(
        &self,
        backends: &Backends,
        route: &Route,
        request: CallToolRequestParams,
        identity: &Identity,
        context: &RequestContext<RoleServer>,
    ) -> Result<Result<CallToolResponse, ErrorData>, LedgerError> {
        let account = backends.fleet.account();
        let member = &backends.fleet.members()[route.member];
        telemetry::mcp::resolved(&member.spec, &request.name, &route.tool.name);
        let call = PendingCall::new(&member.spec.name, &route.tool.name, identity);
        // No effect without a ledger to record it in.
        account.ledger().open().await?;
        let child = match backends.child(route.member).await {
            Ok(child) => child,
            Err(reason) => {
                let (code, hint) = member.spec.why_down();
                let called = account.unanswered(&call, code, &reason, &hint).await?;
                return Ok(Ok(answer_of(Ok(called)).into()));
            }
        };
        let arguments = request.arguments.clone().unwrap_or_default();
        let call = match account.admit(&member.spec, Some(&route.tool), &arguments, call).await? {
            Admitted::Yes(call) => call,
            Admitted::No(called) => return Ok(Ok(answer_of(Ok(*called)).into())),
        };
        let mut meta = meta_for(&child, context);
        backends.fleet.stamp(member, &call, &mut meta);
        let mut params = request;
        params.name = route.tool.name.clone();
        params.meta = None;
        let mut request = CallToolRequest::new(params);
        // What is only passed on need not be read, unless it is measured or paid for by its length as it is read.
        if self.takes_text() && !telemetry::is_on() && (member.spec.own || member.spec.price.per_byte_usd.is_none()) {
            request.extensions.insert(AsText::default());
        }
        let request = ClientRequest::CallToolRequest(request);
        let ended = forward(&member.spec, &child, request, meta, context, member.spec.call_timeout).await;
        self.settle(backends, member, &child, &call, ended).await
    }

    async fn settle(
        &self,
        backends: &Backends,
        member: &Member,
        child: &std::sync::Arc<Child>,
        call: &PendingCall,
        ended: Ended,
    ) -> Result<Result<CallToolResponse, ErrorData>, LedgerError> {
        let account = backends.fleet.account();
        let spec = &member.spec;
        let called = match ended {
            Ended::Answered(result) => return self.answered(backends, member, call, *result).await,
            Ended::Text(text) => return self.passed_on(backends, member, call, &text).await,
            Ended::Wrong(error) => {
                let code = Some("protocol_error".to_owned());
                account.priced(spec, call, Outcome::Refused, code, || 0).await?;
                return Ok(Err(error));
            }
            Ended::Refused(refusal) => {
                account.unanswered(call, refusal.code(), &refusal.to_string(), &refusal.hint(&spec.name)).await?
            }
            Ended::Died(reason) => {
                member.died(child).await;
                match account.lost_receipt(call).await? {
                    Some(receipt) if spec.own => {
                        account.settled(call, &receipt).await?;
                        let hint = "the work was done and is charged; read the present state before calling again";
                        let message = format!("{} ended before it answered: {reason}", spec.name);
                        Called { is_error: true, structured: failure("answer_lost", &message, hint), receipt }
                    }
                    _ => {
                        let message = format!("{} ended while it worked on the call: {reason}", spec.name);
                        let hint = "read the present state, then call again";
                        account.unanswered(call, "server_died", &message, hint).await?
                    }
                }
            }
            Ended::TimedOut | Ended::Cancelled => {
                let timed_out = matches!(ended, Ended::TimedOut);
                let (code, message) = if timed_out {
                    (
                        "timeout",
                        format!("no answer within {} ms; the call was cancelled", spec.call_timeout.as_millis()),
                    )
                } else {
                    ("cancelled", "the client took the call back".to_owned())
                };
                let hint = "ask for less, or raise call_timeout_ms";
                // A server of the house records the cancelled call itself; two receipts would be one too many.
                let own = if spec.own { account.await_receipt(call).await? } else { None };
                match own {
                    Some(receipt) => {
                        account.settled(call, &receipt).await?;
                        Called { is_error: true, structured: failure(code, &message, hint), receipt }
                    }
                    None if timed_out => account.timed_out(spec, call, &message, hint).await?,
                    None => {
                        let receipt =
                            account.priced(spec, call, Outcome::Cancelled, Some(code.to_owned()), || 0).await?;
                        Called { is_error: true, structured: failure(code, &message, hint), receipt }
                    }
                }
            }
        };
        Ok(Ok(answer_of(Ok(called)).into()))
    }

    /// Answers with what the server wrote, and a receipt.
    async fn passed_on(
        &self,
        backends: &Backends,
        member: &Member,
        call: &PendingCall,
        text: &TextAnswer,
    ) -> Result<Result<CallToolResponse, ErrorData>, LedgerError> {
        let (account, spec) = (backends.fleet.account(), &member.spec);
        let is_plain = if spec.own {
            // Its receipt is there, and nothing is to be said beside it.
            text.meta().is_some_and(has_receipt) && !call.is_warned()
        } else {
            text.bytes() <= spec.answer_bytes_max && !text.is_failure() && text.is_known()
        };
        if !is_plain {
            let Ok(result) = text.read() else {
                let message = "the server answered with something that is not the result of a tool";
                account.priced(spec, call, Outcome::Failed, Some("protocol_error".to_owned()), || text.bytes()).await?;
                return Ok(Err(ErrorData::internal_error(message, None)));
            };
            return self.answered(backends, member, call, ServerResult::CallToolResult(result)).await;
        }
        let own = text.meta().filter(|_| spec.own);
        let members = if let Some(meta) = own {
            text.members(meta)
        } else {
            let receipt = account.priced(spec, call, Outcome::Ok, None, || text.bytes()).await?;
            let mut meta: JsonObject = text.meta().and_then(|meta| serde_json::from_str(meta).ok()).unwrap_or_default();
            receipt_of_ours(&mut meta, &receipt);
            text.members(&json!(meta).to_string())
        };
        Ok(Ok(written::of_members(members).into()))
    }

    async fn answered(
        &self,
        backends: &Backends,
        member: &Member,
        call: &PendingCall,
        result: ServerResult,
    ) -> Result<Result<CallToolResponse, ErrorData>, LedgerError> {
        let account = backends.fleet.account();
        let spec = &member.spec;
        let bytes = if spec.own { 0 } else { bytes_of(&result) };
        if bytes > spec.answer_bytes_max {
            let limit = spec.answer_bytes_max;
            let message = format!("the answer has {bytes} bytes, and at most {limit} are taken; the work was done");
            let code = Some("answer_too_large".to_owned());
            let receipt = account.priced(spec, call, Outcome::Failed, code, || limit).await?;
            let hint = "ask for less, or raise the server's answer_bytes_max";
            let called = Called { is_error: true, structured: failure("answer_too_large", &message, hint), receipt };
            return Ok(Ok(answer_of(Ok(called)).into()));
        }
        Ok(Ok(match result {
            ServerResult::CallToolResult(mut result) => {
                // A server in a session does not say it, and clients of the newest revision want it said.
                result.result_type.get_or_insert(ResultType::COMPLETE);
                let failed = result.is_error.unwrap_or(false);
                match own_receipt(member, result.meta.as_ref()) {
                    Some(receipt) => account.settled(call, &receipt).await?,
                    None => {
                        let code = result.structured_content.as_ref().and_then(|it| it["error"]["code"].as_str());
                        let code = code.filter(|_| failed).map(|code| code.chars().take(64).collect());
                        let outcome = if failed { Outcome::Failed } else { Outcome::Ok };
                        let receipt = account.priced(spec, call, outcome, code, || bytes).await?;
                        receipt_of_ours(&mut result.meta.get_or_insert_with(MetaObject::new).0, &receipt);
                    }
                }
                CallToolResponse::Complete(result)
            }
            ServerResult::InputRequiredResult(question) => {
                match own_receipt(member, question.meta.as_ref()) {
                    Some(receipt) => account.settled(call, &receipt).await?,
                    None => drop(
                        account.priced(spec, call, Outcome::Refused, Some(INPUT_REQUIRED.to_owned()), || bytes).await?,
                    ),
                }
                CallToolResponse::InputRequired(question)
            }
            ServerResult::CreateTaskResult(mut task) => {
                // The receipt of a server of the house comes when its task is done.
                if !spec.own {
                    account.priced(spec, call, Outcome::Ok, None, || bytes).await?;
                }
                task.task.task_id = task_name(&spec.name, &task.task.task_id);
                CallToolResponse::Task(task)
            }
            _ => {
                let message = "the server answered with something that is not the result of a tool";
                account.priced(spec, call, Outcome::Failed, Some("protocol_error".to_owned()), || bytes).await?;
                return Ok(Err(ErrorData::internal_error(message, None)));
            }
        }))
    }

    async fn unknown_tool(&self, backends: &Backends, name: &str) -> ErrorData {
        let tools = backends.tools().await;
        let name: String = name.chars().take(128).collect();
        let nearest = tollgate_shared::config::nearest(&name, tools.listed.iter().map(|tool| tool.name.as_ref()));
        let mut message = format!("unknown tool `{name}`{}", tollgate_shared::config::did_you_mean(nearest));
        if let Some(down) = tools.unavailable.iter().find(|down| name.starts_with(&format!("{}__", down.server))) {
            message = format!("{message}; the tools of {} are not there now: {}", down.server, down.reason);
        }
        ErrorData::invalid_params(message, None)
    }
}

/// Puts the receipt into `meta`. A foreign server's word about money is not taken, nor passed on as ours.
fn receipt_of_ours(meta: &mut JsonObject, receipt: &Receipt) {
    meta.retain(|key, _| !key.starts_with("io.tollgate/"));
    meta.insert(RECEIPT_META_KEY.to_owned(), json!(receipt));
}

/// Whether the receipt of a server of the house is in `meta`.
fn has_receipt(meta: &str) -> bool {
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow, rename = "io.tollgate/receipt")]
        receipt: &'a RawValue,
    }
    serde_json::from_str::<Meta<'_>>(meta).is_ok_and(|meta| meta.receipt.get().starts_with('{'))
}

fn own_receipt(member: &Member, meta: Option<&MetaObject>) -> Option<Receipt> {
    serde_json::from_value(meta.filter(|_| member.spec.own)?.0.get(RECEIPT_META_KEY)?.clone()).ok()
}

/// Returns the answer to a call that was answered here and not by its server.
fn answer_of(called: Result<Called, LedgerError>) -> CallToolResult {
    match called {
        Ok(called) => {
            let mut answer = called.structured;
            answer["cost_usd"] = json!(called.receipt.amount);
            answer["cached"] = json!(false);
            let mut result = structured(answer, called.is_error);
            let meta = MetaObject(serde_json::Map::from_iter([(RECEIPT_META_KEY.to_owned(), json!(called.receipt))]));
            result.meta = Some(meta);
            result
        }
        Err(error) => unrecorded(&error),
    }
}

pub(super) fn structured(answer: Value, failed: bool) -> CallToolResult {
    let content = vec![ContentBlock::text(answer.to_string())];
    let mut result = if failed { CallToolResult::error(content) } else { CallToolResult::success(content) };
    result.structured_content = Some(answer);
    result
}

/// The one answer without a receipt: there is nowhere to record it.
fn unrecorded(error: &LedgerError) -> CallToolResult {
    tracing::error!(error = %Chain(error), "the ledger cannot be written");
    let hint = "make the state folder writable and free disk space, then call again";
    structured(failure("ledger_unavailable", &Chain(error).to_string(), hint), true)
}
