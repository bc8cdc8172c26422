//! What a word is: to the parser, and to the lexer before it. Looked up once for each word, in one table.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::FixedState;
use sqlparser::keywords::{ALL_KEYWORDS, ALL_KEYWORDS_INDEX, Keyword};
use sqlparser::tokenizer::Token;

use super::Syntax;

/// What is known of a word, whatever the case of its letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What the parser has it for.
    pub(super) keyword: Keyword,
    roles: u16,
}

/// SQLite's words that stand between two operands, before a parenthesis.
const INFIX: u16 = 1;
/// SQLite's other words that stand before a parenthesis, or never end an operand.
const LEADING: u16 = 1 << 1;
/// Words of PostgreSQL and MySQL that stand before a parenthesis, or never end an operand.
const OF_OTHERS: u16 = 1 << 2;
/// What makes the tree deeper.
const OPERATOR: u16 = 1 << 3;
/// PostgreSQL's words that stand before a string: syntax, and types of its own.
const BEFORE_STRING: u16 = 1 << 4;
/// The word that may stand between an operand and an infix word.
const NOT: u16 = 1 << 5;
/// What the parser tries in several ways, one inside of the other: as deep as it counts itself, but with much stack for each.
const TRIED: u16 = 1 << 6;
/// What puts two queries together, beyond the commas that are in them.
const SET: u16 = 1 << 7;
/// What has the parser copy all that stands before it, in SQLite's and MySQL's syntax.
const COPIES: u16 = 1 << 8;

impl Known {
    /// Of what is no word, and of a word that nobody knows.
    pub(super) const NOTHING: Self = Self { keyword: Keyword::NoKeyword, roles: 0 };

    /// Returns what is known of `word`.
    pub(super) fn of(word: &str) -> Self {
        match key(word) {
            Some(key) => TABLE.get(&key).copied().unwrap_or(Self::NOTHING),
            // So long are a few keywords of other engines.
            None => match Token::make_word(word, None) {
                Token::Word(word) => Self { keyword: word.keyword, roles: 0 },
                _ => Self::NOTHING,
            },
        }
    }

    fn is(self, role: u16) -> bool {
        self.roles & role != 0
    }

    /// Whether it is NOT.
    pub(super) fn is_not(self) -> bool {
        self.is(NOT)
    }

    /// Whether it makes the tree deeper.
    pub(super) fn is_operator(self) -> bool {
        self.is(OPERATOR)
    }

    /// Whether it takes much stack.
    pub(super) fn is_tried(self) -> bool {
        self.is(TRIED)
    }

    /// Whether it puts two queries together.
    pub(super) fn is_set_operator(self) -> bool {
        self.is(SET)
    }

    /// Whether all that stands before it is copied.
    pub(super) fn is_copying(self) -> bool {
        self.is(COPIES)
    }

    /// Whether it can be the end of an operand.
    pub(super) fn ends_operand(self) -> bool {
        !self.is(INFIX | LEADING)
    }

    /// Whether PostgreSQL has it before a string.
    pub(super) fn may_precede_string(self) -> bool {
        self.is(BEFORE_STRING)
    }

    /// Whether it is a word that stands before a parenthesis.
    pub(super) fn may_precede_parenthesis(self, syntax: Syntax, after_operand: bool) -> bool {
        self.is(LEADING) || (self.is(INFIX) && after_operand) || (self.is(OF_OTHERS) && syntax != Syntax::Sqlite)
    }
}

/// How many letters of a word are in one number, below a one that marks where they begin.
const LETTERS_MAX: usize = 15;

/// Returns a word in upper case as two numbers, which are quicker to compare and to hash than a text; nothing for one that is
/// longer.
fn key(word: &str) -> Option<(u128, u128)> {
    let upper = |bytes: &[u8]| bytes.iter().fold(1, |key, byte| (key << 8) | u128::from(byte.to_ascii_uppercase()));
    let (first, rest) = word.as_bytes().split_at(word.len().min(LETTERS_MAX));
    (rest.len() <= LETTERS_MAX).then(|| (upper(first), upper(rest)))
}

/// The words of each role.
const WORDS: [(u16, &str); 9] = [
    (INFIX, "and between collate escape glob in is isnull like match notnull or regexp"),
    (
        LEADING,
        "all as by case cast distinct else except exists filter from having intersect join limit materialized not offset on over \
         range rows select then union using values when where with",
    ),
    (
        OF_OTHERS,
        "any array cube div extract group ilike interval lateral ordinality regexp rlike rollup row rows sets similar some to \
         variadic within xor",
    ),
    (
        OPERATOR,
        "and at between case collate div escape glob ilike in is isnull join like match member not notnull operator or overlaps \
         regexp rlike select similar xor",
    ),
    (NOT, "not"),
    (TRIED, "binary interval"),
    (SET, "except intersect minus union"),
    (COPIES, "div glob is isnull match regexp"),
    (
        BEFORE_STRING,
        "all and any asymmetric between bigint bit bool boolean both box by bytea case char cidr circle date daterange decimal \
         distinct else escape extract float for from having ilike in inet int int4range int8range integer interval is json jsonb \
         leading like limit lseg macaddr macaddr8 money not numeric nummultirange numrange offset on or placing point polygon \
         precision real select smallint symmetric text then time timestamp timestamptz timetz to trailing tsquery tsrange tstzrange \
         tsvector uuid varchar when where xml zone",
    ),
];

/// The parser's keywords and the words with a role, each by its [`key`].
static TABLE: LazyLock<HashMap<(u128, u128), Known, FixedState>> = LazyLock::new(|| {
    let mut table: HashMap<(u128, u128), Known, FixedState> = HashMap::default();
    for (keyword, index) in ALL_KEYWORDS.iter().zip(ALL_KEYWORDS_INDEX) {
        table.extend(key(keyword).map(|key| (key, Known { keyword: *index, roles: 0 })));
    }
    for (role, words) in WORDS {
        for key in words.split_ascii_whitespace().filter_map(key) {
            table.entry(key).or_insert(Known::NOTHING).roles |= role;
        }
    }
    table
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_the_parser_s() {
        for known in ALL_KEYWORDS {
            for word in [known.to_string(), known.to_ascii_lowercase(), format!("{known}X"), known[1..].to_owned()] {
                let Token::Word(theirs) = Token::make_word(&word, None) else { panic!("{word}") };
                assert_eq!(Known::of(&word).keyword, theirs.keyword, "{word}");
            }
        }
    }

    #[test]
    fn every_word_has_its_roles_whatever_its_case() {
        for (role, words) in WORDS {
            for word in words.split_ascii_whitespace() {
                for written in
                    [word.to_owned(), word.to_ascii_uppercase(), format!("{}{}", &word[..1].to_uppercase(), &word[1..])]
                {
                    assert!(Known::of(&written).is(role), "{written}");
                }
                assert!(!Known::of(&format!("{word}_")).is(role), "{word}");
            }
        }
        assert!(Known::of("Not").is_not() && !Known::of("note").is_not());
        // A dotless i is no letter of a keyword, and no word is too long to be looked up.
        for word in ["l\u{131}ke", "", "\0and", "and\0", &"a".repeat(LETTERS_MAX * 2), &"and".repeat(1_000)] {
            assert_eq!(Known::of(word), Known::NOTHING);
        }
    }
}
