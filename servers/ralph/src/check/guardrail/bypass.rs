//! Commands that go around hooks and checks: `git commit --no-verify` and its kin.

use tree_sitter::Node;

use super::names::constant;
use super::source::{Source, is_prose};
use super::{Mark, Rule};
use crate::language::Language;

/// Words without which there is none.
pub const HINTS: &[&str] =
    &["no-verify", "hooksPath", "hookspath", "HUSKY", "LEFTHOOK", "commit", "OVERCOMMIT", "SKIP="];

/// Commands of git that run hooks.
const WITH_HOOKS: &[&str] = &["commit", "push", "merge", "rebase", "cherry-pick", "am", "revert", "pull", "ci"];

/// Adds the commands in `source` that go around hooks.
pub fn find(source: &Source<'_>, marks: &mut Vec<Mark>) {
    if is_prose(source.path) {
        return;
    }
    if source.language == Some(Language::Bash) {
        source.walk(|node| {
            match node.kind() {
                "command" => {
                    let words = words(source, node);
                    if let Some(subject) = bypasses(&words) {
                        marks.push(Mark::new(source, Rule::HooksBypassed, node.byte_range(), subject));
                    }
                }
                "variable_assignment" => {
                    if let Some(subject) = switches_off(source.of(node)) {
                        marks.push(Mark::new(source, Rule::HooksBypassed, node.byte_range(), subject));
                    }
                }
                _ => {}
            }
            true
        });
    } else if source.tree.is_some() {
        in_strings(source, marks);
    } else {
        in_lines(source, marks);
    }
}

/// Looks at texts that are whole commands, and at lists that are the words of one.
fn in_strings(source: &Source<'_>, marks: &mut Vec<Mark>) {
    source.walk(|node| {
        let Some(text) = constant(source, node) else { return !node.kind().ends_with("comment") };
        let list = node.parent().filter(|parent| is_list(*parent));
        let subject = if text.contains(' ') {
            of_text(text)
        } else if matches!(text, "--no-verify" | "-n" | "core.hooksPath=/dev/null") {
            list.and_then(|list| bypasses(&super::skips::constants(source, list)))
        } else {
            None
        };
        if let Some(subject) = subject {
            marks.push(Mark::new(source, Rule::HooksBypassed, node.byte_range(), subject));
        }
        false
    });
}

fn is_list(node: Node<'_>) -> bool {
    matches!(
        node.kind(),
        "list"
            | "tuple"
            | "array"
            | "argument_list"
            | "arguments"
            | "array_expression"
            | "token_tree"
            | "literal_value"
            | "array_creation_expression"
            | "element_list"
            | "literal_element"
    )
}

fn in_lines(source: &Source<'_>, marks: &mut Vec<Mark>) {
    let mut at = 0;
    for line in source.text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if !trimmed.starts_with(['#', ';']) && !trimmed.starts_with("//") {
            // What stands in quotes in data, and what does not.
            if let Some(subject) = of_text(trimmed).or_else(|| switches_off(trimmed.trim_start_matches(['-', ' ']))) {
                let start = at + (line.len() - trimmed.len());
                marks.push(Mark::new(source, Rule::HooksBypassed, start..start + trimmed.trim_end().len(), subject));
            }
        }
        at += line.len();
    }
}

fn words<'s>(source: &Source<'s>, command: Node<'_>) -> Vec<&'s str> {
    command.named_children(&mut command.walk()).map(|word| source.of(word).trim_matches(['"', '\''])).collect()
}

/// Returns how the command in `text` goes around hooks.
fn of_text(text: &str) -> Option<&'static str> {
    within(text, 0)
}

fn within(text: &str, depth: usize) -> Option<&'static str> {
    for words in commands(text) {
        // The command begins where `git` stands: `run: git commit …`, `sudo git …`.
        let found = match words.iter().position(|word| is_git(word)) {
            Some(start) => bypasses(&words[start..].iter().map(String::as_str).collect::<Vec<_>>()),
            // `bash -c "git commit …"`, `run: "git commit …"`.
            None if depth < 3 => {
                words.iter().filter(|word| word.contains(' ')).find_map(|word| within(word, depth + 1))
            }
            None => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Takes `text` apart into commands and their words as a shell does: what is quoted is one word.
fn commands(text: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word, mut quote) = (Vec::new(), Vec::new(), String::new(), None);
    let mut begun = false;
    for c in text.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'' | '`', None) => {
                quote = Some(c);
                begun = true;
            }
            (c, None)
                if c.is_whitespace() || matches!(c, '&' | ';' | '|' | ',' | '(' | ')' | '[' | ']' | '{' | '}') =>
            {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                    begun = false;
                }
                if matches!(c, '&' | ';' | '|' | '\n') {
                    commands.push(std::mem::take(&mut words));
                }
            }
            (c, None) => word.push(c),
        }
    }
    if quote.is_some() {
        // An apostrophe, or one half of a text.
        let plain =
            |part: &str| part.split_whitespace().map(|word| word.trim_matches(['"', '\'', '`']).to_owned()).collect();
        return text.split(['&', ';', '|', '\n']).map(plain).collect();
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    commands.push(words);
    commands
}

fn is_git(word: &str) -> bool {
    word == "git" || word.ends_with("/git")
}

/// Returns how a command goes around hooks, by its words.
fn bypasses(words: &[&str]) -> Option<&'static str> {
    if let Some(subject) = words.iter().take_while(|word| word.contains('=')).find_map(|word| switches_off(word)) {
        return Some(subject);
    }
    let start = words.iter().position(|word| is_git(word)).map_or(0, |at| at + 1);
    if start == 0 {
        return None;
    }
    let mut rest = words[start..].iter();
    let mut command = "";
    while let Some(word) = rest.next() {
        match *word {
            "-c" | "--config-env" => {
                if rest.next().is_some_and(|setting| setting.to_ascii_lowercase().starts_with("core.hookspath=")) {
                    return Some("core.hooksPath");
                }
            }
            "-C" | "--git-dir" | "--work-tree" => {
                rest.next();
            }
            word if word.to_ascii_lowercase().starts_with("-ccore.hookspath=") => return Some("core.hooksPath"),
            word if word.starts_with('-') => {}
            word => {
                command = word;
                break;
            }
        }
    }
    let options: Vec<&str> = rest.copied().take_while(|word| *word != "--").collect();
    if WITH_HOOKS.contains(&command) {
        let mut is_value = false;
        for option in &options {
            if std::mem::take(&mut is_value) {
                continue;
            }
            // Options may be cut short as long as they are not ambiguous.
            if *option == "--no-verify" || option.len() > "--no-v".len() && "--no-verify".starts_with(option) {
                return Some("--no-verify");
            }
            // Short ones may stand together; `-m` and `-F` take the rest for their value.
            let is_commit = matches!(command, "commit" | "ci");
            let letters = option.strip_prefix('-').filter(|letters| !letters.starts_with('-'));
            let before_value = letters.and_then(|letters| letters.split(['m', 'F', 'C', 'c', 't', 'u', 'S']).next());
            if is_commit && before_value.is_some_and(|letters| letters.contains('n')) {
                return Some("--no-verify");
            }
            let ends_open = letters.is_some_and(|letters| letters.ends_with(['m', 'F', 'C', 'c', 't']));
            is_value = is_commit
                && (ends_open && before_value.map(str::len) == letters.map(|letters| letters.len() - 1)
                    || matches!(*option, "--message" | "--file" | "--author" | "--date" | "--trailer" | "--template"));
        }
    }
    // Hooks that are elsewhere are not those that were reviewed; none at all are no hooks.
    let sets = options.iter().position(|option| option.eq_ignore_ascii_case("core.hookspath"));
    if command == "config"
        && sets.is_some_and(|at| {
            options.get(at + 1).is_some_and(|path| matches!(*path, "/dev/null" | "" | "/tmp" | "/nonexistent"))
        })
    {
        return Some("core.hooksPath");
    }
    None
}

/// Returns which hooks an assignment of a variable switches off.
fn switches_off(assignment: &str) -> Option<&'static str> {
    let (name, value) = assignment.split_once(['=', ':'])?;
    let name = name.trim().trim_start_matches("export ").trim_start_matches("env ").trim_matches(['"', '\'']);
    let value = value.trim().trim_matches(['"', '\'', ',']).trim();
    match (name, value) {
        ("HUSKY" | "LEFTHOOK", "0" | "false") => Some("HUSKY=0"),
        ("HUSKY_SKIP_HOOKS" | "OVERCOMMIT_DISABLE", "1" | "true") => Some("HUSKY=0"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_go_around_hooks() {
        for text in [
            "git commit --no-verify -m x",
            "git commit -nm x",
            "git commit -a -n",
            "git push --no-verify origin main",
            "cd repo && git commit -am 'x' --no-verify",
            "git -C repo commit --no-verif",
            "git -c core.hooksPath=/dev/null commit -m x",
            "git -c core.hookspath=/tmp/none push",
            "/usr/bin/git merge --no-verify x",
            "git config core.hooksPath /dev/null",
            "bash -c 'git commit -n -m x'",
            "run: \"git push --no-verify\"",
            "don't: git commit --no-verify",
            "git commit -m 'it is done' -n",
        ] {
            assert!(of_text(text).is_some(), "{text}");
        }
        for text in [
            "git commit -m x",
            "git commit -m -n",
            "git commit -m 'never use --no-verify'",
            "git commit -m \"say -n\" --amend",
            "git commit --message --no-verify",
            "git commit -mnote",
            "git commit -m 'explain'",
            "git push -n",
            "git log -n 5",
            "git merge -n x",
            "git config core.hooksPath .githooks",
            "npm publish --no-verify-access",
            "mytool --no-verify",
            "git commit -- --no-verify",
        ] {
            assert!(of_text(text).is_none(), "{text}");
        }
    }
}
