//! What an engine answers, as JSON without loss and within bounds.

mod table;

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

pub(crate) use table::EXACT_MAX;
pub use table::{Cell, Encoding, Table};
use table::{Traits, Written};

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
        let (found, all) = written.add(cell, self.column > 0, *value_bytes_max);
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
        Self { rows, written: Written::new(), rows_max, value_bytes_max, cut_before: None, traits: Vec::new() }
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
        let (bytes_before, cuts_before) = (self.written.length(), self.rows.cut_values.len());
        self.traits.clear();
        self.written.begin_row();
        let filled = fill(&mut RowBuilder { builder: self, column: 0 });
        self.written.end_row();
        let is_too_much = self.written.length() > ROWS_BYTES_MAX && self.rows.row_count > 0;
        if filled.is_err() || is_too_much {
            self.written.take_back(bytes_before);
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
        self.rows.bytes = self.written.length();
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

/// Any value at all: what a schema of a nested type would only say less well.
fn rows_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "array", "items": {} } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::base64;

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
    }
}
