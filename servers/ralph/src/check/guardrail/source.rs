//! A file as guardrails look at it: its text, its tree where a grammar knows it, its comments.

use std::ops::Range;
use std::path::Path;

use tree_sitter::{Node, Tree};

use crate::baseline::normal;
use crate::check::syntax;
use crate::check::trees::Trees;
use crate::language::Language;

/// Longest part of a line that findings are recognised by.
const CONTEXT_BYTES_MAX: usize = 400;

/// Lines looked through for the code that a comment is about.
const LINES_AHEAD: usize = 12;

/// One file.
pub struct Source<'s> {
    /// Relative to the repository or the workspace.
    pub path: &'s str,
    /// What it is written in.
    pub language: Option<Language>,
    /// What it says.
    pub text: &'s str,
    /// Its tree; nothing where no grammar knows it.
    pub tree: Option<Tree>,
}

/// A comment.
#[derive(Clone, Debug)]
pub struct Comment {
    /// Where it is, with its marks.
    pub range: Range<usize>,
    /// Whether nothing but it is on its line.
    pub own_line: bool,
}

impl<'s> Source<'s> {
    /// Parses `text`; nothing when `in_time` said no.
    #[must_use]
    pub fn parse(path: &'s str, text: &'s str, in_time: &dyn Fn() -> bool) -> Option<Self> {
        Self::of_trees(path, &Trees::new(text.as_bytes()), in_time)
    }

    /// Takes the tree of a text, which other checks may have made; nothing when `in_time` said no.
    #[must_use]
    pub fn of_trees(path: &'s str, trees: &Trees<'s>, in_time: &dyn Fn() -> bool) -> Option<Self> {
        let text = trees.text().ok()?;
        let language = Language::of(Path::new(path), text.as_bytes());
        let tree = match language.filter(|language| syntax::grammar(*language).is_some()) {
            Some(language) => Some(trees.grammar(language, in_time).ok()?),
            None => None,
        };
        Some(Self { path, language, text, tree })
    }

    /// Returns what `node` stands for in the text.
    #[must_use]
    pub fn of(&self, node: Node<'_>) -> &'s str {
        self.text.get(node.byte_range()).unwrap_or_default()
    }

    /// Calls `visit` with every node, from the outside in; it says whether to look further inside.
    pub fn walk<'t>(&'t self, mut visit: impl FnMut(Node<'t>) -> bool) {
        if let Some(tree) = &self.tree {
            walk(tree.root_node(), &mut visit);
        }
    }

    /// Returns its comments, in order.
    #[must_use]
    pub fn comments(&self) -> Vec<Comment> {
        let mut ranges = Vec::new();
        // In a page, scripts and styles have comments of their own.
        if self.tree.is_some() && self.language != Some(Language::Html) {
            self.walk(|node| {
                let is_comment = node.kind().ends_with("comment");
                if is_comment {
                    ranges.push(node.byte_range());
                }
                !is_comment
            });
        } else {
            ranges = lexed(self.text, markers(self.path, self.language));
        }
        ranges
            .into_iter()
            .map(|range| {
                let before = &self.text[self.line_start(range.start)..range.start];
                let own_line = before.trim_matches(|c: char| c.is_whitespace() || c == '{').is_empty();
                Comment { range, own_line }
            })
            .collect()
    }

    /// Returns the code that what stands at `range` is about: on its line, else the next line that has any.
    #[must_use]
    pub fn context(&self, range: Range<usize>) -> String {
        let start = self.line_start(range.start);
        let before = self.text.get(start..range.start).unwrap_or_default();
        if !before.trim_matches(|c: char| c.is_whitespace() || c == '{').is_empty() {
            return shortened(before);
        }
        let after = self.text.get(range.end..).unwrap_or_default();
        let next = after.lines().take(LINES_AHEAD).map(str::trim).find(|line| {
            let bare = line.trim_matches(['}', ')', ']', ';', ',', '/', '*', '-', '>', ' ']);
            !bare.is_empty() && !line.starts_with(['#', '@', '[']) && !line.starts_with("//") && !line.starts_with("/*")
        });
        shortened(next.unwrap_or_default())
    }

    /// Returns the number of the line that `at` is in, counted from 1.
    #[must_use]
    pub fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }
}

/// Calls `visit` with `node` and every node in it, from the outside in, as long as it says to look inside.
pub fn walk<'t>(node: Node<'t>, visit: &mut dyn FnMut(Node<'t>) -> bool) {
    let mut cursor = node.walk();
    loop {
        if visit(cursor.node()) && cursor.goto_first_child() {
            continue;
        }
        loop {
            if cursor.node().id() == node.id() {
                return;
            }
            if cursor.goto_next_sibling() {
                break;
            }
            if !cursor.goto_parent() {
                return;
            }
        }
    }
}

fn shortened(code: &str) -> String {
    let code = code.trim();
    normal(&code[..code.floor_char_boundary(CONTEXT_BYTES_MAX)])
}

/// Returns whether the file `path` is written for people: what it says of code is not code.
#[must_use]
pub fn is_prose(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    matches!(
        extension,
        "md" | "mdx"
            | "markdown"
            | "rst"
            | "txt"
            | "adoc"
            | "asciidoc"
            | "tex"
            | "org"
            | "log"
            | "csv"
            | "tsv"
            | "diff"
            | "patch"
            | "svg"
    ) || matches!(name.as_str(), "license" | "copying" | "notice" | "authors" | "changelog" | "changes" | "readme")
}

/// Returns the marks that comments begin with in a file that no grammar knows.
fn markers(path: &str, language: Option<Language>) -> &'static [&'static str] {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match (language, extension) {
        (Some(Language::Json), _) => &[],
        (Some(Language::Sql), _) => &["--", "/*"],
        (Some(Language::Yaml | Language::Toml), _) => &["#"],
        (_, "ini" | "cfg" | "conf" | "properties" | "editorconfig") => &["#", ";"],
        (_, "lua" | "hs" | "elm" | "adb" | "ads") => &["--"],
        (Some(Language::Html), _) | (_, "vue" | "svelte" | "astro" | "hbs" | "xml" | "xhtml" | "cshtml" | "razor") => {
            &["<!--", "//", "/*"]
        }
        (
            _,
            "jsonc" | "json5" | "scala" | "dart" | "groovy" | "gradle" | "m" | "mm" | "scss" | "less" | "sass"
            | "proto" | "zig" | "sol",
        ) => &["//", "/*"],
        (_, "tf" | "hcl" | "tfvars" | "nix") => &["#", "//", "/*"],
        (_, "json") => &["//", "/*"],
        _ if is_prose(path) => &[],
        _ => &["#", "//", "/*"],
    }
}

/// Finds comments by their marks alone, outside of quotes on the same line.
fn lexed(text: &str, marks: &[&str]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    if marks.is_empty() {
        return ranges;
    }
    let mut at = 0;
    let mut quote = None;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'\n' {
            quote = None;
            at += 1;
            continue;
        }
        if let Some(open) = quote {
            if byte == b'\\' {
                at += 1;
            } else if byte == open {
                quote = None;
            }
            at += 1;
            continue;
        }
        let is_apart =
            at == 0 || bytes[at - 1].is_ascii_whitespace() || matches!(bytes[at - 1], b'{' | b';' | b'>' | b')' | b',');
        if is_apart && let Some(mark) = marks.iter().find(|mark| bytes[at..].starts_with(mark.as_bytes())) {
            let closing = match *mark {
                "/*" => "*/",
                "<!--" => "-->",
                _ => "\n",
            };
            let end = text[at..]
                .find(closing)
                .map_or(text.len(), |end| at + end + if closing == "\n" { 0 } else { closing.len() });
            ranges.push(at..end);
            at = end.max(at + 1);
            continue;
        }
        // An apostrophe within a word is none that opens.
        if byte == b'"' || byte == b'\'' && !(at > 0 && bytes[at - 1].is_ascii_alphanumeric()) {
            quote = Some(byte);
        }
        at += 1;
    }
    ranges
}
