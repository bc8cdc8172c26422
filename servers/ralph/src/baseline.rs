//! What a change adds to what stood before: findings of two states of the same files, told apart.
//!
//! A finding is recognised by what it is about, never by its line: code that moves, within a file or to another one,
//! takes its findings with it. Pure: texts and findings in, answers out.

use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::check::Finding;

/// Longest texts that are compared line by line; beyond it only equal findings are recognised.
const LINES_MAX: usize = 50_000;

/// Equal lines between two changes that still belong together: reformatting leaves lone brackets where they were.
const EQUAL_LINES_MAX: usize = 2;

/// What a finding is recognised by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Trace {
    /// The rule.
    pub rule: String,
    /// What it says, as far as that does not depend on the place.
    pub subject: String,
    /// What it is limited to, sorted: the codes of a suppression. None means that it is not limited.
    pub codes: Vec<String>,
    /// The code that it is about, in its [normal form](normal); empty when that is the whole file.
    pub context: String,
    /// Where, counted from 1; 0 when the whole file is meant.
    pub line: usize,
}

/// One file before and after a change.
#[derive(Clone, Debug, Default)]
pub struct FilePair<'t> {
    /// Its text before; empty when it was not there.
    pub before_text: &'t str,
    /// Its text after; empty when it is no longer there.
    pub after_text: &'t str,
    /// What was found before.
    pub before: Vec<Trace>,
    /// What is found now.
    pub after: Vec<Trace>,
}

impl Trace {
    /// Takes from `finding` what it is recognised by.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        Self {
            rule: finding.rule.clone(),
            subject: finding.fingerprint.clone().unwrap_or_else(|| without_numbers(&finding.message)),
            codes: Vec::new(),
            context: normal(&finding.excerpt),
            line: finding.line,
        }
    }

    /// Returns whether this, from before, allows for `now`.
    fn covers(&self, now: &Self) -> bool {
        self.rule == now.rule
            && self.subject == now.subject
            && (self.codes.is_empty()
                || !now.codes.is_empty() && now.codes.iter().all(|code| self.codes.contains(code)))
    }
}

/// Returns for each finding in `after` of each pair whether it stood there before, in that order.
///
/// A finding from before answers for one of now, so that a second copy of an old one is new.
#[must_use]
pub fn existed(pairs: &[FilePair<'_>]) -> Vec<Vec<bool>> {
    let mut used: Vec<Vec<bool>> = pairs.iter().map(|pair| vec![false; pair.before.len()]).collect();
    let mut known: Vec<Vec<bool>> = pairs.iter().map(|pair| vec![false; pair.after.len()]).collect();
    for ((pair, used), known) in pairs.iter().zip(&mut used).zip(&mut known) {
        if pair.before.is_empty() || pair.after.is_empty() {
            continue;
        }
        pass(pair, used, known, |before, now| before.context == now.context && before.line == now.line);
        pass(pair, used, known, |before, now| before.context == now.context);
        if known.iter().all(|known| *known) {
            continue;
        }
        // What was edited where it stood: a call that got another argument, a block that was laid out anew.
        let hunks = hunks(pair.before_text, pair.after_text);
        pass(pair, used, known, |before, now| {
            hunks.iter().any(|(old, new)| old.contains(&before.line) && new.contains(&now.line))
        });
    }
    // What was moved to another file.
    for place in 0..pairs.len() {
        for (number, now) in pairs[place].after.iter().enumerate() {
            if known[place][number] || now.context.is_empty() {
                continue;
            }
            let from = pairs.iter().enumerate().flat_map(|(from, pair)| {
                pair.before.iter().enumerate().map(move |(index, before)| (from, index, before))
            });
            let found = from
                .into_iter()
                .find(|(from, index, before)| {
                    !used[*from][*index] && before.context == now.context && before.covers(now)
                })
                .map(|(from, index, _)| (from, index));
            if let Some((from, index)) = found {
                used[from][index] = true;
                known[place][number] = true;
            }
        }
    }
    known
}

/// Tells the findings of one file apart: those that are new, and those that existed.
#[must_use]
pub fn split(
    before_text: &str,
    before: &[Finding],
    after_text: &str,
    after: Vec<Finding>,
) -> (Vec<Finding>, Vec<Finding>) {
    let traces = |findings: &[Finding]| findings.iter().map(Trace::of).collect();
    let pair = FilePair { before_text, after_text, before: traces(before), after: traces(&after) };
    let known = existed(&[pair]).pop().unwrap_or_default();
    let mut known = known.into_iter();
    let (old, new) = after.into_iter().partition(|_| known.next().unwrap_or(false));
    (new, old)
}

/// Returns `code` as it is compared: without blanks, kinds of quotes and trailing commas.
#[must_use]
pub fn normal(code: &str) -> String {
    let mut result = String::with_capacity(code.len());
    for c in code.chars().filter(|c| !c.is_whitespace()) {
        match c {
            ')' | ']' | '}' if result.ends_with(',') => {
                result.pop();
                result.push(c);
            }
            '\'' | '`' => result.push('"'),
            c => result.push(c),
        }
    }
    while result.ends_with([',', ';']) {
        result.pop();
    }
    result
}

fn pass(pair: &FilePair<'_>, used: &mut [bool], known: &mut [bool], fits: impl Fn(&Trace, &Trace) -> bool) {
    for (now, known) in pair.after.iter().zip(known.iter_mut()).filter(|(_, known)| !**known) {
        let found = pair
            .before
            .iter()
            .enumerate()
            .find(|(index, before)| !used[*index] && before.covers(now) && fits(before, now));
        if let Some((index, _)) = found {
            used[index] = true;
            *known = true;
        }
    }
}

/// Returns which lines took the place of which, counted from 1.
#[must_use]
pub fn hunks(before: &str, after: &str) -> Vec<(Range<usize>, Range<usize>)> {
    let [old, new]: [Vec<&str>; 2] = [before, after].map(|text| text.lines().map(str::trim).collect());
    if old.len() > LINES_MAX || new.len() > LINES_MAX {
        return Vec::new();
    }
    let mut hunks: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    for operation in capture_diff_slices(Algorithm::Myers, &old, &new) {
        if matches!(operation, DiffOp::Equal { .. }) {
            continue;
        }
        let (old, new) = (operation.old_range(), operation.new_range());
        let (old, new) = (old.start + 1..old.end + 1, new.start + 1..new.end + 1);
        match hunks.last_mut() {
            Some(last) if old.start.saturating_sub(last.0.end) <= EQUAL_LINES_MAX => {
                last.0.end = old.end;
                last.1.end = new.end;
            }
            _ => hunks.push((old, new)),
        }
    }
    hunks
}

/// Returns `message` without its numbers: lines, columns and counts change when code moves.
fn without_numbers(message: &str) -> String {
    message.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(subject: &str, codes: &[&str], context: &str, line: usize) -> Trace {
        Trace {
            rule: "rule".into(),
            subject: subject.into(),
            codes: codes.iter().map(|code| (*code).to_owned()).collect(),
            context: context.into(),
            line,
        }
    }

    fn one(before_text: &str, before: Vec<Trace>, after_text: &str, after: Vec<Trace>) -> Vec<bool> {
        existed(&[FilePair { before_text, after_text, before, after }]).pop().unwrap()
    }

    #[test]
    fn what_moves_existed() {
        let known = one("a\nb\n", vec![trace("noqa", &[], "a", 1)], "b\n\n\na\n", vec![trace("noqa", &[], "a", 4)]);
        assert_eq!(known, [true]);
    }

    #[test]
    fn second_copy_is_new() {
        let known = one(
            "a\n",
            vec![trace("noqa", &[], "a", 1)],
            "a\na\n",
            vec![trace("noqa", &[], "a", 1), trace("noqa", &[], "a", 2)],
        );
        assert_eq!(known, [true, false]);
    }

    #[test]
    fn wider_suppression_is_new_and_narrower_is_not() {
        let check = |before: &[&str], after: &[&str], expected: bool| {
            let known = one("a\n", vec![trace("noqa", before, "a", 1)], "a\n", vec![trace("noqa", after, "a", 1)]);
            assert_eq!(known, [expected], "{before:?} {after:?}");
        };
        check(&["E501"], &["E501"], true);
        check(&["E501", "F401"], &["E501"], true);
        check(&[], &["E501"], true);
        check(&["E501"], &["E501", "F401"], false);
        check(&["E501"], &[], false);
    }

    #[test]
    fn edited_line_keeps_its_suppression_but_lends_it_to_no_other() {
        let before = "x = f(1)  # noqa\ny\ny\ny\ny\nz = 2\n";
        let edited = "x = f(1, 2)  # noqa\ny\ny\ny\ny\nz = 2\n";
        let lent = "x = f(1)\ny\ny\ny\ny\nz = 3  # noqa\n";
        let old = || vec![trace("noqa", &[], "x=f(1)", 1)];
        assert_eq!(one(before, old(), edited, vec![trace("noqa", &[], "x=f(1,2)", 1)]), [true]);
        assert_eq!(one(before, old(), lent, vec![trace("noqa", &[], "z=3", 6)]), [false]);
    }

    #[test]
    fn file_that_was_split_takes_its_findings_along() {
        let old = FilePair { before_text: "a\nb\n", before: vec![trace("noqa", &[], "a", 1)], ..FilePair::default() };
        let new = FilePair { after_text: "a\n", after: vec![trace("noqa", &[], "a", 1)], ..FilePair::default() };
        assert_eq!(existed(&[old.clone(), new.clone()]), [vec![], vec![true]]);
        assert_eq!(existed(&[new.clone(), new]), [vec![false], vec![false]]);
        // What is about a whole file is about no other.
        let whole = |before, after| FilePair { before, after, ..FilePair::default() };
        let mark = || vec![trace("@ts-nocheck", &[], "", 1)];
        assert_eq!(existed(&[whole(mark(), vec![]), whole(vec![], mark())]), [vec![], vec![false]]);
    }

    #[test]
    fn layout_does_not_count() {
        assert_eq!(normal("f( a,\n  'b', )"), normal("f(a, \"b\")"));
        assert_ne!(normal("f(a)"), normal("f(b)"));
    }

    proptest::proptest! {
        #[test]
        fn unchanged_findings_existed(lines in proptest::collection::vec("[a-c]{1,2}", 0..12)) {
            let text = lines.join("\n");
            let traces: Vec<Trace> =
                lines.iter().enumerate().map(|(at, line)| trace("s", &[], line, at + 1)).collect();
            let known = one(&text, traces.clone(), &text, traces);
            proptest::prop_assert!(known.iter().all(|known| *known));
        }
    }
}
