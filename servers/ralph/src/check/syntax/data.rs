//! JSON, YAML and TOML, by the parsers that programs read them with.

use saphyr_parser::{Parser, ScanError};
use serde::de::IgnoredAny;

use super::{CORRECT_IT, Fault, Parsed, byte_of};

/// Most events of a YAML stream that are looked at.
const YAML_EVENTS_MAX: usize = 2_000_000;

pub(super) fn json(text: &str) -> Parsed {
    let text_without_mark = text.strip_prefix('\u{feff}').unwrap_or(text);
    let skipped = text.len() - text_without_mark.len();
    let Err(error) = serde_json::from_str::<IgnoredAny>(text_without_mark) else { return Parsed::Faults(Vec::new()) };
    let message = error.to_string();
    if message.starts_with("recursion limit") {
        return Parsed::Unknown("nested deeper than 128 levels".to_owned());
    }
    // The place is given apart.
    let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
    // Its columns are bytes, counted from 1.
    let start = byte_of(text_without_mark, error.line(), 0);
    let at = skipped + (start + error.column().saturating_sub(1)).min(text_without_mark.len());
    Parsed::Faults(vec![Fault { rule: "syntax.unexpected", message, hint: CORRECT_IT, at }])
}

pub(super) fn yaml(text: &str) -> Parsed {
    for (count, event) in Parser::new_from_str(text).enumerate() {
        if count > YAML_EVENTS_MAX {
            return Parsed::Unknown(format!("more than {YAML_EVENTS_MAX} events"));
        }
        if let Err(error) = event {
            return Parsed::Faults(vec![yaml_fault(text, &error)]);
        }
    }
    Parsed::Faults(Vec::new())
}

fn yaml_fault(text: &str, error: &ScanError) -> Fault {
    let marker = error.marker();
    let at = byte_of(text, marker.line(), marker.col());
    Fault { rule: "syntax.unexpected", message: error.info().to_owned(), hint: CORRECT_IT, at }
}

pub(super) fn toml(text: &str) -> Parsed {
    let Err(error) = text.parse::<toml::Table>() else { return Parsed::Faults(Vec::new()) };
    let at = error.span().map_or(0, |span| span.start);
    Parsed::Faults(vec![Fault { rule: "syntax.unexpected", message: error.message().to_owned(), hint: CORRECT_IT, at }])
}
