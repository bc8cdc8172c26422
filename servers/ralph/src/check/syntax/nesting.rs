//! Whether a text is nested deeper than a parser that recurses can bear.

use crate::language::Language;

/// Deepest brackets, and longest row of operators that nest without brackets. Code that people write stays under 40.
const DEPTH_MAX: usize = 200;

/// Most links in one chain, such as `a + b + c` or `a.b.c`, which a tree nests though nobody sees it.
const CHAIN_MAX: usize = 5_000;

/// Most `else if` and `elif` in one file: each is nested in the one before.
const BRANCHES_MAX: usize = 1_500;

/// Deepest indentation, in columns: Python nests by it.
const INDENT_MAX: usize = 800;

/// Returns whether `text`, in `language`, may be nested too deep; says so too often rather than too seldom.
pub(crate) fn is_deep(language: Language, text: &str) -> bool {
    let bytes = text.as_bytes();
    // Python compares with `<`; in the others it may also begin types or markup that nest.
    let has_angles = language != Language::Python;
    // How many angles were open at each bracket that is: behind it, those that stood for "less" do not count any more.
    let (mut brackets, mut angles, mut deepest) = (Vec::new(), 0_usize, 0_usize);
    let (mut row, mut longest_row) = (0_usize, 0_usize);
    let (mut chain, mut longest_chain) = (0_usize, 0_usize);
    let (mut indent, mut deepest_indent, mut at_start) = (0_usize, 0_usize, true);
    for byte in bytes {
        if at_start {
            match byte {
                b' ' | b'\t' => indent += 1,
                b'\n' => {}
                _ => {
                    deepest_indent = deepest_indent.max(indent);
                    at_start = false;
                }
            }
        }
        match byte {
            b'(' | b'[' | b'{' => {
                brackets.push(angles);
                if brackets.len() > DEPTH_MAX {
                    return true;
                }
            }
            b')' | b']' | b'}' => angles = brackets.pop().unwrap_or(angles),
            b'<' if has_angles => angles += 1,
            b'>' if has_angles => angles = angles.saturating_sub(1),
            // No type goes on behind it, but for those in brackets of their own.
            b';' => angles = brackets.last().copied().unwrap_or(0),
            _ => {}
        }
        deepest = deepest.max(brackets.len() + angles);
        match byte {
            b'!' | b'-' | b'~' | b'&' | b'*' | b'+' | b'|' | b'^' | b'@' | b'?' | b'\'' | b'$' => row += 1,
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => {
                longest_row = longest_row.max(row);
                row = 0;
            }
        }
        match byte {
            b';' | b'{' | b'}' => {
                longest_chain = longest_chain.max(chain);
                chain = 0;
            }
            b'\n' => {
                // A statement of Python ends here, but not where brackets are open.
                if brackets.is_empty() && angles == 0 {
                    longest_chain = longest_chain.max(chain);
                    chain = 0;
                }
                indent = 0;
                at_start = true;
            }
            b'.' | b'+' | b'-' | b'*' | b'/' | b'%' | b'&' | b'|' | b'^' | b'=' | b'?' | b':' | b'<' | b'>' | b'!' => {
                chain += 1;
            }
            // Words nest too: `not not x`, `new new x`, `a if b else c`, `lambda`, `await`, `as`.
            b' ' => chain += 1,
            _ => {}
        }
    }
    let branches = text.matches("else").count() + text.matches("elif").count();
    deepest > DEPTH_MAX
        || longest_row.max(row) > DEPTH_MAX
        || longest_chain.max(chain) > CHAIN_MAX
        || branches > BRANCHES_MAX
        || deepest_indent > INDENT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: [Language; 5] =
        [Language::Python, Language::JavaScript, Language::TypeScript, Language::Tsx, Language::Rust];

    #[test]
    fn what_people_write_is_not_deep() {
        for language in EXACT {
            assert!(!is_deep(language, include_str!("../syntax.rs")));
            assert!(!is_deep(language, &"let x = a.b.c(1, [2, 3]) + 4;\n".repeat(10_000)));
            assert!(!is_deep(language, &"x = [1, 2, 3]\n".repeat(10_000)));
            assert!(!is_deep(language, &"for (i = 0; i < n; i++) { if (a < b) f(i < 3); }\n".repeat(1_000)));
        }
        assert!(!is_deep(Language::Python, &"if a < b or c << 2:\n    d(a.b, c)\n".repeat(10_000)));
    }

    #[test]
    fn what_nests_is_deep() {
        for language in EXACT {
            for nested in
                ["(", "[", "{", "!", "- ", "&", "a+", "a.b.", "not ", "else if x {} ", "if x: ", "x = ", "new "]
            {
                assert!(is_deep(language, &nested.repeat(20_000)), "{nested}");
            }
        }
        for nested in ["<a>", "A<", "A<\n", "A<{ a: 1; b: ", "A<B<[A<", "A<(a) => "] {
            assert!(is_deep(Language::Tsx, &nested.repeat(20_000)), "{nested}");
        }
        let indented: String = (0..1_500).map(|depth| format!("{}if x:\n", " ".repeat(depth))).collect();
        assert!(is_deep(Language::Python, &indented));
    }
}
