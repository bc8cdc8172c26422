//! The person at the terminal: is shown a question and answers it line by line.

use std::io::{BufRead, Read, Write};
use std::sync::{LazyLock, Mutex as BlockingMutex, PoisonError, mpsc};
use std::time::Duration;

use rmcp::model::{ElicitResult, ElicitationAction, JsonObject};
use serde_json::Value;
use tokio::sync::Mutex;

use super::form::{Field, Form, Kind};
use crate::config::is_safe_url;

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Longest wait for a person to answer one question.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// Lines that may wait to be read; a terminal has room for few more.
const WAITING_LINES_MAX: usize = 64;

/// Times that a field may be filled in wrongly before the question is dismissed.
const TRIES_MAX: u32 = 5;

/// Most characters of a server's message that are shown, and of a title or description.
const MESSAGE_CHARS_MAX: usize = 2_000;
const LABEL_CHARS_MAX: usize = 200;

/// Most lines of a server's message that are shown.
const MESSAGE_LINES_MAX: usize = 30;

/// The person; answers one question at a time.
#[derive(Debug, Default)]
pub struct Person(Mutex<()>);

/// A question was dismissed: the person wrote nothing more, or took too long.
struct Dismissed;

impl Person {
    /// Shows a form and returns it filled in.
    pub(super) async fn fill(&self, server: &str, message: &str, form: Form) -> ElicitResult {
        let heading = heading(server, message);
        self.ask(move || {
            show(&heading);
            match choose("Answer, decline or cancel? [a/d/c] ", &["answer", "decline", "cancel"])? {
                "decline" => return Ok(ElicitResult::new(ElicitationAction::Decline)),
                "cancel" => return Err(Dismissed),
                _ => {}
            }
            let mut content = JsonObject::new();
            for field in &form.fields {
                if let Some(value) = fill_in(field)? {
                    content.insert(field.name.clone(), value);
                }
            }
            show(&format!("To be sent: {}\n", plain(&Value::Object(content.clone()).to_string(), MESSAGE_CHARS_MAX)));
            match choose("Send it? [y/n] ", &["yes", "no"])? {
                "yes" => Ok(ElicitResult::new(ElicitationAction::Accept).with_content(Value::Object(content))),
                _ => Err(Dismissed),
            }
        })
        .await
    }

    /// Shows a link, and says that the person follows it.
    pub(super) async fn follow(&self, server: &str, message: &str, url: &str) -> ElicitResult {
        let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        let Some(host) = host.filter(|_| is_safe_url(url, true)) else {
            return super::dismissed(server, "its link is not https://");
        };
        let heading = format!(
            "{}It wants you to open a page of {}:\n  {}\n",
            heading(server, message),
            plain(&host, LABEL_CHARS_MAX),
            plain(url, MESSAGE_CHARS_MAX)
        );
        self.ask(move || {
            show(&heading);
            match choose("Open it yourself and say yes, decline or cancel? [y/d/c] ", &["yes", "decline", "cancel"])? {
                "yes" => Ok(ElicitResult::new(ElicitationAction::Accept)),
                "decline" => Ok(ElicitResult::new(ElicitationAction::Decline)),
                _ => Err(Dismissed),
            }
        })
        .await
    }

    async fn ask(&self, asking: impl FnOnce() -> Result<ElicitResult, Dismissed> + Send + 'static) -> ElicitResult {
        let _turn = self.0.lock().await;
        let (sender, answered) = tokio::sync::oneshot::channel();
        // A thread of its own, which nobody waits for when the program ends before the person wrote anything.
        std::thread::spawn(move || {
            forget_typed_ahead();
            drop(sender.send(asking()));
        });
        match answered.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Dismissed)) | Err(_) => ElicitResult::new(ElicitationAction::Cancel),
        }
    }
}

fn heading(server: &str, message: &str) -> String {
    let lines = plain(message, MESSAGE_CHARS_MAX);
    let lines: Vec<String> = lines.lines().take(MESSAGE_LINES_MAX).map(|line| format!("  | {line}\n")).collect();
    format!("\nThe server `{server}` asks (its own words):\n{}", lines.concat())
}

/// Asks for one field until what is written fits; nothing where it is left out.
fn fill_in(field: &Field) -> Result<Option<Value>, Dismissed> {
    let title = plain(field.title.as_deref().unwrap_or(&field.name), LABEL_CHARS_MAX).replace('\n', " ");
    let mut label = format!("{title} ({}", field.kind.wanted());
    if field.required {
        label.push_str(", required");
    }
    if let Some(default) = &field.default {
        label.push_str(&format!(", empty for {}", plain(&default.to_string(), LABEL_CHARS_MAX).replace('\n', " ")));
    }
    label.push_str(")\n");
    if let Some(description) = &field.description {
        label.push_str(&format!("  {}\n", plain(description, LABEL_CHARS_MAX).replace('\n', " ")));
    }
    if let Kind::One(choices) | Kind::Many { choices, .. } = &field.kind {
        for (number, choice) in choices.iter().enumerate() {
            let choice = plain(&choice.title, LABEL_CHARS_MAX).replace('\n', " ");
            label.push_str(&format!("  {}. {choice}\n", number + 1));
        }
    }
    show(&label);
    for _ in 0..TRIES_MAX {
        show("> ");
        let written = read_line()?;
        let written = written.trim();
        if written.is_empty() {
            match &field.default {
                Some(default) => return Ok(Some(default.clone())),
                None if !field.required => return Ok(None),
                None => {}
            }
        }
        match field.read(written) {
            Ok(value) => return Ok(Some(value)),
            Err(reason) => show(&format!("  It {reason}.\n")),
        }
    }
    Err(Dismissed)
}

/// Asks until one of the words is written, or its first letter.
fn choose<'a>(prompt: &str, among: &[&'a str]) -> Result<&'a str, Dismissed> {
    for _ in 0..TRIES_MAX {
        show(prompt);
        if let Some(choice) = chosen(&read_line()?, among) {
            return Ok(choice);
        }
    }
    Err(Dismissed)
}

fn chosen<'a>(written: &str, among: &[&'a str]) -> Option<&'a str> {
    let written = written.trim().to_ascii_lowercase();
    among.iter().find(|choice| written == **choice || written == choice[..1]).copied()
}

fn show(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

/// What the person writes, which one thread reads for the whole program: a read cannot be taken back.
static LINES: LazyLock<BlockingMutex<mpsc::Receiver<String>>> = LazyLock::new(|| {
    let (sender, lines) = mpsc::sync_channel(WAITING_LINES_MAX);
    std::thread::spawn(move || {
        loop {
            let mut line = Vec::new();
            let read = std::io::stdin().lock().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) || sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    BlockingMutex::new(lines)
});

fn read_line() -> Result<String, Dismissed> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.recv_timeout(ANSWER_MAX).map_err(|_| Dismissed)
}

/// What was written before a question was shown is no answer to it.
fn forget_typed_ahead() {
    // Of the terminal, and of the thread that reads it.
    let _ = rustix::termios::tcflush(std::io::stdin(), rustix::termios::QueueSelector::IFlush);
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    while lines.try_recv().is_ok() {}
}

/// Returns at most `chars_max` of a text that a server wrote, without anything that a terminal obeys or that hides what
/// is there.
fn plain(text: &str, chars_max: usize) -> String {
    let hides =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let mut shown: String =
        text.chars().filter(|&c| c == '\n' || !(c.is_control() || hides(c))).take(chars_max).collect();
    if text.chars().nth(chars_max).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_or_its_first_letter_is_a_choice_and_nothing_else_is() {
        let among = ["yes", "no"];
        for (written, choice) in [("y\n", "yes"), (" YES \n", "yes"), ("n", "no"), ("no", "no")] {
            assert_eq!(chosen(written, &among), Some(choice), "{written}");
        }
        for written in ["", "\n", "yesterday", "yn", "nope", "ja"] {
            assert_eq!(chosen(written, &among), None, "{written}");
        }
    }

    #[test]
    fn nothing_of_a_server_moves_the_cursor_or_hides() {
        assert_eq!(plain("a\u{1b}[2Jb\rc\u{7}\u{9b}d\u{202e}e\u{200b}f\ng\0", 100), "a[2Jbcdef\ng");
        assert_eq!(plain(&"x".repeat(11), 10), format!("{}…", "x".repeat(10)));
        let shown = heading("s", &"line\n".repeat(100));
        assert_eq!(shown.lines().filter(|line| line.starts_with("  | ")).count(), MESSAGE_LINES_MAX);
        // A server cannot speak as the program: each of its lines is marked.
        assert!(heading("s", "ok\nSend it? [y/n] y").contains("\n  | Send it?"));
    }
}
