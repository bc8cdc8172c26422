//! The files that a git configuration makes git read.
//!
//! libgit2 follows `include.path` while it opens a repository, wherever it leads, so the text is looked at before.
//! This reads less exactly than git does and more eagerly: what might be a mention is one.

/// A file that a configuration mentions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// The path as written, without quotes; relative to the folder of the configuration.
    pub path: Vec<u8>,
    /// Whether it is a further configuration.
    pub is_configuration: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    /// `[include]`, `[includeIf "…"]`: everything in it is taken for a path.
    Include,
    Core,
    Other,
}

/// Returns the files that the configuration `text` makes git read.
#[must_use]
pub fn mentioned(text: &[u8]) -> Vec<Mention> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut section = Section::Other;
    let mut mentions = Vec::new();
    // Each line is looked at by itself: a value that goes on over several lines cannot hide a section that way.
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let mut rest = line.trim_ascii();
        // A value may follow its section on one line.
        while let Some(header) = rest.strip_prefix(b"[") {
            section = Section::named(header);
            rest = after_header(header).trim_ascii();
        }
        if rest.is_empty() || rest.starts_with(b"#") || rest.starts_with(b";") {
            continue;
        }
        let mut parts = rest.splitn(2, |byte| *byte == b'=');
        let key = parts.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        let value = parts.next().unwrap_or_default();
        let is_configuration = section == Section::Include;
        let names_file = matches!(key.as_slice(), b"excludesfile" | b"attributesfile");
        if is_configuration || (section == Section::Core && names_file) {
            mentions.push(Mention { path: unquoted(value), is_configuration });
        }
    }
    mentions
}

impl Section {
    fn named(header: &[u8]) -> Self {
        let header = header.trim_ascii_start().to_ascii_lowercase();
        if header.starts_with(b"include") {
            Self::Include
        } else if header.starts_with(b"core") {
            Self::Core
        } else {
            Self::Other
        }
    }
}

/// Returns what follows the `]` that ends a section's header; quotes may have another in them.
fn after_header(header: &[u8]) -> &[u8] {
    let mut quoted = false;
    let mut escaped = false;
    for (index, byte) in header.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b']' if !quoted => return &header[index + 1..],
            _ => {}
        }
    }
    &[]
}

/// Returns the path that `value` stands for; one with escapes or a comment stays as it is, and then exists nowhere.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii();
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let plain = inner.unwrap_or(value);
    if plain.iter().any(|byte| matches!(byte, b'"' | b'\\' | b'#' | b';' | 0)) {
        // Nothing is inside a folder of this name: the caller refuses.
        return b"/".to_vec();
    }
    plain.to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(text: &str) -> Vec<String> {
        mentioned(text.as_bytes()).into_iter().map(|mention| String::from_utf8(mention.path).unwrap()).collect()
    }

    #[test]
    fn mentions_are_found_however_they_are_written() {
        let texts = [
            "[include]\n\tpath = /x\n",
            "[INCLUDE]\nPATH=/x",
            "[include] path = /x",
            "[ include ]\npath = \"/x\"",
            "\u{feff}[include]\npath = /x",
            "[core]\r\nbare = false\r\n[include]\r\n path = /x\r\n",
            "[includeIf \"gitdir:/a]b/\"]\npath = /x",
            "[includeIf \"gitdir:/a\\\"]b/\"] path = /x",
            "[core]\na = b \\\n[include]\npath = /x",
            "[include \"sub\"]\npath = /x",
            "[user]\nname = \"a\n[include]\npath = /x",
            "[a][include]path=/x",
            "[core]\nexcludesFile = /x",
            "[CORE] attributesfile=/x",
        ];
        for text in texts {
            assert_eq!(paths(text), ["/x"], "{text:?}");
        }
        assert_eq!(paths("[include]\npath = a\n# b\npath = c\n[user]\npath = d"), ["a", "c"]);
        assert!(mentioned(b"[include]\npath = x")[0].is_configuration);
        assert!(!mentioned(b"[core]\nexcludesfile = x")[0].is_configuration);
    }

    #[test]
    fn path_that_is_not_plain_leads_to_the_root_of_the_file_system() {
        for value in ["/a\\\nb", "\"/a\"b", "/a\\t", "/a # b", "a;b"] {
            assert_eq!(paths(&format!("[include]\npath = {value}"))[0], "/", "{value}");
        }
    }

    #[test]
    fn other_settings_mention_nothing() {
        let text =
            "[core]\nbare = false\nworktree = /x\n[user]\nname = include\n[remote \"include\"]\nurl = path = /x\n";
        assert!(mentioned(text.as_bytes()).is_empty());
    }

    proptest! {
        #[test]
        fn whatever_libgit2_finds_is_found(
            text in "(\\[(include|core|x)( \"[a\\]]{0,3}\")?\\] ?|(path|b|excludesfile) ?= ?\"?[a-c]{1,3}\"?\\\\?|[\\n\\t #;]){0,12}",
        ) {
            let dir = tempfile::TempDir::new().unwrap();
            std::fs::write(dir.path().join("config"), &text).unwrap();
            let names = ["a", "b", "c"];
            for first in names {
                for second in names {
                    for third in names {
                        for name in [first.to_owned(), format!("{first}{second}"), format!("{first}{second}{third}")] {
                            std::fs::write(dir.path().join(&name), format!("[found]\n{name} = 1\n")).unwrap();
                        }
                    }
                }
            }
            if let Ok(config) = git2::Config::open(&dir.path().join("config")) {
                let ours: Vec<_> = paths(&text);
                let refused = ours.iter().any(|path| path == "/");
                let mut entries = config.entries(Some("found\\..*")).unwrap();
                while let Some(entry) = entries.next() {
                    let name = entry.unwrap().name().unwrap()["found.".len()..].to_owned();
                    prop_assert!(refused || ours.contains(&name), "{name} in {text:?}");
                }
            }
        }
    }
}
