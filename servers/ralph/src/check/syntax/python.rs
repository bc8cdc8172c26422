//! Python, by the parser of ruff.

use super::{CORRECT_IT, Fault, Parsed};
use crate::check::trees::Trees;

pub(super) fn parse(trees: &Trees<'_>) -> Parsed {
    let faults = trees.python().errors().iter().map(|error| Fault {
        rule: "syntax.unexpected",
        message: error.error.to_string(),
        hint: CORRECT_IT,
        at: error.location.start().to_usize(),
    });
    Parsed::Faults(faults.collect())
}
