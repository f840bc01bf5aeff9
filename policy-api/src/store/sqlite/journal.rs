//! The journal in a file: one row for each line, by its number.

use std::{collections::BTreeMap, ops::RangeInclusive};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::database::{set_meta, signed};
pub(super) use crate::store::engine::Order;
use crate::{
    model::{Change, History, HistoryEntry, Origin, Revision, Seal, Timestamp},
    store::{
        State,
        chain::{self, Line, Tip},
        engine::Mark,
        error::DatabaseError,
        retention::Limit,
        state::Head,
    },
};

/// What came with schema 4.
pub(super) const TABLE: &str = "
CREATE TABLE journal (number INTEGER PRIMARY KEY, seal BLOB NOT NULL, line TEXT NOT NULL);
";

/// Where it is kept where what is kept begins.
const ANCHOR: &str = "journal_anchor";

pub(super) fn write(connection: &Connection, line: &Line) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO journal (number, seal, line) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![signed(line.number)?, line.seal.bytes(), line.text])?;
    Ok(())
}

/// Lines with these numbers, at most so many.
pub(super) fn lines(
    connection: &Connection,
    numbers: RangeInclusive<u64>,
    order: Order,
    most: usize,
) -> Result<Vec<Line>, DatabaseError> {
    let sql = match order {
        Order::OldestFirst => "SELECT * FROM journal WHERE number BETWEEN ?1 AND ?2 ORDER BY number LIMIT ?3",
        Order::NewestFirst => "SELECT * FROM journal WHERE number BETWEEN ?1 AND ?2 ORDER BY number DESC LIMIT ?3",
    };
    let bound = |number: &u64| i64::try_from(*number).unwrap_or(i64::MAX);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![bound(numbers.start()), bound(numbers.end()), most], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, String>(2)?))
    })?;
    rows.map(|row| read(row?)).collect()
}

fn read((number, seal, text): (i64, Vec<u8>, String)) -> Result<Line, DatabaseError> {
    let damaged = || DatabaseError::Damaged(format!("entry {number} of the journal"));
    let seal = Seal::of_bytes(&seal).ok_or_else(damaged)?;
    Ok(Line { number: u64::try_from(number).map_err(|_| damaged())?, seal, text })
}

pub(super) fn anchor(connection: &Connection) -> Result<Tip, DatabaseError> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    let value: Option<String> = statement.query_row([ANCHOR], |row| row.get(0)).optional()?;
    Ok(value.map(|value| serde_json::from_str(&value)).transpose()?.unwrap_or_default())
}

/// The end, as the store's head says.
pub(super) fn tip(connection: &Connection) -> Result<Tip, DatabaseError> {
    let head: String = connection.query_row("SELECT value FROM meta WHERE key = 'head'", [], |row| row.get(0))?;
    Ok(serde_json::from_str::<Head>(&head)?.tip)
}

/// Writes down that the store goes on as another history.
pub(super) fn restored(
    connection: &Connection,
    from: History,
    to: History,
    now: Timestamp,
) -> Result<(), DatabaseError> {
    let head: String = connection.query_row("SELECT value FROM meta WHERE key = 'head'", [], |row| row.get(0))?;
    let mut head: Head = serde_json::from_str(&head)?;
    write(connection, &head.tip.append(chain::restoration(&head.tip, from, to, now))?)?;
    set_meta(connection, "head", &serde_json::to_string(&head)?)
}

pub(super) fn set_anchor(connection: &Connection, anchor: &Tip) -> Result<(), DatabaseError> {
    set_meta(connection, ANCHOR, &serde_json::to_string(anchor)?)
}

/// The first entry of which this holds, as it does of all that follow.
pub(super) fn first(
    connection: &Connection,
    holds: &dyn Fn(Mark) -> bool,
) -> Result<Option<HistoryEntry>, DatabaseError> {
    let (mut low, mut high, mut found) = (anchor(connection)?.number + 1, tip(connection)?.number, None);
    while low <= high {
        let middle = low + (high - low) / 2;
        let line = lines(connection, middle..=middle, Order::OldestFirst, 1)?;
        let missing = || DatabaseError::Damaged(format!("entry {middle} of the journal is missing"));
        let entry = line.first().ok_or_else(missing)?.entry()?;
        if holds(Mark::of(&entry)) {
            (high, found) = (middle - 1, Some(entry));
        } else {
            low = middle + 1;
        }
    }
    Ok(found)
}

/// Forgets the oldest lines that are beyond the limit; returns how many.
pub(super) fn forget(transaction: &Transaction<'_>, limit: &Limit, tip: Tip) -> Result<u64, DatabaseError> {
    /// At once: whoever writes waits meanwhile.
    const MOST: usize = 4_096;
    let first = anchor(transaction)?;
    let mut anchor = first;
    for line in lines(transaction, first.number + 1..=u64::MAX, Order::OldestFirst, MOST)? {
        let after = anchor.with(&line)?;
        if !limit.passes(anchor, after, tip) {
            break;
        }
        anchor = after;
    }
    if anchor.number > first.number {
        transaction.execute("DELETE FROM journal WHERE number <= ?1", [signed(anchor.number)?])?;
        set_anchor(transaction, &anchor)?;
    }
    Ok(anchor.number - first.number)
}

/// Seals what was written before there was a chain, if all of it is there; else the chain begins with what comes now.
pub(super) fn seal_all(transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
    let meta = |key: &str| -> Result<String, DatabaseError> {
        Ok(transaction.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))?)
    };
    let head: Head = serde_json::from_str(&meta("head")?)?;
    let mut state = State::empty(meta("history")?.parse()?, serde_json::from_str(&meta("overlay")?)?);
    let former = former(transaction)?;
    transaction.execute_batch("DROP TABLE journal")?;
    transaction.execute_batch(TABLE)?;
    let is_whole = former.keys().zip(1..).all(|(revision, expected)| revision.0 == expected);
    let is_whole = is_whole && former.keys().last() == Some(&head.revision);
    let mut tip = Tip { revision: head.revision, ..Tip::default() };
    if is_whole {
        tip = Tip::default();
        for (revision, (time, who, changes)) in former {
            let changes: Vec<Change> = serde_json::from_str(&changes)?;
            let entry = chain::revision(&state, &changes, &who, &Origin::default(), time.parse()?);
            state.apply(revision, &changes);
            let digest = Some(state.replica().digest());
            write(transaction, &tip.append(HistoryEntry { digest, ..entry })?)?;
        }
    } else {
        set_anchor(transaction, &tip)?;
    }
    set_meta(transaction, "head", &serde_json::to_string(&Head { tip, ..head })?)
}

/// Time, author and changes of each revision, as schema 3 kept them.
type Former = BTreeMap<Revision, (String, String, String)>;

fn former(transaction: &Transaction<'_>) -> Result<Former, DatabaseError> {
    let mut statement = transaction.prepare("SELECT revision, time, who, changes FROM journal")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, (row.get(1)?, row.get(2)?, row.get(3)?))))?;
    let read = |row: rusqlite::Result<(i64, (String, String, String))>| {
        let (revision, rest) = row?;
        let revision = u64::try_from(revision).map_err(|_| DatabaseError::Damaged(format!("revision {revision}")))?;
        Ok((Revision(revision), rest))
    };
    rows.map(read).collect()
}
