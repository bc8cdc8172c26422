//! A provider of models on this machine that answers what a test tells it to, in the wire formats of Anthropic and OpenAI.

mod wire;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// The key that it wants.
pub const KEY: &str = "sk-test-0123456789";

/// What it does with a request.
#[derive(Clone, Debug)]
pub enum Turn {
    /// Answers with words, and calls of tools by name and arguments.
    Answer(&'static str, Vec<(&'static str, Value)>),
    /// Answers with one call whose arguments are this text.
    RawCall(&'static str, &'static str),
    /// Answers with a status, and when to come back.
    Status(u16, Option<u64>, &'static str),
    /// Closes the connection without a word.
    Drop,
    /// Begins an answer and closes the connection.
    BreakOff,
    /// Answers with what is no JSON.
    Malformed,
    /// Says within an answer that it is overloaded.
    Overloaded,
    /// Says nothing for so long, and then goes on with the next turn.
    Wait(Duration),
}

/// What it counted, over all its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Whole answers.
    pub answers: u64,
    /// Tokens that were sent and neither read from a cache nor kept in one.
    pub input: u64,
    /// Tokens read from the cache.
    pub cache_read: u64,
    /// Tokens kept in the cache.
    pub cache_write: u64,
    /// Tokens answered, without `reasoning`.
    pub output: u64,
    /// Tokens of reasoning.
    pub reasoning: u64,
}

/// The provider; it ends with the process.
pub struct Provider {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    turns: VecDeque<Turn>,
    /// Turns of their own for requests that contain a text.
    lanes: Vec<(&'static str, VecDeque<Turn>)>,
    requests: Vec<Value>,
    complaints: Vec<String>,
    counted: Counted,
    /// Whether requests without tools are answered beside the turns: hosts make some of their own.
    serves_host: bool,
}

impl Provider {
    /// Begins to listen for a host, whose requests for purposes of its own take none of `turns`.
    pub fn start_for_host(turns: impl IntoIterator<Item = Turn>) -> Self {
        let provider = Self::start(turns);
        lock(&provider.state).serves_host = true;
        provider
    }

    /// Begins to listen for several agents at once: whose request contains the text of a lane gets that lane's next turn.
    pub fn start_for_team(lanes: impl IntoIterator<Item = (&'static str, Vec<Turn>)>) -> Self {
        let provider = Self::start([]);
        lock(&provider.state).lanes = lanes.into_iter().map(|(text, turns)| (text, turns.into())).collect();
        provider
    }

    /// Returns how many turns of lanes are left.
    pub fn left(&self) -> usize {
        lock(&self.state).lanes.iter().map(|(_, turns)| turns.len()).sum()
    }

    /// Begins to listen; behind the last of `turns` it says that it is done.
    pub fn start(turns: impl IntoIterator<Item = Turn>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { turns: turns.into_iter().collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address, state }
    }

    /// Returns its address for the format of Anthropic or of OpenAI.
    pub fn url(&self) -> String {
        format!("http://{}/v1/", self.address)
    }

    /// Adds to what it answers.
    pub fn then(&self, turns: impl IntoIterator<Item = Turn>) {
        lock(&self.state).turns.extend(turns);
    }

    /// Returns what it counted so far.
    pub fn counted(&self) -> Counted {
        lock(&self.state).counted
    }

    /// Returns every request that it understood, in their order.
    pub fn requests(&self) -> Vec<Value> {
        lock(&self.state).requests.clone()
    }

    /// Returns what was wrong with requests, as the real one would refuse them.
    pub fn complaints(&self) -> Vec<String> {
        lock(&self.state).complaints.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let Some((path, headers, body)) = request(stream) else { return };
    let Some(format) = wire::Format::of(&path) else {
        let _ = respond(stream, 404, "application/json", br#"{"error":{"message":"no such address"}}"#, &[]);
        return;
    };
    let has_key = headers.iter().any(|header| header.contains(KEY));
    let streams = body["stream"] == true;
    let (turn, number) = loop {
        let mut state = lock(state);
        let is_aside = state.serves_host && is_aside(&body);
        let text = if state.lanes.is_empty() { String::new() } else { body.to_string() };
        let lane = state.lanes.iter_mut().find(|(needle, _)| text.contains(needle));
        let next = match lane {
            Some((_, turns)) => turns.pop_front(),
            None if is_aside => None,
            None => state.turns.pop_front(),
        };
        let turn = next.unwrap_or(Turn::Answer("It is done.", Vec::new()));
        if let Turn::Wait(time) = turn {
            drop(state);
            std::thread::sleep(time);
            continue;
        }
        if !has_key {
            state.complaints.push(format!("no key in {headers:?}"));
        }
        if let Some(complaint) = format.complaint(&body) {
            state.complaints.push(complaint);
        }
        state.requests.push(body);
        break (turn, state.requests.len() as u64);
    };
    let json = "application/json";
    match turn {
        Turn::Answer(text, calls) => {
            let calls = calls.into_iter().map(|(name, arguments)| (name, arguments.to_string())).collect::<Vec<_>>();
            answer(stream, state, format, streams, number, text, &calls);
        }
        Turn::RawCall(name, arguments) => {
            answer(stream, state, format, streams, number, "", &[(name, arguments.to_owned())]);
        }
        Turn::Status(status, retry_after_ms, message) => {
            let body = format.error(status, message).to_string();
            let after = retry_after_ms.map(|ms| format!("retry-after-ms: {ms}"));
            let _ = respond(stream, status, json, body.as_bytes(), after.as_slice());
        }
        Turn::Drop | Turn::Wait(_) => {}
        Turn::BreakOff => {
            let whole =
                format.answer(streams, number, "I was about to say something long", &[], &usage(format, number));
            let kind = if streams { "text/event-stream" } else { json };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                whole.len()
            );
            let _ = ({ stream })
                .write_all(head.as_bytes())
                .and_then(|()| ({ stream }).write_all(&whole.as_bytes()[..whole.len() / 2]));
        }
        Turn::Malformed => {
            let (kind, body) = if streams {
                ("text/event-stream", "event: message_start\ndata: {\"type\": \n\n")
            } else {
                (json, "{\"id\": ")
            };
            let _ = respond(stream, 200, kind, body.as_bytes(), &[]);
        }
        Turn::Overloaded => {
            if streams {
                let _ = respond(stream, 200, "text/event-stream", format.overloaded().as_bytes(), &[]);
            } else {
                let body = format.error(529, "Overloaded").to_string();
                let _ = respond(stream, 529, json, body.as_bytes(), &[]);
            }
        }
    }
}

/// Whether a host asks this for a purpose of its own: a title, a suggestion of what its user might type.
fn is_aside(body: &Value) -> bool {
    let has_tools = body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    !has_tools || last.is_some_and(|message| message["content"].to_string().contains("[SUGGESTION MODE"))
}

fn answer(
    stream: &TcpStream,
    state: &Mutex<State>,
    format: wire::Format,
    streams: bool,
    number: u64,
    text: &str,
    calls: &[(&str, String)],
) {
    let usage = usage(format, number);
    let body = format.answer(streams, number, text, calls, &usage);
    let kind = if streams { "text/event-stream" } else { "application/json" };
    {
        // Counted before the answer leaves: who has it can compare.
        let counted = &mut lock(state).counted;
        counted.answers += 1;
        counted.input += usage.input;
        counted.cache_read += usage.cache_read;
        counted.cache_write += usage.cache_write;
        counted.output += usage.output;
        counted.reasoning += usage.reasoning;
    }
    let _ = respond(stream, 200, kind, body.as_bytes(), &[]);
}

/// Returns what request `number` counts: numbers that no two requests share.
fn usage(format: wire::Format, number: u64) -> Counted {
    Counted {
        answers: 1,
        input: 1000 + 17 * number,
        cache_read: 300 * (number - 1),
        cache_write: if format == wire::Format::Anthropic { 50 + number } else { 0 },
        output: 40 + 3 * number,
        reasoning: if format == wire::Format::Anthropic { 0 } else { 5 + number },
    }
}

fn request(stream: &TcpStream) -> Option<(String, Vec<String>, Value)> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        headers.push(line.trim().to_owned());
    }
    let length =
        headers.iter().find_map(|header| header.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((path, headers, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

fn respond(mut stream: &TcpStream, status: u16, kind: &str, body: &[u8], headers: &[String]) -> std::io::Result<()> {
    let more: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
