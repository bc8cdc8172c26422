//! Which files need no closer look: those that lack the words without which no rule can find anything.
//!
//! Parsing costs a hundred times what looking for words does, and most files of most projects have none.

use std::collections::HashMap;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::dialect::Dialect;
use super::rules::{self, Test, When};

/// Names of modules that are too short, or too common, to tell anything.
const MODULE_LENGTH_MIN: usize = 2;

/// Words with which a name can be put together or looked up at run time; always worth a look.
const INDIRECT: &[&str] = &["__import__", "import_module", "getattr(", "globals()[", "__builtins__"];

/// The same in JavaScript.
const INDIRECT_SCRIPT: &[&str] =
    &["globalthis[", "window[", "global[", "self[", "reflect.get", "child_process", "constructor("];

/// Words of SQL.
const SQL: &[&str] = &[
    "select",
    "insert",
    "update",
    "delete",
    "where",
    "drop",
    "alter",
    "create",
    "order by",
    "truncate",
    "replace into",
    "grant",
    "exec",
    "call ",
    "merge",
    "pragma",
    "asc",
    "desc",
    "like",
    "show ",
    "copy ",
    "set ",
];

/// Words of passwords.
const PASSWORD: &[&str] = &["passw", "passphrase", "passcode", "_pass", "pass_", "pwd", "userpw"];

/// Words of files of the system.
const SYSTEM_FILE: &[&str] = &[
    "/etc",
    "/proc",
    "/root",
    "/dev/",
    ".ssh",
    "credentials",
    "id_rsa",
    ".docker",
    ".kube",
    "netrc",
    "pgpass",
    ".gnupg",
    "npmrc",
    "pypirc",
    "secrets",
    "system32",
    "kubelet",
    "kubernetes",
    "gcloud",
];

/// One way in which a rule can find something: one word of each group.
struct Need {
    /// A word, and with it another.
    calls: Vec<(usize, Option<usize>)>,
    and: Vec<usize>,
}

struct Words {
    automaton: AhoCorasick,
    /// Whether a word must stand alone.
    whole: Vec<bool>,
    needs: Vec<Need>,
}

/// Returns whether some rule of `dialect` can find something in `text`.
pub fn is_worth_a_look(dialect: Dialect, text: &str) -> bool {
    static WORDS: [OnceLock<Option<Words>>; Dialect::ALL.len()] = [const { OnceLock::new() }; Dialect::ALL.len()];
    let words = WORDS[dialect as usize].get_or_init(|| words(dialect));
    // JavaScript's names can be written with escapes.
    let is_plain = dialect != Dialect::Bash
        && !(dialect.is_script() && text.contains("\\u"))
        && !(dialect == Dialect::Python && has_lookalikes(text));
    let Some(words) = words.as_ref().filter(|_| is_plain) else { return true };
    let mut seen = vec![false; words.whole.len()];
    let bytes = text.as_bytes();
    let is_part = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    for found in words.automaton.find_overlapping_iter(text) {
        let place = found.pattern().as_usize();
        if seen[place] || words.whole[place] && (is_part(found.start().checked_sub(1)) || is_part(Some(found.end()))) {
            continue;
        }
        // A route of Python is a decorator.
        if dialect == Dialect::Python && bytes[found.start()] == b'.' && bytes[found.end() - 1] == b'(' {
            let line = text[..found.start()].rfind('\n').map_or(0, |newline| newline + 1);
            if !text[line..].trim_start().starts_with('@') {
                continue;
            }
        }
        seen[place] = true;
    }
    words.needs.iter().any(|need| {
        need.calls.iter().any(|(word, other)| seen[*word] && other.is_none_or(|other| seen[other]))
            && (need.and.is_empty() || need.and.iter().any(|place| seen[*place]))
    })
}

/// Returns whether letters are written that Python reads as plain ones.
fn has_lookalikes(text: &str) -> bool {
    !text.is_ascii()
        && text.chars().any(|c| {
            matches!(c, 'ª' | 'º' | 'ſ' | '\u{1d2c}'..='\u{1d9f}' | '\u{2070}'..='\u{209f}' | '\u{2100}'..='\u{214f}'
                | '\u{2460}'..='\u{24ff}' | '\u{fb00}'..='\u{fb06}' | '\u{ff00}'..='\u{ffef}' | '\u{1d400}'..='\u{1d7ff}')
        })
}

fn words(dialect: Dialect) -> Option<Words> {
    let index = rules::of(dialect);
    let mut list: Vec<(String, bool)> = Vec::new();
    let mut places: HashMap<(String, bool), usize> = HashMap::new();
    let mut place = |word: &str, whole: bool| {
        // A backtick has no boundaries.
        let whole = whole && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let key = (word.to_ascii_lowercase(), whole);
        *places.entry(key.clone()).or_insert_with(|| {
            list.push(key);
            list.len() - 1
        })
    };
    let mut all = |words: &[&str], whole: bool| words.iter().map(|word| place(word, whole)).collect::<Vec<usize>>();
    let sources: Vec<&str> = index.table.sources.iter().map(|source| source_word(source)).collect();
    let mut sources = all(&sources, true);
    sources.extend(all(index.table.handlers, false));
    let (sql, password, system) = (all(SQL, false), all(PASSWORD, false), all(SYSTEM_FILE, false));
    // A program alone harms as a shell, or as one of those that destroy.
    let shells = all(
        &[
            "sh",
            "bash",
            "zsh",
            "dash",
            "ksh",
            "ash",
            "cmd",
            "powershell",
            "pwsh",
            "rm",
            "mkfs",
            "dd",
            "chmod",
            "curl",
            "wget",
        ],
        true,
    );
    let roots = all(&["\"/", "'/", "`/", "~", "$home", "c:"], false);
    let mut needs = vec![Need {
        calls: alone(all(if dialect.is_script() { INDIRECT_SCRIPT } else { INDIRECT }, false)),
        and: Vec::new(),
    }];
    for sink in index.table.sinks {
        let mut calls = Vec::new();
        for pattern in sink.calls {
            let (module, name) = words_of(pattern);
            let name = all(&[name], true)[0];
            calls.push((name, module.map(|module| all(&[module], true)[0])));
        }
        let and = match sink.when {
            When::Sql => sql.iter().chain(&sources).copied().collect(),
            When::Tainted | When::Html => sources.clone(),
            When::Password => password.clone(),
            When::SystemFile => system.clone(),
            When::Program => shells.clone(),
            When::Root => roots.clone(),
            // What an option must say stands in the file.
            _ => sink
                .with
                .iter()
                .find_map(|(name, test)| match test {
                    Test::Says(words) | Test::At(_, words) => Some(all(words, false)),
                    Test::True | Test::False => Some(all(&[*name], false)),
                    _ => None,
                })
                .unwrap_or_default(),
        };
        needs.push(Need { calls, and });
    }
    let settings: Vec<&str> = index.table.settings.iter().map(|setting| setting.name).collect();
    needs.push(Need { calls: alone(all(&settings, true)), and: Vec::new() });
    // A page that a handler returns.
    if dialect == Dialect::Python {
        needs.push(Need { calls: alone(all(&["return"], true)), and: all(&["request", ".route("], false) });
    }
    let automaton = AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .ascii_case_insensitive(true)
        .build(list.iter().map(|(word, _)| word))
        .ok()?;
    Some(Words { automaton, whole: list.into_iter().map(|(_, whole)| whole).collect(), needs })
}

/// Returns the word without which a source cannot be reached: what it belongs to, unless that is in every file.
fn source_word(source: &'static str) -> &'static str {
    let first = source.split('.').next().unwrap_or(source);
    let last = source.rsplit('.').next().unwrap_or(source);
    if first.len() < 3 || matches!(first, "self" | "http" | "Context" | "context" | "$request") { last } else { first }
}

fn alone(words: Vec<usize>) -> Vec<(usize, Option<usize>)> {
    words.into_iter().map(|word| (word, None)).collect()
}

/// Returns the words without which `pattern` cannot be called: its module, if it has one, and its own name.
fn words_of(pattern: &'static str) -> (Option<&'static str>, &'static str) {
    let last = pattern.rsplit(['.', '/']).next().unwrap_or(pattern);
    let name = last.split(['(', ')']).next().unwrap_or(last);
    let module = pattern.split(['.', '/', '(']).next().unwrap_or(pattern);
    let is_module = module.len() >= MODULE_LENGTH_MIN
        && module != name
        && module.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_module.then_some(module), name)
}
