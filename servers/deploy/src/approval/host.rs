//! Agreement through the host: a form that it shows to the person in front of it.
//!
//! That a host says "accepted" is no proof of a person, so this counts only where the configuration says so, and never
//! in production. What was agreed to is kept by the process that heard it and nowhere else: nothing that is written to
//! the state folder can forge it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::{Call, Question, Reply};

use super::Standing;
use super::tally::Approver;
use super::terms::quoted;
use crate::Deploy;
use crate::deployment::DeploymentEvent;
use crate::environment::Environment;
use crate::names::ReleaseName;
use crate::store::approvals::Request;

/// How long a person may take: as long as hosts keep a form open.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often one request is put to a person: an agent must not wear anybody down.
const QUESTIONS_MAX: u32 = 3;

/// Most agreements that are kept for what was not deployed yet.
const AGREEMENTS_MAX: usize = 1000;

/// What stands for the key of who agreed through the host.
const FINGERPRINT: &str = "elicitation";

/// Who is meant where the configuration does not name the operator.
const SOMEBODY: &str = "the person at the host";

/// What this process heard: the terms of each request that was agreed to.
#[derive(Debug, Default)]
pub struct Heard(Mutex<HashMap<String, ContentHash>>);

impl Heard {
    fn knows(&self, id: &str, terms: &str) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(id).is_some_and(|agreed| *agreed == ContentHash::of(terms.as_bytes()))
    }

    fn add(&self, id: &str, terms: &str) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() >= AGREEMENTS_MAX {
            // Whoever agreed is asked again.
            heard.clear();
        }
        heard.insert(id.to_owned(), ContentHash::of(terms.as_bytes()));
    }
}

/// Returns who agreed to `request` through the host, where that counts beside `standing`.
#[must_use]
pub fn agreement(
    server: &Deploy,
    environment: &Environment,
    request: &Request,
    standing: &Standing,
) -> Option<Approver> {
    let person = person(server);
    let counts = environment.approve_by.elicitation
        && !environment.is_production
        && !is_barred(environment, request, &person)
        && !standing.approvers.iter().any(|approver| approver.person.eq_ignore_ascii_case(&person))
        && server.heard.knows(&request.record.id, &standing.terms);
    counts.then(|| Approver { person, fingerprint: FINGERPRINT.to_owned() })
}

/// Puts `request` to the person at the host, where there is one who may be asked, and takes the answer.
///
/// # Errors
///
/// `input_required` where the answer to the call has to be the question, `input_invalid` and `input_expired` where it is
/// no answer to it, `approval_denied`, `cancelled`, `history_unavailable`.
pub async fn consult(
    server: &Deploy,
    environment: &Environment,
    request: &Request,
    standing: &Standing,
    call: &Call,
) -> Result<(), Refusal> {
    let (id, person) = (&request.record.id, person(server));
    let may_be_asked = environment.approve_by.elicitation
        && call.can_ask()
        && !is_barred(environment, request, &person)
        && !server.heard.knows(id, &standing.terms);
    if !may_be_asked {
        return Ok(());
    }
    let replied = match call.replied()? {
        Some(replied) => replied,
        None => {
            let nonce = nonce()?;
            if !server.store.ask_host(id, &nonce, QUESTIONS_MAX).await? {
                return Ok(());
            }
            call.ask(question(environment, request, standing, &nonce)).await?
        }
    };
    let nonce = nonce_of(&replied.subject, id, &standing.terms).ok_or_else(|| spent(id))?;
    let (answer, agreed) = match replied.reply {
        Reply::Accepted(form) => match form.get("approve") {
            Some(Value::Bool(true)) => ("accepted", Some(true)),
            Some(Value::Bool(false)) => ("declined", Some(false)),
            // Not the form that was asked to be filled in.
            _ => ("dismissed", None),
        },
        Reply::Declined => ("declined", Some(false)),
        Reply::Dismissed => ("dismissed", None),
    };
    if !server.store.hear_host(id, nonce, answer).await? {
        return Err(spent(id));
    }
    let about = json!({ "id": id, "person": person, "by": FINGERPRINT, "answer": answer, "terms": standing.terms });
    match agreed {
        Some(true) => {
            server.heard.add(id, &standing.terms);
            call.decide("host_accepted", format!("the host says that {person} agreed to {id}"), about);
            Ok(())
        }
        Some(false) => {
            let reason = format!("{person} declined through the host");
            server.store.end_unbegun(id, DeploymentEvent::Cancel, &reason).await?;
            call.decide("denied", reason.clone(), about);
            Err(Refusal::refused(
                "approval_denied",
                format!("{reason}; nothing was done"),
                "do not ask for the same again; ask the operator what to change",
            )
            .with_detail("id", id))
        }
        None => Ok(()),
    }
}

fn person(server: &Deploy) -> String {
    server.operator.clone().unwrap_or_else(|| SOMEBODY.to_owned())
}

/// Whether that person's agreement would not count: an agent must not go by the operator's name.
fn is_barred(environment: &Environment, request: &Request, person: &str) -> bool {
    let barred = super::barred(environment, request);
    let is = |name: &str| name.trim().eq_ignore_ascii_case(person);
    is(&barred.requester) || barred.operator.as_deref().is_some_and(is)
}

fn nonce() -> Result<String, Refusal> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| {
        Refusal::failed("internal_error", format!("cannot make a question: {error}"), "report this as a bug")
    })?;
    Ok(hex::encode(nonce))
}

fn subject(id: &str, nonce: &str, terms: &str) -> String {
    format!("{id} {nonce} {}", ContentHash::of(terms.as_bytes()))
}

fn nonce_of<'a>(subject_text: &'a str, id: &str, terms: &str) -> Option<&'a str> {
    let nonce = subject_text.split(' ').nth(1)?;
    (subject(id, nonce, terms) == subject_text).then_some(nonce)
}

fn spent(id: &str) -> Refusal {
    Refusal::refused(
        "input_invalid",
        format!("the answer is not to what is asked about {id}, or it was given before"),
        "call again without `requestState` and `inputResponses`",
    )
}

fn question(environment: &Environment, request: &Request, standing: &Standing, nonce: &str) -> Question {
    let record = &request.record;
    let optional = |text: &Option<String>| text.as_ref().map_or("none".to_owned(), |text| quoted(text));
    let before = standing
        .terms
        .lines()
        .find_map(|line| line.strip_prefix("previous: "))
        .and_then(ReleaseName::parse)
        .map_or("nothing".to_owned(), |release| release.to_string());
    // Names have plain characters only, and free text is quoted: an agent cannot write into the form.
    let mut message = format!(
        "{} {} {} to {}?\n\nasked by {} (role {}, task {})\nrelease {}\ndigest {}\ncurrent before: {before}\n",
        if record.kind == crate::store::Kind::Deploy { "Deploy" } else { "Roll back" },
        record.service,
        record.version,
        record.environment,
        quoted(&record.agent),
        optional(&request.role),
        optional(&record.task_id),
        record.release,
        record.digest,
    );
    if environment.is_production {
        message
            .push_str("\nThis alone does not release it: people have to sign it with `mcp-deploy approve` as well.\n");
    }
    let fields = json!({ "approve": {
        "type": "boolean",
        "title": "Approve",
        "description": format!("Release {} {} to {}, once", record.service, record.version, record.environment),
    }});
    Question {
        message,
        fields: fields.as_object().cloned().unwrap_or_default(),
        subject: subject(&record.id, nonce, &standing.terms),
        patience: PATIENCE,
    }
}
