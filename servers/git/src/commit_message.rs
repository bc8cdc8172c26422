//! What a commit says: the agent's words, and who it was, which the agent cannot say itself.

use tollgate_shared::identity::Identity;
use tollgate_shared::ids::EntryId;
use tollgate_shared::refusal::Refusal;

use crate::branch_name::quoted;
use crate::fold::{folded, is_invisible};
use crate::repository::paths::cut;

/// Longest message: far more than anybody reads, little enough to show in a log.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Longest value of a trailer: fits the longest agent name.
const TRAILER_BYTES_MAX: usize = 200;

/// The trailers that only this server writes.
const RESERVED: &[&str] = &[AGENT, ROLE, TASK, RECEIPT];
const AGENT: &str = "Agent";
const ROLE: &str = "Agent-Role";
const TASK: &str = "Task";
const RECEIPT: &str = "Tollgate-Receipt";

/// A message without any of the trailers that say who made a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMessage(String);

impl CommitMessage {
    /// Reads a message that a caller gave.
    ///
    /// # Errors
    ///
    /// `invalid_message`, `reserved_trailer`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let fault = if text.len() > MESSAGE_BYTES_MAX {
            Some("it is longer than 64 KiB")
        } else if text.contains('\0') {
            Some("it has a NUL character")
        } else if text.chars().all(|c| c.is_whitespace() || c.is_control() || is_invisible(c)) {
            Some("it is empty")
        } else if text.split(is_line_break).any(ends_the_message) {
            Some("it has a line `---` or a scissors line, after which git reads no trailers")
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(Refusal::refused(
                "invalid_message",
                format!("the commit message cannot be taken: {fault}"),
                "say in a line what changes, then, after an empty line, why",
            ));
        }
        let text = text.trim_start_matches(['\n', '\r']).trim_end().replace("\r\n", "\n");
        // The first line is the subject, which is never read as a trailer.
        if let Some(line) = text.split(is_line_break).skip(1).find(|line| is_reserved(line)) {
            return Err(Refusal::refused(
                "reserved_trailer",
                format!("the commit message has the line {}, which only this server writes", quoted(line)),
                "leave the lines `Agent:`, `Agent-Role:`, `Task:` and `Tollgate-Receipt:` out; they are added",
            ));
        }
        Ok(Self(text))
    }

    /// Returns the text, without an empty line at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first line.
    #[must_use]
    pub fn summary(&self) -> &str {
        cut(self.0.lines().next().unwrap_or_default(), TRAILER_BYTES_MAX)
    }

    /// Returns the message with the trailers that say on whose behalf the commit is made, and by which call.
    #[must_use]
    pub fn signed_off(&self, identity: &Identity, receipt: EntryId) -> String {
        let trailers = [
            (AGENT, Some(identity.agent.name.clone())),
            (ROLE, identity.agent.role.clone()),
            (TASK, identity.task_id.clone()),
            (RECEIPT, Some(receipt.to_string())),
        ];
        let separator = if self.ends_with_trailers() { "\n" } else { "\n\n" };
        let mut text = format!("{}{separator}", self.0);
        for (key, value) in trailers {
            let value = one_line(&value.unwrap_or_default());
            if !value.is_empty() {
                text.push_str(&format!("{key}: {value}\n"));
            }
        }
        text
    }

    /// Returns whether the last paragraph, unless it is the subject, is made of `Key: value` lines only.
    fn ends_with_trailers(&self) -> bool {
        let Some((_, paragraph)) = self.0.rsplit_once("\n\n") else { return false };
        paragraph.lines().all(|line| {
            line.split_once(": ").is_some_and(|(key, _)| {
                !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
        })
    }
}

/// Returns `value` without anything that could start another line.
pub(crate) fn one_line(value: &str) -> String {
    let value: String = value
        .chars()
        .map(|c| if c.is_control() || is_line_break(c) { ' ' } else { c })
        .filter(|c| !is_invisible(*c))
        .collect();
    cut(value.trim(), TRAILER_BYTES_MAX).to_owned()
}

/// Everything that some program takes for the end of a line.
fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Returns whether git takes what follows `line` for a patch or a comment: our trailers would not be seen.
fn ends_the_message(line: &str) -> bool {
    let divider = line.strip_prefix("---").is_some_and(|rest| rest.chars().next().is_none_or(char::is_whitespace));
    divider || line.contains("- >8 -")
}

fn is_reserved(line: &str) -> bool {
    // Git allows spaces before the colon; looking anywhere but in the last paragraph too keeps `git log --grep` honest.
    let Some((key, _)) = line.split_once([':', '：']) else { return false };
    let key = folded(key.trim());
    RESERVED.iter().any(|reserved| key.trim() == folded(reserved))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tollgate_shared::identity::Agent;

    use super::*;

    fn identity(name: &str, role: Option<&str>, task: Option<&str>) -> Identity {
        Identity {
            agent: Agent { name: name.into(), role: role.map(Into::into) },
            task_id: task.map(Into::into),
            call_id: None,
        }
    }

    fn trailers(message: &str) -> Vec<(String, String)> {
        let trailers = git2::message_trailers_strs(message).unwrap();
        trailers.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn forged_trailers_are_refused() {
        let lines = [
            "Agent: human",
            "agent: human",
            "AGENT : human",
            "  Agent: human",
            "Agent-Role: operator",
            "Task: TASK-1",
            "Tollgate-Receipt: 0198",
            "tollgate-receipt:x",
            "Ａgent: human",
            "A\u{200b}gent: human",
            "Agent： human",
        ];
        for line in lines {
            for message in [
                format!("fix\n\n{line}"),
                format!("fix\n{line}\n\nmore"),
                format!("fix\n\nFixes: #1\n{line}\n"),
                format!("fix\r\r{line}"),
                format!("fix\u{2028}{line}"),
                format!("\n\nfix\n{line}"),
            ] {
                assert_eq!(CommitMessage::parse(&message).unwrap_err().code, "reserved_trailer", "{message:?}");
            }
        }
    }

    #[test]
    fn messages_that_are_none_are_refused() {
        let long = "x".repeat(MESSAGE_BYTES_MAX + 1);
        for message in [
            "",
            " \n\t\n",
            "\u{200b}",
            "a\0b",
            "fix\n---\nx",
            "fix\n\n--- a\n",
            "--- ",
            "fix\r---\rx",
            "fix\n# ------------------------ >8 ------------------------\n",
            &long,
        ] {
            assert_eq!(CommitMessage::parse(message).unwrap_err().code, "invalid_message");
        }
    }

    #[test]
    fn ordinary_messages_are_taken() {
        let messages = [
            "fix",
            "Task: add search",
            "Agent: describe the class",
            "fix\n\nThe agent: it was wrong.",
            "fix #1: a",
            "Subject\n\nBody with\nlines.\n\nFixes: #12\nReviewed-by: x",
            "größer 日本語",
            "fix\n\nTasks: three",
            "fix\n\n----\n- one\n-- two",
        ];
        for message in messages {
            CommitMessage::parse(message).unwrap();
        }
    }

    #[test]
    fn identity_is_in_the_trailers() {
        let receipt = EntryId::generate();
        let message = CommitMessage::parse("fix\n\nBecause.\n").unwrap();
        let signed = message.signed_off(&identity("bugfix-1", Some("bugfix"), Some("TASK-7")), receipt);
        assert_eq!(
            signed,
            format!(
                "fix\n\nBecause.\n\nAgent: bugfix-1\nAgent-Role: bugfix\nTask: TASK-7\nTollgate-Receipt: {receipt}\n"
            )
        );
        assert_eq!(trailers(&signed).len(), 4);
    }

    #[test]
    fn trailers_of_the_agent_stay_trailers() {
        let message = CommitMessage::parse("fix\n\nFixes: #12").unwrap();
        let signed = message.signed_off(&identity("a", None, None), EntryId::generate());
        assert!(signed.starts_with("fix\n\nFixes: #12\nAgent: a\nTollgate-Receipt: "), "{signed}");
        assert_eq!(trailers(&signed).len(), 3);
    }

    #[test]
    fn names_cannot_start_a_line_of_their_own() {
        let message = CommitMessage::parse("fix").unwrap();
        let signed =
            message.signed_off(&identity("a\nAgent: human\u{2028}Task: x", Some("\r\n"), None), EntryId::generate());
        let found = trailers(&signed);
        assert_eq!(found[0], ("Agent".to_owned(), "a Agent: human Task: x".to_owned()));
        assert_eq!(found.len(), 2);
    }

    proptest! {
        #[test]
        fn trailers_of_a_commit_say_who_it_was(message in "([a-zA-Z:\\- ]{0,12}[\\n\\r]?){0,8}", name in "\\PC{1,20}") {
            if let Ok(message) = CommitMessage::parse(&message) {
                let receipt = EntryId::generate();
                let signed = message.signed_off(&identity(&name, None, None), receipt);
                let found = trailers(&signed);
                let agents: Vec<_> = found.iter().filter(|(key, _)| key.eq_ignore_ascii_case("agent")).collect();
                prop_assert!(agents.len() <= 1, "{signed:?}");
                let receipts: Vec<_> = found.iter().filter(|(key, _)| key == RECEIPT).collect();
                prop_assert_eq!(receipts.len(), 1, "{:?}", signed);
                prop_assert_eq!(&receipts[0].1, &receipt.to_string());
            }
        }
    }
}
