//! The rows of an answer as JSON, written as they come.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::base64;

/// Largest integer that every JSON reader keeps exact: hosts in JavaScript round above it.
pub(crate) const EXACT_MAX: i64 = (1 << 53) - 1;

/// One value as an engine has it.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// True or false.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text, which need not be UTF-8.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
    /// Text that stands for a value with no JSON form of its own, and how.
    Encoded(&'a [u8], Encoding),
    /// A value that is JSON already, and how what is in it is written.
    Value(&'a Value, Option<Encoding>),
}

/// How a value with no JSON form of its own is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// An integer beyond what every JSON reader keeps exact.
    Integer,
    /// A number that is not finite.
    Real,
    /// A decimal.
    Decimal,
    /// JSON.
    Json,
    /// Bytes.
    Blob,
    /// Text that is not UTF-8.
    Text,
}

/// Names of [`Encoding`], in its order.
const ENCODINGS: [&str; 6] =
    ["integer_as_text", "real_as_text", "decimal_as_text", "json_as_text", "base64", "text_base64"];

/// Names of the types that values of an expression are seen to have, in the order of their [`Traits`].
const TYPES: [&str; 4] = ["blob", "integer", "real", "text"];

/// The rows of an answer as JSON.
///
/// An answer has thousands of values, and a tree of them costs an allocation for each, twice: once to be made and once to be
/// taken apart. These are written as they come, and copied from there.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Table(Box<RawValue>);

impl Default for Table {
    fn default() -> Self {
        Self(RawValue::from_string("[]".to_owned()).unwrap_or_default())
    }
}

/// A [`Table`] that is being written.
#[derive(Debug)]
pub(super) struct Written {
    /// The bracket that opens it, and the rows so far, parted by commas.
    json: Vec<u8>,
}

/// What the reader must know of values: a bit for each of [`ENCODINGS`], and behind them one for each of [`TYPES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits(pub(super) u16);

impl Traits {
    const BLOB: Self = Self::r#type(0);
    const INTEGER: Self = Self::r#type(1);
    const REAL: Self = Self::r#type(2);
    const TEXT: Self = Self::r#type(3);

    const fn r#type(index: usize) -> Self {
        Self(1 << (ENCODINGS.len() + index))
    }

    fn encoded(self, encoding: Encoding) -> Self {
        Self(self.0 | (1 << (encoding as u16)))
    }

    /// Returns how values are written that have no JSON form of their own.
    pub(super) fn encodings(self) -> impl Iterator<Item = &'static str> {
        named(self.0, ENCODINGS)
    }

    /// Returns the types that values were seen to have.
    pub(super) fn types(self) -> impl Iterator<Item = &'static str> {
        named(self.0 >> ENCODINGS.len(), TYPES)
    }
}

fn named<const N: usize>(bits: u16, names: [&'static str; N]) -> impl Iterator<Item = &'static str> {
    names.into_iter().enumerate().filter(move |(bit, _)| (bits >> bit) & 1 == 1).map(|(_, name)| name)
}

impl Written {
    /// Starts with no rows.
    pub(super) fn new() -> Self {
        Self { json: vec![b'['] }
    }

    /// Returns how many bytes of JSON there are.
    pub(super) fn length(&self) -> usize {
        self.json.len()
    }

    /// Begins a row.
    pub(super) fn begin_row(&mut self) {
        self.json.extend_from_slice(if self.json.len() == 1 { b"[" } else { b",[" });
    }

    /// Ends the row.
    pub(super) fn end_row(&mut self) {
        self.json.push(b']');
    }

    /// Takes back what came after the first `length` bytes: as many as there were before a row began.
    pub(super) fn take_back(&mut self, length: usize) {
        self.json.truncate(length);
    }

    /// Returns the rows.
    pub(super) fn finish(mut self) -> Table {
        self.json.push(b']');
        let json =
            String::from_utf8(self.json).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        #[expect(unsafe_code, reason = "to read all rows again costs as much as to write them")]
        // SAFETY: rows parted by commas, each of which is closed or was taken back, of values that are JSON; debug builds look.
        Table(unsafe { RawValue::from_string_unchecked(json) })
    }

    /// Adds a value, which is not the first of its row if `is_further`, and of which at most `bytes_max` bytes are shown; returns how many it
    /// has if that are more.
    pub(super) fn add(&mut self, cell: Cell<'_>, is_further: bool, bytes_max: usize) -> (Traits, Option<usize>) {
        if is_further {
            self.json.push(b',');
        }
        let traits = match cell {
            Cell::Null => {
                self.json.extend_from_slice(b"null");
                Traits::default()
            }
            Cell::Boolean(value) => {
                self.json.extend_from_slice(if value { b"true" } else { b"false" });
                Traits::default()
            }
            Cell::Integer(integer) if (-EXACT_MAX..=EXACT_MAX).contains(&integer) => {
                self.value(&integer);
                Traits::INTEGER
            }
            Cell::Integer(integer) => {
                self.json.push(b'"');
                self.value(&integer);
                self.json.push(b'"');
                Traits::INTEGER.encoded(Encoding::Integer)
            }
            Cell::Real(real) if real.is_finite() => {
                self.value(&real);
                Traits::REAL
            }
            Cell::Real(real) => {
                let name = if real.is_nan() {
                    "NaN"
                } else if real > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                };
                self.value(name);
                Traits::REAL.encoded(Encoding::Real)
            }
            Cell::Text(bytes) => return self.text(bytes, bytes_max),
            Cell::Encoded(bytes, encoding) => {
                let (traits, all) = self.text(bytes, bytes_max);
                return (traits.encoded(encoding), all);
            }
            Cell::Blob(bytes) => {
                return (Traits::BLOB.encoded(Encoding::Blob), self.bytes(bytes, bytes_max, Encoding::Blob));
            }
            Cell::Value(value, encoding) => {
                self.value(value);
                encoding.map_or(Traits::default(), |encoding| Traits::default().encoded(encoding))
            }
        };
        (traits, None)
    }

    fn text(&mut self, bytes: &[u8], bytes_max: usize) -> (Traits, Option<usize>) {
        if bytes.len() <= bytes_max && is_plain(bytes) {
            self.json.push(b'"');
            self.json.extend_from_slice(bytes);
            self.json.push(b'"');
            return (Traits::TEXT, None);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                let end = text.floor_char_boundary(bytes_max);
                self.value(&text[..end]);
                (Traits::TEXT, (end < text.len()).then_some(text.len()))
            }
            Err(_) => (Traits::TEXT.encoded(Encoding::Text), self.bytes(bytes, bytes_max, Encoding::Text)),
        }
    }

    /// Adds bytes as an object that says how they are written.
    fn bytes(&mut self, bytes: &[u8], bytes_max: usize, encoding: Encoding) -> Option<usize> {
        // Four characters for three bytes.
        let end = bytes.len().min(bytes_max / 4 * 3);
        let name = ENCODINGS.get(encoding as usize).copied().unwrap_or_default();
        for part in ["{\"", name, "\":\"", &base64::encode(&bytes[..end]), "\"}"] {
            self.json.extend_from_slice(part.as_bytes());
        }
        (end < bytes.len()).then_some(bytes.len())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        let before = self.json.len();
        if serde_json::to_writer(&mut self.json, value).is_err() {
            // Of what is written here, nothing fails.
            self.json.truncate(before);
            self.json.extend_from_slice(b"null");
        }
    }
}

/// Whether `text` is the same in JSON, and ASCII: most texts are, which is quicker to see than to read them character by character.
fn is_plain(text: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES * 0x80;
    // Eight bytes at once; of those that are ASCII, the top bit of each that is below the other.
    let below = |word: u64, byte: u8| word.wrapping_sub(ONES * u64::from(byte)) & !word & TOPS;
    let mut words = text.chunks_exact(8);
    let odd = words.by_ref().fold(0, |odd, word| {
        let word = word.try_into().map_or(u64::MAX, u64::from_ne_bytes);
        let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        odd | (word & TOPS) | below(word, b' ') | is(b'"') | is(b'\\')
    });
    odd == 0 && words.remainder().iter().all(|byte| matches!(byte, b' '..=0x7f) && *byte != b'"' && *byte != b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_is_ascii_that_json_leaves_as_it_is(text in prop_oneof!["[ !#-\\[\\]-~\u{7f}]{0,40}", "[a-z\"\\\\\u{0}-\u{1f}\u{7f}-\u{ff}]{0,12}", any::<String>()]) {
            let as_it_is = text.is_ascii() && serde_json::to_string(&text).unwrap() == format!("\"{text}\"");
            prop_assert_eq!(is_plain(text.as_bytes()), as_it_is, "{:?}", text);
        }
    }
}
