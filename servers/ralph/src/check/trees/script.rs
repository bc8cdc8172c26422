//! JavaScript and TypeScript as oxc reads them.

use oxc_allocator::Allocator;
use oxc_ast::ast::Program;
use oxc_diagnostics::OxcDiagnostic;
use oxc_parser::Parser;
use oxc_semantic::SemanticBuilder;
use self_cell::self_cell;

use crate::language::{Language, ModuleKind, SourceType};

/// Something that is wrong, and the byte where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub at: usize,
}

/// A program with what is wrong in it.
struct Read<'a> {
    program: Program<'a>,
    faults: Vec<Fault>,
}

self_cell!(
    struct Kept {
        owner: Allocator,
        #[covariant]
        dependent: Read,
    }
);

/// A parsed text, with the memory that its tree is in.
pub struct Script(Kept);

impl Script {
    /// Parses `text`, which is to be of a file like `source` and must not nest deep: the parser recurses.
    #[must_use]
    pub fn parse(source: SourceType, text: &str) -> Self {
        Self(Kept::new(Allocator::default(), |allocator| {
            let parsed = Parser::new(allocator, allocator.alloc_str(text), source_type(source)).parse();
            let faults = parsed.diagnostics.into_iter().map(|diagnostic| fault(&diagnostic)).collect();
            Read { program: parsed.program, faults }
        }))
    }

    /// Returns the tree; not all of the text is in it when there are [faults](Self::faults).
    #[must_use]
    pub fn program(&self) -> &Program<'_> {
        &self.0.borrow_dependent().program
    }

    /// Returns what keeps it from being parsed.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.0.borrow_dependent().faults
    }

    /// Returns what is wrong in what can be parsed: `let a; let a`, `break` outside a loop.
    #[must_use]
    pub fn misuses(&self) -> Vec<Fault> {
        let found = SemanticBuilder::new_compiler().build(self.program()).diagnostics;
        found.into_iter().map(|diagnostic| fault(&diagnostic)).collect()
    }
}

fn fault(diagnostic: &OxcDiagnostic) -> Fault {
    let at = diagnostic.labels.iter().next().map_or(0, |label| label.offset() as usize);
    Fault { message: diagnostic.message.to_string(), at }
}

fn source_type(file: SourceType) -> oxc_span::SourceType {
    let source = match file.language {
        Language::TypeScript if file.module == ModuleKind::Declaration => oxc_span::SourceType::d_ts(),
        Language::TypeScript => oxc_span::SourceType::ts(),
        Language::Tsx => oxc_span::SourceType::tsx(),
        // JSX in `.js` is what most projects write; nothing else begins an expression with `<`.
        _ => oxc_span::SourceType::jsx(),
    };
    match file.module {
        ModuleKind::Script => source.with_commonjs(true),
        ModuleKind::Module => source.with_module(true),
        ModuleKind::Declaration => source,
        ModuleKind::Unknown => source.with_unambiguous(true),
    }
}
