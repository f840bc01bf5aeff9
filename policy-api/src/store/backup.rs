//! Copies of the store: one of what is served right now, and one put in its place again.
//!
//! A copy is a store like any other, whole as of one revision. What is put back begins a new history, so that nobody takes
//! its revisions for those that were given out meanwhile.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{error::DatabaseError, location::Location, random_history, sqlite::database::Database};
use crate::model::{History, Revision};

/// What keeps a copy from being made or put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path} exists; name a file that does not")]
    Exists { path: PathBuf },
    #[error("{path} holds a store; add --replace to put the backup in its place")]
    Occupied { path: PathBuf },
    #[error("{path} is no backup of a store: {problem}")]
    Unsound { path: PathBuf, problem: String },
    #[error("{path} was never restored; name the history that agents follow, which they say in their status")]
    NothingToAccept { path: PathBuf },
    #[error("this is done for stores in a file only; use etcd's own snapshots: `etcdctl snapshot save FILE`")]
    Cluster,
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] DatabaseError),
}

/// The file of a store that is one.
fn file(location: &Location) -> Result<&Path, BackupError> {
    match location {
        Location::Sqlite(path) => Ok(path),
        Location::Etcd(_) => Err(BackupError::Cluster),
    }
}

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub history: History,
    pub revision: Revision,
    pub bytes: u64,
}

/// Copies a store into a new file, while it is served or not; returns when the copy is on disk.
pub fn back_up(location: &Location, to: &Path) -> Result<Copied, BackupError> {
    let from = file(location)?;
    if !from.exists() {
        return Err(DatabaseError::Missing { place: from.display().to_string() }.into());
    }
    make(to)?;
    let written = copy(from, to);
    if written.is_err() {
        // A part of a copy must not be taken for one; the error that matters is the first.
        let _ = fs::remove_file(to);
    }
    written
}

fn copy(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    Database::copy(from, to)?;
    sync(to)?;
    prove(to)
}

/// Puts a backup in the place of a store that nobody serves.
pub fn restore(from: &Path, location: &Location, replace: bool) -> Result<Copied, BackupError> {
    let place = file(location)?;
    prove(from)?;
    let _nobody_serves = Database::reserve(place)?;
    if place.exists() && !replace {
        return Err(BackupError::Occupied { path: place.to_owned() });
    }
    let beside = with_suffix(place, "-restored");
    // Of an earlier try that was cut short.
    remove_all(&beside)?;
    make(&beside)?;
    Database::copy(from, &beside)?;
    Database::begin_history(&beside, &random_history()?)?;
    sync(&beside)?;
    let copied = prove(&beside)?;
    // The old one's log first: it must never be read beside the new file.
    remove_logs(place)?;
    fs::rename(&beside, place).map_err(|source| BackupError::File { path: place.to_owned(), source })?;
    sync_directory(place)?;
    Ok(copied)
}

/// Lets whoever follows one of these histories, or those that a restored store came from, go over to this store; returns
/// all that may.
pub fn accept(location: &Location, named: &[History]) -> Result<Vec<History>, BackupError> {
    let path = file(location)?;
    if !path.exists() {
        return Err(DatabaseError::Missing { place: path.display().to_string() }.into());
    }
    let accepted = Database::accept(path, named)?;
    if accepted.is_empty() { Err(BackupError::NothingToAccept { path: path.to_owned() }) } else { Ok(accepted) }
}

/// Looks whether a file is a whole store.
fn prove(path: &Path) -> Result<Copied, BackupError> {
    let unsound = |problem: String| BackupError::Unsound { path: path.to_owned(), problem };
    let bytes = fs::metadata(path).map_err(|source| BackupError::File { path: path.to_owned(), source })?.len();
    let (history, revision) = Database::prove(path).map_err(|error| unsound(error.to_string()))?;
    Ok(Copied { history, revision, bytes })
}

/// A new, empty file that its owner alone can read.
fn make(path: &Path) -> Result<(), BackupError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(BackupError::Exists { path: path.to_owned() })
        }
        Err(source) => Err(BackupError::File { path: path.to_owned(), source }),
    }
}

fn sync(path: &Path) -> Result<(), BackupError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|source| BackupError::File { path: path.to_owned(), source })?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> Result<(), BackupError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| BackupError::File { path: directory.to_owned(), source })
}

fn remove_all(path: &Path) -> Result<(), BackupError> {
    remove(path)?;
    remove_logs(path)
}

/// What SQLite keeps beside a file.
fn remove_logs(path: &Path) -> Result<(), BackupError> {
    ["-wal", "-shm"].into_iter().try_for_each(|suffix| remove(&with_suffix(path, suffix)))
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::File { path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
