//! Tokens: who may ask. The store holds hashes only, so that reading it lets nobody in.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::{
    database::{self, DatabaseError},
    principal::{NodeGrant, Principal},
};
use crate::model::{AppPattern, NodeName, TokenId};

/// A secret that proves who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one: 256 random bits.
    pub fn random() -> Result<Self, DatabaseError> {
        Ok(Self(hex(&super::random::<32>()?)))
    }

    /// One that was written down before, as a file holds it.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What names it.
    pub fn id(&self) -> TokenId {
        TokenId::of(&self.0)
    }

    fn hash(&self) -> [u8; 32] {
        // No salt and no stretching: 256 random bits cannot be guessed from their hash.
        Sha256::digest(self.0.as_bytes()).into()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tokens of a store. Looked up in the file each time: `netpol-api init` adds and voids them while we serve.
pub struct Tokens(Mutex<Connection>);

const OPERATOR: &str = "operator";

impl Tokens {
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self(Mutex::new(database::connect(path)?)))
    }

    /// Who has this token.
    pub fn principal(&self, token: &str) -> Result<Option<Principal>, DatabaseError> {
        let Some(token) = Token::from_text(token) else { return Ok(None) };
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare_cached("SELECT name, apps FROM token WHERE hash = ?1")?;
        let found =
            statement.query_row([token.hash()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)));
        found.optional()?.map(|(name, apps)| principal(&token, &name, apps.as_deref())).transpose()
    }

    /// The apps that a node's token is good for, if it has one.
    pub(super) fn apps_of(&self, node: &NodeName) -> Result<Option<Vec<AppPattern>>, DatabaseError> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare_cached("SELECT apps FROM token WHERE name = ?1")?;
        let apps = statement.query_row([format!("node/{node}")], |row| row.get::<_, String>(0)).optional()?;
        Ok(apps.map(|apps| serde_json::from_str(&apps)).transpose()?)
    }

    /// Lets the bearer of this token in as this one, and no bearer of an earlier one.
    pub(super) fn set(&self, token: &Token, principal: &Principal) -> Result<(), DatabaseError> {
        let apps = match principal {
            Principal::Operator => None,
            Principal::Node(grant) | Principal::Joining(grant, _) => Some(serde_json::to_string(&grant.apps)?),
        };
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sql = "INSERT OR REPLACE INTO token (hash, name, apps) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(sql)?.execute(params![token.hash(), principal.to_string(), apps])?;
        Ok(())
    }

    /// Lets nobody in any more as this node.
    pub(super) fn void(&self, node: &NodeName) -> Result<(), DatabaseError> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection.prepare_cached("DELETE FROM token WHERE name = ?1")?.execute([format!("node/{node}")])?;
        Ok(())
    }
}

fn principal(token: &Token, name: &str, apps: Option<&str>) -> Result<Principal, DatabaseError> {
    match (name.strip_prefix("node/"), apps) {
        (None, None) if name == OPERATOR => Ok(Principal::Operator),
        (Some(node), Some(apps)) => {
            let name: NodeName = node.parse()?;
            let apps: Vec<AppPattern> = serde_json::from_str(apps)?;
            Ok(Principal::Joining(NodeGrant { name, apps }, token.id()))
        }
        (Some(_) | None, _) => Err(DatabaseError::Damaged(format!("token of `{name}`"))),
    }
}
