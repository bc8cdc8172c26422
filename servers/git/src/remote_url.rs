//! Addresses of repositories on other machines, and which of them an operator allows.
//!
//! An address is taken apart and put together again from its parts: whatever is not understood reaches no program.

use std::fmt;

/// Longest address.
const URL_BYTES_MAX: usize = 1024;

/// How a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// With the server's certificate checked.
    Https,
    /// Open to everybody on the way; only where the operator wrote it out.
    Http,
    /// With the server's host key checked.
    Ssh,
}

/// The address of a repository on another machine, without any secret.
///
/// Shown without the user's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteUrl {
    scheme: Scheme,
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// Without a slash in front; what follows `host:` or `host/`.
    path: String,
    /// `host:path`, where the path starts from the user's own folder.
    short: bool,
}

/// The remotes over the network that an operator allows; each entry covers what is below its path.
#[derive(Clone, Debug, Default)]
pub struct AllowedRemotes(Vec<RemoteUrl>);

impl RemoteUrl {
    /// Returns whether `text` is meant as an address, and not as a folder.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        if text.contains("://") {
            return !text.starts_with("file://");
        }
        let first = text.split('/').next().unwrap_or_default();
        first.contains(':')
    }

    /// Reads an address.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without repeating any of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > URL_BYTES_MAX {
            return Err("it is empty or longer than 1024 bytes");
        }
        let (scheme, short, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, false, rest),
            Some(("http", rest)) => (Scheme::Http, false, rest),
            Some(("ssh", rest)) => (Scheme::Ssh, false, rest),
            Some(_) => return Err("only https and ssh are used"),
            None => (Scheme::Ssh, true, text),
        };
        let (authority, path) = rest.split_once(if short { ':' } else { '/' }).unwrap_or((rest, ""));
        if short && (!rest.contains(':') || authority.contains('/')) {
            return Err("it is no address");
        }
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err("it has a password in it; keep it in a credential helper of the user's");
        }
        let is_name = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        if user.is_some_and(|user| !is_name(user)) {
            return Err("the user's name has a character that is not taken");
        }
        let (host, port) = match place.split_once(':') {
            Some((host, port)) if !short => {
                let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse::<u16>().ok().filter(|port| digits && *port > 0);
                (host, Some(port.ok_or("the port is no number")?))
            }
            _ => (place, None),
        };
        if !is_name(host) || host.ends_with('.') || host.len() > 253 {
            return Err("the host's name has a character that is not taken");
        }
        Ok(Self {
            scheme,
            user: user.map(str::to_owned),
            host: host.to_ascii_lowercase(),
            port: port.filter(|port| Some(*port) != scheme.port()),
            path: path_of(path, short)?,
            short,
        })
    }

    /// Returns the address for git.
    #[must_use]
    pub fn for_git(&self) -> String {
        self.text(self.user.as_deref())
    }

    /// Returns how the repository is reached.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    fn text(&self, user: Option<&str>) -> String {
        let user = user.map_or_else(String::new, |user| format!("{user}@"));
        if self.short {
            return format!("{user}{}:{}", self.host, self.path);
        }
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{user}{}{port}/{}", self.scheme.name(), self.host, self.path)
    }

    /// Returns whether `other` is this address or below it.
    fn covers(&self, other: &Self) -> bool {
        let bare = |path: &str| path.strip_suffix(".git").unwrap_or(path).to_owned();
        let below = self.path.is_empty()
            || bare(&other.path) == bare(&self.path)
            || other.path.strip_prefix(&self.path).is_some_and(|rest| rest.starts_with('/'));
        let alike =
            (self.scheme, &self.host, self.port, self.short) == (other.scheme, &other.host, other.port, other.short);
        alike && below && self.user.as_ref().is_none_or(|user| other.user.as_ref() == Some(user))
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text(None))
    }
}

impl Scheme {
    /// Returns the word before `://`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Ssh => "ssh",
        }
    }

    fn port(self) -> Option<u16> {
        match self {
            Self::Https => Some(443),
            Self::Http => Some(80),
            Self::Ssh => Some(22),
        }
    }
}

impl AllowedRemotes {
    /// Takes what the operator wrote.
    ///
    /// # Errors
    ///
    /// Which entry is none, and why.
    pub fn new<'text>(entries: impl Iterator<Item = &'text String>) -> Result<Self, String> {
        let read = |text: &String| RemoteUrl::parse(text).map_err(|fault| format!("{}: {fault}", masked(text)));
        entries.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether `url` may be used.
    #[must_use]
    pub fn allow(&self, url: &RemoteUrl) -> bool {
        self.0.iter().any(|allowed| allowed.covers(url))
    }
}

fn path_of(text: &str, short: bool) -> Result<String, &'static str> {
    let text = text.trim_end_matches('/');
    let is_taken = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~' | b'/' | b'+' | b'@' | b'=' | b',')
    };
    if !text.bytes().all(is_taken) {
        return Err("the path has a character that is not taken");
    }
    // `host:/path` starts from the root, `host:path` from the user's folder.
    let parts = if short { text.strip_prefix('/').unwrap_or(text) } else { text };
    let wrong = |part: &str| matches!(part, "" | "." | "..") || part.starts_with('-');
    if !parts.is_empty() && parts.split('/').any(wrong) {
        return Err("a part of the path is empty, `.` or `..`, or starts with `-`");
    }
    Ok(text.to_owned())
}

/// Returns `text` with what stands between `://` and `@` in any address taken out.
#[must_use]
pub fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '\'' | '"')).unwrap_or(after.len());
        let (authority, further) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                shown.push_str("…@");
                shown.push_str(host);
            }
            None => shown.push_str(authority),
        }
        rest = further;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_put_together() {
        for (text, expected) in [
            ("https://example.com/org/repo.git", "https://example.com/org/repo.git"),
            ("https://Example.COM:443/org/repo/", "https://example.com/org/repo"),
            ("https://me@example.com:8443/a", "https://me@example.com:8443/a"),
            ("ssh://git@example.com/srv/a.git", "ssh://git@example.com/srv/a.git"),
            ("ssh://git@example.com:2222/~me/a", "ssh://git@example.com:2222/~me/a"),
            ("git@example.com:org/repo.git", "git@example.com:org/repo.git"),
            ("example.com:/srv/a", "example.com:/srv/a"),
            ("http://127.0.0.1:8080/a", "http://127.0.0.1:8080/a"),
        ] {
            assert_eq!(RemoteUrl::parse(text).unwrap().for_git(), expected);
            assert!(RemoteUrl::is_meant(text));
        }
        assert_eq!(RemoteUrl::parse("https://me@example.com/a").unwrap().to_string(), "https://example.com/a");
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "ext::sh -c touch% pwned",
            "ext::sh",
            "fd::7",
            "git://example.com/a",
            "ftp://example.com/a",
            "HTTPS://example.com/a",
            "https::https://example.com/a",
            "https://user:secret@example.com/a",
            "https://:secret@example.com/a",
            "user:secret@example.com:a",
            "ssh://-oProxyCommand=x/a",
            "ssh://-oProxyCommand=x@example.com/a",
            "-oProxyCommand=x:a",
            "-x@example.com:a",
            "ssh://example.com/-upload-pack=x",
            "example.com:-x",
            "https://example.com/a/../b",
            "https://example.com//a",
            "https://example.com/a%2f..",
            "https://example.com/a?b",
            "https://example.com/a#b",
            "https://example.com/a b",
            "https://example.com/a\nb",
            "https://example.com\\@other.com/a",
            "https://example.com:99999/a",
            "https://example.com:0/a",
            "https://example.com:+1/a",
            "https://example.com:/a",
            "https://exa$mple.com/a",
            "https://[::1]/a",
            "https:///a",
            "https://example.com@/a",
            "ssh://example.com/$(x)",
            "ssh://example.com/`x`",
            "ssh://example.com/'x'",
            "/srv/a",
            "./a",
            "file:///a",
        ] {
            RemoteUrl::parse(text).expect_err(text);
        }
        for folder in ["/srv/a:b", "./a:b", "../a", "file:///srv/a", "plain"] {
            assert!(!RemoteUrl::is_meant(folder), "{folder}");
        }
    }

    #[test]
    fn only_what_the_operator_named_is_allowed() {
        let allowed: Vec<String> =
            ["https://example.com/org", "git@example.com:org/one", "https://all.example.com", "ssh://example.com/srv"]
                .map(str::to_owned)
                .to_vec();
        let allowed = AllowedRemotes::new(allowed.iter()).unwrap();
        for (text, expected) in [
            ("https://example.com/org/repo.git", true),
            ("https://me@example.com/org/repo.git", true),
            ("https://example.com/org", true),
            ("https://example.com/org.git", true),
            ("https://example.com/organisation/repo", false),
            ("https://example.com/", false),
            ("https://example.com:8443/org/repo", false),
            ("http://example.com/org/repo", false),
            ("https://example.com.evil.org/org/repo", false),
            ("https://org@evil.org/org/repo", false),
            ("https://all.example.com/any/thing", true),
            ("git@example.com:org/one.git", true),
            ("example.com:org/one.git", false),
            ("other@example.com:org/one.git", false),
            ("git@example.com:/org/one.git", false),
            ("ssh://git@example.com/srv/a", true),
            ("ssh://git@example.com/other/a", false),
        ] {
            assert_eq!(allowed.allow(&RemoteUrl::parse(text).unwrap()), expected, "{text}");
        }
        let wrong = ["https://me:hunter2@example.com/a".to_owned()];
        assert!(!AllowedRemotes::new(wrong.iter()).unwrap_err().contains("hunter2"));
    }

    #[test]
    fn secrets_are_taken_out_of_addresses() {
        for (text, expected) in [
            (
                "unable to access 'https://me:hunter2@example.com/a/': x",
                "unable to access 'https://…@example.com/a/': x",
            ),
            ("a https://t@h b ssh://u:p@x", "a https://…@h b ssh://…@x"),
            ("https://a:b@c@host/x", "https://…@host/x"),
            ("https://example.com/a@b", "https://example.com/a@b"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_stable_and_no_option(text in "(https|ssh|http|ext)?(://|:|@|/|-|a|b\\.c|~|\\.\\.|%|\\PC){0,12}") {
            if let Ok(url) = RemoteUrl::parse(&text) {
                let again = url.for_git();
                // Whatever a program could take for an option: the whole, a host, a user, a part of the path.
                let parts = [Some(&again), Some(&url.host), url.user.as_ref(), Some(&url.path)];
                prop_assert!(parts.iter().flatten().all(|part| !part.starts_with('-') && !part.contains("/-")));
                prop_assert!(again.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert_eq!(RemoteUrl::parse(&again), Ok(url));
            }
        }
    }
}
