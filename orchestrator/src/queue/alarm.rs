//! What is not as it should be with all tasks together: looked at in the transaction that changes it, and what stops work stops
//! it for every worker at once.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::money::Money;

use super::database::{Changes, Columns};
use super::event::{EventKind, News, id_end};
use super::store::{Queue, QueueError};
use super::task::words;
use crate::budget::day_of;

/// `[queue.alerts]`: from where on something is not as it should be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertConfig {
    /// When a task costs more than this, in US dollars, and each time it has cost as much again, nothing is claimed any more
    /// until a person resets it; "0" never.
    pub task_usd: Money,
    /// The same of all tasks on one day (UTC).
    pub day_usd: Money,
    /// How many of a hundred tasks may end blocked.
    #[schemars(range(max = 100))]
    pub failure_percent_max: u8,
    /// How many of a hundred tasks may take more than one attempt.
    #[schemars(range(max = 100))]
    pub retry_percent_max: u8,
    /// How many of a hundred attempts a team has to complete; below, teams do no more tasks until a person resets it.
    #[schemars(range(max = 100))]
    pub team_success_percent_min: u8,
    /// What a team's attempt may cost on average, in US dollars; above, the same.
    pub team_cost_usd_max: Money,
    /// Of how many of the latest these rates are.
    #[schemars(range(min = 1, max = 1000))]
    pub window: u32,
    /// How many there have to be before a rate means anything.
    #[schemars(range(min = 1, max = 1000))]
    pub window_min: u32,
}

impl Default for AlertConfig {
    fn default() -> Self {
        let usd = |text: &str| text.parse().unwrap_or_default();
        Self {
            task_usd: usd("50"),
            day_usd: usd("100"),
            failure_percent_max: 20,
            retry_percent_max: 50,
            team_success_percent_min: 50,
            team_cost_usd_max: usd("50"),
            window: 20,
            window_min: 5,
        }
    }
}

words! {
    /// What is not as it should be.
    AlarmName {
        /// A day cost more than it should; stops work.
        DayCost = "day_cost",
        /// Too many tasks end blocked.
        FailureRate = "failure_rate",
        /// Too many tasks take more than one attempt.
        RetryRate = "retry_rate",
        /// A task cost more than it should; stops work.
        TaskCost = "task_cost",
        /// Teams complete too little, or cost too much: they do no more tasks.
        TeamRollout = "team_rollout",
    }
}

impl AlarmName {
    /// Whether nothing is claimed while it stands.
    #[must_use]
    pub fn stops_work(self) -> bool {
        matches!(self, Self::DayCost | Self::TaskCost)
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// What.
    pub name: AlarmName,
    /// Since when, by the database's clock.
    pub at: Timestamp,
    /// In a sentence.
    pub note: String,
}

/// What goes into a claim's condition.
pub(super) const NOTHING_STOPS_WORK: &str = "NOT EXISTS (SELECT 1 FROM queue_alarm WHERE stops_work = 1)";

/// How many outcomes are kept: more than any window.
const OUTCOMES_KEPT: i64 = 5_000;

/// How an attempt ended.
pub(super) struct Outcome<'a> {
    pub(super) task: &'a str,
    pub(super) what: &'a str,
    pub(super) who: &'a str,
    pub(super) attempts: i64,
    pub(super) cost: Money,
}

impl Queue {
    /// Returns what is not as it should be.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn alarms(&self) -> Result<Vec<Alarm>, QueueError> {
        self.database.fetch("SELECT name, at, note FROM queue_alarm ORDER BY at, name", &[], alarm).await
    }

    /// Returns why teams do no tasks now; `None` when they do.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn teams_off(&self) -> Result<Option<String>, QueueError> {
        let sql = "SELECT note FROM queue_alarm WHERE name = $1";
        Ok(self.database.fetch(sql, &[AlarmName::TeamRollout.as_str().into()], |row| row.text(0)).await?.pop())
    }

    /// Returns what was spent on the day that it is by the database's clock (UTC).
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn spent_today(&self) -> Result<Money, QueueError> {
        let day = day(self.now_ms().await?);
        let sql = "SELECT spent_usd FROM queue_day WHERE day = $1";
        let spent = self.database.fetch(sql, &[day.into()], |row| row.text(0)).await?.pop();
        Ok(spent.and_then(|spent| spent.parse().ok()).unwrap_or_default())
    }

    /// Takes back those of the alarms `names` that stand, in the name of a person; returns which they were. Rates are counted
    /// anew from here on.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn reset(&self, names: &[AlarmName], who: &str) -> Result<Vec<Alarm>, QueueError> {
        let mut step = self.database.begin().await?;
        let mut reset = Vec::new();
        for name in names {
            let sql = "DELETE FROM queue_alarm WHERE name = $1 RETURNING name, at, note";
            reset.extend(step.fetch(sql, &[name.as_str().into()], alarm).await?);
        }
        if reset.iter().any(|alarm| alarm.name == AlarmName::TeamRollout) {
            // How tasks ended still counts.
            step.execute("UPDATE queue_outcome SET who = 'single' WHERE who <> 'single'", &[]).await?;
        }
        let notes: Vec<String> = reset.iter().map(|alarm| format!("{who} reset it: {}", alarm.note)).collect();
        let news: Vec<News<'_>> = reset
            .iter()
            .zip(&notes)
            .map(|(alarm, note)| {
                News::of("", "reset", note).kind(EventKind::Alert).data(json!({ "alarm": alarm.name }))
            })
            .collect();
        self.publish(&mut step, &news).await?;
        step.commit().await?;
        Ok(reset)
    }

    /// Counts what was spent on the task `id`, which cost `before` until now and `after` from now on.
    pub(super) async fn count_cost(
        &self,
        step: &mut Changes,
        id: &str,
        before: Money,
        after: Money,
        now: i64,
    ) -> Result<(), QueueError> {
        let new = after.left_after(before);
        if new.is_zero() {
            return Ok(());
        }
        let day = day(now);
        let spent = hold_day(step, &day).await?;
        let sql = "UPDATE queue_day SET spent_usd = $2 WHERE day = $1";
        step.execute(sql, &[day.as_str().into(), (spent + new).to_string().into()]).await?;
        // In one order, so that no two of PostgreSQL's transactions wait for each other.
        if let Some(limit) = passed(spent, spent + new, self.alerts.day_usd) {
            let (cost, limit) = ((spent + new).normalized(), limit.normalized());
            let note =
                format!("all tasks cost ${cost} on {day} (UTC), more than ${limit}: nothing is claimed any more");
            self.raise(step, AlarmName::DayCost, id, &note, now).await?;
        }
        if let Some(limit) = passed(before, after, self.alerts.task_usd) {
            let (cost, limit) = (after.normalized(), limit.normalized());
            let note = format!("{id} cost ${cost}, more than ${limit}: nothing is claimed any more");
            self.raise(step, AlarmName::TaskCost, id, &note, now).await?;
        }
        Ok(())
    }

    /// Counts how an attempt ended, and looks at the rates.
    pub(super) async fn count_outcome(
        &self,
        step: &mut Changes,
        outcome: &Outcome<'_>,
        now: i64,
    ) -> Result<(), QueueError> {
        // One after the other: of two at once neither would see what both together are.
        hold_day(step, &day(now)).await?;
        let clock = step.clock();
        let sql =
            format!("INSERT INTO queue_outcome SELECT CAST({clock} AS TEXT) || $1, $2, $3, $4, CAST($5 AS BIGINT), $6");
        let values = [
            id_end()?.into(),
            outcome.task.into(),
            outcome.what.into(),
            outcome.who.into(),
            outcome.attempts.into(),
            outcome.cost.to_string().into(),
        ];
        step.execute(&sql, &values).await?;
        if outcome.what != "failed" {
            let latest = self.latest(step, "what <> 'failed'").await?;
            let failed = latest.iter().filter(|one| one.what == "blocked").count();
            let retried = latest.iter().filter(|one| one.attempts > 1).count();
            let of = latest.len();
            for (name, count, most, what) in [
                (AlarmName::FailureRate, failed, self.alerts.failure_percent_max, "ended blocked"),
                (AlarmName::RetryRate, retried, self.alerts.retry_percent_max, "took more than one attempt"),
            ] {
                if self.means_something(of) && count * 100 > usize::from(most) * of {
                    let note = format!("{count} of the last {of} tasks {what}, more than {most} %");
                    self.raise(step, name, "", &note, now).await?;
                } else {
                    self.clear(step, name, &format!("{count} of the last {of} tasks {what}")).await?;
                }
            }
        }
        if outcome.who != "single" {
            let latest = self.latest(step, "who <> 'single'").await?;
            let of = latest.len();
            let completed = latest.iter().filter(|one| one.what == "completed" && one.who == "team").count();
            let average = latest.iter().map(|one| one.cost).sum::<Money>().average_over(of as u64);
            let (least, most) = (self.alerts.team_success_percent_min, self.alerts.team_cost_usd_max);
            let reason = if completed * 100 < usize::from(least) * of {
                Some(format!("they completed {completed} of their last {of} attempts, less than {least} %"))
            } else if average > most {
                let (average, most) = (average.normalized(), most.normalized());
                Some(format!("their last {of} attempts cost ${average} on average, more than ${most}"))
            } else {
                None
            };
            if let Some(reason) = reason.filter(|_| self.means_something(of)) {
                let note = format!("teams do no more tasks: {reason}");
                self.raise(step, AlarmName::TeamRollout, "", &note, now).await?;
            }
        }
        Ok(())
    }

    fn means_something(&self, count: usize) -> bool {
        count >= (self.alerts.window_min.min(self.alerts.window) as usize).max(1)
    }

    /// Returns the latest outcomes of those that meet `condition`.
    async fn latest(&self, step: &mut Changes, condition: &str) -> Result<Vec<Counted>, QueueError> {
        let sql = format!(
            "SELECT what, who, attempts, cost_usd FROM queue_outcome WHERE {condition} ORDER BY id DESC LIMIT $1"
        );
        let read = |row: &dyn Columns| {
            Ok(Counted {
                what: row.text(0)?,
                who: row.text(1)?,
                attempts: row.whole(2)?,
                cost: row.text(3)?.parse().unwrap_or_default(),
            })
        };
        step.fetch(&sql, &[i64::from(self.alerts.window.clamp(1, 1000)).into()], read).await
    }

    /// Raises an alarm, which is told once; a cost that is passed is told each time.
    async fn raise(
        &self,
        step: &mut Changes,
        name: AlarmName,
        task: &str,
        note: &str,
        now: i64,
    ) -> Result<(), QueueError> {
        let sql = "INSERT INTO queue_alarm VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING";
        let stops_work = i64::from(name.stops_work());
        let new = step.execute(sql, &[name.as_str().into(), now.into(), stops_work.into(), note.into()]).await?;
        if new > 0 || name.stops_work() {
            self.publish(step, &[News::of(task, name.as_str(), note).kind(EventKind::Alert)]).await?;
        }
        Ok(())
    }

    async fn clear(&self, step: &mut Changes, name: AlarmName, note: &str) -> Result<(), QueueError> {
        if step.execute("DELETE FROM queue_alarm WHERE name = $1", &[name.as_str().into()]).await? > 0 {
            let data = json!({ "alarm": name });
            self.publish(step, &[News::of("", "cleared", note).kind(EventKind::Alert).data(data)]).await?;
        }
        Ok(())
    }

    /// Takes out outcomes and days that nothing looks at any more.
    pub(super) async fn prune_outcomes(&self) -> Result<(), QueueError> {
        let sql =
            "DELETE FROM queue_outcome WHERE id <= (SELECT id FROM queue_outcome ORDER BY id DESC LIMIT 1 OFFSET $1)";
        self.database.execute(sql, &[OUTCOMES_KEPT.into()]).await?;
        let long_ago = self.now_ms().await?.saturating_sub(400 * 24 * 60 * 60 * 1000);
        self.database.execute("DELETE FROM queue_day WHERE day < $1", &[day(long_ago).into()]).await?;
        Ok(())
    }
}

/// Returns what was spent on `day`, whose row nobody else changes until the end of the transaction.
async fn hold_day(step: &mut Changes, day: &str) -> Result<Money, QueueError> {
    step.execute("INSERT INTO queue_day VALUES ($1, '0') ON CONFLICT DO NOTHING", &[day.into()]).await?;
    let sql = format!("SELECT spent_usd FROM queue_day WHERE day = $1 {}", step.for_update());
    let spent = step.fetch(&sql, &[day.into()], |row| row.text(0)).await?.pop();
    Ok(spent.and_then(|spent| spent.parse().ok()).unwrap_or_default())
}

/// An outcome as rates see it.
struct Counted {
    what: String,
    who: String,
    attempts: i64,
    cost: Money,
}

fn alarm(row: &dyn Columns) -> Result<Alarm, sqlx::Error> {
    let name = row.text(0)?;
    Ok(Alarm {
        name: AlarmName::parse(&name).ok_or_else(|| sqlx::Error::Decode(format!("no alarm `{name}`").into()))?,
        at: Timestamp::from_millisecond(row.whole(1)?).unwrap_or_default(),
        note: row.text(2)?,
    })
}

/// Returns the day (UTC) of an instant in milliseconds.
fn day(ms: i64) -> String {
    day_of(Timestamp::from_millisecond(ms).unwrap_or_default())
}

/// Returns the largest multiple of `limit` that is passed on the way from `before` to `after`: one is passed by what is more.
fn passed(before: Money, after: Money, limit: Money) -> Option<Money> {
    let times = after.quantity_at(limit)?;
    let times = if limit.times(times) == after { times.checked_sub(1)? } else { times };
    let multiple = limit.times(times);
    (times > 0 && before <= multiple).then_some(multiple)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_passed_by_what_is_more_and_again_by_as_much_again() {
        let usd = |text: &str| text.parse::<Money>().unwrap();
        let of = |before: &str, after: &str| passed(usd(before), usd(after), usd("50"));
        assert_eq!(of("0", "49.99"), None);
        assert_eq!(of("49.99", "50"), None);
        assert_eq!(of("50", "50.01"), Some(usd("50")));
        assert_eq!(of("50.01", "100"), None);
        assert_eq!(of("99", "100.000001"), Some(usd("100")));
        assert_eq!(of("3", "260"), Some(usd("250")));
        assert_eq!(of("0", "50.01"), Some(usd("50")));
        assert_eq!(passed(usd("0"), usd("1000"), Money::ZERO), None, "0 is no limit");
        assert_eq!(passed(usd("0"), usd("0"), usd("50")), None);
    }
}
