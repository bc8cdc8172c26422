//! The worker: claims tasks of the queue, has each done by the one loop there is, and says what came of it.

mod attempt;
mod deliver;
mod place;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::money::Money;
use tollgate_shared::sandbox::Setting;

use self::deliver::Deliveries;
use crate::config::House;
use crate::queue::alarm::Alarm;
use crate::queue::lease::{Lease, Settlement};
use crate::queue::store::{Queue, QueueError};
use crate::task::drive::Stop;

/// Most tasks of one worker at a time: each has servers of its own.
pub const PARALLEL_MAX: usize = 32;

/// How long a task is left alone that cannot be gone on with now, in milliseconds.
const LATER_MS: i64 = 5_000;

/// How often a worker says what came of a task while the queue cannot be reached, a second apart; after that whoever
/// claims the task finds out from its session.
const SETTLE_TRIES: u32 = 30;

/// What a task's keeper has to write down at most: checkpoints are few, and of costs only the last counts.
const NOTES_MAX: usize = 64;

/// How often what an attempt cost so far is written down; each time is a flush to disk.
const COST_EVERY: Duration = Duration::from_secs(5);

/// How often old events are taken out.
const PRUNE_EVERY: Duration = Duration::from_secs(10 * 60);

/// Something about a task that is under way.
pub(crate) enum Note {
    /// Something happened, to a member of its team or, with none, to the task itself.
    Happened { member: String, what: String, note: String },
    /// What the attempt cost so far.
    Cost(Money),
}

/// A worker.
pub struct Worker {
    house: House,
    queue: Queue,
    name: String,
    place: String,
    sandbox: Setting,
    deliveries: Option<Deliveries>,
    stopping: AtomicBool,
    stopped: Notify,
    tasks: Mutex<Vec<Stop>>,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Tasks that are done and verified.
    pub completed: usize,
    /// Tasks that cannot go on.
    pub blocked: usize,
    /// Tasks that wait for a person.
    pub needs_person: usize,
    /// Attempts that failed, with others to come.
    pub failed: usize,
    /// Tasks that were given back, or that somebody else has by now.
    pub given_back: usize,
    /// Tasks that were a team's to do, and that one agent did.
    pub fallbacks: usize,
    /// Whether it ended while an alarm stopped all work.
    pub stopped: bool,
}

impl Worker {
    /// Makes a worker that does the tasks of `queue`.
    ///
    /// # Errors
    ///
    /// A sentence that says what is missing.
    pub async fn new(house: House, queue: Queue, sandbox: Setting) -> anyhow::Result<Self> {
        anyhow::ensure!(
            house.queue.agent.is_some() || !house.queue.agents.is_empty(),
            "nobody is there to do tasks: name an agent as `agent` in [queue], such as \"scripted:FILE\" or \"model:NAME\""
        );
        let state = house.state_dir.clone();
        let place = tokio::task::spawn_blocking(move || place::of(&state)).await??;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = format!("{host}:{}", std::process::id());
        let deliveries = Deliveries::of(&queue)?;
        Ok(Self {
            house,
            deliveries,
            queue,
            name,
            place,
            sandbox,
            stopping: AtomicBool::new(false),
            stopped: Notify::new(),
            tasks: Mutex::new(Vec::new()),
        })
    }

    /// Wants the worker to stop: it claims nothing more, ends each step that is under way and gives the tasks back, to be
    /// gone on with from there. The second time it stops at once.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            task.stop();
        }
        self.stopped.notify_one();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Does tasks, `parallel` at a time, until it is stopped; with `once` until no task is ready and none is under way.
    /// `tell` hears a line for each thing that happens.
    ///
    /// # Errors
    ///
    /// [`QueueError`], when the queue cannot be used at the start; later it is tried again.
    pub async fn run(&self, parallel: usize, once: bool, tell: &(dyn Fn(&str) + Sync)) -> Result<Summary, QueueError> {
        self.queue.now_ms().await?;
        let parallel = parallel.clamp(1, PARALLEL_MAX);
        let mut summary = Summary::default();
        let mut running = FuturesUnordered::new();
        let mut prune = tokio::time::interval(PRUNE_EVERY);
        let mut told_why = false;
        let deliveries = self.deliveries.clone().map(Deliveries::start);
        loop {
            let mut is_empty = false;
            while !is_empty && running.len() < parallel && !self.is_stopping() {
                match self.queue.claim(&self.name, &self.place, self.house.queue.lease()).await {
                    Ok(Some(lease)) => {
                        (told_why, summary.stopped) = (false, false);
                        running.push(self.work(lease, tell));
                    }
                    Ok(None) => is_empty = true,
                    Err(error) => {
                        tracing::warn!(error = %Chain(&error), "no task can be claimed");
                        break;
                    }
                }
            }
            if is_empty {
                let alarm = self.stops_work().await;
                summary.stopped = alarm.is_some();
                // Said once each time that work stops, not with every look.
                if let Some(alarm) = alarm.as_ref().filter(|_| !told_why) {
                    tell(&format!("nothing is claimed: {}; `orchestrator queue breaker --reset` goes on", alarm.note));
                }
                told_why = alarm.is_some();
            }
            if running.is_empty() && (self.is_stopping() || (once && is_empty)) {
                if let Some(deliveries) = deliveries {
                    deliveries.end().await;
                }
                return Ok(summary);
            }
            // Only who has room looks again.
            let has_room = running.len() < parallel && !self.is_stopping();
            tokio::select! {
                Some(ended) = running.next() => summary.count(&ended),
                () = tokio::time::sleep(self.house.queue.poll()), if has_room => {}
                () = self.stopped.notified() => {}
                _ = prune.tick() => self.prune().await,
            }
        }
    }

    /// Returns what stops all work, if anything does.
    async fn stops_work(&self) -> Option<Alarm> {
        match self.queue.alarms().await {
            Ok(alarms) => alarms.into_iter().find(|alarm| alarm.name.stops_work()),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "it is not known whether work is stopped");
                None
            }
        }
    }

    /// Takes out what is too old to be kept.
    async fn prune(&self) {
        let config = &self.house.queue;
        if let Err(error) = self.queue.prune_events(config.events_days_max, config.events_max).await {
            tracing::warn!(error = %Chain(&error), "old events are still there");
        }
    }

    /// Has one task done while its lease is kept.
    async fn work(&self, lease: Lease, tell: &(dyn Fn(&str) + Sync)) -> Ended {
        let id = lease.entry.task.id.clone();
        let stop = Stop::default();
        {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.retain(Stop::is_shared);
            tasks.push(stop.clone());
        }
        if self.is_stopping() {
            stop.stop();
        }
        tell(&format!("{id}: claimed{}", if lease.entry.session.is_empty() { "" } else { ", goes on where it was" }));
        let (notes, heard) = mpsc::channel(NOTES_MAX);
        let attempt = attempt::Attempt { worker: self, lease: &lease, stop: &stop, notes, tell };
        // When the lease is lost the attempt is dropped where it is: whoever has it now waits for what it left behind.
        let attempted = tokio::select! {
            attempted = attempt.carry_out() => Some(attempted),
            error = self.keep(&lease, heard) => {
                tracing::warn!(task = id, error = %Chain(&error), "stopped");
                None
            }
        };
        let Some(attempted) = attempted else {
            tell(&format!("{id}: somebody else has it by now"));
            return Ended { settlement: None, fallback: false };
        };
        match self.settle(&lease, &attempted.settlement, attempted.cost).await {
            Ok(()) => tell(&format!("{id}: {}", attempted.settlement.describe())),
            Err(error) => {
                let error = Chain(&error).to_string();
                tracing::warn!(task = id, error, "what came of it is not in the queue; its session has it");
                return Ended { settlement: None, fallback: attempted.fallback };
            }
        }
        Ended { settlement: Some(attempted.settlement), fallback: attempted.fallback }
    }

    /// Renews the lease and writes down what is heard, until the lease is lost; returns why it is.
    async fn keep(&self, lease: &Lease, mut heard: mpsc::Receiver<Note>) -> QueueError {
        let id = lease.entry.task.id.as_str();
        let budget = lease.entry.task.budget_usd.map_or(self.house.queue.budget_usd, |budget| budget.0);
        let mut cost = None;
        let mut costs = tokio::time::interval(COST_EVERY);
        costs.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let length = self.house.queue.lease();
        let mut ends = Instant::now() + length;
        let mut beat = tokio::time::interval_at(Instant::now() + length / 3, length / 3);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let written = tokio::select! {
                _ = beat.tick() => {
                    let begun = Instant::now();
                    let renewed = self.queue.renew(id, lease.entry.token, length).await;
                    if renewed.is_ok() {
                        ends = begun + length;
                    }
                    renewed.map(drop)
                }
                Some(note) = heard.recv() => match note {
                    Note::Happened { member, what, note } => self.queue.checkpoint(lease, &member, &what, &note).await,
                    Note::Cost(spent) => {
                        cost = Some(spent);
                        Ok(())
                    }
                },
                _ = costs.tick(), if cost.is_some() => match cost.take() {
                    Some(spent) => self.queue.spend(lease, spent, budget).await,
                    None => Ok(()),
                },
            };
            match written {
                Ok(()) => {}
                Err(error @ QueueError::LeaseLost { .. }) => return error,
                // The queue may be back before the lease is over.
                Err(error) if Instant::now() < ends => {
                    tracing::warn!(task = id, error = %Chain(&error), "the lease is not renewed yet");
                }
                Err(error) => return error,
            }
        }
    }

    async fn settle(&self, lease: &Lease, settlement: &Settlement, cost: Money) -> Result<(), QueueError> {
        let mut tries = 1;
        loop {
            match self.queue.settle(lease, settlement, cost).await {
                Err(QueueError::Statement(_)) if tries < SETTLE_TRIES => tries += 1,
                settled => return settled,
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// What became of one claim.
struct Ended {
    settlement: Option<Settlement>,
    fallback: bool,
}

impl Summary {
    fn count(&mut self, ended: &Ended) {
        let counter = match &ended.settlement {
            Some(Settlement::Completed { .. }) => &mut self.completed,
            Some(Settlement::Blocked(_)) => &mut self.blocked,
            Some(Settlement::NeedsPerson(_)) => &mut self.needs_person,
            Some(Settlement::Again(_)) => &mut self.failed,
            Some(Settlement::Released | Settlement::Deferred(..)) | None => &mut self.given_back,
        };
        *counter += 1;
        self.fallbacks += usize::from(ended.fallback);
    }
}
