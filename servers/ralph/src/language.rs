//! Which language a file is written in.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A language that files are checked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Python.
    Python,
    /// JavaScript, with JSX.
    JavaScript,
    /// TypeScript.
    TypeScript,
    /// TypeScript with JSX.
    Tsx,
    /// Rust.
    Rust,
    /// Go.
    Go,
    /// Java.
    Java,
    /// Bash, and the POSIX shell that it contains.
    Bash,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 8] =
        [Self::Python, Self::JavaScript, Self::TypeScript, Self::Tsx, Self::Rust, Self::Go, Self::Java, Self::Bash];

    /// Returns the name as in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::TypeScript => "typescript",
            Self::Tsx => "tsx",
            Self::Rust => "rust",
            Self::Go => "go",
            Self::Java => "java",
            Self::Bash => "bash",
        }
    }

    /// Tells the language of the file `path` from its name, else from the `#!` line of `content`.
    ///
    /// `None` when it is none of those that are known.
    #[must_use]
    pub fn of(path: &Path, content: &[u8]) -> Option<Self> {
        let Some(extension) = path.extension() else { return Self::of_interpreter(content) };
        match extension.to_str()?.to_ascii_lowercase().as_str() {
            "py" | "pyi" | "pyw" => Some(Self::Python),
            "js" | "mjs" | "cjs" | "jsx" => Some(Self::JavaScript),
            "ts" | "mts" | "cts" => Some(Self::TypeScript),
            "tsx" => Some(Self::Tsx),
            "rs" => Some(Self::Rust),
            "go" => Some(Self::Go),
            "java" => Some(Self::Java),
            "sh" | "bash" => Some(Self::Bash),
            _ => None,
        }
    }

    fn of_interpreter(content: &[u8]) -> Option<Self> {
        let line = content.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split_ascii_whitespace();
        let mut program = words.next()?.rsplit('/').next()?;
        if program == "env" {
            // `env -S python3 -u`, `env NAME=value python3`.
            program = words.find(|word| !word.starts_with('-') && !word.contains('='))?.rsplit('/').next()?;
        }
        match program.trim_end_matches(|last: char| last.is_ascii_digit() || last == '.') {
            "python" => Some(Self::Python),
            "node" => Some(Self::JavaScript),
            "bash" | "sh" | "dash" => Some(Self::Bash),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, content: &str, expected: Option<Language>) {
        assert_eq!(Language::of(Path::new(path), content.as_bytes()), expected, "{path}");
    }

    #[test]
    fn extension_tells_the_language() {
        check("a/b.py", "", Some(Language::Python));
        check("B.PY", "", Some(Language::Python));
        check("b.d.ts", "", Some(Language::TypeScript));
        check("b.tsx", "", Some(Language::Tsx));
        check("b.jsx", "", Some(Language::JavaScript));
        check("b.txt", "#!/bin/bash\n", None);
        check(".py", "", None);
    }

    #[test]
    fn interpreter_tells_the_language_of_a_file_without_extension() {
        check("run", "#!/bin/bash -e\n", Some(Language::Bash));
        check("run", "#!/usr/bin/env python3.12\n", Some(Language::Python));
        check("run", "#!/usr/bin/env -S FOO=1 node --flag\n", Some(Language::JavaScript));
        check("run", "#!/usr/bin/env fish\n", None);
        check("run", "plain text", None);
        check("run", "#!", None);
    }

    #[test]
    fn names_are_those_of_the_answers() {
        for language in Language::ALL {
            assert_eq!(serde_json::to_value(language).unwrap(), language.name());
        }
    }
}
