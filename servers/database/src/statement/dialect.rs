//! SQLite's dialect, with what the parser's own lacks.

mod plain;

use std::any::TypeId;

use sqlparser::ast::{BinaryOperator, Expr, Statement};
use sqlparser::dialect::{Dialect, Precedence, SQLiteDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

pub(super) use plain::Plain;

/// The parser's SQLite, and `<<`, `>>`, `x ISNULL`, `x NOT GLOB y` and `x IS y` for any `y`.
///
/// It only decides what can be judged; the engine gets the text.
#[derive(Debug)]
pub(super) struct Sqlite(pub(super) SQLiteDialect);

impl Dialect for Sqlite {
    fn dialect(&self) -> TypeId {
        self.0.dialect()
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        self.0.is_delimited_identifier_start(character)
    }

    fn is_identifier_start(&self, character: char) -> bool {
        self.0.is_identifier_start(character)
    }

    fn is_identifier_part(&self, character: char) -> bool {
        self.0.is_identifier_part(character)
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_in_empty_list(&self) -> bool {
        true
    }

    fn supports_limit_comma(&self) -> bool {
        true
    }

    fn supports_dollar_placeholder(&self) -> bool {
        true
    }

    fn supports_notnull_operator(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn parse_statement(&self, parser: &mut Parser) -> Option<Result<Statement, ParserError>> {
        self.0.parse_statement(parser)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::Word(word) if is_isnull(&word.value, word.quote_style) => Some(Ok(self.prec_value(Precedence::Is))),
            Token::Word(word) if word.keyword == Keyword::NOT && is_matching(&parser.peek_nth_token_ref(1).token) => {
                Some(Ok(self.prec_value(Precedence::Like)))
            }
            _ => None,
        }
    }

    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::Word(word) if is_isnull(&word.value, word.quote_style) => {
                parser.advance_token();
                Some(Ok(Expr::IsNull(Box::new(expr.clone()))))
            }
            Token::Word(word) if word.keyword == Keyword::NOT && is_matching(&parser.peek_nth_token_ref(1).token) => {
                parser.advance_token();
                parser.advance_token();
                let right = match parser.parse_subexpr(precedence) {
                    Ok(right) => Box::new(right),
                    Err(error) => return Some(Err(error)),
                };
                Some(Ok(Expr::BinaryOp { left: Box::new(expr.clone()), op: BinaryOperator::NotEq, right }))
            }
            Token::Word(word) if word.keyword == Keyword::IS => {
                let ahead = |count| match parser.peek_nth_token_ref(count).token {
                    Token::Word(ref word) => word.keyword,
                    _ => Keyword::NoKeyword,
                };
                let words = if ahead(1) == Keyword::NOT { 2 } else { 1 };
                // The parser knows these.
                if matches!(ahead(words), Keyword::NULL | Keyword::TRUE | Keyword::FALSE | Keyword::DISTINCT) {
                    return None;
                }
                (0..words).for_each(|_| parser.advance_token());
                let right = match parser.parse_subexpr(precedence) {
                    Ok(right) => Box::new(right),
                    Err(error) => return Some(Err(error)),
                };
                Some(Ok(Expr::BinaryOp { left: Box::new(expr.clone()), op: BinaryOperator::Eq, right }))
            }
            _ => self.0.parse_infix(parser, expr, precedence),
        }
    }
}

/// Whether it is one of the operators that SQLite has beside LIKE.
fn is_matching(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            word.quote_style.is_none()
                && ["glob", "match", "regexp"].iter().any(|known| word.value.eq_ignore_ascii_case(known))
        }
        _ => false,
    }
}

fn is_isnull(word: &str, quote: Option<char>) -> bool {
    quote.is_none() && word.eq_ignore_ascii_case("isnull")
}
