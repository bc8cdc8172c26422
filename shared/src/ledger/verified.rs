//! Which trees Ralph has verified, and how: what a merge gate asks the ledger.
//!
//! Ralph records a [`VerifiedTree`] with the call in which every default check ran. Who relies on it reads the whole
//! chain, so that an entry which was changed, moved or put in by hand is found before it counts.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chain::{Head, StoredEntry};
use super::verify::{Fault, Verification};
use crate::audit::AuditEntry;
use crate::content_hash::ContentHash;
use crate::error_chain::Chain;
use crate::ids::EntryId;
use crate::receipt::{Outcome, Receipt};

/// The action of the audit entry that holds a [`VerifiedTree`].
pub const VERIFIED: &str = "verified";

/// The server and the tool that record one; the same words from anybody else say nothing.
const SERVER: &str = "ralph";
const TOOL: &str = "verify_changes";

/// The word for a verdict on which a merge may rely.
const PASS: &str = "pass";

/// How long a reader waits for a writer that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What Ralph found about the exact content of a tree, in the `detail` of an audit entry.
///
/// It covers the files that differ between `base` and `tree`, as the blobs of `tree` have them. Only a call in which
/// every default check ran may record one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifiedTree {
    /// The git directory that all worktrees of the repository share, without symbolic links.
    pub repository: String,
    /// The id of the tree, as git computes it.
    pub tree: String,
    /// The id of the tree that it was compared with: what both have alike was not looked at. Left out when all was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// `pass`, or what it was instead.
    pub verdict: String,
    /// The checks that ran, sorted.
    pub checks: Vec<String>,
    /// Everything in Ralph that a verdict depends on: versions of rules, parsers and commands.
    pub rules: ContentHash,
    /// The table `[ralph]` in force, from [`Startup::ralph_rules`](crate::serve::Startup).
    pub configuration: ContentHash,
}

impl VerifiedTree {
    /// Returns it as the `detail` of an entry whose action is [`VERIFIED`].
    #[must_use]
    pub fn detail(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn read(entry: &AuditEntry) -> Option<Self> {
        let is_ralphs = entry.server == SERVER && entry.tool == TOOL && entry.action == VERIFIED;
        (is_ralphs && entry.code.is_none()).then(|| serde_json::from_value(entry.detail.clone()).ok())?
    }
}

/// The tree that somebody is about to write.
#[derive(Clone, Debug)]
pub struct TreeQuery {
    /// As in [`VerifiedTree`].
    pub repository: String,
    /// As in [`VerifiedTree`].
    pub tree: String,
    /// The trees whose place it takes, the nearest first: a verdict must cover all that differs from one of them, and the
    /// first that any verdict is about decides.
    pub replaces: Vec<String>,
    /// The table `[ralph]` in force here.
    pub configuration: ContentHash,
}

/// What the ledger says about a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeVerdict {
    /// It was verified, and the newest verdict is `pass`.
    Pass(EntryId),
    /// No verdict of it covers what would change.
    Missing,
    /// The newest verdict is this one.
    NotPass(String),
    /// It passed under rules or a configuration that are no longer in force.
    Outdated,
    /// It passed, compared with another tree than the one it would replace.
    OtherBase,
    /// The chain is broken: nothing in it can be relied on.
    Broken(Fault),
}

/// The ledger cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the ledger: {0}")]
pub struct Unreadable(String);

impl From<rusqlite::Error> for Unreadable {
    fn from(error: rusqlite::Error) -> Self {
        Self(Chain(&error).to_string())
    }
}

/// Looks `query` up in the ledger at `path`, following its whole chain; blocks. `stop` is asked now and then.
///
/// # Errors
///
/// [`Unreadable`], also when `stop` said so.
pub fn look_up(path: &Path, query: &TreeQuery, stop: &dyn Fn() -> bool) -> Result<TreeVerdict, Unreadable> {
    if !path.exists() {
        return Ok(TreeVerdict::Missing);
    }
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // One state of the file for head and entries.
    let reading = connection.unchecked_transaction()?;
    let recorded = reading.query_row("SELECT seq, hash FROM head", [], |row| {
        Ok(Head { seq: row.get(0)?, hash: row.get::<_, [u8; 32]>(1)?.into() })
    })?;
    let mut chain = Verification { head: Head::EMPTY, receipts: 0, decisions: 0, faults: Vec::new() };
    let mut found = Verdicts::default();
    let mut statement = reading.prepare("SELECT seq, id, kind, body, prev, hash FROM entry ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let entry = StoredEntry {
            seq: row.get(0)?,
            id: row.get(1)?,
            kind: row.get(2)?,
            body: row.get(3)?,
            prev: row.get(4)?,
            hash: row.get(5)?,
        };
        chain.follow(&entry);
        if let Some(fault) = chain.faults.first() {
            return Ok(TreeVerdict::Broken(fault.clone()));
        }
        found.take(&entry);
        if entry.seq % 1024 == 0 && stop() {
            return Err(Unreadable("it has too many entries to be read in time".to_owned()));
        }
    }
    if chain.head != recorded {
        return Ok(TreeVerdict::Broken(Fault::HeadDiffers { recorded }));
    }
    Ok(found.about(query))
}

/// The verdicts of a chain, in its order, and the calls that made them.
#[derive(Default)]
struct Verdicts {
    trees: Vec<(AuditEntry, VerifiedTree)>,
    /// By receipt, whether the call was one of Ralph's that came to its end.
    calls: HashMap<EntryId, bool>,
}

impl Verdicts {
    fn take(&mut self, entry: &StoredEntry) {
        match entry.kind.as_str() {
            "receipt" if entry.body.contains(TOOL) => {
                let Ok(receipt) = serde_json::from_str::<Receipt>(&entry.body) else { return };
                let is_ralphs = receipt.server == SERVER && receipt.tool == TOOL && receipt.outcome == Outcome::Ok;
                self.calls.insert(receipt.id, is_ralphs);
            }
            "audit" if entry.body.contains(VERIFIED) => {
                let Ok(decision) = serde_json::from_str::<AuditEntry>(&entry.body) else { return };
                if let Some(tree) = VerifiedTree::read(&decision) {
                    self.trees.push((decision, tree));
                }
            }
            _ => {}
        }
    }

    fn about(&self, query: &TreeQuery) -> TreeVerdict {
        let mut verdict = TreeVerdict::Missing;
        for replaces in &query.replaces {
            verdict = self.in_place_of(replaces, query);
            if verdict != TreeVerdict::OtherBase {
                break;
            }
        }
        verdict
    }

    fn in_place_of(&self, replaces: &str, query: &TreeQuery) -> TreeVerdict {
        let real = || self.trees.iter().filter(|(entry, _)| self.calls.get(&entry.receipt_id) == Some(&true));
        // Whatever Ralph used last is what it uses now.
        let rules = real().next_back().map(|(_, tree)| tree.rules);
        let mut verdict = TreeVerdict::Missing;
        for (entry, tree) in real() {
            if tree.repository != query.repository || tree.tree != query.tree {
                continue;
            }
            verdict = if tree.verdict != PASS {
                TreeVerdict::NotPass(tree.verdict.clone())
            } else if tree.configuration != query.configuration || Some(tree.rules) != rules || tree.checks.is_empty() {
                keep_grave(verdict, TreeVerdict::Outdated)
            } else if tree.base.as_ref().is_some_and(|base| base != replaces) {
                keep_grave(verdict, TreeVerdict::OtherBase)
            } else {
                TreeVerdict::Pass(entry.id)
            };
        }
        verdict
    }
}

/// A pass that does not count takes nothing back: neither a pass that does, nor a verdict that is none.
fn keep_grave(before: TreeVerdict, weak: TreeVerdict) -> TreeVerdict {
    if matches!(before, TreeVerdict::Pass(_) | TreeVerdict::NotPass(_)) { before } else { weak }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::identity::Agent;
    use crate::ledger::{Ledger, NewEntry};
    use crate::money::Currency;
    use crate::state_dir::StateDir;

    struct Written {
        tree: VerifiedTree,
        server: &'static str,
        tool: &'static str,
        action: &'static str,
        outcome: Option<Outcome>,
    }

    fn hash(text: &str) -> ContentHash {
        ContentHash::of(text.as_bytes())
    }

    fn passed() -> Written {
        let tree = VerifiedTree {
            repository: "/work/.git".into(),
            tree: "a".repeat(40),
            base: Some("b".repeat(40)),
            verdict: PASS.into(),
            checks: vec!["security".into(), "syntax".into()],
            rules: hash("rules"),
            configuration: hash("configuration"),
        };
        Written { tree, server: SERVER, tool: TOOL, action: VERIFIED, outcome: Some(Outcome::Ok) }
    }

    fn query() -> TreeQuery {
        let tree = passed().tree;
        TreeQuery {
            repository: tree.repository,
            tree: tree.tree,
            replaces: vec!["b".repeat(40)],
            configuration: tree.configuration,
        }
    }

    fn entries(written: &Written) -> Vec<NewEntry> {
        let receipt_id = EntryId::generate();
        let agent = Agent { name: "tester".into(), role: None };
        let decision = AuditEntry {
            id: EntryId::generate(),
            at: jiff::Timestamp::now(),
            action: written.action.into(),
            server: written.server.into(),
            tool: written.tool.into(),
            code: None,
            reason: "verified".into(),
            agent: agent.clone(),
            task_id: None,
            receipt_id,
            detail: written.tree.detail(),
        };
        let receipt = written.outcome.map(|outcome| Receipt {
            id: receipt_id,
            server: written.server.into(),
            tool: written.tool.into(),
            amount: Default::default(),
            currency: Currency::Usd,
            lines: vec![],
            cached: false,
            saved: Default::default(),
            outcome,
            code: None,
            duration_ms: 1,
            agent,
            task_id: None,
            call_id: None,
            started_at: jiff::Timestamp::now(),
        });
        let receipt = receipt.map(|receipt| NewEntry::receipt(&receipt).unwrap());
        [NewEntry::audit(&decision).unwrap()].into_iter().chain(receipt).collect()
    }

    async fn written(all: &[Written]) -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let ledger = Ledger::new(StateDir::choose(Some(folder.path()), Path::new("/")));
        for one in all {
            ledger.append(entries(one)).await.unwrap();
        }
        let path = ledger.path();
        (folder, path)
    }

    async fn verdict(all: &[Written]) -> TreeVerdict {
        let (_folder, path) = written(all).await;
        look_up(&path, &query(), &|| false).unwrap()
    }

    #[tokio::test]
    async fn pass_of_the_tree_counts() {
        assert!(matches!(verdict(&[passed()]).await, TreeVerdict::Pass(_)));
        let mut all = passed();
        all.tree.base = None;
        assert!(matches!(verdict(&[all]).await, TreeVerdict::Pass(_)));
        let mut failed = passed();
        failed.tree.verdict = "fail".into();
        assert!(matches!(verdict(&[failed, passed()]).await, TreeVerdict::Pass(_)));
    }

    #[tokio::test]
    async fn verdict_that_is_not_about_this_tree_does_not_count() {
        let changed = |change: &dyn Fn(&mut Written)| {
            let mut written = passed();
            change(&mut written);
            written
        };
        let cases: Vec<(Written, TreeVerdict)> = vec![
            (changed(&|w| w.tree.repository = "/other/.git".into()), TreeVerdict::Missing),
            (changed(&|w| w.tree.tree = "c".repeat(40)), TreeVerdict::Missing),
            (changed(&|w| w.tree.base = Some("c".repeat(40))), TreeVerdict::OtherBase),
            (changed(&|w| w.tree.verdict = "skipped".into()), TreeVerdict::NotPass("skipped".into())),
            (changed(&|w| w.tree.verdict = "blocked".into()), TreeVerdict::NotPass("blocked".into())),
            (changed(&|w| w.tree.verdict = "PASS".into()), TreeVerdict::NotPass("PASS".into())),
            (changed(&|w| w.tree.configuration = hash("other")), TreeVerdict::Outdated),
            (changed(&|w| w.tree.checks.clear()), TreeVerdict::Outdated),
            // Somebody else's word, or a call that did not come to its end.
            (changed(&|w| w.server = "git"), TreeVerdict::Missing),
            (changed(&|w| w.tool = "verify_file"), TreeVerdict::Missing),
            (changed(&|w| w.action = "refused"), TreeVerdict::Missing),
            (changed(&|w| w.outcome = None), TreeVerdict::Missing),
            (changed(&|w| w.outcome = Some(Outcome::Refused)), TreeVerdict::Missing),
            (changed(&|w| w.outcome = Some(Outcome::Failed)), TreeVerdict::Missing),
        ];
        for (index, (case, expected)) in cases.into_iter().enumerate() {
            assert_eq!(verdict(&[case]).await, expected, "{index}");
        }
        assert_eq!(verdict(&[]).await, TreeVerdict::Missing);
    }

    #[tokio::test]
    async fn first_tree_that_a_verdict_is_about_decides() {
        let (_folder, path) = written(&[passed()]).await;
        let verdict = |replaces: &[&str]| {
            let replaces = replaces.iter().map(|letter| letter.repeat(40)).collect();
            look_up(&path, &TreeQuery { replaces, ..query() }, &|| false).unwrap()
        };
        assert!(matches!(verdict(&["c", "d", "b"]), TreeVerdict::Pass(_)));
        assert_eq!(verdict(&["c", "d"]), TreeVerdict::OtherBase);
        assert_eq!(verdict(&[]), TreeVerdict::Missing);
        let mut failed = passed();
        failed.tree.verdict = "fail".into();
        let (_folder, path) = written(&[passed(), failed]).await;
        let replaces = vec!["c".repeat(40), "b".repeat(40)];
        let verdict = look_up(&path, &TreeQuery { replaces, ..query() }, &|| false).unwrap();
        assert_eq!(verdict, TreeVerdict::NotPass("fail".into()), "a failure counts, whatever it was compared with");
    }

    #[tokio::test]
    async fn later_verdict_takes_a_pass_back() {
        let mut failed = passed();
        failed.tree.verdict = "fail".into();
        // Compared with another tree it still was about this one.
        failed.tree.base = Some("d".repeat(40));
        assert_eq!(verdict(&[passed(), failed]).await, TreeVerdict::NotPass("fail".into()));
        let mut newer = passed();
        newer.tree.rules = hash("newer rules");
        newer.tree.tree = "e".repeat(40);
        assert_eq!(verdict(&[passed(), newer]).await, TreeVerdict::Outdated);
        let mut narrow = passed();
        narrow.tree.base = Some("d".repeat(40));
        assert!(matches!(verdict(&[passed(), narrow]).await, TreeVerdict::Pass(_)));
    }

    #[tokio::test]
    async fn entry_put_in_or_changed_by_hand_breaks_the_chain() {
        let mut failed = passed();
        failed.tree.verdict = "fail".into();
        let (_folder, path) = written(&[failed]).await;
        let by_hand = |sql: &str| {
            let connection = Connection::open(&path).unwrap();
            // The file's own guards are no obstacle to whoever can write it.
            let names: Vec<String> = connection
                .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                .unwrap()
                .query_map([], |row| row.get(0))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            for name in names {
                connection.execute_batch(&format!("DROP TRIGGER \"{name}\"")).unwrap();
            }
            connection.execute_batch(sql).unwrap();
        };
        by_hand("UPDATE entry SET body = replace(body, '\"fail\"', '\"pass\"')");
        assert!(matches!(look_up(&path, &query(), &|| false).unwrap(), TreeVerdict::Broken(_)));
        by_hand("DELETE FROM entry WHERE seq = 1");
        assert!(matches!(look_up(&path, &query(), &|| false).unwrap(), TreeVerdict::Broken(_)));
    }

    #[tokio::test]
    async fn reading_ends_when_it_must() {
        let all: Vec<Written> = (0..520).map(|_| passed()).collect();
        let (_folder, path) = written(&all).await;
        look_up(&path, &query(), &|| true).unwrap_err();
    }

    #[test]
    fn ledger_that_is_not_there_says_nothing() {
        assert_eq!(look_up(Path::new("/nonexistent"), &query(), &|| false).unwrap(), TreeVerdict::Missing);
    }
}
