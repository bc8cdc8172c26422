//! Who should do a task: one agent, a team or a person. A decision over data, without any effect.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tollgate_shared::money::Money;

use crate::queue::task::{Category, Complexity, Kind, Task};

/// The table `[router]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouterConfig {
    /// From which value on a team does a task, in US dollars.
    pub team_value_usd: Money,
    /// Complexities that a team does.
    pub team_complexities: Vec<Complexity>,
    /// Types that a team does.
    pub team_types: Vec<Kind>,
    /// Words of the title, the description or the criteria for which a team does a task; whole words, in any case.
    pub team_words: Vec<String>,
    /// Who is in the team, by type.
    pub specialists: BTreeMap<Kind, Vec<String>>,
    /// Who is in the team for any other type.
    pub other_specialists: Vec<String>,
    /// What a task costs one agent, by complexity, in US dollars; a team costs that for each of its members and once more.
    pub single_cost_usd: BTreeMap<Complexity, Money>,
    /// How many of a hundred tasks a team may do; the same ones for the same number, and more of them for a larger one.
    #[schemars(range(max = 100))]
    pub team_rollout_percent: u8,
}

impl Default for RouterConfig {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let usd = |text: &str| text.parse().unwrap_or_default();
        Self {
            team_value_usd: usd("50"),
            team_complexities: vec![Complexity::High, Complexity::Critical],
            team_types: vec![Kind::Deploy, Kind::Migration, Kind::Rollback],
            team_words: names(&[
                "HIPAA",
                "PII",
                "PHI",
                "credential",
                "credentials",
                "licence",
                "licences",
                "license",
                "licenses",
                "compliance",
                "audit",
                "cross-repo",
                "cross-repository",
            ]),
            specialists: BTreeMap::from([
                (Kind::Bug, names(&["bugfix", "testwriter"])),
                (Kind::Feature, names(&["featurebuilder", "testwriter", "codequality"])),
                (Kind::Refactor, names(&["codequality", "testwriter"])),
                (Kind::Deploy, names(&["deployment", "advisor"])),
                (Kind::Migration, names(&["deployment", "advisor"])),
                (Kind::Rollback, names(&["deployment", "advisor"])),
            ]),
            other_specialists: names(&["codequality", "testwriter"]),
            single_cost_usd: BTreeMap::from([
                (Complexity::Low, usd("0.50")),
                (Complexity::Medium, usd("2")),
                (Complexity::High, usd("8")),
                (Complexity::Critical, usd("20")),
            ]),
            team_rollout_percent: 100,
        }
    }
}

/// Who does a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// One agent.
    Single,
    /// Several, each with a part of it.
    Team,
    /// A person.
    Human,
}

/// Which rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Somebody named the agent.
    Override,
    /// Somebody said whether a team does it.
    UseMultiAgent,
    /// Its type, or what it is about.
    Special,
    /// How hard it is.
    Complexity,
    /// What it is worth.
    Value,
    /// Whose it is.
    Category,
    /// None.
    Otherwise,
}

/// A decision and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// Who does it.
    pub decision: Decision,
    /// Which rule decided.
    pub rule: Rule,
    /// Why, in a sentence.
    pub reason: String,
    /// Who would be in the team.
    pub specialists: Vec<String>,
    /// What it will most likely cost one agent.
    pub single_cost_usd: Money,
    /// What it will most likely cost a team.
    pub team_cost_usd: Money,
    /// By how much of the task's value a team's work is expected to be better, in per cent.
    pub quality_gain_percent: u64,
    /// What that is worth for each hundred dollars that a team costs more, in dollars.
    pub roi_percent: u64,
    /// How sure the rule is, in per cent.
    pub confidence_percent: u8,
    /// Whether a team was to do it and one agent does.
    #[serde(default)]
    pub fallback: bool,
}

/// Decides who does `task`: the first rule that says something. `teams_off` says why teams do no tasks now, when they do none.
#[must_use]
pub fn route(task: &Task, config: &RouterConfig, teams_off: Option<&str>) -> Routing {
    let (mut decision, rule, mut reason, confidence_percent) = decide(task, config);
    let mut fallback = false;
    if decision == Decision::Team {
        let percent = config.team_rollout_percent;
        let why = match teams_off {
            Some(why) => Some(why.to_owned()),
            None if is_rolled_out(&task.id, percent) => None,
            None => Some(format!("teams do {percent} % of tasks, and this is none of them")),
        };
        if let Some(why) = why {
            decision = Decision::Single;
            fallback = true;
            reason.push_str(&format!("; {why}"));
        }
    }
    let specialists = config.specialists.get(&task.kind).unwrap_or(&config.other_specialists).clone();
    let single_cost_usd = config.single_cost_usd.get(&task.complexity_category).copied().unwrap_or_default();
    // One share more than members: somebody has to divide the task and to put it together.
    let team_cost_usd = single_cost_usd.times(specialists.len() as u64 + 1);
    let quality_gain_percent = match task.complexity_category {
        Complexity::Low => 5,
        Complexity::Medium => 10,
        Complexity::High => 25,
        Complexity::Critical => 40,
    };
    let gain = task.estimated_value_usd.0.0.times(quality_gain_percent).average_over(100);
    let roi_percent = percent(gain, team_cost_usd.left_after(single_cost_usd));
    Routing {
        decision,
        rule,
        reason,
        specialists,
        single_cost_usd,
        team_cost_usd,
        quality_gain_percent,
        roi_percent,
        confidence_percent,
        fallback,
    }
}

fn decide(task: &Task, config: &RouterConfig) -> (Decision, Rule, String, u8) {
    if let Some(agent) = &task.agent_type_override {
        return (Decision::Single, Rule::Override, format!("agent_type_override names {agent}"), 100);
    }
    if let Some(wanted) = task.use_multi_agent {
        let decision = if wanted { Decision::Team } else { Decision::Single };
        return (decision, Rule::UseMultiAgent, format!("use_multi_agent is {wanted}"), 100);
    }
    if config.team_types.contains(&task.kind) {
        return (Decision::Team, Rule::Special, format!("a {} is for a team", task.kind), 95);
    }
    if let Some(word) = config.team_words.iter().find(|word| is_about(task, word)) {
        return (Decision::Team, Rule::Special, format!("it is about `{word}`"), 85);
    }
    if config.team_complexities.contains(&task.complexity_category) {
        return (Decision::Team, Rule::Complexity, format!("its complexity is {}", task.complexity_category), 85);
    }
    let value = task.estimated_value_usd.0.0;
    if value >= config.team_value_usd {
        let least = config.team_value_usd.normalized();
        return (Decision::Team, Rule::Value, format!("it is worth ${}, at least ${least}", value.normalized()), 75);
    }
    match task.category {
        Some(Category::Prep) => (Decision::Team, Rule::Category, "its category is PREP".to_owned(), 90),
        Some(Category::Yours) => (Decision::Human, Rule::Category, "its category is YOURS".to_owned(), 100),
        Some(Category::Dispatch) | None => {
            (Decision::Single, Rule::Otherwise, "nothing about it needs more than one agent".to_owned(), 80)
        }
    }
}

/// Whether a text of the task has `word` in it, as a whole and in any case.
fn is_about(task: &Task, word: &str) -> bool {
    let texts = [task.title.as_deref().unwrap_or_default(), &task.description];
    texts.into_iter().chain(task.acceptance.criteria.iter().map(String::as_str)).any(|text| has_word(text, word))
}

fn has_word(text: &str, word: &str) -> bool {
    let (text, word) = (text.to_lowercase(), word.to_lowercase());
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    !word.is_empty()
        && text.match_indices(&word).any(|(at, found)| {
            !is_part(text[..at].chars().next_back()) && !is_part(text[at + found.len()..].chars().next())
        })
}

/// Whether the task `id` is one of the `percent` of a hundred; who is in for some is in for more.
#[must_use]
pub fn is_rolled_out(id: &str, percent: u8) -> bool {
    let digest = Sha256::digest(id.as_bytes());
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    number % 100 < u32::from(percent)
}

/// Returns how many hundredths of `whole` `part` is, at most a million; nothing of nothing.
fn percent(part: Money, whole: Money) -> u64 {
    const MOST: u64 = 1_000_000;
    if whole.is_zero() {
        return 0;
    }
    let (mut least, mut most) = (0, MOST);
    // A division that amounts of money do not have: the largest number of hundredths that fit.
    while least < most {
        let middle = (least + most).div_ceil(2);
        if whole.times(middle) <= part.times(100) { least = middle } else { most = middle - 1 }
    }
    least
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn task(fields: Value) -> Task {
        let mut body = json!({"id": "t", "description": "correct it", "status": "pending", "priority": "P2", "type": "bug",
            "complexity_category": "low", "estimated_value_usd": "25"});
        let Value::Object(fields) = fields else { panic!("{fields} is no object") };
        for (name, value) in fields {
            body[name] = value;
        }
        serde_json::from_value(body).unwrap()
    }

    fn decided(fields: Value) -> (Decision, Rule) {
        let routing = route(&task(fields), &RouterConfig::default(), None);
        assert!(!routing.reason.is_empty());
        (routing.decision, routing.rule)
    }

    #[test]
    fn each_rule_decides_and_its_neighbours_do_not() {
        use Decision::{Human, Single, Team};
        for (fields, expected) in [
            (json!({}), (Single, Rule::Otherwise)),
            (json!({"agent_type_override": "x"}), (Single, Rule::Override)),
            (json!({"use_multi_agent": true}), (Team, Rule::UseMultiAgent)),
            (json!({"use_multi_agent": false}), (Single, Rule::UseMultiAgent)),
            (json!({"type": "deploy"}), (Team, Rule::Special)),
            (json!({"type": "migration"}), (Team, Rule::Special)),
            (json!({"type": "rollback"}), (Team, Rule::Special)),
            (json!({"type": "security"}), (Single, Rule::Otherwise)),
            (json!({"description": "Mask PII in logs"}), (Team, Rule::Special)),
            (json!({"description": "the hipaa export"}), (Team, Rule::Special)),
            (json!({"title": "PHI."}), (Team, Rule::Special)),
            (json!({"description": "rotate credentials"}), (Team, Rule::Special)),
            (json!({"description": "wrong licence header"}), (Team, Rule::Special)),
            (json!({"acceptance": {"criteria": ["compliance signs"]}}), (Team, Rule::Special)),
            (json!({"description": "an audit log"}), (Team, Rule::Special)),
            (json!({"description": "a cross-repo rename"}), (Team, Rule::Special)),
            (json!({"description": "auditorium, PIIs, sophisticated graphics, _phi_"}), (Single, Rule::Otherwise)),
            (json!({"complexity_category": "medium"}), (Single, Rule::Otherwise)),
            (json!({"complexity_category": "high"}), (Team, Rule::Complexity)),
            (json!({"complexity_category": "critical"}), (Team, Rule::Complexity)),
            (json!({"estimated_value_usd": "49.99"}), (Single, Rule::Otherwise)),
            (json!({"estimated_value_usd": 49.99}), (Single, Rule::Otherwise)),
            (json!({"estimated_value_usd": "49.999999999999"}), (Single, Rule::Otherwise)),
            (json!({"estimated_value_usd": "50"}), (Team, Rule::Value)),
            (json!({"estimated_value_usd": 50}), (Team, Rule::Value)),
            (json!({"estimated_value_usd": 50.0}), (Team, Rule::Value)),
            (json!({"estimated_value_usd": "50.01"}), (Team, Rule::Value)),
            (json!({"category": "PREP"}), (Team, Rule::Category)),
            (json!({"category": "YOURS"}), (Human, Rule::Category)),
            (json!({"category": "DISPATCH"}), (Single, Rule::Otherwise)),
        ] {
            assert_eq!(decided(fields.clone()), expected, "{fields}");
        }
    }

    #[test]
    fn what_is_not_said_is_worth_fifty_dollars_and_of_medium_complexity() {
        let body = json!({"id": "t", "description": "d", "status": "pending", "priority": "P2", "type": "bug"});
        let task: Task = serde_json::from_value(body).unwrap();
        let routing = route(&task, &RouterConfig::default(), None);
        assert_eq!((routing.decision, routing.rule), (Decision::Team, Rule::Value));
    }

    #[test]
    fn of_two_rules_the_earlier_decides() {
        // Each field alone would lead to the rule beside it; all behind it are there too.
        let rules = [
            ("agent_type_override", json!("x"), Rule::Override),
            ("use_multi_agent", json!(true), Rule::UseMultiAgent),
            ("type", json!("deploy"), Rule::Special),
            ("complexity_category", json!("high"), Rule::Complexity),
            ("estimated_value_usd", json!("50"), Rule::Value),
            ("category", json!("YOURS"), Rule::Category),
        ];
        for first in 0..rules.len() {
            for second in first + 1..rules.len() {
                let fields = json!({ rules[first].0: rules[first].1, rules[second].0: rules[second].1 });
                assert_eq!(decided(fields.clone()).1, rules[first].2, "{fields}");
            }
            let fields: serde_json::Map<_, _> =
                rules[first..].iter().map(|(name, value, _)| ((*name).to_owned(), value.clone())).collect();
            assert_eq!(decided(Value::Object(fields)).1, rules[first].2);
        }
    }

    #[test]
    fn specialists_and_estimates_follow_type_and_complexity() {
        let config = RouterConfig::default();
        for (kind, names) in [
            ("bug", "bugfix testwriter"),
            ("feature", "featurebuilder testwriter codequality"),
            ("refactor", "codequality testwriter"),
            ("deploy", "deployment advisor"),
            ("migration", "deployment advisor"),
        ] {
            assert_eq!(route(&task(json!({"type": kind})), &config, None).specialists.join(" "), names, "{kind}");
        }
        let routing = route(&task(json!({"complexity_category": "high", "estimated_value_usd": "200"})), &config, None);
        // Two specialists and the lead: three times 8. A quarter of 200 for 16 more.
        assert_eq!((routing.single_cost_usd, routing.team_cost_usd), ("8".parse().unwrap(), "24".parse().unwrap()));
        assert_eq!((routing.quality_gain_percent, routing.roi_percent), (25, 312));
    }

    #[test]
    fn thresholds_words_and_types_are_the_operators() {
        let config: RouterConfig = serde_json::from_value(json!({"team_value_usd": "10", "team_words": ["billing"],
            "team_types": [], "team_complexities": [], "specialists": {"bug": ["a"]}}))
        .unwrap();
        let rule = |fields| route(&task(fields), &config, None).rule;
        assert_eq!(rule(json!({"estimated_value_usd": "10"})), Rule::Value);
        assert_eq!(rule(json!({"estimated_value_usd": "9.99", "description": "the Billing page"})), Rule::Special);
        assert_eq!(
            rule(json!({"estimated_value_usd": "9.99", "type": "deploy", "complexity_category": "high"})),
            Rule::Otherwise
        );
        assert_eq!(route(&task(json!({})), &config, None).specialists, ["a"]);
    }

    #[test]
    fn rollout_is_a_share_of_tasks_and_always_the_same() {
        let ids: Vec<String> = (0..10_000).map(|number| format!("task-{number}")).collect();
        let share = |percent| ids.iter().filter(|id| is_rolled_out(id, percent)).cloned().collect::<Vec<_>>();
        assert_eq!((share(0).len(), share(100).len()), (0, ids.len()));
        let tenth = share(10);
        assert!((900..1100).contains(&tenth.len()), "{}", tenth.len());
        assert_eq!(share(10), tenth);
        assert!(tenth.iter().all(|id| is_rolled_out(id, 11)), "who is in stays in");
        let config = RouterConfig { team_rollout_percent: 0, ..RouterConfig::default() };
        let routing = route(&task(json!({"type": "deploy"})), &config, None);
        assert_eq!((routing.decision, routing.fallback), (Decision::Single, true), "{}", routing.reason);
    }
}
