//! What checkers are set to demand: thresholds, strictness, what they look at.

mod files;
mod keys;
mod lists;
mod loosened;
mod markup;

use std::collections::BTreeSet;

use super::ci;
use super::values::{self, Settings};
use super::{Change, ChangeRule, FileChange, Findings, rule};
use crate::check::guardrail::Severity::{Error, Warning};
use files::{has_relative, is_configuration};
use keys::Loosens::{self, Down, Level, Longer, Off, On, Shorter, Up, Words};
use keys::direction;
use lists::lists;
use loosened::loosened;
use markup::markup;

pub use files::is_foreign;

const LOWERED: ChangeRule = rule("threshold_lowered", Error, "keep the threshold, and test more");
const LOOSENED: ChangeRule =
    rule("configuration_loosened", Error, "keep the setting, and correct what the checker reports");
const EXCLUDED: ChangeRule = rule("checks_narrowed", Error, "let the checker look at all that it looked at");
const UNSURE: ChangeRule = rule("configuration_unreadable", Warning, "write it so that it can be read");
const BASELINE: ChangeRule = rule("baseline_grown", Error, "correct what the checker reports instead of recording it");

/// Looks for settings that demand less than before.
pub fn check(change: &Change, findings: &mut Findings) {
    let configurations: Vec<&FileChange> = change
        .files
        .iter()
        .filter(|file| is_configuration(file.before_path()) || is_configuration(&file.path))
        .collect();
    // What was moved to another file is still set.
    let now: Vec<Settings> = configurations
        .iter()
        .filter_map(|file| Some(Settings::of(&values::read(&file.path, file.after_text())?)))
        .collect();
    for file in &configurations {
        one(change, file, &now, findings);
    }
    for file in &change.files {
        lists(file, findings);
        markup(file, findings);
    }
}

fn one(change: &Change, file: &FileChange, now: &[Settings], findings: &mut Findings) {
    if file.before.is_none() && !has_relative(change, &file.path) {
        return;
    }
    let (before, after) =
        (values::read(file.before_path(), file.before_text()), values::read(&file.path, file.after_text()));
    let before = match (before, file.before.is_some()) {
        (Some(value), _) => Settings::of(&value),
        // What could not be read before has nothing to compare with.
        (None, true) => return,
        (None, false) => Settings::default(),
    };
    let after = match (after, file.after.is_some()) {
        (Some(value), _) => Settings::of(&value),
        (None, true) => {
            findings.add(&UNSURE, &file.path, file.after_text(), 0, "this configuration cannot be read any more");
            return;
        }
        (None, false) => Settings::default(),
    };
    let text = file.after_text();
    let mut say = |rule: &ChangeRule, key: &str, message: String| {
        let last = key.rsplit('.').next().unwrap_or(key);
        let line = text.lines().position(|line| line.contains(last)).map_or(0, |at| at + 1);
        findings.add(rule, &file.path, text, line, message);
    };
    let keys: BTreeSet<&String> =
        [&before, &after].iter().flat_map(|settings| settings.scalars.keys().chain(settings.lists.keys())).collect();
    for key in keys {
        let Some(loosens) = direction(&file.path, key) else { continue };
        let (was, is) = (before.scalars.get(key.as_str()), after.scalars.get(key.as_str()));
        match loosens {
            Down | Up | Off | On | Level => {
                if was == is || elsewhere(now, key, was, is, loosens) {
                    continue;
                }
                if let Some(message) = loosened(key, was, is, loosens) {
                    say(if matches!(loosens, Down | Up) { &LOWERED } else { &LOOSENED }, key, message);
                }
            }
            Longer | Shorter => {
                let (old, new) = (items(&before, key), items(&after, key));
                let moved = |item: &String| {
                    now.iter().any(|settings| {
                        settings.lists.iter().any(|(other, list)| last(other) == last(key) && list.contains(item))
                            || settings
                                .scalars
                                .iter()
                                .any(|(other, value)| last(other) == last(key) && value.contains(item.as_str()))
                    })
                };
                if loosens == Longer {
                    for item in new.iter().filter(|item| !old.contains(*item) && !is_foreign(item)) {
                        // A shorter list of what is left out may be written in other words.
                        if old.iter().any(|old| item.starts_with(old.as_str()) && old.len() > 2) {
                            continue;
                        }
                        say(&EXCLUDED, key, format!("{key} now has {item}"));
                    }
                } else if !new.is_empty() || is_gone(key, &after) {
                    let covers = |item: &String| {
                        new.iter().any(|new| {
                            new == "ALL"
                                || !new.is_empty() && item.starts_with(new.as_str())
                                || matches!(new.as_str(), "." | "**/*" | "*")
                        })
                    };
                    for item in old.iter().filter(|item| !new.contains(*item) && !covers(item) && !moved(item)) {
                        say(&EXCLUDED, key, format!("{key} no longer has {item}"));
                    }
                }
            }
            Words => {
                let (old, new) = (items_of_words(&before, key), items_of_words(&after, key));
                if let Some(why) = ci::narrower(&old, &new) {
                    say(&EXCLUDED, key, format!("{key}: {why}"));
                }
            }
        }
    }
    hooks(&file.path, &before, &after, now, &mut say);
}

/// Looks for hooks of `pre-commit` that are gone.
fn hooks(
    path: &str,
    before: &Settings,
    after: &Settings,
    now: &[Settings],
    say: &mut dyn FnMut(&ChangeRule, &str, String),
) {
    if !path.ends_with(".pre-commit-config.yaml") && !path.ends_with(".pre-commit-hooks.yaml") {
        return;
    }
    let ids = |settings: &Settings| -> BTreeSet<String> {
        settings.scalars.iter().filter(|(key, _)| key.ends_with(".id")).map(|(_, id)| id.clone()).collect()
    };
    let kept: BTreeSet<String> = now.iter().flat_map(ids).chain(ids(after)).collect();
    for id in ids(before).difference(&kept) {
        say(&EXCLUDED, id, format!("the hook {id} is gone"));
    }
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn is_gone(key: &str, after: &Settings) -> bool {
    // Without a list of its own a checker falls back to what it does by itself, which for these is less.
    matches!(
        last(key).to_ascii_lowercase().as_str(),
        "extend-select" | "extend_select" | "enable" | "enable_error_code" | "select"
    ) && !after.lists.contains_key(key)
}

/// Returns whether another file of the change has the setting, and demands as much.
fn elsewhere(now: &[Settings], key: &str, was: Option<&String>, is: Option<&String>, loosens: Loosens) -> bool {
    is.is_none()
        && now.iter().any(|settings| {
            settings
                .scalars
                .iter()
                .any(|(other, value)| last(other) == last(key) && loosened(key, was, Some(value), loosens).is_none())
        })
}

fn items(settings: &Settings, key: &str) -> Vec<String> {
    let mut items: Vec<String> = settings.lists.get(key).cloned().unwrap_or_default();
    if items.is_empty()
        && let Some(text) = settings.scalars.get(key)
    {
        items = text
            .split(['\n', ','])
            .flat_map(|line| {
                line.split_once(" #")
                    .map_or(line, |(line, _)| line)
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .split(';')
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty() && item != "null")
            .collect();
    }
    items
}

fn items_of_words(settings: &Settings, key: &str) -> String {
    settings
        .lists
        .get(key)
        .map(|list| list.join(" "))
        .filter(|text| !text.is_empty())
        .or_else(|| settings.scalars.get(key).cloned())
        .unwrap_or_default()
}
