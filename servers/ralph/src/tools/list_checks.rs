//! `list_checks`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Ralph;
use crate::check::Check;
use crate::check::security::dialect::Dialect;
use crate::command::Command;
use crate::language::Language;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListChecksRequest {}

#[derive(Serialize, JsonSchema)]
struct Checks {
    checks: Vec<Described>,
}

#[derive(Serialize, JsonSchema)]
struct Described {
    /// As in `checks` of verify_file
    name: Check,
    /// What it finds
    finds: &'static str,
    /// Verdicts that it may end with
    verdicts: &'static [&'static str],
    /// Languages that it applies to
    languages: Vec<Language>,
}

pub(crate) fn tool() -> Defined<Ralph> {
    Tool::new(
        "list_checks",
        "List checks",
        "List the checks that verify_file and verify_batch can run, with the languages each applies to.",
        Effect::Reads,
        Price::Free,
    )
    .handler(run)
}

async fn run(server: Arc<Ralph>, _: ListChecksRequest, _: Call) -> Result<Answer<Checks>, Refusal> {
    let checks = Check::ALL.into_iter().map(|check| match check {
        Check::Syntax => Described {
            name: check,
            finds: "what cannot be parsed",
            verdicts: &["pass", "fail", "inconclusive"],
            languages: Language::ALL.to_vec(),
        },
        Check::Security => Described {
            name: check,
            finds: "secrets in any text; injection, unsafe deserialization, disabled TLS and the like in code",
            verdicts: &["pass", "fail", "blocked", "inconclusive"],
            languages: Dialect::ALL.iter().filter_map(|dialect| dialect.language()).collect(),
        },
        Check::Guardrail => Described {
            name: check,
            finds: "suppressions, tests left out, hooks gone around; in verify_changes also tests, assertions, \
                thresholds and CI that are weaker than before",
            verdicts: &["pass", "fail", "blocked", "inconclusive"],
            languages: Language::ALL.to_vec(),
        },
        Check::Formatting | Check::Linting | Check::TypeChecking | Check::Tests => {
            let commands: Vec<&Command> = server.commands.iter().filter(|command| command.check == check).collect();
            let mut languages: Vec<Language> = commands.iter().flat_map(|command| command.languages.clone()).collect();
            languages.sort_unstable_by_key(|language| language.name());
            languages.dedup();
            Described {
                name: check,
                finds: "what the operator's commands report; of those of the whole project, when the check is named",
                verdicts: &["pass", "fail", "inconclusive"],
                languages,
            }
        }
    });
    Ok(Answer::new(Checks { checks: checks.collect() }))
}
