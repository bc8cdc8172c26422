//! What an engine answers, as JSON without loss and within bounds.

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::base64;

/// How many bytes of JSON the rows of an answer have at most: what hosts pass on to a model without cutting it.
const ROWS_BYTES_MAX: usize = 80_000;

/// How many bytes of one value are shown at most.
const VALUE_BYTES_MAX: usize = 16_000;

/// How many bytes of every value are shown even in the widest row.
const VALUE_BYTES_MIN: usize = 64;

/// How many columns an answer has at most.
pub const COLUMNS_MAX: usize = 500;

/// How many characters of a column's name or type are shown.
const NAME_CHARACTERS_MAX: usize = 128;

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

/// The rows of an answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Rows {
    /// The columns, in order; names may repeat.
    pub columns: Vec<Column>,
    /// The rows, each an array with one value per column.
    #[schemars(schema_with = "rows_schema")]
    pub rows: Table,
    /// How many rows are here.
    pub row_count: usize,
    /// Whether there are more rows than are here.
    pub truncated: bool,
    /// The values of which only the beginning is here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut_values: Vec<CutValue>,
    /// What was left out, and how to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(skip)]
    bytes: usize,
}

impl Rows {
    /// Returns how many bytes of JSON it has, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.columns.len() * 100
    }
}

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
struct Written {
    /// The bracket that opens it, and the rows so far, parted by commas.
    json: Vec<u8>,
}

/// One column.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type declared in its table; for an expression, the types of the values seen.
    pub r#type: String,
    /// How values with no JSON form of their own are written here: `integer_as_text` (beyond ±(2^53-1)),
    /// `real_as_text` (infinite), `decimal_as_text`, `json_as_text`, `base64` (a blob), `text_base64` (text that is not
    /// UTF-8).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub encodings: BTreeSet<&'static str>,
    #[serde(skip)]
    traits: Traits,
}

/// A value of which only the beginning is shown.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CutValue {
    /// Its row, from 0.
    pub row: usize,
    /// Its column, from 0.
    pub column: usize,
    /// How many bytes all of it has; left out when the database did not send all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
}

/// Collects rows until a bound is reached.
#[derive(Debug)]
pub struct RowsBuilder {
    rows: Rows,
    written: Written,
    rows_max: usize,
    value_bytes_max: usize,
    cut_before: Option<usize>,
    /// Of the values of the row that is being added; kept for the next one.
    traits: Vec<Traits>,
}

/// A row that is being added, value by value.
#[derive(Debug)]
pub struct RowBuilder<'a> {
    builder: &'a mut RowsBuilder,
    column: usize,
}

impl RowBuilder<'_> {
    /// Adds the value of the next column.
    pub fn cell(&mut self, cell: Cell<'_>) {
        let RowsBuilder { rows, written, value_bytes_max, cut_before, traits, .. } = &mut *self.builder;
        if self.column > 0 {
            written.json.push(b',');
        }
        let (found, all) = written.add(cell, *value_bytes_max);
        traits.push(found);
        if let Some(all) = all {
            let came_whole = cut_before.is_none_or(|before| all * 2 + 2 < before);
            rows.cut_values.push(CutValue {
                row: rows.row_count,
                column: self.column,
                bytes: came_whole.then_some(all),
            });
        }
        self.column += 1;
    }
}

/// Whether another row is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// There is room.
    Wanted,
    /// The answer is full; the last row was left out.
    Full,
}

impl RowsBuilder {
    /// Starts an answer of at most `rows_max` rows with these columns: name and declared type.
    #[must_use]
    pub fn new<'a>(columns: impl Iterator<Item = (&'a str, Option<&'a str>)>, rows_max: usize) -> Self {
        let shown = |text: &str| text.chars().take(NAME_CHARACTERS_MAX).collect::<String>();
        let columns: Vec<Column> = columns
            .map(|(name, declared)| Column {
                name: shown(name),
                r#type: declared.map(shown).unwrap_or_default(),
                encodings: BTreeSet::new(),
                traits: Traits::default(),
            })
            .collect();
        let value_bytes_max = (ROWS_BYTES_MAX / 2 / columns.len().max(1)).clamp(VALUE_BYTES_MIN, VALUE_BYTES_MAX);
        let rows = Rows {
            columns,
            rows: Table::default(),
            row_count: 0,
            truncated: false,
            cut_values: Vec::new(),
            note: None,
            bytes: 0,
        };
        let written = Written { json: vec![b'['] };
        Self { rows, written, rows_max, value_bytes_max, cut_before: None, traits: Vec::new() }
    }

    /// Has the values cut before they come, and returns after how many characters: a little more than is shown.
    pub fn cut_before(&mut self) -> usize {
        // A byte is two characters in hexadecimal.
        let characters = self.value_bytes_max * 2 + 4;
        self.cut_before = Some(characters);
        characters
    }

    /// Adds a row with the values that `fill` adds to it, if there is room for it.
    ///
    /// # Errors
    ///
    /// Those of `fill`; then the row is not there.
    pub fn row<E>(&mut self, fill: impl FnOnce(&mut RowBuilder<'_>) -> Result<(), E>) -> Result<More, E> {
        if self.rows.row_count >= self.rows_max {
            self.rows.note = Some(format!(
                "there are more than {} rows: narrow the query, or pass `cursor` to go on",
                self.rows_max
            ));
            return Ok(self.full());
        }
        let (bytes_before, cuts_before) = (self.written.json.len(), self.rows.cut_values.len());
        self.traits.clear();
        self.written.json.extend_from_slice(if self.rows.row_count == 0 { b"[" } else { b",[" });
        let filled = fill(&mut RowBuilder { builder: self, column: 0 });
        self.written.json.push(b']');
        let is_too_much = self.written.json.len() > ROWS_BYTES_MAX && self.rows.row_count > 0;
        if filled.is_err() || is_too_much {
            self.written.json.truncate(bytes_before);
            self.rows.cut_values.truncate(cuts_before);
        }
        filled?;
        if is_too_much {
            self.rows.note = Some(format!(
                "the rows have more than {ROWS_BYTES_MAX} bytes: name fewer columns, narrow the query, or pass `cursor` to go on"
            ));
            return Ok(self.full());
        }
        self.rows.row_count += 1;
        for (column, traits) in self.rows.columns.iter_mut().zip(&self.traits) {
            column.traits.0 |= traits.0;
        }
        Ok(More::Wanted)
    }

    fn full(&mut self) -> More {
        self.rows.truncated = true;
        More::Full
    }

    /// Returns the answer.
    #[must_use]
    pub fn finish(mut self) -> Rows {
        self.rows.bytes = self.written.json.len();
        self.rows.rows = self.written.finish();
        for column in &mut self.rows.columns {
            column.encodings = column.traits.encodings().collect();
            // Wanted only where the table declares no type.
            if column.r#type.is_empty() {
                let seen: Vec<&str> = column.traits.types().collect();
                column.r#type = if seen.is_empty() { "null".to_owned() } else { seen.join("|") };
            }
        }
        if !self.rows.cut_values.is_empty() {
            let cut = format!("`cut_values` show their first {} bytes: take parts with substr()", self.value_bytes_max);
            self.rows.note = Some(match self.rows.note.take() {
                Some(note) => format!("{note}; {cut}"),
                None => cut,
            });
        }
        self.rows
    }
}

/// What the reader must know of values: a bit for each of [`ENCODINGS`], and behind them one for each of [`TYPES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traits(u16);

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

    fn encodings(self) -> impl Iterator<Item = &'static str> {
        named(self.0, ENCODINGS)
    }

    fn types(self) -> impl Iterator<Item = &'static str> {
        named(self.0 >> ENCODINGS.len(), TYPES)
    }
}

fn named<const N: usize>(bits: u16, names: [&'static str; N]) -> impl Iterator<Item = &'static str> {
    names.into_iter().enumerate().filter(move |(bit, _)| (bits >> bit) & 1 == 1).map(|(_, name)| name)
}

impl Written {
    /// Returns the rows.
    fn finish(mut self) -> Table {
        self.json.push(b']');
        let json =
            String::from_utf8(self.json).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        #[expect(unsafe_code, reason = "to read all rows again costs as much as to write them")]
        // SAFETY: rows parted by commas, each of which is closed or was taken back, of values that are JSON; debug builds look.
        Table(unsafe { RawValue::from_string_unchecked(json) })
    }

    /// Adds a value, of which at most `bytes_max` bytes are shown; returns how many it has if that are more.
    fn add(&mut self, cell: Cell<'_>, bytes_max: usize) -> (Traits, Option<usize>) {
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

/// Any value at all: what a schema of a nested type would only say less well.
fn rows_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "array", "items": {} } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rows(rows_max: usize, all: &[&[Cell<'_>]]) -> Rows {
        let width = all.first().map_or(0, |row| row.len());
        let mut builder = RowsBuilder::new(std::iter::repeat_n(("c", None), width), rows_max);
        for row in all {
            let more = builder.row(|values| {
                row.iter().for_each(|cell| values.cell(*cell));
                Ok::<_, ()>(())
            });
            if more == Ok(More::Full) {
                break;
            }
        }
        builder.finish()
    }

    #[test]
    fn values_have_a_json_form() {
        let cells = [
            Cell::Null,
            Cell::Integer(EXACT_MAX),
            Cell::Integer(EXACT_MAX + 1),
            Cell::Integer(i64::MIN),
            Cell::Real(1.0),
            Cell::Real(f64::INFINITY),
            Cell::Text("é\0".as_bytes()),
            Cell::Text(b"\xff"),
            Cell::Blob(b"\0\xff"),
        ];
        let answer = rows(1, &[&cells]);
        let expected = json!([
            null, 9_007_199_254_740_991_i64, "9007199254740992", "-9223372036854775808", 1.0, "Infinity", "é\0",
            {"text_base64": "/w=="}, {"base64": "AP8="}
        ]);
        assert_eq!(json!(answer.rows)[0], expected);
        let encodings: Vec<Vec<&str>> =
            answer.columns.iter().map(|column| column.encodings.iter().copied().collect()).collect();
        assert_eq!(encodings[1], Vec::<&str>::new());
        assert_eq!(encodings[2], ["integer_as_text"]);
        assert_eq!(encodings[5], ["real_as_text"]);
        assert_eq!(encodings[7], ["text_base64"]);
        let types: Vec<&str> = answer.columns.iter().map(|column| column.r#type.as_str()).collect();
        assert_eq!(types, ["null", "integer", "integer", "integer", "real", "real", "text", "text", "blob"]);
    }

    #[test]
    fn rows_are_counted_and_cut() {
        let row: &[Cell<'_>] = &[Cell::Integer(1)];
        let answer = rows(2, &[row, row]);
        assert_eq!((answer.row_count, answer.truncated, answer.note.is_some()), (2, false, false));
        let answer = rows(2, &[row, row, row]);
        assert_eq!((answer.row_count, answer.truncated, answer.note.is_some()), (2, true, true));
        let answer = rows(0, &[row]);
        assert_eq!((answer.row_count, answer.truncated), (0, true));
    }

    #[test]
    fn row_that_fails_is_taken_back() {
        let mut builder = RowsBuilder::new([("a", None), ("b", None)].into_iter(), 10);
        let both = |values: &mut RowBuilder<'_>| {
            values.cell(Cell::Integer(1));
            values.cell(Cell::Text(b"x"));
            Ok::<(), &str>(())
        };
        assert_eq!(builder.row(both), Ok(More::Wanted));
        let failed = builder.row(|values| {
            values.cell(Cell::Blob(&[b'x'; VALUE_BYTES_MAX + 1]));
            Err("gone")
        });
        assert_eq!(failed, Err("gone"));
        assert_eq!(builder.row(both), Ok(More::Wanted));
        let answer = builder.finish();
        assert_eq!((json!(answer.rows), answer.row_count), (json!([[1, "x"], [1, "x"]]), 2));
        assert!(answer.cut_values.is_empty() && answer.columns[0].encodings.is_empty());
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let long = "é".repeat(VALUE_BYTES_MAX);
        let answer = rows(1, &[&[Cell::Text(format!("x{long}").as_bytes()), Cell::Blob(long.as_bytes())]]);
        assert_eq!(answer.cut_values.len(), 2);
        assert_eq!(answer.cut_values[0].bytes, Some(2 * VALUE_BYTES_MAX + 1));
        assert!(!answer.truncated && answer.note.is_some());
        assert_eq!(json!(answer.rows)[0][0].as_str().unwrap().len(), VALUE_BYTES_MAX - 1);
    }

    #[test]
    fn bytes_are_bounded() {
        let text = "\u{1}".repeat(VALUE_BYTES_MAX);
        let row: &[Cell<'_>] = &[Cell::Text(text.as_bytes())];
        let answer = rows(1000, &[row; 1000]);
        assert!(answer.truncated);
        assert!(serde_json::to_string(&answer).unwrap().len() < 2 * ROWS_BYTES_MAX);
        // One row is always there, however wide.
        let wide = vec![Cell::Text(text.as_bytes()); COLUMNS_MAX];
        let answer = rows(10, &[&wide, &wide]);
        assert_eq!((answer.row_count, answer.truncated), (1, true));
        assert!(serde_json::to_string(&answer).unwrap().len() < 500_000);
    }

    proptest! {
        /// Whatever an engine sends, the rows are JSON, and say what was sent.
        #[test]
        fn rows_are_json(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), plain: String, real: f64, integer: i64) {
            let texts = texts.iter().map(Vec::as_slice).chain([plain.as_bytes()]);
            let cells: Vec<Cell<'_>> = texts
                .flat_map(|text| [Cell::Text(text), Cell::Blob(text)])
                .chain([Cell::Real(real), Cell::Integer(integer), Cell::Null, Cell::Boolean(true)])
                .collect();
            let answer = rows(2, &[&cells, &cells]);
            let read: Vec<Vec<Value>> = serde_json::from_str(&serde_json::to_string(&answer.rows).unwrap()).unwrap();
            prop_assert_eq!(read.len(), 2);
            prop_assert_eq!(&read[0], &read[1]);
            prop_assert_eq!(read[0].len(), cells.len());
            for (value, cell) in read[0].iter().zip(cells) {
                let expected = match cell {
                    Cell::Text(bytes) => match std::str::from_utf8(bytes) {
                        Ok(text) => json!(text),
                        Err(_) => json!({ "text_base64": base64::encode(bytes) }),
                    },
                    Cell::Blob(bytes) => json!({ "base64": base64::encode(bytes) }),
                    Cell::Integer(integer) if integer.abs() > EXACT_MAX => json!(integer.to_string()),
                    Cell::Integer(integer) => json!(integer),
                    Cell::Real(real) => json!(real),
                    Cell::Boolean(value) => json!(value),
                    _ => Value::Null,
                };
                prop_assert_eq!(value, &expected);
            }
        }

        #[test]
        fn plain_is_ascii_that_json_leaves_as_it_is(text in prop_oneof!["[ !#-\\[\\]-~\u{7f}]{0,40}", "[a-z\"\\\\\u{0}-\u{1f}\u{7f}-\u{ff}]{0,12}", any::<String>()]) {
            let as_it_is = text.is_ascii() && serde_json::to_string(&text).unwrap() == format!("\"{text}\"");
            prop_assert_eq!(is_plain(text.as_bytes()), as_it_is, "{:?}", text);
        }
    }
}
