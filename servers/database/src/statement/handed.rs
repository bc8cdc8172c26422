//! Handing the tokens of the lexer to the parser as they are.
//!
//! The parser has a tokenizer of its own, which reads the whole text again, a character at a time, and returns every space too: a third of
//! what judging took. What both cut alike, plain words, numbers, strings and the usual operators, is handed over instead. A statement
//! with anything else goes the long way, and the tree is the same in both cases.

use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Word};

use super::lexer::{Kind, Piece, Tokens};
use super::words::Known;

/// Returns the tokens as the parser has them, without spaces; nothing where one of them is not plain.
pub(super) fn tokens(cut: &Tokens) -> Option<Vec<TokenWithSpan>> {
    // The parser counts characters and lines.
    if cut.pieces.is_empty() || !cut.text.is_ascii() || cut.text.contains('\n') {
        return None;
    }
    let mut quoted = cut.quoted.iter();
    let at = |offset: usize| Location { line: 1, column: offset as u64 + 1 };
    let mut handed = Vec::with_capacity(cut.pieces.len());
    let mut parameter_until = None;
    for Piece { kind, place, known } in &cut.pieces {
        // `?1` is two tokens to MySQL, and one to the parser.
        if *kind == Kind::Number && parameter_until == Some(place.start) {
            return None;
        }
        parameter_until = (*kind == Kind::Parameter).then_some(place.end);
        let token = token(*kind, *known, &cut.text[place.clone()], &mut quoted)?;
        handed.push(TokenWithSpan { token, span: Span::new(at(place.start), at(place.end)) });
    }
    Some(handed)
}

fn token<'a>(
    kind: Kind,
    known: Known,
    text: &str,
    quoted: &mut impl Iterator<Item = &'a (char, String)>,
) -> Option<Token> {
    Some(match kind {
        // Behind a full stop the parser takes it for a part of a number.
        Kind::Word if text.starts_with('_') => return None,
        Kind::Word => Token::Word(Word { value: text.to_owned(), quote_style: None, keyword: known.keyword }),
        Kind::Number => number(text)?,
        Kind::Parameter => Token::Placeholder(text.to_owned()),
        Kind::Quoted => {
            let (quote, content) = quoted.next()?;
            match quote {
                '\'' => Token::SingleQuotedString(content.clone()),
                '"' | '`' | '[' => Token::make_word(content, Some(*quote)),
                _ => return None,
            }
        }
        Kind::Operator => match text {
            "=" => Token::Eq,
            "<>" | "!=" => Token::Neq,
            "<" => Token::Lt,
            "<=" => Token::LtEq,
            ">" => Token::Gt,
            ">=" => Token::GtEq,
            "+" => Token::Plus,
            "-" => Token::Minus,
            "*" => Token::Mul,
            "/" => Token::Div,
            "%" => Token::Mod,
            "||" => Token::StringConcat,
            "::" => Token::DoubleColon,
            _ => return None,
        },
        Kind::Punctuation => match text {
            "(" => Token::LParen,
            ")" => Token::RParen,
            "," => Token::Comma,
            "." => Token::Period,
            "[" => Token::LBracket,
            "]" => Token::RBracket,
            _ => return None,
        },
    })
}

/// Takes digits, with digits after a full stop or none: each tokenizer has its own idea of the rest.
fn number(text: &str) -> Option<Token> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    (digits(whole) && fraction.is_none_or(digits)).then(|| Token::Number(text.to_owned(), false))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sqlparser::dialect::{Dialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
    use sqlparser::tokenizer::Tokenizer;
    use tollgate_tests::corpus::{MYSQL, POSTGRES, SQLITE};

    use super::super::dialect::{Plain, Sqlite};
    use super::super::{Syntax, lexer, pieces};
    use super::*;

    fn theirs(text: &str, syntax: Syntax) -> Vec<TokenWithSpan> {
        let dialect: &dyn Dialect = match syntax {
            Syntax::Sqlite => &Plain(Sqlite(SQLiteDialect {})),
            Syntax::Postgres => &Plain(PostgreSqlDialect {}),
            Syntax::Mysql => &Plain(MySqlDialect {}),
        };
        let mut tokens = Tokenizer::new(dialect, text).tokenize_with_location().expect("what is plain is read");
        tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
        tokens
    }

    /// Whether `sql` was handed over, and then as the parser would have cut it itself.
    fn agrees(sql: &str, syntax: Syntax) -> bool {
        let Ok(cut) = lexer::tokens(sql, syntax) else { return false };
        let Some(handed) = tokens(&cut) else { return false };
        assert_eq!(handed, theirs(&cut.text, syntax), "{sql}");
        // The parser compares no spans, but what is masked is found by them.
        let spans = |tokens: &[TokenWithSpan]| tokens.iter().map(|token| token.span).collect::<Vec<_>>();
        assert_eq!(spans(&handed), spans(&theirs(&cut.text, syntax)), "{sql}");
        true
    }

    #[test]
    fn corpora_are_handed_over_as_the_parser_would_cut_them() {
        for (syntax, corpus) in [(Syntax::Sqlite, &SQLITE), (Syntax::Postgres, &POSTGRES), (Syntax::Mysql, &MYSQL)] {
            let all = corpus.allowed.iter().chain(&corpus.refused);
            let handed = all.clone().filter(|sql| agrees(sql, syntax)).count();
            assert!(handed * 2 > all.count(), "{syntax:?}: {handed}");
        }
    }

    #[test]
    fn what_the_parser_would_cut_otherwise_goes_the_long_way() {
        for sql in [
            "SELECT a._1",
            "SELECT ?1",
            "SELECT 1e5, .5",
            "SELECT 0x10",
            "SELECT 'a\nb'",
            "SELECT 'é'",
            "SELECT a << 1",
        ] {
            let cut = lexer::tokens(sql, Syntax::Mysql).unwrap();
            assert_eq!(tokens(&cut), None, "{sql}");
        }
        assert!(agrees("SELECT t.a, 'it''s' AS `b`, 1.5 FROM t WHERE a >= ? AND b <> 2 || 'x'", Syntax::Mysql));
    }

    proptest! {
        #[test]
        fn anything_is_handed_over_as_the_parser_would_cut_it(
            sql in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(pieces::PIECES).prop_map(str::to_owned),
                    "[a-zA-Z_][a-zA-Z0-9_]{0,4}",
                    "[0-9.]{1,4}",
                    "'[a-z'\\\\\\\\]{0,4}'",
                    "[-+*/%=<>!|:&~(),.$?]{1,2}",
                ],
                0..30,
            ),
            spaces in prop::collection::vec(prop::sample::select(&["", " ", "\t"][..]), 30),
        ) {
            let sql: String = sql.iter().zip(&spaces).flat_map(|(piece, space)| [piece.as_str(), space]).collect();
            for syntax in [Syntax::Sqlite, Syntax::Postgres, Syntax::Mysql] {
                agrees(&sql, syntax);
            }
        }
    }
}
