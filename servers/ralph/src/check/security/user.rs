//! The operator's own rules, in the format of ast-grep.
//!
//! They are read once, when the server starts; a rule that cannot be used ends it, for a rule that silently finds
//! nothing would pass everything. Nodes are matched here, one rule at a time: ast-grep's own scan over all rules lets a
//! comment in the file switch it off.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use ast_grep_config::{GlobalRules, RuleConfig, Severity, from_yaml_string};
use ast_grep_core::language::Language as Grammar;
use ast_grep_core::matcher::{MatcherExt, Pattern, PatternBuilder, PatternError};
use ast_grep_core::replacer::Replacer;
use ast_grep_core::tree_sitter::{LanguageExt, StrDoc, TSLanguage};
use ast_grep_core::{AstGrep, Matcher};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use tollgate_shared::content_hash::ContentHash;

use crate::check::Finding;
use crate::check::syntax::grammar;
use crate::check::trees::Trees;
use crate::language::Language;
use crate::secrets;

/// Files of rules that are read; more are no rules.
const FILES_MAX: usize = 1_000;

/// Largest file of rules, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Findings of one rule in one file; a file with more needs no longer list.
const MATCHES_MAX: usize = 1_000;

/// Nodes between two looks at the clock.
const NODES_PER_LOOK: usize = 256;

/// The operator's rules.
#[derive(Default)]
pub struct UserRules {
    rules: Vec<UserRule>,
    /// Of the text of every file of rules, with its path.
    digest: Option<ContentHash>,
    files: Vec<PathBuf>,
}

struct UserRule {
    config: RuleConfig<Parsed>,
    language: Language,
    files: Option<GlobSet>,
    ignores: Option<GlobSet>,
    text: ContentHash,
}

/// What a rule found, from where to where.
pub(super) struct UserHit {
    pub start: usize,
    pub id: String,
    pub message: String,
    pub hint: String,
    pub severity: &'static str,
}

impl UserRules {
    /// Reads the files, and the files in the folders, that the operator names relative to `workspace`.
    ///
    /// # Errors
    ///
    /// The file, the rule and what is wrong with it.
    pub fn load(workspace: &Path, written: &[String]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        let mut digest = ContentHash::builder("ralph.rules.user");
        for path in written {
            let path = workspace.join(path);
            for file in files(&path).with_context(|| format!("`ralph.rules`: {}", path.display()))? {
                ensure!(all.files.len() < FILES_MAX, "`ralph.rules` names more than {FILES_MAX} files");
                let text = all.add(&file).with_context(|| format!("`ralph.rules`: {}", file.display()))?;
                digest = digest.field(text.as_bytes());
                all.files.push(file.canonicalize().unwrap_or(file));
            }
        }
        all.digest = (!all.rules.is_empty()).then(|| digest.finish());
        Ok(all)
    }

    /// Returns what tells these rules from others; nothing where there are none.
    #[must_use]
    pub fn digest(&self) -> Option<ContentHash> {
        self.digest
    }

    /// Returns whether the rules were read from the file at `path`, which has no links in it.
    #[must_use]
    pub fn is_file_of_rules(&self, path: &Path) -> bool {
        self.files.iter().any(|file| file == path)
    }

    /// Returns what tells the rules for a file from others; nothing where none is about it.
    #[must_use]
    pub fn key(&self, language: Option<Language>, path: &str) -> Option<ContentHash> {
        let mut rules = self.rules_for(language?, path).peekable();
        rules.peek()?;
        let hash = rules.fold(ContentHash::builder("ralph.rules.file"), |hash, rule| {
            hash.field(rule.text.as_bytes()).field(rule.config.id.as_bytes())
        });
        Some(hash.finish())
    }

    fn rules_for(&self, language: Language, path: &str) -> impl Iterator<Item = &UserRule> {
        self.rules.iter().filter(move |rule| rule.is_about(language, path))
    }

    /// Finds what the rules for `path` are about in `text`; or why they could not look.
    pub(super) fn find(
        &self,
        language: Language,
        path: &str,
        trees: &Trees<'_>,
        text: &str,
        in_time: &dyn Fn() -> bool,
    ) -> Result<Vec<UserHit>, String> {
        let rules: Vec<&UserRule> = self.rules_for(language, path).collect();
        if rules.is_empty() {
            return Ok(Vec::new());
        }
        let tree = trees.grammar(language, in_time)?;
        let root = AstGrep::doc(StrDoc { src: text.to_owned(), lang: Parsed(language), tree });
        let mut hits = Vec::new();
        for rule in rules {
            let kinds = rule.config.matcher.potential_kinds();
            let mut found = 0;
            for (looked_at, node) in root.root().dfs().enumerate() {
                if looked_at % NODES_PER_LOOK == 0 && !in_time() {
                    return Err("the rules of the operator took too long".to_owned());
                }
                if kinds.as_ref().is_some_and(|kinds| !kinds.contains(usize::from(node.kind_id()))) {
                    continue;
                }
                let Some(found_node) = rule.config.matcher.match_node(node) else { continue };
                found += 1;
                if found > MATCHES_MAX {
                    break;
                }
                let start = found_node.range().start;
                let fix = || {
                    let fixed = rule.config.fixer.first()?.generate_replacement(&found_node);
                    Some(format!("replace it with {}", String::from_utf8_lossy(&fixed)))
                };
                let message = match rule.config.message.as_str() {
                    "" => format!("the rule {} is about this", rule.config.id),
                    _ => rule.config.get_message(&found_node),
                };
                let hint = rule.config.note.clone().or_else(fix);
                hits.push(UserHit {
                    start,
                    id: format!("rule.{}", rule.config.id),
                    message: bounded(&message),
                    hint: bounded(&hint.unwrap_or_else(|| "change it as the operator's rule asks".to_owned())),
                    severity: rule.severity(),
                });
            }
        }
        Ok(hits)
    }

    /// Reads one file of rules and returns the hash of its text.
    fn add(&mut self, file: &Path) -> anyhow::Result<ContentHash> {
        let size = file.metadata()?.len();
        ensure!(size <= FILE_BYTES_MAX, "larger than {FILE_BYTES_MAX} bytes");
        let text = std::fs::read_to_string(file)?;
        let hash = ContentHash::of(text.as_bytes());
        // Each document by itself, so that the one that is wrong can be named.
        for (number, document) in documents(&text).into_iter().enumerate() {
            let value: Value = serde_saphyr::from_str(document).with_context(|| format!("document {}", number + 1))?;
            if value.is_null() {
                continue;
            }
            let name = match value["id"].as_str() {
                Some(id) if !id.is_empty() => format!("rule {id}"),
                _ => bail!("document {}: the rule has no `id`", number + 1),
            };
            self.add_rule(&value, document, hash).with_context(|| name)?;
        }
        Ok(hash)
    }

    fn add_rule(&mut self, value: &Value, document: &str, text: ContentHash) -> anyhow::Result<()> {
        let Parsed(language) = Parsed::deserialize(&value["language"]).context("`language`")?;
        // A pattern that cannot match would say so nowhere.
        patterns(value, &mut |pattern| sound(language, pattern))?;
        let mut configs: Vec<RuleConfig<Parsed>> =
            from_yaml_string(document, &GlobalRules::default()).map_err(|error| anyhow::Error::msg(chain(&error)))?;
        let config = match (configs.pop(), configs.is_empty()) {
            (Some(config), true) => config,
            _ => bail!("not one rule"),
        };
        ensure!(
            config.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./@".contains(&byte)),
            "`id` may have letters, digits and - _ . / @ only"
        );
        ensure!(!self.rules.iter().any(|rule| rule.config.id == config.id), "there is another rule of this `id`");
        if config.severity == Severity::Off {
            return Ok(());
        }
        let files = globs(&value["files"]).context("`files`")?;
        let ignores = globs(&value["ignores"]).context("`ignores`")?;
        self.rules.push(UserRule { config, language, files, ignores, text });
        Ok(())
    }
}

impl UserRule {
    fn is_about(&self, language: Language, path: &str) -> bool {
        // Without types, TypeScript is what JSX is written in as well.
        self.language == language
            && self.files.as_ref().is_none_or(|files| files.is_match(path))
            && !self.ignores.as_ref().is_some_and(|ignores| ignores.is_match(path))
    }

    fn severity(&self) -> &'static str {
        match self.config.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info | Severity::Hint | Severity::Off => "note",
        }
    }
}

/// A language as ast-grep knows it: with the grammars of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parsed(Language);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let plain = match name.to_ascii_lowercase().as_str() {
            "js" | "jsx" => "javascript".to_owned(),
            "ts" => "typescript".to_owned(),
            "py" => "python".to_owned(),
            "rs" => "rust".to_owned(),
            "golang" => "go".to_owned(),
            "rb" => "ruby".to_owned(),
            "sh" => "bash".to_owned(),
            "kt" => "kotlin".to_owned(),
            "c++" | "cc" | "cxx" => "cpp".to_owned(),
            "cs" => "csharp".to_owned(),
            other => other.to_owned(),
        };
        let same = |language: &Language| language.name().replace('_', "") == plain;
        let known = Language::ALL.into_iter().find(same).filter(|language| grammar(*language).is_some());
        known.map(Self).ok_or_else(|| de::Error::custom(format!("there is no grammar for the language `{name}`")))
    }
}

impl Grammar for Parsed {
    fn pre_process_pattern<'q>(&self, query: &'q str) -> Cow<'q, str> {
        let expando = self.expando_char();
        if expando == '$' { Cow::Borrowed(query) } else { Cow::Owned(with_expando(query, expando)) }
    }

    /// A letter that names of the language may begin with, and that no code has.
    fn expando_char(&self) -> char {
        match self.0 {
            Language::Bash
            | Language::Java
            | Language::JavaScript
            | Language::TypeScript
            | Language::Tsx
            | Language::Json
            | Language::Yaml => '$',
            Language::Css => '_',
            Language::Html => 'z',
            Language::C | Language::Cpp => '𐀀',
            _ => 'µ',
        }
    }

    fn kind_to_id(&self, kind: &str) -> u16 {
        self.get_ts_language().id_for_node_kind(kind, true)
    }

    fn field_to_id(&self, field: &str) -> Option<u16> {
        self.get_ts_language().field_id_for_name(field).map(std::num::NonZero::get)
    }

    fn build_pattern(&self, builder: &PatternBuilder) -> Result<Pattern, PatternError> {
        builder.build(|source| StrDoc::try_new(source, *self))
    }
}

impl LanguageExt for Parsed {
    fn get_ts_language(&self) -> TSLanguage {
        // Only languages with a grammar become one of these.
        grammar(self.0).unwrap_or_else(|| tree_sitter_python::LANGUAGE.into())
    }
}

/// Puts `expando` in the place of the `$` of variables.
fn with_expando(query: &str, expando: char) -> String {
    let mut result = String::with_capacity(query.len() + 8);
    let mut dollars = 0;
    for c in query.chars() {
        if c == '$' {
            dollars += 1;
            continue;
        }
        let sigil = if matches!(c, 'A'..='Z' | '_') || dollars == 3 { expando } else { '$' };
        result.extend(std::iter::repeat_n(sigil, dollars));
        dollars = 0;
        result.push(c);
    }
    let sigil = if dollars == 3 { expando } else { '$' };
    result.extend(std::iter::repeat_n(sigil, dollars));
    result
}

/// Hands every pattern of a rule, wherever it stands, to `look`.
fn patterns(value: &Value, look: &mut dyn FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    match value {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| match (key.as_str(), value) {
            ("pattern", Value::String(pattern)) => look(pattern),
            ("pattern", Value::Object(parts)) => {
                parts.get("context").and_then(Value::as_str).map_or(Ok(()), &mut *look)
            }
            ("metadata", _) => Ok(()),
            _ => patterns(value, look),
        }),
        Value::Array(list) => list.iter().try_for_each(|value| patterns(value, look)),
        _ => Ok(()),
    }
}

/// Makes sure that a pattern is code that can match.
fn sound(language: Language, pattern: &str) -> anyhow::Result<()> {
    let is_code = Pattern::try_new(pattern, Parsed(language)).is_ok_and(|pattern| !pattern.has_error());
    ensure!(is_code, "the pattern `{pattern}` is no {} that can be parsed", language.name());
    ensure!(
        !has_two_lists(pattern),
        "the pattern `{pattern}` has two `$$$` in one list, which misses code where the last of them is nothing; \
         use `any` of one pattern with it and one without"
    );
    Ok(())
}

/// Returns whether two `$$$` stand in one list with commas.
fn has_two_lists(pattern: &str) -> bool {
    let mut open = vec![(0, false)];
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '(' | '[' | '{' => open.push((0, false)),
            ')' | ']' | '}' if open.len() > 1 => {
                open.pop();
            }
            ',' => {
                if let Some((_, commas)) = open.last_mut() {
                    *commas = true;
                }
            }
            '$' if rest.starts_with("$$$") => {
                length = 3;
                if let Some((lists, commas)) = open.last_mut() {
                    *lists += 1;
                    if *lists > 1 && *commas {
                        return true;
                    }
                }
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    false
}

fn globs(value: &Value) -> anyhow::Result<Option<GlobSet>> {
    let Value::Array(list) = value else {
        ensure!(value.is_null(), "must be a list");
        return Ok(None);
    };
    let mut set = GlobSetBuilder::new();
    for item in list {
        let glob = item.as_str().or(item["glob"].as_str()).context("a glob is missing")?;
        let folded = item["caseInsensitive"].as_bool().unwrap_or(false);
        let glob = glob.strip_prefix("./").unwrap_or(glob);
        set.add(GlobBuilder::new(glob).literal_separator(true).case_insensitive(folded).build()?);
    }
    Ok(Some(set.build()?))
}

/// Splits a stream of YAML into its documents.
fn documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" {
            documents.push(&text[start..at]);
            start = at + line.len();
        }
        at += line.len();
    }
    documents.push(&text[start..]);
    documents.retain(|document| !document.trim().is_empty());
    documents
}

/// Returns the file at `path`, or the files of YAML in and below the folder there, in order.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    ensure!(path.is_dir(), "there is no such file or folder");
    let mut found = Vec::new();
    for entry in ignore::WalkBuilder::new(path).standard_filters(false).build() {
        let entry = entry?;
        let is_yaml = matches!(entry.path().extension().and_then(|end| end.to_str()), Some("yml" | "yaml"));
        if is_yaml && entry.file_type().is_some_and(|kind| kind.is_file()) {
            found.push(entry.into_path());
        }
        ensure!(found.len() <= FILES_MAX, "more than {FILES_MAX} files");
    }
    ensure!(!found.is_empty(), "there is no rule in it");
    found.sort();
    Ok(found)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text} {cause}");
        source = cause.source();
    }
    text
}

fn bounded(text: &str) -> String {
    const CHARS_MAX: usize = 400;
    let shown: String = text.chars().take(CHARS_MAX).collect();
    secrets::mask(&shown)
}

impl UserHit {
    pub(super) fn finding(&self, line: usize, column: usize, excerpt: String) -> Finding {
        Finding {
            rule: self.id.clone(),
            path: None,
            message: self.message.clone(),
            line,
            column,
            excerpt,
            hint: self.hint.clone(),
            severity: Some(self.severity.to_owned()),
            cwe: None,
            fingerprint: None,
        }
    }
}

#[cfg(test)]
mod tests;
