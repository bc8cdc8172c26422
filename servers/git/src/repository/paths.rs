//! Paths of the repository, as text and as the system has them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Returns a path of the repository as text; bytes that are not UTF-8 are written `\xNN`.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Returns a path of the repository as a path of the system.
#[must_use]
pub fn os_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// Returns `text` cut to at most `bytes`, at a character.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_escaped() {
        assert_eq!(shown(b"a/\xffb\xc3\xa4"), "a/\\xffbä");
        assert_eq!(cut("aä", 2), "a");
        assert_eq!(cut("a", 9), "a");
    }
}
