//! Whether a value demands less than the one before.

use super::keys::Loosens::{self, Down, Level, Longer, Off, On, Shorter, Up, Words};
use super::last;

pub(super) fn loosened(key: &str, was: Option<&String>, is: Option<&String>, loosens: Loosens) -> Option<String> {
    let shown = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
    let message = format!("{key} went from {} to {}", shown(was), shown(is));
    let number = |value: &String| value.trim().trim_end_matches('%').parse::<f64>().ok();
    let truth = |value: &String| match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" | "null" | "none" => Some(false),
        _ => None,
    };
    let looser = match loosens {
        Down => match (was.and_then(number), is.map(number)) {
            (Some(was), Some(Some(is))) => is < was,
            (Some(was), None) => was > 0.0,
            (Some(_), Some(None)) => !is.is_some_and(|is| matches!(is.as_str(), "auto" | "max")),
            (None, _) => false,
        },
        Up => match (was.and_then(number), is.map(number)) {
            (Some(was), Some(Some(is))) => is > was,
            (Some(_), None) => true,
            _ => false,
        },
        Off => {
            was.and_then(truth) == Some(true) && is.and_then(truth) != Some(true)
                || was.is_none() && is.and_then(truth) == Some(false) && last(key) != "branch" && last(key) != "strict"
        }
        On => was.and_then(truth) != Some(true) && is.and_then(truth) == Some(true),
        Level => {
            let (before, after) = (was.and_then(|was| level(was)), is.and_then(|is| level(is)));
            match (before, after) {
                (Some(before), Some(after)) => after < before,
                // A rule that is no longer mentioned is as the defaults have it.
                (Some(before), None) => before >= 2 && is.is_none(),
                (None, Some(after)) => was.is_none() && after == 0,
                (None, None) => false,
            }
        }
        Longer | Shorter | Words => false,
    };
    looser.then_some(message)
}

fn level(value: &str) -> Option<u8> {
    Some(match value.to_ascii_lowercase().as_str() {
        "off" | "0" | "allow" | "none" | "false" | "ignore" | "skip" | "silent" | "disable" => 0,
        "warn" | "warning" | "1" | "info" | "information" | "basic" | "expect" => 1,
        "error" | "2" | "deny" | "true" | "standard" | "normal" | "on" => 2,
        "forbid" | "strict" | "all" => 3,
        _ => return None,
    })
}
