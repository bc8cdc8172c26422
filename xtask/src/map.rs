//! `cargo xtask map`: the list of modules in ARCHITECTURE.md, from the first line of each module's own doc.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use tollgate_tests::world::repository_root;

const BEGIN: &str = "<!-- modules: written by `cargo xtask map` -->\n";
const END: &str = "<!-- end of modules -->";

/// The packages in the order in which a newcomer reads them.
const PACKAGES: &[&str] =
    &["shared", "servers/ralph", "servers/git", "servers/database", "servers/deploy", "orchestrator", "tests", "xtask"];

/// Writes the list, or with `check` fails when it is not what the modules say.
pub fn run(check: bool) -> anyhow::Result<()> {
    let path = repository_root().join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).context("cannot read ARCHITECTURE.md")?;
    let (before, rest) = text.split_once(BEGIN).context("ARCHITECTURE.md has no place for the modules")?;
    let (_, after) = rest.split_once(END).context("the place for the modules in ARCHITECTURE.md has no end")?;
    let wanted = format!("{before}{BEGIN}{}{END}{after}", modules()?);
    if wanted == text {
        return Ok(());
    }
    if check {
        bail!("run `cargo xtask map`; ARCHITECTURE.md is not up to date");
    }
    fs::write(&path, wanted).context("cannot write ARCHITECTURE.md")
}

fn modules() -> anyhow::Result<String> {
    let mut text = String::new();
    for package in PACKAGES {
        text.push_str(&format!("\n### {package}\n\n"));
        for folder in ["src", "it", "benches"] {
            let folder = repository_root().join(package).join(folder);
            if folder.is_dir() {
                list(&folder, &folder, &mut text)?;
            }
        }
    }
    text.push('\n');
    Ok(text)
}

fn list(base: &Path, folder: &Path, text: &mut String) -> anyhow::Result<()> {
    let mut paths: Vec<_> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            list(base, &path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path)?;
            let doc = source.lines().take_while(|line| line.starts_with("//!")).map(|line| &line[3..]);
            let paragraph: Vec<&str> = doc.map(str::trim).take_while(|line| !line.is_empty()).collect();
            // A file of unit tests belongs to the module that it tests.
            if paragraph.is_empty() || path.ends_with("tests.rs") {
                continue;
            }
            let name = path.strip_prefix(base)?.with_extension("");
            text.push_str(&format!("- `{}`: {}\n", name.display(), paragraph.join(" ")));
        }
    }
    Ok(())
}
