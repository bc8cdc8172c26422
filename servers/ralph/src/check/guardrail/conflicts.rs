//! Marks that a merge left behind.

use super::source::{Source, is_prose};
use super::{Mark, Rule};

/// Adds the first mark of each conflict.
pub fn find(source: &Source<'_>, marks: &mut Vec<Mark>) {
    let mut fenced = false;
    let mut found = Vec::new();
    let (mut opened, mut closed) = (false, false);
    let mut at = 0;
    for line in source.text.split_inclusive('\n') {
        let bare = line.trim_end();
        if bare.trim_start().starts_with("```") || bare.trim_start().starts_with("~~~") {
            fenced = !fenced;
        }
        for (sign, word) in [('<', "<<<<<<<"), ('|', "|||||||"), ('>', ">>>>>>>")] {
            let Some(rest) = bare.strip_prefix(word) else { continue };
            // Exactly seven, and a blank with a name behind.
            if rest.starts_with(' ') && rest.len() > 1 && !rest.trim_start().starts_with(sign) {
                opened |= sign == '<';
                closed |= sign == '>';
                found.push(at..at + bare.len());
            }
        }
        at += line.len();
    }
    if found.is_empty() {
        return;
    }
    // Text for people may quote one; only a whole one, outside of a fence, was left by a merge.
    if is_prose(source.path) && (!opened || !closed || fence_before(source.text, found[0].start)) {
        return;
    }
    let literal = |at: usize| {
        source.tree.as_ref().is_some_and(|tree| {
            let mut node = tree.root_node().descendant_for_byte_range(at, at + 1);
            while let Some(inner) = node {
                let kind = inner.kind();
                if (kind.contains("string") || kind.contains("heredoc") || kind.contains("comment"))
                    && !inner.has_error()
                {
                    return true;
                }
                node = inner.parent();
            }
            false
        })
    };
    if let Some(first) = found.into_iter().find(|range| !literal(range.start)) {
        marks.push(Mark::new(source, Rule::ConflictMarker, first, "conflict"));
    }
}

fn fence_before(text: &str, at: usize) -> bool {
    let fences =
        text[..at].lines().filter(|line| line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~"));
    fences.count() % 2 == 1
}
