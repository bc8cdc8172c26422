//! Who answers the questions that servers ask on the command line: the person at the terminal, or what the operator said
//! beforehand.

mod form;
mod person;

use std::io::IsTerminal;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ElicitRequestParams, ElicitResult, ElicitationAction,
    ElicitationCapability, ElicitationSchema, FormElicitationCapability, InputRequest, InputRequiredResult, JsonObject,
    UrlElicitationCapability,
};
use serde_json::Value;

use form::Form;
use person::Person;

/// Most times that one call may be answered with a question; the other SDKs stop there too.
pub(super) const ROUNDS_MAX: usize = 10;

/// Most questions in one answer: more than a person reads.
const QUESTIONS_MAX: usize = 16;

/// Who answers.
#[derive(Clone, Debug)]
pub enum Answers {
    /// The person at the terminal.
    Person(Arc<Person>),
    /// Nobody: every question is declined.
    Decline,
    /// Nobody: every question is dismissed.
    Cancel,
    /// Nobody: forms are sent as the server filled them in.
    Defaults,
    /// Nobody: forms are sent with these values, and the server's own for the rest.
    Fields(JsonObject),
}

impl Answers {
    /// Returns who answers where nothing was said: the person, if there is one before a terminal. An agent may have a
    /// terminal of its own, and is no person.
    #[must_use]
    pub fn present() -> Option<Self> {
        let is_agent = std::env::var_os("TOLLGATE_AGENT").is_some_and(|name| !name.is_empty());
        let watched = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        (watched && !is_agent).then(|| Self::Person(Arc::default()))
    }

    /// Whether a person answers: only then is a link opened, and a server of the house believes the answer.
    pub(super) fn is_person(&self) -> bool {
        matches!(self, Self::Person(_))
    }

    /// Returns what servers are told of it.
    pub(super) fn capabilities(&self) -> ClientCapabilities {
        let mut elicitation = ElicitationCapability::new().with_form(FormElicitationCapability::default());
        if self.is_person() {
            elicitation = elicitation.with_url(UrlElicitationCapability::new());
        }
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = Some(elicitation);
        capabilities
    }

    /// Answers one question of `server`.
    pub(super) async fn answer(&self, server: &str, question: ElicitRequestParams) -> ElicitResult {
        match (self, question) {
            (Self::Decline, _) => ElicitResult::new(ElicitationAction::Decline),
            (Self::Person(person), ElicitRequestParams::FormElicitationParams { message, requested_schema, .. }) => {
                match Form::of(&requested_schema) {
                    Ok(form) => person.fill(server, &message, form).await,
                    Err(reason) => dismissed(server, &reason),
                }
            }
            (Self::Person(person), ElicitRequestParams::UrlElicitationParams { message, url, .. }) => {
                person.follow(server, &message, &url).await
            }
            (Self::Defaults, ElicitRequestParams::FormElicitationParams { requested_schema, .. }) => {
                filled(server, &requested_schema, &JsonObject::new())
            }
            (Self::Fields(given), ElicitRequestParams::FormElicitationParams { requested_schema, .. }) => {
                filled(server, &requested_schema, given)
            }
            (Self::Cancel, _) => ElicitResult::new(ElicitationAction::Cancel),
            _ => dismissed(server, "only a person may open a link"),
        }
    }

    /// Answers every question of `asked` and returns the call that comes next.
    ///
    /// # Errors
    ///
    /// A sentence, when it asks for something other than answers.
    pub(super) async fn retry(
        &self,
        server: &str,
        first: &CallToolRequestParams,
        asked: InputRequiredResult,
    ) -> Result<CallToolRequestParams, String> {
        let questions = asked.input_requests.unwrap_or_default();
        if questions.len() > QUESTIONS_MAX {
            return Err(format!("the tool asks {} questions at once; at most {QUESTIONS_MAX} are", questions.len()));
        }
        let mut responses = std::collections::BTreeMap::new();
        for (key, question) in questions {
            let InputRequest::Elicitation(question) = question else {
                return Err("the tool asks for a model or for folders, which the command line does not give".to_owned());
            };
            let answer = self.answer(server, question.params).await;
            responses.insert(key, serde_json::to_value(answer).unwrap_or(Value::Null));
        }
        let mut next = first.clone();
        next.input_responses = (!responses.is_empty()).then_some(responses);
        next.request_state = asked.request_state;
        Ok(next)
    }
}

impl std::str::FromStr for Answers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ask" => Self::present().ok_or_else(|| "there is no person at a terminal to ask".to_owned()),
            "decline" => Ok(Self::Decline),
            "cancel" => Ok(Self::Cancel),
            "defaults" => Ok(Self::Defaults),
            text => serde_json::from_str(text)
                .map(Self::Fields)
                .map_err(|_| "it is none of ask, decline, cancel, defaults and no JSON object".to_owned()),
        }
    }
}

fn filled(server: &str, schema: &ElicitationSchema, given: &JsonObject) -> ElicitResult {
    match Form::of(schema).and_then(|form| form.filled(given)) {
        Ok(content) => ElicitResult::new(ElicitationAction::Accept).with_content(Value::Object(content)),
        Err(reason) => dismissed(server, &reason),
    }
}

fn dismissed(server: &str, reason: &str) -> ElicitResult {
    tracing::warn!(server, "its question is dismissed: {reason}");
    ElicitResult::new(ElicitationAction::Cancel)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn answered(by: &str, question: Value) -> Value {
        let answers: Answers = by.parse().unwrap();
        let question = serde_json::from_value(question).unwrap();
        serde_json::to_value(answers.answer("s", question).await).unwrap()
    }

    fn form() -> Value {
        json!({"mode": "form", "message": "m", "requestedSchema": {"type": "object",
            "properties": {"name": {"type": "string", "default": "Ada"}, "age": {"type": "integer", "minimum": 18}},
            "required": ["age"]}})
    }

    #[tokio::test]
    async fn what_the_operator_said_is_sent_if_the_form_takes_it() {
        assert_eq!(answered("decline", form()).await, json!({"action": "decline"}));
        assert_eq!(answered("cancel", form()).await, json!({"action": "cancel"}));
        // `age` is required and has no default.
        assert_eq!(answered("defaults", form()).await, json!({"action": "cancel"}));
        let accepted = answered(r#"{"age": 20, "other": 1}"#, form()).await;
        assert_eq!(accepted, json!({"action": "accept", "content": {"name": "Ada", "age": 20}}));
        for wrong in [r#"{"age": 17}"#, r#"{"age": "20"}"#, r#"{"name": "x"}"#, r#"{"age": 20.5}"#, r#"{"age": null}"#]
        {
            assert_eq!(answered(wrong, form()).await, json!({"action": "cancel"}), "{wrong}");
        }
    }

    #[tokio::test]
    async fn link_is_never_accepted_without_a_person() {
        let link = json!({"mode": "url", "message": "m", "url": "https://example.com/pay", "elicitationId": "1"});
        for by in ["defaults", "cancel", r#"{"url": "https://example.com/pay"}"#] {
            assert_eq!(answered(by, link.clone()).await, json!({"action": "cancel"}), "{by}");
        }
        assert_eq!(answered("decline", link).await, json!({"action": "decline"}));
        let told = |by: &str| serde_json::to_value(by.parse::<Answers>().unwrap().capabilities()).unwrap();
        assert_eq!(told("defaults")["elicitation"].get("url"), None);
    }

    #[test]
    fn anything_else_is_no_answer() {
        for wrong in ["yes", "[1]", "\"x\"", "{", ""] {
            assert!(wrong.parse::<Answers>().is_err(), "{wrong}");
        }
    }
}
