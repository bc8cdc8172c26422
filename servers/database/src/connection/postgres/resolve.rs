//! What a statement reads and calls, as PostgreSQL's catalogue has it.
//!
//! A view, a policy, an operator, a cast or `t.f` calls functions that the statement's text does not show. So every
//! name is looked up, views are taken apart as far as they go, and a function passes only when it is one of the
//! engine's own that only compute, one of an extension that only computes, or one that the operator allows and that
//! PostgreSQL itself takes for stable.

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use tollgate_shared::refusal::Refusal;

use crate::connection::fresh::Fresh;
use crate::mask::Protection;
use crate::statement::{ReadStatement, Rules, Syntax, functions};

const RESOLVE: &str = include_str!("resolve.sql");

/// Extensions whose functions in C only compute.
const EXTENSIONS: &[&str] = &[
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "postgis",
    "seg",
    "unaccent",
    "uuid-ossp",
    "vector",
];

/// Operators that syntax stands for: LIKE, IN, BETWEEN, CASE, ORDER BY, DISTINCT, USING.
const IMPLIED: [&str; 9] = ["=", "<", ">", "<=", ">=", "<>", "~~", "~~*", "!~~"];

/// Those that rarer syntax stands for, by the word that is in it.
const IMPLIED_BY: [(&str, &[&str]); 2] = [("ilike", &["!~~*"]), ("similar", &["~", "!~"])];

/// What a statement reads.
#[derive(Debug)]
pub(super) struct Resolution {
    /// The tables and views, those behind views too.
    pub(super) tables: Vec<String>,
    /// Whether it reads tables and nothing behind them: no views and policies, no function that somebody made which is not immutable.
    pub(super) is_plain: bool,
}

pub(super) enum Failed {
    Refused(Refusal),
    Engine(sqlx::Error),
}

/// The names in a statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Names {
    tables: Vec<String>,
    functions: Vec<String>,
    schemas: Vec<String>,
    attributes: Vec<String>,
    fields: Vec<String>,
    operators: Vec<String>,
    types: Vec<String>,
    has_parameters: bool,
}

/// The answers of the catalogue that are still fresh.
#[derive(Debug, Default)]
pub(super) struct Known(Fresh<Names, Resolution>);

impl Known {
    /// Returns what `statement` names, if that is known.
    pub(super) fn get(&self, statement: &ReadStatement) -> Option<Arc<Resolution>> {
        self.0.get(&Names::of(statement))
    }

    /// Resolves everything that `statement` names.
    pub(super) async fn resolve(
        &self,
        connection: &mut PgConnection,
        statement: &ReadStatement,
        rules: &Rules,
        protection: &Protection,
    ) -> Result<Arc<Resolution>, Failed> {
        let names = Names::of(statement);
        if let Some(known) = self.0.get(&names) {
            return Ok(known);
        }
        let found = ask(connection, &names, rules).await.map_err(Failed::Engine)?;
        Ok(self.0.keep(names, judge(found, protection).map_err(Failed::Refused)?))
    }
}

impl Names {
    fn of(statement: &ReadStatement) -> Self {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let mut functions = Vec::new();
        let mut schemas = BTreeSet::new();
        for function in statement.functions() {
            match function.split_once('.') {
                Some((schema, name)) => {
                    schemas.insert(schema.to_owned());
                    functions.push(name.to_owned());
                }
                None => functions.push(function.clone()),
            }
        }
        let table = |(schema, name): &(Option<String>, String)| match schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(name)),
            None => quoted(name),
        };
        let text = statement.text().to_ascii_lowercase();
        let rarer = IMPLIED_BY.iter().filter(|(word, _)| text.contains(word)).flat_map(|(_, operators)| *operators);
        let implied = IMPLIED.iter().chain(rarer).map(|operator| (*operator).to_owned());
        let operators: BTreeSet<String> = statement.operators().iter().cloned().chain(implied).collect();
        // `d('x')` and `t.d` are casts where `d` is a type.
        let called = statement.functions().iter().map(|function| match function.split_once('.') {
            Some((schema, name)) => format!("{}.{}", quoted(schema), quoted(name)),
            None => quoted(function),
        });
        let attributes = statement.attributes().iter().map(|attribute| quoted(attribute));
        let types: BTreeSet<String> = statement.types().iter().cloned().chain(called).chain(attributes).collect();
        Self {
            tables: statement.relations().iter().map(table).collect(),
            functions,
            schemas: schemas.into_iter().collect(),
            attributes: statement.attributes().iter().cloned().collect(),
            fields: statement.fields().iter().cloned().collect(),
            operators: operators.into_iter().collect(),
            types: types.into_iter().collect(),
            has_parameters: statement.parameters() > 0,
        }
    }
}

type Found = (String, String, Option<String>, Option<String>);

async fn ask(connection: &mut PgConnection, names: &Names, rules: &Rules) -> Result<Vec<Found>, sqlx::Error> {
    let allowed: Vec<&str> = rules.functions.iter().map(String::as_str).collect();
    sqlx::query_as(RESOLVE)
        .bind(&names.tables)
        .bind(&names.functions)
        .bind(&names.attributes)
        .bind(&names.operators)
        .bind(&names.types)
        .bind(functions::of_postgres())
        .bind(allowed)
        .bind(&names.schemas)
        .bind(EXTENSIONS)
        .bind(&names.fields)
        .bind(names.has_parameters)
        .fetch_all(connection)
        .await
}

fn judge(found: Vec<Found>, protection: &Protection) -> Result<Resolution, Refusal> {
    let mut tables = BTreeSet::new();
    let mut is_plain = true;
    for (what, name, schema, kind) in found {
        is_plain &= what == "parent" || matches!(kind.as_deref(), Some("r" | "p" | "m" | "t"));
        match (what.as_str(), kind.as_deref()) {
            ("made", _) => {}
            // What is kept from agents is not read by its parts.
            ("parent", _) => protection.permit_behind(schema.as_deref().unwrap_or_default(), &name)?,
            ("relation" | "named", Some("r" | "p" | "v" | "m" | "t")) => {
                let of = schema.as_deref().unwrap_or_default();
                match (what.as_str(), of) {
                    ("named", "pg_catalog" | "information_schema") => protection.permit_catalogue(of, &name)?,
                    (_, "pg_toast") => {}
                    // What the engine's own views read is not looked up: a view or a policy that somebody made names it.
                    (_, "pg_catalog" | "information_schema") => {
                        if !functions::is_table(Syntax::Postgres, Some(of), &name) {
                            return Err(Refusal::refused(
                                "table_not_allowed",
                                format!(
                                    "`{name}` lies behind it, which tells of accounts, sessions or other tables' values"
                                ),
                                "read another table",
                            ));
                        }
                    }
                    ("named", _) => protection.permit_table(of, &name)?,
                    _ => protection.permit_behind(of, &name)?,
                }
                tables.insert(match schema.as_deref() {
                    Some("public") | None => name,
                    Some(schema) => format!("{schema}.{name}"),
                });
            }
            ("relation" | "named", Some("f")) => {
                return Err(Refusal::refused(
                    "table_not_allowed",
                    format!("`{name}` is on another server: reading it would open a connection or a file"),
                    "read another table, or have the operator add a connection to that server",
                ));
            }
            ("relation" | "named", _) => {
                return Err(Refusal::refused(
                    "table_not_allowed",
                    format!("`{name}` is no table or view"),
                    "use list_tables for the tables that there are",
                ));
            }
            _ => {
                return Err(Refusal::refused(
                    "function_not_allowed",
                    format!("the function `{name}` would be called, which is not known to do no more than compute"),
                    "do without it, and without views, operators and casts that call it; the operator can allow it if it is stable",
                ));
            }
        }
    }
    Ok(Resolution { tables: tables.into_iter().collect(), is_plain })
}
