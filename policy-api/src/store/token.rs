//! Tokens: who may ask. The store holds hashes only, so that reading it lets nobody in.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{
    engine::Lookup,
    error::DatabaseError,
    principal::{NodeGrant, Principal},
};
use crate::model::{AppPattern, NodeName, TokenId, hex::hex};

/// A secret that proves who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one: 256 random bits.
    pub fn random() -> Result<Self, DatabaseError> {
        Ok(Self(hex(&super::birth::random::<32>()?)))
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

    pub(super) fn hash(&self) -> [u8; 32] {
        // No salt and no stretching: 256 random bits cannot be guessed from their hash.
        Sha256::digest(self.0.as_bytes()).into()
    }
}

/// The tokens of a store: whom they let in may change while we serve.
pub struct Tokens(pub(super) Arc<dyn Lookup>);

const OPERATOR: &str = "operator";

impl Tokens {
    /// Which node, or whether the operator, has this token by the word of `init`.
    pub fn principal(&self, token: &str) -> Result<Option<Principal>, DatabaseError> {
        let Some(token) = Token::from_text(token) else { return Ok(None) };
        Ok(self.0.principal(&token.hash())?.map(|kept| bearer(&token, kept)))
    }
}

/// Whom this very token lets in, of what the store keeps with its hash: a node only in order to join.
pub(super) fn bearer(token: &Token, kept: Principal) -> Principal {
    match kept {
        Principal::Node(grant) => Principal::Joining(grant, token.id()),
        other @ (Principal::Operator | Principal::User(_) | Principal::Joining(..) | Principal::Itself) => other,
    }
}

/// The apps that the bearer may run, as the store keeps them; none for those that run none.
pub(super) fn apps_json(principal: &Principal) -> Result<Option<String>, serde_json::Error> {
    match principal {
        Principal::Operator | Principal::User(_) | Principal::Itself => Ok(None),
        Principal::Node(grant) | Principal::Joining(grant, _) => serde_json::to_string(&grant.apps).map(Some),
    }
}

/// The bearer of a token, of what the store keeps with its hash.
pub(super) fn principal(name: &str, apps: Option<&str>) -> Result<Principal, DatabaseError> {
    match (name.strip_prefix("node/"), apps) {
        (None, None) if name == OPERATOR => Ok(Principal::Operator),
        (Some(node), Some(apps)) => {
            let name: NodeName = node.parse()?;
            let apps: Vec<AppPattern> = serde_json::from_str(apps)?;
            Ok(Principal::Node(NodeGrant { name, apps }))
        }
        (Some(_) | None, _) => Err(DatabaseError::Damaged(format!("token of `{name}`"))),
    }
}
