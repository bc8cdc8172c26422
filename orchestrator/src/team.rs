//! A team: a task divided into parts, each of which is a session of its own. State and decisions, without any effect; what
//! is done about them is in `task::team`.

pub mod plan;
pub mod role;

use std::path::{Path, PathBuf};

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::money::Money;

use crate::agent::AgentSpec;
use plan::Part;
use role::{LEAD, Role, Roles};

/// How often the work of one member may be given back because it conflicts with another's.
pub(crate) const CONFLICTS_MAX: u32 = 3;

/// The table `[team]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TeamConfig {
    /// A folder with roles of your own, `NAME.md` each, from the workspace; they take the place of the house's of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<PathBuf>,
    /// How many members work at a time.
    #[schemars(range(min = 1, max = 16))]
    pub parallel: usize,
    /// Most parts that a lead may divide a task into.
    #[schemars(range(min = 1, max = 32))]
    pub members_max: usize,
    /// How much of the budget is kept for dividing the task and putting it together, in per cent.
    #[schemars(range(max = 90))]
    pub lead_percent: u8,
}

impl Default for TeamConfig {
    fn default() -> Self {
        Self { roles: None, parallel: 4, members_max: 6, lead_percent: 25 }
    }
}

/// The team of one task, as it was when the task began, and how far it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Team {
    /// The role of whoever divides the task and puts it together.
    pub lead: Role,
    /// The roles that there are for parts.
    pub roles: Vec<Role>,
    /// The roles of the members when the lead's own division cannot be used.
    pub default_roles: Vec<String>,
    /// See [`TeamConfig::parallel`].
    pub parallel: usize,
    /// See [`TeamConfig::members_max`].
    pub members_max: usize,
    /// See [`TeamConfig::lead_percent`].
    pub lead_percent: u8,
    /// Why the members are those of `default_roles`, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_reason: Option<String>,
    /// In the order in which they are merged; none before the task is divided.
    pub members: Vec<Member>,
    /// Why one agent does it after all, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// One part of a task, and who does it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Names the part within the task.
    pub id: String,
    /// What it does there.
    pub role: Role,
    /// Who it is.
    pub agent: AgentSpec,
    /// What is to be done, in words.
    pub task: String,
    /// Commands that must succeed, each as it would be typed.
    pub accept: Vec<String>,
    /// Members, by their place, whose work it needs; all of them stand before it.
    pub depends_on: Vec<usize>,
    /// Its session.
    pub session: String,
    /// What it may cost; set when it begins.
    pub budget_usd: Money,
    /// How far it is.
    pub state: MemberState,
    /// How often its work was given back because it conflicted with another's.
    pub conflicts: u32,
    /// What it said at the end, or why its part will not be done.
    pub report: String,
    /// What it cost so far.
    pub cost_usd: Money,
    /// How often it said that it is done.
    pub iterations: u32,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Somebody else's work is needed first, or nobody came to it yet.
    Waiting,
    /// It has a session that has not ended.
    Working,
    /// Its part is done and verified, and not yet in the whole.
    Done,
    /// Its part is in the whole, or was a report.
    Merged,
    /// Its part will not be done by it.
    Failed,
}

/// What a specialist's session knows of the whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// The session of the whole.
    pub team: String,
    /// Its part's name.
    pub member: String,
    /// What it does there.
    pub role: Role,
}

impl Team {
    /// Puts together who can be in the team.
    ///
    /// # Errors
    ///
    /// A sentence that names the role or its file.
    pub fn new(config: &TeamConfig, workspace: &Path, default_roles: &[String]) -> anyhow::Result<Self> {
        let folder = config.roles.as_ref().map(|folder| workspace.join(folder));
        let roles = Roles::read(folder.as_deref())?;
        anyhow::ensure!(!default_roles.is_empty(), "a team has at least one member");
        for name in default_roles {
            roles.find(name).context("[router] specialists")?;
        }
        Ok(Self {
            lead: roles.find(LEAD)?.clone(),
            roles: roles.specialists().cloned().collect(),
            default_roles: default_roles.to_vec(),
            parallel: config.parallel.clamp(1, 16),
            members_max: config.members_max.clamp(1, 32),
            lead_percent: config.lead_percent.min(90),
            default_reason: None,
            members: Vec::new(),
            fallback: None,
        })
    }

    /// Makes the members that do `parts`, for the task of the session `session` whose agent is `lead`.
    ///
    /// # Errors
    ///
    /// A sentence that names the role whose agent there is not.
    pub fn staff(&mut self, parts: Vec<Part>, session: &str, lead: &AgentSpec, workspace: &Path) -> anyhow::Result<()> {
        let mut members = Vec::new();
        for (place, part) in parts.into_iter().enumerate() {
            let role = self.roles.iter().find(|role| role.name == part.role);
            let role = role.with_context(|| format!("there is no role `{}`", part.role))?.clone();
            let agent = agent(&role, &part.id, lead, workspace)
                .with_context(|| format!("the agent of the role {}", role.name))?;
            members.push(Member {
                session: format!("{session}-{}", place + 1),
                id: part.id,
                agent,
                task: part.description,
                accept: part.acceptance,
                depends_on: part.depends_on,
                budget_usd: Money::ZERO,
                state: MemberState::Waiting,
                conflicts: 0,
                report: String::new(),
                cost_usd: Money::ZERO,
                iterations: 0,
                role,
            });
        }
        self.members = members;
        Ok(())
    }

    /// Returns the parts of a task that nobody divided: one for each of the usual roles, one after the other, so that each
    /// sees what those before it did.
    #[must_use]
    pub fn default_parts(&self, task: &str) -> Vec<Part> {
        let mut before: Option<usize> = None;
        let mut parts = Vec::new();
        for (place, name) in self.default_roles.iter().enumerate() {
            let role = self.roles.iter().find(|role| role.name == *name);
            parts.push(Part {
                id: format!("{name}-{}", place + 1),
                role: name.clone(),
                description: format!(
                    "{task}\n\nYou are one of {}: {}. Do the part of it that is yours as {name}; what is there already is the work of those before you.",
                    self.default_roles.len(),
                    self.default_roles.join(", ")
                ),
                acceptance: Vec::new(),
                depends_on: before.into_iter().collect(),
            });
            if role.is_some_and(|role| role.writes) {
                before = Some(place);
            }
        }
        parts
    }

    /// Returns the members that can work now: whose part is open, and what it needs is in the whole.
    #[must_use]
    pub fn due(&self) -> Vec<usize> {
        let is_there = |place: &usize| self.members.get(*place).is_some_and(|on| on.state == MemberState::Merged);
        (0..self.members.len())
            .filter(|place| match self.members[*place].state {
                MemberState::Working => true,
                MemberState::Waiting => self.members[*place].depends_on.iter().all(is_there),
                MemberState::Done | MemberState::Merged | MemberState::Failed => false,
            })
            .collect()
    }

    /// Returns the next member whose work is to be merged.
    #[must_use]
    pub fn to_merge(&self) -> Option<usize> {
        self.members.iter().position(|member| member.state == MemberState::Done)
    }

    /// Whether every part is in the whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.members.is_empty() && self.members.iter().all(|member| member.state == MemberState::Merged)
    }

    /// Returns the first member whose part will not be done, and why.
    #[must_use]
    pub fn failed(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.state == MemberState::Failed)
    }

    /// Returns what all members cost so far.
    #[must_use]
    pub fn cost(&self) -> Money {
        self.members.iter().map(|member| member.cost_usd).sum()
    }

    /// Returns what the lead may not spend of `budget`: what members cost, and what is set aside for those that work.
    #[must_use]
    pub fn committed(&self) -> Money {
        let of = |member: &Member| match member.state {
            MemberState::Working => member.budget_usd.max(member.cost_usd),
            _ => member.cost_usd,
        };
        self.members.iter().map(of).sum()
    }

    /// Sets aside for each of `due` that begins its share of what is left of `budget`, of which the lead spent `lead`.
    pub fn share_out(&mut self, due: &[usize], budget: Money, lead: Money) {
        let open = self.members.iter().filter(|member| member.state == MemberState::Waiting).count() as u64;
        let kept = budget.times(u64::from(self.lead_percent)).average_over(100);
        let left = budget.left_after(lead.max(kept)).left_after(self.committed());
        let share = left.average_over(open);
        // Rounded down: all shares together are never more than there is.
        let share = if share.times(open) > left { left_but_a_little(share) } else { share };
        for place in due {
            let member = &mut self.members[*place];
            if member.state == MemberState::Waiting {
                member.budget_usd = member.role.budget_usd.map_or(share, |most| most.min(share));
                member.state = MemberState::Working;
            }
        }
    }
}

fn left_but_a_little(share: Money) -> Money {
    share.left_after("0.00000001".parse().unwrap_or_default())
}

fn agent(role: &Role, part: &str, lead: &AgentSpec, workspace: &Path) -> anyhow::Result<AgentSpec> {
    if let Some(written) = &role.agent {
        return AgentSpec::from_workspace(written, workspace);
    }
    match lead {
        AgentSpec::Scripted { script } => {
            let found = script.members.get(part).or_else(|| script.members.get(&role.name));
            let script = found.with_context(|| format!("the script has no member `{part}` or `{}`", role.name))?;
            Ok(AgentSpec::Scripted { script: Box::new(script.clone()) })
        }
        other => Ok(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn team(parts: &[(&str, &str, &[usize])]) -> Team {
        let roles = ["bugfix".to_owned(), "testwriter".to_owned(), "advisor".to_owned()];
        let mut team = Team::new(&TeamConfig::default(), Path::new("/"), &roles).unwrap();
        let parts = parts.iter().map(|(id, role, on)| Part {
            id: (*id).to_owned(),
            role: (*role).to_owned(),
            description: "x".to_owned(),
            acceptance: Vec::new(),
            depends_on: on.to_vec(),
        });
        let lead = AgentSpec::Model { name: "m".to_owned() };
        team.staff(parts.collect(), "task-1", &lead, Path::new("/")).unwrap();
        team
    }

    #[test]
    fn members_are_due_when_what_they_need_is_in_the_whole() {
        let mut team = team(&[("a", "bugfix", &[]), ("b", "testwriter", &[0]), ("c", "advisor", &[])]);
        assert_eq!(team.due(), [0, 2]);
        team.members[0].state = MemberState::Done;
        assert_eq!((team.due(), team.to_merge()), (vec![2], Some(0)));
        team.members[0].state = MemberState::Merged;
        team.members[2].state = MemberState::Working;
        assert_eq!((team.due(), team.to_merge()), (vec![1, 2], None));
        assert_eq!(team.members[1].session, "task-1-2");
    }

    #[test]
    fn shares_are_never_more_than_there_is_and_the_lead_keeps_its_own() {
        let mut team = team(&[("a", "bugfix", &[]), ("b", "testwriter", &[]), ("c", "advisor", &[0])]);
        team.share_out(&[0, 1], usd("1"), usd("0.1"));
        let shares: Vec<Money> = team.members.iter().map(|member| member.budget_usd).collect();
        assert_eq!(shares, [usd("0.25"), usd("0.25"), Money::ZERO]);
        assert_eq!(team.committed(), usd("0.5"));
        // One spent little: what it left is there for the others.
        (team.members[0].state, team.members[0].cost_usd) = (MemberState::Merged, usd("0.01"));
        (team.members[1].state, team.members[1].cost_usd) = (MemberState::Merged, usd("0.25"));
        team.share_out(&[2], usd("1"), usd("0.1"));
        assert_eq!(team.members[2].budget_usd, usd("0.49"));
        // The lead spent nearly everything.
        team.members[2].state = MemberState::Waiting;
        team.share_out(&[2], usd("1"), usd("0.74"));
        assert!(team.members[2].budget_usd.is_zero());
    }

    #[test]
    fn thirds_of_a_cent_do_not_add_up_to_more() {
        let mut team = team(&[("a", "bugfix", &[]), ("b", "testwriter", &[]), ("c", "advisor", &[])]);
        team.lead_percent = 0;
        team.share_out(&[0, 1, 2], usd("0.02"), Money::ZERO);
        assert!(team.committed() <= usd("0.02"), "{}", team.committed());
        assert!(team.committed() > usd("0.0199"), "{}", team.committed());
    }

    #[test]
    fn usual_parts_stand_one_behind_the_other_and_nobody_waits_for_an_advisor() {
        let team = team(&[("a", "bugfix", &[])]);
        let parts = team.default_parts("Mend it.");
        let order: Vec<_> = parts.iter().map(|part| (part.role.as_str(), part.depends_on.clone())).collect();
        assert_eq!(order, [("bugfix", vec![]), ("testwriter", vec![0]), ("advisor", vec![1])]);
    }
}
