//! Files of tasks: a list, a list within an object, or grouped by feature; read whole or not at all, and written back.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use super::check::{self, Fault};
use super::lines::{Step, line_of};
use super::task::Task;
use super::upgrade;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most files of a folder.
const FILES_MAX: usize = 1_000;

/// Most tasks of one import: more than anybody goes through, and what one transaction takes without holding up workers.
const TASKS_MAX: usize = 100_000;

/// Most problems that are told; what is wrong with twenty tasks is usually wrong with all.
const PROBLEMS_MAX: usize = 20;

/// The version that [`write`] writes; files that say it are not upgraded.
pub const SCHEMA_VERSION: u64 = 2;

/// One task of a file.
#[derive(Clone, Debug)]
pub struct Item {
    /// Everything that the file says about it.
    pub body: Map<String, Value>,
    /// What of that is understood.
    pub task: Task,
    /// The feature that it is under, without its tasks.
    pub feature: Option<Value>,
}

/// What files have.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In the order of the files.
    pub items: Vec<Item>,
    /// How many of them were written before tasks had a complexity and a value.
    pub upgraded: usize,
    /// Each file with its text as it was.
    pub files: Vec<(PathBuf, String)>,
}

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The task: its id, else its number in the file.
    pub item: Option<String>,
    /// The field.
    pub field: Option<String>,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: ", self.file.display(), self.line)?;
        if let Some(item) = &self.item {
            write!(formatter, "task {item}: ")?;
        }
        if let Some(field) = &self.field {
            write!(formatter, "`{field}` ")?;
        }
        formatter.write_str(&self.message)
    }
}

/// Files that are not taken.
#[derive(Debug, thiserror::Error)]
#[error("nothing was imported:\n{}{}", lines(.problems), more(*.left_out))]
pub struct Refused {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// How many problems are not told.
    pub left_out: usize,
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}

fn more(left_out: usize) -> String {
    if left_out == 0 { String::new() } else { format!("\n  and {left_out} more") }
}

/// Reads the file at `path`, or every `.json` of the folder there; `is_known` says whether the queue has a task of that id.
///
/// # Errors
///
/// [`Refused`] with everything that is wrong; or a sentence, where a file cannot be read.
pub fn read(path: &Path, is_known: &dyn Fn(&str) -> bool) -> anyhow::Result<Batch> {
    let mut batch = Batch::default();
    let mut told = Told::default();
    let mut places = Vec::new();
    for file in files(path)? {
        let context = || format!("cannot read {}", file.display());
        let size = std::fs::metadata(&file).with_context(context)?.len();
        ensure!(size <= FILE_BYTES_MAX, "{} is larger than 64 MiB", file.display());
        let text = std::fs::read_to_string(&file).with_context(context)?;
        parse(&file, &text, &mut batch, &mut places, &mut told);
        ensure!(batch.items.len() <= TASKS_MAX, "there are more than {TASKS_MAX} tasks");
        batch.files.push((file, text));
    }
    if told.problems.is_empty() {
        references(&batch, &places, is_known, &mut told);
    }
    if told.problems.is_empty() { Ok(batch) } else { Err(told.refused().into()) }
}

/// Returns every file at `path`.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let file = entry.with_context(|| format!("cannot read {}", path.display()))?.path();
        if file.extension().is_some_and(|extension| extension == "json") && file.is_file() {
            files.push(file);
        }
        ensure!(files.len() <= FILES_MAX, "{} has more than {FILES_MAX} files", path.display());
    }
    ensure!(!files.is_empty(), "{} has no .json file", path.display());
    files.sort();
    Ok(files)
}

/// Where an item stands: the number of its file, and the path within.
type Place = (usize, Vec<Step>);

#[derive(Default)]
struct Told {
    problems: Vec<Problem>,
    left_out: usize,
}

impl Told {
    fn tell(&mut self, problem: impl FnOnce() -> Problem) {
        // Finding the line reads the file once more; that is not done ten thousand times.
        if self.problems.len() < PROBLEMS_MAX { self.problems.push(problem()) } else { self.left_out += 1 }
    }

    fn refused(self) -> Refused {
        Refused { problems: self.problems, left_out: self.left_out }
    }
}

fn parse(file: &Path, text: &str, batch: &mut Batch, places: &mut Vec<Place>, told: &mut Told) {
    let problem = |line, item, field, message: String| Problem { file: file.to_owned(), line, item, field, message };
    let root: Value = match serde_json::from_str(text) {
        Ok(root) => root,
        Err(error) => return told.tell(|| problem(error.line(), None, None, format!("is not JSON: {error}"))),
    };
    let groups = match groups(root) {
        Ok(groups) => groups,
        Err((path, message)) => return told.tell(|| problem(line_of(text, &path), None, None, message)),
    };
    let number = batch.files.len();
    let mut bodies = Vec::new();
    for (path, feature, tasks) in groups.lists {
        for (index, task) in tasks.into_iter().enumerate() {
            let mut path = path.clone();
            path.push(Step::Index(index));
            match task {
                Value::Object(body) => bodies.push((path, feature.clone(), body)),
                other => told.tell(|| {
                    let message = format!("is no task but {}", crate::report::table::shorten(&other.to_string(), 60));
                    problem(line_of(text, &path), Some(format!("{}", index + 1)), None, message)
                }),
            }
        }
    }
    let is_old = groups.version.is_none_or(|version| version < SCHEMA_VERSION)
        && upgrade::is_old(bodies.iter().map(|(_, _, body)| body));
    for (index, (path, feature, mut body)) in bodies.into_iter().enumerate() {
        let faults = check::faults(&body);
        let name =
            body.get("id").and_then(Value::as_str).map_or_else(|| format!("{}", index + 1), |id| format!("`{id}`"));
        for Fault { field, message } in &faults {
            told.tell(|| {
                let steps = field.split('.').map(|part| Step::Key(part.to_owned()));
                let path: Vec<Step> = path.iter().cloned().chain(steps).collect();
                problem(line_of(text, &path), Some(name.clone()), Some(field.clone()), message.clone())
            });
        }
        if !faults.is_empty() {
            continue;
        }
        if is_old {
            upgrade::upgrade(&mut body);
            batch.upgraded += 1;
        }
        match task_of(&body) {
            Ok(task) => {
                places.push((number, path));
                batch.items.push(Item { body, task, feature });
            }
            Err(error) => told.tell(|| problem(line_of(text, &path), Some(name), None, error.to_string())),
        }
    }
}

/// Returns what is understood of `body`; a field that is `null` is not there.
pub(crate) fn task_of(body: &Map<String, Value>) -> Result<Task, serde_json::Error> {
    let said = body.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone()));
    serde_json::from_value(Value::Object(said.collect()))
}

struct Groups {
    version: Option<u64>,
    lists: Vec<(Vec<Step>, Option<Value>, Vec<Value>)>,
}

/// Finds the lists of tasks of a file; or says where and why there are none.
fn groups(root: Value) -> Result<Groups, (Vec<Step>, String)> {
    let key = |name: &str| Step::Key(name.to_owned());
    let what = "a file is a list of tasks, {\"tasks\": […]} or {\"features\": [{\"name\": …, \"tasks\": […]}]}";
    match root {
        Value::Array(tasks) => Ok(Groups { version: None, lists: vec![(Vec::new(), None, tasks)] }),
        Value::Object(mut fields) => {
            let version = match fields.get("schema_version") {
                None => None,
                Some(version) => match version.as_u64().filter(|version| (1..=SCHEMA_VERSION).contains(version)) {
                    Some(version) => Some(version),
                    None => {
                        let message =
                            format!("`schema_version` {version} is not allowed; allowed are 1, {SCHEMA_VERSION}");
                        return Err((vec![key("schema_version")], message));
                    }
                },
            };
            let mut lists = Vec::new();
            match fields.remove("tasks") {
                Some(Value::Array(tasks)) => lists.push((vec![key("tasks")], None, tasks)),
                Some(_) => return Err((vec![key("tasks")], "`tasks` is no list".to_owned())),
                None => {}
            }
            let features = match fields.remove("features") {
                Some(Value::Array(features)) => features,
                Some(_) => return Err((vec![key("features")], "`features` is no list".to_owned())),
                None if lists.is_empty() => return Err((Vec::new(), what.to_owned())),
                None => Vec::new(),
            };
            for (index, feature) in features.into_iter().enumerate() {
                let mut path = vec![key("features"), Step::Index(index)];
                let Value::Object(mut feature) = feature else {
                    return Err((path, "a feature is {\"name\": …, \"tasks\": […]}".to_owned()));
                };
                let tasks = feature.shift_remove("tasks");
                path.push(key("tasks"));
                match tasks {
                    Some(Value::Array(tasks)) => lists.push((path, Some(Value::Object(feature)), tasks)),
                    _ => return Err((path, "a feature has a list `tasks`".to_owned())),
                }
            }
            Ok(Groups { version, lists })
        }
        _ => Err((Vec::new(), what.to_owned())),
    }
}

/// Returns the file with each task as `current` says it is; `None` when that is what it says already.
///
/// # Errors
///
/// When `text` is not a file that [`read`] takes.
pub fn rewritten(text: &str, current: &dyn Fn(&str) -> Option<Map<String, Value>>) -> anyhow::Result<Option<String>> {
    let before: Value = serde_json::from_str(text)?;
    let mut root = before.clone();
    let update = |tasks: Option<&mut Value>| {
        for task in tasks.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(now) = task["id"].as_str().and_then(current) {
                *task = Value::Object(now);
            }
        }
    };
    if root.is_array() {
        update(Some(&mut root));
    } else {
        update(root.get_mut("tasks"));
        for feature in root.get_mut("features").and_then(Value::as_array_mut).into_iter().flatten() {
            update(feature.get_mut("tasks"));
        }
    }
    Ok(if root == before { None } else { Some(format!("{}\n", serde_json::to_string_pretty(&root)?)) })
}

/// Finds ids that are there twice, dependencies on nothing, and those that lead back to where they began.
fn references(batch: &Batch, places: &[Place], is_known: &dyn Fn(&str) -> bool, told: &mut Told) {
    let tell = |told: &mut Told, index: usize, field: &str, message: String| {
        let (file, path) = &places[index];
        let (file, text) = &batch.files[*file];
        told.tell(|| {
            let path: Vec<Step> = path.iter().cloned().chain([Step::Key(field.to_owned())]).collect();
            let item = Some(format!("`{}`", batch.items[index].task.id));
            Problem { file: file.clone(), line: line_of(text, &path), item, field: Some(field.to_owned()), message }
        });
    };
    let mut by_id = HashMap::new();
    for (index, item) in batch.items.iter().enumerate() {
        if by_id.insert(item.task.id.as_str(), index).is_some() {
            tell(told, index, "id", "is there twice; each task has an id of its own".to_owned());
        }
    }
    for (index, item) in batch.items.iter().enumerate() {
        for on in &item.task.depends_on {
            if !by_id.contains_key(on.as_str()) && !is_known(on) {
                tell(told, index, "depends_on", format!("names `{on}`, which is neither in the file nor in the queue"));
            }
        }
    }
    let edges = batch.items.iter().map(|item| (item.task.id.as_str(), item.task.depends_on.iter().map(String::as_str)));
    for id in circular(edges.map(|(id, on)| (id, on.collect()))) {
        if let Some(index) = by_id.get(id) {
            tell(told, *index, "depends_on", "leads back to the task itself".to_owned());
        }
    }
}

/// Returns the tasks that can never be ready, as they wait for each other, in the order given.
pub(super) fn circular<'a>(edges: impl Iterator<Item = (&'a str, Vec<&'a str>)>) -> Vec<&'a str> {
    let edges: Vec<(&str, Vec<&str>)> = edges.collect();
    let known: BTreeMap<&str, usize> = edges.iter().enumerate().map(|(index, (id, _))| (*id, index)).collect();
    let mut open: Vec<usize> = vec![0; edges.len()];
    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (index, (_, on)) in edges.iter().enumerate() {
        for on in on.iter().filter_map(|on| known.get(on)) {
            open[index] += 1;
            behind[*on].push(index);
        }
    }
    let mut free: Vec<usize> = (0..edges.len()).filter(|index| open[*index] == 0).collect();
    while let Some(index) = free.pop() {
        for next in std::mem::take(&mut behind[index]) {
            open[next] -= 1;
            if open[next] == 0 {
                free.push(next);
            }
        }
    }
    (0..edges.len()).filter(|index| open[*index] > 0).map(|index| edges[index].0).collect()
}

/// Returns a file of `tasks`, each with its feature; grouped where `grouped` says so.
#[must_use]
pub fn write(tasks: Vec<(Map<String, Value>, Option<Value>)>, grouped: bool) -> String {
    let mut root = json!({ "schema_version": SCHEMA_VERSION });
    let mut alone = Vec::new();
    let mut features: Vec<(Value, Vec<Value>)> = Vec::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for (body, feature) in tasks {
        match feature.filter(|_| grouped) {
            None => alone.push(Value::Object(body)),
            Some(feature) => {
                let number = *numbers.entry(feature.to_string()).or_insert_with(|| {
                    features.push((feature, Vec::new()));
                    features.len() - 1
                });
                features[number].1.push(Value::Object(body));
            }
        }
    }
    if !grouped || !alone.is_empty() {
        root["tasks"] = Value::Array(alone);
    }
    if grouped {
        let with_tasks = |(mut feature, tasks): (Value, Vec<Value>)| {
            feature["tasks"] = Value::Array(tasks);
            feature
        };
        root["features"] = features.into_iter().map(with_tasks).collect();
    }
    format!("{}\n", serde_json::to_string_pretty(&root).unwrap_or_default())
}
