//! JavaScript and TypeScript, by the parser of oxc.

use super::{CORRECT_IT, Fault, Parsed};
use crate::check::trees::{Trees, script};
use crate::language::SourceType;

pub(super) fn parse(source: SourceType, trees: &Trees<'_>) -> Parsed {
    let script = trees.script(source);
    // What needs a second look only makes sense of what can be parsed.
    let faults = if script.faults().is_empty() { script.misuses() } else { script.faults().to_vec() };
    let fault = |script::Fault { message, at }| Fault { rule: "syntax.unexpected", message, hint: CORRECT_IT, at };
    Parsed::Faults(faults.into_iter().map(fault).collect())
}
