//! Tokens in the file: hashes, and whom they let in.

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    model::{AppPattern, NodeName},
    store::{error::DatabaseError, principal::Principal, token},
};

/// Who has this token.
pub(super) fn principal(connection: &Connection, hash: &[u8; 32]) -> Result<Option<Principal>, DatabaseError> {
    let mut statement = connection.prepare_cached("SELECT name, apps FROM token WHERE hash = ?1")?;
    let found = statement.query_row([hash], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)));
    found.optional()?.map(|(name, apps)| token::principal(&name, apps.as_deref())).transpose()
}

pub(super) fn apps_of(connection: &Connection, node: &NodeName) -> Result<Option<Vec<AppPattern>>, DatabaseError> {
    let mut statement = connection.prepare_cached("SELECT apps FROM token WHERE name = ?1")?;
    let apps = statement.query_row([format!("node/{node}")], |row| row.get::<_, String>(0)).optional()?;
    Ok(apps.map(|apps| serde_json::from_str(&apps)).transpose()?)
}

pub(super) fn void(connection: &Connection, node: &NodeName) -> Result<(), DatabaseError> {
    connection.prepare_cached("DELETE FROM token WHERE name = ?1")?.execute([format!("node/{node}")])?;
    Ok(())
}

pub(super) fn set(connection: &Connection, hash: &[u8; 32], principal: &Principal) -> Result<(), DatabaseError> {
    let apps = token::apps_json(principal)?;
    let sql = "INSERT OR REPLACE INTO token (hash, name, apps) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![hash, principal.to_string(), apps])?;
    Ok(())
}
