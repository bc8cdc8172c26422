//! A folder of releases on another host, over `ssh`: copied, verified there by SHA-256, and switched by a rename.
//!
//! The other host needs `sh`, `tar`, `sha256sum`, `find`, `flock` and an `mv` with `-T`; nothing of Tollgate's. What a
//! server started there goes on when it dies, and may even begin after that: so each script takes a lock there, keeps it while
//! what it starts runs, and does nothing once something later has been there.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::{Effect, EffectError, Occasion, Supervised, check_command};
use crate::config::SshConfig;
use crate::names::ReleaseName;
use crate::tree::Tree;

/// Takes the lock, and sees to it that nothing that was sent earlier does anything afterwards.
const ENTER: &str = r#"exec 9>.lock
flock -w 60 9 || { echo "another process is at work there"; exit 1; }
last=$(cat .turn 2>/dev/null || true)
case $last in ''|*[!0-9]*) last=0 ;; esac
[ "$turn" -ge "$last" ] || { echo "something later has been there, from another server or one whose clock is ahead"; exit 1; }
printf '%s\n' "$turn" >.turn-new
mv -- .turn-new .turn"#;

/// Brings a release's files, from stdin, to `releases/$2`, whole or not at all. Whoever is here has the turn, so what
/// is half done is somebody's who died. What is written to other file systems is not waited for, where `sync` can tell.
const PUT: &str = r#"set -eu
umask 022
path=$1 release=$2 id=$3 count=$4
export LC_ALL=C
mkdir -p -- "$path/releases"
cd -- "$path"
@enter@
rm -rf -- releases/.incoming-*
incoming=$PWD/releases/.incoming-$id
mkdir -- "$incoming"
tar -xpof - -C "$incoming"
is_whole() (
    cd -- "$1"
    [ "$(find . -type f | wc -l)" -eq "$count" ] || exit 1
    [ -z "$(find . ! -type f ! -type d)" ] || exit 1
    [ "$count" -eq 0 ] || sha256sum -c "$incoming/manifest" >/dev/null 2>&1
)
if ! { [ -d "releases/$release" ] && is_whole "releases/$release"; }; then
    is_whole "$incoming/files" || { echo "the copy is not what was sent"; exit 1; }
    if [ -e "releases/$release" ]; then mv -- "releases/$release" "$incoming/damaged"; fi
    mv -- "$incoming/files" "releases/$release"
fi
rm -rf -- "$incoming"
sync -f . releases 2>/dev/null || sync
"#;

/// Makes `current` lead to `releases/$2`, or to nothing, in one step.
const SWITCH: &str = r#"set -eu
cd -- "$1"
@enter@
if [ -n "$2" ]; then
    [ -d "releases/$2" ] || { echo "the release is not there"; exit 1; }
    rm -rf -- .current-*
    ln -s -- "releases/$2" ".current-$3"
    mv -T -- ".current-$3" current
else
    rm -f -- current
fi
sync -f . 2>/dev/null || sync
shift 3
[ $# -eq 0 ] || "$@" 9>&-
"#;

/// Removes releases, never the current one.
const DISCARD: &str = r#"set -eu
cd -- "$1"
@enter@
shift
current=$(readlink current || true)
for release; do
    [ "$current" = "releases/$release" ] || rm -rf -- "releases/$release"
done
"#;

/// Another host, and where the releases are on it.
#[derive(Clone, Debug)]
pub struct Host {
    program: Vec<String>,
    destination: String,
    path: String,
    reload: Option<Vec<String>>,
}

impl Host {
    /// Takes the host as configured; relative paths start from `workspace`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(written: &SshConfig, reload: Option<Vec<String>>, workspace: &Path) -> anyhow::Result<Self> {
        let host = &written.host;
        ensure!(
            !host.is_empty() && !host.starts_with('-') && !host.contains(|c: char| c.is_whitespace() || c.is_control()),
            "`ssh.host` is not a host"
        );
        ensure!(written.path.starts_with('/'), "`ssh.path` has no absolute beginning");
        ensure!(
            written.path.split('/').filter(|name| *name == "{service}").count() == 1,
            "`ssh.path` must have `{{service}}` as exactly one of its names: services must not share a folder"
        );
        ensure!(!written.path.split('/').any(|name| name == ".."), "`ssh.path` has `..`");
        check_command("ssh.path", std::slice::from_ref(&written.path))?;
        if let Some(reload) = &reload {
            check_command("reload", reload)?;
        }
        let mut program = written.program.clone().unwrap_or_else(|| vec!["ssh".to_owned()]);
        check_command("ssh.program", &program)?;
        let configured: PathBuf =
            written.config.as_ref().map_or_else(|| PathBuf::from("none"), |config| workspace.join(config));
        program.extend(["-F".to_owned(), configured.to_string_lossy().into_owned()]);
        if let Some(port) = written.port {
            program.extend(["-p".to_owned(), port.to_string()]);
        }
        for (option, path) in [("IdentityFile", &written.identity), ("UserKnownHostsFile", &written.known_hosts)] {
            if let Some(path) = path {
                program.extend(["-o".to_owned(), format!("{option}=\"{}\"", workspace.join(path).display())]);
            }
        }
        // Nobody is there to be asked, no host is believed that is not known, and no key is lent to it.
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "ConnectTimeout=15",
            "ServerAliveInterval=15",
            "ForwardAgent=no",
            "ForwardX11=no",
            "ClearAllForwardings=yes",
            "PermitLocalCommand=no",
            "RequestTTY=no",
        ] {
            program.extend(["-o".to_owned(), option.to_owned()]);
        }
        Ok(Self { program, destination: host.clone(), path: written.path.clone(), reload })
    }

    pub(super) fn describe(&self, after: &mut Vec<String>) {
        let (host, path) = (&self.destination, &self.path);
        after.push(format!("copy the release to {path}/releases on {host} and verify its files there"));
        after.push(format!("switch `current` on {host} in one step"));
        after.extend(self.reload.iter().map(|reload| format!("run {reload:?} on {host}")));
        after.push(format!("where that fails, do the same on {host} with the release before"));
    }

    pub(super) fn apply(&self, effect: &Effect, occasion: &Occasion, tree: Option<&Tree>) -> Result<(), EffectError> {
        let path = occasion.fill(&self.path);
        let release = occasion.release.as_ref().map_or("", ReleaseName::as_str);
        if occasion.release.is_some() {
            let failed = |error: &dyn std::fmt::Display| EffectError {
                what: format!("the release cannot be packed: {error}"),
                output: String::new(),
            };
            let tree = tree.ok_or_else(|| failed(&"its files are not known"))?;
            let packed = pack(&occasion.release_folder(), tree).map_err(|error| failed(&error))?;
            let count = tree.files.to_string();
            self.remote(effect, occasion, "copying", PUT, &[&path, release, &occasion.id, &count], Some(packed))?;
        }
        let remote = |part: &str| {
            // There the folder is another.
            occasion.fill(
                &part
                    .replace("{release}", &format!("{path}/releases/{release}"))
                    .replace("{current}", &format!("{path}/current")),
            )
        };
        let reload: Vec<String> =
            self.reload.iter().flatten().filter(|_| occasion.release.is_some()).map(|part| remote(part)).collect();
        let mut arguments = vec![path.as_str(), release, occasion.id.as_str()];
        arguments.extend(reload.iter().map(String::as_str));
        self.remote(effect, occasion, "switching", SWITCH, &arguments, None)
    }

    pub(super) fn discard(
        &self,
        effect: &Effect,
        occasion: &Occasion,
        unwanted: &[ReleaseName],
    ) -> Result<(), EffectError> {
        let path = occasion.fill(&self.path);
        let mut arguments = vec![path.as_str()];
        arguments.extend(unwanted.iter().map(ReleaseName::as_str));
        self.remote(effect, occasion, "removing old releases", DISCARD, &arguments, None)
    }

    fn remote(
        &self,
        effect: &Effect,
        occasion: &Occasion,
        what: &str,
        script: &str,
        arguments: &[&str],
        stdin: Option<File>,
    ) -> Result<(), EffectError> {
        let mut command = self.program.clone();
        command.extend(["--".to_owned(), self.destination.clone()]);
        // The other side's shell splits what it is given, so each part is quoted for it.
        let script = format!("turn={}\n{}", occasion.number, script.replace("@enter@", ENTER));
        let mut line = format!("exec sh -c {} tollgate", quoted(&script));
        for argument in arguments {
            line.push(' ');
            line.push_str(&quoted(argument));
        }
        command.push(line);
        let variables: &[(String, OsString)] = &effect.variables;
        let program = Supervised { command: &command, folder: Path::new("/"), variables, stdin, rights: None };
        effect.supervised(&format!("{what} on {}", self.destination), program, occasion, &|| false)
    }
}

/// Returns `text` as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Packs a release's files with the list of their digests into a file that nobody else can open.
fn pack(folder: &Path, tree: &Tree) -> io::Result<File> {
    let mut manifest = String::new();
    for (path, facts) in tree.files() {
        manifest.push_str(&format!("{}  ./{path}\n", facts.digest));
    }
    let mut archive = tar::Builder::new(tempfile::tempfile()?);
    archive.follow_symlinks(false);
    archive.append_dir_all("files", folder)?;
    let mut header = tar::Header::new_gnu();
    header.set_size(manifest.len() as u64);
    header.set_mode(0o600);
    header.set_cksum();
    archive.append_data(&mut header, "manifest", manifest.as_bytes())?;
    let mut file = archive.into_inner()?;
    file.flush()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn quoted_words_stay_one_word(text in "[ -~\n\t'\"$`\\\\é]{0,40}") {
            let output = Command::new("sh").args(["-c", &format!("printf %s {}", quoted(&text))]).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }

    #[test]
    fn hosts_that_are_options_are_refused() {
        for host in ["", "-oProxyCommand=id", "a b", "a\nb"] {
            let written = SshConfig { host: host.into(), path: "/srv/{service}".into(), ..SshConfig::default() };
            assert!(Host::new(&written, None, Path::new("/w")).is_err(), "{host:?}");
        }
        for path in ["srv/{service}", "/srv", "/srv/{service}/../x", "/srv/{user}/{service}"] {
            let written = SshConfig { host: "host".into(), path: path.into(), ..SshConfig::default() };
            assert!(Host::new(&written, None, Path::new("/w")).is_err(), "{path:?}");
        }
    }
}
