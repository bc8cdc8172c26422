//! Development tasks, run as `cargo xtask <task>`.

mod backlog;
mod demo;
mod map;
mod schemas;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of Tollgate")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and run an agent on a small real service, in a temporary folder
    Demo(demo::DemoArguments),
    /// Build everything and let three workers do a backlog of eight tasks on the same service, in a temporary folder
    DemoQueue(demo::DemoArguments),
    /// Write the list of modules in ARCHITECTURE.md
    Map {
        /// Only compare, and fail when it is not up to date
        #[arg(long)]
        check: bool,
    },
    /// Write the JSON Schemas of schemas/ from the types
    Schemas {
        /// Only compare, and fail when a file is not up to date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::DemoQueue(arguments) => backlog::run(&arguments),
        Task::Map { check } => map::run(check),
        Task::Schemas { check } => schemas::run(check),
    }
}
