//! One form for the code of every language: what rules need to know of it, and nothing else.

use std::borrow::Cow;

/// The place of a node in [`Ir::nodes`].
pub type Id = usize;

/// A file as rules see it.
#[derive(Debug, Default)]
pub struct Ir<'s> {
    /// Every node; children come before their parents.
    pub nodes: Vec<Node<'s>>,
}

/// One node, and the bytes that it stands for.
#[derive(Debug)]
pub struct Node<'s> {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
    /// What it is.
    pub kind: Kind<'s>,
}

/// What a node is.
#[derive(Debug)]
pub enum Kind<'s> {
    /// A name.
    Name(&'s str),
    /// `object.name`, `object::name`, `object->name`.
    Member(Id, Cow<'s, str>),
    /// `object[key]`.
    Index(Id, Id),
    /// A call, of a macro or a constructor too.
    Call {
        /// What is called.
        callee: Id,
        /// The arguments, named ones as [`Kind::Pair`].
        arguments: Vec<Id>,
    },
    /// A named argument, an entry with a constant key, an attribute, a field of a literal.
    Pair(Cow<'s, str>, Id),
    /// Constant text.
    Text(Cow<'s, str>),
    /// Text with expressions in it.
    Template(Vec<Id>),
    /// A number, a truth value, nothing.
    Literal(&'s str),
    /// An operator between operands; a chain of one operator is one node.
    Binary(&'s str, Vec<Id>),
    /// An operator before its operand that changes the value: `!`, `-`, `not`.
    Unary(&'s str, Id),
    /// One of several.
    Choice(Vec<Id>),
    /// Values in order.
    List(Vec<Id>),
    /// Entries by name.
    Map(Vec<Id>),
    /// `...x`, `*x`, `**x`.
    Spread(Id),
    /// A value put somewhere; with `adds`, behind what is there.
    Assign {
        /// Where to.
        target: Id,
        /// What.
        value: Id,
        /// Whether it is `+=` or the like.
        adds: bool,
        /// The type that is written beside the name, without references and parameters.
        declared: Option<&'s str>,
    },
    /// A name for something of another module.
    Import {
        /// The name here; `*` for everything.
        local: &'s str,
        /// What it is, with dots.
        path: String,
    },
    /// A function, a method, a lambda.
    Function(Box<Function<'s>>),
    /// A value returned.
    Return(Option<Id>),
    /// Anything else that leaves the flow: an exception, `break`.
    Leave(Option<Id>),
    /// Parts that run or do not, as `condition` says.
    Branch {
        /// What is asked.
        condition: Option<Id>,
        /// What runs when it is so, then what runs when it is not.
        bodies: Vec<Id>,
    },
    /// `element for ... in ...`.
    Each(Id, Vec<Id>),
    /// Several in order.
    Block(Vec<Id>),
    /// The last of several in order.
    Last(Vec<Id>),
}

/// A function.
#[derive(Debug)]
pub struct Function<'s> {
    /// Its name.
    pub name: Option<&'s str>,
    /// Its parameters.
    pub parameters: Vec<Parameter<'s>>,
    /// What it does.
    pub body: Option<Id>,
    /// Whether the body is the value.
    pub is_expression: bool,
    /// The text of its decorators, annotations and attributes.
    pub decorators: &'s str,
}

/// A parameter.
#[derive(Debug)]
pub struct Parameter<'s> {
    /// Its name, or the pattern that takes it apart.
    pub target: Id,
    /// Its declaration as written.
    pub declaration: &'s str,
    /// The type, without references and parameters.
    pub declared: Option<&'s str>,
}

impl<'s> Ir<'s> {
    /// Returns what the node is.
    #[must_use]
    pub fn kind(&self, id: Id) -> &Kind<'s> {
        &self.nodes[id].kind
    }
}
