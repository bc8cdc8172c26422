//! JavaScript and TypeScript from the tree of their exact parser, which is several times faster than the grammar's.
//!
//! What comes out is what the grammar's tree would be lowered to, so that the same rules find the same.

use std::borrow::Cow;

use oxc_ast::ast::{
    Argument, ArrayExpressionElement, AssignmentTarget, AssignmentTargetMaybeDefault, AssignmentTargetPattern,
    AssignmentTargetProperty, BindingPattern, ChainElement, Class, ClassElement, Declaration, Decorator, Directive,
    ExportDefaultDeclarationKind, Expression, ForStatementInit, ForStatementLeft, FormalParameters, FunctionBody,
    ImportDeclaration, ImportDeclarationSpecifier, JSXAttributeItem, JSXAttributeValue, JSXChild, JSXElement,
    JSXElementName, JSXExpression, JSXFragment, JSXMemberExpression, JSXMemberExpressionObject, MemberExpression,
    ObjectPropertyKind, PropertyKey, PropertyKind, SimpleAssignmentTarget, Statement, StringLiteral,
    TSModuleDeclarationBody, TSModuleReference, TSThisParameter, TSTypeAnnotation, TemplateElement, TemplateLiteral,
    VariableDeclaration,
};
use oxc_ast::{
    match_assignment_target, match_assignment_target_pattern, match_declaration, match_expression,
    match_member_expression, match_simple_assignment_target,
};
use oxc_span::{GetSpan, Span};

use super::imports::script_module;
use super::string::{content, unescaped};
use super::{TooDeep, plain_name, type_name};
use crate::check::security::ir::{Function, Id, Ir, Kind, Node, Parameter};
use crate::check::trees::script::Script;

/// Lowers `source`, parsed; nothing where it cannot be parsed, for then the grammar sees more.
///
/// # Errors
///
/// [`TooDeep`] when it nests deeper than `depth_max`.
pub fn lower<'s>(script: &Script, source: &'s str, depth_max: usize) -> Result<Option<(Ir<'s>, Id)>, TooDeep> {
    if !script.faults().is_empty() {
        return Ok(None);
    }
    let program = script.program();
    let has_types = program.source_type.is_typescript();
    let mut lower = Lower { source, has_types, ir: Ir::default(), depth: 0, depth_max, too_deep: false };
    let root = lower.body(program.span, &program.directives, &program.body);
    if lower.too_deep { Err(TooDeep) } else { Ok(Some((lower.ir, root))) }
}

struct Lower<'s> {
    source: &'s str,
    has_types: bool,
    ir: Ir<'s>,
    depth: usize,
    depth_max: usize,
    too_deep: bool,
}

/// What a function is made of, beside its name.
struct Parts<'b, 'a> {
    this: Option<&'b TSThisParameter<'a>>,
    parameters: &'b FormalParameters<'a>,
    body: &'b FunctionBody<'a>,
    is_expression: bool,
}

impl<'s> Lower<'s> {
    fn text(&self, span: Span) -> &'s str {
        self.source.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Returns a name as it is read: `\u0065val` is `eval`.
    fn name(&self, span: Span, read: &str) -> &'s str {
        let text = self.text(span);
        if text == read { text } else { plain_name(read).unwrap_or(text) }
    }

    fn push(&mut self, span: Span, kind: Kind<'s>) -> Id {
        self.ir.nodes.push(Node { start: span.start as usize, end: span.end as usize, kind });
        self.ir.nodes.len() - 1
    }

    fn push_name(&mut self, span: Span, read: &str) -> Id {
        let name = self.name(span, read);
        self.push(span, Kind::Name(name))
    }

    fn nothing(&mut self, span: Span) -> Id {
        self.push(span, Kind::Block(Vec::new()))
    }

    /// Several in order; one alone is itself.
    fn several(&mut self, span: Span, ids: Vec<Id>) -> Id {
        if let [only] = ids[..] { only } else { self.push(span, Kind::Block(ids)) }
    }

    fn block(&mut self, span: Span, body: &[Statement<'_>]) -> Id {
        self.body(span, &[], body)
    }

    fn body(&mut self, span: Span, directives: &[Directive<'_>], body: &[Statement<'_>]) -> Id {
        let mut ids: Vec<Id> = directives.iter().map(|directive| self.string(&directive.expression)).collect();
        for statement in body {
            ids.push(self.statement(statement));
        }
        self.several(span, ids)
    }

    /// Lowers what nests, as far down as is allowed.
    fn deeper(&mut self, span: Span, lower: impl FnOnce(&mut Self) -> Id) -> Id {
        if self.depth >= self.depth_max {
            self.too_deep = true;
            return self.nothing(span);
        }
        self.depth += 1;
        let id = lower(self);
        self.depth -= 1;
        id
    }

    fn statement(&mut self, statement: &Statement<'_>) -> Id {
        self.deeper(statement.span(), |lower| lower.lowered(statement))
    }

    fn lowered(&mut self, statement: &Statement<'_>) -> Id {
        let span = statement.span();
        match statement {
            Statement::ExpressionStatement(one) => self.expression(&one.expression),
            Statement::BlockStatement(block) => self.block(span, &block.body),
            Statement::ReturnStatement(one) => {
                let value = one.argument.as_ref().map(|value| self.expression(value));
                self.push(span, Kind::Return(value))
            }
            Statement::ThrowStatement(throw) => {
                let value = self.expression(&throw.argument);
                self.push(span, Kind::Leave(Some(value)))
            }
            Statement::BreakStatement(_) | Statement::ContinueStatement(_) => self.push(span, Kind::Leave(None)),
            Statement::IfStatement(if_) => {
                let condition = Some(self.expression(&if_.test));
                let mut bodies = vec![self.statement(&if_.consequent)];
                bodies.extend(if_.alternate.as_ref().map(|other| self.statement(other)));
                self.push(span, Kind::Branch { condition, bodies })
            }
            Statement::WhileStatement(while_) => {
                let condition = Some(self.expression(&while_.test));
                let bodies = vec![self.statement(&while_.body)];
                self.push(span, Kind::Branch { condition, bodies })
            }
            Statement::DoWhileStatement(do_) => {
                let ids = vec![self.statement(&do_.body), self.expression(&do_.test)];
                self.push(span, Kind::Block(ids))
            }
            Statement::ForStatement(for_) => {
                let mut ids = Vec::new();
                ids.extend(for_.init.as_ref().map(|first| match first {
                    ForStatementInit::VariableDeclaration(declaration) => self.variables(declaration),
                    init @ match_expression!(ForStatementInit) => self.expression(init.to_expression()),
                }));
                ids.extend(for_.test.as_ref().map(|test| self.expression(test)));
                ids.extend(for_.update.as_ref().map(|update| self.expression(update)));
                ids.push(self.statement(&for_.body));
                self.push(span, Kind::Block(ids))
            }
            Statement::ForInStatement(each) => self.iterate(span, &each.left, &each.right, &each.body),
            Statement::ForOfStatement(each) => self.iterate(span, &each.left, &each.right, &each.body),
            Statement::SwitchStatement(switch) => {
                let mut ids = vec![self.expression(&switch.discriminant)];
                for case in &switch.cases {
                    let mut parts = Vec::new();
                    parts.extend(case.test.as_ref().map(|test| self.expression(test)));
                    parts.push(self.block(case.span, &case.consequent));
                    ids.push(self.push(case.span, Kind::Block(parts)));
                }
                self.push(span, Kind::Block(ids))
            }
            Statement::TryStatement(try_) => {
                let mut ids = vec![self.block(try_.block.span, &try_.block.body)];
                if let Some(handler) = &try_.handler {
                    let mut parts = Vec::new();
                    if let Some(parameter) = &handler.param {
                        let mut defaults = Vec::new();
                        parts.push(self.pattern(&parameter.pattern, &mut defaults));
                        parts.extend(defaults);
                    }
                    parts.push(self.block(handler.body.span, &handler.body.body));
                    ids.push(self.several(handler.span, parts));
                }
                ids.extend(try_.finalizer.as_ref().map(|last| self.block(last.span, &last.body)));
                self.several(span, ids)
            }
            Statement::LabeledStatement(labeled) => self.statement(&labeled.body),
            Statement::WithStatement(with) => {
                let ids = vec![self.expression(&with.object), self.statement(&with.body)];
                self.push(span, Kind::Block(ids))
            }
            Statement::DebuggerStatement(_) | Statement::EmptyStatement(_) => self.nothing(span),
            declaration @ match_declaration!(Statement) => self.declaration(declaration.to_declaration()),
            Statement::ImportDeclaration(import) => self.import(import),
            Statement::ExportNamedDeclaration(export) => match &export.declaration {
                Some(declaration) => self.declaration(declaration),
                None => self.nothing(span),
            },
            Statement::ExportDefaultDeclaration(export) => match &export.declaration {
                ExportDefaultDeclarationKind::FunctionDeclaration(function) => self.function_of(function),
                ExportDefaultDeclarationKind::ClassDeclaration(class) => self.class(class),
                ExportDefaultDeclarationKind::TSInterfaceDeclaration(_) => self.nothing(span),
                value @ match_expression!(ExportDefaultDeclarationKind) => self.expression(value.to_expression()),
            },
            Statement::TSExportAssignment(export) => self.expression(&export.expression),
            Statement::ExportAllDeclaration(_) | Statement::TSNamespaceExportDeclaration(_) => self.nothing(span),
        }
    }

    fn declaration(&mut self, declaration: &Declaration<'_>) -> Id {
        let span = declaration.span();
        match declaration {
            Declaration::VariableDeclaration(variables) => self.variables(variables),
            Declaration::FunctionDeclaration(function) => self.function_of(function),
            Declaration::ClassDeclaration(class) => self.class(class),
            Declaration::TSEnumDeclaration(several) => {
                let values = several.body.members.iter().filter_map(|member| member.initializer.as_ref());
                let ids = values.map(|value| self.expression(value)).collect();
                self.push(span, Kind::Block(ids))
            }
            Declaration::TSModuleDeclaration(module) => {
                let mut body = module.body.as_ref();
                // `namespace a.b` is one in the other.
                while let Some(TSModuleDeclarationBody::TSModuleDeclaration(inner)) = body {
                    body = inner.body.as_ref();
                }
                match body {
                    Some(TSModuleDeclarationBody::TSModuleBlock(block)) => {
                        self.body(block.span, &block.directives, &block.body)
                    }
                    _ => self.nothing(span),
                }
            }
            Declaration::TSGlobalDeclaration(global) => self.block(span, &global.body.body),
            Declaration::TSImportEqualsDeclaration(import) => match &import.module_reference {
                TSModuleReference::ExternalModuleReference(module) => {
                    let local = self.name(import.id.span, &import.id.name);
                    self.push(span, Kind::Import { local, path: script_module(&module.expression.value) })
                }
                TSModuleReference::IdentifierReference(_) | TSModuleReference::QualifiedName(_) => self.nothing(span),
            },
            Declaration::TSTypeAliasDeclaration(_) | Declaration::TSInterfaceDeclaration(_) => self.nothing(span),
        }
    }

    fn import(&mut self, import: &ImportDeclaration<'_>) -> Id {
        let module = script_module(&import.source.value);
        let mut ids = Vec::new();
        for specifier in import.specifiers.iter().flatten() {
            let (local, path) = match specifier {
                ImportDeclarationSpecifier::ImportSpecifier(one) => {
                    let name = one.imported.name();
                    let path = if name == "default" { module.clone() } else { format!("{module}.{name}") };
                    (&one.local, path)
                }
                ImportDeclarationSpecifier::ImportDefaultSpecifier(one) => (&one.local, module.clone()),
                ImportDeclarationSpecifier::ImportNamespaceSpecifier(one) => (&one.local, module.clone()),
            };
            let local = self.name(local.span, &local.name);
            ids.push(self.push(import.span, Kind::Import { local, path }));
        }
        self.push(import.span, Kind::Block(ids))
    }

    fn variables(&mut self, declaration: &VariableDeclaration<'_>) -> Id {
        let mut ids = Vec::new();
        for one in &declaration.declarations {
            let target = self.pattern(&one.id, &mut ids);
            let value = match &one.init {
                Some(value) => self.expression(value),
                None => self.nothing(one.span),
            };
            let declared = self.declared(one.type_annotation.as_deref());
            ids.push(self.push(one.span, Kind::Assign { target, value, adds: false, declared }));
        }
        self.several(declaration.span, ids)
    }

    fn declared(&self, annotation: Option<&TSTypeAnnotation<'_>>) -> Option<&'s str> {
        annotation.and_then(|annotation| type_name(self.text(annotation.span)))
    }

    /// A loop over `right` with `left` for each.
    fn iterate(&mut self, span: Span, left: &ForStatementLeft<'_>, right: &Expression<'_>, body: &Statement<'_>) -> Id {
        let mut ids = Vec::new();
        let target = match left {
            ForStatementLeft::VariableDeclaration(declaration) => match declaration.declarations.first() {
                Some(one) => self.pattern(&one.id, &mut ids),
                None => self.nothing(span),
            },
            left @ match_assignment_target!(ForStatementLeft) => self.target(left.to_assignment_target(), &mut ids),
        };
        let value = self.expression(right);
        // One of many: what holds for all of them holds for it.
        let value = self.push(span, Kind::Each(value, Vec::new()));
        ids.push(self.push(span, Kind::Assign { target, value, adds: false, declared: None }));
        let bodies = vec![self.statement(body)];
        ids.push(self.push(span, Kind::Branch { condition: None, bodies }));
        self.push(span, Kind::Block(ids))
    }

    fn function_of(&mut self, function: &oxc_ast::ast::Function<'_>) -> Id {
        let name = function.id.as_ref().map(|id| self.name(id.span, &id.name));
        self.named_function(function.span, name, function)
    }

    fn named_function(&mut self, span: Span, name: Option<&'s str>, function: &oxc_ast::ast::Function<'_>) -> Id {
        let Some(body) = &function.body else { return self.nothing(span) };
        let this = function.this_param.as_deref();
        self.function(span, name, &Parts { this, parameters: &function.params, body, is_expression: false })
    }

    fn function(&mut self, span: Span, name: Option<&'s str>, parts: &Parts<'_, '_>) -> Id {
        let (mut parameters, mut defaults) = (Vec::new(), Vec::new());
        if let Some(this) = parts.this {
            let target = self.push(this.this_span, Kind::Name("this"));
            parameters.push(Parameter { target, declaration: self.text(this.span), declared: None });
        }
        for one in &parts.parameters.items {
            let target = self.pattern(&one.pattern, &mut defaults);
            if let Some(value) = &one.initializer {
                self.default(value, &mut defaults);
            }
            // What a framework puts there is said by a decorator.
            let start = one.decorators.first().map_or(one.span.start, |first| first.span.start.min(one.span.start));
            let declaration = self.text(Span::new(start, one.span.end));
            parameters.push(Parameter { target, declaration, declared: self.declared(one.type_annotation.as_deref()) });
        }
        if let Some(rest) = &parts.parameters.rest {
            let target = self.pattern(&rest.rest.argument, &mut defaults);
            let target = self.push(rest.rest.span, Kind::Spread(target));
            parameters.push(Parameter { target, declaration: self.text(rest.span), declared: None });
        }
        let mut body = match (&parts.body.statements[..], parts.is_expression) {
            ([Statement::ExpressionStatement(value)], true) => self.expression(&value.expression),
            (statements, _) => self.body(parts.body.span, &parts.body.directives, statements),
        };
        // A default is computed when the function is called.
        if !defaults.is_empty() {
            defaults.push(body);
            let kind = if parts.is_expression { Kind::Last(defaults) } else { Kind::Block(defaults) };
            body = self.push(parts.body.span, kind);
        }
        let function =
            Function { name, parameters, body: Some(body), is_expression: parts.is_expression, decorators: "" };
        self.push(span, Kind::Function(Box::new(function)))
    }

    /// Keeps the default `value` to be looked at, unless there is nothing in it.
    fn default(&mut self, value: &Expression<'_>, defaults: &mut Vec<Id>) {
        let is_plain = match value {
            Expression::ObjectExpression(map) => map.properties.is_empty(),
            Expression::ArrayExpression(list) => list.elements.is_empty(),
            Expression::Identifier(_) => true,
            value => value.is_literal(),
        };
        if !is_plain {
            defaults.push(self.expression(value));
        }
    }

    /// What is declared: `...rest` is a spread, an entry with a default is that entry.
    fn pattern(&mut self, pattern: &BindingPattern<'_>, defaults: &mut Vec<Id>) -> Id {
        let span = pattern.span();
        match pattern {
            BindingPattern::BindingIdentifier(name) => self.push_name(span, &name.name),
            BindingPattern::ObjectPattern(map) => {
                let mut ids = Vec::new();
                for property in &map.properties {
                    let value = self.pattern(&property.value, defaults);
                    ids.push(self.pair(property.span, &property.key, value));
                }
                if let Some(rest) = &map.rest {
                    let inner = self.pattern(&rest.argument, defaults);
                    ids.push(self.push(rest.span, Kind::Spread(inner)));
                }
                self.push(span, Kind::Map(ids))
            }
            BindingPattern::ArrayPattern(list) => {
                let mut ids: Vec<Id> =
                    list.elements.iter().flatten().map(|element| self.pattern(element, defaults)).collect();
                if let Some(rest) = &list.rest {
                    let inner = self.pattern(&rest.argument, defaults);
                    ids.push(self.push(rest.span, Kind::Spread(inner)));
                }
                self.push(span, Kind::List(ids))
            }
            BindingPattern::AssignmentPattern(assignment) => {
                self.default(&assignment.right, defaults);
                self.pattern(&assignment.left, defaults)
            }
        }
    }

    /// What is assigned to.
    fn target(&mut self, target: &AssignmentTarget<'_>, defaults: &mut Vec<Id>) -> Id {
        match target {
            target @ match_simple_assignment_target!(AssignmentTarget) => {
                self.simple_target(target.to_simple_assignment_target())
            }
            target @ match_assignment_target_pattern!(AssignmentTarget) => {
                self.target_pattern(target.to_assignment_target_pattern(), defaults)
            }
        }
    }

    fn simple_target(&mut self, target: &SimpleAssignmentTarget<'_>) -> Id {
        match target {
            SimpleAssignmentTarget::AssignmentTargetIdentifier(name) => self.push_name(name.span, &name.name),
            SimpleAssignmentTarget::TSAsExpression(cast) => self.expression(&cast.expression),
            SimpleAssignmentTarget::TSSatisfiesExpression(cast) => self.expression(&cast.expression),
            SimpleAssignmentTarget::TSNonNullExpression(cast) => self.expression(&cast.expression),
            SimpleAssignmentTarget::TSTypeAssertion(cast) => self.expression(&cast.expression),
            member @ match_member_expression!(SimpleAssignmentTarget) => self.member(member.to_member_expression()),
        }
    }

    fn target_pattern(&mut self, target: &AssignmentTargetPattern<'_>, defaults: &mut Vec<Id>) -> Id {
        match target {
            AssignmentTargetPattern::ArrayAssignmentTarget(list) => {
                let mut ids: Vec<Id> =
                    list.elements.iter().flatten().map(|element| self.target_or_default(element, defaults)).collect();
                if let Some(rest) = &list.rest {
                    let inner = self.target(&rest.target, defaults);
                    ids.push(self.push(rest.span, Kind::Spread(inner)));
                }
                self.push(list.span, Kind::List(ids))
            }
            AssignmentTargetPattern::ObjectAssignmentTarget(map) => {
                let mut ids = Vec::new();
                for property in &map.properties {
                    ids.push(match property {
                        AssignmentTargetProperty::AssignmentTargetPropertyIdentifier(one) => {
                            if let Some(value) = &one.init {
                                self.default(value, defaults);
                            }
                            let name = self.name(one.binding.span, &one.binding.name);
                            let value = self.push(one.binding.span, Kind::Name(name));
                            self.push(one.span, Kind::Pair(Cow::Borrowed(name), value))
                        }
                        AssignmentTargetProperty::AssignmentTargetPropertyProperty(one) => {
                            let value = self.target_or_default(&one.binding, defaults);
                            self.pair(one.span, &one.name, value)
                        }
                    });
                }
                if let Some(rest) = &map.rest {
                    let inner = self.target(&rest.target, defaults);
                    ids.push(self.push(rest.span, Kind::Spread(inner)));
                }
                self.push(map.span, Kind::Map(ids))
            }
        }
    }

    fn target_or_default(&mut self, target: &AssignmentTargetMaybeDefault<'_>, defaults: &mut Vec<Id>) -> Id {
        match target {
            AssignmentTargetMaybeDefault::AssignmentTargetWithDefault(one) => {
                self.default(&one.init, defaults);
                self.target(&one.binding, defaults)
            }
            target @ match_assignment_target!(AssignmentTargetMaybeDefault) => {
                self.target(target.to_assignment_target(), defaults)
            }
        }
    }

    fn decorators(&mut self, list: &[Decorator<'_>]) -> Vec<Id> {
        list.iter().map(|decorator| self.expression(&decorator.expression)).collect()
    }

    fn class(&mut self, class: &Class<'_>) -> Id {
        let mut ids = self.decorators(&class.decorators);
        if let Some(parent) = &class.super_class
            && !matches!(parent, Expression::Identifier(_))
        {
            ids.push(self.expression(parent));
        }
        let mut parts = Vec::new();
        for element in &class.body.body {
            self.element(element, &mut parts);
        }
        ids.push(self.several(class.body.span, parts));
        self.push(class.span, Kind::Block(ids))
    }

    fn element(&mut self, element: &ClassElement<'_>, ids: &mut Vec<Id>) {
        let span = element.span();
        match element {
            ClassElement::StaticBlock(block) => ids.push(self.block(span, &block.body)),
            ClassElement::MethodDefinition(method) => {
                ids.extend(self.decorators(&method.decorators));
                let name = self.key_name(&method.key);
                ids.push(self.named_function(span, Some(name), &method.value));
            }
            ClassElement::PropertyDefinition(field) => {
                ids.extend(self.decorators(&field.decorators));
                self.field(span, &field.key, field.type_annotation.as_deref(), field.value.as_ref(), ids);
            }
            ClassElement::AccessorProperty(field) => {
                ids.extend(self.decorators(&field.decorators));
                self.field(span, &field.key, field.type_annotation.as_deref(), field.value.as_ref(), ids);
            }
            ClassElement::TSIndexSignature(_) => ids.push(self.nothing(span)),
        }
    }

    fn field(
        &mut self,
        span: Span,
        key: &PropertyKey<'_>,
        annotation: Option<&TSTypeAnnotation<'_>>,
        value: Option<&Expression<'_>>,
        ids: &mut Vec<Id>,
    ) {
        let target = self.key(key);
        let value = value.map(|value| self.expression(value));
        // Without types a field is no name of its own: nothing but its object leads to it.
        if !self.has_types {
            let parts = [Some(target), value].into_iter().flatten().collect();
            ids.push(self.several(span, parts));
            return;
        }
        let value = value.unwrap_or_else(|| self.nothing(span));
        let declared = self.declared(annotation);
        ids.push(self.push(span, Kind::Assign { target, value, adds: false, declared }));
    }

    fn key(&mut self, key: &PropertyKey<'_>) -> Id {
        match key {
            PropertyKey::StaticIdentifier(name) => self.push_name(name.span, &name.name),
            PropertyKey::PrivateIdentifier(name) => {
                let text = self.text(name.span);
                self.push(name.span, Kind::Name(text))
            }
            key @ match_expression!(PropertyKey) => self.expression(key.to_expression()),
        }
    }

    fn key_name(&self, key: &PropertyKey<'_>) -> &'s str {
        match key {
            PropertyKey::StaticIdentifier(name) => self.name(name.span, &name.name),
            key => self.text(key.span()).trim_matches(['"', '\'']),
        }
    }

    fn pair(&mut self, span: Span, key: &PropertyKey<'_>, value: Id) -> Id {
        let name = match key {
            PropertyKey::StaticIdentifier(name) => Cow::Borrowed(self.name(name.span, &name.name)),
            key => {
                let id = self.key(key);
                match self.ir.kind(id) {
                    Kind::Text(text) => text.clone(),
                    // A computed key is known by its last part.
                    Kind::Member(_, name) => name.clone(),
                    _ => Cow::Borrowed(self.text(key.span()).trim_matches(['[', ']', ':', '"', '\''])),
                }
            }
        };
        self.push(span, Kind::Pair(name, value))
    }

    fn expression(&mut self, expression: &Expression<'_>) -> Id {
        self.deeper(expression.span(), |lower| lower.evaluated(expression))
    }

    fn evaluated(&mut self, expression: &Expression<'_>) -> Id {
        let span = expression.span();
        let kind = match expression {
            Expression::BooleanLiteral(_)
            | Expression::NullLiteral(_)
            | Expression::NumericLiteral(_)
            | Expression::BigIntLiteral(_)
            | Expression::RegExpLiteral(_) => Kind::Literal(self.text(span)),
            Expression::StringLiteral(literal) => return self.string(literal),
            Expression::TemplateLiteral(template) => return self.template(template),
            Expression::Identifier(name) => Kind::Name(self.name(span, &name.name)),
            Expression::Super(_) | Expression::ThisExpression(_) => Kind::Name(self.text(span)),
            Expression::MetaProperty(_) => Kind::Block(Vec::new()),
            Expression::ArrayExpression(list) => {
                let mut ids = Vec::new();
                for element in &list.elements {
                    match element {
                        ArrayExpressionElement::SpreadElement(spread) => {
                            let inner = self.expression(&spread.argument);
                            ids.push(self.push(spread.span, Kind::Spread(inner)));
                        }
                        ArrayExpressionElement::Elision(_) => {}
                        one @ match_expression!(ArrayExpressionElement) => {
                            ids.push(self.expression(one.to_expression()));
                        }
                    }
                }
                Kind::List(ids)
            }
            Expression::ObjectExpression(map) => {
                let ids = map.properties.iter().map(|property| self.property(property)).collect();
                Kind::Map(ids)
            }
            Expression::ArrowFunctionExpression(arrow) => {
                let (parameters, body, is_expression) = (&*arrow.params, &*arrow.body, arrow.expression);
                return self.function(span, None, &Parts { this: None, parameters, body, is_expression });
            }
            Expression::FunctionExpression(function) => return self.function_of(function),
            Expression::ClassExpression(class) => return self.class(class),
            Expression::AssignmentExpression(assignment) => {
                let mut ids = Vec::new();
                let target = self.target(&assignment.left, &mut ids);
                let value = self.expression(&assignment.right);
                let adds = !assignment.operator.is_assign();
                let kind = Kind::Assign { target, value, adds, declared: None };
                if ids.is_empty() {
                    kind
                } else {
                    ids.push(self.push(span, kind));
                    Kind::Last(ids)
                }
            }
            Expression::BinaryExpression(_) => return self.chain(expression),
            Expression::LogicalExpression(_) => return self.choice(expression),
            Expression::CallExpression(call) => {
                let callee = self.expression(&call.callee);
                let arguments = self.arguments(&call.arguments);
                Kind::Call { callee, arguments }
            }
            Expression::NewExpression(call) => {
                let callee = self.expression(&call.callee);
                let arguments = self.arguments(&call.arguments);
                Kind::Call { callee, arguments }
            }
            Expression::V8IntrinsicExpression(call) => {
                let callee = self.push_name(call.name.span, &call.name.name);
                let arguments = self.arguments(&call.arguments);
                Kind::Call { callee, arguments }
            }
            Expression::ImportExpression(import) => {
                let word = Span::sized(span.start, 6);
                let callee = self.push(word, Kind::Name("import"));
                let mut arguments = vec![self.expression(&import.source)];
                arguments.extend(import.options.as_ref().map(|options| self.expression(options)));
                Kind::Call { callee, arguments }
            }
            Expression::TaggedTemplateExpression(tagged) => {
                let callee = self.expression(&tagged.tag);
                let template = self.template(&tagged.quasi);
                // A tag gets the texts and the values apart, so what it is given is no built string.
                let arguments = vec![self.push(span, Kind::Spread(template))];
                Kind::Call { callee, arguments }
            }
            Expression::ChainExpression(chain) => match &chain.expression {
                ChainElement::CallExpression(call) => {
                    let callee = self.expression(&call.callee);
                    let arguments = self.arguments(&call.arguments);
                    Kind::Call { callee, arguments }
                }
                ChainElement::TSNonNullExpression(inner) => return self.expression(&inner.expression),
                member @ match_member_expression!(ChainElement) => return self.member(member.to_member_expression()),
            },
            Expression::ConditionalExpression(choice) => {
                let condition = Some(self.expression(&choice.test));
                let ids = vec![self.expression(&choice.consequent), self.expression(&choice.alternate)];
                let value = self.push(span, Kind::Choice(ids));
                let asked = self.push(span, Kind::Branch { condition, bodies: vec![] });
                Kind::Last(vec![asked, value])
            }
            Expression::SequenceExpression(several) => {
                let ids = several.expressions.iter().map(|one| self.expression(one)).collect();
                Kind::Last(ids)
            }
            Expression::UnaryExpression(operation) => {
                let value = self.expression(&operation.argument);
                match operation.operator.as_str() {
                    "+" => return value,
                    operator => Kind::Unary(operator, value),
                }
            }
            Expression::UpdateExpression(update) => return self.simple_target(&update.argument),
            Expression::PrivateInExpression(operation) => {
                let name = self.text(operation.left.span);
                let ids = vec![self.push(operation.left.span, Kind::Name(name)), self.expression(&operation.right)];
                Kind::Binary("in", ids)
            }
            Expression::YieldExpression(yield_) => match &yield_.argument {
                Some(value) => return self.expression(value),
                None => Kind::Block(Vec::new()),
            },
            Expression::AwaitExpression(inner) => return self.expression(&inner.argument),
            Expression::ParenthesizedExpression(inner) => return self.expression(&inner.expression),
            Expression::TSAsExpression(inner) => return self.expression(&inner.expression),
            Expression::TSSatisfiesExpression(inner) => return self.expression(&inner.expression),
            Expression::TSTypeAssertion(inner) => return self.expression(&inner.expression),
            Expression::TSNonNullExpression(inner) => return self.expression(&inner.expression),
            Expression::TSInstantiationExpression(inner) => return self.expression(&inner.expression),
            Expression::JSXElement(element) => return self.element_of_page(element),
            Expression::JSXFragment(fragment) => return self.fragment(fragment),
            member @ match_member_expression!(Expression) => return self.member(member.to_member_expression()),
        };
        self.push(span, kind)
    }

    fn property(&mut self, property: &ObjectPropertyKind<'_>) -> Id {
        match property {
            ObjectPropertyKind::SpreadProperty(spread) => {
                let inner = self.expression(&spread.argument);
                self.push(spread.span, Kind::Spread(inner))
            }
            ObjectPropertyKind::ObjectProperty(one) => match &one.value {
                Expression::FunctionExpression(function) if one.method || one.kind != PropertyKind::Init => {
                    let name = self.key_name(&one.key);
                    self.named_function(one.span, Some(name), function)
                }
                value => {
                    let value = self.expression(value);
                    self.pair(one.span, &one.key, value)
                }
            },
        }
    }

    fn member(&mut self, member: &MemberExpression<'_>) -> Id {
        let span = member.span();
        let object = self.expression(member.object());
        let kind = match member {
            MemberExpression::StaticMemberExpression(one) => {
                Kind::Member(object, Cow::Borrowed(self.name(one.property.span, &one.property.name)))
            }
            MemberExpression::PrivateFieldExpression(one) => {
                Kind::Member(object, Cow::Borrowed(self.text(one.field.span).trim_start_matches('#')))
            }
            MemberExpression::ComputedMemberExpression(one) => {
                let key = self.expression(&one.expression);
                match self.ir.kind(key) {
                    Kind::Text(text) => Kind::Member(object, text.clone()),
                    _ => Kind::Index(object, key),
                }
            }
        };
        self.push(span, kind)
    }

    fn arguments(&mut self, arguments: &[Argument<'_>]) -> Vec<Id> {
        let mut ids = Vec::with_capacity(arguments.len());
        for argument in arguments {
            ids.push(match argument {
                Argument::SpreadElement(spread) => {
                    let inner = self.expression(&spread.argument);
                    self.push(spread.span, Kind::Spread(inner))
                }
                one @ match_expression!(Argument) => self.expression(one.to_expression()),
            });
        }
        ids
    }

    /// Takes the left side of a chain apart in a loop: texts of a hundred lines are added up like that.
    fn chain(&mut self, expression: &Expression<'_>) -> Id {
        let (mut operands, mut left, mut operator) = (Vec::new(), expression, None);
        while let Expression::BinaryExpression(operation) = left
            && operator.is_none_or(|operator| operator == operation.operator)
        {
            operator = Some(operation.operator);
            operands.push(&operation.right);
            left = &operation.left;
        }
        operands.push(left);
        let ids = operands.into_iter().rev().map(|operand| self.expression(operand)).collect();
        self.push(expression.span(), Kind::Binary(operator.map_or("", |operator| operator.as_str()), ids))
    }

    /// One of both is the value.
    fn choice(&mut self, expression: &Expression<'_>) -> Id {
        let (mut operands, mut left, mut operator) = (Vec::new(), expression, None);
        while let Expression::LogicalExpression(operation) = left
            && operator.is_none_or(|operator| operator == operation.operator)
        {
            operator = Some(operation.operator);
            operands.push(&operation.right);
            left = &operation.left;
        }
        operands.push(left);
        let ids = operands.into_iter().rev().map(|operand| self.expression(operand)).collect();
        self.push(expression.span(), Kind::Choice(ids))
    }

    fn string(&mut self, literal: &StringLiteral<'_>) -> Id {
        let (start, end) = content(self.source, literal.span.start as usize, literal.span.end as usize, false);
        let raw = self.source.get(start..end).unwrap_or_default();
        let text = if raw.contains('\\') { Cow::Owned(literal.value.to_string()) } else { Cow::Borrowed(raw) };
        self.push(literal.span, Kind::Text(text))
    }

    fn template(&mut self, template: &TemplateLiteral<'_>) -> Id {
        let mut parts = Vec::new();
        let mut holes = template.expressions.iter();
        if template.expressions.is_empty() {
            let text = template.quasis.first().map(|quasi| self.piece(quasi)).unwrap_or_default();
            return self.push(template.span, Kind::Text(text));
        }
        for quasi in &template.quasis {
            let text = self.piece(quasi);
            if !text.is_empty() {
                parts.push(self.push(quasi.span, Kind::Text(text)));
            }
            parts.extend(holes.next().map(|hole| self.expression(hole)));
        }
        self.push(template.span, Kind::Template(parts))
    }

    fn piece(&self, quasi: &TemplateElement<'_>) -> Cow<'s, str> {
        let raw = self.text(quasi.span);
        match &quasi.value.cooked {
            Some(text) if raw.contains('\\') => Cow::Owned(text.to_string()),
            _ => unescaped(raw),
        }
    }

    fn element_of_page(&mut self, element: &JSXElement<'_>) -> Id {
        self.deeper(element.span, |lower| lower.page(element))
    }

    fn page(&mut self, element: &JSXElement<'_>) -> Id {
        let opening = &element.opening_element;
        let mut parts = vec![self.element_name(&opening.name)];
        for attribute in &opening.attributes {
            parts.push(match attribute {
                JSXAttributeItem::Attribute(one) => {
                    let name = self.text(one.name.span());
                    let value = match &one.value {
                        Some(JSXAttributeValue::StringLiteral(text)) => self.string(text),
                        Some(JSXAttributeValue::ExpressionContainer(hole)) => self.hole(hole.span, &hole.expression),
                        Some(JSXAttributeValue::Element(inner)) => self.element_of_page(inner),
                        Some(JSXAttributeValue::Fragment(inner)) => self.fragment(inner),
                        None => self.nothing(one.span),
                    };
                    self.push(one.span, Kind::Pair(Cow::Borrowed(name), value))
                }
                JSXAttributeItem::SpreadAttribute(spread) => {
                    let inner = self.expression(&spread.argument);
                    self.push(spread.span, Kind::Spread(inner))
                }
            });
        }
        let first = self.several(opening.span, parts);
        if element.closing_element.is_none() {
            return first;
        }
        let mut ids = vec![first];
        self.children(&element.children, &mut ids);
        // As many parts as the grammar has: what has only one is that one.
        ids.push(self.element_name(&opening.name));
        self.push(element.span, Kind::Block(ids))
    }

    fn fragment(&mut self, fragment: &JSXFragment<'_>) -> Id {
        self.deeper(fragment.span, |lower| {
            let mut ids = vec![lower.nothing(fragment.opening_fragment.span)];
            lower.children(&fragment.children, &mut ids);
            ids.push(lower.nothing(fragment.closing_fragment.span));
            lower.push(fragment.span, Kind::Block(ids))
        })
    }

    fn children(&mut self, children: &[JSXChild<'_>], ids: &mut Vec<Id>) {
        for child in children {
            match child {
                JSXChild::Text(_) => {}
                JSXChild::Element(element) => ids.push(self.element_of_page(element)),
                JSXChild::Fragment(fragment) => ids.push(self.fragment(fragment)),
                JSXChild::ExpressionContainer(hole) => ids.push(self.hole(hole.span, &hole.expression)),
                JSXChild::Spread(spread) => {
                    let inner = self.expression(&spread.expression);
                    ids.push(self.push(spread.span, Kind::Spread(inner)));
                }
            }
        }
    }

    fn hole(&mut self, span: Span, expression: &JSXExpression<'_>) -> Id {
        match expression {
            JSXExpression::EmptyExpression(_) => self.nothing(span),
            value @ match_expression!(JSXExpression) => self.expression(value.to_expression()),
        }
    }

    fn element_name(&mut self, name: &JSXElementName<'_>) -> Id {
        match name {
            JSXElementName::MemberExpression(member) => self.element_member(member),
            name => {
                let text = self.text(name.span());
                self.push(name.span(), Kind::Name(text))
            }
        }
    }

    fn element_member(&mut self, member: &JSXMemberExpression<'_>) -> Id {
        let object = match &member.object {
            JSXMemberExpressionObject::MemberExpression(inner) => self.element_member(inner),
            object => {
                let text = self.text(object.span());
                self.push(object.span(), Kind::Name(text))
            }
        };
        let name = self.text(member.property.span);
        self.push(member.span, Kind::Member(object, Cow::Borrowed(name)))
    }
}
