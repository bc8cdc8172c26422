//! Where in the text of a JSON file a value stands: what a parsed value does not know any more.

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The element of that number, from 0.
    Index(usize),
    /// The field of that name.
    Key(String),
}

/// Returns the line, from 1, of the value at `path` in `text`, which is valid JSON; of the innermost that is there.
pub(super) fn line_of(text: &str, path: &[Step]) -> usize {
    let bytes = text.as_bytes();
    let mut at = white(bytes, 0);
    for step in path {
        let found = match step {
            Step::Index(index) => element(bytes, at, *index),
            Step::Key(key) => field(bytes, at, key),
        };
        let Some(found) = found else { break };
        at = found;
    }
    bytes[..at.min(bytes.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn element(bytes: &[u8], at: usize, index: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'[') {
        return None;
    }
    let mut at = white(bytes, at + 1);
    for _ in 0..index {
        at = white(bytes, value_end(bytes, at));
        if bytes.get(at) != Some(&b',') {
            return None;
        }
        at = white(bytes, at + 1);
    }
    (bytes.get(at) != Some(&b']')).then_some(at)
}

fn field(bytes: &[u8], at: usize, key: &str) -> Option<usize> {
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    let mut at = white(bytes, at + 1);
    let mut found = None;
    while bytes.get(at) == Some(&b'"') {
        let end = value_end(bytes, at);
        let name: Option<String> = bytes.get(at..end).and_then(|raw| serde_json::from_slice(raw).ok());
        at = white(bytes, white(bytes, end) + 1);
        if name.as_deref() == Some(key) {
            // Of two the parser takes the last.
            found = Some(at);
        }
        at = white(bytes, value_end(bytes, at));
        if bytes.get(at) != Some(&b',') {
            break;
        }
        at = white(bytes, at + 1);
    }
    found
}

fn white(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// Returns where the value that begins at `at` ends.
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'[' | b'{' => {
                depth += 1;
                at += 1;
            }
            b']' | b'}' => {
                if depth == 0 {
                    return at;
                }
                depth -= 1;
                at += 1;
            }
            b',' if depth == 0 => return at,
            byte if depth == 0 && byte.is_ascii_whitespace() => return at,
            _ => {
                at += 1;
                if depth == 0 {
                    while bytes
                        .get(at)
                        .is_some_and(|byte| !matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t'))
                    {
                        at += 1;
                    }
                }
            }
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_where_they_stand() {
        let text = "{\n \"x\": \"a \\\" , ] }\",\n \"tasks\": [\n  {\"id\": 1},\n  [1, {\"q\": [\n]}],\n  {\n   \"id\": true,\n   \"a\\u0062\": null\n  }\n ]\n}";
        let key = |name: &str| Step::Key(name.to_owned());
        for (path, line) in [
            (vec![], 1),
            (vec![key("x")], 2),
            (vec![key("tasks")], 3),
            (vec![key("tasks"), Step::Index(0), key("id")], 4),
            (vec![key("tasks"), Step::Index(1), Step::Index(1)], 5),
            (vec![key("tasks"), Step::Index(2)], 7),
            (vec![key("tasks"), Step::Index(2), key("id")], 8),
            (vec![key("tasks"), Step::Index(2), key("ab")], 9),
            (vec![key("tasks"), Step::Index(2), key("missing")], 7),
            (vec![key("tasks"), Step::Index(9)], 3),
        ] {
            assert_eq!(line_of(text, &path), line, "{path:?}");
        }
    }
}
