//! Adding servers to the text of a host's configuration, with everything that was in it kept.

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value, json};

/// A server as a host starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the host.
    pub name: String,
    /// The program, by its full path.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// How a host writes down its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON with `mcpServers`.
    McpServers,
    /// JSON with `servers` and a type, as VS Code has it.
    VsCode,
    /// JSON with `mcp` and the command as one list, as opencode has it.
    OpenCode,
    /// JSON with `context_servers`, as Zed has it.
    Zed,
    /// TOML with `mcp_servers`, as Codex has it.
    Codex,
    /// YAML with `extensions`, as Goose has it.
    Goose,
}

impl Format {
    /// Returns `text` with `entries` added; a host's file that is missing is empty.
    ///
    /// # Errors
    ///
    /// When the text is not what the host would read, or has another server of the same name.
    pub fn add(self, text: &str, entries: &[Entry]) -> anyhow::Result<String> {
        match self {
            Self::Codex => add_to_toml(text, entries),
            Self::Goose => add_to_yaml(text, entries),
            _ => self.add_to_json(text, entries),
        }
    }

    fn add_to_json(self, text: &str, entries: &[Entry]) -> anyhow::Result<String> {
        let mut file: Value = if text.trim().is_empty() {
            json!({})
        } else {
            serde_json::from_str(text)
                .context("it is not plain JSON (comments are not kept, so it is left as it is)")?
        };
        let key = match self {
            Self::VsCode => "servers",
            Self::OpenCode => "mcp",
            Self::Zed => "context_servers",
            _ => "mcpServers",
        };
        let servers = file
            .as_object_mut()
            .context("it is not a JSON object")?
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new()))
            .as_object_mut()
            .with_context(|| format!("its `{key}` is not an object"))?;
        for entry in entries {
            let Entry { name, command, args } = entry;
            let server = match self {
                Self::VsCode => json!({ "type": "stdio", "command": command, "args": args }),
                Self::OpenCode => {
                    let whole: Vec<&String> = std::iter::once(command).chain(args).collect();
                    json!({ "type": "local", "command": whole, "enabled": true })
                }
                Self::Zed => json!({ "source": "custom", "command": command, "args": args }),
                _ => json!({ "command": command, "args": args }),
            };
            match servers.get(name) {
                Some(known) if *known == server => {}
                Some(_) => bail!("it has another server `{name}`; remove that first"),
                None => drop(servers.insert(name.clone(), server)),
            }
        }
        Ok(format!("{}\n", serde_json::to_string_pretty(&file)?))
    }
}

fn add_to_toml(text: &str, entries: &[Entry]) -> anyhow::Result<String> {
    let read = |text: &str| toml::from_str::<toml::Table>(text);
    let before = read(text).context("it is not TOML")?;
    let mut added = text.to_owned();
    for Entry { name, command, args } in entries {
        let mut server = toml::Table::new();
        server.insert("command".to_owned(), command.clone().into());
        server.insert("args".to_owned(), args.clone().into());
        match before.get("mcp_servers").and_then(|servers| servers.get(name)) {
            Some(known) if *known == toml::Value::Table(server.clone()) => continue,
            Some(_) => bail!("it has another server `{name}`; remove that first"),
            None => {}
        }
        if !added.is_empty() {
            added.push_str(if added.ends_with('\n') { "\n" } else { "\n\n" });
        }
        added.push_str(&format!("[mcp_servers.{name}]\n{}", toml::to_string(&server)?));
    }
    // Written at the end, so that comments stay; whether it means what it should is seen by reading it.
    let mut after = read(&added).context("its `mcp_servers` is written so that none can be added")?;
    let servers = after.get_mut("mcp_servers").and_then(toml::Value::as_table_mut).context("nothing was added")?;
    ensure!(entries.iter().all(|entry| servers.contains_key(&entry.name)), "nothing was added");
    let known = before.get("mcp_servers").and_then(toml::Value::as_table);
    servers.retain(|name, _| known.is_some_and(|known| known.contains_key(name)));
    if servers.is_empty() && known.is_none() {
        after.remove("mcp_servers");
    }
    ensure!(after == before, "something else would have changed");
    Ok(added)
}

fn add_to_yaml(text: &str, entries: &[Entry]) -> anyhow::Result<String> {
    let read = |text: &str| -> anyhow::Result<Map<String, Value>> {
        if text.trim().is_empty() { Ok(Map::new()) } else { Ok(serde_saphyr::from_str(text)?) }
    };
    let before = read(text).context("it is not YAML")?;
    let mut block = String::new();
    for Entry { name, command, args } in entries {
        let server = json!({
            "enabled": true, "type": "stdio", "name": name, "cmd": command, "args": args, "envs": {}, "timeout": 300 });
        match before.get("extensions").and_then(|extensions| extensions.get(name)) {
            Some(known) if known["cmd"] == server["cmd"] && known["args"] == server["args"] => continue,
            Some(_) => bail!("it has another extension `{name}`; remove that first"),
            // JSON is YAML, and on one line it needs no indentation of its own.
            None => block.push_str(&format!("  {name}: {server}\n")),
        }
    }
    if block.is_empty() {
        return Ok(text.to_owned());
    }
    let heading = text.lines().position(|line| line.trim_end() == "extensions:");
    let added = match heading {
        Some(at) => {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.insert(at + 1, block.trim_end());
            format!("{}\n", lines.join("\n"))
        }
        None => {
            ensure!(!before.contains_key("extensions"), "its `extensions` is written so that none can be added");
            let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            format!("{text}{gap}extensions:\n{block}")
        }
    };
    let mut after = read(&added).context("its `extensions` is indented so that none can be added")?;
    let extensions = after.get_mut("extensions").and_then(Value::as_object_mut).context("nothing was added")?;
    ensure!(entries.iter().all(|entry| extensions.contains_key(&entry.name)), "nothing was added");
    let known = before.get("extensions").and_then(Value::as_object);
    extensions.retain(|name, _| known.is_some_and(|known| known.contains_key(name)));
    if extensions.is_empty() && !before.get("extensions").is_some_and(Value::is_object) {
        match before.get("extensions") {
            Some(empty) => drop(after.insert("extensions".to_owned(), empty.clone())),
            None => drop(after.remove("extensions")),
        }
    }
    ensure!(after == before, "something else would have changed");
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let args = vec!["serve".to_owned(), "--config".to_owned(), "/w/a \"b\"/tollgate.toml".to_owned()];
        vec![Entry { name: "tollgate".into(), command: "/opt/bin/orchestrator".into(), args }]
    }

    #[test]
    fn json_of_each_host_keeps_what_was_there_and_its_order() {
        for (format, before, place) in [
            (
                Format::McpServers,
                r#"{"zebra": 1, "mcpServers": {"other": {"command": "x", "env": {"K": "v"}}}, "apple": null}"#,
                "/mcpServers",
            ),
            (
                Format::VsCode,
                r#"{"inputs": [{"id": "t"}], "servers": {"other": {"type": "http", "url": "http://x"}}}"#,
                "/servers",
            ),
            (
                Format::OpenCode,
                r#"{"$schema": "https://opencode.ai/config.json", "mcp": {"other": {"type": "remote", "url": "u"}}}"#,
                "/mcp",
            ),
            (
                Format::Zed,
                r#"{"theme": "One Dark", "context_servers": {"other": {"settings": {}}}}"#,
                "/context_servers",
            ),
        ] {
            let added = format.add(before, &entries()).unwrap();
            let mut after: Value = serde_json::from_str(&added).unwrap();
            assert!(added.contains("/opt/bin/orchestrator"), "{added}");
            assert_eq!(format.add(&added, &entries()).unwrap(), added, "twice is once");
            after.pointer_mut(place).unwrap().as_object_mut().unwrap().remove("tollgate").unwrap();
            assert_eq!(after.to_string(), serde_json::from_str::<Value>(before).unwrap().to_string());
            assert!(format.add("", &entries()).unwrap().contains("tollgate"));
            assert!(format.add("// comment\n{}", &entries()).is_err());
            assert!(format.add("[]", &entries()).is_err());
            let taken = json!({ place[1..]: { "tollgate": { "command": "another" } } }).to_string();
            assert!(format.add(&taken, &entries()).is_err());
        }
    }

    #[test]
    fn codex_keeps_comments_and_refuses_what_it_cannot_add_to() {
        let before =
            "# mine\nmodel = \"o4\" # best\n\n[mcp_servers.other]\ncommand = \"x\"\n\n[profiles.a]\nmodel = \"b\"";
        let added = Format::Codex.add(before, &entries()).unwrap();
        assert!(added.starts_with(before), "{added}");
        let read: toml::Table = toml::from_str(&added).unwrap();
        assert_eq!(read["mcp_servers"]["tollgate"]["args"][2].as_str(), Some("/w/a \"b\"/tollgate.toml"));
        assert_eq!(Format::Codex.add(&added, &entries()).unwrap(), added);
        assert!(Format::Codex.add("", &entries()).unwrap().starts_with("[mcp_servers.tollgate]"));
        for text in ["mcp_servers = { other = { command = \"x\" } }", "a = ", "[mcp_servers.tollgate]\ncommand = \"y\""]
        {
            assert!(Format::Codex.add(text, &entries()).is_err(), "{text}");
        }
    }

    #[test]
    fn goose_keeps_comments_and_refuses_what_it_cannot_add_to() {
        let before = "# mine\nGOOSE_PROVIDER: anthropic\nextensions:\n  developer: # builtin\n    enabled: true\n    type: builtin\nGOOSE_MODE: auto\n";
        let added = Format::Goose.add(before, &entries()).unwrap();
        for line in before.lines() {
            assert!(added.contains(line), "{line}");
        }
        assert_eq!(Format::Goose.add(&added, &entries()).unwrap(), added);
        for text in ["", "GOOSE_MODE: auto", "extensions:\n", "a: 1\nextensions:\n"] {
            assert!(Format::Goose.add(text, &entries()).unwrap().contains("tollgate"), "{text}");
        }
        for text in [
            "extensions: { developer: { enabled: true } }\n",
            "extensions:\n    developer:\n        enabled: true\n",
            "a: [",
            "- a\n",
        ] {
            assert!(Format::Goose.add(text, &entries()).is_err(), "{text}");
        }
    }
}
