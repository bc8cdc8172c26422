//! `orchestrator worker`: the backlog is done, blocked with a reason or waiting for a person, whatever happens to workers.

mod alerts;
mod backlog;
mod killed;
mod operations;
mod rules;

use std::fs;

use serde_json::{Value, json};

use crate::task::world::World;

/// A repository with a queue of its own, and what is to be in `[queue]` besides.
fn world(queue: &str, script: &Value) -> World {
    let world = World::new();
    let path = world.path().join("tollgate.toml");
    let config = fs::read_to_string(&path).unwrap();
    let head = "[queue]\nagent = \"scripted:script.json\"\nlease_ms = 3000\npoll_ms = 100\n";
    fs::write(&path, format!("{config}\n{head}{queue}\n")).unwrap();
    world.script(script);
    world
}

/// A task that one agent does.
fn task(id: &str, fields: Value) -> Value {
    let mut body = json!({"id": id, "description": format!("do {id}"), "status": "pending", "priority": "P2", "type": "bug",
        "complexity_category": "low", "estimated_value_usd": "10", "acceptance": {"commands": ["true"]}});
    let Value::Object(fields) = fields else { panic!("{fields} is no object") };
    for (name, value) in fields {
        body[name] = value;
    }
    body
}

fn import(world: &World, tasks: &[Value]) {
    let file = world.path().join(".git/tasks.json");
    fs::write(&file, json!(tasks).to_string()).unwrap();
    world.text(&["queue", "import", file.to_str().unwrap()]);
}

fn show(world: &World, id: &str) -> Value {
    world.json(&["queue", "show", id, "--json"])
}

fn write(path: &str, content: &str) -> Value {
    json!({"tool": "tollgate__write_file", "arguments": {"path": path, "content": content}})
}
