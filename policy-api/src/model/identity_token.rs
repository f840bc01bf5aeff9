//! Identity tokens: short-lived proofs of who somebody is, for one audience, signed by the policy API.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    fields::Fields,
    hex::{bytes_of, hex},
    history::History,
    invalid::{Invalid, InvalidField, text_serde, text_type},
    isolation::Target,
    name::{NodeName, TokenName},
    time::Timestamp,
};
use crate::model::{ResourceId, Subject};

/// The id of an identity token (`jti`): 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityTokenId([u8; 16]);

/// Whom a token is shown to: the name of an app or the id of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Audience(ResourceId);

/// Who signs: `netpol:` and the history of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenIssuer(String);

/// The longest that a token is good for.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(3_600);
/// The shortest, and what a token is good for whose asker says nothing.
const SHORTEST_S: u64 = 30;
const STANDARD_S: u64 = 300;

/// A token as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityTokenSpec {
    pub audience: Audience,
    /// Of an agent: which of its node's instances it is for, `web/0`.
    pub instance: Option<Target>,
    pub lifetime: Duration,
}

/// The answer to a token that was asked for. Nobody but who is to show it may see it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct IdentityToken {
    /// The secret itself: a JWT (RFC 7519), signed with Ed25519.
    pub token: String,
    pub subject: Subject,
    pub audience: Audience,
    pub expires_at: Timestamp,
    /// When to ask for the next one, so that there is always one that is good.
    pub renew_at: Timestamp,
    pub id: IdentityTokenId,
}

/// What a token says. Times are whole seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityClaims {
    pub iss: TokenIssuer,
    pub sub: Subject,
    pub aud: Audience,
    /// Behind every revocation of the subject that was known when it was issued.
    pub iat: i64,
    pub nbf: i64,
    pub exp: i64,
    pub jti: IdentityTokenId,
    /// Of an app: the instance that asked, `web/0`, and the node where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Of a machine or a user: the API token that it was asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenName>,
}

impl IdentityTokenSpec {
    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let audience = fields.required("audience", "name the app or the resource that the token is shown to")?;
        let instance: Option<Target> = fields.parsed("instance")?;
        if let Some(target) = instance.as_ref().filter(|target| target.instance.is_none()) {
            let invalid = Invalid::new(&target.app, "is no instance", "name one, like `web/0`");
            return Err(invalid.in_field("instance"));
        }
        let lifetime = fields.number("lifetime", LONGEST_LIFETIME.as_secs())?.unwrap_or(STANDARD_S);
        if lifetime < SHORTEST_S {
            let remedy = format!("use {SHORTEST_S} to {} seconds", LONGEST_LIFETIME.as_secs());
            return Err(Invalid::new(lifetime, "is too short", remedy).in_field("lifetime"));
        }
        fields.finish()?;
        Ok(Self { audience, instance, lifetime: Duration::from_secs(lifetime) })
    }
}

impl fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token: _, subject, audience, expires_at, renew_at, id } = self;
        let mut shown = f.debug_struct("IdentityToken");
        shown.field("id", id).field("subject", subject).field("audience", audience);
        shown.field("expires_at", expires_at).field("renew_at", renew_at).finish_non_exhaustive()
    }
}

impl IdentityTokenId {
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for IdentityTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for IdentityTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityTokenId({self})")
    }
}

impl FromStr for IdentityTokenId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let remedy = "use the 32 hexadecimal digits of the token's `jti`";
        bytes_of(text).map(Self).ok_or_else(|| Invalid::new(text, "is no id of an identity token", remedy))
    }
}

text_serde!(IdentityTokenId);

impl Audience {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is this resource.
    pub fn is_resource(&self, resource: &ResourceId) -> bool {
        self.0 == *resource
    }
}

impl FromStr for Audience {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let remedy = "use the name of the app or the id of the resource that is called, like `release-bot`";
        text.parse().map(Self).map_err(|_| Invalid::new(text, "is nobody that a token can be shown to", remedy))
    }
}

text_type!(Audience);

impl TokenIssuer {
    const PREFIX: &str = "netpol:";

    pub fn of(history: &History) -> Self {
        Self(format!("{}{history}", Self::PREFIX))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenIssuer {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let history = text.strip_prefix(Self::PREFIX).and_then(|history| history.parse::<History>().ok());
        let remedy = "use `netpol:` and the history of the store";
        history.map(|history| Self::of(&history)).ok_or_else(|| Invalid::new(text, "is no issuer of ours", remedy))
    }
}

text_type!(TokenIssuer);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wish_that_makes_no_sense_is_refused_naming_the_field() {
        let cases = [
            (json!({}), "audience"),
            (json!({"audience": ""}), "audience"),
            (json!({"audience": ["a", "b"]}), "audience"),
            (json!({"audience": "*"}), "audience"),
            (json!({"audience": "a/../b"}), "audience"),
            (json!({"audience": "https://a"}), "audience"),
            (json!({"audience": "a", "lifetime": 29}), "lifetime"),
            (json!({"audience": "a", "lifetime": 3_601}), "lifetime"),
            (json!({"audience": "a", "lifetime": -1}), "lifetime"),
            (json!({"audience": "a", "lifetime": "300"}), "lifetime"),
            (json!({"audience": "a", "instance": "web"}), "instance"),
            (json!({"audience": "a", "instance": "web/x"}), "instance"),
            (json!({"audience": "a", "subject": "user:root"}), "subject"),
        ];
        for (request, field) in cases {
            assert_eq!(IdentityTokenSpec::from_json(request.clone()).expect_err(field).field, field, "{request}");
        }
        let spec = IdentityTokenSpec::from_json(json!({"audience": "a", "instance": "web/0"})).expect("a wish");
        assert_eq!((spec.lifetime.as_secs(), spec.audience.as_str()), (STANDARD_S, "a"));
    }

    #[test]
    fn an_issuer_is_of_one_history() {
        let history: History = "00ff00ff00ff00ff".parse().expect("history");
        let issuer = TokenIssuer::of(&history);
        assert_eq!(issuer.as_str().parse(), Ok(issuer.clone()));
        for text in ["", "netpol:", "00ff00ff00ff00ff", "netpol:x", "https://00ff00ff00ff00ff"] {
            assert!(text.parse::<TokenIssuer>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn what_is_printed_of_an_answer_is_not_the_token() {
        let token = IdentityToken {
            token: "secret".to_owned(),
            subject: "host:ci-1".parse().expect("subject"),
            audience: "release-bot".parse().expect("audience"),
            expires_at: Timestamp::now(),
            renew_at: Timestamp::now(),
            id: IdentityTokenId::new([7; 16]),
        };
        let shown = format!("{token:?}");
        assert!(!shown.contains("secret") && shown.contains("ci-1"), "{shown}");
    }
}
