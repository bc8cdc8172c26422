//! The walk over the whole tree of a statement: what it names, and whether all of it reads.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    CastKind, CeilFloorKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query,
    Select, SelectFlavor, SetExpr, Statement, TableFactor, Value, Visit, Visitor,
};
use tollgate_shared::refusal::Refusal;

use super::{function_not_allowed, functions, not_parsed, not_read_only};

/// Longest list of characters for `trim`: SQLite compares every character with every one of these, and cannot be
/// stopped inside of it.
const TRIM_BYTES_MAX: usize = 200;

/// What a statement names.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// `select` or `values`.
    pub(super) kind: &'static str,
    /// The tables, common table expressions left out.
    pub(super) tables: BTreeSet<String>,
    /// The functions, in lower case.
    pub(super) functions: BTreeSet<String>,
    common: BTreeSet<String>,
}

/// Walks over `query` and everything in it.
///
/// # Errors
///
/// The first thing that is not known to be a read.
pub(super) fn walk(query: &Query) -> Result<Walk, Refusal> {
    let mut walk = Walk { kind: kind(&query.body), ..Walk::default() };
    if let ControlFlow::Break(refusal) = query.visit(&mut walk) {
        return Err(refusal);
    }
    let common = std::mem::take(&mut walk.common);
    walk.tables.retain(|table| !common.contains(&table.to_lowercase()));
    Ok(walk)
}

fn kind(body: &SetExpr) -> &'static str {
    match body {
        SetExpr::Values(_) => "values",
        SetExpr::SetOperation { left, .. } => kind(left),
        _ => "select",
    }
}

impl Visitor for Walk {
    type Break = Refusal;

    fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<Refusal> {
        // The walk starts at a query; a statement inside one is INSERT, UPDATE, DELETE or MERGE.
        ControlFlow::Break(not_read_only("a statement inside the query"))
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refusal> {
        flow(self.query(query))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refusal> {
        flow(check_select(select))
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Refusal> {
        flow(self.relation(relation))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refusal> {
        flow(self.table_factor(factor))
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Refusal> {
        flow(self.expression(expression))
    }
}

impl Walk {
    fn query(&mut self, query: &Query) -> Result<(), Refusal> {
        // In full, so that a field that a new parser adds is looked at before it compiles.
        let Query {
            with,
            body,
            order_by: _,
            limit_clause: _,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if !locks.is_empty() {
            return Err(not_read_only("a query that takes locks"));
        }
        check_body(body)?;
        let foreign = fetch.is_some()
            || for_clause.is_some()
            || settings.is_some()
            || format_clause.is_some()
            || !pipe_operators.is_empty();
        if foreign {
            return Err(foreign_to_sqlite("a clause"));
        }
        if let Some(with) = with {
            for table in &with.cte_tables {
                if table.from.is_some() {
                    return Err(foreign_to_sqlite("a clause"));
                }
                self.common.insert(table.alias.name.value.to_lowercase());
            }
        }
        Ok(())
    }

    fn relation(&mut self, relation: &ObjectName) -> Result<(), Refusal> {
        let (schema, name) = table_name(relation)?;
        let known_schema = schema.is_none_or(|schema| schema.eq_ignore_ascii_case("main"));
        if !known_schema || !functions::is_table(name) {
            return Err(Refusal::refused(
                "table_not_allowed",
                format!("`{}` is not a table of this database", shown(name)),
                "use list_tables for the tables that there are",
            ));
        }
        self.tables.insert(name.to_owned());
        Ok(())
    }

    fn table_factor(&mut self, factor: &TableFactor) -> Result<(), Refusal> {
        match factor {
            TableFactor::Table {
                name,
                alias: _,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                let foreign = !with_hints.is_empty()
                    || version.is_some()
                    || *with_ordinality
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || sample.is_some()
                    || !index_hints.is_empty();
                if foreign {
                    return Err(foreign_to_sqlite("a clause of a table"));
                }
                match args {
                    Some(args) if args.settings.is_some() => Err(foreign_to_sqlite("a clause of a table")),
                    Some(_) => {
                        let (_, name) = table_name(name)?;
                        if !functions::is_allowed_as_table(name) {
                            return Err(function_not_allowed(name));
                        }
                        self.functions.insert(name.to_ascii_lowercase());
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            TableFactor::Derived { lateral: false, sample: None, .. } | TableFactor::NestedJoin { .. } => Ok(()),
            _ => Err(foreign_to_sqlite("a kind of table")),
        }
    }

    fn expression(&mut self, expression: &Expr) -> Result<(), Refusal> {
        match expression {
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Between { .. }
            | Expr::BinaryOp { .. }
            | Expr::Like { any: false, .. }
            | Expr::RLike { regexp: true, .. }
            | Expr::UnaryOp { .. }
            | Expr::Cast { kind: CastKind::Cast, format: None, .. }
            | Expr::Collate { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::Tuple(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..) => Ok(()),
            // What the parser takes for syntax is a function to SQLite.
            Expr::Ceil { field: CeilFloorKind::DateTimeField(_), .. } => self.call("ceil"),
            Expr::Floor { field: CeilFloorKind::DateTimeField(_), .. } => self.call("floor"),
            Expr::Substring { .. } => self.call("substr"),
            Expr::Trim { trim_where: None, trim_what: None, trim_characters, .. } => {
                if let Some(characters) = trim_characters {
                    check_trim(characters)?;
                }
                self.call("trim")
            }
            Expr::Function(function) => self.function(function),
            _ => Err(foreign_to_sqlite("an expression")),
        }
    }

    fn function(&mut self, function: &Function) -> Result<(), Refusal> {
        let Function { name, uses_odbc_syntax, parameters, args, within_group, filter: _, null_treatment, over: _ } =
            function;
        let foreign = *uses_odbc_syntax
            || !matches!(parameters, FunctionArguments::None)
            || !within_group.is_empty()
            || null_treatment.is_some();
        if foreign {
            return Err(foreign_to_sqlite("a clause of a function"));
        }
        let (None, name) = table_name(name)? else {
            return Err(foreign_to_sqlite("a function with a schema"));
        };
        self.call(name)?;
        // SQLite compares each character of the one with each of the other, and cannot be stopped meanwhile.
        if ["ltrim", "rtrim", "trim", "unhex"].iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let FunctionArguments::List(list) = args else { return Ok(()) };
            let further: Option<Vec<Expr>> = list.args.iter().skip(1).map(plain_argument).collect();
            check_trim(&further.ok_or_else(|| foreign_to_sqlite("an argument"))?)?;
        }
        Ok(())
    }

    fn call(&mut self, name: &str) -> Result<(), Refusal> {
        if !functions::is_allowed(name) {
            return Err(function_not_allowed(name));
        }
        self.functions.insert(name.to_ascii_lowercase());
        Ok(())
    }
}

fn check_body(body: &SetExpr) -> Result<(), Refusal> {
    let mut bodies = vec![body];
    while let Some(body) = bodies.pop() {
        match body {
            // What is inside of these is visited by itself.
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => {}
            SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_ref(), right.as_ref()]),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                return Err(not_read_only("a query that changes rows"));
            }
            SetExpr::Table(_) => return Err(foreign_to_sqlite("TABLE")),
        }
    }
    Ok(())
}

fn check_select(select: &Select) -> Result<(), Refusal> {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct: _,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection: _,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by: _,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window: _,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    if into.is_some() {
        return Err(not_read_only("SELECT INTO"));
    }
    let foreign = !optimizer_hints.is_empty()
        || select_modifiers.is_some()
        || top.is_some()
        || exclude.is_some()
        || !lateral_views.is_empty()
        || prewhere.is_some()
        || !connect_by.is_empty()
        || !cluster_by.is_empty()
        || !distribute_by.is_empty()
        || !sort_by.is_empty()
        || qualify.is_some()
        || value_table_mode.is_some()
        || *flavor != SelectFlavor::Standard;
    if foreign { Err(foreign_to_sqlite("a clause")) } else { Ok(()) }
}

fn check_trim(characters: &[Expr]) -> Result<(), Refusal> {
    let short = |expression: &Expr| match expression {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.len() <= TRIM_BYTES_MAX,
            _ => false,
        },
        _ => false,
    };
    if characters.iter().all(short) {
        return Ok(());
    }
    Err(Refusal::refused(
        "function_not_allowed",
        format!("the characters that trim or unhex leave out must be a literal of at most {TRIM_BYTES_MAX} bytes"),
        "write them as a string literal",
    ))
}

fn plain_argument(argument: &FunctionArg) -> Option<Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression.clone()),
        _ => None,
    }
}

/// Returns the schema and the name of a table or function.
fn table_name(name: &ObjectName) -> Result<(Option<&str>, &str), Refusal> {
    let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
    match parts.as_deref() {
        Some([name]) => Ok((None, &name.value)),
        Some([schema, name]) => Ok((Some(&schema.value), &name.value)),
        _ => Err(foreign_to_sqlite("a name")),
    }
}

fn foreign_to_sqlite(what: &str) -> Refusal {
    not_parsed(&format!("{what} in it is not SQLite's"))
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

fn flow(result: Result<(), Refusal>) -> ControlFlow<Refusal> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(refusal) => ControlFlow::Break(refusal),
    }
}
