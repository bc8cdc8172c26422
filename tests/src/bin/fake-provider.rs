//! A provider of models on this machine for hosts that are tested: answers with the turns of a JSON file, a list of
//! `{"text": …, "calls": [[name, arguments], …]}`. Prints its address; at the end of stdin, what it was asked.

#![allow(clippy::print_stdout, reason = "this is how it talks")]

use std::io::Read;

use serde_json::{Value, json};
use tollgate_tests::provider::{Provider, Turn};

fn main() -> anyhow::Result<()> {
    let file = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("give a file of turns"))?;
    let turns: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let turns = turns.into_iter().map(|turn| {
        let calls = turn["calls"].as_array().into_iter().flatten();
        let calls = calls.map(|call| (leaked(&call[0]), call[1].clone()));
        Turn::Answer(leaked(&turn["text"]), calls.collect())
    });
    let provider = Provider::start_for_host(turns);
    println!("{}", provider.url().trim_end_matches("/v1/"));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    println!("{}", json!({ "requests": provider.requests(), "complaints": provider.complaints() }));
    Ok(())
}

/// A few words that live as long as this program does.
fn leaked(text: &Value) -> &'static str {
    text.as_str().unwrap_or_default().to_owned().leak()
}
