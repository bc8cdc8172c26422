//! Python, by the parser of ruff.

use ruff_python_parser::{Mode, ParseOptions, parse_unchecked};

use super::{CORRECT_IT, Fault, Parsed};

pub(super) fn parse(text: &str) -> Parsed {
    let parsed = parse_unchecked(text, ParseOptions::from(Mode::Module));
    let faults = parsed.errors().iter().map(|error| Fault {
        rule: "syntax.unexpected",
        message: error.error.to_string(),
        hint: CORRECT_IT,
        at: error.location.start().to_usize(),
    });
    Parsed::Faults(faults.collect())
}
