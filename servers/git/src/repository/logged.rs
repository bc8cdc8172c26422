//! A commit as answers show it.

use git2::{Commit, Time};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use schemars::JsonSchema;
use serde::Serialize;

use super::paths::cut;

/// Longest body that is shown: a page.
const BODY_BYTES_MAX: usize = 4000;

/// A commit as answers show it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Logged {
    /// The id of the commit.
    oid: String,
    /// The author's name.
    author: String,
    /// The author's address.
    email: String,
    /// When it was written, RFC 3339.
    date: String,
    /// The first paragraph of the message.
    summary: String,
    /// The rest of the message; left out when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Whether the body is cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    body_truncated: bool,
    /// The ids of the parents.
    parents: Vec<String>,
}

impl Logged {
    /// Reads `commit`.
    #[must_use]
    pub fn new(commit: &Commit<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let author = commit.author();
        let body = commit.body_bytes().map(text).map(|body| body.trim().to_owned()).filter(|body| !body.is_empty());
        let body_truncated = body.as_ref().is_some_and(|body| body.len() > BODY_BYTES_MAX);
        let summary = commit.summary_bytes().map(text).unwrap_or_default();
        Self {
            oid: commit.id().to_string(),
            author: cut(&text(author.name_bytes()), BODY_BYTES_MAX).to_owned(),
            email: cut(&text(author.email_bytes()), BODY_BYTES_MAX).to_owned(),
            date: rfc3339(author.when()),
            summary: cut(&summary, BODY_BYTES_MAX).to_owned(),
            body: body.map(|body| cut(&body, BODY_BYTES_MAX).to_owned()),
            body_truncated,
            parents: commit.parent_ids().map(|id| id.to_string()).collect(),
        }
    }

    /// Returns about how many bytes it takes in an answer.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, String::len);
        150 + self.author.len() + self.email.len() + self.summary.len() + body + self.parents.len() * 44
    }

    /// Returns it as `git show --date=iso` heads a commit.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("commit {}\n", self.oid);
        if self.parents.len() > 1 {
            text.push_str(&format!("Merge: {}\n", self.parents.join(" ")));
        }
        text.push_str(&format!("Author: {} <{}>\nDate:   {}\n\n", self.author, self.email, self.date));
        let body = self.body.as_deref().unwrap_or_default();
        for line in self.summary.lines().chain((!body.is_empty()).then_some("")).chain(body.lines()) {
            text.push_str(&format!("    {line}\n"));
        }
        if self.body_truncated {
            text.push_str("    [cut]\n");
        }
        text
    }
}

/// Returns `time` with its offset; commits can claim any time at all, so one that is none is the epoch.
#[must_use]
pub fn rfc3339(time: Time) -> String {
    let instant = Timestamp::from_second(time.seconds()).unwrap_or(Timestamp::UNIX_EPOCH);
    let offset = Offset::from_seconds(time.offset_minutes().saturating_mul(60)).unwrap_or(Offset::UTC);
    instant.to_zoned(TimeZone::fixed(offset)).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_offset() {
        assert_eq!(rfc3339(Time::new(1_700_000_000, 120)), "2023-11-15T00:13:20+02:00");
        assert_eq!(rfc3339(Time::new(i64::MAX, i32::MAX)), "1970-01-01T00:00:00+00:00");
    }
}
