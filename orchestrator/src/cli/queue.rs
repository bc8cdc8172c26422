//! `orchestrator queue`.

mod alarms;
mod files;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Map, Value, json};
use tollgate_shared::money::Money;

use super::print;
use crate::config::House;
use crate::queue::file::{Batch, Item, task_of};
use crate::queue::store::{Entry, ImportOrder, Queue};
use crate::queue::task::{Category, Complexity, Kind, Priority, Status};
use crate::queue::template::Template;
use crate::report::outcome::{Outcome, outcome_table};
use crate::report::queue::{entry_json, list_table, replay};

#[derive(clap::Subcommand)]
pub(super) enum QueueCommand {
    /// Add the tasks of a file, or of every .json of a folder: all of them or, when one is not well-formed, none
    Import {
        /// The file or folder (a task's schema is schemas/task.json)
        path: PathBuf,
        /// Say what would be added, and add nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write the tasks as a file that can be imported
    Export {
        /// The file; stdout when left out
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Grouped by feature
        #[arg(long)]
        grouped: bool,
        /// Only tasks that are there
        #[arg(long)]
        status: Option<Status>,
    },
    /// Add one task
    Add(Box<AddArguments>),
    /// Show the tasks: where each is, and why
    List {
        /// Only tasks that are there
        #[arg(long)]
        status: Option<Status>,
        /// Completed, cancelled and archived ones too
        #[arg(long)]
        all: bool,
        /// At most this many
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
        limit: i64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what came of each task: who did it and why, what verification said, attempts, cost, what that is worth
    Report {
        /// At most this many
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one task with everything that happened to it
    Show {
        /// The task
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let tasks run that are blocked, cancelled or wait for a person: with new attempts and a budget of their own again
    Retry {
        /// The tasks
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Block a task; a worker that has it stops
    Block {
        /// The task
        id: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Cancel a task; a worker that has it stops
    Cancel {
        /// The task
        id: String,
        /// Why
        #[arg(long, default_value = "nobody wants it any more")]
        reason: String,
    },
    /// Put completed tasks out of lists
    Archive {
        /// The tasks
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Take the tasks of an import out again, as long as none of them was begun
    RollbackImport {
        /// The import; the last one when left out
        id: Option<String>,
    },
    /// Add what is new in a file, change what it says otherwise, and write into it where its tasks are
    Sync {
        /// The file
        file: PathBuf,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what is not as it should be with all tasks, and whether that stops work
    Breaker {
        /// Let workers claim tasks again, after an alarm that stopped work
        #[arg(long)]
        reset: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show whether teams do tasks, and whether they were turned off because they completed too little or cost too much
    Rollout {
        /// Let teams do tasks again
        #[arg(long)]
        reset: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what each webhook was sent, waits for and did not take
    Webhooks {
        /// Send at once what waits for it or was given up
        #[arg(long, value_name = "NAME")]
        retry: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a task to begin from
    Template {
        /// Which one
        template: Template,
    },
}

#[derive(clap::Args)]
pub(super) struct AddArguments {
    /// What is to be done, in words
    description: String,
    /// What it begins with
    #[arg(long, value_enum)]
    template: Option<Template>,
    /// Its name; made up when left out
    #[arg(long)]
    id: Option<String>,
    /// One line for lists
    #[arg(long)]
    title: Option<String>,
    /// Of which kind it is; bug when neither this nor a template says
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    /// How urgent it is; P2 when neither this nor a template says
    #[arg(long)]
    priority: Option<Priority>,
    /// How hard it is
    #[arg(long)]
    complexity: Option<Complexity>,
    /// What it is worth, in US dollars
    #[arg(long, value_name = "USD")]
    value: Option<Money>,
    /// What it may cost over all its attempts, in US dollars
    #[arg(long, value_name = "USD")]
    budget: Option<Money>,
    /// Whose it is
    #[arg(long)]
    category: Option<Category>,
    /// Which repository it is about: a name of [queue.projects]
    #[arg(long)]
    project: Option<String>,
    /// Who does it, and nobody else: a name of [queue.agents]
    #[arg(long)]
    agent: Option<String>,
    /// A task that must be completed before; repeatable
    #[arg(long, value_name = "TASK")]
    depends_on: Vec<String>,
    /// A command that must succeed; repeatable
    #[arg(long, value_name = "COMMAND")]
    accept: Vec<String>,
    /// What must be so when it is done, in words; repeatable
    #[arg(long, value_name = "TEXT")]
    criterion: Vec<String>,
}

pub(super) async fn run(house: &House, command: QueueCommand) -> anyhow::Result<ExitCode> {
    if let QueueCommand::Template { template } = command {
        let mut body = Map::from_iter([("id".to_owned(), json!("")), ("description".to_owned(), json!(""))]);
        body.insert("status".to_owned(), json!(Status::Pending));
        body.extend(template.fields());
        print(&format!("{}\n", serde_json::to_string_pretty(&body)?));
        return Ok(ExitCode::SUCCESS);
    }
    let queue = Queue::open(&house.queue, &house.state_dir).await?;
    match command {
        QueueCommand::Import { path, dry_run } => files::import(house, &queue, path, dry_run).await?,
        QueueCommand::Export { out, grouped, status } => files::export(&queue, out, grouped, status).await?,
        QueueCommand::Sync { file, dry_run } => files::sync(house, &queue, file, dry_run).await?,
        QueueCommand::Add(arguments) => add(&queue, *arguments).await?,
        QueueCommand::List { status, all, limit, json } => {
            let hidden =
                |entry: &Entry| matches!(entry.status, Status::Completed | Status::Cancelled | Status::Archived);
            let mut entries = queue.list(status, limit).await?;
            entries.retain(|entry| all || status.is_some() || !hidden(entry));
            if json {
                let rows: Vec<Value> = entries.iter().map(entry_json).collect();
                print(&format!("{}\n", serde_json::to_string_pretty(&rows)?));
            } else {
                print(&list_table(&entries, &queue.counts().await?));
            }
        }
        QueueCommand::Report { limit, json } => {
            let mut outcomes = Vec::new();
            for entry in queue.list(None, limit).await? {
                let checkpoints = queue.checkpoints(&entry.task.id).await?;
                outcomes.push(Outcome::of(&entry, &checkpoints));
            }
            if json {
                print(&format!("{}\n", serde_json::to_string_pretty(&outcomes)?));
            } else {
                print(&outcome_table(&outcomes));
            }
        }
        QueueCommand::Show { id, json } => {
            let entry = queue.find(&id).await?;
            let entry = entry.with_context(|| format!("there is no task {id}; see `orchestrator queue list --all`"))?;
            let checkpoints = queue.checkpoints(&id).await?;
            if json {
                let mut shown = entry_json(&entry);
                shown["checkpoints"] = json!(checkpoints);
                print(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
            } else {
                print(&replay(&entry, &checkpoints));
            }
        }
        QueueCommand::Retry { ids } => {
            for id in &ids {
                queue.retry(id).await?;
            }
        }
        QueueCommand::Block { id, reason } => queue.block(&id, &reason).await?,
        QueueCommand::Cancel { id, reason } => queue.cancel(&id, &reason).await?,
        QueueCommand::Archive { ids } => {
            for id in &ids {
                queue.archive(id).await?;
            }
        }
        QueueCommand::RollbackImport { id } => {
            let (import, removed) = queue.roll_back_import(id.as_deref()).await?;
            print(&format!("{import} is rolled back: {removed} tasks are out of the queue\n"));
        }
        QueueCommand::Breaker { reset, json } => return alarms::breaker(&queue, reset, json).await,
        QueueCommand::Rollout { reset, json } => return alarms::rollout(house, &queue, reset, json).await,
        QueueCommand::Webhooks { retry, json } => alarms::webhooks(&queue, retry.as_deref(), json).await?,
        QueueCommand::Template { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(queue: &Queue, arguments: AddArguments) -> anyhow::Result<()> {
    let mut body = Map::new();
    let id = match arguments.id {
        Some(id) => id,
        None => {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes)?;
            format!("q-{}", hex::encode(bytes))
        }
    };
    body.insert("id".to_owned(), json!(id));
    body.insert("description".to_owned(), json!(arguments.description));
    body.insert("status".to_owned(), json!(Status::Pending));
    body.insert("priority".to_owned(), json!(Priority::P2));
    body.insert("type".to_owned(), json!(Kind::Bug));
    body.extend(arguments.template.map(Template::fields).unwrap_or_default());
    let acceptance = json!({ "commands": arguments.accept, "criteria": arguments.criterion });
    for (name, value) in [
        ("title", arguments.title.map(Value::from)),
        ("type", arguments.kind.map(|kind| json!(kind))),
        ("priority", arguments.priority.map(|priority| json!(priority))),
        ("complexity_category", arguments.complexity.map(|complexity| json!(complexity))),
        ("estimated_value_usd", arguments.value.map(|value| json!(value))),
        ("budget_usd", arguments.budget.map(|budget| json!(budget))),
        ("category", arguments.category.map(|category| json!(category))),
        ("project", arguments.project.map(Value::from)),
        ("agent_type_override", arguments.agent.map(Value::from)),
        ("depends_on", Some(json!(arguments.depends_on)).filter(|on| on != &json!([]))),
        ("acceptance", Some(acceptance).filter(|of| of != &json!({ "commands": [], "criteria": [] }))),
    ] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    }
    let faults = crate::queue::check::faults(&body);
    let told: Vec<String> = faults.iter().map(|fault| format!("`{}` {}", fault.field, fault.message)).collect();
    anyhow::ensure!(told.is_empty(), "{}", told.join("; "));
    let task = task_of(&body)?;
    let known = queue.ids().await?;
    for on in &task.depends_on {
        anyhow::ensure!(known.contains(on), "`depends_on` names `{on}`, which is not in the queue");
    }
    anyhow::ensure!(!known.contains(&id), "there is a task {id} already");
    let batch = Batch { items: vec![Item { body, task, feature: None }], ..Batch::default() };
    let import = files::import_id();
    let order = ImportOrder { id: &import, source: "queue add", backup: "", changes: false, try_only: false };
    queue.import(&batch, &order).await?;
    print(&format!("{id}\n"));
    Ok(())
}
