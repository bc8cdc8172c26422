//! What people agree to: every fact that decides what will run, in bytes that are signed.

use jiff::Timestamp;
use serde_json::Value;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::ids::EntryId;

use crate::names::ReleaseName;
use crate::store::NewDeployment;

/// The first line; another number is another format, which no signature of this one fits.
const FIRST_LINE: &str = "tollgate-deploy approval 2";

/// Everything that an approval is bound to.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What is asked for, by whom.
    pub deployment: NewDeployment,
    /// The requester's role.
    pub role: Option<String>,
    /// The person whose session the requester works in.
    pub operator: Option<String>,
    /// The commit that is checked out where the artifact lies, where the environment's rules are about it.
    pub commit: Option<String>,
    /// The entry of the ledger that says that Ralph passed it.
    pub verified: Option<String>,
    /// SHA-256 of the steps that would be taken.
    pub plan: ContentHash,
    /// SHA-256 of the rules in force, with the approvers.
    pub policy: ContentHash,
}

/// What makes one request another than the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The deployment.
    pub id: String,
    /// Random.
    pub nonce: String,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// From when on no approval counts.
    pub expires_at: Timestamp,
}

impl Seal {
    /// Makes a new one, of `now`, good for `minutes`.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers, or `now` is at the end of time.
    pub fn new(now: Timestamp, minutes: u32) -> anyhow::Result<Self> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        let expires_at = now.checked_add(jiff::SignedDuration::from_mins(i64::from(minutes)))?;
        Ok(Self { id: EntryId::generate().to_string(), nonce: hex::encode(nonce), requested_at: now, expires_at })
    }
}

impl Terms {
    /// Returns the bytes that are signed: one `name: value` a line, free text as a JSON string.
    #[must_use]
    pub fn to_text(&self, seal: &Seal) -> String {
        let new = &self.deployment;
        let quoted = |text: &Option<String>| text.as_ref().map_or("none".to_owned(), |text| quoted(text));
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "none".to_owned());
        let hash = |hash: &Option<ContentHash>| hash.map_or("none".to_owned(), |hash| hash.to_string());
        let lines = [
            ("id", seal.id.clone()),
            ("action", new.kind.as_str().to_owned()),
            ("environment", new.environment.clone()),
            ("service", new.service.to_string()),
            ("version", new.version.to_string()),
            ("artifact-sha256", new.artifact_digest.to_string()),
            ("configuration-sha256", hash(&new.configuration)),
            ("release-sha256", new.digest.to_string()),
            ("commit", word(&self.commit)),
            ("verified", word(&self.verified)),
            ("plan-sha256", self.plan.to_string()),
            ("policy-sha256", self.policy.to_string()),
            ("previous", new.previous.as_ref().map_or("none", ReleaseName::as_str).to_owned()),
            ("requester", quoted(&Some(new.agent.clone()))),
            ("role", quoted(&self.role)),
            ("task", quoted(&new.task_id)),
            ("operator", quoted(&self.operator)),
            ("nonce", seal.nonce.clone()),
            ("requested", seal.requested_at.to_string()),
            ("expires", seal.expires_at.to_string()),
        ];
        let mut text = format!("{FIRST_LINE}\n");
        for (name, value) in lines {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text
    }
}

/// Returns the names of the lines in which two texts of terms differ.
#[must_use]
pub fn differences(left: &str, right: &str) -> Vec<String> {
    let (mut left, mut right) = (left.lines(), right.lines());
    let mut names = Vec::new();
    loop {
        let (one, other) = (left.next(), right.next());
        if one.is_none() && other.is_none() {
            return names;
        }
        if one != other {
            let line = one.or(other).unwrap_or_default();
            names.push(line.split(':').next().unwrap_or_default().chars().take(40).collect());
        }
    }
}

/// Returns `text` as a JSON string in ASCII, so that no character can pass for another or for a line's end.
#[must_use]
pub fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\x7f' {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::{ServiceName, Version};
    use crate::store::Kind;

    pub(crate) fn sample() -> (Terms, Seal) {
        let version = Version::parse("1.0").unwrap();
        let terms = Terms {
            deployment: NewDeployment {
                kind: Kind::Deploy,
                environment: "prod".into(),
                service: ServiceName::parse("shop").unwrap(),
                version: version.clone(),
                digest: ContentHash::of(b"artifact"),
                artifact_digest: ContentHash::of(b"artifact"),
                configuration: None,
                folder: "/srv/prod/shop".into(),
                previous: Some(ReleaseName::new(&version, &ContentHash::of(b"before"))),
                agent: "bugfix-1".into(),
                task_id: None,
            },
            role: None,
            operator: None,
            commit: None,
            verified: None,
            plan: ContentHash::of(b"plan"),
            policy: ContentHash::of(b"policy"),
        };
        let seal = Seal {
            id: "0198".into(),
            nonce: "00".repeat(16),
            requested_at: "2026-11-21T08:00:00Z".parse().unwrap(),
            expires_at: "2026-11-22T08:00:00Z".parse().unwrap(),
        };
        (terms, seal)
    }

    #[test]
    fn every_fact_changes_the_bytes() {
        let (terms, seal) = sample();
        let changes: [(&str, &dyn Fn(&mut Terms, &mut Seal)); 20] = [
            ("id", &|_, seal| seal.id.push('0')),
            ("action", &|terms, _| terms.deployment.kind = Kind::Rollback),
            ("environment", &|terms, _| terms.deployment.environment = "staging".into()),
            ("service", &|terms, _| terms.deployment.service = ServiceName::parse("shop-2").unwrap()),
            ("version", &|terms, _| terms.deployment.version = Version::parse("1.1").unwrap()),
            ("artifact-sha256", &|terms, _| terms.deployment.artifact_digest = ContentHash::of(b"other")),
            ("configuration-sha256", &|terms, _| terms.deployment.configuration = Some(ContentHash::of(b"{}"))),
            ("release-sha256", &|terms, _| terms.deployment.digest = ContentHash::of(b"other")),
            ("commit", &|terms, _| terms.commit = Some("0".repeat(40))),
            ("verified", &|terms, _| terms.verified = Some("0198".into())),
            ("plan-sha256", &|terms, _| terms.plan = ContentHash::of(b"other")),
            ("policy-sha256", &|terms, _| terms.policy = ContentHash::of(b"other")),
            ("previous", &|terms, _| terms.deployment.previous = None),
            ("requester", &|terms, _| terms.deployment.agent = "bugfix-2".into()),
            ("role", &|terms, _| terms.role = Some("none".into())),
            ("task", &|terms, _| terms.deployment.task_id = Some("none".into())),
            ("operator", &|terms, _| terms.operator = Some("alice".into())),
            ("nonce", &|_, seal| seal.nonce = "11".repeat(16)),
            ("requested", &|_, seal| seal.requested_at = "2026-11-21T08:00:01Z".parse().unwrap()),
            ("expires", &|_, seal| seal.expires_at = "2027-11-22T08:00:00Z".parse().unwrap()),
        ];
        let before = terms.to_text(&seal);
        assert_eq!(before.lines().count(), changes.len() + 1, "a line that no change is tried on");
        for (name, change) in changes {
            let (mut terms, mut seal) = (terms.clone(), seal.clone());
            change(&mut terms, &mut seal);
            assert_eq!(differences(&before, &terms.to_text(&seal)), [name]);
        }
    }

    proptest! {
        #[test]
        fn free_text_stays_on_its_line(agent in "\\PC{0,30}|[\\n\\r\\x00-\\x1f:\"\\\\a-z \u{85}\u{2028}]{0,30}", other in "\\PC{0,30}") {
            let (mut terms, seal) = sample();
            terms.deployment.agent.clone_from(&agent);
            terms.role = Some(other);
            let text = terms.to_text(&seal);
            prop_assert!(text.is_ascii());
            prop_assert_eq!(text.lines().count(), 21);
            let line = text.lines().find_map(|line| line.strip_prefix("requester: ")).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(line).unwrap(), agent);
        }
    }
}
