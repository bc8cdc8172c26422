//! `orchestrator queue breaker`, `rollout` and `webhooks`.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::{EXIT_NOT_AS_EXPECTED, print};
use crate::config::House;
use crate::queue::alarm::{Alarm, AlarmName};
use crate::queue::store::Queue;
use crate::report::table::table;

/// What `--reset` of the breaker takes back: rates clear by themselves.
const STOPPING: [AlarmName; 2] = [AlarmName::DayCost, AlarmName::TaskCost];

pub(super) async fn breaker(queue: &Queue, reset: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let taken_back = if reset { queue.reset(&STOPPING, &person()?).await? } else { Vec::new() };
    let alarms = queue.alarms().await?;
    let stopped = alarms.iter().any(|alarm| alarm.name.stops_work());
    let spent = queue.spent_today().await?;
    if as_json {
        let shown = json!({ "stopped": stopped, "alarms": alarms, "reset": taken_back, "spent_today_usd": spent });
        print(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
    } else {
        for alarm in &taken_back {
            print(&format!("reset: {}\n", alarm.note));
        }
        if !alarms.is_empty() {
            print(&alarm_table(&alarms));
        }
        let state = if stopped { "stopped; `orchestrator queue breaker --reset` goes on" } else { "not stopped" };
        print(&format!("work is {state}; ${} spent today (UTC)\n", spent.normalized()));
    }
    Ok(if stopped { ExitCode::from(EXIT_NOT_AS_EXPECTED) } else { ExitCode::SUCCESS })
}

pub(super) async fn rollout(house: &House, queue: &Queue, reset: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    if reset {
        queue.reset(&[AlarmName::TeamRollout], &person()?).await?;
    }
    let off = queue.teams_off().await?;
    let percent = house.router.team_rollout_percent;
    if as_json {
        let shown = json!({ "team_rollout_percent": percent, "turned_off": off });
        print(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
    } else {
        let told = match &off {
            Some(why) => format!("{why}; `orchestrator queue rollout --reset` lets them again\n"),
            None => format!("teams do {percent} % of the tasks that are for a team\n"),
        };
        print(&told);
    }
    Ok(if off.is_some() { ExitCode::from(EXIT_NOT_AS_EXPECTED) } else { ExitCode::SUCCESS })
}

pub(super) async fn webhooks(queue: &Queue, retry: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    if let Some(name) = retry {
        let known = queue.webhooks().iter().any(|(known, _)| known == name);
        anyhow::ensure!(known, "there is no webhook `{name}` in [queue.webhooks]");
        queue.retry_deliveries(name).await?;
    }
    let states = queue.webhook_states().await?;
    if as_json {
        print(&format!("{}\n", serde_json::to_string_pretty(&states)?));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = states
        .into_iter()
        .map(|state| vec![state.name, state.waiting.to_string(), state.given_up.to_string(), state.error])
        .collect();
    print(&table(&["webhook", "waiting", "given up", "why"], &[1, 2], &rows));
    Ok(())
}

fn alarm_table(alarms: &[Alarm]) -> String {
    let rows: Vec<Vec<String>> = alarms
        .iter()
        .map(|alarm| vec![alarm.name.to_string(), alarm.at.strftime("%Y-%m-%d %H:%M").to_string(), alarm.note.clone()])
        .collect();
    table(&["alarm", "since (UTC)", "why"], &[], &rows)
}

/// Returns who resets something, as the system knows them.
fn person() -> anyhow::Result<String> {
    let agent = std::env::var("TOLLGATE_AGENT").ok().filter(|name| !name.is_empty());
    anyhow::ensure!(agent.is_none(), "TOLLGATE_AGENT is set: a person resets this, never an agent");
    Ok(std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "somebody".to_owned()))
}
