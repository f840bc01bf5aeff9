//! A store in one file, served by one process: the engine for one machine.

mod copy;
pub(super) mod database;
mod journal;
mod ownership;
mod token;

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::Notify;

use self::{database::Database, token::Bearers};
use super::{
    OverlayWish, Owners,
    birth::{Birth, wanted_overlay},
    chain::{Line, Tip},
    delta::{Delta, Ring, changes_json},
    engine::{
        AnswerKey, Batch, Engine, GivenAnswer, Heard, Journal, Loaded, Lookup, Mark, Opened, Order, Outcome, Registry,
    },
    error::DatabaseError,
    principal::Principal,
    retention::Limit,
    state::{Head, State},
    usage::Unwritten,
};
use crate::model::{AppPattern, History, HistoryEntry, NodeName, Revision, Timestamp};

/// Opens an existing file, to be its one server.
pub(super) fn open(path: &Path, wish: OverlayWish) -> Result<Opened, DatabaseError> {
    let database = Database::serve(path)?;
    settle_overlay(&database, wish)?;
    let loaded = load(&database)?;
    let (usage, names) = (database.usage()?, database.names()?);
    let lookup =
        Arc::new(Reader { connection: Mutex::new(reader(path)?), path: path.to_owned(), bearers: Bearers::default() });
    Ok(Opened { engine: Box::new(File { database, bell: Arc::default() }), lookup, board: None, loaded, usage, names })
}

/// Opens a file for `init`, made if it does not exist.
pub(super) fn prepare(path: &Path, birth: &Birth, wish: OverlayWish) -> Result<Box<dyn Registry>, DatabaseError> {
    let database = Database::create(path, birth)?;
    settle_overlay(&database, wish)?;
    Ok(Box::new(Preparing(database)))
}

fn load(database: &Database) -> Result<Loaded, DatabaseError> {
    let history = database.history()?;
    let empty = State::empty(history.clone(), database.overlay()?);
    let mut state = empty
        .restored(database.head()?, &database.items()?)
        .ok_or_else(|| DatabaseError::Damaged("its items are not those that were stored last".to_owned()))?;
    for (node, rows) in database.capacities()? {
        state.set_capacity(node, rows);
    }
    let mut ring = Ring::default();
    for line in database.last_lines(Ring::MOST_DELTAS)? {
        let entry = line.entry()?;
        if entry.is_revision() {
            let base = Revision(entry.revision.0.saturating_sub(1));
            let json = changes_json(&entry.changes)?;
            ring.push(Arc::new(Delta::new(&history, base, entry.revision, None, &json)));
        }
    }
    Ok(Loaded { state, ring })
}

/// Grants a wish for another overlay as long as no node has a slice of the present one.
fn settle_overlay(database: &Database, wish: OverlayWish) -> Result<(), DatabaseError> {
    match wanted_overlay(database.overlay()?, database.head()?, wish)? {
        Some(wanted) => database.set_overlay(wanted),
        None => Ok(()),
    }
}

/// The engine of the process that serves the file.
struct File {
    database: Database,
    bell: Arc<Notify>,
}

impl Engine for File {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn given_answers(&mut self, keys: &[AnswerKey]) -> Result<Vec<Option<GivenAnswer>>, DatabaseError> {
        keys.iter().map(|key| self.database.given_answer(key)).collect()
    }

    fn commit(&mut self, batch: &Batch, head: Head) -> Result<Outcome, DatabaseError> {
        if batch.is_empty() {
            return Ok(Outcome::Done);
        }
        let commit = self.database.begin()?;
        for entry in &batch.entries {
            commit.write(entry)?;
        }
        for line in &batch.lines {
            commit.write_line(line)?;
        }
        for (node, rows) in &batch.capacities {
            commit.set_capacity(node, *rows)?;
        }
        for (key, given) in &batch.answers {
            commit.remember_answer(key, given, batch.time)?;
        }
        if !batch.lines.is_empty() {
            commit.set_head(head)?;
        }
        commit.commit()?;
        Ok(Outcome::Done)
    }

    fn bell(&self) -> Arc<Notify> {
        self.bell.clone()
    }

    fn heard(&mut self) -> Result<Vec<Heard>, DatabaseError> {
        Ok(Vec::new())
    }

    fn write_usage(&mut self, unwritten: &Unwritten) -> Result<(), DatabaseError> {
        let commit = self.database.begin()?;
        for rule in &unwritten.forgotten {
            commit.forget_usage(*rule)?;
        }
        for (node, rule, count) in &unwritten.told {
            commit.set_usage(node, *rule, count)?;
        }
        commit.commit()
    }

    fn forget_owners(&mut self, before: Timestamp) -> Result<usize, DatabaseError> {
        self.database.forget_owners(before)
    }

    fn forget_history(&mut self, limit: &Limit) -> Result<u64, DatabaseError> {
        self.database.forget_history(limit)
    }

    fn tidy(&mut self, _state: &State) -> Result<(), DatabaseError> {
        // The file keeps its room for what comes next.
        Ok(())
    }

    fn is_following(&self) -> bool {
        true
    }

    fn has_recovered(&mut self) -> bool {
        // The next write will tell.
        false
    }
}

/// A connection that reads beside the writer. Tokens of `init` and accepted histories are looked up in the file:
/// `netpol-api` changes them while we serve.
struct Reader {
    connection: Mutex<Connection>,
    path: PathBuf,
    bearers: Bearers,
}

fn reader(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = database::connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

impl Reader {
    fn with<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        read(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Lookup for Reader {
    fn owners(&self, address: std::net::IpAddr, at: Timestamp) -> Result<Owners, DatabaseError> {
        self.with(|connection| ownership::owners(connection, address, at))
    }

    fn succeeds(&self) -> Result<Vec<History>, DatabaseError> {
        self.with(|connection| database::histories(connection, database::SUCCEEDS))
    }

    fn principal(&self, hash: &[u8; 32]) -> Result<Option<Principal>, DatabaseError> {
        self.bearers.find(hash, || self.with(|connection| token::principal(connection, hash)))
    }

    fn void_token(&self, node: &NodeName) -> Result<(), DatabaseError> {
        // Readers cannot write; this is as rare as removing a node.
        self.bearers.change(|| token::void(&database::connect(&self.path)?, node))
    }
}

impl Journal for Reader {
    fn bounds(&self) -> Result<(Tip, Tip), DatabaseError> {
        self.with(|connection| Ok((journal::anchor(connection)?, journal::tip(connection)?)))
    }

    fn lines(&self, numbers: RangeInclusive<u64>, order: Order, most: usize) -> Result<Vec<Line>, DatabaseError> {
        const BYTES: usize = 8 << 20;
        let most = journal::Most { lines: most, bytes: BYTES };
        self.with(|connection| journal::lines(connection, numbers, order, most))
    }

    fn first(&self, holds: &dyn Fn(Mark) -> bool) -> Result<Option<HistoryEntry>, DatabaseError> {
        self.with(|connection| journal::first(connection, holds))
    }
}

/// The journal of a file, whether somebody serves it or not.
pub(super) fn journal(path: &Path) -> Result<Arc<dyn Journal>, DatabaseError> {
    database::check(path)?;
    Ok(Arc::new(Reader { connection: Mutex::new(reader(path)?), path: path.to_owned(), bearers: Bearers::default() }))
}

/// The file in the hands of `init`.
struct Preparing(Database);

impl Registry for Preparing {
    fn principal(&self, hash: &[u8; 32]) -> Result<Option<Principal>, DatabaseError> {
        token::principal(self.0.connection(), hash)
    }

    fn apps_of(&self, node: &NodeName) -> Result<Option<Vec<AppPattern>>, DatabaseError> {
        token::apps_of(self.0.connection(), node)
    }

    fn set_token(&self, hash: &[u8; 32], principal: &Principal) -> Result<(), DatabaseError> {
        token::set(self.0.connection(), hash, principal)
    }

    fn names(&self) -> Result<Vec<String>, DatabaseError> {
        self.0.names()
    }

    fn set_names(&self, names: &[String]) -> Result<(), DatabaseError> {
        self.0.set_names(names)
    }
}
