//! `budget.db`: what is set aside, and what was spent, added up from the ledger once.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use tollgate_shared::identity::Agent;
use tollgate_shared::money::Money;
use tollgate_shared::receipt::Receipt;
use tollgate_shared::state_dir::StateDir;

use super::owner::{self, Owner};
use super::{BudgetConfig, Exceeded, Intent, Orphan, Reserved, Scope, Warning, day_of};

/// The name of the file in the state folder.
pub(super) const FILE_NAME: &str = "budget.db";

/// How long one process waits for the others.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// Ledger entries that are counted under one lock; a ledger of years must not keep everybody out.
const ENTRIES_AT_ONCE: i64 = 5_000;

/// Days whose sums are kept: a call that began before midnight is counted on its own day.
const DAYS_KEPT: i32 = 8;

const SCHEMA: &str = "
    -- How far the ledger is counted: the number and the hash of the last entry.
    CREATE TABLE IF NOT EXISTS counted (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash BLOB NOT NULL);
    INSERT OR IGNORE INTO counted VALUES (1, 0, x'');
    -- What was spent by scope ('task', 'agent', 'day') and name; amounts are decimal text.
    CREATE TABLE IF NOT EXISTS spent (
        scope TEXT NOT NULL, name TEXT NOT NULL, day TEXT NOT NULL, amount TEXT NOT NULL,
        PRIMARY KEY (scope, name)) WITHOUT ROWID;
    -- What is set aside for calls whose receipt is not counted yet.
    CREATE TABLE IF NOT EXISTS reservation (
        call_id TEXT PRIMARY KEY, owner TEXT NOT NULL, server TEXT NOT NULL, tool TEXT NOT NULL, agent TEXT NOT NULL,
        role TEXT, task TEXT, amount TEXT NOT NULL, started_at TEXT NOT NULL) WITHOUT ROWID;
    -- Which warnings were given, so that each is given once.
    CREATE TABLE IF NOT EXISTS warned (
        scope TEXT NOT NULL, name TEXT NOT NULL, limit_usd TEXT NOT NULL, PRIMARY KEY (scope, name, limit_usd)) WITHOUT ROWID;
";

pub(super) enum Failure {
    Exceeded(Exceeded),
    Other(String),
}

/// One process's connection to the file.
pub(super) struct Store {
    path: PathBuf,
    state_dir: PathBuf,
    owner: Owner,
    files: Mutex<Files>,
}

struct Files {
    budget: Connection,
    ledger: LedgerFile,
}

/// The ledger, opened anew when another file takes its place.
struct LedgerFile {
    path: PathBuf,
    connection: Connection,
    identity: (u64, u64),
}

/// A reservation as it is stored.
struct Row {
    task: Option<String>,
    agent: String,
    amount: Money,
}

impl Store {
    /// Opens the file, made where it is missing; the ledger is there already.
    pub(super) fn open(state_dir: &StateDir) -> Result<Self, Failure> {
        let folder = state_dir.create().map_err(Failure::other)?;
        let path = folder.join(FILE_NAME);
        let owner = Owner::new(folder).map_err(Failure::other)?;
        let budget = Connection::open(&path)?;
        budget.busy_timeout(BUSY_TIMEOUT)?;
        // Two processes that turn a new file into WAL at once are in each other's way: whoever comes second waits here.
        let lock = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path.with_extension("lock"))
            .and_then(|lock| lock.lock().map(|()| lock))
            .map_err(Failure::other)?;
        budget.pragma_update(None, "journal_mode", "wal")?;
        // A power cut takes back the newest reservations together with the calls that they were for.
        budget.pragma_update(None, "synchronous", "normal")?;
        budget.execute_batch(SCHEMA)?;
        drop(lock);
        let ledger = LedgerFile::open(state_dir.ledger())?;
        let store = Self { path, state_dir: folder.to_owned(), owner, files: Mutex::new(Files { budget, ledger }) };
        store.tidy()?;
        Ok(store)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn owner_file(&self) -> &Path {
        &self.owner.path
    }

    /// Sets aside what the call may cost, if it fits.
    pub(super) fn reserve(&self, limits: &BudgetConfig, intent: &Intent) -> Result<Reserved, Failure> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Files { budget, ledger } = &mut *files;
        let ledger = ledger.current()?;
        loop {
            let step = budget.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let all = count_new(&step, ledger)?;
            if !all {
                step.commit()?;
                continue;
            }
            let reserved = set_aside(&step, limits, intent, &self.owner.name);
            // What was counted is true whether the call fits or not.
            step.commit()?;
            return reserved;
        }
    }

    /// Returns the calls whose processes are gone, after what they still wrote to the ledger was counted.
    pub(super) fn orphans(&self) -> Result<Vec<Orphan>, Failure> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Files { budget, ledger } = &mut *files;
        let owners: Vec<String> = {
            let mut query = budget.prepare_cached("SELECT DISTINCT owner FROM reservation WHERE owner <> ?")?;
            let rows = query.query_map([&self.owner.name], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        let mut gone = Vec::new();
        for owner in owners {
            if owner::is_gone(&self.state_dir, &owner).map_err(Failure::other)? {
                gone.push(owner);
            }
        }
        let ledger = ledger.current()?;
        // In this order: first they are gone, then everything that they wrote is counted, and what is left has no receipt.
        let step = budget.transaction_with_behavior(TransactionBehavior::Immediate)?;
        while !count_new(&step, ledger)? {}
        let mut orphans = Vec::new();
        for owner in &gone {
            let mut query = step.prepare_cached(
                "SELECT call_id, server, tool, agent, role, task, started_at FROM reservation WHERE owner = ?",
            )?;
            let mut rows = query.query([owner])?;
            while let Some(row) = rows.next()? {
                orphans.push(Orphan {
                    call_id: row.get::<_, String>(0)?.parse().map_err(Failure::other)?,
                    server: row.get(1)?,
                    tool: row.get(2)?,
                    agent: Agent { name: row.get(3)?, role: row.get(4)? },
                    task_id: row.get(5)?,
                    started_at: row.get::<_, String>(6)?.parse().map_err(Failure::other)?,
                });
            }
        }
        step.commit()?;
        Ok(orphans)
    }

    fn tidy(&self) -> Result<(), Failure> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let needed = |owner: &str| {
            owner == self.owner.name
                || files
                    .budget
                    .query_row("SELECT EXISTS (SELECT 1 FROM reservation WHERE owner = ?)", [owner], |row| row.get(0))
                    .unwrap_or(true)
        };
        owner::tidy(&self.state_dir, &needed);
        Ok(())
    }
}

impl LedgerFile {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let identity = identity(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(Self { path, connection, identity })
    }

    fn current(&mut self) -> Result<&Connection, Failure> {
        if identity(&self.path)? != self.identity {
            *self = Self::open(self.path.clone())?;
        }
        Ok(&self.connection)
    }
}

fn identity(path: &Path) -> Result<(u64, u64), Failure> {
    let metadata = std::fs::metadata(path).map_err(Failure::other)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Counts the receipts that are new in the ledger, and gives up what was set aside for them; whether none is left.
fn count_new(step: &Transaction<'_>, ledger: &Connection) -> Result<bool, Failure> {
    let (mut seq, mut hash): (i64, Vec<u8>) =
        step.prepare_cached("SELECT seq, hash FROM counted")?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if seq > 0 && !is_the_same_ledger(ledger, seq, &hash)? {
        tracing::warn!("the ledger is not the one that was counted; it is counted anew");
        step.execute("DELETE FROM spent", [])?;
        step.execute("UPDATE counted SET seq = 0, hash = x''", [])?;
        (seq, hash) = (0, Vec::new());
    }
    let mut entries =
        ledger.prepare_cached("SELECT seq, hash, kind, body FROM entry WHERE seq > ? ORDER BY seq LIMIT ?")?;
    let mut rows = entries.query([seq, ENTRIES_AT_ONCE])?;
    let mut read = 0;
    while let Some(row) = rows.next()? {
        read += 1;
        (seq, hash) = (row.get(0)?, row.get(1)?);
        let kind: String = row.get(2)?;
        if kind == "receipt" {
            let body: String = row.get(3)?;
            let receipt: Receipt = serde_json::from_str(&body).map_err(Failure::other)?;
            count(step, &receipt)?;
        }
    }
    if read > 0 {
        step.prepare_cached("UPDATE counted SET seq = ?, hash = ?")?.execute(params![seq, hash])?;
    }
    Ok(read < ENTRIES_AT_ONCE)
}

fn is_the_same_ledger(ledger: &Connection, seq: i64, hash: &[u8]) -> rusqlite::Result<bool> {
    let there: Option<Vec<u8>> =
        ledger.prepare_cached("SELECT hash FROM entry WHERE seq = ?")?.query_row([seq], |row| row.get(0)).optional()?;
    Ok(there.as_deref() == Some(hash))
}

fn count(step: &Transaction<'_>, receipt: &Receipt) -> Result<(), Failure> {
    if let Some(call_id) = &receipt.call_id {
        step.prepare_cached("DELETE FROM reservation WHERE call_id = ?")?.execute([call_id])?;
    }
    if receipt.amount.is_zero() {
        return Ok(());
    }
    let day = day_of(receipt.started_at);
    let mut scopes = vec![(Scope::Day, day.clone()), (Scope::Agent, format!("{day} {}", receipt.agent.name))];
    scopes.extend(receipt.task_id.clone().map(|task| (Scope::Task, task)));
    for (scope, name) in scopes {
        let amount = spent(step, scope, &name)? + receipt.amount;
        step.prepare_cached(
            "INSERT INTO spent VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET amount = excluded.amount, day = excluded.day",
        )?
        .execute(params![scope.as_str(), name, day, amount.to_string()])?;
    }
    Ok(())
}

fn spent(step: &Transaction<'_>, scope: Scope, name: &str) -> Result<Money, Failure> {
    let amount: Option<String> = step
        .prepare_cached("SELECT amount FROM spent WHERE scope = ? AND name = ?")?
        .query_row([scope.as_str(), name], |row| row.get(0))
        .optional()?;
    amount.map_or(Ok(Money::ZERO), |amount| parse_sum(&amount))
}

/// Reads a sum: unlike an amount that somebody wrote, it may have more digits.
fn parse_sum(text: &str) -> Result<Money, Failure> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(Failure::other)
}

fn set_aside(step: &Transaction<'_>, limits: &BudgetConfig, intent: &Intent, owner: &str) -> Result<Reserved, Failure> {
    let agent = &intent.identity.agent;
    let task = intent.identity.task_id.as_deref();
    let day = day_of(intent.started_at);
    let exceeded = |scope, name: &str, limit_usd, spent_usd, reserved_usd| {
        let estimate_usd = intent.estimate.least;
        Failure::Exceeded(Exceeded { scope, name: name.to_owned(), limit_usd, spent_usd, reserved_usd, estimate_usd })
    };
    let mut amount = intent.estimate.most;
    if let Some(limit) = limits.per_call_usd
        && amount > limit
    {
        if intent.estimate.least > limit {
            return Err(exceeded(Scope::Call, "", limit, Money::ZERO, Money::ZERO));
        }
        amount = limit;
    }
    let reservations = reservations(step)?;
    let mut standing = Vec::new();
    for (scope, name, limit) in limits.standing(&agent.name, task, &day) {
        // A call under way may be counted today although it began yesterday, so it stands against every day.
        let matches = |row: &&Row| match scope {
            Scope::Task => row.task.as_deref() == task,
            Scope::Agent => row.agent == agent.name,
            Scope::Day | Scope::Call => true,
        };
        let reserved: Money = reservations.iter().filter(matches).map(|row| row.amount).sum();
        let spent = spent(step, scope, &name)?;
        let left = limit.left_after(spent + reserved);
        if left < intent.estimate.least {
            return Err(exceeded(scope, &name, limit, spent, reserved));
        }
        amount = amount.min(left);
        standing.push((scope, name, limit, spent + reserved));
    }
    let mut warnings = Vec::new();
    for (scope, name, limit_usd, used) in standing {
        // Of a call that stops by itself, most of what is set aside usually comes back: that is no reason to warn.
        let used_usd = used + intent.estimate.least;
        if used_usd.times(5) >= limit_usd.times(4) && !limit_usd.is_zero() {
            let new = step.prepare_cached("INSERT OR IGNORE INTO warned VALUES (?, ?, ?)")?.execute(params![
                scope.as_str(),
                name,
                limit_usd.to_string()
            ])?;
            if new == 1 {
                warnings.push(Warning { scope, name, limit_usd, used_usd });
            }
        }
    }
    step.prepare_cached("INSERT INTO reservation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        intent.identity.call_id,
        owner,
        intent.server,
        intent.tool,
        agent.name,
        agent.role,
        task,
        amount.to_string(),
        intent.started_at.to_string(),
    ])?;
    forget_old_days(step, intent.started_at)?;
    Ok(Reserved { amount, warnings })
}

fn reservations(step: &Transaction<'_>) -> Result<Vec<Row>, Failure> {
    let mut query = step.prepare_cached("SELECT task, agent, amount FROM reservation")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Row { task: row.get(0)?, agent: row.get(1)?, amount: parse_sum(&row.get::<_, String>(2)?)? });
    }
    Ok(found)
}

fn forget_old_days(step: &Transaction<'_>, now: Timestamp) -> Result<(), Failure> {
    let long_ago =
        now.checked_sub(jiff::SignedDuration::from_hours(24 * i64::from(DAYS_KEPT))).map_err(Failure::other)?;
    step.prepare_cached("DELETE FROM spent WHERE scope <> 'task' AND day < ?")?.execute([day_of(long_ago)])?;
    step.prepare_cached("DELETE FROM warned WHERE scope <> 'task' AND substr(name, 1, 10) < ?")?
        .execute([day_of(long_ago)])?;
    Ok(())
}

impl Failure {
    fn other(error: impl std::fmt::Display) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::other(error)
    }
}
