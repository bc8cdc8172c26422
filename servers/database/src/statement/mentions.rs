//! Where a statement names tables and columns, for those whose values agents may not see.
//!
//! A plain list, taken from the tree while it is there: what is masked is known only after the catalogue was asked.

use std::collections::{BTreeSet, HashSet};
use std::ops::{ControlFlow, Range};

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, JoinConstraint, JoinOperator, ObjectName,
    OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableFactor, Value, Visit,
    Visitor,
};
use sqlparser::tokenizer::{Location, Span};

use super::Syntax;

/// What a statement names, and where.
#[derive(Clone, Debug, Default)]
pub struct Mentions {
    /// The tables that rows are taken from, common table expressions among them.
    pub factors: Vec<Factor>,
    /// The columns, and in PostgreSQL whole rows.
    pub columns: Vec<Mention>,
    /// Every `*` that stands for columns.
    pub stars: Vec<Star>,
    /// The names of common table expressions, in lower case.
    pub common: BTreeSet<String>,
    /// Every identifier, in lower case.
    pub identifiers: BTreeSet<String>,
    /// Whether a join is over all columns of the same name.
    pub natural: bool,
    /// Whether the outermost rows are sorted by the number of a column.
    pub sorts_by_number: bool,
    /// Whether a place could not be found in the text, so that nothing can be replaced in it.
    pub lost: bool,
    /// How many relations the parser has seen, which must be as many as there are factors.
    pub relations: usize,
}

/// A table that rows are taken from.
#[derive(Clone, Debug)]
pub struct Factor {
    /// Its schema, as the engine looks for it.
    pub schema: Option<String>,
    /// Its name, as the engine looks for it.
    pub name: String,
    /// What its columns are called by in the statement.
    pub alias: Option<String>,
    /// Whether its columns get other names.
    pub renames: bool,
    /// Where its name is in the text.
    pub place: Range<usize>,
}

/// A column, or what looks like one.
#[derive(Clone, Debug)]
pub struct Mention {
    /// What stands before its name.
    pub qualifiers: Vec<String>,
    /// Its name.
    pub name: String,
    /// Whether it is only counted, or asked whether it is NULL.
    pub counted: bool,
    /// Where it is in the text; nowhere for the names of `USING`.
    pub place: Option<Range<usize>>,
    /// Where its last two parts begin.
    pub short_from: usize,
}

/// A `*` that stands for columns.
#[derive(Clone, Debug)]
pub struct Star {
    /// The table that it is limited to.
    pub of: Option<String>,
    /// Whether it is in the outermost SELECT, where its columns are seen by nothing but the caller.
    pub outermost: bool,
}

/// How many columns are named to a caller at most.
const COLUMNS_NAMED_MAX: usize = 200;

impl Mentions {
    /// Returns the columns as the statement names them, each once.
    #[must_use]
    pub fn columns_named(&self) -> Vec<String> {
        let named = |mention: &Mention| {
            mention.qualifiers.iter().chain([&mention.name]).map(String::as_str).collect::<Vec<_>>().join(".")
        };
        let star = |star: &Star| star.of.as_ref().map_or_else(|| "*".to_owned(), |of| format!("{of}.*"));
        let all: BTreeSet<String> = self.columns.iter().map(named).chain(self.stars.iter().map(star)).collect();
        all.into_iter().take(COLUMNS_NAMED_MAX).collect()
    }
}

/// Collects what `query`, which was parsed from `text`, names.
pub(super) fn collect(query: &Query, text: &str, syntax: Syntax) -> Mentions {
    let outermost = match query.body.as_ref() {
        SetExpr::Select(select) if select.distinct.is_none() => Some(std::ptr::from_ref::<Select>(select)),
        _ => None,
    };
    let mut collector = Collector {
        found: Mentions::default(),
        text,
        lines: std::iter::once(0)
            .chain(text.chars().enumerate().filter(|(_, character)| *character == '\n').map(|(at, _)| at + 1))
            .collect(),
        starts: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        syntax,
        counted: HashSet::new(),
        outermost,
    };
    let _ = query.visit(&mut collector);
    if let Some(order_by) = &query.order_by {
        collector.found.sorts_by_number = match &order_by.kind {
            OrderByKind::Expressions(all) => all.iter().any(|item| is_number(&item.expr)),
            OrderByKind::All(_) => true,
        };
    }
    collector.found
}

fn is_number(expression: &Expr) -> bool {
    matches!(expression, Expr::Value(value) if matches!(value.value, Value::Number(..)))
}

struct Collector<'a> {
    found: Mentions,
    text: &'a str,
    /// Which character each line begins with.
    lines: Vec<usize>,
    /// Where each character begins, since the parser counts characters, and a statement may name thousands of columns.
    starts: Vec<usize>,
    syntax: Syntax,
    counted: HashSet<*const Expr>,
    outermost: Option<*const Select>,
}

impl Visitor for Collector<'_> {
    type Break = ();

    fn pre_visit_ident(&mut self, ident: &Ident) -> ControlFlow<()> {
        self.found.identifiers.insert(ident.value.to_lowercase());
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.found.common.insert(table.alias.name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let outermost = self.outermost == Some(std::ptr::from_ref(select));
        for item in &select.projection {
            match item {
                SelectItem::Wildcard(_) => self.found.stars.push(Star { of: None, outermost }),
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let of = name.0.last().and_then(|part| part.as_ident()).map(|part| self.folded(part));
                    self.found.stars.push(Star { of, outermost });
                }
                // `(t).*`
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {
                    self.found.stars.push(Star { of: None, outermost: false });
                }
                _ => {}
            }
        }
        for join in select.from.iter().flat_map(|table| &table.joins) {
            self.join(&join.join_operator);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, _: &ObjectName) -> ControlFlow<()> {
        self.found.relations += 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, alias, .. } => {
                let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
                let parts = parts.unwrap_or_default();
                let (Some(place), Some(last)) = (self.place(&parts), parts.last()) else {
                    self.found.lost = true;
                    return ControlFlow::Continue(());
                };
                self.found.factors.push(Factor {
                    schema: parts.len().checked_sub(2).and_then(|at| parts.get(at)).map(|part| self.folded(part)),
                    name: self.folded(last),
                    alias: alias.as_ref().map(|alias| self.folded(&alias.name)),
                    renames: alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()),
                    place,
                });
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                for join in &table_with_joins.joins {
                    self.join(&join.join_operator);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        let counted = self.counted.contains(&std::ptr::from_ref(expression));
        match expression {
            Expr::Identifier(ident) => self.mention(&[ident], counted),
            Expr::CompoundIdentifier(parts) => self.mention(&parts.iter().collect::<Vec<_>>(), counted),
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
                self.counted.insert(std::ptr::from_ref(inner.as_ref()));
            }
            Expr::Function(function) => self.function(function),
            Expr::QualifiedWildcard(name, _) => {
                let of = name.0.last().and_then(|part| part.as_ident()).map(|part| self.folded(part));
                self.found.stars.push(Star { of, outermost: false });
            }
            Expr::MatchAgainst { columns, .. } => {
                for column in columns {
                    let parts: Vec<&Ident> = column.0.iter().filter_map(|part| part.as_ident()).collect();
                    self.mention(&parts, false);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Collector<'_> {
    fn function(&mut self, function: &Function) {
        let FunctionArguments::List(list) = &function.args else { return };
        let plain = list.duplicate_treatment.is_none() && list.clauses.is_empty();
        let name = function.name.0.last().and_then(|part| part.as_ident());
        let counts = plain && name.is_some_and(|name| name.value.eq_ignore_ascii_case("count"));
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(inner)) if counts && list.args.len() == 1 => {
                    self.counted.insert(std::ptr::from_ref(inner));
                }
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if counts => {}
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) if !counts => {
                    let of = name.0.last().and_then(|part| part.as_ident()).map(|part| self.folded(part));
                    self.found.stars.push(Star { of, outermost: false });
                }
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard | FunctionArgExpr::WildcardWithOptions(_)) => {
                    self.found.stars.push(Star { of: None, outermost: false });
                }
                _ => {}
            }
        }
    }

    fn mention(&mut self, parts: &[&Ident], counted: bool) {
        let Some((name, qualifiers)) = parts.split_last() else { return };
        let place = self.place(parts);
        let short = parts.len().saturating_sub(2);
        let short_from = parts.get(short).and_then(|part| self.at(part.span.start)).unwrap_or_default();
        self.found.lost |= place.is_none();
        self.found.columns.push(Mention {
            qualifiers: qualifiers.iter().map(|part| self.folded(part)).collect(),
            name: self.folded(name),
            counted,
            place,
            short_from,
        });
    }

    fn join(&mut self, operator: &JoinOperator) {
        use JoinOperator as Join;
        let constraint = match operator {
            Join::Join(constraint)
            | Join::Inner(constraint)
            | Join::Left(constraint)
            | Join::LeftOuter(constraint)
            | Join::Right(constraint)
            | Join::RightOuter(constraint)
            | Join::FullOuter(constraint)
            | Join::CrossJoin(constraint)
            | Join::StraightJoin(constraint) => constraint,
            // Not of these engines.
            _ => {
                self.found.lost = true;
                return;
            }
        };
        match constraint {
            JoinConstraint::Natural => self.found.natural = true,
            JoinConstraint::Using(names) => {
                for name in names.iter().filter_map(|name| name.0.last()?.as_ident()) {
                    self.found.columns.push(Mention {
                        qualifiers: Vec::new(),
                        name: self.folded(name),
                        counted: false,
                        place: None,
                        short_from: 0,
                    });
                }
            }
            JoinConstraint::On(_) | JoinConstraint::None => {}
        }
    }

    fn folded(&self, name: &Ident) -> String {
        super::tree::folded(self.syntax, name).into_owned()
    }

    /// Returns where the text has these names with full stops between them, if it is really they that stand there.
    fn place(&self, parts: &[&Ident]) -> Option<Range<usize>> {
        let mut place: Option<Range<usize>> = None;
        for part in parts {
            let at = self.range(part.span)?;
            let written = self.text.get(at.clone())?;
            let is_it = match part.quote_style {
                None => written == part.value,
                Some(_) => written.len() >= part.value.len() + 2 && !written.starts_with(char::is_alphanumeric),
            };
            if !is_it {
                return None;
            }
            if let Some(before) = &place {
                let between = self.text.get(before.end..at.start)?;
                if between.trim() != "." {
                    return None;
                }
            }
            place = Some(place.map_or(at.start, |before| before.start)..at.end);
        }
        place
    }

    fn range(&self, span: Span) -> Option<Range<usize>> {
        let (start, end) = (self.at(span.start)?, self.at(span.end)?);
        (start < end).then_some(start..end)
    }

    fn at(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line.checked_sub(1)?).ok()?;
        let column = usize::try_from(location.column.checked_sub(1)?).ok()?;
        self.starts.get(self.lines.get(line)? + column).copied()
    }
}
