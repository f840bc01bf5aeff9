//! Tokens of `init` in the file: hashes, and whom they let in.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    model::{AppPattern, NodeName},
    store::{error::DatabaseError, principal::Principal, token},
};

/// Whom tokens let in, as read a moment ago: who asks often must not have the file read each time.
#[derive(Default)]
pub(super) struct Bearers(Mutex<HashMap<[u8; 32], (Principal, Instant)>>);

/// So long a token lets in that `init` has voided beside us.
const MOMENT: Duration = Duration::from_secs(1);
/// More than ask in a moment by tokens of `init`.
const MOST: usize = 64;

impl Bearers {
    /// Looks up who has a token, by `read` where that is not known of a moment ago. Who is nobody is never remembered.
    pub(super) fn find(
        &self,
        hash: &[u8; 32],
        read: impl FnOnce() -> Result<Option<Principal>, DatabaseError>,
    ) -> Result<Option<Principal>, DatabaseError> {
        // Held while it is read, so that nothing voided meanwhile is remembered.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((principal, _)) = known.get(hash).filter(|(_, read)| read.elapsed() < MOMENT) {
            return Ok(Some(principal.clone()));
        }
        let found = read()?;
        if known.len() >= MOST {
            known.clear();
        }
        known.extend(found.clone().map(|principal| (*hash, (principal, Instant::now()))));
        Ok(found)
    }

    /// Forgets everybody while tokens are changed.
    pub(super) fn change<T>(&self, change: impl FnOnce() -> T) -> T {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clear();
        change()
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_often_has_the_file_read_once_and_who_is_voided_is_nobody_at_once() {
        let (bearers, hash) = (Bearers::default(), [7; 32]);
        let mut reads = 0;
        let mut find = |answer: Option<Principal>| {
            let read = || {
                reads += 1;
                Ok(answer)
            };
            bearers.find(&hash, read).expect("found")
        };
        assert_eq!(find(None), None);
        for _ in 0..100 {
            assert_eq!(find(Some(Principal::Operator)), Some(Principal::Operator));
        }
        bearers.change(|| ());
        assert_eq!(find(None), None, "what is known of a voided token is forgotten");
        assert_eq!(reads, 3);
    }
}
