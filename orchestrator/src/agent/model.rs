//! The agent that asks a model what to do next: every request is paid for from the task's budget, failed ones too.

pub(super) mod compaction;
mod conversation;
mod provider;

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::receipt::{Outcome, Receipt};

use super::{Agent, AgentError, Conversation};
use crate::budget::{BUDGET_EXCEEDED, Estimate};
use crate::fleet::account::{Admitted, PendingCall};
use crate::model::{Model, SERVER};
use crate::session::{Reply, Said, Wanted};
use crate::telemetry;
use conversation::Prepared;
use provider::{Answer, Failure, Provider};

/// Most requests that one reply takes: of a model with the most further tries, and as many again for a summary.
pub(crate) const REQUESTS_MAX: u32 = 64;

/// The shortest answer that is worth a request, in tokens; with money for less none is made.
const OUTPUT_TOKENS_MIN: u64 = 1_000;

/// Longest wait between two tries, whatever the provider asks for.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// An agent that asks a model.
pub struct ModelAgent {
    model: Model,
    provider: Provider,
}

impl ModelAgent {
    /// Makes an agent that asks `model`; no request is made yet.
    ///
    /// # Errors
    ///
    /// A sentence that says what is missing.
    pub async fn new(model: Model) -> anyhow::Result<Self> {
        let provider = Provider::new(&model).await?;
        Ok(Self { model, provider })
    }
}

impl Agent for ModelAgent {
    async fn reply(&mut self, conversation: Conversation<'_>) -> Result<Said, AgentError> {
        let prepared = conversation::prepare(&self.model, &conversation);
        let mut requests = Requests {
            model: &self.model,
            provider: &self.provider,
            conversation,
            deadline: Instant::now() + conversation.time_left,
            made: 0,
            receipts: Vec::new(),
        };
        let room = self.model.context_tokens.saturating_sub(self.model.output_tokens_max);
        if prepared.input_tokens <= room {
            match requests.ask(&prepared).await {
                Err(Stopped::Failed(failure)) if failure.too_long => {}
                answer => {
                    return match answer {
                        Ok(answer) => Ok(requests.reply(answer)),
                        Err(stopped) => Err(requests.error(stopped)),
                    };
                }
            }
        }
        if !compaction::is_possible(conversation.history) {
            let reason = format!(
                "the task and its tools have about {} tokens; {} takes {room} beside its answer",
                prepared.input_tokens,
                self.model.id()
            );
            return Err(AgentError { is_budget: false, reason, receipts: requests.receipts });
        }
        let notes = match requests.ask(&compaction::notes_request(&self.model, conversation.history)).await {
            Ok(answer) => answer.text,
            // Without the model's own notes there is still all that was recorded.
            Err(Stopped::Failed(failure)) => {
                tracing::warn!(reason = failure.reason, "no notes of the model's own for the summary");
                None
            }
            Err(stopped) => return Err(requests.error(stopped)),
        };
        let text = compaction::summary(conversation.history, notes.as_deref());
        Ok(Said::Summary { text, receipts: requests.receipts })
    }
}

/// The requests of one reply.
struct Requests<'a> {
    model: &'a Model,
    provider: &'a Provider,
    conversation: Conversation<'a>,
    deadline: Instant,
    made: u32,
    receipts: Vec<Receipt>,
}

/// Why there is no answer.
enum Stopped {
    /// The provider gives none.
    Failed(Failure),
    /// The money is not there.
    Budget(String),
    /// What was spent cannot be recorded.
    Ledger(String),
}

impl Requests<'_> {
    /// Asks until there is an answer, or no further try is worth it.
    async fn ask(&mut self, prepared: &Prepared) -> Result<Answer, Stopped> {
        let mut delay = self.model.retry_delay;
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.ask_once(prepared).await? {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = failure.retry_after.unwrap_or(delay).min(DELAY_MAX);
            let is_last = tries > self.model.retries || self.made >= REQUESTS_MAX;
            if !failure.may_pass || is_last || Instant::now() + wait >= self.deadline {
                return Err(Stopped::Failed(failure));
            }
            tracing::warn!(
                model = self.model.id(),
                reason = failure.reason,
                wait_ms = wait.as_millis(),
                "asking again"
            );
            tokio::time::sleep(wait + jitter(wait)).await;
            delay = delay.saturating_mul(2).min(DELAY_MAX);
        }
    }

    async fn ask_once(&mut self, prepared: &Prepared) -> Result<Result<Answer, Failure>, Stopped> {
        let task_id = self.conversation.identity.task_id.as_deref();
        let span = telemetry::model::chat(self.model, self.provider.url(), task_id);
        telemetry::within(span.as_ref(), self.request(prepared)).await
    }

    /// Makes one request: sets aside what it may cost, and records what it did.
    async fn request(&mut self, prepared: &Prepared) -> Result<Result<Answer, Failure>, Stopped> {
        let Conversation { core, identity, request_id, .. } = self.conversation;
        let account = core.fleet.account();
        let call = PendingCall::named(request_id.attempt(self.made), SERVER, &self.model.id(), identity);
        self.made += 1;
        let (least, most) = self.model.most(prepared.input_tokens, OUTPUT_TOKENS_MIN);
        let admitted = account.admit_estimated(Estimate { least, most }, call).await;
        let call = match admitted.map_err(|error| Stopped::Ledger(Chain(&error).to_string()))? {
            Admitted::Yes(call) => call,
            Admitted::No(called) => {
                self.receipts.push(called.receipt);
                let error = &called.structured["error"];
                let reason = format!(
                    "a request to {} does not fit the budget: {}; {}",
                    self.model.id(),
                    error["message"].as_str().unwrap_or_default(),
                    error["hint"].as_str().unwrap_or_default()
                );
                return Err(if error["code"] == BUDGET_EXCEEDED {
                    Stopped::Budget(reason)
                } else {
                    Stopped::Ledger(reason)
                });
            }
        };
        // The answer ends where the money does that was set aside.
        let rates = self.model.prices.of(prepared.input_tokens);
        let output_tokens = call.allowance.map_or(self.model.output_tokens_max, |allowance| {
            let for_input = rates.dearest_input().times(prepared.input_tokens);
            let affordable = allowance.left_after(for_input).quantity_at(rates.output);
            affordable.unwrap_or(u64::MAX).min(self.model.output_tokens_max)
        });
        telemetry::model::asked(output_tokens);
        let answer = self.provider.ask(prepared, output_tokens, self.deadline).await;
        let (outcome, code, tokens) = match &answer {
            Ok(answer) => (Outcome::Ok, None, &answer.tokens),
            Err(failure) => (Outcome::Failed, Some(failure.code.to_owned()), &failure.tokens),
        };
        telemetry::model::answered(tokens, answer.as_ref().ok().and_then(|answer| answer.model.as_deref()));
        let lines = self.model.prices.lines(&self.model.id(), tokens);
        let receipt = account.charged(&call, outcome, code, lines).await;
        self.receipts.push(receipt.map_err(|error| Stopped::Ledger(Chain(&error).to_string()))?);
        Ok(answer)
    }

    fn reply(self, answer: Answer) -> Said {
        let calls = answer
            .calls
            .into_iter()
            .map(|call| Wanted { id: call.call_id, tool: call.fn_name, arguments: call.fn_arguments })
            .collect();
        let opaque = json!({ "model": self.model.id(), "content": answer.content });
        Said::Agent(Reply {
            text: answer.text,
            calls,
            opaque: Some(opaque),
            receipts: self.receipts,
            input_tokens: Some(answer.tokens.sent()),
        })
    }

    fn error(self, stopped: Stopped) -> AgentError {
        let (is_budget, reason) = match stopped {
            Stopped::Failed(failure) => (false, format!("{}: {}", self.model.id(), failure.reason)),
            Stopped::Budget(reason) => (true, reason),
            Stopped::Ledger(reason) => (false, reason),
        };
        AgentError { is_budget, reason, receipts: self.receipts }
    }
}

/// Returns up to a quarter of `wait`, so that many who were turned away do not all come back at once.
fn jitter(wait: Duration) -> Duration {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    wait / 4 * u32::from(byte[0]) / 256
}
