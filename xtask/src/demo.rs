//! `cargo xtask demo`: the whole bundle on a small real service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use git2::{IndexAddOption, Repository, RepositoryInitOptions, Signature, Time};
use owo_colors::{OwoColorize, Stream};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tollgate_tests::world::{cargo_build, repository_root};

#[derive(clap::Args)]
pub struct DemoArguments {
    /// Keep the temporary folder and say where it is
    #[arg(long)]
    keep: bool,
    /// Use programs that are built already, from this folder
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Builds everything, prepares the service in a temporary folder and lets the scripted agent work on it.
pub fn run(arguments: &DemoArguments) -> anyhow::Result<()> {
    let programs = arguments.programs()?;
    let begun = Instant::now();
    let folder = tempfile::Builder::new().prefix("tollgate-demo-").tempdir()?;
    let shop = folder.path().join("bookshop");

    say("A bookshop: a small service in Rust, its orders in SQLite, its history in git.");
    copy_folder(&repository_root().join("examples/bookshop"), &shop)?;
    make_history(&shop)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(make_orders(&shop))?;
    let orchestrator = Orchestrator { program: programs.join("orchestrator"), shop: &shop };
    fs::write(shop.join("tollgate.toml"), configuration(&programs)?)?;

    say("An agent is given TASK-7: \"orders of exactly ten copies get no bulk discount\". Every call it makes\n\
         goes through a server that may refuse it, and is answered with a receipt.");
    let script = repository_root().join("examples/demo/task-7.yaml");
    orchestrator.run(&["run", path(&script)?])?;

    say("What it cost, by tool (orchestrator costs):");
    orchestrator.run(&["costs"])?;
    say("What was refused, and what was done (orchestrator audit list):");
    orchestrator.run(&["audit", "list"])?;
    say("Nobody tampered with the ledger (orchestrator audit verify):");
    orchestrator.run(&["audit", "verify"])?;

    arguments.finish(folder, begun);
    Ok(())
}

impl DemoArguments {
    /// Returns the folder of the programs, which are built where none is given.
    pub(crate) fn programs(&self) -> anyhow::Result<PathBuf> {
        match &self.programs {
            Some(folder) => Ok(std::path::absolute(folder)?),
            None => build(),
        }
    }

    /// Says how long it took and where everything is, or takes it away.
    pub(crate) fn finish(&self, folder: TempDir, begun: Instant) {
        let seconds = begun.elapsed().as_secs();
        if self.keep {
            say(&format!("Done in {seconds} s. Everything is in {}", folder.keep().display()));
        } else {
            say(&format!("Done in {seconds} s, and cleaned up. See it again with --keep to look around."));
        }
    }
}

pub(crate) struct Orchestrator<'a> {
    pub(crate) program: PathBuf,
    pub(crate) shop: &'a Path,
}

impl Orchestrator<'_> {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.shop);
        command.env_remove("TOLLGATE_CONFIG").env_remove("TOLLGATE_STATE_DIR").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let status = self.command(arguments).status();
        let status = status.with_context(|| format!("cannot run {}", self.program.display()))?;
        ensure!(status.success(), "orchestrator {} ended with {status}", arguments.join(" "));
        Ok(())
    }
}

#[expect(clippy::print_stdout, reason = "the demo talks to a person")]
pub(crate) fn say(text: &str) {
    println!("\n{}", text.if_supports_color(Stream::Stdout, |text| text.bold()));
}

pub(crate) fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Builds every program and returns the folder that holds them.
fn build() -> anyhow::Result<PathBuf> {
    let status = cargo_build().arg("--bins").status().context("cannot run cargo")?;
    ensure!(status.success(), "the build failed");
    // xtask itself was built into the folder that the programs are in.
    let own = std::env::current_exe()?;
    Ok(own.parent().context("this program is in no folder")?.to_owned())
}

pub(crate) fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                copy_folder(&entry.path(), &target)?;
            }
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Commits the service in three steps, as if it had grown over some days.
pub(crate) fn make_history(shop: &Path) -> anyhow::Result<()> {
    let repository = Repository::init_opts(shop, RepositoryInitOptions::new().initial_head("main"))?;
    let mut config = repository.config()?;
    config.set_str("user.name", "Bookshop")?;
    config.set_str("user.email", "bookshop@example.com")?;
    let steps: [(&str, &[&str]); 3] = [
        ("Quote prices from a catalogue", &["Cargo.toml", "Cargo.lock", ".gitignore", "data", "src"]),
        ("Test what customers were promised", &["tests"]),
        ("Say how to run it", &["README.md"]),
    ];
    for (day, (message, files)) in steps.into_iter().enumerate() {
        let mut index = repository.index()?;
        index.add_all(files, IndexAddOption::DEFAULT, None)?;
        index.write()?;
        let tree = repository.find_tree(index.write_tree()?)?;
        let at = Time::new(1_793_520_000 + 86_400 * i64::try_from(day)?, 0);
        let signature = Signature::new("Bookshop", "bookshop@example.com", &at)?;
        let parent = repository.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<_> = parent.iter().collect();
        repository.commit(Some("HEAD"), &signature, &signature, message, &tree, &parents)?;
    }
    Ok(())
}

/// Writes three months of orders, the same every time.
async fn make_orders(shop: &Path) -> anyhow::Result<()> {
    let mut database = SqliteConnectOptions::new()
        .filename(shop.join("data/shop.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Delete)
        .connect()
        .await?;
    let mut transaction = database.begin().await?;
    sqlx::raw_sql(
        "CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE, price_cents INTEGER NOT NULL);
         CREATE TABLE orders (id INTEGER PRIMARY KEY, book_id INTEGER NOT NULL REFERENCES book (id),
             copies INTEGER NOT NULL, discount_percent INTEGER NOT NULL, ordered_on TEXT NOT NULL);
         INSERT INTO book (title, price_cents) VALUES ('Emma', 900), ('Frankenstein', 1100), ('Middlemarch', 1600),
             ('Moby Dick', 1250), ('Persuasion', 850);",
    )
    .execute(&mut *transaction)
    .await?;
    for number in 0_i64..120 {
        // Small orders mostly, every eighth a school's of ten or more.
        let copies = if number % 8 == 3 { 10 + (number / 8) % 3 * 5 } else { 1 + number % 4 };
        // What the service did until today: the discount starts above ten.
        let discount = if copies > 10 { 15 } else { 0 };
        sqlx::query(
            "INSERT INTO orders (book_id, copies, discount_percent, ordered_on)
             VALUES (1 + ? % 5, ?, ?, date('2026-08-01', '+' || ? || ' days'))",
        )
        .bind(number)
        .bind(copies)
        .bind(discount)
        .bind(number * 3 / 4)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    database.close().await?;
    Ok(())
}

/// Returns the demo's `tollgate.toml`, with the example's foreign server from the folder of the programs.
fn configuration(programs: &Path) -> anyhow::Result<String> {
    let mut text = fs::read_to_string(repository_root().join("examples/demo/tollgate.toml"))?;
    let workshop = programs.join("mcp-workshop");
    text = text.replace("command = \"mcp-workshop\"", &format!("command = {:?}", path(&workshop)?));
    // Cargo, which the workshop runs, may live in places that only the environment knows.
    let variables: Vec<String> = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"]
        .into_iter()
        .filter(|name| std::env::var_os(name).is_some())
        .map(|name| format!("{name} = \"${{{name}}}\""))
        .collect();
    if !variables.is_empty() {
        text.push_str(&format!("env = {{ {} }}\n", variables.join(", ")));
    }
    Ok(text)
}
