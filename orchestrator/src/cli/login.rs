//! `orchestrator login` and `orchestrator logout`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::print;
use crate::config::{House, ServerSpec};
use crate::fleet::child::headers_of;
use crate::oauth::{Access, LoginOptions, log_in, log_out};

#[derive(clap::Args)]
pub(super) struct LoginArguments {
    /// The server: a table `[servers.NAME]` with a `url`
    name: String,
    /// Show the address of the page where you log in, but open no browser
    #[arg(long)]
    no_browser: bool,
    /// How long you may take, in seconds
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

#[derive(clap::Args)]
pub(super) struct LogoutArguments {
    /// The server: a table `[servers.NAME]` with a `url`
    name: String,
}

pub(super) async fn run(house: &House, arguments: &LoginArguments) -> anyhow::Result<ExitCode> {
    let (server, access) = find(house, &arguments.name)?;
    house.state_dir.create()?;
    let show = |page: &str| print(&format!("Log in on this page:\n\n  {page}\n\n"));
    let options = LoginOptions {
        show: &show,
        opens_browser: !arguments.no_browser,
        patience: Duration::from_secs(arguments.timeout),
        headers: headers_of(server)?,
    };
    let scopes = log_in(access, options).await.with_context(|| format!("server `{}`", server.name))?;
    let may = if scopes.is_empty() { String::new() } else { format!(", for {}", scopes.join(" ")) };
    print(&format!("Logged in at {}{may}.\n", server.name));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn end(house: &House, arguments: &LogoutArguments) -> anyhow::Result<ExitCode> {
    let (server, access) = find(house, &arguments.name)?;
    house.state_dir.create()?;
    let name = &server.name;
    let said = if log_out(access).await? { "Logged out at" } else { "There was no login at" };
    print(&format!("{said} {name}.\n"));
    Ok(ExitCode::SUCCESS)
}

fn find<'a>(house: &'a House, name: &str) -> anyhow::Result<(&'a ServerSpec, &'a Arc<Access>)> {
    let remote = || house.servers.iter().filter(|server| server.url.is_some());
    let Some(server) = remote().find(|server| server.name == name) else {
        let known: Vec<&str> = remote().map(|server| server.name.as_str()).collect();
        bail!("there is no server `{name}` with a `url`; there are: {}", known.join(", "));
    };
    let access = server.access.as_ref();
    Ok((server, access.with_context(|| format!("`{name}` has a header `Authorization`, which is its login"))?))
}
