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
    /// C.
    C,
    /// C++.
    Cpp,
    /// C#.
    CSharp,
    /// Ruby.
    Ruby,
    /// PHP.
    Php,
    /// Kotlin.
    Kotlin,
    /// Swift.
    Swift,
    /// Bash, and the POSIX shell that it contains.
    Bash,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// TOML.
    Toml,
    /// HTML.
    Html,
    /// CSS.
    Css,
    /// SQL, of whatever dialect.
    Sql,
}

/// How a file of JavaScript or TypeScript is loaded, as far as its name tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ModuleKind {
    /// Its content tells.
    #[default]
    Unknown,
    /// `.cjs`, `.cts`.
    Script,
    /// `.mjs`, `.mts`.
    Module,
    /// `.d.ts`, which only declares.
    Declaration,
}

/// What a file is, as far as its name and first line tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceType {
    /// Its language.
    pub language: Language,
    /// How it is loaded.
    pub module: ModuleKind,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 21] = [
        Self::Python,
        Self::JavaScript,
        Self::TypeScript,
        Self::Tsx,
        Self::Rust,
        Self::Go,
        Self::Java,
        Self::C,
        Self::Cpp,
        Self::CSharp,
        Self::Ruby,
        Self::Php,
        Self::Kotlin,
        Self::Swift,
        Self::Bash,
        Self::Json,
        Self::Yaml,
        Self::Toml,
        Self::Html,
        Self::Css,
        Self::Sql,
    ];

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
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::CSharp => "csharp",
            Self::Ruby => "ruby",
            Self::Php => "php",
            Self::Kotlin => "kotlin",
            Self::Swift => "swift",
            Self::Bash => "bash",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Toml => "toml",
            Self::Html => "html",
            Self::Css => "css",
            Self::Sql => "sql",
        }
    }

    /// Tells the language of the file `path` from its name, else from the `#!` line of `content`.
    ///
    /// `None` when it is none of those that are known.
    #[must_use]
    pub fn of(path: &Path, content: &[u8]) -> Option<Self> {
        let name = path.file_name().and_then(|name| name.to_str())?;
        match name {
            "Gemfile" | "Rakefile" | "Vagrantfile" | "Podfile" | "Fastfile" => return Some(Self::Ruby),
            "Cargo.lock" | "poetry.lock" | "uv.lock" | "Pipfile" => return Some(Self::Toml),
            ".bashrc" | ".bash_profile" | ".profile" => return Some(Self::Bash),
            // Comments and trailing commas are allowed in these.
            "tsconfig.json" | "jsconfig.json" | "settings.json" | "launch.json" | "devcontainer.json" => return None,
            _ => {}
        }
        let Some(extension) = path.extension() else { return Self::of_interpreter(content) };
        match extension.to_str()?.to_ascii_lowercase().as_str() {
            "py" | "pyi" | "pyw" => Some(Self::Python),
            "js" | "mjs" | "cjs" | "jsx" => Some(Self::JavaScript),
            "ts" | "mts" | "cts" => Some(Self::TypeScript),
            "tsx" => Some(Self::Tsx),
            "rs" => Some(Self::Rust),
            "go" => Some(Self::Go),
            "java" => Some(Self::Java),
            "c" => Some(Self::C),
            // A header may be either; what is C is nearly always C++ too.
            "h" | "cc" | "cpp" | "cxx" | "hh" | "hpp" | "hxx" => Some(Self::Cpp),
            "cs" => Some(Self::CSharp),
            "rb" | "rake" | "gemspec" => Some(Self::Ruby),
            "php" | "phtml" => Some(Self::Php),
            "kt" | "kts" => Some(Self::Kotlin),
            "swift" => Some(Self::Swift),
            "sh" | "bash" => Some(Self::Bash),
            "json" | "webmanifest" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "html" | "htm" => Some(Self::Html),
            "css" => Some(Self::Css),
            "sql" => Some(Self::Sql),
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
            "ruby" => Some(Self::Ruby),
            "php" => Some(Self::Php),
            _ => None,
        }
    }
}

impl SourceType {
    /// Tells what the file `path` is, from its name, else from the `#!` line of `content`.
    #[must_use]
    pub fn of(path: &Path, content: &[u8]) -> Option<Self> {
        let language = Language::of(path, content)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
        let declares = [".d.ts", ".d.mts", ".d.cts"].iter().any(|end| name.ends_with(end));
        let module = match name.rsplit('.').next() {
            _ if declares => ModuleKind::Declaration,
            Some("cjs" | "cts") => ModuleKind::Script,
            Some("mjs" | "mts") => ModuleKind::Module,
            _ => ModuleKind::Unknown,
        };
        Some(Self { language, module })
    }
}

impl From<Language> for SourceType {
    fn from(language: Language) -> Self {
        Self { language, module: ModuleKind::Unknown }
    }
}

impl ModuleKind {
    /// Returns a name for the cache key.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Script => "script",
            Self::Module => "module",
            Self::Declaration => "declaration",
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
