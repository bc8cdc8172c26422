//! Where logins are kept: one file a server in the state folder, which only its owner reads.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rmcp::transport::auth::{
    AuthError, AuthorizationMetadata, CredentialRefreshGuard, CredentialStore, StoredCredentials,
};
use serde::{Deserialize, Serialize};
use tollgate_shared::state_dir::StateDir;

use super::config::Secret;

/// The folder of the logins in the state folder.
const FOLDER: &str = "logins";

/// A link in the folder is not followed.
const NO_LINKS: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// Largest file that is read; a login has a few kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A login that ends sooner than this is renewed before it is used.
const LEFT_MIN: Duration = Duration::from_secs(30);

/// Longest wait for another process to renew the same login.
const LOCK_MAX: Duration = Duration::from_secs(60);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The file of the login at one server.
#[derive(Clone, Debug)]
pub(super) struct LoginFile {
    folder: PathBuf,
    name: String,
}

/// A login.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Login {
    /// The address of the server that it is for; it is sent nowhere else.
    pub(super) url: String,
    /// What the authorization server knows that address as.
    pub(super) resource: String,
    /// Where the login came from.
    pub(super) metadata: AuthorizationMetadata,
    /// Who this program is there.
    pub(super) client: Client,
    /// The tokens, until they are refused for good.
    pub(super) credentials: Option<StoredCredentials>,
    /// What the server refused for want of it; the next login asks for it too.
    #[serde(default)]
    pub(super) wanted_scopes: Vec<String>,
}

/// Who this program is to an authorization server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: Option<Secret>,
    pub(super) redirect_uri: String,
}

/// The tokens, as they are written.
#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<String>,
}

impl Login {
    /// Returns the access token, if there is one.
    pub(super) fn token(&self) -> Option<String> {
        self.tokens().map(|tokens| tokens.access_token)
    }

    /// Returns what else the authorization server should forget when the login ends.
    pub(super) fn refresh_token(&self) -> Option<String> {
        self.tokens()?.refresh_token
    }

    /// Whether the access token is good for a while.
    pub(super) fn lasts(&self) -> bool {
        let (Some(tokens), Some(credentials)) = (self.tokens(), &self.credentials) else { return false };
        match (tokens.expires_in, credentials.token_received_at) {
            (Some(lifetime), Some(received_at)) => received_at.saturating_add(lifetime) >= now() + LEFT_MIN.as_secs(),
            // Nobody said when it ends: the server will.
            _ => true,
        }
    }

    /// Returns what the login may do.
    pub(super) fn scopes(&self) -> &[String] {
        self.credentials.as_ref().map_or(&[], |credentials| &credentials.granted_scopes)
    }

    fn tokens(&self) -> Option<Tokens> {
        let response = self.credentials.as_ref()?.token_response.as_ref()?;
        serde_json::from_value(serde_json::to_value(response).ok()?).ok()
    }
}

impl LoginFile {
    pub(super) fn new(state_dir: &StateDir, server: &str) -> Self {
        Self { folder: state_dir.path().join(FOLDER), name: server.to_owned() }
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.name))
    }

    /// Returns the login, if there is one.
    pub(super) fn read(&self) -> Result<Option<Login>, AuthError> {
        self.check_folder().map_err(|error| self.failed("read", &error))?;
        let opened = File::options().read(true).custom_flags(NO_LINKS).open(self.path());
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read", &error)),
        };
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| self.failed("read", &error))?;
        serde_json::from_str(&text).map(Some).map_err(|error| {
            // The message of serde_json names no content.
            self.failed("read", &io::Error::other(format!("line {}, column {}", error.line(), error.column())))
        })
    }

    /// Writes the login, whole or not at all.
    pub(super) fn write(&self, login: &Login) -> Result<(), AuthError> {
        let text = serde_json::to_vec(login).map_err(|error| self.failed("write", &io::Error::other(error)))?;
        self.replace(&text).map_err(|error| self.failed("write", &error))
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        self.make_folder()?;
        let new = self.folder.join(format!("{}.{}.new", self.name, std::process::id()));
        let _ = fs::remove_file(&new);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, self.path())
    }

    /// Changes the login, if there is one, while nobody else does.
    pub(super) async fn change(&self, change: impl FnOnce(&mut Login)) -> Result<(), AuthError> {
        let _alone = self.alone().await?;
        if let Some(mut login) = self.read()? {
            change(&mut login);
            self.write(&login)?;
        }
        Ok(())
    }

    /// Removes the login; whether there was one.
    pub(super) fn remove(&self) -> Result<bool, AuthError> {
        match fs::remove_file(self.path()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("remove", &error)),
        }
    }

    /// Waits until no other process changes the login; others wait until what is returned is dropped.
    pub(super) async fn alone(&self) -> Result<File, AuthError> {
        let lock = || -> io::Result<File> {
            self.make_folder()?;
            let path = self.folder.join(format!("{}.lock", self.name));
            File::options().create(true).append(true).mode(0o600).custom_flags(NO_LINKS).open(path)
        };
        let file = lock().map_err(|error| self.failed("lock", &error))?;
        let begun = tokio::time::Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_MAX => tokio::time::sleep(LOCK_PAUSE).await,
                Err(TryLockError::WouldBlock) => {
                    return Err(self.failed("lock", &io::Error::from(io::ErrorKind::TimedOut)));
                }
                Err(TryLockError::Error(error)) => return Err(self.failed("lock", &error)),
            }
        }
    }

    fn make_folder(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.check_folder()
    }

    /// The state folder may be in a repository, which somebody else can have filled: a link would have the logins written, or read,
    /// wherever it says.
    fn check_folder(&self) -> io::Result<()> {
        let found = match fs::symlink_metadata(&self.folder) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let own = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
        if found.is_dir() && own {
            return Ok(());
        }
        let folder = self.folder.display();
        Err(io::Error::other(format!(
            "{folder} has to be a folder, no link, that is yours and that only you may enter"
        )))
    }

    fn failed(&self, what: &str, error: &io::Error) -> AuthError {
        AuthError::CredentialStoreError(format!("cannot {what} the login {}: {error}", self.path().display()))
    }
}

#[async_trait::async_trait]
impl CredentialStore for LoginFile {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        Ok(self.read()?.and_then(|login| login.credentials))
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        // Only a login that is there is renewed; one that was removed meanwhile stays away.
        let Some(mut login) = self.read()? else { return Ok(()) };
        login.credentials = Some(credentials);
        self.write(&login)
    }

    async fn clear(&self) -> Result<(), AuthError> {
        let Some(mut login) = self.read()? else { return Ok(()) };
        login.credentials = None;
        self.write(&login)
    }

    async fn on_refresh_token_rejected(&self, _: &StoredCredentials) -> Result<(), AuthError> {
        self.clear().await
    }

    async fn acquire_refresh_guard(&self) -> Result<Option<CredentialRefreshGuard>, AuthError> {
        Ok(Some(CredentialRefreshGuard::new(self.alone().await?)))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    fn login(expires_in: Option<u64>, age: u64) -> Login {
        serde_json::from_value(json!({
            "url": "https://a/mcp", "resource": "https://a/mcp",
            "metadata": {"authorization_endpoint": "https://a/authorize", "token_endpoint": "https://a/token"},
            "client": {"id": "c", "secret": null, "redirect_uri": "http://127.0.0.1:1/callback"},
            "credentials": {"client_id": "c", "granted_scopes": ["read"], "token_received_at": now() - age,
                "token_response": {"access_token": "at", "token_type": "bearer", "expires_in": expires_in}},
        }))
        .unwrap()
    }

    #[test]
    fn token_is_used_until_shortly_before_its_end() {
        assert!(login(Some(3600), 0).lasts());
        assert!(login(None, 1_000_000).lasts());
        assert!(!login(Some(3600), 3571).lasts());
        assert!(!login(Some(3600), 9999).lasts());
        assert_eq!(login(None, 0).token().as_deref(), Some("at"));
    }

    #[test]
    fn file_is_its_owner_s_alone_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = LoginFile::new(&StateDir::choose(Some(folder.path()), folder.path()), "a");
        assert!(file.read().unwrap().is_none());
        file.write(&login(None, 0)).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        file.write(&login(Some(1), 0)).unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&file.folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(file.read().unwrap().unwrap().scopes(), ["read"]);
        fs::write(file.path(), r#"{"credentials": "s3cr3t"}"#).unwrap();
        let error = file.read().err().unwrap().to_string();
        assert!(!error.contains("s3cr3t"), "{error}");
        assert!(file.remove().unwrap() && !file.remove().unwrap());
    }

    #[test]
    fn folder_that_is_not_its_owner_s_alone_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        let state = folder.path().join("state");
        let file = LoginFile::new(&StateDir::choose(Some(&state), folder.path()), "a");
        file.write(&login(None, 0)).unwrap();
        fs::set_permissions(&file.folder, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(file.read().is_err() && file.write(&login(None, 0)).is_err(), "others may enter");
        fs::rename(&file.folder, &elsewhere).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file.folder).unwrap();
        assert!(file.read().is_err() && file.write(&login(None, 0)).is_err(), "a link");
        fs::remove_file(&file.folder).unwrap();
        fs::write(&file.folder, "").unwrap();
        assert!(file.read().is_err() && file.write(&login(None, 0)).is_err(), "a file");
        fs::remove_file(&file.folder).unwrap();
        file.write(&login(None, 0)).unwrap();
        assert!(file.read().unwrap().is_some());
        let real = folder.path().join("a.json");
        fs::rename(file.path(), &real).unwrap();
        std::os::unix::fs::symlink(&real, file.path()).unwrap();
        assert!(file.read().is_err(), "a link in the folder");
    }

    #[tokio::test]
    async fn login_that_was_removed_is_not_written_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = LoginFile::new(&StateDir::choose(Some(folder.path()), folder.path()), "a");
        file.save(login(None, 0).credentials.unwrap()).await.unwrap();
        assert!(file.read().unwrap().is_none());
    }
}
