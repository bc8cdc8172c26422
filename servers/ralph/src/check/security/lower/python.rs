//! Python from the tree of its exact parser, which is several times faster than the grammar's.
//!
//! What comes out is what the grammar's tree would be lowered to, so that the same rules find the same.

use std::borrow::Cow;

use ruff_python_ast::{
    Arguments, Comprehension, Decorator, ExceptHandler, Expr, FStringPart, InterpolatedStringElement, Mod, Parameters,
    Pattern, Stmt, StmtFunctionDef, UnaryOp,
};
use ruff_python_parser::Parsed;
use ruff_text_size::{Ranged, TextRange};

use super::string::{content, unescaped};
use super::{TooDeep, plain_name, type_name};
use crate::check::security::ir::{Function, Id, Ir, Kind, Node, Parameter};

/// Lowers `source`, parsed; nothing where it cannot be parsed, for then the grammar sees more.
///
/// # Errors
///
/// [`TooDeep`] when it nests deeper than `depth_max`.
pub fn lower<'s>(parsed: &Parsed<Mod>, source: &'s str, depth_max: usize) -> Result<Option<(Ir<'s>, Id)>, TooDeep> {
    if !parsed.errors().is_empty() {
        return Ok(None);
    }
    let Some(module) = parsed.syntax().as_module() else { return Ok(None) };
    let mut lower = Lower { source, ir: Ir::default(), depth: 0, depth_max, too_deep: false };
    let root = lower.block(module.range(), &module.body);
    if lower.too_deep { Err(TooDeep) } else { Ok(Some((lower.ir, root))) }
}

struct Lower<'s> {
    source: &'s str,
    ir: Ir<'s>,
    depth: usize,
    depth_max: usize,
    too_deep: bool,
}

impl<'s> Lower<'s> {
    fn text(&self, range: TextRange) -> &'s str {
        self.source.get(range.start().to_usize()..range.end().to_usize()).unwrap_or_default()
    }

    /// Returns a name as Python reads it: letters that only look otherwise, such as wide ones, are the plain ones.
    fn name(&mut self, range: TextRange, id: &str) -> &'s str {
        let text = self.text(range);
        if text == id { text } else { plain_name(id).unwrap_or(text) }
    }

    fn push(&mut self, range: TextRange, kind: Kind<'s>) -> Id {
        self.push_at(range.start().to_usize(), range.end().to_usize(), kind)
    }

    fn push_at(&mut self, start: usize, end: usize, kind: Kind<'s>) -> Id {
        self.ir.nodes.push(Node { start, end, kind });
        self.ir.nodes.len() - 1
    }

    /// Several in order; one alone is itself.
    fn several(&mut self, range: TextRange, ids: Vec<Id>) -> Id {
        if let [only] = ids[..] { only } else { self.push(range, Kind::Block(ids)) }
    }

    fn block(&mut self, range: TextRange, body: &[Stmt]) -> Id {
        let ids = body.iter().map(|statement| self.statement(statement)).collect();
        self.several(range, ids)
    }

    fn statement(&mut self, statement: &Stmt) -> Id {
        if self.depth >= self.depth_max {
            self.too_deep = true;
            return self.push(statement.range(), Kind::Block(Vec::new()));
        }
        self.depth += 1;
        let id = self.lowered(statement);
        self.depth -= 1;
        id
    }

    fn lowered(&mut self, statement: &Stmt) -> Id {
        let range = statement.range();
        match statement {
            Stmt::Expr(one) => self.expression(&one.value),
            Stmt::FunctionDef(function) => self.definition(function),
            Stmt::ClassDef(class) => {
                let mut ids = self.decorators(&class.decorator_list);
                if let Some(arguments) = &class.arguments {
                    ids.extend(self.arguments(arguments));
                }
                ids.push(self.block(range, &class.body));
                self.push(range, Kind::Block(ids))
            }
            Stmt::Return(one) => {
                let value = one.value.as_deref().map(|value| self.expression(value));
                self.push(range, Kind::Return(value))
            }
            Stmt::Assign(assign) => {
                let [targets @ .., last] = &assign.targets[..] else { return self.push(range, Kind::Block(vec![])) };
                // `a = b = value` puts it into `b`, and that into `a`.
                let mut id = self.put(range, last, &assign.value);
                for target in targets.iter().rev() {
                    let target = self.target(target);
                    id = self.push(range, Kind::Assign { target, value: id, adds: false, declared: None });
                }
                id
            }
            Stmt::AugAssign(assign) => {
                let (target, value) = (self.target(&assign.target), self.expression(&assign.value));
                self.push(range, Kind::Assign { target, value, adds: true, declared: None })
            }
            Stmt::AnnAssign(assign) => match &assign.value {
                Some(value) => self.put(range, &assign.target, value),
                None => {
                    let target = self.target(&assign.target);
                    self.push(range, Kind::Block(vec![target]))
                }
            },
            Stmt::For(each) => {
                let (target, value) = (self.target(&each.target), self.expression(&each.iter));
                // One of many: what holds for all of them holds for it.
                let value = self.push(range, Kind::Each(value, Vec::new()));
                let assign = self.push(range, Kind::Assign { target, value, adds: false, declared: None });
                let bodies = self.bodies(range, [&each.body[..], &each.orelse[..]]);
                let body = self.push(range, Kind::Branch { condition: None, bodies });
                self.push(range, Kind::Block(vec![assign, body]))
            }
            Stmt::While(while_) => {
                let condition = Some(self.expression(&while_.test));
                let bodies = self.bodies(range, [&while_.body[..], &while_.orelse[..]]);
                self.push(range, Kind::Branch { condition, bodies })
            }
            Stmt::If(if_) => {
                let condition = Some(self.expression(&if_.test));
                let mut bodies = vec![self.block(range, &if_.body)];
                for clause in &if_.elif_else_clauses {
                    let condition = clause.test.as_ref().map(|test| self.expression(test));
                    let body = self.block(clause.range, &clause.body);
                    bodies.push(match condition {
                        Some(_) => self.push(clause.range, Kind::Branch { condition, bodies: vec![body] }),
                        None => body,
                    });
                }
                self.push(range, Kind::Branch { condition, bodies })
            }
            Stmt::With(with) => {
                let mut ids = Vec::new();
                for item in &with.items {
                    let value = self.expression(&item.context_expr);
                    ids.push(match &item.optional_vars {
                        Some(target) => {
                            let target = self.target(target);
                            self.push(item.range, Kind::Assign { target, value, adds: false, declared: None })
                        }
                        None => value,
                    });
                }
                ids.push(self.block(range, &with.body));
                self.push(range, Kind::Block(ids))
            }
            Stmt::Match(match_) => {
                let subject = self.expression(&match_.subject);
                let mut ids = vec![subject];
                for case in &match_.cases {
                    let mut parts = Vec::new();
                    self.pattern(&case.pattern, subject, &mut parts);
                    parts.extend(case.guard.as_deref().map(|guard| self.expression(guard)));
                    parts.push(self.block(case.range, &case.body));
                    ids.push(self.push(case.range, Kind::Block(parts)));
                }
                self.push(range, Kind::Block(ids))
            }
            Stmt::Raise(raise) => {
                let parts = [raise.exc.as_deref(), raise.cause.as_deref()];
                let ids: Vec<Id> = parts.into_iter().flatten().map(|part| self.expression(part)).collect();
                let value = (!ids.is_empty()).then(|| self.several(range, ids));
                self.push(range, Kind::Leave(value))
            }
            Stmt::Break(_) | Stmt::Continue(_) => self.push(range, Kind::Leave(None)),
            Stmt::Try(try_) => {
                let mut ids = vec![self.block(range, &try_.body)];
                for ExceptHandler::ExceptHandler(handler) in &try_.handlers {
                    let mut parts = Vec::new();
                    parts.extend(handler.type_.as_deref().map(|of_type| self.expression(of_type)));
                    parts.push(self.block(handler.range, &handler.body));
                    ids.push(self.several(handler.range, parts));
                }
                for body in [&try_.orelse, &try_.finalbody] {
                    if !body.is_empty() {
                        ids.push(self.block(range, body));
                    }
                }
                self.several(range, ids)
            }
            Stmt::Assert(assert) => {
                let mut ids = vec![self.expression(&assert.test)];
                ids.extend(assert.msg.as_deref().map(|message| self.expression(message)));
                self.several(range, ids)
            }
            Stmt::Delete(delete) => {
                let ids = delete.targets.iter().map(|target| self.expression(target)).collect();
                self.several(range, ids)
            }
            Stmt::Import(import) => {
                let ids = import.names.iter().map(|alias| {
                    let full = self.text(alias.name.range());
                    let (local, path) = match &alias.asname {
                        Some(name) => (self.text(name.range()), full),
                        // `import a.b` binds `a`.
                        None => {
                            let first = full.split('.').next().unwrap_or(full).trim();
                            (first, first)
                        }
                    };
                    self.push(range, Kind::Import { local, path: plain(path) })
                });
                let ids = ids.collect();
                self.push(range, Kind::Block(ids))
            }
            Stmt::ImportFrom(import) => {
                let dots = ".".repeat(usize::try_from(import.level).unwrap_or(0));
                let module = import.module.as_ref().map_or("", |module| self.text(module.range()));
                let module = format!("{dots}{}", plain(module));
                let ids = import.names.iter().map(|alias| {
                    let full = self.text(alias.name.range());
                    if full == "*" {
                        return self.push(range, Kind::Import { local: "*", path: module.clone() });
                    }
                    let local = alias.asname.as_ref().map_or(full, |name| self.text(name.range()));
                    self.push(range, Kind::Import { local, path: format!("{module}.{full}") })
                });
                let ids = ids.collect();
                self.push(range, Kind::Block(ids))
            }
            Stmt::TypeAlias(_) | Stmt::Global(_) | Stmt::Nonlocal(_) | Stmt::Pass(_) | Stmt::IpyEscapeCommand(_) => {
                self.push(range, Kind::Block(Vec::new()))
            }
        }
    }

    fn bodies(&mut self, range: TextRange, bodies: [&[Stmt]; 2]) -> Vec<Id> {
        bodies.into_iter().filter(|body| !body.is_empty()).map(|body| self.block(range, body)).collect()
    }

    /// What `pattern` takes out of `subject`, under the names that it gives.
    fn pattern(&mut self, pattern: &Pattern, subject: Id, ids: &mut Vec<Id>) {
        let range = pattern.range();
        let mut name = |lower: &mut Self, name: Option<&ruff_python_ast::Identifier>| {
            let Some(name) = name else { return };
            let target = lower.push(name.range(), Kind::Name(lower.text(name.range())));
            let value = lower.push(range, Kind::Each(subject, Vec::new()));
            ids.push(lower.push(range, Kind::Assign { target, value, adds: false, declared: None }));
        };
        match pattern {
            Pattern::MatchAs(bound) => {
                name(self, bound.name.as_ref());
                if let Some(inner) = &bound.pattern {
                    self.pattern(inner, subject, ids);
                }
            }
            Pattern::MatchStar(star) => name(self, star.name.as_ref()),
            Pattern::MatchMapping(map) => {
                name(self, map.rest.as_ref());
                map.patterns.iter().for_each(|inner| self.pattern(inner, subject, ids));
            }
            Pattern::MatchSequence(list) => list.patterns.iter().for_each(|inner| self.pattern(inner, subject, ids)),
            Pattern::MatchOr(any) => any.patterns.iter().for_each(|inner| self.pattern(inner, subject, ids)),
            Pattern::MatchClass(class) => {
                class.arguments.patterns.iter().for_each(|inner| self.pattern(inner, subject, ids));
                class.arguments.keywords.iter().for_each(|inner| self.pattern(&inner.pattern, subject, ids));
            }
            Pattern::MatchValue(value) => ids.push(self.expression(&value.value)),
            Pattern::MatchSingleton(_) => {}
        }
    }

    fn decorators(&mut self, list: &[Decorator]) -> Vec<Id> {
        list.iter().map(|decorator| self.expression(&decorator.expression)).collect()
    }

    fn definition(&mut self, function: &StmtFunctionDef) -> Id {
        let range = function.range();
        let mut ids = self.decorators(&function.decorator_list);
        let decorators = match (function.decorator_list.first(), function.decorator_list.last()) {
            (Some(first), Some(last)) => self.text(TextRange::new(first.start(), last.end())),
            _ => "",
        };
        // A default is computed where the function is defined.
        let defaults = function.parameters.iter_non_variadic_params().filter_map(|parameter| parameter.default());
        let defaults: Vec<&Expr> = defaults.filter(|default| !default.is_literal_expr()).collect();
        ids.extend(defaults.into_iter().map(|default| self.expression(default)));
        let parameters = self.parameters(&function.parameters);
        let body = Some(self.block(range, &function.body));
        let name = Some(self.text(function.name.range()));
        let function = Function { name, parameters, body, is_expression: false, decorators };
        ids.push(self.push(range, Kind::Function(Box::new(function))));
        self.several(range, ids)
    }

    fn parameters(&mut self, parameters: &Parameters) -> Vec<Parameter<'s>> {
        let mut result = Vec::new();
        for parameter in parameters {
            let name = parameter.name().range();
            let target = self.push(name, Kind::Name(self.text(name)));
            let declared = parameter.annotation().and_then(|annotation| type_name(self.text(annotation.range())));
            result.push(Parameter { target, declaration: self.text(parameter.range()), declared });
        }
        result
    }

    /// Puts `value` into `target`; several into several when both are lists of one length.
    fn put(&mut self, range: TextRange, target: &Expr, value: &Expr) -> Id {
        if let (Expr::Tuple(targets), Expr::Tuple(values)) = (target, value)
            && targets.elts.len() == values.elts.len()
        {
            let mut ids = Vec::new();
            for (target, value) in targets.elts.iter().zip(&values.elts) {
                let (target, value) = (self.target(target), self.expression(value));
                ids.push(self.push(range, Kind::Assign { target, value, adds: false, declared: None }));
            }
            return self.several(range, ids);
        }
        let (target, value) = (self.target(target), self.expression(value));
        self.push(range, Kind::Assign { target, value, adds: false, declared: None })
    }

    /// What is assigned to: `*rest` is `rest` there.
    fn target(&mut self, target: &Expr) -> Id {
        match target {
            Expr::Starred(starred) => self.expression(&starred.value),
            Expr::Tuple(tuple) => {
                let ids = tuple.elts.iter().map(|target| self.target(target)).collect();
                self.push(tuple.range, Kind::List(ids))
            }
            Expr::List(list) => {
                let ids = list.elts.iter().map(|target| self.target(target)).collect();
                self.push(list.range, Kind::List(ids))
            }
            other => self.expression(other),
        }
    }

    fn expression(&mut self, expression: &Expr) -> Id {
        if self.depth >= self.depth_max {
            self.too_deep = true;
            return self.push(expression.range(), Kind::Block(Vec::new()));
        }
        self.depth += 1;
        let id = self.evaluated(expression);
        self.depth -= 1;
        id
    }

    fn evaluated(&mut self, expression: &Expr) -> Id {
        let range = expression.range();
        let kind = match expression {
            Expr::Name(name) => Kind::Name(self.name(range, &name.id)),
            Expr::NumberLiteral(_) | Expr::BooleanLiteral(_) | Expr::NoneLiteral(_) | Expr::EllipsisLiteral(_) => {
                Kind::Literal(self.text(range))
            }
            Expr::StringLiteral(literal) => {
                let parts = literal.value.iter().map(|part| self.literal(part.range())).collect();
                return self.concatenated(range, parts);
            }
            Expr::BytesLiteral(literal) => {
                let parts = literal.value.iter().map(|part| self.literal(part.range())).collect();
                return self.concatenated(range, parts);
            }
            Expr::FString(text) => {
                let parts = text.value.iter().map(|part| match part {
                    FStringPart::Literal(literal) => self.literal(literal.range()),
                    FStringPart::FString(template) => self.template(template.range(), &template.elements),
                });
                let parts = parts.collect();
                return self.concatenated(range, parts);
            }
            Expr::TString(text) => {
                let parts =
                    text.value.iter().map(|template| self.template(template.range(), &template.elements)).collect();
                return self.concatenated(range, parts);
            }
            Expr::Attribute(member) => {
                let object = self.expression(&member.value);
                Kind::Member(object, Cow::Borrowed(self.name(member.attr.range(), &member.attr.id)))
            }
            Expr::Subscript(subscript) => {
                let object = self.expression(&subscript.value);
                let first = match &*subscript.slice {
                    Expr::Tuple(tuple) if !tuple.parenthesized => tuple.elts.first().unwrap_or(&subscript.slice),
                    slice => slice,
                };
                let key = self.expression(first);
                match self.ir.kind(key) {
                    Kind::Text(text) => Kind::Member(object, text.clone()),
                    _ => Kind::Index(object, key),
                }
            }
            Expr::Call(call) => {
                let callee = self.expression(&call.func);
                let arguments = self.arguments(&call.arguments);
                Kind::Call { callee, arguments }
            }
            Expr::BoolOp(operation) => {
                let ids = operation.values.iter().map(|value| self.expression(value)).collect();
                // One of both is the value.
                Kind::Choice(ids)
            }
            Expr::BinOp(_) => return self.chain(expression),
            Expr::Compare(compare) => {
                let operator = compare.ops.first().map_or("", |operator| operator.as_str());
                let mut ids = vec![self.expression(&compare.left)];
                ids.extend(compare.comparators.iter().map(|operand| self.expression(operand)).collect::<Vec<_>>());
                Kind::Binary(operator, ids)
            }
            Expr::UnaryOp(operation) => {
                let value = self.expression(&operation.operand);
                match operation.op {
                    UnaryOp::UAdd => return value,
                    UnaryOp::Not => Kind::Unary("not", value),
                    UnaryOp::USub => Kind::Unary("-", value),
                    UnaryOp::Invert => Kind::Unary("~", value),
                }
            }
            Expr::If(choice) => {
                let value = self.expression(&choice.body);
                let condition = Some(self.expression(&choice.test));
                let other = self.expression(&choice.orelse);
                let asked = self.push(range, Kind::Branch { condition, bodies: vec![] });
                let value = self.push(range, Kind::Choice(vec![value, other]));
                Kind::Last(vec![asked, value])
            }
            Expr::Named(named) => return self.put(range, &named.target, &named.value),
            Expr::Lambda(lambda) => {
                let parameters =
                    lambda.parameters.as_deref().map(|parameters| self.parameters(parameters)).unwrap_or_default();
                let body = Some(self.expression(&lambda.body));
                let function = Function { name: None, parameters, body, is_expression: true, decorators: "" };
                Kind::Function(Box::new(function))
            }
            Expr::List(list) => Kind::List(self.all(&list.elts)),
            Expr::Tuple(list) => Kind::List(self.all(&list.elts)),
            Expr::Set(list) => Kind::List(self.all(&list.elts)),
            Expr::Dict(map) => {
                let mut ids = Vec::new();
                for item in &map.items {
                    let value = self.expression(&item.value);
                    ids.push(match &item.key {
                        Some(key) => self.pair(key, value),
                        None => self.push(item.value.range(), Kind::Spread(value)),
                    });
                }
                Kind::Map(ids)
            }
            Expr::ListComp(each) => return self.each(range, &each.generators, None, Some(&each.elt)),
            Expr::SetComp(each) => return self.each(range, &each.generators, None, Some(&each.elt)),
            Expr::Generator(each) => return self.each(range, &each.generators, None, Some(&each.elt)),
            Expr::DictComp(each) => {
                return self.each(range, &each.generators, each.key.as_deref(), Some(&each.value));
            }
            Expr::Await(await_) => return self.expression(&await_.value),
            Expr::Yield(yield_) => match &yield_.value {
                Some(value) => return self.expression(value),
                None => Kind::Block(Vec::new()),
            },
            Expr::YieldFrom(yield_) => return self.expression(&yield_.value),
            Expr::Starred(starred) => Kind::Spread(self.expression(&starred.value)),
            Expr::Slice(slice) => {
                let parts = [slice.lower.as_deref(), slice.upper.as_deref(), slice.step.as_deref()];
                let ids: Vec<Id> = parts.into_iter().flatten().map(|part| self.expression(part)).collect();
                return self.several(range, ids);
            }
            Expr::IpyEscapeCommand(_) => Kind::Block(Vec::new()),
        };
        self.push(range, kind)
    }

    fn all(&mut self, list: &[Expr]) -> Vec<Id> {
        list.iter().map(|one| self.expression(one)).collect()
    }

    fn arguments(&mut self, arguments: &Arguments) -> Vec<Id> {
        let mut ids = self.all(&arguments.args);
        for keyword in &arguments.keywords {
            let value = self.expression(&keyword.value);
            let kind = match &keyword.arg {
                Some(name) => Kind::Pair(Cow::Borrowed(self.text(name.range())), value),
                None => Kind::Spread(value),
            };
            ids.push(self.push(keyword.range, kind));
        }
        ids
    }

    fn pair(&mut self, key: &Expr, value: Id) -> Id {
        let id = self.expression(key);
        let name = match self.ir.kind(id) {
            Kind::Text(text) => text.clone(),
            Kind::Member(_, name) => name.clone(),
            _ => Cow::Borrowed(self.text(key.range()).trim_matches(['[', ']', ':', '"', '\''])),
        };
        self.push(key.range(), Kind::Pair(name, value))
    }

    /// Takes the left side of a chain apart in a loop: texts of a hundred lines are added up like that.
    fn chain(&mut self, expression: &Expr) -> Id {
        let (range, mut operands, mut left, mut operator) = (expression.range(), Vec::new(), expression, None);
        while let Expr::BinOp(operation) = left
            && operator.is_none_or(|operator| operator == operation.op)
        {
            operator = Some(operation.op);
            operands.push(&*operation.right);
            left = &operation.left;
        }
        operands.push(left);
        let ids = operands.into_iter().rev().map(|operand| self.expression(operand)).collect();
        self.push(range, Kind::Binary(operator.map_or("", |operator| operator.as_str()), ids))
    }

    fn each(&mut self, range: TextRange, clauses: &[Comprehension], key: Option<&Expr>, value: Option<&Expr>) -> Id {
        let mut ids = Vec::new();
        for clause in clauses {
            let (target, value) = (self.target(&clause.target), self.expression(&clause.iter));
            let value = self.push(clause.range, Kind::Each(value, Vec::new()));
            ids.push(self.push(clause.range, Kind::Assign { target, value, adds: false, declared: None }));
            ids.extend(self.all(&clause.ifs));
        }
        let body = match (key, value) {
            (Some(key), Some(value)) => {
                let value = self.expression(value);
                self.pair(key, value)
            }
            (_, Some(value)) => self.expression(value),
            (_, None) => self.push(range, Kind::Block(Vec::new())),
        };
        self.push(range, Kind::Each(body, ids))
    }

    fn literal(&mut self, range: TextRange) -> Id {
        let (start, end) = content(self.source, range.start().to_usize(), range.end().to_usize(), false);
        let text = self.source.get(start..end).unwrap_or_default();
        self.push(range, Kind::Text(unescaped(text)))
    }

    fn template<'a>(
        &mut self,
        range: TextRange,
        elements: impl IntoIterator<Item = &'a InterpolatedStringElement>,
    ) -> Id {
        let mut parts = Vec::new();
        let mut is_constant = true;
        for element in elements {
            match element {
                InterpolatedStringElement::Literal(literal) => {
                    let kind = Kind::Text(unescaped(self.text(literal.range)));
                    parts.push(self.push(literal.range, kind));
                }
                InterpolatedStringElement::Interpolation(hole) => {
                    is_constant = false;
                    parts.push(self.expression(&hole.expression));
                    // What a format is put together from is text as well.
                    for part in hole.format_spec.iter().flat_map(|format| format.elements.interpolations()) {
                        parts.push(self.expression(&part.expression));
                    }
                }
            }
        }
        if is_constant {
            return self.literal(range);
        }
        self.push(range, Kind::Template(parts))
    }

    /// Texts beside each other are one.
    fn concatenated(&mut self, range: TextRange, parts: Vec<Id>) -> Id {
        if let [only] = parts[..] { only } else { self.push(range, Kind::Binary("+", parts)) }
    }
}

/// Returns a dotted name without the blanks that may stand in it.
fn plain(path: &str) -> String {
    path.split_whitespace().collect()
}
