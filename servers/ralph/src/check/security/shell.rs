//! Bash: commands, what they are given, and what is piped into what.

use std::collections::{BTreeSet, HashSet};

use tree_sitter::{Node, Tree, TreeCursor};

use super::engine::Hit;
use super::rules::Category;
use super::text;
use super::value::{HOLE, Value};

/// Programs that fetch.
const FETCHERS: &[&str] = &["curl", "wget", "fetch", "aria2c", "http", "https"];

/// Programs that run what they read.
const RUNNERS: &[&str] = &[
    "sh", "bash", "zsh", "dash", "ksh", "ash", "python", "python3", "python2", "perl", "ruby", "node", "php", "source",
    ".",
];

/// Programs that run another, which follows their own options.
const WRAPPERS: &[&str] = &[
    "sudo", "doas", "env", "command", "exec", "nice", "nohup", "time", "timeout", "xargs", "builtin", "chroot",
    "busybox", "stdbuf", "setsid",
];

/// Programs that check what was fetched.
const CHECKERS: &[&str] = &[
    "sha256sum",
    "sha512sum",
    "shasum",
    "gpg",
    "gpgv",
    "cosign",
    "minisign",
    "sha1sum",
    "md5sum",
    "openssl",
    "b2sum",
    "signify",
    "slsa-verifier",
];

/// One word of a command.
struct Word {
    value: Value,
    /// Fetches something and gives its output.
    fetches: bool,
    start: usize,
}

/// One command.
struct Command {
    name: String,
    words: Vec<Word>,
    start: usize,
}

struct Walk<'s> {
    source: &'s str,
    hits: BTreeSet<Hit>,
    /// Files that were fetched and not checked.
    fetched: HashSet<String>,
    /// Variables that cannot be empty: assigned a constant, or checked.
    filled: HashSet<String>,
    /// Variables that stand for the root, or for a folder that nothing may remove.
    roots: HashSet<String>,
    strict: bool,
}

/// Finds what is wrong in a script.
pub fn check(tree: &Tree, source: &str, in_time: &dyn Fn() -> bool) -> (Vec<Hit>, bool) {
    let strict = source.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("set -")
            && (line.split_whitespace().nth(1).is_some_and(|flags| flags.contains('u')) || line.contains("nounset"))
    });
    let mut walk = Walk {
        source,
        hits: BTreeSet::new(),
        fetched: HashSet::new(),
        filled: HashSet::new(),
        roots: HashSet::new(),
        strict,
    };
    let mut cursor = tree.walk();
    let mut count = 0_usize;
    loop {
        count += 1;
        if count.is_multiple_of(512) && !in_time() {
            return (walk.hits.into_iter().collect(), true);
        }
        walk.node(cursor.node());
        if !next(&mut cursor) {
            return (walk.hits.into_iter().collect(), false);
        }
    }
}

/// Goes to the next node in the order of the text.
fn next(cursor: &mut TreeCursor<'_>) -> bool {
    if cursor.goto_first_child() {
        return true;
    }
    while !cursor.goto_next_sibling() {
        if !cursor.goto_parent() {
            return false;
        }
    }
    true
}

impl Walk<'_> {
    fn text(&self, node: Node<'_>) -> &str {
        self.source.get(node.byte_range()).unwrap_or_default()
    }

    fn hit(&mut self, start: usize, category: Category) {
        self.hits.insert(Hit { start, category });
    }

    fn node(&mut self, node: Node<'_>) {
        match node.kind() {
            "command" => {
                let command = self.command(node);
                self.one(&command);
            }
            "pipeline" => self.pipeline(node),
            "variable_assignment" => self.assignment(node),
            "test_command" => self.test(node),
            "file_redirect" => self.redirect(node),
            "function_definition" => self.definition(node),
            "redirected_statement" => self.fed(node),
            _ => {}
        }
    }

    fn command(&self, node: Node<'_>) -> Command {
        let name = node.child_by_field_name("name").map_or(String::new(), |name| self.word(name).value.text);
        let words = node.children_by_field_name("argument", &mut node.walk()).map(|word| self.word(word)).collect();
        let mut command = Command { name, words, start: node.start_byte() };
        // What a wrapper runs is the command.
        for _ in 0..4 {
            let base = base(&command.name).to_owned();
            if !WRAPPERS.contains(&base.as_str()) {
                break;
            }
            let at = command.words.iter().position(|word| {
                let text = word.value.text.as_str();
                let takes_value = text.starts_with('-');
                let is_duration = base == "timeout" && text.starts_with(|c: char| c.is_ascii_digit());
                !(takes_value || is_duration || text.contains('=') || text == "root")
            });
            let Some(at) = at else { break };
            let mut rest = command.words.split_off(at);
            let first = rest.remove(0);
            command.name = first.value.text;
            command.words = rest;
        }
        command
    }

    fn word(&self, node: Node<'_>) -> Word {
        let mut word = Word { value: Value::default(), fetches: false, start: node.start_byte() };
        self.add(node, &mut word, 0);
        word
    }

    fn add(&self, node: Node<'_>, word: &mut Word, depth: usize) {
        if depth > 30 {
            word.value.add(&Value::unknown());
            return;
        }
        match node.kind() {
            "word" | "number" | "string_content" | "heredoc_body" | "extglob_pattern" | "regex" | "test_operator" => {
                word.value.add(&Value::constant(&self.text(node).replace('\\', "")));
            }
            "raw_string" | "ansi_c_string" => {
                word.value.add(&Value::constant(self.text(node).trim_start_matches('$').trim_matches('\'')));
            }
            "simple_expansion" | "expansion" | "arithmetic_expansion" => {
                let text = self.text(node);
                let is_number = node.kind().starts_with('a') || matches!(text, "$?" | "$$" | "$#" | "$!" | "${#}");
                if is_number {
                    word.value.add(&Value::constant("0"));
                } else {
                    word.value.add(&Value::unknown());
                }
            }
            "command_substitution" | "process_substitution" => {
                let text = self.text(node);
                word.fetches |= self.fetches(node);
                // What a constant command gives back is not what somebody outside says.
                if text.contains(['$']) && text.get(2..).is_some_and(|inner| inner.contains('$')) {
                    word.value.add(&Value::unknown());
                } else {
                    word.value.add(&Value::constant("\u{2}"));
                }
            }
            _ => {
                let mut cursor = node.walk();
                for child in node.named_children(&mut cursor) {
                    self.add(child, word, depth + 1);
                }
            }
        }
    }

    /// Returns whether one of the commands below `node` fetches.
    fn fetches(&self, node: Node<'_>) -> bool {
        let mut cursor = node.walk();
        let mut depth_left = 2_000;
        loop {
            let at = cursor.node();
            if at.kind() == "command_name" && FETCHERS.contains(&base(self.text(at))) {
                return true;
            }
            depth_left -= 1;
            if depth_left == 0 || !next_within(&mut cursor, node) {
                return false;
            }
        }
    }

    fn one(&mut self, command: &Command) {
        let name = base(&command.name).to_owned();
        let texts: Vec<&str> = command.words.iter().map(|word| word.value.text.as_str()).collect();
        let has = |options: &[&str]| texts.iter().any(|text| options.contains(text));
        let short = |letter: char| {
            texts
                .iter()
                .any(|text| text.len() < 8 && text.starts_with('-') && !text.starts_with("--") && text.contains(letter))
        };
        let start = command.start;
        if command.words.iter().any(|word| word.fetches) && (RUNNERS.contains(&name.as_str()) || name == "eval") {
            return self.hit(start, Category::RemoteScript);
        }
        match name.as_str() {
            "eval" => {
                if command.words.iter().any(|word| word.value.dynamic) {
                    self.hit(start, Category::CodeInjection);
                }
            }
            "sh" | "bash" | "zsh" | "dash" | "ksh" | "ash" | "su" => {
                if let Some(at) = texts
                    .iter()
                    .position(|text| text.starts_with('-') && !text.starts_with("--") && text.ends_with('c'))
                {
                    if let Some(word) = command.words.get(at + 1) {
                        if word.value.dynamic {
                            self.hit(start, Category::CommandInjection);
                        }
                        if let Some(category) = text::harmful_command(&word.value.text) {
                            self.hit(start, category);
                        }
                    }
                } else if texts.iter().any(|text| self.fetched.contains(*text)) {
                    self.hit(start, Category::RemoteScript);
                }
            }
            "source" | "." | "python" | "python3" | "perl" | "ruby" | "node" => {
                if texts.first().is_some_and(|text| self.fetched.contains(*text)) {
                    self.hit(start, Category::RemoteScript);
                }
            }
            "curl" | "wget" => {
                let insecure = match name.as_str() {
                    "curl" => has(&["--insecure", "--proxy-insecure"]) || short('k'),
                    _ => has(&["--no-check-certificate"]),
                };
                if insecure {
                    self.hit(start, Category::Tls);
                }
                self.remember_fetched(&name, &texts);
            }
            "git" => {
                let line = texts.join(" ");
                if line.to_ascii_lowercase().contains("http.sslverify false")
                    || line.to_ascii_lowercase().contains("http.sslverify=false")
                {
                    self.hit(start, Category::Tls);
                }
            }
            "npm" | "yarn" | "pnpm" => {
                if texts.join(" ").contains("strict-ssl false") || texts.join(" ").contains("strict-ssl=false") {
                    self.hit(start, Category::Tls);
                }
            }
            "ssh" | "scp" | "sftp" | "rsync" => {
                if texts
                    .iter()
                    .any(|text| text.replace([' ', '='], "").to_ascii_lowercase().contains("stricthostkeycheckingno"))
                {
                    self.hit(start, Category::Tls);
                }
            }
            "kubectl" | "helm" | "oc" | "mc" | "argocd" | "docker" | "skopeo" => {
                if has(&[
                    "--insecure-skip-tls-verify",
                    "--insecure-skip-tls-verify=true",
                    "--tls-verify=false",
                    "--src-tls-verify=false",
                ]) {
                    self.hit(start, Category::Tls);
                }
            }
            "rm" => self.remove(command),
            "chmod" => {
                let open = |text: &str| {
                    matches!(
                        text,
                        "777" | "0777" | "a+rwx" | "ugo+rwx" | "a=rwx" | "1777" | "4777" | "666" | "o+w" | "a+w"
                    )
                };
                if texts
                    .iter()
                    .find(|text| !text.starts_with('-'))
                    .is_some_and(|mode| open(mode) && !matches!(*mode, "1777"))
                {
                    self.hit(start, Category::Destructive);
                }
            }
            "mysql" | "psql" | "sqlite3" | "mariadb" | "mongo" | "mysqldump" | "cqlsh" | "clickhouse-client"
            | "duckdb" => {
                if command.words.iter().any(|word| {
                    word.value.built
                        && text::is_sql(
                            word.value.text.trim_start_matches("--command=").trim_start_matches("--execute="),
                        )
                }) {
                    self.hit(start, Category::Sql);
                }
            }
            "openssl" => {
                if texts.first() == Some(&"passwd") && has(&["-1", "-crypt", "-apr1"]) {
                    self.hit(start, Category::PasswordHash);
                }
            }
            "cat" | "less" | "more" | "head" | "tail" | "cp" | "scp_" | "base64" | "grep" | "awk" | "sed" | "tar"
            | "zip" | "xxd" | "strings" | "cut" | "sort" | "tac" | "nl" | "od" | "dd" | "mv" | "ln" | "install"
            | "tee_" | "mapfile" => {
                let reads = command.words.iter().any(|word| {
                    let text = word.value.text.trim_start_matches("if=");
                    text.starts_with(['/', '~', HOLE]) && text::is_system_file(text)
                });
                if reads {
                    self.hit(start, Category::SystemFile);
                }
                self.destroys(command, &texts);
            }
            _ => self.destroys(command, &texts),
        }
        if let Some(rest) = command
            .name
            .strip_prefix("./")
            .filter(|_| self.fetched.contains(&command.name))
            .or_else(|| self.fetched.contains(&command.name).then_some(command.name.as_str()))
            && !rest.is_empty()
        {
            self.hit(start, Category::RemoteScript);
        }
        if CHECKERS.contains(&name.as_str()) {
            self.fetched.clear();
        }
        if matches!(name.as_str(), "curl" | "wget" | "scp" | "nc")
            && command.words.iter().any(|word| text::is_system_file(word.value.text.trim_start_matches('@')))
        {
            self.hit(start, Category::SystemFile);
        }
    }

    fn destroys(&mut self, command: &Command, texts: &[&str]) {
        let name = base(&command.name);
        if matches!(name, "dd" | "find" | "wipefs" | "shred" | "chown" | "mv") || name.starts_with("mkfs") {
            let line = format!("{name} {}", texts.join(" "));
            if text::harmful_command(&line) == Some(Category::Destructive) {
                self.hit(command.start, Category::Destructive);
            }
        }
    }

    fn remember_fetched(&mut self, name: &str, texts: &[&str]) {
        let takes = if name == "curl" { ['o', 'o'] } else { ['O', 'o'] };
        for (at, text) in texts.iter().enumerate() {
            let is_output = *text == "--output"
                || *text == "--output-document"
                || text.len() < 8 && text.starts_with('-') && !text.starts_with("--") && (text.ends_with(takes[0]));
            if is_output && let Some(file) = texts.get(at + 1) {
                self.fetched.insert((*file).to_owned());
                if !file.starts_with(['/', '.']) {
                    self.fetched.insert(format!("./{file}"));
                }
            }
            let by_its_name = matches!(*text, "--remote-name")
                || name == "curl"
                    && text.len() < 8
                    && text.starts_with('-')
                    && !text.starts_with("--")
                    && text.ends_with('O');
            if (by_its_name || name == "wget")
                && let Some(url) = texts.iter().find(|text| text.contains("://"))
                && let Some(file) = url.rsplit('/').next().filter(|file| !file.is_empty())
            {
                self.fetched.insert(file.to_owned());
                self.fetched.insert(format!("./{file}"));
            }
        }
        if name == "wget"
            && texts.len() == 1
            && let Some(file) = texts[0].rsplit('/').next()
        {
            self.fetched.insert(file.to_owned());
            self.fetched.insert(format!("./{file}"));
        }
    }

    fn remove(&mut self, command: &Command) {
        let recursive = command.words.iter().any(|word| {
            let text = word.value.text.as_str();
            text == "--recursive" || text.starts_with('-') && !text.starts_with("--") && text.contains(['r', 'R'])
        });
        if !recursive {
            return;
        }
        for word in &command.words {
            let text = word.value.text.as_str();
            if !word.value.dynamic && text::is_root(text) || text == "--no-preserve-root" {
                return self.hit(command.start, Category::Destructive);
            }
            // `folder=/; rm -rf "$folder"`.
            if text.starts_with(HOLE) && text.trim_start_matches(HOLE).trim_matches(['/', '*']).is_empty() {
                let end = self.source.floor_char_boundary((word.start + 200).min(self.source.len()));
                let source = self.source.get(word.start..end).unwrap_or_default();
                let name: String = source
                    .trim_start_matches(['"', '$', '{'])
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if self.roots.contains(&name) {
                    return self.hit(command.start, Category::Destructive);
                }
            }
            // `"$FOLDER/"*` is everything when the variable is empty.
            let rest = text.trim_start_matches(HOLE);
            if text.starts_with(HOLE)
                && rest.starts_with('/')
                && rest.trim_matches(['/', '*', '.', HOLE]).is_empty()
                && !self.strict
            {
                let end = (word.start + 200).min(self.source.len());
                let source = self.source.get(word.start..self.source.floor_char_boundary(end)).unwrap_or_default();
                let source = source.split([' ', '\n', ';']).next().unwrap_or_default();
                let name = source.trim_start_matches(['"', '$', '{']);
                let name = &name[..name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())];
                if !source.contains(":?") && !source.contains(":-") && !self.filled.contains(name) {
                    return self.hit(command.start, Category::Destructive);
                }
            }
        }
    }

    fn pipeline(&mut self, node: Node<'_>) {
        let mut cursor = node.walk();
        let mut commands = Vec::new();
        for child in node.named_children(&mut cursor) {
            let child = match child.kind() {
                "redirected_statement" => child.child_by_field_name("body").unwrap_or(child),
                _ => child,
            };
            match child.kind() {
                "command" => commands.push(self.command(child)),
                "subshell" | "compound_statement" | "list" => {
                    let fetches = self.fetches(child);
                    let name = if fetches { "curl" } else { "" };
                    commands.push(Command { name: name.to_owned(), words: Vec::new(), start: child.start_byte() });
                }
                _ => {}
            }
        }
        let start = node.start_byte();
        let mut fetched = false;
        let mut decoded = false;
        let mut password = false;
        for command in &commands {
            let name = base(&command.name);
            // A program that is given a file does not run what it reads.
            let reads_input = command.words.iter().find(|word| !word.value.text.starts_with('-')).is_none_or(|_| {
                command
                    .words
                    .iter()
                    .any(|word| matches!(word.value.text.as_str(), "-" | "-s" | "-es" | "-se" | "/dev/stdin" | "--"))
            }) && !command
                .words
                .iter()
                .any(|word| matches!(word.value.text.as_str(), "-c" | "-e" | "-m" | "-n" | "-ne" | "-pe" | "-lc"));
            if RUNNERS.contains(&name) && reads_input && (fetched || decoded) {
                self.hit(start, if fetched { Category::RemoteScript } else { Category::CodeInjection });
            }
            fetched |= FETCHERS.contains(&name);
            decoded |= matches!(name, "base64" | "xxd" | "rev")
                && command.words.iter().any(|word| word.value.text.starts_with('-'));
            let hashes = matches!(name, "md5sum" | "sha1sum" | "sha256sum" | "md5" | "shasum" | "sha512sum")
                || name == "openssl"
                    && command
                        .words
                        .first()
                        .is_some_and(|word| matches!(word.value.text.as_str(), "md5" | "sha1" | "dgst" | "sha256"));
            if hashes && password {
                self.hit(start, Category::PasswordHash);
            }
            if matches!(name, "echo" | "printf") {
                let end = command.words.last().map_or(command.start, |word| word.start + 60).min(node.end_byte());
                let source = self.source.get(command.start..self.source.floor_char_boundary(end)).unwrap_or_default();
                password |= source.contains('$') && text::is_password(source.split('|').next().unwrap_or_default());
            }
        }
    }

    fn assignment(&mut self, node: Node<'_>) {
        let Some(name) = node.child_by_field_name("name") else { return };
        let name = self.text(name).to_owned();
        let value = node
            .child_by_field_name("value")
            .map_or(Word { value: Value::default(), fetches: false, start: 0 }, |value| self.word(value));
        let text = value.value.text.as_str();
        let off = matches!(text, "0" | "false" | "no" | "off" | "False");
        let on = matches!(text, "1" | "true" | "yes" | "on");
        if matches!(name.as_str(), "NODE_TLS_REJECT_UNAUTHORIZED" | "PYTHONHTTPSVERIFY" | "GIT_SSL_VERIFY") && off
            || matches!(name.as_str(), "GIT_SSL_NO_VERIFY" | "CURL_INSECURE" | "HTTPLIB2_NO_VERIFY") && on
        {
            self.hit(node.start_byte(), Category::Tls);
        }
        if text.chars().any(|c| c != HOLE && c != '\u{2}' && !c.is_whitespace())
            || text.contains('\u{2}') && self.text(node).contains("mktemp")
        {
            self.filled.insert(name.clone());
        }
        // What the name stands for from here on, where that is constant.
        if !value.value.dynamic && text::is_root(text) && name != "HOME" {
            self.roots.insert(name);
        } else {
            self.roots.remove(&name);
        }
    }

    /// A variable that is tested for being filled.
    fn test(&mut self, node: Node<'_>) {
        let text = self.text(node).to_owned();
        let mut rest = text.as_str();
        while let Some(at) = rest.find('$') {
            rest = rest[at + 1..].trim_start_matches('{');
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.filled.insert(rest[..end].to_owned());
        }
    }

    fn redirect(&mut self, node: Node<'_>) {
        let Some(to) = node.child_by_field_name("destination") else { return };
        let text = self.word(to).value.text;
        let source = self.text(node).to_owned();
        if source.contains('>')
            && ["/dev/sd", "/dev/nvme", "/dev/hd", "/dev/vd", "/dev/disk"].iter().any(|device| text.starts_with(device))
        {
            self.hit(node.start_byte(), Category::Destructive);
        }
        let reads = source.trim_start().starts_with('<');
        if reads && text::is_system_file(&text) {
            self.hit(node.start_byte(), Category::SystemFile);
        }
        // `curl ... > install.sh`.
        if source.contains('>')
            && let Some(parent) = node.parent()
            && self.fetches(parent)
        {
            self.fetched.insert(text.clone());
            self.fetched.insert(format!("./{text}"));
        }
    }

    /// A function that calls itself twice, in the background.
    fn definition(&mut self, node: Node<'_>) {
        let (Some(name), Some(body)) = (node.child_by_field_name("name"), node.child_by_field_name("body")) else {
            return;
        };
        let name = self.text(name);
        let body: String = self.text(body).split_whitespace().collect();
        if body.contains(&format!("{name}|{name}&")) {
            self.hit(node.start_byte(), Category::Destructive);
        }
    }

    /// A shell that is fed a text: `bash <<< "$x"`.
    fn fed(&mut self, node: Node<'_>) {
        let Some(body) = node.child_by_field_name("body").filter(|body| body.kind() == "command") else { return };
        let command = self.command(body);
        if !matches!(base(&command.name), "sh" | "bash" | "zsh" | "dash") {
            return;
        }
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if child.kind() == "herestring_redirect" {
                let word = self.word(child);
                if word.fetches {
                    self.hit(node.start_byte(), Category::RemoteScript);
                } else if word.value.dynamic {
                    self.hit(node.start_byte(), Category::CommandInjection);
                }
            }
            if child.kind() == "file_redirect" && self.fetches(child) {
                self.hit(node.start_byte(), Category::RemoteScript);
            }
        }
    }
}

fn next_within(cursor: &mut TreeCursor<'_>, root: Node<'_>) -> bool {
    if cursor.goto_first_child() {
        return true;
    }
    loop {
        if cursor.node().id() == root.id() {
            return false;
        }
        if cursor.goto_next_sibling() {
            return true;
        }
        if !cursor.goto_parent() {
            return false;
        }
    }
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().filter(|base| !base.is_empty()).unwrap_or(name)
}
