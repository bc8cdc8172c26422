//! Signs that a statement was put together from values: warnings, never a reason to refuse.
//!
//! An honest statement may have any of these, so they are told and no more, with the form in which the values
//! would be parameters.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::Value as Json;
use sqlparser::ast::{BinaryOperator, Expr, Query, SelectItem, SetExpr, Value, ValueWithSpan, Visit, Visitor};
use sqlparser::tokenizer::Location;

use super::Syntax;
use super::lexer::Tokens;

/// How many warnings a statement has at most.
const WARNINGS_MAX: usize = 5;

/// How many values a parametrised form has at most.
const VALUES_MAX: usize = 50;

/// What in a statement looks as if it came from somewhere else.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Warning {
    /// `tautology`, `sql_in_literal`, `quote_in_comment` or `union_of_constants`.
    pub signal: &'static str,
    /// What was seen.
    pub message: String,
    /// The statement with its values as parameters; left out where it has parameters already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parametrised: Option<String>,
    /// The values for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "params_schema")]
    pub params: Vec<Json>,
}

fn params_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": {} })
}

/// Looks for signs while the tree of a statement is walked over.
#[derive(Default)]
pub(super) struct Signs {
    found: Vec<(&'static str, String)>,
}

/// The literals that something is compared with, which could be parameters.
struct Operands(Vec<ValueWithSpan>);

impl Signs {
    pub(super) fn expression(&mut self, expression: &Expr) {
        if let Expr::BinaryOp { left, op: BinaryOperator::Or, right } = expression {
            for side in [left, right] {
                if always(side) {
                    self.found.push(("tautology", format!("`OR {side}` is always true").chars().take(200).collect()));
                }
            }
        }
    }

    pub(super) fn value(&mut self, value: &ValueWithSpan) {
        if let Value::SingleQuotedString(text) = &value.value
            && looks_like_sql(text)
        {
            self.found.push(("sql_in_literal", "a string literal holds what looks like SQL".to_owned()));
        }
    }

    /// Looks at the rest of `query`, which was parsed from `tokens`, which were cut from `sql`.
    pub(super) fn finish(self, query: &Query, sql: &str, tokens: &Tokens, syntax: Syntax) -> Vec<Warning> {
        let mut found = self.found;
        union_of_constants(&query.body, &mut found);
        if quote_in_last_comment(sql, syntax) {
            found.push((
                "quote_in_comment",
                "the statement ends in a comment with a quote in it, as if the rest of another one was cut off"
                    .to_owned(),
            ));
        }
        let mut seen = std::collections::BTreeSet::new();
        found.retain(|(signal, _)| seen.insert(*signal));
        found.truncate(WARNINGS_MAX);
        if found.is_empty() {
            return Vec::new();
        }
        let mut operands = Operands(Vec::new());
        let _ = query.visit(&mut operands);
        let form = parametrised(&operands.0, tokens, syntax);
        let warning = |(at, (signal, message)): (usize, (&'static str, String))| {
            // Once is enough.
            let (text, params) = if at == 0 { form.clone().unzip() } else { (None, None) };
            Warning { signal, message, parametrised: text, params: params.unwrap_or_default() }
        };
        found.into_iter().enumerate().map(warning).collect()
    }
}

impl Visitor for Operands {
    type Break = ();

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        match expression {
            Expr::BinaryOp { left, right, .. } => {
                self.0.extend([left, right].into_iter().filter_map(|side| literal(side)));
            }
            Expr::Like { expr, pattern, .. } | Expr::ILike { expr, pattern, .. } => {
                self.0.extend([expr, pattern].into_iter().filter_map(|side| literal(side)));
            }
            Expr::InList { list, .. } => self.0.extend(list.iter().filter_map(literal)),
            Expr::Between { low, high, .. } => {
                self.0.extend([low, high].into_iter().filter_map(|side| literal(side)));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn literal(expression: &Expr) -> Option<ValueWithSpan> {
    match expression {
        Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_) | Value::Number(..)) => {
            Some(value.clone())
        }
        _ => None,
    }
}

fn always(expression: &Expr) -> bool {
    match expression {
        Expr::Nested(inner) => always(inner),
        Expr::Value(value) => match &value.value {
            Value::Boolean(value) => *value,
            Value::Number(number, _) => number.parse() == Ok(1_u32),
            _ => false,
        },
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => match (literal(left), literal(right)) {
            (Some(left), Some(right)) => left.value == right.value,
            _ => false,
        },
        _ => false,
    }
}

/// Whether a text has in it what ends one string and begins something else.
fn looks_like_sql(text: &str) -> bool {
    let quote = text.contains('\'');
    if !quote && text.len() < ";drop ".len() {
        return false;
    }
    let text = text.to_ascii_lowercase();
    let any = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    (quote && any(&["--", "/*", " or ", " and ", "union", ";"]))
        || any(&["union select", "union all select", "; drop ", ";drop ", "; delete ", "; insert ", "; update "])
}

fn union_of_constants(body: &SetExpr, found: &mut Vec<(&'static str, String)>) {
    let SetExpr::SetOperation { left, right, .. } = body else { return };
    let is_constant = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::Value(value)) => matches!(value.value, Value::Null | Value::Number(..)),
        _ => false,
    };
    let filtered = |body: &SetExpr| match body {
        SetExpr::Select(select) => select.selection.is_some(),
        SetExpr::SetOperation { .. } => true,
        _ => false,
    };
    if let SetExpr::Select(select) = right.as_ref()
        && filtered(left)
        && select.projection.iter().filter(|item| is_constant(item)).count() >= 2
    {
        let message = "a UNION fills columns with constants, as if it was put behind another statement".to_owned();
        found.push(("union_of_constants", message));
    }
}

/// Whether the text ends in a comment that has a quote in it.
fn quote_in_last_comment(sql: &str, syntax: Syntax) -> bool {
    let has_comment = sql.contains("--") || (syntax == Syntax::Mysql && sql.contains('#'));
    if !has_comment {
        return false;
    }
    let last = sql.trim_end().lines().last().unwrap_or_default();
    let starts: &[&str] = if syntax == Syntax::Mysql { &["-- ", "#"] } else { &["--"] };
    starts.iter().filter_map(|start| last.rfind(start)).any(|at| {
        // Not inside of a string: as many quotes before it as close each other.
        last[..at].matches('\'').count().is_multiple_of(2) && last[at..].contains('\'')
    })
}

/// Returns the statement with the operands of its comparisons as parameters, and their values.
fn parametrised(operands: &[ValueWithSpan], tokens: &Tokens, syntax: Syntax) -> Option<(String, Vec<Json>)> {
    if !tokens.parameters.is_empty() || operands.is_empty() || operands.len() > VALUES_MAX {
        return None;
    }
    let mut places: BTreeMap<usize, (Range<usize>, Json)> = BTreeMap::new();
    for operand in operands {
        let start = byte_at(&tokens.text, operand.span.start)?;
        let end = byte_at(&tokens.text, operand.span.end)?;
        let value = match &operand.value {
            Value::SingleQuotedString(text) => Json::String(text.clone()),
            Value::Number(number, _) => serde_json::from_str(&number.to_string()).ok()?,
            _ => return None,
        };
        places.insert(start, (start..end, value));
    }
    let (mut text, mut params, mut at) = (String::new(), Vec::new(), 0);
    for (place, value) in places.into_values() {
        text.push_str(tokens.text.get(at..place.start)?);
        params.push(value);
        match syntax {
            Syntax::Postgres => text.push_str(&format!("${}", params.len())),
            Syntax::Sqlite | Syntax::Mysql => text.push('?'),
        }
        at = place.end;
    }
    text.push_str(tokens.text.get(at..)?);
    Some((text, params))
}

fn byte_at(text: &str, location: Location) -> Option<usize> {
    let line = usize::try_from(location.line.checked_sub(1)?).ok()?;
    let column = usize::try_from(location.column.checked_sub(1)?).ok()?;
    let start = match line {
        0 => 0,
        line => text.match_indices('\n').nth(line - 1)?.0 + 1,
    };
    let rest = text.get(start..)?;
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).nth(column).map(|at| start + at)
}

#[cfg(test)]
mod tests {
    use crate::statement::{ReadStatement, Rules, Syntax};

    fn signals(sql: &str) -> Vec<&'static str> {
        let statement = ReadStatement::check(sql, &Rules::of(Syntax::Sqlite)).unwrap();
        statement.warnings().iter().map(|warning| warning.signal).collect()
    }

    #[test]
    fn what_looks_assembled_is_told() {
        assert_eq!(signals("SELECT * FROM t WHERE a = 'x' OR 1=1"), ["tautology"]);
        assert_eq!(signals("SELECT * FROM t WHERE a = 'x' OR ('a' = 'a')"), ["tautology"]);
        assert_eq!(signals("SELECT * FROM t WHERE a = 'x' -- ' AND b = ''"), ["quote_in_comment"]);
        assert_eq!(signals("SELECT * FROM t WHERE a = 'x'' or ''a''=''a'"), ["sql_in_literal"]);
        assert_eq!(signals("SELECT a, b FROM t WHERE a = '' UNION SELECT NULL, NULL"), ["union_of_constants"]);
    }

    #[test]
    fn honest_statements_have_no_warnings() {
        for sql in [
            "SELECT * FROM t WHERE a = 1 OR b = 2 -- both kinds",
            "SELECT 'it''s', 'a -- b' FROM t WHERE title = 'drop table'",
            "SELECT a FROM t UNION ALL SELECT b FROM u WHERE b > 1",
        ] {
            assert!(signals(sql).is_empty(), "{sql}");
        }
    }

    #[test]
    fn parametrised_form_has_the_values_apart() {
        let sql = "SELECT *\nFROM t WHERE a = 'é' AND b IN (1, 2) OR 1 = 1";
        let statement = ReadStatement::check(sql, &Rules::of(Syntax::Sqlite)).unwrap();
        let warning = &statement.warnings()[0];
        assert_eq!(warning.parametrised.as_deref(), Some("SELECT * FROM t WHERE a = ? AND b IN (?, ?) OR ? = ?"));
        assert_eq!(serde_json::json!(warning.params), serde_json::json!(["é", 1, 2, 1, 1]));
    }
}
