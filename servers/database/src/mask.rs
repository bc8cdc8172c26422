//! Columns whose values agents may not see, and tables that they may not read.
//!
//! Where a statement names a table with a masked column, the engine gets a subquery instead that has a constant for
//! every value of that column ([`MASKED`]) and NULL for NULL. So nothing that is done with the column, by whatever name and
//! on whatever way, has its values to work on: that is what holds. What would only give a wrong answer then is
//! refused before ([`Masked::permit`]): a masked column may be counted and asked whether it is NULL, shown by the `*` of the
//! outermost SELECT, and nothing else.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, ensure};
use tollgate_shared::refusal::Refusal;

use crate::statement::mentions::{Factor, Mention, Mentions};
use crate::statement::{ReadStatement, Syntax};

/// What is shown for every value of a masked column.
pub const MASKED: &str = "***";

/// How many patterns a connection has at most.
const PATTERNS_MAX: usize = 1000;

/// Names with `*` for any part of one: `users.email`, `*.ssn`, `hr.people.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    fn parse(text: &str, parts: std::ops::RangeInclusive<usize>) -> anyhow::Result<Self> {
        let pattern: Vec<String> = text.split('.').map(str::to_lowercase).collect();
        ensure!(
            parts.contains(&pattern.len()) && pattern.iter().all(|part| !part.is_empty() && !part.contains('\0')),
            "{text:?} has not the form of {}",
            if *parts.start() == 1 { "`table` or `schema.table`" } else { "`table.column` or `schema.table.column`" }
        );
        Ok(Self(pattern))
    }

    /// Whether it covers these names; a pattern without a schema covers every schema.
    fn covers(&self, names: &[&str]) -> bool {
        let skipped = names.len().saturating_sub(self.0.len());
        let names = names.get(skipped..).unwrap_or_default();
        names.len() == self.0.len()
            && self.0.iter().zip(names).all(|(pattern, name)| glob(pattern, &name.to_lowercase()))
    }
}

/// Whether `name` is `pattern`, in which `*` stands for anything.
fn glob(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut rest = rest;
    while let Some((middle, after)) = rest.split_once('*') {
        let Some(at) = name.find(middle) else { return false };
        name = &name[at + middle.len()..];
        rest = after;
    }
    name.ends_with(rest)
}

/// What of a database agents may not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    columns: Vec<Pattern>,
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
}

impl Protection {
    /// Reads the patterns of a connection.
    ///
    /// # Errors
    ///
    /// Names the pattern that has no form that is known.
    pub fn new(columns: &[String], allow: &[String], deny: &[String]) -> anyhow::Result<Self> {
        let all = columns.len() + allow.len() + deny.len();
        ensure!(all <= PATTERNS_MAX, "there are more than {PATTERNS_MAX} patterns");
        let tables = |patterns: &[String], key: &'static str| -> anyhow::Result<Vec<Pattern>> {
            patterns.iter().map(|text| Pattern::parse(text, 1..=2).context(key)).collect()
        };
        Ok(Self {
            columns: columns.iter().map(|text| Pattern::parse(text, 2..=3)).collect::<anyhow::Result<_>>()?,
            allow: tables(allow, "`tables.allow`")?,
            deny: tables(deny, "`tables.deny`")?,
        })
    }

    /// Whether no column is masked.
    #[must_use]
    pub fn masks_nothing(&self) -> bool {
        self.columns.is_empty()
    }

    /// Whether no table is kept from being read behind others.
    #[must_use]
    pub fn denies_nothing(&self) -> bool {
        self.deny.is_empty()
    }

    /// Whether every table may be read.
    #[must_use]
    pub fn allows_all(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Whether the values of this column may not be seen.
    #[must_use]
    pub fn masks(&self, schema: &str, table: &str, column: &str) -> bool {
        self.columns.iter().any(|pattern| pattern.covers(&[schema, table, column]))
    }

    /// Whether a statement may name this table.
    #[must_use]
    pub fn allows(&self, schema: &str, table: &str) -> bool {
        !self.denies(schema, table)
            && (self.allow.is_empty() || self.allow.iter().any(|pattern| pattern.covers(&[schema, table])))
    }

    /// Whether nothing may read this table, views neither.
    #[must_use]
    pub fn denies(&self, schema: &str, table: &str) -> bool {
        self.deny.iter().any(|pattern| pattern.covers(&[schema, table]))
    }

    /// Makes sure that a table which a statement names may be read.
    ///
    /// # Errors
    ///
    /// `table_not_allowed`.
    pub fn permit_table(&self, schema: &str, table: &str) -> Result<(), Refusal> {
        if self.allows(schema, table) { Ok(()) } else { Err(not_allowed(table)) }
    }

    /// Makes sure that a table that lies behind what a statement names may be read.
    ///
    /// # Errors
    ///
    /// `table_not_allowed`.
    pub fn permit_behind(&self, schema: &str, table: &str) -> Result<(), Refusal> {
        if self.denies(schema, table) { Err(not_allowed(table)) } else { Ok(()) }
    }

    /// Makes sure that a table of the engine's own, which names every other, may be read.
    ///
    /// # Errors
    ///
    /// `table_not_allowed` where tables are hidden and this one is not named by the operator.
    pub fn permit_catalogue(&self, schema: &str, table: &str) -> Result<(), Refusal> {
        let named = self
            .allow
            .iter()
            .any(|pattern| !pattern.0.iter().all(|part| part == "*") && pattern.covers(&[schema, table]));
        if self.allows_all() || (named && !self.denies(schema, table)) { Ok(()) } else { Err(not_allowed(table)) }
    }
}

fn not_allowed(table: &str) -> Refusal {
    let table: String = table.chars().take(100).collect();
    Refusal::refused(
        "table_not_allowed",
        format!("the operator does not let agents read `{table}`"),
        "use list_tables for the tables that there are, and describe_table for their columns",
    )
}

/// A table with masked columns, as the catalogue has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    /// The schema that it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// All of its columns in order, and whether each is masked.
    pub columns: Vec<(String, bool)>,
}

/// The tables of a statement that have masked columns, each by what the statement calls it.
pub type MaskedTables = BTreeMap<(Option<String>, String), Masked>;

impl Masked {
    fn masks(&self, column: &str) -> bool {
        self.columns.iter().any(|(name, masked)| *masked && name.to_lowercase() == column.to_lowercase())
    }

    /// Returns the subquery that stands for the table.
    fn subquery(&self, syntax: Syntax) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|(name, masked)| {
                let name = quoted(name, syntax);
                if *masked {
                    let constant = if syntax == Syntax::Postgres { "'***'::pg_catalog.text" } else { "'***'" };
                    format!("CASE WHEN {name} IS NULL THEN NULL ELSE {constant} END AS {name}")
                } else {
                    name
                }
            })
            .collect();
        let table = quoted(&self.name, syntax);
        format!("(SELECT {} FROM {}.{table})", columns.join(", "), quoted(&self.schema, syntax))
    }
}

/// Returns a name as an engine reads it whatever is in it.
#[must_use]
pub fn quoted(name: &str, syntax: Syntax) -> String {
    match syntax {
        Syntax::Mysql => format!("`{}`", name.replace('`', "``")),
        Syntax::Sqlite | Syntax::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// Returns what the engine gets for `statement`.
///
/// # Errors
///
/// `masked_column` for what a masked column may not be used for, and for what cannot be traced.
pub fn masked(statement: &ReadStatement, tables: &MaskedTables, syntax: Syntax) -> Result<ReadStatement, Refusal> {
    if tables.is_empty() {
        return Ok(statement.clone());
    }
    let mentions = statement.mentions();
    permit(mentions, tables, syntax)?;
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for factor in &mentions.factors {
        let Some(table) = found(tables, factor) else { continue };
        let alias = match &factor.alias {
            Some(_) => String::new(),
            None => format!(" AS {}", quoted(&factor.name, syntax)),
        };
        edits.push((factor.place.clone(), format!("{}{alias}", table.subquery(syntax))));
    }
    // `schema.table.column` names nothing any more where the table is a subquery.
    for mention in &mentions.columns {
        let [.., schema, name] = mention.qualifiers.as_slice() else { continue };
        let is_masked = tables.iter().any(|((_, called), table)| same(called, name) && same(&table.schema, schema));
        if let (true, Some(place)) = (is_masked, &mention.place) {
            edits.push((place.start..mention.short_from, String::new()));
        }
    }
    edits.sort_by_key(|(place, _)| place.start);
    statement.edited(&edits).ok_or_else(|| untraceable("it cannot be told where the statement names its tables"))
}

/// Decides whether masked columns are only counted.
///
/// # Errors
///
/// `masked_column`.
pub fn permit(mentions: &Mentions, tables: &MaskedTables, syntax: Syntax) -> Result<(), Refusal> {
    if mentions.lost || mentions.relations != mentions.factors.len() {
        return Err(untraceable("it cannot be told where the statement names its tables"));
    }
    for (schema, name) in tables.keys() {
        if schema.is_none() && mentions.common.contains(&name.to_lowercase()) {
            return Err(untraceable(&format!(
                "`{}` is both a table with masked columns and a common table expression",
                shown(name)
            )));
        }
    }
    let factors: Vec<(&Factor, &Masked)> =
        mentions.factors.iter().filter_map(|factor| Some((factor, found(tables, factor)?))).collect();
    if factors.is_empty() {
        return Ok(());
    }
    if mentions.natural {
        return Err(untraceable("a NATURAL JOIN would join by masked columns"));
    }
    if let Some((factor, _)) = factors.iter().find(|(factor, _)| factor.renames) {
        return Err(untraceable(&format!("the columns of `{}` get other names", shown(&factor.name))));
    }
    for mention in &mentions.columns {
        permit_mention(mention, &factors, syntax)?;
    }
    for star in &mentions.stars {
        let covered = factors.iter().any(|(factor, _)| star.of.as_ref().is_none_or(|of| calls(factor, of)));
        if covered && (!star.outermost || mentions.sorts_by_number) {
            return Err(untraceable("a `*` inside the statement takes masked columns along"));
        }
    }
    Ok(())
}

fn permit_mention(mention: &Mention, factors: &[(&Factor, &Masked)], syntax: Syntax) -> Result<(), Refusal> {
    let column = &mention.name;
    if mention.counted && factors.iter().any(|(_, table)| table.masks(column)) {
        return Ok(());
    }
    let refused = match mention.qualifiers.last() {
        Some(qualifier) => factors.iter().any(|(factor, table)| calls(factor, qualifier) && table.masks(column)),
        None => factors.iter().any(|(_, table)| table.masks(column)),
    };
    if refused {
        return Err(Refusal::refused(
            "masked_column",
            format!("`{}` is masked: it may be counted, and asked whether it is NULL, and nothing else", shown(column)),
            "leave it out; if it is another table's column of the same name, write `table.column`",
        ));
    }
    let whole_row = syntax == Syntax::Postgres
        && !mention.counted
        && factors
            .iter()
            .any(|(factor, table)| calls(factor, column) && !table.columns.iter().any(|(name, _)| same(name, column)));
    if whole_row {
        return Err(untraceable(&format!("`{}` is a whole row with masked columns", shown(column))));
    }
    Ok(())
}

/// Whether the statement calls the columns of `factor` by `name`.
fn calls(factor: &Factor, name: &str) -> bool {
    same(factor.alias.as_ref().unwrap_or(&factor.name), name) || same(&factor.name, name)
}

fn found<'a>(tables: &'a MaskedTables, factor: &Factor) -> Option<&'a Masked> {
    tables.get(&(factor.schema.clone(), factor.name.clone()))
}

fn same(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

/// Refuses what masked columns cannot be followed through.
#[must_use]
pub fn untraceable(reason: &str) -> Refusal {
    Refusal::refused(
        "masked_column",
        reason,
        "name the columns that are needed, each as `table.column` of the table itself; describe_table says which are masked",
    )
}

/// Refuses a view or the like that hands a masked column on.
#[must_use]
pub fn hands_on(view: &str) -> Refusal {
    untraceable(&format!("`{}` reads a masked column", shown(view)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_names() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let protection =
            Protection::new(&list(&["users.email", "*.ssn", "hr.people.*", "pay_*.*_iban*"]), &[], &[]).unwrap();
        for (schema, table, column) in [
            ("public", "users", "email"),
            ("x", "USERS", "Email"),
            ("a", "b", "ssn"),
            ("hr", "people", "name"),
            ("a", "pay_roll", "own_iban_2"),
        ] {
            assert!(protection.masks(schema, table, column), "{schema}.{table}.{column}");
        }
        for (schema, table, column) in
            [("public", "user", "email"), ("x", "people", "name"), ("a", "b", "ssn2"), ("a", "payroll", "x_iban")]
        {
            assert!(!protection.masks(schema, table, column), "{schema}.{table}.{column}");
        }
        for wrong in ["email", "", "a.", "a.b.c.d", ".b"] {
            assert!(Protection::new(&list(&[wrong]), &[], &[]).is_err(), "{wrong}");
        }
        let tables = Protection::new(&[], &list(&["shop.*", "book"]), &list(&["*.secret*"])).unwrap();
        assert!(tables.allows("shop", "orders") && tables.allows("other", "book"));
        assert!(!tables.allows("shop", "secrets") && !tables.allows("other", "orders"));
        assert!(tables.denies("other", "secret") && !tables.denies("other", "orders"));
        assert!(tables.permit_catalogue("pg_catalog", "pg_class").is_err());
        assert!(Protection::default().permit_catalogue("pg_catalog", "pg_class").is_ok());
    }
}
