//! All of a file's contents, for a store of another kind; and the other way round.

use rusqlite::{Connection, Transaction, params};

use super::{
    database::{CAME_FROM, Database, SUCCEEDS, histories, set_meta, signed},
    journal, ownership,
};
use crate::store::{
    contents::{Bearer, Contents},
    error::DatabaseError,
};

pub(super) fn read(database: &Database) -> Result<Contents, DatabaseError> {
    let connection = database.connection();
    Ok(Contents {
        history: database.history()?,
        overlay: database.overlay()?,
        head: database.head()?,
        items: database.items()?,
        capacities: database.capacities()?,
        usage: database.usage()?,
        names: database.names()?,
        tokens: tokens(connection)?,
        owners: ownership::all(connection)?,
        anchor: database.anchor()?,
        journal: database.journal()?,
        succeeds: histories(connection, SUCCEEDS)?,
        came_from: histories(connection, CAME_FROM)?,
    })
}

fn tokens(connection: &Connection) -> Result<Vec<Bearer>, DatabaseError> {
    let mut statement = connection.prepare("SELECT hash, name, apps FROM token")?;
    let rows = statement.query_map([], |row| Ok(Bearer { hash: row.get(0)?, name: row.get(1)?, apps: row.get(2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Fills tables that are empty.
pub(super) fn write(transaction: &Transaction<'_>, contents: &Contents) -> Result<(), DatabaseError> {
    for (key, value) in [
        ("history", contents.history.as_str().to_owned()),
        ("overlay", serde_json::to_string(&contents.overlay)?),
        ("head", serde_json::to_string(&contents.head)?),
        ("names", serde_json::to_string(&contents.names)?),
        (SUCCEEDS, serde_json::to_string(&contents.succeeds)?),
        (CAME_FROM, serde_json::to_string(&contents.came_from)?),
    ] {
        set_meta(transaction, key, &value)?;
    }
    let mut item = transaction.prepare("INSERT INTO item (key, change) VALUES (?1, ?2)")?;
    for change in &contents.items {
        item.execute(params![change.key().to_string(), serde_json::to_string(change)?])?;
    }
    let mut capacity = transaction.prepare("INSERT INTO capacity (node, rows) VALUES (?1, ?2)")?;
    for (node, rows) in &contents.capacities {
        capacity.execute(params![node.as_str(), signed(*rows)?])?;
    }
    let mut usage = transaction.prepare("INSERT INTO usage (node, rule, count) VALUES (?1, ?2, ?3)")?;
    for (node, rule, count) in &contents.usage {
        usage.execute(params![node.as_str(), rule.0, serde_json::to_string(count)?])?;
    }
    let mut token = transaction.prepare("INSERT INTO token (hash, name, apps) VALUES (?1, ?2, ?3)")?;
    for Bearer { hash, name, apps } in &contents.tokens {
        token.execute(params![hash, name, apps])?;
    }
    for line in &contents.journal {
        journal::write(transaction, line)?;
    }
    journal::set_anchor(transaction, &contents.anchor)?;
    ownership::write(transaction, &contents.owners)
}
