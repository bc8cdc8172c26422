//! Opening the SQLite files that several processes share.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

/// How long a process waits for the others before it gives up a write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// A file cannot be opened or brought up to date.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {}", .path.display())]
pub struct OpenError {
    path: PathBuf,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Opens the file at `path`, made where it is missing, with every migration of `migrator` applied.
///
/// The file is in WAL mode: what was committed outlives a killed process. With
/// [`SqliteSynchronous::Full`] it outlives a power cut too, at the price of a flush to disk a commit.
///
/// # Errors
///
/// [`OpenError`] with the path and why not.
pub async fn open(
    path: &Path,
    migrator: &Migrator,
    durability: SqliteSynchronous,
) -> Result<SqliteConnection, OpenError> {
    let failed = |source| OpenError { path: path.to_owned(), source };
    let lock_path = path.with_extension("lock");
    let lock = tokio::task::spawn_blocking(move || lock_migrations(&lock_path))
        .await
        .map_err(|error| failed(error.into()))?
        .map_err(|error| failed(error.into()))?;
    let mut connection = options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(durability)
        .connect()
        .await
        .map_err(|error| failed(error.into()))?;
    // `run` would do, but the compiler cannot see that its future is `Send`; this is what `run` calls.
    migrator.run_direct(None, &mut connection, false).await.map_err(|error| failed(error.into()))?;
    drop(lock);
    Ok(connection)
}

/// Opens the file at `path`, which must exist, for reading only; also a backup, which is not in WAL mode.
///
/// # Errors
///
/// [`OpenError`] with the path and why not.
pub async fn open_read_only(path: &Path) -> Result<SqliteConnection, OpenError> {
    options(path)
        .read_only(true)
        .connect()
        .await
        .map_err(|error| OpenError { path: path.to_owned(), source: error.into() })
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT).optimize_on_close(false, None)
}

/// Holds the lock under which a file is made and migrated: SQLite's migrations do not keep several
/// processes that start at once out of each other's way.
fn lock_migrations(path: &Path) -> io::Result<File> {
    let lock = File::options().create(true).append(true).open(path)?;
    lock.lock()?;
    Ok(lock)
}
