//! What texts say: SQL, HTML, commands, files of the system, passwords.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};

use super::rules::Category;
use super::value::{HOLE, Value};

/// A pattern that is written here, so it compiles; one that does not matches nothing.
fn pattern(text: &str) -> Option<Regex> {
    // Without Unicode: hundreds of times faster to compile.
    RegexBuilder::new(text).unicode(false).build().ok()
}

static SQL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?is)^[\s\x01(]*(select\b.+\bfrom\b|insert\s+(ignore\s+|or\s+\w+\s+)?into\b|update\b.+\bset\b|delete\s+from\b|replace\s+into\b|with\b.+\bselect\b|(create|drop|alter|truncate)\s+(table|database|index|view|user|role|schema|column|\x01)|select\b[^a-z]*[\x01*]|grant\b.+\bto\b|exec(ute)?\s+\w+|call\s+\w+|merge\s+into\b|pragma\s+\w+|use\s+\x01|set\s+\w+\s*=|show\s+(tables|columns|create)|truncate\s+\x01|explain\s+select|copy\s+\w+\s+from|union\s+(all\s+)?select)|\bwhere\s+[\w.`\x01]+\s*(=|<|>|like\b|in\b)|\border\s+by\s+[\x01\w]|^[\s]*[\w.`]+\s*(=|<>|<|>|<=|>=|like|ilike|in)\s*\(?['%\x01]|\x01\s*(asc|desc)\b|(select|update|delete|insert)\b.{0,200}\bfrom\s+\w+",
    )
});

/// Returns whether a text that is put together is SQL.
pub fn is_sql(text: &str) -> bool {
    text.len() > 5 && SQL.as_ref().is_some_and(|pattern| pattern.is_match(text.as_bytes()))
}

static HTML: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?i)</?(html|body|div|span|p|b|i|a|h[1-6]|script|img|td|tr|table|ul|li|input|form|title|strong|em|br|pre|code|section|label|button|iframe|svg|option|textarea)\b",
    )
});

/// Returns whether a text is HTML.
pub fn is_html(text: &str) -> bool {
    text.contains('<') && HTML.as_ref().is_some_and(|pattern| pattern.is_match(text.as_bytes()))
}

static PASSWORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?i)(passw(or)?d|passwd|passphrase|\bpwd\b|_pwd|pwd_|\bpass\b|_pass\b|\bpw\b|userpw|plaintext_?pw|passcode|\bpin\b)",
    )
});
static NO_PASSWORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?i)(password_?reset|reset_?password|password_?file|passwords?_?(list|file)|passwd_file|password_?(strength|policy)|pass_?(count|through|ed|ing)|bypass)",
    )
});

/// Returns whether an expression or a name speaks of a password.
pub fn is_password(text: &str) -> bool {
    PASSWORD.as_ref().is_some_and(|pattern| pattern.is_match(text.as_bytes()))
        && !NO_PASSWORD.as_ref().is_some_and(|pattern| pattern.is_match(text.as_bytes()))
}

/// Returns whether a function of this name hashes or compares passwords.
pub fn is_password_function(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    (name.contains("password") || name.contains("passwd") || name.contains("pwd")) && !name.contains("reset")
}

static SYSTEM_FILE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(^|[\s=:'\x22@])((file://)?/etc/(passwd|shadow|gshadow|sudoers|master\.passwd|security/passwd|krb5\.keytab|ssh/ssh_host)|(file://)?/proc/(self|\d+|\x01)/(environ|mem|maps|cmdline|fd)|/root/\.|/dev/k?mem\b|/var/run/secrets/|/run/secrets/kubernetes|/var/lib/kubelet|/etc/kubernetes/admin|[cC]:[\\/]+[wW]indows[\\/]+(system32[\\/]+config|repair))|(^|[/\\~\x01\s'\x22])\.(ssh/(id_[a-z0-9]+|authorized_keys|identity)|aws/credentials|docker/config\.json|kube/config|netrc|pgpass|git-credentials|gnupg/|npmrc|pypirc|config/gcloud/)",
    )
});

/// Returns whether a text names a file of the system or of credentials.
pub fn is_system_file(text: &str) -> bool {
    SYSTEM_FILE.as_ref().is_some_and(|pattern| pattern.is_match(text.as_bytes())) && !text.ends_with(".pub")
}

/// Returns whether a path is one that nothing may remove: the root, a home, a folder of the system.
pub fn is_root(path: &str) -> bool {
    let path = path.trim().trim_matches(['"', '\'']);
    if path.is_empty() {
        return false;
    }
    let trimmed = path.trim_end_matches(['/', '*', '.']);
    let trimmed = trimmed.trim_end_matches('/');
    matches!(
        trimmed,
        "" | "~"
            | "$HOME"
            | "${HOME}"
            | "/etc"
            | "/usr"
            | "/var"
            | "/bin"
            | "/lib"
            | "/boot"
            | "/home"
            | "/root"
            | "/opt"
            | "/dev"
            | "/sbin"
            | "/sys"
            | "/usr/bin"
            | "/usr/lib"
            | "/usr/local"
            | "/var/lib"
            | "/lib64"
            | "C:"
            | "C:\\"
            | "/srv"
            | "/Users"
            | "/System"
    ) && (path.starts_with(['/', '~', '$']) || path.starts_with("C:"))
        && !matches!(path, "..")
}

static REMOTE_SCRIPT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?is)\b(curl|wget|fetch)\b[^|;&]*\|\s*((sudo|env|command|exec|nice|doas)\s+(-\S+\s+)*(\w+=\S*\s+)*)*(/(usr/)?(local/)?bin/)?(env\s+)?(ba|z|da|k|a)?sh\b|\b(curl|wget|fetch)\b[^|;&]*\|\s*(sudo\s+(-\S+\s+)*)?(/usr/bin/)?(env\s+)?(python|perl|ruby|node|php)[\d.]*(\s|$)|\b(ba|z|da|k)?sh\s+(-\w+\s+)*(<\(|-c\s+[\x22']?\$\(|[\x22']?\$\()\s*(curl|wget)\b|\beval\s+[\x22']?(\$\(|`)\s*(curl|wget)\b|(source|\.)\s+<\(\s*(curl|wget)\b|\b(curl|wget)\b[^;&]*(-o|-O|>)\s*\S+[^;&]*(&&|;)\s*(sudo\s+)?((ba|z)?sh\s+\S+|chmod\s+\S*x\S*\s+\S+\s*(&&|;)\s*(sudo\s+)?\./)|iex\s*\(.*(DownloadString|iwr|Invoke-WebRequest)|(DownloadString|iwr|Invoke-WebRequest)\b.*\|\s*iex",
    )
});

static REMOVES: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"\brm\s+((-[a-zA-Z]+|--[a-z-]+)\s+)*(?P<what>[^;|&\n]+)"));
static DESTROYS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(\bmkfs(\.\w+)?\s+(-\S+\s+\S*\s*)*/dev/|\bdd\s+[^;|&]*of=/dev/(sd|nvme|hd|vd|xvd|mmcblk|disk)|>\s*/dev/(sd|nvme|hd|vd|xvd|disk)\w*|:\(\)\s*\{\s*:\s*\|\s*:\s*&\s*\}\s*;\s*:|\bchmod\s+(-[a-zA-Z]+\s+)*(0?777|a\+rwx|ugo\+rwx)\b|\bchown\s+-R\s+\S+\s+/(\s|$|etc|usr)|\bwipefs\s+(-\S+\s+)*/dev/|\bshred\s+(-\S+\s+)*/dev/|\bfind\s+(/|~)\s+[^;|&]*-delete|\bformat\s+[cC]:|\bmv\s+\S+\s+/dev/null|\bdel\s+/[sfq]\s+.*[cC]:\\)",
    )
});

/// Returns the harm that a shell command does by itself, as far as its text tells.
pub fn harmful_command(command: &str) -> Option<Category> {
    if REMOTE_SCRIPT.as_ref().is_some_and(|pattern| pattern.is_match(command.as_bytes())) {
        return Some(Category::RemoteScript);
    }
    if DESTROYS.as_ref().is_some_and(|pattern| pattern.is_match(command.as_bytes())) {
        return Some(Category::Destructive);
    }
    let pattern = REMOVES.as_ref()?;
    for found in pattern.captures_iter(command.as_bytes()) {
        let whole = String::from_utf8_lossy(found.get(0).map_or(b"", |whole| whole.as_bytes()));
        let what = String::from_utf8_lossy(found.name("what").map_or(b"", |what| what.as_bytes()));
        let recursive = whole.split_whitespace().any(|word| {
            word == "--recursive" || word.starts_with('-') && !word.starts_with("--") && word.contains(['r', 'R'])
        });
        if recursive && what.split_whitespace().any(is_root) || whole.contains("--no-preserve-root") {
            return Some(Category::Destructive);
        }
    }
    None
}

/// Returns whether a program is a shell.
fn is_shell(program: &str) -> bool {
    let name = program.rsplit(['/', '\\']).next().unwrap_or(program).trim_end_matches(".exe");
    matches!(name, "sh" | "bash" | "zsh" | "dash" | "ksh" | "ash" | "cmd" | "powershell" | "pwsh")
}

/// Returns whether a program with arguments is a shell that is given a command which is not constant.
pub fn is_shell_program(values: &[Value]) -> bool {
    let Some(at) = values.iter().position(|value| !value.dynamic && is_shell(value.text.trim())) else { return false };
    let rest = &values[at + 1..];
    let Some(flag) = rest.iter().position(|value| {
        let text = value.text.trim();
        matches!(text, "/c" | "/C" | "/k" | "-Command" | "-command")
            || text.starts_with('-') && !text.starts_with("--") && text.ends_with('c')
    }) else {
        return false;
    };
    rest.get(flag + 1).is_some_and(|command| command.dynamic)
}

/// Returns the harm that a program with constant arguments does.
pub fn harmful_program(values: &[Value]) -> Option<Category> {
    let line: Vec<String> = values.iter().map(|value| value.text.replace(HOLE, "x")).collect();
    harmful_command(&line.join(" "))
}
