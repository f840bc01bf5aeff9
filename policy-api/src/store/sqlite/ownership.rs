//! Who had an address when: intervals of ownership, kept for as long as the operator wants.
//!
//! Written in the transaction of the revision that made them, read over a connection of its own. Their times are this
//! server's clock's. An instance is told its address after the interval has begun and gives it back before it ends, so
//! that everything it sent lies inside, however wrong its node's clock is.

use std::net::IpAddr;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::{
    model::{Binding, Change, Owned, Timestamp},
    store::{Owners, contents::Interval, error::DatabaseError},
};

/// What came with schema 3.
pub(super) const TABLE: &str = "
CREATE TABLE ownership (
    address TEXT NOT NULL, start INTEGER NOT NULL, revision INTEGER NOT NULL, until INTEGER, binding TEXT NOT NULL,
    PRIMARY KEY (address, start, revision)
) WITHOUT ROWID;
CREATE INDEX ownership_until ON ownership (until);
";

/// Writes down what a revision changed about who has which address.
pub(super) fn note(transaction: &Transaction<'_>, changes: &[Change], now: Timestamp) -> Result<(), DatabaseError> {
    for change in changes {
        match change {
            Change::PutBinding { binding } if binding.is_live() => begin(transaction, binding)?,
            Change::PutBinding { binding } => end(transaction, binding.address, binding.since)?,
            Change::DeleteBinding { address } => end(transaction, *address, now)?,
            _ => {}
        }
    }
    Ok(())
}

/// Everything of the journal, as if it happened now.
pub(super) fn note_all(transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
    let mut journal = transaction.prepare("SELECT time, changes FROM journal ORDER BY revision")?;
    let rows = journal.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (time, changes) = row?;
        let changes: Vec<Change> = serde_json::from_str(&changes)?;
        note(transaction, &changes, time.parse()?)?;
    }
    Ok(())
}

/// The same instance on the same node goes on with the interval it has.
fn begin(transaction: &Transaction<'_>, binding: &Binding) -> Result<(), DatabaseError> {
    let address = binding.address.to_string();
    let sql = "SELECT start, revision, binding FROM ownership WHERE address = ?1 AND until IS NULL";
    let open = transaction
        .prepare_cached(sql)?
        .query_row([&address], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?)));
    let text = serde_json::to_string(binding)?;
    if let Some((start, revision, held)) = open.optional()? {
        let held: Binding = serde_json::from_str(&held)?;
        let owner = |binding: &Binding| (binding.identity, binding.instance, binding.node.clone());
        if owner(&held) == owner(binding) {
            let sql = "UPDATE ownership SET binding = ?4 WHERE address = ?1 AND start = ?2 AND revision = ?3";
            transaction.prepare_cached(sql)?.execute(params![address, start, revision, text])?;
            return Ok(());
        }
        end(transaction, binding.address, binding.since)?;
    }
    let revision = i64::try_from(binding.revision.0).unwrap_or(i64::MAX);
    let sql = "INSERT INTO ownership (address, start, revision, binding) VALUES (?1, ?2, ?3, ?4)";
    let start = binding.since.unix_milliseconds();
    transaction.prepare_cached(sql)?.execute(params![address, start, revision, text])?;
    Ok(())
}

/// Never before its beginning: the clock may have been set back meanwhile.
fn end(transaction: &Transaction<'_>, address: IpAddr, at: Timestamp) -> Result<(), DatabaseError> {
    let sql = "UPDATE ownership SET until = max(start, ?2) WHERE address = ?1 AND until IS NULL";
    transaction.prepare_cached(sql)?.execute(params![address.to_string(), at.unix_milliseconds()])?;
    Ok(())
}

/// All intervals.
pub(super) fn all(connection: &Connection) -> Result<Vec<Interval>, DatabaseError> {
    let mut statement = connection.prepare("SELECT start, until, binding, revision FROM ownership")?;
    let rows = statement.query_map([], |row| Ok((columns(row)?, row.get::<_, i64>(3)?)))?;
    let read = |row: rusqlite::Result<(Columns, i64)>| {
        let (interval, revision) = row?;
        Ok(Interval { owned: owned(interval)?, revision: u64::try_from(revision).unwrap_or_default() })
    };
    rows.map(read).collect()
}

/// Fills the table, which is empty.
pub(super) fn write(transaction: &Transaction<'_>, intervals: &[Interval]) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO ownership (address, start, revision, until, binding) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = transaction.prepare(sql)?;
    for Interval { owned: Owned { binding, from, until }, revision } in intervals {
        let (start, until) = (from.unix_milliseconds(), until.map(Timestamp::unix_milliseconds));
        let revision = i64::try_from(*revision).unwrap_or(i64::MAX);
        insert.execute(params![
            binding.address.to_string(),
            start,
            revision,
            until,
            serde_json::to_string(binding)?
        ])?;
    }
    Ok(())
}

/// Forgets intervals that ended so long ago; returns how many.
pub(super) fn forget(connection: &Connection, before: Timestamp) -> Result<usize, DatabaseError> {
    let sql = "DELETE FROM ownership WHERE until < ?1";
    Ok(connection.prepare_cached(sql)?.execute([before.unix_milliseconds()])?)
}

pub(super) fn owners(connection: &Connection, address: IpAddr, at: Timestamp) -> Result<Owners, DatabaseError> {
    let find = |sql: &str| -> Result<Option<Owned>, DatabaseError> {
        let mut statement = connection.prepare_cached(sql)?;
        let found = statement.query_row(params![address.to_string(), at.unix_milliseconds()], columns);
        found.optional()?.map(owned).transpose()
    };
    // Of two that begin in one millisecond, the later one.
    let last = find(
        "SELECT start, until, binding FROM ownership WHERE address = ?1 AND start <= ?2
         ORDER BY start DESC, revision DESC LIMIT 1",
    )?;
    let after = find(
        "SELECT start, until, binding FROM ownership WHERE address = ?1 AND start > ?2
         ORDER BY start, revision LIMIT 1",
    )?;
    Ok(Owners::around(last, after, at))
}

/// Start and end in milliseconds, and the binding as JSON.
type Columns = (i64, Option<i64>, String);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn owned((start, until, binding): Columns) -> Result<Owned, DatabaseError> {
    let time = |milliseconds| {
        Timestamp::of_unix_milliseconds(milliseconds)
            .ok_or_else(|| DatabaseError::Damaged(format!("an interval's end at {milliseconds} ms")))
    };
    Ok(Owned { binding: serde_json::from_str(&binding)?, from: time(start)?, until: until.map(time).transpose()? })
}
