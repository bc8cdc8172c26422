//! Names as the most forgiving file system compares them.

use unicode_normalization::UnicodeNormalization;

/// Returns `name` as a file system that ignores case, Unicode composition and invisible characters would see it.
///
/// A ref is a file: where the file system is case-insensitive, `Main` *is* `main`. Folding everywhere makes the
/// rules the same on every machine, at the price of refusing some names that would be harmless on this one.
#[must_use]
pub fn folded(name: &str) -> String {
    let visible: String = name.chars().filter(|c| !is_invisible(*c)).collect();
    // Changing case can leave a text unnormalised and the other way round, so both are done twice.
    let once: String = visible.nfkc().flat_map(without_case).collect();
    once.nfkc().flat_map(without_case).filter(|c| !is_invisible(*c)).collect()
}

/// Returns `c` in lower case, by way of upper case: APFS takes `ß` for `ss` and `ς` for `σ`, which are lower case both.
fn without_case(c: char) -> impl Iterator<Item = char> {
    c.to_uppercase().flat_map(char::to_lowercase)
}

/// Returns whether `c` takes no room on screen: what HFS+ skips when it compares names, and what hides or reorders text.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_spellings_of_one_file_fold_to_one_name() {
        for name in ["main", "Main", "MAIN", "ｍａｉｎ", "ma\u{200c}in", "m\u{ad}ain", "\u{feff}main", "ⅿain"] {
            assert_eq!(folded(name), "main", "{name:?}");
        }
        assert_eq!(folded("re\u{301}sume"), folded("r\u{e9}sume"));
        assert_eq!(folded("\u{212a}elvin"), "kelvin");
        for (one, other) in
            [("claß", "CLASS"), ("STRAẞE", "strasse"), ("ὀδός", "ὈΔΌΣ"), ("ma\u{17f}ter", "master"), ("ﬁnal", "FINAL")]
        {
            assert_eq!(folded(one), folded(other), "{one}");
        }
    }

    #[test]
    fn different_names_stay_different() {
        for name in ["main2", "maine", "domain", "feature/main", "mаin" /* a Cyrillic letter */] {
            assert_ne!(folded(name), "main", "{name:?}");
        }
    }
}
