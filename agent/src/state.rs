//! What survives the agent: the watch as it was read, so that a restart without a policy API starts from the last state;
//! and the endpoints that are here.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use policy_api::{
    model::{Change, Follower, WatchLine},
    private,
};
use serde::{Serialize, de::DeserializeOwned};

#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {source}")]
pub struct StateError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

type Result<T> = std::result::Result<T, StateError>;

/// The watch on disk: a snapshot and the deltas after it, each line proven when it is read again.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    deltas: usize,
}

/// Deltas behind a snapshot before it is written anew.
const MOST_DELTAS: usize = 10_000;

impl Journal {
    /// Opens the journal and reads it as far as it is whole: a line cut off by a crash ends it.
    pub fn open(directory: &Path) -> Result<(Self, Follower)> {
        let path = directory.join("watch.jsonl");
        let failed = |what| failed(what, &path);
        let file =
            private::open(OpenOptions::new().create(true).append(true).read(true), &path).map_err(failed("open"))?;
        let mut follower = Follower::default();
        let mut whole = 0;
        for line in BufReader::new(&file).split(b'\n') {
            let line = line.map_err(failed("read"))?;
            let Ok(read) = serde_json::from_slice::<WatchLine>(&line) else { break };
            if follower.take(read).is_err() {
                break;
            }
            whole += line.len() as u64 + 1;
        }
        let length = file.metadata().map_err(failed("look at"))?.len();
        if whole < length {
            file.set_len(whole).map_err(failed("cut"))?;
        }
        Ok((Self { path, file, deltas: 0 }, follower))
    }

    /// Keeps what was just read from the watch: a delta as it came, or the whole state where a snapshot ended.
    pub fn keep(&mut self, line: &WatchLine, follower: &Follower) -> Result<()> {
        match line {
            WatchLine::Delta { .. } if self.deltas < MOST_DELTAS => {
                self.deltas += 1;
                let mut bytes = encode(line).map_err(failed("encode", &self.path))?;
                bytes.push(b'\n');
                self.file.write_all(&bytes).map_err(failed("append to", &self.path))
            }
            WatchLine::Delta { .. } | WatchLine::SnapshotEnd { .. } => self.rewrite(follower),
            WatchLine::Clock { .. }
            | WatchLine::Snapshot { .. }
            | WatchLine::Changes { .. }
            | WatchLine::Heartbeat { .. } => Ok(()),
        }
    }

    /// Makes sure that the disk has what was kept.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(failed("sync", &self.path))
    }

    fn rewrite(&mut self, follower: &Follower) -> Result<()> {
        let Some((history, replica)) = follower.held() else { return Ok(()) };
        let revision = replica.revision();
        let changes: Vec<Change> = replica.items().collect();
        let start = WatchLine::Snapshot { history: history.clone(), revision, succeeds: Vec::new() };
        let body = WatchLine::Changes { changes };
        let end = WatchLine::SnapshotEnd { revision, count: replica.count(), digest: replica.digest() };
        let mut bytes = Vec::new();
        for line in [&start, &body, &end] {
            bytes.extend(encode(line).map_err(failed("encode", &self.path))?);
            bytes.push(b'\n');
        }
        replace(&self.path, &bytes)?;
        let options = &mut OpenOptions::new();
        self.file = options.append(true).open(&self.path).map_err(failed("open", &self.path))?;
        self.deltas = 0;
        Ok(())
    }
}

/// A value as JSON in a file, replaced whole or not at all.
pub fn save<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    replace(path, &encode(value).map_err(failed("encode", path))?)
}

/// The value of a file; nothing if there is no file.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let understood =
        |text: String| serde_json::from_str(&text).map_err(|error| failed("understand", path)(io::Error::other(error)));
    load_text(path)?.map(understood).transpose()
}

/// The text of a file; nothing if there is no file.
pub fn load_text(path: &Path) -> Result<Option<String>> {
    private::read(path).map_err(failed("read", path))
}

/// The same of what nobody else may know.
pub fn load_secret(path: &Path) -> Result<Option<String>> {
    private::read_secret(path).map_err(failed("read", path))
}

/// Writes a text that must still be there when this has returned, whatever becomes of the machine.
pub fn save_text(path: &Path, text: &str) -> Result<()> {
    private::keep(path, text.as_bytes()).map_err(failed("keep", path))
}

fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    private::replace(path, bytes).map_err(failed("replace", path))
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> StateError + use<> {
    let path = path.to_path_buf();
    move |source| StateError { what, path: path.clone(), source }
}
