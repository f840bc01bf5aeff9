//! What keeps a store from being opened or written, whatever it is kept in.

use std::{io, path::PathBuf};

use crate::model::Invalid;

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is served by another process")]
    Served { path: PathBuf },
    #[error("{path} has schema {found}, but this version reads {read}")]
    Schema { path: PathBuf, found: i64, read: i64 },
    #[error("{place} holds no store; run `netpol-api init` first")]
    Missing { place: String },
    #[error(
        "{place} was written by an earlier version, which sealed nothing; back it up with that version, and put the backup \
         in its place with this one: `netpol-api restore --replace`"
    )]
    Older { place: String },
    #[error("the store is damaged: {0}")]
    Damaged(String),
    #[error("the store was made with overlay {stored}, which cannot become {wanted} any more: nodes have slices of it")]
    Overlay { stored: String, wanted: String },
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("etcd refused: {0}")]
    Etcd(String),
    /// It may have been done, or may yet be.
    #[error("no member of etcd answered in time; the last one tried: {0}")]
    Unsure(String),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl From<Invalid> for DatabaseError {
    fn from(invalid: Invalid) -> Self {
        Self::Damaged(invalid.to_string())
    }
}
