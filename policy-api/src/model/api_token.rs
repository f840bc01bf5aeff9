//! API tokens: who may ask, by a secret of which only the hash is ever told.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    answer::Outcome,
    credential::TokenHash,
    fields::Fields,
    grant::{Grant, Grants},
    history::Revision,
    invalid::InvalidField,
    name::TokenName,
    time::Timestamp,
};

/// A token that lets somebody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    pub name: TokenName,
    pub grants: Grants,
    /// For the policy API alone: nobody is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<TokenHash>,
    /// From when on it lets nobody in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub created_by: String,
    /// The revision that last changed it.
    pub revision: Revision,
}

/// A token as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    #[serde(flatten)]
    pub token: ApiToken,
    /// When it let somebody in last, at the API that answers and since it started; absent if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// Since when that is known.
    pub known_since: Timestamp,
}

/// A token as an admin asks for it. Whoever asks makes the secret, so that it never travels but to prove who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenSpec {
    pub name: TokenName,
    pub grants: Grants,
    pub hash: TokenHash,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// The answer to a token that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAnswer {
    #[serde(flatten)]
    pub token: ApiToken,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "super::answer::is_false")]
    pub dry_run: bool,
}

/// The answer to the end of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRevoked {
    /// The revision without the token.
    pub revision: Revision,
    pub token: ApiToken,
    #[serde(default, skip_serializing_if = "super::answer::is_false")]
    pub dry_run: bool,
}

/// Who asks, as the policy API knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoAmI {
    pub who: String,
    pub grants: Grants,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl ApiToken {
    /// What others are told of it.
    pub fn without_hash(&self) -> Self {
        Self { hash: None, ..self.clone() }
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

impl TokenSpec {
    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let path = fields.path("grants");
        let name = fields.required("name", "name whom it lets in")?;
        let grants =
            fields.texts("grants")?.ok_or_else(|| fields.missing("grants", "name roles, like `writer:shop`"))?;
        let spec = Self {
            name,
            grants: Grant::list(&path, &grants)?,
            hash: fields.required("hash", "send the SHA-256 of the secret, in hexadecimal")?,
            expires_at: fields.parsed("expires_at")?,
        };
        fields.finish()?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wish_that_makes_no_sense_is_refused_naming_the_field() {
        let hash = TokenHash::of(&"0".repeat(64));
        let cases = [
            (json!({"grants": ["admin"], "hash": hash}), "name"),
            (json!({"name": "a/b", "grants": ["admin"], "hash": hash}), "name"),
            (json!({"name": "alice", "hash": hash}), "grants"),
            (json!({"name": "alice", "grants": [], "hash": hash}), "grants"),
            (json!({"name": "alice", "grants": ["auditor", "root"], "hash": hash}), "grants[1]"),
            (json!({"name": "alice", "grants": ["admin"]}), "hash"),
            (json!({"name": "alice", "grants": ["admin"], "hash": "secret"}), "hash"),
            (json!({"name": "alice", "grants": ["admin"], "hash": hash, "secret": "x"}), "secret"),
        ];
        for (request, field) in cases {
            assert_eq!(TokenSpec::from_json(request).expect_err(field).field, field);
        }
    }
}
