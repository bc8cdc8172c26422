//! Line endings of files on their way into the working tree.

use std::borrow::Cow;
use std::path::Path;

use git2::{AttrCheckFlags, AttrValue, Repository};

/// How much of a file git looks at to tell text from other data.
const LOOKED_AT_BYTES: usize = 8000;

/// Returns `content`, of the file at `path`, with the line endings that attributes and configuration ask for.
///
/// Line endings only: no external filter is run, and `$Id$` is not expanded.
#[must_use]
pub fn for_the_working_tree<'content>(git: &Repository, path: &Path, content: &'content [u8]) -> Cow<'content, [u8]> {
    if !content.contains(&b'\n') || !wants_crlf(git, path, content) {
        return Cow::Borrowed(content);
    }
    let mut converted = Vec::with_capacity(content.len() + content.len() / 16);
    let mut before = 0;
    for byte in content {
        if *byte == b'\n' && before != b'\r' {
            converted.push(b'\r');
        }
        converted.push(*byte);
        before = *byte;
    }
    Cow::Owned(converted)
}

fn wants_crlf(git: &Repository, path: &Path, content: &[u8]) -> bool {
    let attribute = |name: &str| git.get_attr_bytes(path, name, AttrCheckFlags::default()).ok().flatten();
    let setting =
        |name: &str| git.config().and_then(|config| config.get_string(name)).ok().map(|text| text.to_lowercase());
    let (text, eol) = (AttrValue::from_bytes(attribute("text")), AttrValue::from_bytes(attribute("eol")));
    let is = |value: &AttrValue<'_>, expected: &[u8]| match value {
        AttrValue::String(text) => text.as_bytes() == expected,
        AttrValue::Bytes(bytes) => *bytes == expected,
        _ => false,
    };
    let autocrlf = setting("core.autocrlf");
    let converts = matches!(autocrlf.as_deref(), Some("true" | "yes" | "on" | "1"));
    let eol_given = is(&eol, b"crlf") || is(&eol, b"lf");
    let automatic = match text {
        AttrValue::False => return false,
        AttrValue::True => false,
        AttrValue::Unspecified if eol_given => false,
        AttrValue::Unspecified if !converts => return false,
        _ => true,
    };
    // What is to be guessed is left alone where it does not look like text, or has such line endings already.
    if automatic && (content.iter().take(LOOKED_AT_BYTES).any(|byte| *byte == 0) || content.contains(&b'\r')) {
        return false;
    }
    if eol_given {
        return is(&eol, b"crlf");
    }
    match autocrlf.as_deref() {
        Some("input") => false,
        _ if converts => true,
        _ => setting("core.eol").as_deref() == Some("crlf"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(attributes: &str, settings: &[(&str, &str)], content: &str) -> String {
        let dir = tempfile::TempDir::new().unwrap();
        let git = Repository::init(dir.path()).unwrap();
        for (name, value) in settings {
            git.config().unwrap().set_str(name, value).unwrap();
        }
        std::fs::write(dir.path().join(".gitattributes"), attributes).unwrap();
        let converted = for_the_working_tree(&git, Path::new("a.txt"), content.as_bytes());
        String::from_utf8(converted.into_owned()).unwrap()
    }

    /// Checks against what libgit2 itself writes.
    #[test]
    fn line_endings_are_those_that_libgit2_writes() {
        for attributes in [
            "",
            "* text",
            "* -text",
            "* text=auto",
            "* eol=crlf",
            "* eol=lf",
            "* text eol=crlf",
            "* text=auto eol=crlf",
            "* binary",
        ] {
            for settings in
                [&[][..], &[("core.autocrlf", "true")], &[("core.autocrlf", "input")], &[("core.eol", "crlf")]]
            {
                for content in ["", "a", "a\nb\n", "a\r\nb\n", "a\r\nb\r\n", "a\0\nb\n"] {
                    let dir = tempfile::TempDir::new().unwrap();
                    let git = Repository::init(dir.path()).unwrap();
                    let blob = git.blob(content.as_bytes()).unwrap();
                    let mut tree = git.treebuilder(None).unwrap();
                    tree.insert("a.txt", blob, 0o100_644).unwrap();
                    let tree = git.find_object(tree.write().unwrap(), None).unwrap();
                    for (name, value) in settings {
                        git.config().unwrap().set_str(name, value).unwrap();
                    }
                    std::fs::write(dir.path().join(".gitattributes"), attributes).unwrap();
                    git.checkout_tree(&tree, Some(git2::build::CheckoutBuilder::new().force())).unwrap();
                    let expected = std::fs::read_to_string(dir.path().join("a.txt")).unwrap();
                    assert_eq!(
                        converted(attributes, settings, content),
                        expected,
                        "{attributes} {settings:?} {content:?}"
                    );
                }
            }
        }
    }
}
