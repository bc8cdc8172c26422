//! The walk over the whole tree of a statement: what it names, and whether all of it reads.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, ArrayElemTypeDef, BinaryOperator, CastKind, CeilFloorKind, DataType, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Select, SelectFlavor, SetExpr, Statement, TableAlias,
    TableFactor, UnaryOperator, Value, ValueWithSpan, Visit, Visitor,
};
use tollgate_shared::refusal::Refusal;

use super::expansion::Expansion;
use super::signals::Signs;
use super::{Rules, Syntax, function_not_allowed, functions, not_parsed, not_read_only};

/// Longest list of characters for `trim`: SQLite compares every character with every one of these, and cannot be
/// stopped inside of it.
const TRIM_BYTES_MAX: usize = 200;

/// What a statement names.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    rules: &'a Rules,
    /// `select` or `values`.
    pub(super) kind: &'static str,
    /// The tables, common table expressions left out.
    pub(super) tables: BTreeSet<String>,
    /// The functions, in lower case.
    pub(super) functions: BTreeSet<String>,
    /// The tables as the engine looks for them, common table expressions included.
    pub(super) relations: BTreeSet<(Option<String>, String)>,
    /// What stands after a full stop: columns, and in PostgreSQL functions too.
    pub(super) attributes: BTreeSet<String>,
    /// Those among them that may be of a value of any type.
    pub(super) fields: BTreeSet<String>,
    /// The types that are not built in, as the engine reads them.
    pub(super) types: BTreeSet<String>,
    common: BTreeSet<String>,
    /// Whether a function stands in FROM, whose row may be a value of any type.
    has_table_function: bool,
}

fn kind(body: &SetExpr) -> &'static str {
    match body {
        SetExpr::Values(_) => "values",
        SetExpr::SetOperation { left, .. } => kind(left),
        _ => "select",
    }
}

/// All that is asked of a tree, in one walk over it.
struct Judged<'a> {
    walk: Walk<'a>,
    expansion: Expansion,
    signs: Signs,
    /// What ended the walk. It is not handed from call to call, whose every one would keep room for it on the stack, hundreds of
    /// times over.
    refused: Option<Refusal>,
}

/// Walks over `query` and everything in it.
///
/// # Errors
///
/// The first thing that is not known to be a read, or `too_complex`.
pub(super) fn walk<'a>(query: &Query, rules: &'a Rules) -> Result<(Walk<'a>, Signs), Refusal> {
    let walk = Walk {
        rules,
        kind: kind(&query.body),
        tables: BTreeSet::new(),
        functions: BTreeSet::new(),
        relations: BTreeSet::new(),
        attributes: BTreeSet::new(),
        fields: BTreeSet::new(),
        types: BTreeSet::new(),
        common: BTreeSet::new(),
        has_table_function: false,
    };
    let mut judged = Judged { walk, expansion: Expansion::new(), signs: Signs::default(), refused: None };
    let ended = query.visit(&mut judged);
    let Judged { mut walk, expansion, signs, refused } = judged;
    if let Some(refusal) = refused {
        return Err(refusal);
    }
    // Whoever ends the walk says why.
    if ended.is_break() {
        return Err(foreign("a part"));
    }
    expansion.finish()?;
    if walk.has_table_function && walk.syntax() == Syntax::Postgres {
        walk.fields.clone_from(&walk.attributes);
    }
    // `(x).f` is a cast where `f` is a type.
    walk.types.extend(walk.fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))));
    let common = std::mem::take(&mut walk.common);
    walk.tables.retain(|table| !common.contains(&table.to_lowercase()));
    Ok((walk, signs))
}

impl Judged<'_> {
    fn refuse(&mut self, result: Result<(), Refusal>) -> ControlFlow<()> {
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(refusal) => {
                self.refused = Some(refusal);
                ControlFlow::Break(())
            }
        }
    }
}

impl Visitor for Judged<'_> {
    type Break = ();

    fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<()> {
        // The walk starts at a query; a statement inside one is INSERT, UPDATE, DELETE or MERGE.
        self.refuse(Err(not_read_only("a statement inside the query")))
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.expansion.begin_query(query);
        let result = self.walk.query(query);
        self.refuse(result)
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.expansion.end_query();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.expansion.select(select);
        let result = check_select(select);
        self.refuse(result)
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        self.expansion.relation(relation);
        let result = self.walk.relation(relation);
        self.refuse(result)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.expansion.table_factor(factor);
        let result = self.walk.table_factor(factor);
        self.refuse(result)
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        self.expansion.expression(expression);
        self.signs.expression(expression);
        let result = self.walk.expression(expression);
        self.refuse(result)
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        self.signs.value(value);
        ControlFlow::Continue(())
    }
}

impl Walk<'_> {
    fn syntax(&self) -> Syntax {
        self.rules.syntax
    }

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
        let is_foreign = (fetch.is_some() && self.syntax() != Syntax::Postgres)
            || for_clause.is_some()
            || settings.is_some()
            || format_clause.is_some()
            || !pipe_operators.is_empty();
        if is_foreign {
            return Err(foreign("a clause"));
        }
        if let Some(with) = with {
            for table in &with.cte_tables {
                if table.from.is_some() {
                    return Err(foreign("a clause"));
                }
                self.common.insert(table.alias.name.value.to_lowercase());
            }
        }
        Ok(())
    }

    fn relation(&mut self, relation: &ObjectName) -> Result<(), Refusal> {
        let (schema, name) = table_name(relation)?;
        for part in schema.into_iter().chain([name]) {
            self.check_plain_name(part)?;
        }
        let (schema, name) = (schema.map(|schema| self.folded(schema)), self.folded(name));
        if !functions::is_table(self.syntax(), schema.as_deref(), &name) {
            return Err(Refusal::refused(
                "table_not_allowed",
                format!("`{}` is not a table that may be read", shown(&name)),
                "use list_tables for the tables that there are",
            ));
        }
        self.tables.insert(match &schema {
            Some(schema) if self.syntax() != Syntax::Sqlite => format!("{schema}.{name}"),
            _ => name.clone(),
        });
        self.relations.insert((schema, name));
        Ok(())
    }

    fn table_factor(&mut self, factor: &TableFactor) -> Result<(), Refusal> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                let is_foreign = !with_hints.is_empty()
                    || version.is_some()
                    || (*with_ordinality && self.syntax() != Syntax::Postgres)
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || sample.is_some()
                    || (!index_hints.is_empty() && self.syntax() != Syntax::Mysql);
                if is_foreign {
                    return Err(foreign("a clause of a table"));
                }
                if let Some(alias) = alias {
                    self.check_plain_name(&alias.name)?;
                }
                self.alias(alias.as_ref());
                match args {
                    Some(args) if args.settings.is_some() => Err(foreign("a clause of a table")),
                    Some(_) => self.table_function(name),
                    None => Ok(()),
                }
            }
            TableFactor::Derived { lateral, sample: None, alias, .. }
                if !lateral || self.syntax() != Syntax::Sqlite =>
            {
                self.alias(alias.as_ref());
                Ok(())
            }
            TableFactor::NestedJoin { .. } => Ok(()),
            TableFactor::Function { name, alias, .. } if self.syntax() == Syntax::Postgres => {
                self.alias(alias.as_ref());
                self.table_function(name)
            }
            TableFactor::UNNEST { with_offset: false, alias, .. } if self.syntax() == Syntax::Postgres => {
                self.alias(alias.as_ref());
                self.functions.insert("unnest".to_owned());
                self.has_table_function = true;
                Ok(())
            }
            _ => Err(foreign("a kind of table")),
        }
    }

    fn table_function(&mut self, name: &ObjectName) -> Result<(), Refusal> {
        let (schema, name) = table_name(name)?;
        let (schema, name) = (schema.map(|schema| self.folded(schema)), self.folded(name));
        let own = schema.as_deref().is_none_or(|schema| schema == "pg_catalog" || self.syntax() == Syntax::Sqlite);
        let known = own && functions::is_allowed_as_table(self.syntax(), &name) && self.is_plain(&name);
        if !known && !self.rules.allows(schema.as_deref(), &name) {
            return Err(function_not_allowed(&name));
        }
        self.functions.insert(qualified(schema.as_deref(), &name));
        self.has_table_function = true;
        Ok(())
    }

    /// Returns a name as the engine looks for it.
    fn folded(&self, name: &Ident) -> String {
        folded(self.syntax(), name).into_owned()
    }

    /// Refuses a word as the name of a table where the engine has it for syntax: `FROM ONLY t` reads `t`, and not a
    /// table `ONLY` that is called `t`.
    fn check_plain_name(&self, name: &Ident) -> Result<(), Refusal> {
        match name.quote_style {
            None if functions::is_reserved(self.syntax(), &name.value) => {
                Err(foreign(&format!("`{}` where a name stands", shown(&name.value))))
            }
            _ => Ok(()),
        }
    }

    /// Whether the name can be that of a function of the engine's own: to PostgreSQL `"LOWER"` is another one.
    fn is_plain(&self, name: &str) -> bool {
        self.syntax() != Syntax::Postgres || !name.bytes().any(|byte| byte.is_ascii_uppercase())
    }

    fn alias(&mut self, alias: Option<&TableAlias>) {
        for column in alias.iter().flat_map(|alias| &alias.columns) {
            if let Some(data_type) = &column.data_type {
                self.data_type(data_type);
            }
        }
    }

    fn data_type(&mut self, data_type: &DataType) {
        match data_type {
            // What the parser takes for a type of some engine's own may be somebody's type in this one.
            _ if self.syntax() == Syntax::Postgres
                && !matches!(data_type, DataType::Custom(..) | DataType::Array(_)) =>
            {
                let written = data_type.to_string().to_ascii_lowercase();
                let word: String =
                    written.chars().take_while(|next| next.is_ascii_alphanumeric() || *next == '_').collect();
                if !word.is_empty() {
                    self.types.insert(format!("\"{word}\""));
                    self.types.insert(word);
                }
            }
            DataType::Custom(name, _) => drop(self.types.insert(name.to_string())),
            DataType::Array(
                ArrayElemTypeDef::AngleBracket(inner)
                | ArrayElemTypeDef::SquareBracket(inner, _)
                | ArrayElemTypeDef::Parenthesis(inner)
                | ArrayElemTypeDef::Qualified(inner, _),
            ) => self.data_type(inner),
            _ => {}
        }
    }

    fn expression(&mut self, expression: &Expr) -> Result<(), Refusal> {
        match self.syntax() {
            Syntax::Postgres => {
                if let Some(result) = self.expression_of_postgres(expression) {
                    return result;
                }
            }
            Syntax::Mysql => {
                if let Some(result) = self.expression_of_mysql(expression) {
                    return result;
                }
            }
            Syntax::Sqlite => {}
        }
        match expression {
            Expr::CompoundIdentifier(parts) => {
                if let Some(part) = parts.last() {
                    let name = folded(self.rules.syntax, part);
                    if !self.attributes.contains(&*name) {
                        self.attributes.insert(name.into_owned());
                    }
                }
                Ok(())
            }
            Expr::BinaryOp { op: BinaryOperator::PGCustomBinaryOperator(_) | BinaryOperator::Custom(_), .. } => {
                Err(foreign("an operator"))
            }
            Expr::Cast { kind: CastKind::Cast, format: None, data_type, .. } => {
                self.data_type(data_type);
                Ok(())
            }
            Expr::Identifier(_)
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
            _ => Err(foreign("an expression")),
        }
    }

    /// Decides on what PostgreSQL has beyond what all have.
    fn expression_of_postgres(&mut self, expression: &Expr) -> Option<Result<(), Refusal>> {
        let result = match expression {
            Expr::ILike { .. }
            | Expr::Like { .. }
            | Expr::SimilarTo { .. }
            | Expr::AtTimeZone { .. }
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsNormalized { .. }
            | Expr::IsJson { .. }
            | Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_)
            | Expr::Array(_)
            | Expr::Interval(_) => Ok(()),
            Expr::AnyOp { compare_op, .. } | Expr::AllOp { compare_op, .. } => match compare_op {
                BinaryOperator::PGCustomBinaryOperator(_) | BinaryOperator::Custom(_) => Err(foreign("an operator")),
                _ => Ok(()),
            },
            Expr::UnaryOp { op: UnaryOperator::Hash, .. } => Err(foreign("an operator")),
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, format: None, data_type, .. } => {
                self.data_type(data_type);
                Ok(())
            }
            Expr::TypedString(string) if !string.uses_odbc_syntax => {
                self.data_type(&string.data_type);
                Ok(())
            }
            Expr::Extract { .. } => self.call("extract"),
            Expr::Position { .. } => self.call("position"),
            Expr::Overlay { .. } => self.call("overlay"),
            Expr::Trim { trim_characters: None, .. } => self.call("trim"),
            Expr::CompoundFieldAccess { access_chain, .. } => {
                for access in access_chain {
                    if let AccessExpr::Dot(field) = access {
                        let Expr::Identifier(field) = field else {
                            // `(t).*` and calls.
                            return Some(Err(foreign("what follows a full stop")));
                        };
                        let field = self.folded(field);
                        self.attributes.insert(field.clone());
                        self.fields.insert(field);
                    }
                }
                Ok(())
            }
            _ => return None,
        };
        Some(result)
    }

    /// Decides on what MySQL has beyond what all have.
    fn expression_of_mysql(&mut self, expression: &Expr) -> Option<Result<(), Refusal>> {
        let result = match expression {
            Expr::Interval(_) | Expr::MatchAgainst { .. } | Expr::IsUnknown(_) | Expr::IsNotUnknown(_) => Ok(()),
            Expr::RLike { .. } => Ok(()),
            Expr::AnyOp { .. } | Expr::AllOp { .. } => Ok(()),
            Expr::Convert { is_try: false, styles, .. } if styles.is_empty() => self.call("convert"),
            Expr::TypedString(string) if !string.uses_odbc_syntax => Ok(()),
            Expr::Extract { .. } => self.call("extract"),
            Expr::Position { .. } => self.call("position"),
            Expr::Trim { trim_characters: None, .. } => self.call("trim"),
            _ => return None,
        };
        Some(result)
    }

    fn function(&mut self, function: &Function) -> Result<(), Refusal> {
        let Function { name, uses_odbc_syntax, parameters, args, within_group, filter: _, null_treatment, over: _ } =
            function;
        let is_foreign = *uses_odbc_syntax
            || !matches!(parameters, FunctionArguments::None)
            || (!within_group.is_empty() && self.syntax() == Syntax::Sqlite)
            || null_treatment.is_some();
        if is_foreign {
            return Err(foreign("a clause of a function"));
        }
        let (schema, name) = table_name(name)?;
        // In quotes it is not the engine's own, but one that is stored.
        if self.syntax() == Syntax::Mysql && name.quote_style.is_some() {
            return Err(function_not_allowed(&name.value));
        }
        let (schema, name) = (schema.map(|schema| self.folded(schema)), self.folded(name));
        if self.syntax() != Syntax::Sqlite {
            let own = match schema.as_deref() {
                None => true,
                Some(schema) => schema == "pg_catalog" && self.syntax() == Syntax::Postgres,
            };
            let known = own && functions::is_allowed(self.syntax(), &name) && self.is_plain(&name);
            if !known && !self.rules.allows(schema.as_deref(), &name) {
                return Err(function_not_allowed(&name));
            }
            self.functions.insert(qualified(schema.as_deref(), &name));
            return Ok(());
        }
        if schema.is_some() {
            return Err(foreign("a function with a schema"));
        }
        let name = name.as_str();
        self.call(name)?;
        // SQLite compares each character of the one with each of the other, and cannot be stopped meanwhile.
        if ["ltrim", "rtrim", "trim", "unhex"].iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let FunctionArguments::List(list) = args else { return Ok(()) };
            let further: Option<Vec<Expr>> = list.args.iter().skip(1).map(plain_argument).collect();
            check_trim(&further.ok_or_else(|| foreign("an argument"))?)?;
        }
        Ok(())
    }

    fn call(&mut self, name: &str) -> Result<(), Refusal> {
        if !functions::is_allowed(self.syntax(), name) {
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
            SetExpr::Table(_) => return Err(foreign("TABLE")),
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
    let is_foreign = !optimizer_hints.is_empty()
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
    if is_foreign { Err(foreign("a clause")) } else { Ok(()) }
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

/// How many bytes of a name PostgreSQL looks at.
const POSTGRES_NAME_BYTES_MAX: usize = 63;

/// Returns a name as the engine looks for it.
pub(super) fn folded(syntax: Syntax, name: &Ident) -> Cow<'_, str> {
    if syntax != Syntax::Postgres {
        return Cow::Borrowed(&name.value);
    }
    let seen = &name.value[..name.value.floor_char_boundary(POSTGRES_NAME_BYTES_MAX)];
    if name.quote_style.is_none() && seen.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(seen.to_ascii_lowercase())
    } else {
        Cow::Borrowed(seen)
    }
}

/// Returns the schema and the name of a table or function.
fn table_name(name: &ObjectName) -> Result<(Option<&Ident>, &Ident), Refusal> {
    let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
    match parts.as_deref() {
        Some([name]) => Ok((None, name)),
        Some([schema, name]) => Ok((Some(schema), name)),
        _ => Err(foreign("a name")),
    }
}

fn foreign(what: &str) -> Refusal {
    not_parsed(&format!("{what} in it is not one that a plain read has"))
}

fn qualified(schema: Option<&str>, name: &str) -> String {
    match schema {
        Some(schema) if schema != "pg_catalog" => format!("{schema}.{name}"),
        _ => name.to_owned(),
    }
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}
