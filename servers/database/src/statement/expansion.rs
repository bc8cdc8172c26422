//! How large a statement becomes when the engine takes it apart.
//!
//! SQLite replaces the column of a subquery by its expression wherever the column is used, a common table expression
//! by its query wherever it is named, and a query over a UNION by one for each of its parts. Each level multiplies,
//! so a page of text can become more than any memory holds, and compiling cannot be stopped meanwhile: SQLite's limit
//! on memory would be all that is left, and the ledger, which uses SQLite too, would feel it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlparser::ast::{Distinct, Expr, GroupByExpr, ObjectName, Query, Select, SelectItem, TableFactor};
use tollgate_shared::refusal::Refusal;

/// How many nodes an expanded statement has at most, some ten megabytes; people's statements have hundreds.
const NODES_MAX: u64 = 100_000;

/// How many tables a statement names at most: a view is as large as its maker wished.
const TABLES_MAX: usize = 300;

/// Functions that make a query one that SQLite computes by itself, not in the place where it is used.
const AGGREGATES: &[&str] =
    &["avg", "count", "group_concat", "json_group_array", "json_group_object", "string_agg", "sum", "total"];

/// What a query comes to.
#[derive(Clone, Copy)]
struct Size {
    /// Its nodes, with everything put in its place.
    nodes: u64,
    /// The parts of its UNION, with those of its tables.
    parts: u64,
    /// Whether it is computed by itself.
    computed: bool,
}

/// A query that is being visited.
#[derive(Default)]
struct Frame {
    nodes: u64,
    /// How often each name is used in the part being visited.
    uses: BTreeMap<String, u64>,
    /// The most that any name is used in one part.
    uses_max: u64,
    /// How large what is used in place of a name is, for names given in the part itself.
    aliases: Vec<String>,
    aliased: bool,
    selects: u64,
    computed_selects: u64,
    /// The tables whose columns are put in place, those that are computed by themselves, and the most parts of one.
    replaced: u64,
    computed: u64,
    parts: u64,
    /// The common table expressions that are still to be visited, in reverse.
    pending: Vec<String>,
    /// Whether nothing in it can be a name of the query around it.
    isolated: bool,
}

/// Counts what a statement comes to while its tree is walked over.
pub(super) struct Expansion {
    frames: Vec<Frame>,
    common: BTreeMap<String, Size>,
    tables: usize,
    /// Whether the next query stands where a table does.
    derived: bool,
}

impl Frame {
    fn add(&mut self, size: Size) {
        let sum = if size.computed { &mut self.computed } else { &mut self.replaced };
        *sum = sum.saturating_add(size.nodes);
        self.parts = self.parts.max(size.parts);
    }

    fn end_part(&mut self) {
        let most = self.uses.values().copied().max().unwrap_or(0);
        self.uses_max = self.uses_max.max(most);
        self.aliased |= self.aliases.iter().any(|alias| self.uses.contains_key(alias));
        self.uses.clear();
        self.aliases.clear();
    }

    fn size(mut self) -> Size {
        self.end_part();
        let times = self.uses_max.max(1);
        let own = self.nodes.saturating_mul(self.parts.max(1)).saturating_mul(if self.aliased { times } else { 1 });
        Size {
            nodes: own.saturating_add(self.replaced.saturating_mul(times)).saturating_add(self.computed),
            parts: self.selects.max(1).saturating_mul(self.parts.max(1)),
            computed: self.selects > 0 && self.selects == self.computed_selects,
        }
    }
}

impl Expansion {
    pub(super) fn new() -> Self {
        Self { frames: vec![Frame::default()], common: BTreeMap::new(), tables: 0, derived: false }
    }

    /// Refuses a statement that becomes too large.
    ///
    /// # Errors
    ///
    /// `too_complex`.
    pub(super) fn finish(mut self) -> Result<(), Refusal> {
        let size = self.frames.pop().map(|frame| frame.replaced.max(frame.computed)).unwrap_or_default();
        if size <= NODES_MAX && self.tables <= TABLES_MAX {
            return Ok(());
        }
        Err(Refusal::refused(
            "too_complex",
            "the statement becomes too large when its subqueries are put in the places where they are used",
            "nest fewer subqueries, and use their columns less often",
        ))
    }

    pub(super) fn begin_query(&mut self, query: &Query) {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        let pending = tables.rev().map(|table| table.alias.name.value.to_lowercase()).collect();
        let common = self.frames.last().is_some_and(|outer| !outer.pending.is_empty());
        let isolated = std::mem::take(&mut self.derived) || common;
        self.frames.push(Frame { pending, isolated, ..Frame::default() });
    }

    pub(super) fn end_query(&mut self) {
        let Some(size) = self.frames.pop().map(Frame::size) else { return };
        let Some(outer) = self.frames.last_mut() else { return };
        // The common table expressions of a query come before everything else in it.
        match outer.pending.pop() {
            Some(name) => drop(self.common.insert(name, size)),
            None => outer.add(size),
        }
    }

    pub(super) fn select(&mut self, select: &Select) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.end_part();
        frame.selects += 1;
        frame.computed_selects += u64::from(is_computed(select));
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { expr, alias } = item
                && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_))
            {
                frame.aliases.push(alias.value.to_lowercase());
            }
        }
    }

    pub(super) fn table_factor(&mut self, factor: &TableFactor) {
        self.derived = matches!(factor, TableFactor::Derived { .. });
    }

    pub(super) fn relation(&mut self, relation: &ObjectName) {
        self.tables += 1;
        let name = relation.0.last().and_then(|part| part.as_ident()).map(|name| lower(&name.value));
        let common = name.and_then(|name| self.common.get(&*name).copied());
        if let (Some(size), Some(frame)) = (common, self.frames.last_mut()) {
            frame.add(size);
        }
    }

    pub(super) fn expression(&mut self, expression: &Expr) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.nodes += 1;
        let name = match expression {
            Expr::Identifier(name) => name,
            Expr::CompoundIdentifier(parts) => match parts.last() {
                Some(name) => name,
                None => return,
            },
            _ => return,
        };
        let name = lower(&name.value);
        // What a subquery uses of its surroundings is used there.
        for frame in self.frames.iter_mut().rev() {
            match frame.uses.get_mut(&*name) {
                Some(uses) => *uses += 1,
                None => drop(frame.uses.insert(name.to_string(), 1)),
            }
            if frame.isolated {
                break;
            }
        }
    }
}

/// Returns a name in lower case, which it mostly is.
fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.to_lowercase())
    }
}

fn is_computed(select: &Select) -> bool {
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    let distinct = matches!(select.distinct, Some(Distinct::Distinct));
    let aggregate = select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(Expr::Function(function))
        | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. } => {
            let name = function.name.to_string();
            function.over.is_none() && AGGREGATES.iter().any(|known| known.eq_ignore_ascii_case(&name))
        }
        _ => false,
    });
    grouped || distinct || aggregate
}

#[cfg(test)]
mod tests {
    use crate::connection::STACK_BYTES;
    use crate::statement::{ReadStatement, Rules, Syntax};

    fn code(sql: &str) -> &'static str {
        // As the connection does, and needed without optimisation alone.
        let judge =
            || ReadStatement::check(sql, &Rules::of(Syntax::Sqlite)).map_or_else(|refusal| refusal.code, |_| "ok");
        std::thread::scope(|scope| {
            let judging = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, judge);
            judging.unwrap().join().unwrap()
        })
    }

    fn nested(expression: &str, levels: usize) -> String {
        let level = |inner: String, _| format!("SELECT {expression} AS x FROM ({inner})");
        (0..levels).fold("SELECT a AS x FROM t".to_owned(), level)
    }

    #[test]
    fn what_multiplies_is_refused() {
        for expression in ["x||x||x||x", "x+x", "(SELECT x)||x||x", "CASE WHEN x THEN x ELSE x END"] {
            assert_eq!(code(&nested(expression, 18)), "too_complex", "{expression}");
        }
        assert_eq!(code(&nested(&vec!["x"; 150].join("+"), 3)), "too_complex");
        let doubling = |join: &str| {
            let tables: Vec<String> = (1..30)
                .map(|level| format!("c{level} (x) AS (SELECT a.x FROM c{0} a {join} c{0} b)", level - 1))
                .collect();
            format!("WITH c0 (x) AS (SELECT 1), {} SELECT * FROM c29", tables.join(", "))
        };
        assert_eq!(code(&doubling("JOIN")), "too_complex", "joins");
        assert_eq!(code(&doubling("UNION ALL SELECT b.x FROM")), "too_complex", "unions");
        assert_eq!(code(&format!("SELECT * FROM v{}", ", v".repeat(300))), "too_complex", "views");
        let alias = format!("SELECT {} AS x FROM t ORDER BY {}", vec!["b"; 400].join("||"), vec!["x"; 400].join(", "));
        assert_eq!(code(&alias), "too_complex", "an alias");
    }

    #[test]
    fn what_people_write_is_not() {
        assert_eq!(code(&nested("x", 18)), "ok");
        assert_eq!(code(&nested("x + x", 8)), "ok");
        let report = "WITH paid AS (SELECT id, customer, amount, date(at) AS day FROM payment WHERE amount > 0 AND state = 'paid'),
            daily AS (SELECT day, customer, sum(amount) AS amount, count(*) AS n FROM paid GROUP BY day, customer),
            ranked AS (SELECT day, customer, amount, n, rank() OVER (PARTITION BY day ORDER BY amount DESC) AS place FROM daily),
            best AS (SELECT day, customer, amount, n, place FROM ranked WHERE place <= 3 AND amount > 10 OR place = 1),
            joined AS (SELECT b.day, b.amount, b.place, c.name, b.amount * 100 / d.amount AS share FROM best b
                JOIN customer c ON c.id = b.customer JOIN daily d ON d.day = b.day AND d.customer = b.customer)
            SELECT day, name, amount, share, CASE WHEN share > 50 THEN 'most' WHEN share > 10 THEN 'some' ELSE 'few' END
            FROM joined ORDER BY day, amount DESC, share";
        assert_eq!(code(report), "ok");
    }
}
