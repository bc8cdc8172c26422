//! The rules: what is reported, and which calls and settings lead to it.

mod c;
mod go;
mod java;
mod php;
mod python;
mod ruby;
mod rust;
mod script;

use std::collections::HashMap;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::dialect::Dialect;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Fix it and verify again.
    Warning,
    /// Stop, a human decides.
    Error,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// Text run as code.
    CodeInjection,
    /// Text run as a command.
    CommandInjection,
    /// Objects made from bytes that choose their class.
    Deserialization,
    /// SQL built from text.
    Sql,
    /// A path that a request chooses.
    PathTraversal,
    /// Certificates that nobody checks.
    Tls,
    /// Passwords hashed too fast.
    PasswordHash,
    /// HTML built from text.
    Xss,
    /// Files of the system read.
    SystemFile,
    /// A script run as it comes from the network.
    RemoteScript,
    /// Commands that destroy.
    Destructive,
    /// Writes without a bound.
    Memory,
}

/// When a call is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// The argument is not constant.
    Dynamic,
    /// The argument is constant text with something put in.
    Built,
    /// The argument is SQL with something put in, or comes from a request.
    Sql,
    /// The argument comes from a request.
    Tainted,
    /// The argument is HTML with something from a request put in.
    Html,
    /// The argument is a command of a shell: not constant, or a constant one that does harm.
    Shell,
    /// The arguments are a program and its arguments: a shell with `-c` and something unknown, or a harmful command.
    Program,
    /// The argument, the function or the target speaks of a password.
    Password,
    /// The argument names a file of the system.
    SystemFile,
    /// The argument names a folder that nothing may remove.
    Root,
}

/// Which argument is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The one at this place, counted from 0.
    At(usize),
    /// The one at this place, or of this name.
    Named(usize, &'static str),
    /// Any of them.
    Any,
    /// Any from this place on.
    From(usize),
    /// What the method is called on.
    Receiver,
}

/// What an option of a call has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Not there.
    Missing,
    /// There, and not false.
    True,
    /// False, or nothing.
    False,
    /// One of these words is in it.
    Says(&'static [&'static str]),
    /// Not there, or none of these words is in it.
    SaysNot(&'static [&'static str]),
    /// What is called says none of these words.
    CalleeNot(&'static [&'static str]),
    /// The argument at this place says one of these words.
    At(usize, &'static [&'static str]),
    /// The argument at this place, if it is there, says none of these words.
    AtNot(usize, &'static [&'static str]),
}

/// Calls that are reported.
#[derive(Clone, Copy, Debug)]
pub struct Sink {
    /// As what.
    pub category: Category,
    /// Paths of what is called: `name` alone is not a method, `*.name` is any method, otherwise the end of a path.
    pub calls: &'static [&'static str],
    /// Which argument decides.
    pub of: Of,
    /// When.
    pub when: When,
    /// And only when each option is so.
    pub with: &'static [(&'static str, Test)],
}

/// Settings that are reported: assignments, named arguments, entries.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// As what.
    pub category: Category,
    /// The name that is set.
    pub name: &'static str,
    /// What it is set to.
    pub to: To,
}

/// What a setting is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// False, zero, nothing.
    False,
    /// True, one.
    True,
    /// Anything whose text or path has this word.
    Says(&'static str),
    /// What is not constant.
    Dynamic,
    /// A function that always says yes, or does nothing.
    Agreeing,
}

/// All that one language has.
#[derive(Debug)]
pub struct Table {
    /// Calls.
    pub sinks: &'static [Sink],
    /// Settings.
    pub settings: &'static [Setting],
    /// Paths whose values a request decides.
    pub sources: &'static [&'static str],
    /// Decorations of functions whose parameters a request decides.
    pub handlers: &'static [&'static str],
}

/// The calls of a language by the last part of their paths.
pub struct Index {
    /// The table.
    pub table: &'static Table,
    /// Finds the sources in a path; in the order of the table.
    pub sources: Option<AhoCorasick>,
    /// Which sinks to look at for a name, with the pattern.
    pub by_name: HashMap<&'static str, Vec<(&'static str, &'static Sink)>>,
    /// Which settings to look at for a name.
    pub settings: HashMap<&'static str, Vec<&'static Setting>>,
}

/// Returns the rules of `dialect`; they are put in order once.
pub fn of(dialect: Dialect) -> &'static Index {
    static INDEXES: [OnceLock<Index>; Dialect::ALL.len()] = [const { OnceLock::new() }; Dialect::ALL.len()];
    INDEXES[dialect as usize].get_or_init(|| {
        let table = match dialect {
            Dialect::Python => &python::TABLE,
            Dialect::JavaScript | Dialect::TypeScript | Dialect::Tsx => &script::TABLE,
            Dialect::Rust => &rust::TABLE,
            Dialect::Go => &go::TABLE,
            Dialect::Java => &java::TABLE,
            Dialect::C => &c::TABLE,
            Dialect::Php => &php::TABLE,
            Dialect::Ruby => &ruby::TABLE,
            Dialect::Bash => &Table { sinks: &[], settings: &[], sources: &[], handlers: &[] },
        };
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for sink in table.sinks {
            for pattern in sink.calls {
                let last = pattern.rsplit('.').next().unwrap_or(pattern);
                by_name.entry(last).or_default().push((*pattern, sink));
            }
        }
        let mut settings: HashMap<_, Vec<_>> = HashMap::new();
        for setting in table.settings {
            settings.entry(setting.name).or_default().push(setting);
        }
        // Asked of every value: one pass over a path instead of one for each of dozens of sources.
        let sources = AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(table.sources).ok();
        Index { table, sources, by_name, settings }
    })
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 12] = [
        Self::CodeInjection,
        Self::CommandInjection,
        Self::Deserialization,
        Self::Sql,
        Self::PathTraversal,
        Self::Tls,
        Self::PasswordHash,
        Self::Xss,
        Self::SystemFile,
        Self::RemoteScript,
        Self::Destructive,
        Self::Memory,
    ];

    /// Returns the name, as in the ids of rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CodeInjection => "code_injection",
            Self::CommandInjection => "command_injection",
            Self::Deserialization => "unsafe_deserialization",
            Self::Sql => "sql_injection",
            Self::PathTraversal => "path_traversal",
            Self::Tls => "tls_verification_disabled",
            Self::PasswordHash => "weak_password_hash",
            Self::Xss => "xss",
            Self::SystemFile => "system_file_read",
            Self::RemoteScript => "remote_script",
            Self::Destructive => "destructive_command",
            Self::Memory => "unbounded_write",
        }
    }

    /// Returns how grave it is.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Memory => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// Returns its number in the Common Weakness Enumeration.
    #[must_use]
    pub fn cwe(self) -> u32 {
        match self {
            Self::CodeInjection => 95,
            Self::CommandInjection => 78,
            Self::Deserialization => 502,
            Self::Sql => 89,
            Self::PathTraversal => 22,
            Self::Tls => 295,
            Self::PasswordHash => 916,
            Self::Xss => 79,
            Self::SystemFile => 538,
            Self::RemoteScript => 494,
            Self::Destructive => 732,
            Self::Memory => 120,
        }
    }

    /// Returns what is wrong, in a sentence.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::CodeInjection => "text that is not constant is run as code",
            Self::CommandInjection => "a shell runs a command that is put together from text",
            Self::Deserialization => "whoever wrote these bytes decides which objects are made of them",
            Self::Sql => "SQL is put together from text",
            Self::PathTraversal => "a request decides which file is meant",
            Self::Tls => "certificates or host keys are not checked",
            Self::PasswordHash => "a fast hash protects no password",
            Self::Xss => "text that is not escaped becomes part of a page",
            Self::SystemFile => "a file of the system or of credentials is read",
            Self::RemoteScript => "what the network sends is run as it comes",
            Self::Destructive => "a command destroys more than a workspace",
            Self::Memory => "a write that nothing bounds",
        }
    }

    /// Returns what to do.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::CodeInjection => "parse the text, or choose among functions by name",
            Self::CommandInjection => "give program and arguments as a list, without a shell",
            Self::Deserialization => "use a format of plain data such as JSON, or the safe loader",
            Self::Sql => "pass values as parameters; take names of columns from a fixed list",
            Self::PathTraversal => {
                "resolve the path and check that it is inside the folder, or take only its last part"
            }
            Self::Tls => "keep verification on; add the right certificate authority instead",
            Self::PasswordHash => "use argon2, scrypt or bcrypt with their defaults",
            Self::Xss => "set text instead of HTML, or escape it",
            Self::SystemFile => "read only files of the project",
            Self::RemoteScript => "download to a file, check its digest, then run it",
            Self::Destructive => "name exactly what is to be removed or changed",
            Self::Memory => "use the form that takes a size",
        }
    }
}
