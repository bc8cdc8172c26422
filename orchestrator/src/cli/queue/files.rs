//! Files of tasks into the queue, out of it, and kept the same as it.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value};

use super::super::print;
use crate::config::House;
use crate::queue::file::{self, Batch};
use crate::queue::store::{ImportOrder, Imported, Queue};
use crate::queue::task::Status;

/// Most tasks of one export.
const EXPORT_MAX: i64 = 10_000_000;

/// Makes a name for an import.
pub(super) fn import_id() -> String {
    format!("import-{}", tollgate_shared::ids::EntryId::generate())
}

pub(super) async fn import(house: &House, queue: &Queue, path: PathBuf, dry_run: bool) -> anyhow::Result<()> {
    let batch = read(queue, path.clone()).await?;
    let imported = take(house, queue, &batch, &path, false, dry_run).await?;
    print(&told(&imported, dry_run));
    Ok(())
}

pub(super) async fn sync(house: &House, queue: &Queue, path: PathBuf, dry_run: bool) -> anyhow::Result<()> {
    anyhow::ensure!(path.is_file(), "{} is no file", path.display());
    let mut batch = read(queue, path.clone()).await?;
    // Where a task is, the queue knows better than the file.
    let mut current = HashMap::new();
    for item in &mut batch.items {
        if let Some(entry) = queue.find(&item.task.id).await? {
            let known = entry.exported();
            for field in ["status", "attempts", "branch", "passes", "routing_reason"] {
                match known.get(field) {
                    Some(value) => drop(item.body.insert(field.to_owned(), value.clone())),
                    None => drop(item.body.shift_remove(field)),
                }
            }
            item.task = file::task_of(&item.body)?;
        }
    }
    let imported = take(house, queue, &batch, &path, true, dry_run).await?;
    for item in &batch.items {
        current.extend(queue.find(&item.task.id).await?.map(|entry| (item.task.id.clone(), entry.exported())));
    }
    let (_, text) = batch.files.first().context("no file was read")?;
    let look = |id: &str| current.get(id).cloned();
    let written = file::rewritten(text, &look)?;
    if let Some(new) = written.as_ref().filter(|_| !dry_run) {
        let kept = keep(house, &format!("sync-{}", tollgate_shared::ids::EntryId::generate()), &batch)?;
        replace(&path, new)?;
        print(&format!("{} says where its tasks are; as it was it lies in {}\n", path.display(), kept.display()));
    }
    print(&told(&imported, dry_run));
    Ok(())
}

pub(super) async fn export(
    queue: &Queue,
    out: Option<PathBuf>,
    grouped: bool,
    status: Option<Status>,
) -> anyhow::Result<()> {
    let entries = queue.list(status, EXPORT_MAX).await?;
    let tasks: Vec<(Map<String, Value>, Option<Value>)> =
        entries.into_iter().map(|entry| (entry.exported(), entry.feature)).collect();
    let count = tasks.len();
    let text = file::write(tasks, grouped);
    match out {
        Some(path) => {
            replace(&path, &text)?;
            print(&format!("{count} tasks are in {}\n", path.display()));
        }
        None => print(&text),
    }
    Ok(())
}

async fn read(queue: &Queue, path: PathBuf) -> anyhow::Result<Batch> {
    let known = queue.ids().await?;
    tokio::task::spawn_blocking(move || file::read(&path, &|id| known.contains(id))).await?
}

/// Adds `batch`, after its files were put where they can be found again.
async fn take(
    house: &House,
    queue: &Queue,
    batch: &Batch,
    path: &Path,
    changes: bool,
    try_only: bool,
) -> anyhow::Result<Imported> {
    let id = import_id();
    let source = std::path::absolute(path)?.display().to_string();
    let backup = if try_only { PathBuf::new() } else { keep(house, &id, batch)? };
    let order = ImportOrder { id: &id, source: &source, backup: &backup.display().to_string(), changes, try_only };
    let imported = queue.import(batch, &order).await;
    if !try_only && !matches!(&imported, Ok(imported) if !imported.id.is_empty()) {
        // Nothing was taken from them.
        let _ = std::fs::remove_dir_all(&backup);
    }
    Ok(imported?)
}

/// Copies the files of `batch` into the state folder.
fn keep(house: &House, id: &str, batch: &Batch) -> anyhow::Result<PathBuf> {
    let folder = house.state_dir.create()?.join("imports").join(id);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (number, (file, text)) in batch.files.iter().enumerate() {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = folder.join(format!("{number}-{name}"));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(folder)
}

/// Writes a file whole or not at all.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let name = path.file_name().context("no file name").with_context(context)?.to_string_lossy().into_owned();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = std::fs::File::create_new(&new).with_context(context)?;
    let written =
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written.with_context(context)
}

fn told(imported: &Imported, dry_run: bool) -> String {
    let Imported { id, added, unchanged, changed, upgraded } = imported;
    let mut text = format!("{added} new, {changed} changed, {unchanged} as they were");
    if *upgraded > 0 {
        text.push_str(&format!(
            "; {upgraded} of an old queue: complexity_category from type and priority, estimated_value_usd from priority and type"
        ));
    }
    if dry_run {
        format!("{text}; nothing was done (--dry-run)\n")
    } else if *added > 0 {
        format!("{text}\n{id}; undo with `orchestrator queue rollback-import {id}`\n")
    } else {
        format!("{text}\n")
    }
}
