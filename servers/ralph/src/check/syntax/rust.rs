//! Rust, by syn.

use super::{CORRECT_IT, Fault, Parsed, byte_of};

pub(super) fn parse(text: &str) -> Parsed {
    let Err(error) = syn::parse_file(text) else { return Parsed::Faults(Vec::new()) };
    let faults = error.into_iter().map(|error| {
        let start = error.span().start();
        Fault {
            rule: "syntax.unexpected",
            message: match error.to_string() {
                message if message == "cannot parse string into token stream" => {
                    "a bracket or a literal is not closed".to_owned()
                }
                message => message,
            },
            hint: CORRECT_IT,
            at: byte_of(text, start.line, start.column),
        }
    });
    Parsed::Faults(faults.collect())
}
