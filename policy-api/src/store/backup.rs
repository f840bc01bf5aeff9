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

use super::{
    birth::random_history,
    chain,
    error::DatabaseError,
    etcd,
    location::{Cluster, Location},
    sqlite::database::Database,
};
use crate::model::{History, Revision, Timestamp};

/// What keeps a copy from being made or put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path} exists; name a file that does not")]
    Exists { path: PathBuf },
    #[error("{place} holds a store; add --replace to put the backup in its place")]
    Occupied { place: String },
    #[error("{path} is no backup of a store: {problem}")]
    Unsound { path: PathBuf, problem: String },
    #[error("{place} was never restored; name the history that agents follow, which they say in their status")]
    NothingToAccept { place: String },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] DatabaseError),
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
    if let Location::Sqlite(from) = location
        && !from.exists()
    {
        return Err(missing(location));
    }
    make(to)?;
    let written = match location {
        Location::Sqlite(from) => copy(from, to),
        Location::Etcd(cluster) => copy_cluster(cluster, to),
    };
    if written.is_err() {
        // A part of a copy must not be taken for one; the error that matters is the first.
        let _ = fs::remove_file(to);
    }
    written
}

fn missing(location: &Location) -> BackupError {
    DatabaseError::Missing { place: location.to_string() }.into()
}

/// The file is what a store in a file is, so that it can become one.
fn copy_cluster(from: &Cluster, to: &Path) -> Result<Copied, BackupError> {
    Database::fill(to, &etcd::copy::read(from)?)?;
    sync(to)?;
    prove(to)
}

fn copy(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    Database::copy(from, to)?;
    sync(to)?;
    prove(to)
}

/// Puts a backup in the place of a store: of one in a file if nobody serves it, of one in etcd while it is served or not.
pub fn restore(from: &Path, location: &Location, replace: bool) -> Result<Copied, BackupError> {
    prove(from)?;
    match location {
        Location::Sqlite(place) => restore_file(from, place, replace),
        Location::Etcd(cluster) => restore_cluster(from, cluster, replace),
    }
}

fn restore_cluster(from: &Path, cluster: &Cluster, replace: bool) -> Result<Copied, BackupError> {
    if !replace && !etcd::copy::is_empty(cluster)? {
        return Err(BackupError::Occupied { place: cluster.to_string() });
    }
    let copied = prove(from)?;
    let mut contents = Database::contents(from)?;
    let former = std::mem::replace(&mut contents.history, random_history()?);
    let (now, history) = (Timestamp::now(), contents.history.clone());
    let entry = chain::restoration(&contents.head.tip, former.clone(), history, now);
    contents.journal.push(contents.head.tip.append(entry)?);
    contents.came_from.push(former);
    contents.succeeds.clear();
    etcd::copy::write(cluster, &contents)?;
    Ok(Copied { history: contents.history, ..copied })
}

fn restore_file(from: &Path, place: &Path, replace: bool) -> Result<Copied, BackupError> {
    let _nobody_serves = Database::reserve(place)?;
    if place.exists() && !replace {
        return Err(BackupError::Occupied { place: place.display().to_string() });
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
    let accepted = match location {
        Location::Sqlite(path) if !path.exists() => return Err(missing(location)),
        Location::Sqlite(path) => Database::accept(path, named)?,
        Location::Etcd(cluster) => etcd::copy::accept(cluster, named)?,
    };
    if accepted.is_empty() { Err(BackupError::NothingToAccept { place: location.to_string() }) } else { Ok(accepted) }
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
