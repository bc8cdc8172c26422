//! The trees of one text, each made when a check first needs it and used by all that come after.
//!
//! Making a tree is most of what a check takes.

pub mod script;

use std::cell::{OnceCell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::str::Utf8Error;

use ruff_python_ast::Mod;
use ruff_python_parser::{Mode, Parsed, parse_unchecked};
use tree_sitter::{ParseOptions, ParseState, Parser, Point, Tree};

use super::syntax::{grammar, is_deep};
use crate::language::{Language, SourceType};
use script::Script;

thread_local! {
    // Making a parser costs more than parsing a small file.
    static PARSER: RefCell<Parser> = RefCell::new(Parser::new());
}

/// What one file holds, and the trees of it.
pub struct Trees<'c> {
    content: &'c [u8],
    text: Result<&'c str, Utf8Error>,
    is_deep: OnceCell<bool>,
    python: OnceCell<Parsed<Mod>>,
    script: RefCell<Option<(SourceType, Rc<Script>)>>,
    grammar: RefCell<Option<(Language, Tree)>>,
}

impl<'c> Trees<'c> {
    /// Takes what a file holds, parsing nothing yet.
    #[must_use]
    pub fn new(content: &'c [u8]) -> Self {
        Self {
            content,
            text: std::str::from_utf8(content),
            is_deep: OnceCell::new(),
            python: OnceCell::new(),
            script: RefCell::new(None),
            grammar: RefCell::new(None),
        }
    }

    /// Returns what the file holds.
    #[must_use]
    pub fn content(&self) -> &'c [u8] {
        self.content
    }

    /// Returns it as text, or why it is none.
    ///
    /// # Errors
    ///
    /// Which byte is no character.
    pub fn text(&self) -> Result<&'c str, String> {
        self.text.map_err(|error| format!("not UTF-8: byte {} is no character", error.valid_up_to()))
    }

    /// Returns whether it, in `language`, may be nested too deep for a parser that recurses.
    #[must_use]
    pub fn is_deep(&self, language: Language) -> bool {
        *self.is_deep.get_or_init(|| is_deep(language, self.text.unwrap_or_default()))
    }

    /// Returns it as ruff's parser reads it, with the errors; to be asked only of what is not [deep](Self::is_deep).
    #[must_use]
    pub fn python(&self) -> &Parsed<Mod> {
        let options = ruff_python_parser::ParseOptions::from(Mode::Module);
        self.python.get_or_init(|| parse_unchecked(self.text.unwrap_or_default(), options))
    }

    /// Returns it as oxc reads a file like `source`; to be asked only of what is not [deep](Self::is_deep).
    #[must_use]
    pub fn script(&self, source: SourceType) -> Rc<Script> {
        let mut made = self.script.borrow_mut();
        if let Some((of, script)) = &*made
            && *of == source
        {
            return Rc::clone(script);
        }
        let script = Rc::new(Script::parse(source, self.text.unwrap_or_default()));
        *made = Some((source, Rc::clone(&script)));
        script
    }

    /// Lets go of that tree: of a large file it takes many times the text, and what it was made into is all that is needed
    /// from now on.
    pub fn forget_script(&self) {
        *self.script.borrow_mut() = None;
    }

    /// Returns its tree by the grammar of `language`.
    ///
    /// # Errors
    ///
    /// Why there is none: no grammar, or `in_time` said no.
    pub fn grammar(&self, language: Language, in_time: &dyn Fn() -> bool) -> Result<Tree, String> {
        let mut made = self.grammar.borrow_mut();
        if let Some((of, tree)) = &*made
            && *of == language
        {
            // It is counted, not copied.
            return Ok(tree.clone());
        }
        let text = self.text()?;
        let tree = PARSER.with_borrow_mut(|parser| parse(parser, language, text, in_time))?;
        *made = Some((language, tree.clone()));
        Ok(tree)
    }
}

fn parse(parser: &mut Parser, language: Language, text: &str, in_time: &dyn Fn() -> bool) -> Result<Tree, String> {
    let grammar = grammar(language).ok_or("no grammar for this language is built in")?;
    parser.set_language(&grammar).map_err(|error| format!("the grammar does not fit: {error}"))?;
    let mut going_on = |_: &ParseState| if in_time() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    let bytes = text.as_bytes();
    let mut rest = |offset: usize, _: Point| bytes.get(offset..).unwrap_or_default();
    let options = ParseOptions::new().progress_callback(&mut going_on);
    let tree = parser.parse_with_options(&mut rest, None, Some(options));
    // A parse that was stopped would go on where it was with the next file.
    parser.reset();
    tree.ok_or_else(|| "parsing took too long".to_owned())
}
