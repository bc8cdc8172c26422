//! JavaScript and TypeScript, by the parser of oxc.

use oxc_allocator::Allocator;
use oxc_parser::Parser;
use oxc_semantic::SemanticBuilder;

use super::{CORRECT_IT, Fault, Parsed};
use crate::language::{Language, ModuleKind, SourceType};

pub(super) fn parse(file: SourceType, text: &str) -> Parsed {
    let source = match file.language {
        Language::TypeScript if file.module == ModuleKind::Declaration => oxc_span::SourceType::d_ts(),
        Language::TypeScript => oxc_span::SourceType::ts(),
        Language::Tsx => oxc_span::SourceType::tsx(),
        // JSX in `.js` is what most projects write; nothing else begins an expression with `<`.
        _ => oxc_span::SourceType::jsx(),
    };
    let source = match file.module {
        ModuleKind::Script => source.with_commonjs(true),
        ModuleKind::Module => source.with_module(true),
        ModuleKind::Declaration => source,
        ModuleKind::Unknown => source.with_unambiguous(true),
    };
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, source).parse();
    let mut diagnostics: Vec<_> = parsed.diagnostics.into_iter().collect();
    if diagnostics.is_empty() {
        // What needs a second look: `let a; let a`, `break` outside a loop.
        diagnostics.extend(SemanticBuilder::new_compiler().build(&parsed.program).diagnostics);
    }
    let faults = diagnostics.into_iter().map(|diagnostic| Fault {
        rule: "syntax.unexpected",
        message: diagnostic.message.to_string(),
        hint: CORRECT_IT,
        at: diagnostic.labels.iter().next().map_or(0, |label| label.offset() as usize),
    });
    Parsed::Faults(faults.collect())
}
