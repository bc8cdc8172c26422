//! Which branches may be written.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};
use tollgate_shared::refusal::Refusal;

use crate::branch_name::{BRANCH_PREFIX, BranchName};
use crate::config::{Allowed, BranchConfig, Required};
use crate::fold::folded;

/// The branches that no tool writes.
#[derive(Clone, Debug)]
pub struct ProtectedBranches {
    patterns: Vec<Pattern>,
    exceptions: Vec<Exception>,
}

#[derive(Clone, Debug)]
struct Pattern {
    written: String,
    matcher: GlobMatcher,
    /// The folders that every matching name is in, folded: `release` of `release/*`.
    folder: String,
}

/// A branch whose name is that of the file which would be written: symbolic refs are already followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedBranch(String);

/// Proof that a branch may be written; only [`ProtectedBranches`] makes one.
#[derive(Clone, Debug)]
pub struct WritableBranch(ResolvedBranch);

/// Proof that a repository has no ref at all, so that its first commit takes nothing from anybody.
#[derive(Debug)]
pub struct NoRefs(());

/// A branch that may not be written, and the pattern that says so.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the branch `{branch}` is protected by `{pattern}`")]
pub struct Protected {
    /// The name without `refs/heads/`.
    pub branch: String,
    /// As the operator wrote it.
    pub pattern: String,
}

/// What a protected branch still takes, as the operator configured it.
#[derive(Clone, Debug)]
struct Exception {
    pattern: Pattern,
    takes_merges: bool,
    needs_verdict: bool,
}

/// A branch that a merge is to write.
#[derive(Clone, Debug)]
pub enum MergeTarget {
    /// Anybody may write it.
    Open(WritableBranch),
    /// It is protected, and takes merges that show what they need.
    Gated(GatedBranch),
}

/// A protected branch that takes merges.
#[derive(Clone, Debug)]
pub struct GatedBranch {
    branch: ResolvedBranch,
    protected: Protected,
    needs_verdict: bool,
}

/// Proof that Ralph has passed exactly this tree; made where the ledger was asked.
#[derive(Debug)]
pub struct TreePass(git2::Oid);

impl TreePass {
    /// Says that the ledger has a verdict `pass` of `tree` that counts.
    #[must_use]
    pub(crate) fn of(tree: git2::Oid) -> Self {
        Self(tree)
    }

    /// Returns the tree.
    #[must_use]
    pub fn tree(&self) -> git2::Oid {
        self.0
    }
}

impl GatedBranch {
    /// Returns the branch.
    #[must_use]
    pub fn branch(&self) -> &ResolvedBranch {
        &self.branch
    }

    /// Returns why nothing but a merge may write it.
    #[must_use]
    pub fn protected(&self) -> Protected {
        self.protected.clone()
    }

    /// Returns whether a merge must show a verdict of Ralph.
    #[must_use]
    pub fn needs_verdict(&self) -> bool {
        self.needs_verdict
    }

    /// Permits a merge, on the strength of `pass` where one is needed.
    ///
    /// # Errors
    ///
    /// [`Protected`] without it.
    pub fn permit(&self, pass: Option<&TreePass>) -> Result<WritableBranch, Protected> {
        if self.needs_verdict && pass.is_none() {
            Err(self.protected())
        } else {
            Ok(WritableBranch(self.branch.clone()))
        }
    }
}

impl ResolvedBranch {
    /// Names the branch at the end of a chain of symbolic refs; `None` when `full_name` is not below `refs/heads/`.
    #[must_use]
    pub fn at_the_end_of_a_chain(full_name: &str) -> Option<Self> {
        full_name.strip_prefix(BRANCH_PREFIX).filter(|name| !name.is_empty()).map(|_| Self(full_name.to_owned()))
    }

    /// Names a branch that does not exist yet, so that there is no symbolic ref to follow.
    #[must_use]
    pub fn to_be_created(name: &BranchName) -> Self {
        Self(name.full())
    }

    /// Returns the name without `refs/heads/`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[BRANCH_PREFIX.len()..]
    }

    /// Returns the name with `refs/heads/`.
    #[must_use]
    pub fn full(&self) -> &str {
        &self.0
    }
}

impl WritableBranch {
    /// Returns the branch.
    #[must_use]
    pub fn branch(&self) -> &ResolvedBranch {
        &self.0
    }
}

impl NoRefs {
    /// Looks for a ref in `repository`; `None` when there is one.
    ///
    /// # Errors
    ///
    /// When the refs cannot be read.
    pub fn check(repository: &git2::Repository) -> Result<Option<Self>, git2::Error> {
        Ok(repository.references()?.next().is_none().then_some(Self(())))
    }
}

impl ProtectedBranches {
    /// Reads names and globs.
    ///
    /// # Errors
    ///
    /// The glob that cannot be read.
    pub fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        let patterns = patterns.iter().map(|written| Pattern::new(written)).collect::<Result<_, _>>()?;
        Ok(Self { patterns, exceptions: Vec::new() })
    }

    /// Adds what single branches still take.
    ///
    /// # Errors
    ///
    /// The glob that cannot be read.
    pub fn except(mut self, branches: &BTreeMap<String, BranchConfig>) -> Result<Self, globset::Error> {
        for (written, rule) in branches {
            // Also where nothing is allowed: a wrong glob is no rule.
            let pattern = Pattern::new(written)?;
            let takes_merges = rule.allow.contains(&Allowed::Merge);
            let needs_verdict = rule.require.contains(&Required::Ralph);
            self.exceptions.push(Exception { pattern, takes_merges, needs_verdict });
        }
        Ok(self)
    }

    /// Returns `branch` with what a merge into it must show, where it is protected and takes merges.
    ///
    /// Of several rules that name it, one must allow merges, and what any of them requires must hold.
    #[must_use]
    pub fn gated(&self, branch: ResolvedBranch) -> Option<GatedBranch> {
        let pattern = self.protecting(branch.name())?.written.clone();
        let name = folded(branch.name());
        let rules = || self.exceptions.iter().filter(|exception| exception.pattern.matcher.is_match(&name));
        if !rules().any(|rule| rule.takes_merges) {
            return None;
        }
        let needs_verdict = rules().any(|rule| rule.needs_verdict);
        let protected = Protected { branch: branch.name().to_owned(), pattern };
        Some(GatedBranch { branch, protected, needs_verdict })
    }

    /// Checks `branch` against every pattern.
    ///
    /// A branch below a protected one (`main/x`) is protected too: as long as it is there, git cannot create `main`.
    ///
    /// # Errors
    ///
    /// [`Protected`] names the pattern that matched.
    pub fn permit(&self, branch: ResolvedBranch) -> Result<WritableBranch, Protected> {
        match self.protecting(branch.name()) {
            Some(pattern) => Err(Protected { branch: branch.name().to_owned(), pattern: pattern.written.clone() }),
            None => Ok(WritableBranch(branch)),
        }
    }

    /// Permits any branch in a repository that has none: somebody has to make the first commit.
    #[must_use]
    pub fn permit_first(&self, branch: ResolvedBranch, _: &NoRefs) -> WritableBranch {
        WritableBranch(branch)
    }

    /// Checks a branch that is to be created.
    ///
    /// Besides what [`permit`](Self::permit) checks, a branch `release` would stand where `release/*` needs a folder.
    ///
    /// # Errors
    ///
    /// [`Protected`] names the pattern that matched.
    pub fn permit_new(&self, name: &BranchName) -> Result<WritableBranch, Protected> {
        let own = folded(name.as_str());
        let blocked = self.patterns.iter().find(|pattern| {
            pattern.folder.strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        match blocked {
            Some(pattern) => Err(Protected { branch: name.to_string(), pattern: pattern.written.clone() }),
            None => self.permit(ResolvedBranch::to_be_created(name)),
        }
    }

    /// Returns whether the branch of this name, without `refs/heads/`, is protected.
    #[must_use]
    pub fn protects(&self, name: &str) -> bool {
        self.protecting(name).is_some()
    }

    fn protecting(&self, name: &str) -> Option<&Pattern> {
        let name = folded(name);
        let prefixes = name.match_indices('/').map(|(end, _)| &name[..end]).chain([name.as_str()]);
        prefixes.into_iter().find_map(|prefix| self.patterns.iter().find(|pattern| pattern.matcher.is_match(prefix)))
    }
}

impl Pattern {
    fn new(written: &str) -> Result<Self, globset::Error> {
        let glob = folded(written.strip_prefix(BRANCH_PREFIX).unwrap_or(written));
        let literal = glob.find(['*', '?', '[', '{', '\\']).map_or(glob.as_str(), |end| &glob[..end]);
        let folder = literal.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let matcher = GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build()?.compile_matcher();
        Ok(Self { written: written.to_owned(), matcher, folder })
    }
}

impl From<Protected> for Refusal {
    fn from(protected: Protected) -> Self {
        Self::refused(
            "protected_branch",
            protected.to_string(),
            "create a branch with git_create_branch, switch to it with git_checkout and commit there; \
             a human or the merge gate merges it",
        )
        .with_detail("branch", &protected.branch)
        .with_detail("pattern", &protected.pattern)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::GitConfig;

    fn defaults() -> ProtectedBranches {
        ProtectedBranches::new(&GitConfig::default().protected_branches).unwrap()
    }

    fn permit(name: &str) -> Result<WritableBranch, Protected> {
        defaults().permit(ResolvedBranch::at_the_end_of_a_chain(&format!("refs/heads/{name}")).unwrap())
    }

    #[test]
    fn what_any_rule_requires_holds_where_one_allows() {
        let main = || ResolvedBranch::at_the_end_of_a_chain("refs/heads/main").unwrap();
        let needs_verdict = |rules: &[(&str, bool, bool)]| {
            let rules = rules.iter().map(|(name, allows, requires)| {
                let allow = if *allows { vec![Allowed::Merge] } else { Vec::new() };
                let require = if *requires { vec![Required::Ralph] } else { Vec::new() };
                ((*name).to_owned(), BranchConfig { allow, require })
            });
            defaults().except(&rules.collect()).unwrap().gated(main()).map(|gated| gated.needs_verdict)
        };
        assert_eq!(needs_verdict(&[("main", true, false)]), Some(false));
        assert_eq!(needs_verdict(&[("main", true, false), ("ma*", false, true)]), Some(true));
        assert_eq!(needs_verdict(&[("main", true, false), ("dev*", false, true)]), Some(false));
        assert_eq!(needs_verdict(&[("ma*", false, true)]), None, "a requirement alone opens nothing");
    }

    #[test]
    fn protected_branches_are_refused_however_they_are_spelt() {
        let names = [
            "main",
            "Main",
            "MAIN",
            "master",
            "develop",
            "staging",
            "production",
            "PRODUCTION",
            "release/1.2",
            "Release/1.2",
            "release/x/y",
            "main/x",
            "ma\u{200c}in",
            "ｍain",
            "ＲＥＬＥＡＳＥ/2",
            "develop/feature",
        ];
        for name in names {
            assert!(permit(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn other_branches_are_permitted() {
        let names = [
            "feature/search",
            "maintenance",
            "main2",
            "fix/main",
            "releases/1.2",
            "hotfix/release",
            "release-1.2",
            "my/release/1",
            "mainline",
            "dev",
            "stage",
            "prod",
            "feature/production",
        ];
        for name in names {
            assert_eq!(permit(name).unwrap().branch().name(), name);
        }
    }

    #[test]
    fn branch_in_the_way_of_a_protected_one_is_not_created() {
        let create = |name: &str| defaults().permit_new(&BranchName::parse(name).unwrap());
        assert_eq!(create("release").unwrap_err().pattern, "release/*");
        assert_eq!(create("RELEASE").unwrap_err().pattern, "release/*");
        assert_eq!(create("main/x").unwrap_err().pattern, "main");
        assert!(create("rel").is_ok());
        let nested = ProtectedBranches::new(&["a/b/c".into(), "x/**".into()]).unwrap();
        let create = |name: &str| nested.permit_new(&BranchName::parse(name).unwrap()).is_ok();
        assert_eq!(["a", "a/b", "a/b/c", "x", "x/1/2"].map(create), [false; 5]);
        assert_eq!(["a/c", "a/b/d", "ab", "y"].map(create), [true; 4]);
    }

    #[test]
    fn refusal_names_branch_and_pattern() {
        let refusal = Refusal::from(permit("release/1.2").unwrap_err());
        assert_eq!(refusal.code, "protected_branch");
        assert!(refusal.message.contains("`release/1.2`") && refusal.message.contains("`release/*`"));
    }

    #[test]
    fn only_branches_are_branches() {
        for name in ["refs/tags/v1", "refs/remotes/origin/main", "HEAD", "main", "refs/heads/", "refs/heads"] {
            assert_eq!(ResolvedBranch::at_the_end_of_a_chain(name), None, "{name}");
        }
    }

    #[test]
    fn glob_that_cannot_be_read_is_an_error() {
        assert!(ProtectedBranches::new(&["release/[".into()]).is_err());
    }

    proptest! {
        #[test]
        fn case_never_unprotects(bits in proptest::collection::vec(any::<bool>(), 10)) {
            let spelt: String = "production".chars().zip(bits)
                .map(|(c, upper)| if upper { c.to_ascii_uppercase() } else { c }).collect();
            prop_assert!(defaults().protects(&spelt));
            let below = format!("{spelt}/x");
            prop_assert!(defaults().protects(&below));
        }
    }
}
