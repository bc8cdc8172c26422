//! What a program needs beside its own input: the system, the installed toolchains, a plain environment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::scratch::Scratch;

/// Folders of the system, and the few files of `/etc` without which programs do not start.
const SYSTEM: [&str; 27] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/etc/alternatives",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/group",
    "/etc/hosts",
    "/etc/java",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

/// Folders below the operator's home that toolchains are installed in; none holds credentials.
const BELOW_HOME: [&str; 22] = [
    ".bun/bin",
    ".cargo/bin",
    ".cargo/config.toml",
    ".cargo/git",
    ".cargo/registry",
    ".deno/bin",
    ".fnm",
    ".local/bin",
    ".local/lib",
    ".local/pipx",
    ".local/share/fnm",
    ".local/share/mise/installs",
    ".local/share/mise/shims",
    ".local/share/pipx",
    ".local/share/pnpm",
    ".local/share/uv",
    ".nvm/versions",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".volta",
    "go",
];

/// Variables that say where a toolchain is, with the parts of each folder that are given.
const ELSEWHERE: [(&str, &[&str]); 5] = [
    ("CARGO_HOME", &["bin", "config.toml", "git", "registry"]),
    ("RUSTUP_HOME", &[""]),
    ("PYENV_ROOT", &[""]),
    ("GOROOT", &[""]),
    ("VOLTA_HOME", &[""]),
];

/// Variables that are passed on as they are.
const PASSED: [&str; 6] = ["LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYENV_VERSION", "RUSTUP_TOOLCHAIN"];

/// Returns what every program needs of the system.
#[must_use]
pub fn system() -> Vec<PathBuf> {
    SYSTEM.iter().map(PathBuf::from).filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// Returns the toolchains that are installed for this user.
#[must_use]
pub fn installed() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let below = home.iter().flat_map(|home| BELOW_HOME.iter().map(|name| home.join(name)));
    let elsewhere = ELSEWHERE.iter().flat_map(|(variable, parts)| {
        let folder = std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_absolute());
        folder.into_iter().flat_map(|folder| parts.iter().map(move |part| folder.join(part)))
    });
    let mut found: Vec<PathBuf> = below.chain(elsewhere).filter_map(|path| path.canonicalize().ok()).collect();
    found.sort();
    found.dedup();
    found
}

/// Returns the folders that programs are looked for in: those of PATH that are absolute and outside `untrusted`.
#[must_use]
pub fn search_path(untrusted: &[PathBuf]) -> Vec<PathBuf> {
    let listed = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    trusted(std::env::split_paths(&listed), untrusted)
}

fn trusted(folders: impl Iterator<Item = PathBuf>, untrusted: &[PathBuf]) -> Vec<PathBuf> {
    folders
        .filter(|folder| folder.is_absolute() && !folder.components().any(|part| part == Component::ParentDir))
        .filter(|folder| {
            let resolved = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            !untrusted.iter().any(|root| folder.starts_with(root) || resolved.starts_with(root))
        })
        .collect()
}

/// Finds the program `name` in `folders`; one with a `/` is taken as it is, when it is absolute.
#[must_use]
pub fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_absolute() && is_program(path));
    }
    folders.iter().map(|folder| folder.join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Returns what must be readable for `program` to start: itself, and what it leads to by links.
#[must_use]
pub fn of_program(program: &Path) -> Vec<PathBuf> {
    let mut paths = vec![program.to_owned()];
    paths.extend(program.canonicalize());
    // A virtual environment's interpreter finds its libraries beside its folder.
    let environment = program.parent().and_then(Path::parent);
    paths.extend(environment.filter(|folder| folder.join("pyvenv.cfg").is_file()).map(Path::to_owned));
    paths
}

/// Returns the variables of a program: nothing of the operator's but where toolchains are and which language is spoken.
#[must_use]
pub fn environment(scratch: &Scratch, search_path: &[PathBuf]) -> BTreeMap<String, String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let path = std::env::join_paths(search_path).unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let mut variables = BTreeMap::from(
        [
            ("PATH", path.to_string_lossy().into_owned()),
            ("HOME", text(&scratch.home())),
            ("TMPDIR", text(&scratch.temporary())),
            ("XDG_CACHE_HOME", text(&scratch.home().join("cache"))),
            ("XDG_CONFIG_HOME", text(&scratch.home().join("config"))),
            ("XDG_DATA_HOME", text(&scratch.home().join("data"))),
            ("CARGO_NET_OFFLINE", "true".to_owned()),
            ("CARGO_TERM_COLOR", "never".to_owned()),
            ("GOFLAGS", "-mod=readonly".to_owned()),
            ("GOPROXY", "off".to_owned()),
            ("GOTOOLCHAIN", "local".to_owned()),
            ("NO_COLOR", "1".to_owned()),
            ("NO_UPDATE_NOTIFIER", "1".to_owned()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ("PYTHONNOUSERSITE", "1".to_owned()),
            ("TERM", "dumb".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    // A home that is elsewhere than usual is where the operator's own is.
    for (name, beneath) in
        [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup"), ("PYENV_ROOT", ".pyenv"), ("GOMODCACHE", "go/pkg/mod")]
    {
        let usual = home.as_ref().map(|home| home.join(beneath)).filter(|path| path.is_dir());
        if let Some(folder) = std::env::var_os(name).map(PathBuf::from).or(usual) {
            variables.insert(name.to_owned(), text(&folder));
        }
    }
    for name in PASSED.iter().chain(&["GOROOT", "VOLTA_HOME"]) {
        if let Some(value) = std::env::var_os(name).as_deref().and_then(OsStr::to_str) {
            variables.insert((*name).to_owned(), value.to_owned());
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_not_looked_for_where_agents_write() {
        let workspace = tempfile::tempdir().unwrap();
        let root = workspace.path().canonicalize().unwrap();
        let folders = ["", ".", "relative/bin", "/usr/bin", "/usr/../bin"].map(PathBuf::from);
        let inside = root.join("node_modules/.bin");
        let found = trusted(folders.into_iter().chain([inside]), std::slice::from_ref(&root));
        assert_eq!(found, [Path::new("/usr/bin")]);
        assert_eq!(find_program("sh", &["/bin".into()]), Some("/bin/sh".into()));
        assert_eq!(find_program("./sh", &["/bin".into()]), None);
        assert_eq!(find_program("no-such-program", &["/bin".into()]), None);
    }

    #[test]
    fn environment_has_nothing_of_the_operators() {
        let scratch = Scratch::new().unwrap();
        let variables = environment(&scratch, &["/usr/bin".into()]);
        // Cargo sets this one for every test.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some() && !variables.contains_key("CARGO_PKG_NAME"));
        assert_eq!(variables["HOME"], scratch.home().to_string_lossy());
        assert_eq!(variables["PATH"], "/usr/bin");
    }
}
