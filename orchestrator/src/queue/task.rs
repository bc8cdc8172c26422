//! A task of the queue, as it is written in files.

use std::fmt;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tollgate_shared::money::Money;

/// Something to be done, and what is known about it beforehand. Other fields are kept as they are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Names it: at most 100 of A-Z a-z 0-9 . _ - : / #, the first a letter or a digit.
    pub id: String,
    /// What is to be done, in words.
    pub description: String,
    /// Where it is.
    pub status: Status,
    /// How urgent it is; P0 comes first.
    pub priority: Priority,
    /// Of which kind it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// One line for lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Which repository it is about: a name of `[queue.projects]`, the workspace where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// How hard it is.
    #[serde(default)]
    pub complexity_category: Complexity,
    /// What it is worth, in US dollars; 50 when left out.
    #[serde(default)]
    pub estimated_value_usd: Value50,
    /// Who should do it: names of `[queue.agents]`, the first that there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_agents: Vec<String>,
    /// Who does it, and nobody else: a name of `[queue.agents]`. Decides that one agent does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_type_override: Option<String>,
    /// Whether a team does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_multi_agent: Option<bool>,
    /// Why the router decided as it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_reason: Option<String>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// What must be so when it is done.
    #[serde(default)]
    pub acceptance: Acceptance,
    /// Tasks that must be completed before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// What it may cost over all its attempts, in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<Dollars>,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
    /// Whether what came of it was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<bool>,
    /// The branch that holds what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Since when it waits; of two that are equally urgent the older comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
    /// Everything else that the file says about it.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Map<String, Value>,
}

/// What must be so when a task is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Acceptance {
    /// Commands that must succeed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// In words, for whoever does it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<String>,
}

/// An amount of US dollars, written as text or, as older files do, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Dollars(pub Money);

/// What a task is worth; 50 dollars when nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Value50(pub Dollars);

impl Default for Value50 {
    fn default() -> Self {
        Self(Dollars("50".parse().unwrap_or_default()))
    }
}

impl Dollars {
    /// Reads an amount; `None` when it is none.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => text.parse().ok().map(Self),
            Value::Number(number) => number.to_string().parse().ok().map(Self),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::read(&value).ok_or_else(|| serde::de::Error::custom(format!("{value} is no amount of US dollars")))
    }
}

impl JsonSchema for Dollars {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dollars".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$" }, { "type": "number", "minimum": 0 }] })
    }
}

/// Declares an enum whose words are known by name: to serde, to the schema and to whoever is told what is allowed.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$of])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every word, in order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// Returns the word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text).ok_or_else(|| format!("`{text}` is none of {}", Self::WORDS.join(", ")))
            }
        }
    };
}

pub(super) use words;

words! {
    /// Where a task is.
    Status {
        /// Waits for what it depends on, then for a worker.
        Pending = "pending",
        /// A worker has it, or had it and is gone: whoever claims it goes on where that one was.
        InProgress = "in_progress",
        /// Waits for a person, who lets it run (`queue retry`) or does it.
        NeedsPerson = "needs_person",
        /// Cannot go on; its reason says why.
        Blocked = "blocked",
        /// Done and verified.
        Completed = "completed",
        /// Nobody wants it any more.
        Cancelled = "cancelled",
        /// Completed, and out of lists.
        Archived = "archived",
    }
}

words! {
    /// How urgent a task is.
    Priority {
        /// At once.
        P0 = "P0",
        /// Soon.
        P1 = "P1",
        /// In its turn.
        P2 = "P2",
        /// When nothing else is to be done.
        P3 = "P3",
    }
}

words! {
    /// Of which kind a task is.
    Kind {
        /// Something is wrong.
        Bug = "bug",
        /// Something is new.
        Feature = "feature",
        /// The same, better written.
        Refactor = "refactor",
        /// Tests.
        Test = "test",
        /// Documentation.
        Docs = "docs",
        /// Something is brought to where people use it.
        Deploy = "deploy",
        /// Data or an interface changes its form.
        Migration = "migration",
        /// Something is taken back.
        Rollback = "rollback",
        /// The same, faster.
        Performance = "performance",
        /// A weakness.
        Security = "security",
        /// Anything else.
        Chore = "chore",
    }
}

words! {
    /// How hard a task is.
    Complexity {
        /// A few lines.
        Low = "low",
        /// An ordinary change.
        Medium = "medium",
        /// Several parts that have to fit.
        High = "high",
        /// What must not go wrong.
        Critical = "critical",
    }
}

#[expect(clippy::derivable_impls, reason = "the enum is made by a macro that knows no default")]
impl Default for Complexity {
    fn default() -> Self {
        Self::Medium
    }
}

words! {
    /// Whose a task is.
    Category {
        /// An agent's.
        Dispatch = "DISPATCH",
        /// A team's, which prepares it for a person.
        Prep = "PREP",
        /// A person's.
        Yours = "YOURS",
    }
}

impl Status {
    /// Whether tasks that depend on it can go ahead.
    #[must_use]
    pub fn is_done(self) -> bool {
        matches!(self, Self::Completed | Self::Archived)
    }
}

impl Priority {
    /// Returns 0 for P0.
    #[must_use]
    pub fn rank(self) -> i64 {
        self as i64
    }
}
