//! Files that a person cannot review, that others are reviewed by, or that hide others.

use globset::{GlobBuilder, GlobMatcher};

use super::{Change, ChangeRule, Content, FileChange, Findings, rule};
use crate::check::guardrail::Severity::{Error, Warning};
use crate::check::guardrail::is_test_path;
use crate::language::Language;

const LOCKFILE: ChangeRule =
    rule("lockfile_only", Warning, "change the manifest, and let the package manager write the lockfile");
const BINARY: ChangeRule = rule("binary_file", Warning, "have a person look at it, or leave it out");
const REPLACED: ChangeRule = rule("text_replaced", Error, "keep the file as text");
const LARGE: ChangeRule = rule("large_file", Warning, "leave it out, or have a person look at it");
const GOVERNANCE: ChangeRule = rule("governance_changed", Error, "leave this file to the people who own it");
const ATTRIBUTES: ChangeRule = rule("diff_hidden", Error, "let the difference be shown");
const IGNORED: ChangeRule = rule("files_ignored", Error, "let git see the files");
const HIDDEN: ChangeRule =
    rule("changes_hidden", Error, "run `git update-index --no-assume-unchanged --no-skip-worktree` on it");
const SUBMODULE: ChangeRule = rule("submodule_changed", Warning, "have a person look at what the submodule now holds");
const LINK: ChangeRule = rule("replaced_by_link", Error, "keep the file, not a link");

/// Bytes beyond which a text is more than a person reads.
const LARGE_BYTES: usize = 1024 * 1024;

/// Bytes of a binary file that is looked over.
const BINARY_BYTES: usize = 512 * 1024;

/// Each lockfile, and the ends of the names of what it is written from.
const LOCKFILES: &[(&str, &[&str])] = &[
    ("Cargo.lock", &["Cargo.toml"]),
    ("package-lock.json", &["package.json"]),
    ("npm-shrinkwrap.json", &["package.json"]),
    ("yarn.lock", &["package.json", ".yarnrc.yml"]),
    ("pnpm-lock.yaml", &["package.json", "pnpm-workspace.yaml"]),
    ("bun.lock", &["package.json"]),
    ("bun.lockb", &["package.json"]),
    ("poetry.lock", &["pyproject.toml"]),
    ("uv.lock", &["pyproject.toml"]),
    ("pdm.lock", &["pyproject.toml"]),
    ("Pipfile.lock", &["Pipfile"]),
    ("Gemfile.lock", &["Gemfile", ".gemspec"]),
    ("composer.lock", &["composer.json"]),
    ("go.sum", &["go.mod"]),
    ("flake.lock", &["flake.nix"]),
    ("mix.lock", &["mix.exs"]),
    ("pubspec.lock", &["pubspec.yaml"]),
    ("Podfile.lock", &["Podfile"]),
    ("packages.lock.json", &[".csproj", ".fsproj", "Directory.Packages.props"]),
    ("deno.lock", &["deno.json", "deno.jsonc", "package.json"]),
    ("gradle.lockfile", &["build.gradle", "build.gradle.kts", "libs.versions.toml"]),
];

/// Looks at files as such.
pub fn check(change: &Change, findings: &mut Findings) {
    for file in &change.files {
        lockfile(change, file, findings);
        shape(file, findings);
        governance(file, findings);
        match file.name() {
            ".gitattributes" => attributes(change, file, findings),
            ".gitignore" => ignored(change, file, findings),
            _ => {}
        }
    }
    for path in &change.hidden {
        findings.add(&HIDDEN, path, "", 0, "git is told not to look whether this file changed, and it did");
    }
}

fn lockfile(change: &Change, file: &FileChange, findings: &mut Findings) {
    let Some((_, manifests)) = LOCKFILES.iter().find(|(name, _)| *name == file.name()) else { return };
    if file.before.is_none() || file.after.is_none() || file.before == file.after {
        return;
    }
    let changed = change.files.iter().any(|other| manifests.iter().any(|manifest| other.path.ends_with(manifest)));
    if !changed {
        findings.add(&LOCKFILE, &file.path, "", 0, format!("{} changed, and no {} did", file.name(), manifests[0]));
    }
}

/// Looks at what can only be looked at with other programs, or not at all.
fn shape(file: &FileChange, findings: &mut Findings) {
    let was_text = matches!(file.before, Some(Content::Text(_)));
    let is_code = Language::of(std::path::Path::new(&file.path), b"").is_some();
    match &file.after {
        Some(Content::Binary(bytes)) => {
            if was_text && (is_code || is_test_path(&file.path)) {
                findings.add(&REPLACED, &file.path, "", 0, "a text became something that is none");
            } else if is_program(&file.path) || *bytes > BINARY_BYTES && !is_picture(&file.path) || is_code {
                findings.add(&BINARY, &file.path, "", 0, format!("a binary file of {bytes} bytes"));
            }
        }
        Some(Content::TooLarge(bytes)) => findings.add(&LARGE, &file.path, "", 0, format!("a file of {bytes} bytes")),
        Some(Content::Text(text))
            if text.len() > LARGE_BYTES
                && file.before_text().len() <= LARGE_BYTES
                && !LOCKFILES.iter().any(|(name, _)| *name == file.name()) =>
        {
            findings.add(&LARGE, &file.path, "", 0, format!("a text of {} bytes", text.len()));
        }
        Some(Content::Link(target)) if was_text => {
            findings.add(&LINK, &file.path, "", 0, format!("this file is now a link to {target}"));
        }
        Some(Content::Submodule(id)) => {
            findings.add(
                &SUBMODULE,
                &file.path,
                "",
                0,
                format!("another repository, at {}", id.get(..12).unwrap_or(id)),
            );
        }
        _ => {}
    }
}

fn is_program(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    matches!(
        extension.as_str(),
        "exe"
            | "dll"
            | "so"
            | "dylib"
            | "a"
            | "o"
            | "obj"
            | "class"
            | "jar"
            | "war"
            | "pyc"
            | "pyd"
            | "node"
            | "wasm"
            | "bin"
            | "msi"
            | "deb"
            | "rpm"
            | "apk"
            | "dmg"
    ) || !path.rsplit('/').next().unwrap_or(path).contains('.')
}

fn is_picture(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    matches!(
        extension.as_str(),
        "png"
            | "jpg"
            | "jpeg"
            | "gif"
            | "webp"
            | "ico"
            | "svg"
            | "woff"
            | "woff2"
            | "ttf"
            | "otf"
            | "pdf"
            | "mp4"
            | "avif"
    )
}

/// Looks at files by which people decide what is allowed.
fn governance(file: &FileChange, findings: &mut Findings) {
    let path = file.path.as_str();
    let owned = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        matches!(
            name,
            "tollgate.toml" | "CODEOWNERS" | "approvers.allowed_signers" | "allowed_signers" | ".mailmap.signers"
        ) || matches!(
            path,
            ".github/settings.yml"
                | ".github/branch-protection.yml"
                | ".claude/settings.json"
                | ".claude/settings.local.json"
                | ".mcp.json"
                | ".cursor/mcp.json"
                | ".codex/config.toml"
        ) || path.starts_with(".github/rulesets/")
    };
    let was = file.before.is_some() && owned(file.before_path());
    // A configuration of these servers anywhere below is found before the operator's own.
    let is_new = file.before.is_none() && file.name() == "tollgate.toml";
    if was || is_new {
        findings.add(&GOVERNANCE, path, "", 0, format!("{} decides what is allowed here", file.before_path()));
    }
    let is_hook =
        |path: &str| path.starts_with(".husky/") || path.starts_with(".githooks/") || path.contains("/.githooks/");
    if file.before.is_some() && file.after.is_none() && is_hook(file.before_path())
        || file.old_path.as_deref().is_some_and(is_hook) && !is_hook(path)
    {
        findings.add(&GOVERNANCE, path, "", 0, "a hook of this repository is gone");
    }
}

/// Returns the finding of a change to the operator's own rules.
pub(super) fn rules_changed(path: &str) -> Findings {
    let mut findings = Findings::default();
    findings.add(&GOVERNANCE, path, "", 0, format!("{path} holds rules of `ralph.rules`"));
    findings
}

/// Looks for attributes that keep a difference from being shown.
fn attributes(change: &Change, file: &FileChange, findings: &mut Findings) {
    let before: Vec<&str> = file.before_text().lines().map(str::trim).collect();
    for (number, line) in file.after_text().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || before.contains(&line) {
            continue;
        }
        let mut words = line.split_whitespace();
        let Some(pattern) = words.next() else { continue };
        let hides = words.clone().find(|word| {
            matches!(
                *word,
                "-diff"
                    | "binary"
                    | "linguist-generated"
                    | "linguist-generated=true"
                    | "linguist-vendored"
                    | "diff=none"
                    | "merge=ours"
            ) || word.starts_with("filter=") && *word != "filter=lfs"
        });
        let Some(word) = hides else { continue };
        let matcher = matcher(&file.path, pattern);
        // What people write, as far as the repository has any.
        let covered = change
            .kept
            .iter()
            .find(|path| is_written(path) && matcher.as_ref().is_some_and(|matcher| matcher.is_match(path)));
        if let Some(covered) = covered {
            findings.add(
                &ATTRIBUTES,
                &file.path,
                file.after_text(),
                number + 1,
                format!("`{word}` keeps changes of {covered} from being shown"),
            );
        }
    }
}

/// Looks for patterns that keep files from being seen that are kept, or were just written.
fn ignored(change: &Change, file: &FileChange, findings: &mut Findings) {
    let before: Vec<&str> = file.before_text().lines().map(str::trim).collect();
    for (number, line) in file.after_text().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) || before.contains(&line) {
            continue;
        }
        let Some(matcher) = matcher(&file.path, line) else { continue };
        let covered = change.kept.iter().find(|path| is_written(path) && matcher.is_match(path));
        if let Some(covered) = covered {
            findings.add(
                &IGNORED,
                &file.path,
                file.after_text(),
                number + 1,
                format!("`{line}` keeps git from seeing files such as {covered}"),
            );
        }
    }
}

/// Returns whether people write the file `path`.
fn is_written(path: &str) -> bool {
    let language = Language::of(std::path::Path::new(path), b"");
    let generated = [
        "dist/",
        "build/",
        "generated",
        ".min.",
        "vendor/",
        "node_modules/",
        "third_party/",
        "_pb2.",
        ".pb.go",
        "package-lock.json",
        ".snap",
    ];
    language.is_some()
        && !generated.iter().any(|word| path.contains(word))
        && !LOCKFILES.iter().any(|(name, _)| path.ends_with(name))
}

/// Compiles a pattern of git, in the file `path`, for paths from the root.
fn matcher(path: &str, pattern: &str) -> Option<GlobMatcher> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let anchored = pattern.trim_end_matches('/').contains('/');
    let bare = pattern.trim_start_matches('/').trim_end_matches('/').trim_end_matches("/**").trim_end_matches("/*");
    let mut glob = String::new();
    if !folder.is_empty() {
        glob.push_str(folder);
        glob.push('/');
    }
    if !anchored {
        glob.push_str("**/");
    }
    // A pattern for a folder is one for all that is in it.
    let glob = format!("{{{glob}{bare},{glob}{bare}/**}}");
    GlobBuilder::new(&glob).literal_separator(true).build().ok().map(|glob| glob.compile_matcher())
}
