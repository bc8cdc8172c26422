//! Whether an answer may depend on when its transaction began.
//!
//! PostgreSQL's `now()` is when the transaction began, and so is the `now` of which a text becomes a time. What may come to either needs a transaction that
//! begins with it; what does not may be read in one that was begun a moment before. Whatever is not known counts as the former, which takes a round trip
//! more.

use super::resolve::Resolution;
use crate::parameters::Parameter;
use crate::statement::ReadStatement;

/// Functions of the engine's own that do without the clock, and turn no text into a value of another type.
const TIMELESS: [&str; 47] = [
    "abs",
    "array_agg",
    "array_length",
    "avg",
    "bool_and",
    "bool_or",
    "btrim",
    "cardinality",
    "ceil",
    "ceiling",
    "char_length",
    "coalesce",
    "concat",
    "count",
    "date_part",
    "date_trunc",
    "dense_rank",
    "every",
    "extract",
    "first_value",
    "floor",
    "greatest",
    "lag",
    "last_value",
    "lead",
    "least",
    "left",
    "length",
    "lower",
    "max",
    "min",
    "mod",
    "nullif",
    "position",
    "rank",
    "replace",
    "right",
    "round",
    "row_number",
    "sign",
    "split_part",
    "string_agg",
    "strpos",
    "substring",
    "sum",
    "trim",
    "upper",
];

/// What a text may have in it that becomes a time by the clock. The rules of a zone are those of the day.
const WORDS: [&str; 5] = ["now", "today", "tomorrow", "yesterday", "zone"];

/// How long a text is that is looked through; a longer one counts as having a word.
const LOOKED_AT_BYTES_MAX: usize = 64 * 1024;

/// Returns whether the answer to `statement` is the same whenever its transaction begins; `resolution` is what the catalogue says of its names.
pub(super) fn is_timeless(statement: &ReadStatement, resolution: &Resolution, parameters: &[Parameter]) -> bool {
    resolution.is_plain
        && statement.types().is_empty()
        && statement.functions().iter().all(|function| TIMELESS.contains(&function.as_str()))
        && !may_be_moment(statement.text())
        && !parameters.iter().any(|parameter| matches!(parameter, Parameter::Text(text) if may_be_moment(text)))
}

/// Whether the text of a statement or a value may have one of the words in it that become a time, be it a part of a longer one.
pub(super) fn may_be_moment(text: &str) -> bool {
    if text.len() > LOOKED_AT_BYTES_MAX {
        return true;
    }
    // Without what ranges, rows, arrays and strings leave out of a text: `[n"o"w,)`, `{n\ow}`. A string in several parts, or with characters
    // by their numbers, does not pass the first lock.
    let text: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'"' | b'\\')).collect();
    let begins_word = |at: usize| {
        let begins =
            |word: &&str| text.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes()));
        WORDS.iter().any(begins)
    };
    text.iter().enumerate().any(|(at, byte)| matches!(byte | 0x20, b'n' | b't' | b'y' | b'z') && begins_word(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Rules, Syntax};

    fn timeless(sql: &str, parameters: &[&str]) -> bool {
        let statement = ReadStatement::check(sql, &Rules::of(Syntax::Postgres)).unwrap();
        let parameters: Vec<_> = parameters.iter().map(|text| Parameter::Text((*text).to_owned())).collect();
        is_timeless(&statement, &Resolution { tables: Vec::new(), is_plain: true }, &parameters)
    }

    #[test]
    fn what_may_ask_the_clock_needs_a_transaction_of_its_own() {
        for sql in [
            "SELECT now()",
            "SELECT a FROM t WHERE at > CURRENT_TIMESTAMP",
            "SELECT a FROM t WHERE at > current_date",
            "SELECT a FROM t WHERE at < localtimestamp",
            "SELECT a FROM t WHERE at > pg_catalog.now()",
            "SELECT a, transaction_timestamp() FROM t",
            "SELECT age(at) FROM t",
            "SELECT a FROM t WHERE at > 'now'",
            "SELECT a FROM t WHERE at > 'NoW'",
            "SELECT a FROM t WHERE at IN ('2024-01-01', 'yesterday')",
            "SELECT a FROM t WHERE at > $$today$$",
            "SELECT a FROM t WHERE at > E'no\\w'",
            "SELECT span * '[n\"o\"w,)' FROM t",
            "SELECT greatest(c, '(n\"o\"w)') FROM t",
            "SELECT (word).timestamptz FROM t",
            "SELECT (word).tstzrange FROM t",
            "SELECT f.date FROM unnest(ARRAY['x']) f",
            "SELECT a FROM t WHERE at > DATE '2024-01-01'",
            "SELECT word::timestamptz FROM t",
            "SELECT CAST(word AS date) FROM t",
            "SELECT at AT TIME ZONE 'Europe/Berlin' FROM t",
            "SELECT a FROM t, LATERAL (SELECT CURRENT_TIME AS b) c WHERE a IN (SELECT 1)",
        ] {
            assert!(!timeless(sql, &[]), "{sql}");
        }
        for sql in ["SELECT E'\\x6eow'", "SELECT 'n'\n'ow'", "SELECT U&'\\006eow'", "SELECT U&'!006eow' UESCAPE '!'"] {
            assert!(ReadStatement::check(sql, &Rules::of(Syntax::Postgres)).is_err(), "{sql}");
        }
        for text in ["now", "{2024-01-01,Tomorrow}", "{n\\ow}", "[n\"o\"w,)", "(\"\"\"no\"\"w\"\"\")"] {
            assert!(!timeless("SELECT a FROM t WHERE at > $1", &[text]), "{text}");
        }
    }

    #[test]
    fn what_analysts_ask_most_does_not() {
        for sql in [
            "SELECT * FROM item WHERE id = $1",
            "SELECT country, count(*), sum(total) FROM orders WHERE at >= '2024-01-01' GROUP BY country ORDER BY 2 DESC",
            "SELECT o.id, lower(c.name) FROM orders o JOIN customers c ON c.id = o.customer WHERE c.name LIKE 'A%' LIMIT 3",
            "SELECT extract(year FROM at), row_number() OVER (ORDER BY id) FROM orders WHERE name <> 'it''s'",
            "SELECT name FROM t WHERE name IN ('a', 'b') AND note = ''",
        ] {
            assert!(timeless(sql, &["x", "2024-01-01"]), "{sql}");
        }
    }

    #[test]
    fn lists_are_what_they_are_searched_as() {
        assert!(TIMELESS.is_sorted());
        let long = |length| "x".repeat(length);
        assert!(!may_be_moment(&long(LOOKED_AT_BYTES_MAX)) && may_be_moment(&long(LOOKED_AT_BYTES_MAX + 1)));
        assert!(
            WORDS.iter().all(|word| may_be_moment(&format!("'{}'", word.to_uppercase())) && !may_be_moment(&word[1..]))
        );
    }
}
