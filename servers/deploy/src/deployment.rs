//! The life of a deployment: which state may follow which.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use DeploymentEvent as Event;
use DeploymentState as State;

/// Where a deployment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Asked for.
    Requested,
    /// The artifact and every gate but approval are in order.
    Validated,
    /// A human has to agree.
    AwaitingApproval,
    /// May be carried out.
    Approved,
    /// The release is being copied and made current.
    Deploying,
    /// The release is current, its health is being checked.
    Verifying,
    /// Current and healthy.
    Live,
    /// Unhealthy; the previous release is being made current again.
    RollingBack,
    /// What was current before is current again, or an older release was put in its place.
    RolledBack,
    /// Ended without effect, or with something current that is neither it nor what was before.
    Failed,
    /// Taken back before it had an effect.
    Cancelled,
    /// Nobody agreed in time.
    Expired,
    /// Was live until a newer one was.
    Superseded,
}

/// What happens to a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeploymentEvent {
    /// It was asked for; only ever the first event.
    Request,
    /// Artifact and gates were found in order.
    Validate,
    /// It needs a human's approval.
    AwaitApproval,
    /// It was approved, or needs no approval.
    Approve,
    /// Its effects begin.
    Start,
    /// Its release was made current.
    Switch,
    /// Its health check passed.
    Pass,
    /// Its health check failed, or was never made.
    GiveUp,
    /// The previous release is current again.
    Restore,
    /// It cannot go on.
    Fail,
    /// It was taken back.
    Cancel,
    /// Its time ran out.
    Expire,
    /// A newer deployment is live.
    Supersede,
    /// A rollback put an older release in its place.
    Withdraw,
}

/// An event that cannot happen in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a deployment that is {state} cannot {event}")]
pub struct IllegalEvent {
    /// Where the deployment stands.
    pub state: DeploymentState,
    /// What cannot happen.
    pub event: DeploymentEvent,
}

/// Not the name of a state.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{0}` is not the state of a deployment")]
pub struct UnknownState(String);

impl DeploymentState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 13] = [
        Self::Requested,
        Self::Validated,
        Self::AwaitingApproval,
        Self::Approved,
        Self::Deploying,
        Self::Verifying,
        Self::Live,
        Self::RollingBack,
        Self::RolledBack,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Superseded,
    ];

    /// Returns the state after `event`.
    ///
    /// # Errors
    ///
    /// [`IllegalEvent`] when `event` cannot follow.
    pub fn after(self, event: DeploymentEvent) -> Result<Self, IllegalEvent> {
        match (self, event) {
            (State::Requested, Event::Validate) => Ok(State::Validated),
            (State::Validated, Event::AwaitApproval) => Ok(State::AwaitingApproval),
            (State::Validated | State::AwaitingApproval, Event::Approve) => Ok(State::Approved),
            (State::Approved, Event::Start) => Ok(State::Deploying),
            (State::Deploying, Event::Switch) => Ok(State::Verifying),
            (State::Verifying, Event::Pass) => Ok(State::Live),
            (State::Verifying, Event::GiveUp) => Ok(State::RollingBack),
            (State::RollingBack, Event::Restore) => Ok(State::RolledBack),
            (State::Live, Event::Supersede) => Ok(State::Superseded),
            (State::Live, Event::Withdraw) => Ok(State::RolledBack),
            (State::AwaitingApproval | State::Approved, Event::Expire) => Ok(State::Expired),
            (
                State::Requested | State::Validated | State::AwaitingApproval | State::Approved | State::Deploying,
                Event::Cancel,
            ) => Ok(State::Cancelled),
            (
                State::Requested
                | State::Validated
                | State::AwaitingApproval
                | State::Approved
                | State::Deploying
                // Only when somebody else moved `current` meanwhile: then there is nothing of ours to undo.
                | State::Verifying
                | State::RollingBack,
                Event::Fail,
            ) => Ok(State::Failed),
            (state, event) => Err(IllegalEvent { state, event }),
        }
    }

    /// Whether a process must be at work on it, so that without one it has to be completed or undone.
    #[must_use]
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Deploying | Self::Verifying | Self::RollingBack)
    }

    /// Returns the name, as it is stored and answered.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Validated => "validated",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Approved => "approved",
            Self::Deploying => "deploying",
            Self::Verifying => "verifying",
            Self::Live => "live",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }
}

impl DeploymentEvent {
    /// Every event.
    pub const ALL: [Self; 14] = [
        Self::Request,
        Self::Validate,
        Self::AwaitApproval,
        Self::Approve,
        Self::Start,
        Self::Switch,
        Self::Pass,
        Self::GiveUp,
        Self::Restore,
        Self::Fail,
        Self::Cancel,
        Self::Expire,
        Self::Supersede,
        Self::Withdraw,
    ];

    /// Returns the name, as it is stored and answered.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Validate => "validate",
            Self::AwaitApproval => "await_approval",
            Self::Approve => "approve",
            Self::Start => "start",
            Self::Switch => "switch",
            Self::Pass => "pass",
            Self::GiveUp => "give_up",
            Self::Restore => "restore",
            Self::Fail => "fail",
            Self::Cancel => "cancel",
            Self::Expire => "expire",
            Self::Supersede => "supersede",
            Self::Withdraw => "withdraw",
        }
    }
}

impl fmt::Display for DeploymentState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for DeploymentEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for DeploymentState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| UnknownState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every transition that exists; what is not here must be refused.
    const TRANSITIONS: &[(&str, &str, &str)] = &[
        ("requested", "validate", "validated"),
        ("requested", "fail", "failed"),
        ("requested", "cancel", "cancelled"),
        ("validated", "await_approval", "awaiting_approval"),
        ("validated", "approve", "approved"),
        ("validated", "fail", "failed"),
        ("validated", "cancel", "cancelled"),
        ("awaiting_approval", "approve", "approved"),
        ("awaiting_approval", "fail", "failed"),
        ("awaiting_approval", "cancel", "cancelled"),
        ("awaiting_approval", "expire", "expired"),
        ("approved", "start", "deploying"),
        ("approved", "fail", "failed"),
        ("approved", "cancel", "cancelled"),
        ("approved", "expire", "expired"),
        ("deploying", "switch", "verifying"),
        ("deploying", "fail", "failed"),
        ("deploying", "cancel", "cancelled"),
        ("verifying", "pass", "live"),
        ("verifying", "give_up", "rolling_back"),
        ("verifying", "fail", "failed"),
        ("rolling_back", "restore", "rolled_back"),
        ("rolling_back", "fail", "failed"),
        ("live", "supersede", "superseded"),
        ("live", "withdraw", "rolled_back"),
    ];

    #[test]
    fn every_state_takes_exactly_its_events() {
        for state in State::ALL {
            for event in Event::ALL {
                let expected = TRANSITIONS
                    .iter()
                    .find(|(from, by, _)| *from == state.as_str() && *by == event.as_str())
                    .map(|(_, _, to)| to.parse::<State>().unwrap())
                    .ok_or(IllegalEvent { state, event });
                assert_eq!(state.after(event), expected, "{state} after {event}");
            }
        }
    }

    #[test]
    fn ended_deployments_take_no_event() {
        for state in [State::RolledBack, State::Failed, State::Cancelled, State::Expired, State::Superseded] {
            assert!(Event::ALL.into_iter().all(|event| state.after(event).is_err()), "{state}");
        }
    }

    #[test]
    fn nothing_is_deployed_without_approval() {
        for state in State::ALL {
            for event in Event::ALL {
                if state.after(event) == Ok(State::Deploying) {
                    assert_eq!(state, State::Approved);
                }
            }
        }
    }

    #[test]
    fn names_are_what_serde_writes() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
            assert_eq!(state.as_str().parse::<State>().unwrap(), state);
        }
    }
}
