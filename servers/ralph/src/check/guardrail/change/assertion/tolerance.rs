//! By how much a number may differ.

/// Returns by how much a number may differ in the assertion `text`.
pub(super) fn tolerance(text: &str) -> Option<f64> {
    for word in ["abs=", "rel=", "abs_tol=", "rel_tol=", "atol=", "rtol=", "delta=", "epsilon=", "max_relative="] {
        if let Some((_, rest)) = text.split_once(word) {
            return number(rest);
        }
    }
    // Digits: the fewer the looser.
    for word in ["places=", "decimal="] {
        if let Some((_, rest)) = text.split_once(word) {
            return number(rest).map(std::ops::Neg::neg);
        }
    }
    if let Some((_, rest)) = text.split_once("toBeCloseTo(") {
        let arguments = split(rest.trim_end_matches(')'));
        return Some(arguments.get(1).and_then(|digits| number(digits)).map_or(-2.0, std::ops::Neg::neg));
    }
    if text.contains("InDelta(") {
        let arguments = split(text.split_once("InDelta(")?.1.trim_end_matches(')'));
        return arguments.get(3).or_else(|| arguments.get(2)).and_then(|delta| number(delta));
    }
    None
}

fn number(text: &str) -> Option<f64> {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '_'))).unwrap_or(text.len());
    text[..end].replace('_', "").parse().ok()
}

/// Splits arguments at the commas between them.
pub(super) fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start, mut quote) = (Vec::new(), 0_i32, 0, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '`', None) => quote = Some(c),
            ('(' | '[' | '{', None) => depth += 1,
            (')' | ']' | '}', None) => depth -= 1,
            (',', None) if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}
