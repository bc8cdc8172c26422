//! Comments that tell a tool to look away: which they are, and what they are limited to.

use super::Rule;

/// How a directive names what it is limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codes {
    /// Not at all: whatever follows is prose.
    None,
    /// `word[a, b]`.
    Brackets,
    /// `word: a, b` or `word=a, b`; without the sign it is not limited.
    Sign,
    /// `word a, b`.
    Blank,
}

/// Where a directive counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// From where it stands.
    Here,
    /// The code in front of it on the same line: on a line of its own, with words behind, it is prose.
    Line,
    /// The whole file.
    File,
}

struct Directive {
    /// As in [`canonical`] text.
    word: &'static str,
    rule: Rule,
    codes: Codes,
    reach: Reach,
}

/// A directive that a comment has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which rule it breaks.
    pub rule: Rule,
    /// The word that tools know it by.
    pub word: &'static str,
    /// What it is limited to, sorted; none when it is not.
    pub codes: Vec<String>,
    /// Whether it is about the whole file.
    pub whole_file: bool,
    /// Where in the comment it begins.
    pub offset: usize,
}

const fn of(word: &'static str, codes: Codes, reach: Reach) -> Directive {
    Directive { word, rule: Rule::Suppression, codes, reach }
}

const fn coverage(word: &'static str) -> Directive {
    Directive { word, rule: Rule::CoverageExcluded, codes: Codes::None, reach: Here }
}

use Codes::{Blank, Brackets, Sign};
use Reach::{File, Here, Line};

/// Longer words before those that they begin with.
const DIRECTIVES: &[Directive] = &[
    // Python.
    of("flake8:noqa", Sign, File),
    of("ruff:noqa", Sign, File),
    of("ruff:ignore", Brackets, Here),
    of("ruff:disable", Brackets, Here),
    of("ruff:file-ignore", Brackets, File),
    of("noqa", Sign, Line),
    of("type:ignore", Brackets, Line),
    of("ty:ignore", Brackets, Line),
    of("pyrefly:ignore", Brackets, Line),
    of("pyright:ignore", Brackets, Line),
    of("basedpyright:ignore", Brackets, Line),
    of("pyright:basic", Codes::None, File),
    of("pyright:standard", Codes::None, File),
    of("pyright:off", Codes::None, File),
    of("mypy:ignore-errors", Codes::None, File),
    of("mypy:ignore_errors", Codes::None, File),
    of("mypy:disable-error-code", Sign, File),
    of("mypy:disable_error_code", Sign, File),
    of("mypy:allow-", Codes::None, File),
    of("mypy:no-", Codes::None, File),
    of("pytype:disable", Sign, Here),
    of("pytype:skip-file", Codes::None, File),
    of("pyre-ignore-all-errors", Brackets, File),
    of("pyre-unsafe", Codes::None, File),
    of("pyre-ignore", Brackets, Here),
    of("pyre-fixme", Brackets, Here),
    of("pylint:skip-file", Codes::None, File),
    of("pylint:disable-next", Sign, Here),
    of("pylint:disable-msg", Sign, Here),
    of("pylint:disable", Sign, Here),
    of("nosec", Sign, Line),
    of("fmt:off", Codes::None, Here),
    of("fmt:skip", Codes::None, Line),
    of("yapf:disable", Codes::None, Here),
    of("autopep8:off", Codes::None, Here),
    of("isort:skip_file", Codes::None, File),
    of("isort:skip", Codes::None, Line),
    of("isort:off", Codes::None, Here),
    coverage("pragma:no cover"),
    coverage("pragma:no branch"),
    coverage("pragma:nocover"),
    coverage("pragma:no-cover"),
    of("pragma:no mutate", Codes::None, Here),
    // JavaScript, TypeScript, CSS.
    of("@ts-nocheck", Codes::None, File),
    of("@ts-ignore", Codes::None, Here),
    of("@ts-expect-error", Codes::None, Here),
    of("eslint-disable-next-line", Blank, Here),
    of("eslint-disable-line", Blank, Here),
    of("eslint-disable", Blank, Here),
    of("oxlint-disable-next-line", Blank, Here),
    of("oxlint-disable-line", Blank, Here),
    of("oxlint-disable", Blank, Here),
    of("tslint:disable-next-line", Sign, Here),
    of("tslint:disable-line", Sign, Here),
    of("tslint:disable", Sign, Here),
    of("biome-ignore-all", Blank, File),
    of("biome-ignore-start", Blank, Here),
    of("biome-ignore", Blank, Here),
    of("rome-ignore", Blank, Here),
    of("deno-lint-ignore-file", Blank, File),
    of("deno-lint-ignore", Blank, Here),
    of("deno-fmt-ignore-file", Codes::None, File),
    of("deno-fmt-ignore", Codes::None, Here),
    of("dprint-ignore-file", Codes::None, File),
    of("dprint-ignore", Codes::None, Here),
    of("prettier-ignore-start", Codes::None, Here),
    of("prettier-ignore", Codes::None, Here),
    of("stylelint-disable-next-line", Blank, Here),
    of("stylelint-disable-line", Blank, Here),
    of("stylelint-disable", Blank, Here),
    of("svelte-ignore", Blank, Here),
    of("jshint ignore", Codes::None, Here),
    of("jscs:disable", Sign, Here),
    of("htmlhint-disable", Codes::None, Here),
    of("htmlhint ", Codes::None, Here),
    of("@flow-ignore", Codes::None, Here),
    of("$flowfixme", Brackets, Here),
    of("$flowignore", Brackets, Here),
    of("$flowissue", Brackets, Here),
    of("$flowexpectederror", Brackets, Here),
    of("flowlint-next-line", Codes::None, Here),
    coverage("istanbul ignore"),
    coverage("c8 ignore"),
    coverage("v8 ignore"),
    coverage("node:coverage disable"),
    coverage("node:coverage ignore"),
    coverage("deno-coverage-ignore"),
    coverage("coverage:ignore"),
    // Go.
    of("nolint", Sign, Here),
    of("lint:ignore", Blank, Here),
    of("lint:file-ignore", Blank, File),
    of("revive:disable", Sign, Here),
    of("gosec:disable", Blank, Here),
    of("exhaustive:ignore", Codes::None, Here),
    // Java, Kotlin, Swift, C#.
    of("nopmd", Codes::None, Line),
    of("checkstyle:off", Sign, Here),
    of("checkstyle.off", Sign, Here),
    of("checkstyle.suppress", Sign, Here),
    of("@formatter:off", Codes::None, Here),
    of("spotless:off", Codes::None, Here),
    of("noinspection", Blank, Here),
    of("ktlint-disable", Blank, Here),
    of("detekt:suppress", Sign, Here),
    of("swiftlint:disable", Blank, Here),
    of("swift-format-ignore-file", Sign, File),
    of("swift-format-ignore", Sign, Here),
    of("swiftformat:disable", Blank, Here),
    of("resharper disable", Blank, Here),
    of("csharpier-ignore", Codes::None, Here),
    // C, C++.
    of("nolintnextline", Brackets, Here),
    of("nolintbegin", Brackets, Here),
    of("cppcheck-suppress-file", Brackets, File),
    of("cppcheck-suppress", Brackets, Here),
    of("clang-format off", Codes::None, Here),
    of("coverity[", Codes::None, Here),
    of("-v::", Sign, Here),
    coverage("lcov_excl_"),
    coverage("gcov_excl_"),
    coverage("gcovr_excl_"),
    coverage("grcov-excl-"),
    coverage("grcov_excl_"),
    // Ruby, PHP.
    of("rubocop:disable", Blank, Here),
    of("rubocop:todo", Blank, Here),
    of("standard:disable", Blank, Here),
    of("steep:ignore", Blank, Here),
    of("typed:false", Codes::None, File),
    of("typed:ignore", Codes::None, File),
    coverage(":nocov:"),
    coverage("simplecov:disable"),
    of("@phpstan-ignore-next-line", Codes::None, Here),
    of("@phpstan-ignore-line", Codes::None, Here),
    of("@phpstan-ignore", Blank, Here),
    of("phpcs:ignorefile", Codes::None, File),
    of("phpcs:ignore", Blank, Here),
    of("phpcs:disable", Blank, Here),
    of("@codingstandardsignore", Codes::None, Here),
    of("@psalm-suppress", Blank, Here),
    of("@phan-suppress", Blank, Here),
    of("@phan-file-suppress", Blank, File),
    of("@suppresswarnings", Codes::None, Here),
    coverage("@codecoverageignore"),
    // Shell, data, infrastructure, SQL.
    of("shellcheck disable", Sign, Here),
    of("yamllint disable-line", Sign, Here),
    of("yamllint disable-file", Codes::None, File),
    of("yamllint disable", Sign, Here),
    of("hadolint ignore", Sign, Here),
    of("hadolint global ignore", Sign, File),
    of("actionlint-ignore", Sign, Here),
    of("zizmor:ignore", Brackets, Here),
    of("ansible-lint-skip", Codes::None, Here),
    of("checkov:skip", Sign, Here),
    of("tfsec:ignore", Sign, Here),
    of("trivy:ignore", Sign, Here),
    of("tflint-ignore", Sign, Here),
    of("kics-scan ignore", Codes::None, Here),
    of("kics-scan disable", Sign, File),
    of("skip check", Codes::None, Here),
    of("squawk-ignore-file", Codes::None, File),
    of("squawk-ignore", Blank, Here),
    of("editorconfig-checker-disable", Codes::None, Here),
    of("trunk-ignore-all", Brackets, File),
    of("trunk-ignore-begin", Brackets, Here),
    of("trunk-ignore", Brackets, Here),
    of("markdownlint-disable", Blank, Here),
    // Any language.
    of("ast-grep-ignore", Sign, Here),
    of("nosemgrep", Sign, Here),
    of("nosem", Sign, Line),
    of("nosonar", Brackets, Line),
    of("sonar-ignore", Codes::None, Here),
    of("codeql[", Codes::None, Here),
    of("lgtm[", Codes::None, Here),
    of("skipcq", Sign, Here),
    of("deepcode ignore", Codes::None, Here),
    of("file deepcode ignore", Codes::None, File),
    of("gitleaks:allow", Codes::None, Here),
    of("pragma:allowlist secret", Codes::None, Here),
    of("pragma:allowlist nextline secret", Codes::None, Here),
    of("pragma:whitelist secret", Codes::None, Here),
    of("trufflehog:ignore", Codes::None, Here),
    of("ggignore", Codes::None, Here),
    of("sast-ignore", Codes::None, Here),
    of("bearer:disable", Blank, Here),
    of("brakeman:ignore", Codes::None, Here),
];

/// Words that code is full of.
const COMMON: &[&str] = &["check"];

/// Returns what a file must have one of for a closer look at its comments to be worth it: a part of every directive.
pub fn hints() -> impl Iterator<Item = &'static str> {
    let parts = DIRECTIVES.iter().filter_map(|directive| {
        let parts = directive.word.split([':', ' ', '=']).filter(|part| !part.is_empty());
        // Any part would do; the one that fewer files have for other reasons saves more looks.
        parts.max_by_key(|part| (!COMMON.contains(part), part.len()))
    });
    parts.chain(["eslint"])
}

/// Returns the directives in the comment `text`, whose marks (`//`, `#`, `<!--`) are still on it.
#[must_use]
pub fn find(text: &str, own_line: bool) -> Vec<Found> {
    let mut found = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        for (start, segment) in segments(line) {
            let text = canonical(segment);
            if let Some(directive) = DIRECTIVES.iter().find(|directive| begins_with(&text, directive.word)) {
                let rest = &text[directive.word.len()..];
                if directive.reach == Line && own_line && is_prose(rest) {
                    continue;
                }
                found.push(Found {
                    rule: directive.rule,
                    word: directive.word,
                    codes: codes(rest, directive.codes),
                    whole_file: directive.reach == File,
                    offset: offset + start,
                });
            } else if let Some(codes) = switched_off(&text) {
                let rule = Rule::Suppression;
                found.push(Found { rule, word: "eslint", codes, whole_file: true, offset: offset + start });
            }
        }
        offset += line.len();
    }
    found
}

/// Returns the parts of one line that may each be a directive: tools find theirs behind the mark of a comment, and
/// that may stand within another comment.
fn segments(line: &str) -> Vec<(usize, &str)> {
    let mut starts = vec![0];
    for mark in ["#", "//", "/*", "<!--", "--"] {
        starts.extend(line.match_indices(mark).map(|(at, _)| at));
    }
    starts.sort_unstable();
    starts.dedup();
    let mut result: Vec<(usize, &str)> = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(line.len());
        let part = &line[*start..end];
        let bare = part.trim_start_matches(['#', '/', '*', '!', '<', ' ', '\t', ';', '{']);
        // `-->` and ` -- reason` are no marks of SQL; `-V::` is one of PVS-Studio.
        let bare = bare.strip_prefix("--").unwrap_or(bare).trim_start_matches(['>', ' ', '\t', '*']);
        if bare.trim().is_empty() {
            continue;
        }
        result.push((*start + (part.len() - bare.len()), bare));
    }
    // What a dash cuts off belongs to what stands before it, unless it is a directive itself.
    result
}

/// Returns `segment` in lower case, without blanks around `:`, `=` and `,`, and with single ones elsewhere.
fn canonical(segment: &str) -> String {
    let mut result = String::with_capacity(segment.len());
    let mut blank = false;
    for c in segment.chars().flat_map(char::to_lowercase) {
        match c {
            c if c.is_whitespace() => blank = true,
            ':' | '=' | ',' => {
                blank = false;
                result.push(c);
            }
            c => {
                if blank && !result.ends_with([':', '=', ',']) {
                    result.push(' ');
                }
                blank = false;
                result.push(c);
            }
        }
    }
    let end = result.trim_end_matches(['/', '*', '>', '}', ' ']).len();
    let end = if result[..end].ends_with("--") { end - 2 } else { end };
    result[..end].trim().to_owned()
}

fn begins_with(text: &str, word: &str) -> bool {
    let Some(rest) = text.strip_prefix(word) else { return false };
    // A word that ends in a sign goes on as it likes; any other must end there.
    word.ends_with(['_', '-', '[', ':', ' '])
        || !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_'))
        || word == "@codingstandardsignore"
}

/// Returns whether words of a sentence follow, not codes.
fn is_prose(rest: &str) -> bool {
    rest.starts_with(' ') && rest.trim_start().starts_with(|c: char| c.is_ascii_alphabetic())
        || rest.starts_with(['\'', '"', '`', ',', '.', ')', '?', '!', ';'])
}

fn codes(rest: &str, form: Codes) -> Vec<String> {
    let rest = rest.trim_start();
    let list = match form {
        Codes::None => return Vec::new(),
        Brackets => match rest.strip_prefix(['[', '(']) {
            Some(inner) => inner.split([']', ')']).next().unwrap_or_default(),
            None => return Vec::new(),
        },
        Sign => match rest.strip_prefix([':', '=']) {
            Some(list) => list,
            None => return Vec::new(),
        },
        Blank => rest.trim_start_matches([':', ' ']),
    };
    let list = list.split(" --").next().unwrap_or_default();
    let mut codes: Vec<String> = list
        .split(',')
        .map(|item| {
            let code = item.split_whitespace().next().unwrap_or_default();
            // `biome-ignore lint/suspicious/noExplicitAny: reason`
            let code = if form == Blank { before_colon(code) } else { code };
            code.trim_end_matches([':', '.']).to_owned()
        })
        .filter(|code| !code.is_empty())
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

/// Returns `code` up to a lone colon; two are part of a name.
fn before_colon(code: &str) -> &str {
    let bytes = code.as_bytes();
    let is_lone = |at: usize| bytes.get(at + 1) != Some(&b':') && (at == 0 || bytes[at - 1] != b':');
    code.match_indices(':').find(|(at, _)| is_lone(*at)).map_or(code, |(at, _)| &code[..at])
}

/// Returns the rules that `/* eslint rule: off */` switches off.
fn switched_off(text: &str) -> Option<Vec<String>> {
    let rules = text.strip_prefix("eslint ")?;
    let mut codes: Vec<String> = rules
        .split(',')
        .filter_map(|rule| rule.split_once(':'))
        .filter(|(_, level)| matches!(level.trim_matches(['"', '\'', '[', ']', ' ']), "off" | "0" | "warn" | "1"))
        .map(|(name, _)| name.trim_matches(['"', '\'', ' ']).to_owned())
        .collect();
    codes.sort();
    (!codes.is_empty()).then_some(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, own_line: bool) -> Vec<(&'static str, Vec<String>)> {
        find(text, own_line).into_iter().map(|found| (found.word, found.codes)).collect()
    }

    #[test]
    fn directives_are_found_however_they_are_spaced() {
        for (text, word, codes) in [
            ("# noqa", "noqa", ""),
            ("#noqa", "noqa", ""),
            ("# NOQA : E501,F401", "noqa", "e501 f401"),
            ("# noqa E501", "noqa", ""),
            ("# see above  # noqa: E501", "noqa", "e501"),
            ("#type:ignore[attr-defined]", "type:ignore", "attr-defined"),
            ("# type:  ignore", "type:ignore", ""),
            ("# pylint: disable=too-many-arguments, no-member", "pylint:disable", "no-member too-many-arguments"),
            ("# nosec B101", "nosec", ""),
            ("# pragma: no cover", "pragma:no cover", ""),
            ("// @ts-ignore: the types are wrong", "@ts-ignore", ""),
            ("/// @ts-ignore", "@ts-ignore", ""),
            ("/* @ts-expect-error */", "@ts-expect-error", ""),
            ("/*\n * @ts-nocheck\n */", "@ts-nocheck", ""),
            ("/* eslint-disable\n no-console */", "eslint-disable", ""),
            (
                "// eslint-disable-next-line no-console, no-alert -- because",
                "eslint-disable-next-line",
                "no-alert no-console",
            ),
            ("/* eslint no-console: 'off' */", "eslint", "no-console"),
            ("// biome-ignore lint/suspicious/noExplicitAny: reason", "biome-ignore", "lint/suspicious/noexplicitany"),
            ("//nolint:errcheck,gosec // reason", "nolint", "errcheck gosec"),
            ("// nolint", "nolint", ""),
            ("// #nosec G204", "nosec", ""),
            ("// NOLINTNEXTLINE(bugprone-x)", "nolintnextline", "bugprone-x"),
            ("// NOSONAR", "nosonar", ""),
            ("# rubocop:disable Metrics/AbcSize, Style/X", "rubocop:disable", "metrics/abcsize style/x"),
            ("<!-- prettier-ignore -->", "prettier-ignore", ""),
            ("{/* prettier-ignore */}", "prettier-ignore", ""),
            ("# shellcheck disable=SC2086", "shellcheck disable", "sc2086"),
            ("-- noqa: disable=all", "noqa", "disable=all"),
            ("# ast-grep-ignore", "ast-grep-ignore", ""),
            ("/* istanbul ignore next */", "istanbul ignore", ""),
            ("// @phpstan-ignore-line", "@phpstan-ignore-line", ""),
            ("# gitleaks:allow", "gitleaks:allow", ""),
        ] {
            let found = words(text, false);
            let expected: Vec<String> = codes.split_whitespace().map(str::to_owned).collect();
            assert_eq!(found, [(word, expected)], "{text}");
        }
    }

    #[test]
    fn prose_is_no_directive() {
        for text in [
            "# the noqa comments were removed",
            "# noqa is not allowed in this repository",
            "# use type: ignore sparingly",
            "// never write @ts-ignore here",
            "// see the docs of eslint-disable",
            "/* we used to say eslint-disable here */",
            "// nolintlint is on",
            "# a pragma: once",
            "// the test skips nothing",
            "/** Returns whether eslint-disable comments are there. */",
            "// eslint no-console",
            "/* eslint no-console: 'error' */",
            "# noqa, type: ignore and the like are refused",
            "# turn off the lights",
            "// ignore errors here",
            "# disable when done",
            "// TODO(anna): skip the cache",
        ] {
            assert!(words(text, true).is_empty(), "{text}: {:?}", words(text, true));
        }
    }
}
