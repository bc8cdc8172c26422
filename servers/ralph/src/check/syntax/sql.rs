//! SQL, by sqlparser: a file passes when one of the common dialects takes it.

use sqlparser::dialect::{
    ClickHouseDialect, Dialect, DuckDbDialect, GenericDialect, MsSqlDialect, MySqlDialect, PostgreSqlDialect,
    SQLiteDialect,
};
use sqlparser::parser::{Parser, ParserError};

use super::{CORRECT_IT, Fault, Parsed, byte_of};

pub(super) fn parse(text: &str) -> Parsed {
    // Which dialect a file is in, nothing says; the error of the most general one is reported.
    let dialects: [&dyn Dialect; 7] = [
        &GenericDialect {},
        &PostgreSqlDialect {},
        &MySqlDialect {},
        &SQLiteDialect {},
        &MsSqlDialect {},
        &DuckDbDialect {},
        &ClickHouseDialect {},
    ];
    let mut first = None;
    for dialect in dialects {
        match Parser::parse_sql(dialect, text) {
            Ok(_) => return Parsed::Faults(Vec::new()),
            Err(ParserError::RecursionLimitExceeded) => return Parsed::Unknown("nested too deep".to_owned()),
            Err(ParserError::ParserError(message) | ParserError::TokenizerError(message)) => {
                first.get_or_insert(message);
            }
        }
    }
    let message = first.unwrap_or_default();
    // `… at Line: 3, Column: 7`, counted from 1; the end of the file has no place.
    let place = message.rsplit_once(" at Line: ").and_then(|(_, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((line.trim().parse::<usize>().ok()?, column.trim().parse::<usize>().ok()?))
    });
    let at = place.map_or(text.len(), |(line, column)| byte_of(text, line, column.saturating_sub(1)));
    let message = message.rsplit_once(" at Line: ").map_or(message.as_str(), |(head, _)| head).to_owned();
    Parsed::Faults(vec![Fault { rule: "syntax.unexpected", message, hint: CORRECT_IT, at }])
}
