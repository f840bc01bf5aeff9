//! The store's file: SQLite, one writing connection, everything of a commit in one transaction.
//!
//! Items are kept as the changes that make them, so that reading a store is applying changes; beside them is the journal
//! (`journal`). Knows nothing of what the changes mean.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{copy, journal, ownership};
use crate::{
    model::{Change, History, NodeName, Overlay, Revision, RuleId, Timestamp, hex::hex},
    store::{
        birth::{Birth, random},
        chain::{Line, Tip},
        contents::Contents,
        engine::{AnswerKey, Entry, GivenAnswer},
        error::DatabaseError,
        retention::Limit,
        state::Head,
        usage::Count,
    },
};

const SCHEMA: i64 = 4;

const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE item (key TEXT PRIMARY KEY, change TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE capacity (node TEXT PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE answer (
    who TEXT NOT NULL, key TEXT NOT NULL, request BLOB NOT NULL, answer TEXT NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (who, key)
) WITHOUT ROWID;
CREATE INDEX answer_time ON answer (time);
CREATE TABLE token (hash BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, apps TEXT) WITHOUT ROWID;
";

/// What came with schema 2: what rules are used for, by node, which no revision tells of.
const USAGE: &str = "
CREATE TABLE usage (node TEXT NOT NULL, rule INTEGER NOT NULL, count TEXT NOT NULL, PRIMARY KEY (node, rule)) WITHOUT ROWID;
CREATE INDEX usage_rule ON usage (rule);
";

/// Where it is kept whose followers may go over to this history.
pub(in crate::store) const SUCCEEDS: &str = "succeeds";
/// Where it is kept which histories a restored store had before.
pub(super) const CAME_FROM: &str = "came_from";

/// A list of histories; an empty one where nothing was ever kept.
pub(in crate::store) fn histories(connection: &Connection, key: &str) -> Result<Vec<History>, DatabaseError> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    let value: Option<String> = statement.query_row([key], |row| row.get(0)).optional()?;
    Ok(value.map_or_else(|| Ok(Vec::new()), |value| serde_json::from_str(&value))?)
}

/// The writing connection.
pub(in crate::store) struct Database {
    connection: Connection,
    /// Held for as long as the store is served: two writers with memories of their own would contradict each other.
    _served: Option<File>,
}

impl Database {
    /// Opens the file, made with its tables if it does not exist.
    pub(in crate::store) fn create(path: &Path, birth: &Birth) -> Result<Self, DatabaseError> {
        let at = |source| DatabaseError::File { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(at)?;
        }
        // Made here and not by SQLite, so that nobody else can read it at any time.
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(at)?;
        let mut connection = connect(path)?;
        make_tables(&mut connection, birth)?;
        migrate(&mut connection)?;
        check_schema(&connection, path)?;
        Ok(Self { connection, _served: None })
    }

    /// Opens an existing file, to be its one writer of changes.
    pub(in crate::store) fn serve(path: &Path) -> Result<Self, DatabaseError> {
        if !path.try_exists().map_err(|source| DatabaseError::File { path: path.to_owned(), source })? {
            return Err(DatabaseError::Missing { place: path.display().to_string() });
        }
        let served = lock(path)?;
        let mut connection = connect(path)?;
        migrate(&mut connection)?;
        check_schema(&connection, path)?;
        Ok(Self { connection, _served: Some(served) })
    }

    /// Keeps anybody from serving a file for as long as what is returned lives.
    pub(in crate::store) fn reserve(path: &Path) -> Result<File, DatabaseError> {
        lock(path)
    }

    /// Looks whether a file is a whole store that this version reads; returns its history and its last revision.
    pub(in crate::store) fn prove(path: &Path) -> Result<(History, Revision), DatabaseError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        let version = user_version(&connection)?;
        if !(1..=SCHEMA).contains(&version) {
            return Err(DatabaseError::Schema { path: path.to_owned(), found: version, read: SCHEMA });
        }
        let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(DatabaseError::Damaged(found));
        }
        let database = Self { connection, _served: None };
        Ok((database.history()?, database.head()?.revision))
    }

    /// Everything that a file holds, which was proven to be a whole store.
    pub(in crate::store) fn contents(path: &Path) -> Result<Contents, DatabaseError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        if user_version(&connection)? == SCHEMA {
            return copy::read(&Self { connection, _served: None });
        }
        drop(connection);
        Self::contents_of_older(path)
    }

    /// The same of what an earlier version wrote, which stays as it is.
    fn contents_of_older(path: &Path) -> Result<Contents, DatabaseError> {
        let directory = std::env::temp_dir().join(format!("netpol-{}", hex(&random::<8>()?)));
        let at = |source| DatabaseError::File { path: directory.clone(), source };
        fs::DirBuilder::new().mode(0o700).create(&directory).map_err(at)?;
        let upgraded = directory.join("policy.db");
        let read = || {
            Self::copy(path, &upgraded)?;
            let mut connection = Connection::open(&upgraded)?;
            migrate(&mut connection)?;
            copy::read(&Self { connection, _served: None })
        };
        let contents = read();
        fs::remove_dir_all(&directory).map_err(at)?;
        contents
    }

    /// Makes an empty file a store that holds this. All of it is in the file itself, with no log beside it.
    pub(in crate::store) fn fill(path: &Path, contents: &Contents) -> Result<(), DatabaseError> {
        let mut connection = Connection::open(path)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for tables in [TABLES, USAGE, ownership::TABLE, journal::TABLE] {
            transaction.execute_batch(tables)?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA)?;
        copy::write(&transaction, contents)?;
        transaction.commit()?;
        connection.close().map_err(|(_, error)| error.into())
    }

    /// Copies a file into an empty one, as of one commit: later ones are not in it, and wait for nothing. All of the copy is
    /// in the file itself, with no log beside it.
    pub(in crate::store) fn copy(from: &Path, to: &Path) -> Result<(), DatabaseError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let source = Connection::open_with_flags(from, flags)?;
        source.busy_timeout(BUSY)?;
        source.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        let copy = Connection::open_with_flags(to, flags)?;
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        copy.close().map_err(|(_, error)| error.into())
    }

    /// Makes what a file holds the beginning of another history, which nobody goes over to yet; the one that it had is
    /// remembered as what it came from.
    pub(in crate::store) fn begin_history(path: &Path, history: &History) -> Result<(), DatabaseError> {
        let mut connection = Connection::open(path)?;
        migrate(&mut connection)?;
        let former: String =
            connection.query_row("SELECT value FROM meta WHERE key = 'history'", [], |row| row.get(0))?;
        let former: History = former.parse()?;
        journal::restored(&connection, former.clone(), history.clone(), Timestamp::now())?;
        let mut came_from = histories(&connection, CAME_FROM)?;
        came_from.push(former);
        set_meta(&connection, CAME_FROM, &serde_json::to_string(&came_from)?)?;
        set_meta(&connection, SUCCEEDS, "[]")?;
        set_meta(&connection, "history", history.as_str())?;
        connection.close().map_err(|(_, error)| error.into())
    }

    /// Lets followers of these histories go over to this store's, of those that it came from if none is named; returns
    /// whom it lets. Whoever serves it sees so with the next watch.
    pub(in crate::store) fn accept(path: &Path, named: &[History]) -> Result<Vec<History>, DatabaseError> {
        let connection = connect(path)?;
        check_schema(&connection, path)?;
        let mut succeeds = histories(&connection, SUCCEEDS)?;
        let wanted = if named.is_empty() { histories(&connection, CAME_FROM)? } else { named.to_vec() };
        succeeds.extend(wanted.into_iter().filter(|history| !succeeds.contains(history)).collect::<Vec<_>>());
        set_meta(&connection, SUCCEEDS, &serde_json::to_string(&succeeds)?)?;
        Ok(succeeds)
    }

    /// Forgets who had addresses that were given up before this; returns how many intervals.
    pub(in crate::store) fn forget_owners(&self, before: Timestamp) -> Result<usize, DatabaseError> {
        ownership::forget(&self.connection, before)
    }

    pub(in crate::store) fn begin(&mut self) -> Result<Commit<'_>, DatabaseError> {
        Ok(Commit(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?))
    }

    pub(in crate::store) fn history(&self) -> Result<History, DatabaseError> {
        Ok(self.meta("history")?.parse()?)
    }

    pub(in crate::store) fn overlay(&self) -> Result<Overlay, DatabaseError> {
        Ok(serde_json::from_str(&self.meta("overlay")?)?)
    }

    pub(in crate::store) fn set_overlay(&self, overlay: Overlay) -> Result<(), DatabaseError> {
        set_meta(&self.connection, "overlay", &serde_json::to_string(&overlay)?)
    }

    /// Names and addresses that the server's certificate is made for, beyond those of its command line.
    pub(in crate::store) fn names(&self) -> Result<Vec<String>, DatabaseError> {
        Ok(serde_json::from_str(&self.meta("names")?)?)
    }

    pub(in crate::store) fn set_names(&self, names: &[String]) -> Result<(), DatabaseError> {
        set_meta(&self.connection, "names", &serde_json::to_string(names)?)
    }

    pub(in crate::store) fn head(&self) -> Result<Head, DatabaseError> {
        Ok(serde_json::from_str(&self.meta("head")?)?)
    }

    pub(in crate::store) fn given_answer(
        &self,
        AnswerKey { who, key }: &AnswerKey,
    ) -> Result<Option<GivenAnswer>, DatabaseError> {
        let sql = "SELECT request, answer FROM answer WHERE who = ?1 AND key = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let given =
            statement.query_row([who, key], |row| Ok(GivenAnswer { request: row.get(0)?, answer: row.get(1)? }));
        Ok(given.optional()?)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn meta(&self, key: &str) -> Result<String, DatabaseError> {
        let value =
            self.connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?;
        value.ok_or_else(|| DatabaseError::Damaged(format!("`{key}` is missing")))
    }

    /// All items, as the changes that make them.
    pub(in crate::store) fn items(&self) -> Result<Vec<Change>, DatabaseError> {
        let mut statement = self.connection.prepare("SELECT change FROM item")?;
        let texts = statement.query_map([], |row| row.get::<_, String>(0))?;
        texts.map(|text| Ok(serde_json::from_str(&text?)?)).collect()
    }

    pub(in crate::store) fn capacities(&self) -> Result<Vec<(NodeName, u64)>, DatabaseError> {
        let mut statement = self.connection.prepare("SELECT node, rows FROM capacity")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let parse = |row: rusqlite::Result<(String, i64)>| {
            let (node, rows) = row?;
            let rows = u64::try_from(rows).map_err(|_| DatabaseError::Damaged(format!("capacity {rows} of {node}")))?;
            Ok((node.parse()?, rows))
        };
        rows.map(parse).collect()
    }

    /// What each node counted of each rule.
    pub(in crate::store) fn usage(&self) -> Result<Vec<(NodeName, RuleId, Count)>, DatabaseError> {
        let mut statement = self.connection.prepare("SELECT node, rule, count FROM usage")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let parse = |row: rusqlite::Result<(String, u32, String)>| {
            let (node, rule, count) = row?;
            Ok((node.parse()?, RuleId(rule), serde_json::from_str(&count)?))
        };
        rows.map(parse).collect()
    }

    /// Where what is kept of the journal begins.
    pub(in crate::store) fn anchor(&self) -> Result<Tip, DatabaseError> {
        journal::anchor(&self.connection)
    }

    /// All lines of the journal.
    pub(in crate::store) fn journal(&self) -> Result<Vec<Line>, DatabaseError> {
        journal::lines(&self.connection, 1..=u64::MAX, journal::Order::OldestFirst, journal::Most::ALL)
    }

    /// The last lines of the journal, oldest first.
    pub(in crate::store) fn last_lines(&self, most: usize) -> Result<Vec<Line>, DatabaseError> {
        let most = journal::Most::lines(most);
        let mut lines = journal::lines(&self.connection, 1..=u64::MAX, journal::Order::NewestFirst, most)?;
        lines.reverse();
        Ok(lines)
    }

    /// Forgets the oldest lines of the journal; returns how many.
    pub(in crate::store) fn forget_history(&mut self, limit: &Limit) -> Result<u64, DatabaseError> {
        let tip = self.head()?.tip;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let forgotten = journal::forget(&transaction, limit, tip)?;
        transaction.commit()?;
        Ok(forgotten)
    }
}

/// A transaction. What was not committed did not happen.
pub(in crate::store) struct Commit<'a>(Transaction<'a>);

impl Commit<'_> {
    pub(in crate::store) fn write_line(&self, line: &Line) -> Result<(), DatabaseError> {
        journal::write(&self.0, line)
    }

    /// Writes the items as they are after one revision.
    pub(in crate::store) fn write(&self, entry: &Entry) -> Result<(), DatabaseError> {
        let Entry { time, changes, .. } = entry;
        ownership::note(&self.0, changes, *time)?;
        let mut put = self.0.prepare_cached("INSERT OR REPLACE INTO item (key, change) VALUES (?1, ?2)")?;
        let mut delete = self.0.prepare_cached("DELETE FROM item WHERE key = ?1")?;
        for change in changes {
            let key = change.key().to_string();
            match change.revision() {
                Some(_) => put.execute(params![key, serde_json::to_string(change)?])?,
                None => delete.execute([key])?,
            };
        }
        Ok(())
    }

    pub(in crate::store) fn set_head(&self, head: Head) -> Result<(), DatabaseError> {
        set_meta(&self.0, "head", &serde_json::to_string(&head)?)
    }

    pub(in crate::store) fn set_capacity(&self, node: &NodeName, rows: u64) -> Result<(), DatabaseError> {
        let sql = "INSERT OR REPLACE INTO capacity (node, rows) VALUES (?1, ?2)";
        self.0.prepare_cached(sql)?.execute(params![node.as_str(), signed(rows)?])?;
        Ok(())
    }

    pub(in crate::store) fn set_usage(
        &self,
        node: &NodeName,
        rule: RuleId,
        count: &Count,
    ) -> Result<(), DatabaseError> {
        let sql = "INSERT OR REPLACE INTO usage (node, rule, count) VALUES (?1, ?2, ?3)";
        self.0.prepare_cached(sql)?.execute(params![node.as_str(), rule.0, serde_json::to_string(count)?])?;
        Ok(())
    }

    pub(in crate::store) fn forget_usage(&self, rule: RuleId) -> Result<(), DatabaseError> {
        self.0.prepare_cached("DELETE FROM usage WHERE rule = ?1")?.execute([rule.0])?;
        Ok(())
    }

    /// Remembers an answer, and forgets those that are too old to be asked for again.
    pub(in crate::store) fn remember_answer(
        &self,
        AnswerKey { who, key }: &AnswerKey,
        given: &GivenAnswer,
        now: Timestamp,
    ) -> Result<(), DatabaseError> {
        let oldest = now.unix_seconds() - i64::try_from(ANSWERS_KEPT.as_secs()).unwrap_or(i64::MAX);
        self.0.prepare_cached("DELETE FROM answer WHERE time < ?1")?.execute([oldest])?;
        let sql = "INSERT INTO answer (who, key, request, answer, time) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.0.prepare_cached(sql)?.execute(params![who, key, given.request, given.answer, now.unix_seconds()])?;
        Ok(())
    }

    /// Returns when everything is on disk.
    pub(in crate::store) fn commit(self) -> Result<(), DatabaseError> {
        Ok(self.0.commit()?)
    }
}

/// How long a repeated request gets its first answer.
const ANSWERS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long to wait for another process, `netpol-api init` that is, to finish its transaction.
const BUSY: Duration = Duration::from_secs(5);

/// A connection whose commits return when they are on disk.
pub(in crate::store) fn connect(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn make_tables(connection: &mut Connection, birth: &Birth) -> Result<(), DatabaseError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if user_version(&transaction)? == 0 {
        for tables in [TABLES, USAGE, ownership::TABLE, journal::TABLE] {
            transaction.execute_batch(tables)?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA)?;
        set_meta(&transaction, "history", birth.history.as_str())?;
        set_meta(&transaction, "overlay", &serde_json::to_string(&birth.overlay)?)?;
        set_meta(&transaction, "names", "[]")?;
        let commit = Commit(transaction);
        commit.write(&birth.entry)?;
        commit.write_line(&birth.line)?;
        commit.set_head(birth.head)?;
        return commit.commit();
    }
    Ok(transaction.commit()?)
}

/// Brings a store of an earlier version up to this one.
fn migrate(connection: &mut Connection) -> Result<(), DatabaseError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if user_version(&transaction)? == 1 {
        transaction.execute_batch(USAGE)?;
        transaction.pragma_update(None, "user_version", 2)?;
    }
    if user_version(&transaction)? == 2 {
        transaction.execute_batch(ownership::TABLE)?;
        ownership::note_all(&transaction)?;
        transaction.pragma_update(None, "user_version", 3)?;
    }
    if user_version(&transaction)? == 3 {
        journal::seal_all(&transaction)?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
    }
    Ok(transaction.commit()?)
}

/// Looks whether there is a store that this version reads.
pub(super) fn check(path: &Path) -> Result<(), DatabaseError> {
    if !path.exists() {
        return Err(DatabaseError::Missing { place: path.display().to_string() });
    }
    check_schema(&connect(path)?, path)
}

fn check_schema(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    match user_version(connection)? {
        SCHEMA => Ok(()),
        0 => Err(DatabaseError::Missing { place: path.display().to_string() }),
        found => Err(DatabaseError::Schema { path: path.to_owned(), found, read: SCHEMA }),
    }
}

fn user_version(connection: &Connection) -> Result<i64, DatabaseError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

pub(super) fn set_meta(connection: &Connection, key: &str, value: &str) -> Result<(), DatabaseError> {
    connection.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?.execute([key, value])?;
    Ok(())
}

/// Takes the lock that the serving process holds; the kernel gives it back when the process ends, however it ends.
fn lock(path: &Path) -> Result<File, DatabaseError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-serve");
    let lock = PathBuf::from(name);
    let at = |source| DatabaseError::File { path: lock.clone(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock).map_err(at)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(DatabaseError::Served { path: path.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(at(source)),
    }
}

pub(super) fn signed(number: u64) -> Result<i64, DatabaseError> {
    i64::try_from(number).map_err(|_| DatabaseError::Damaged(format!("{number} does not fit a column")))
}
