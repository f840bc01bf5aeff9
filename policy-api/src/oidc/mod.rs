//! Users whom an OpenID provider vouches for: a signed token, of this issuer, for us, good now, and what its claims grant.
//!
//! Who signs is read off the provider's published keys ([`keys`]), never off the token; what the token says of itself
//! only chooses among them. Knows neither HTTP requests nor the store's state.

mod keys;

use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::Value;
use tracing::debug;

use self::keys::Keys;
use crate::{
    model::{Grant, Grants, Invalid, Timestamp},
    store::User,
};

pub use self::keys::{KeySource, KeysError};

/// What to believe of whom.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// Exactly what tokens say in `iss`.
    pub issuer: String,
    /// What they must be for: one of `aud`.
    pub audience: String,
    pub keys: KeySource,
    /// The claim that says what somebody is: a text, or a list of them; `a.b` is member `b` of `a`.
    pub claim: String,
    pub roles: Vec<RoleOf>,
}

/// A role, and the value of the claim that gives it: `shop-developers=writer:shop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleOf {
    value: String,
    grant: Grant,
}

impl FromStr for RoleOf {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse =
            || Invalid::new(text, "gives nobody a role", "use `VALUE=ROLE`, like `shop-developers=writer:shop`");
        // Roles have no `=`; what providers call their groups may.
        let (value, grant) = text.rsplit_once('=').filter(|(value, _)| !value.is_empty()).ok_or_else(refuse)?;
        let grant: Grant = grant.parse()?;
        if grant.stands_alone() {
            return Err(Invalid::new(text, "gives a person what is for machines", "give that to an API token"));
        }
        Ok(Self { value: value.to_owned(), grant })
    }
}

/// A provider whose word counts.
pub struct Provider {
    config: ProviderConfig,
    keys: Keys,
}

/// Signatures that count: none that whoever checks them could make, too.
const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
/// How far the provider's clock may be from ours.
const LEEWAY_S: i64 = 30;
/// Longer names are nobody's.
const LONGEST_SUBJECT: usize = 128;

impl Provider {
    /// Reads the keys once, so that a provider that cannot be read is noticed at the start.
    pub async fn new(config: ProviderConfig) -> Result<Self, KeysError> {
        let keys = Keys::read(config.keys.clone()).await?;
        Ok(Self { config, keys })
    }

    /// Whom a token lets in, if anybody. Why not is for the log; whoever guesses is not told.
    pub async fn user(&self, token: &str, now: Timestamp) -> Option<User> {
        match self.judge(token, now).await {
            Ok(user) => Some(user),
            Err(why) => {
                debug!(issuer = self.config.issuer, why, "a token of the provider is refused");
                None
            }
        }
    }

    async fn judge(&self, token: &str, now: Timestamp) -> Result<User, &'static str> {
        let header = decode_header(token).map_err(|_| "its header cannot be read")?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err("its signature is of a kind that does not count");
        }
        if names_critical_members(token) {
            return Err("it says that members must be understood which are not");
        }
        let id = header.kid.ok_or("it does not say which key signed it")?;
        let key = self.keys.key(&id).await.ok_or("nobody knows the key that it names")?;
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are looked at below, where one that is no number is none.
        validation.validate_exp = false;
        if key.algorithm.is_some_and(|algorithm| algorithm != header.alg) {
            return Err("its key signs in another way");
        }
        let claims = decode::<Value>(token, &key.decoding, &validation);
        let claims = claims.map_err(|_| "its signature or audience is not right")?.claims;
        // The library takes a list with ours among others.
        if claims.get("iss").and_then(Value::as_str) != Some(&self.config.issuer) {
            return Err("its issuer is not right");
        }
        let until = good_until(&claims, now)?;
        Ok(User::Vouched { subject: subject(&claims)?, grants: self.grants(&claims), until })
    }

    fn grants(&self, claims: &Value) -> Grants {
        let claim = self.config.claim.split('.').try_fold(claims, |at, member| at.get(member));
        let values: Vec<&str> = match claim {
            Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            Some(_) | None => Vec::new(),
        };
        let given = self.config.roles.iter().filter(|role| values.contains(&role.value.as_str()));
        given.map(|role| role.grant.clone()).collect()
    }
}

/// Whether the header lists members that a reader must understand: we understand none that may be listed.
fn names_critical_members(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    header.is_none_or(|header| header.get("crit").is_some())
}

/// When it ends, if it is good now.
fn good_until(claims: &Value, now: Timestamp) -> Result<Timestamp, &'static str> {
    let seconds = |claim: &Value| claim.as_u64().and_then(|seconds| i64::try_from(seconds).ok());
    let end = claims.get("exp").and_then(seconds).ok_or("its end is no time")?;
    if end <= now.unix_seconds() - LEEWAY_S {
        return Err("it has expired");
    }
    if let Some(start) = claims.get("nbf") {
        let start = seconds(start).ok_or("its beginning is no time")?;
        if start > now.unix_seconds() + LEEWAY_S {
            return Err("it is not good yet");
        }
    }
    let end = end.saturating_add(LEEWAY_S).saturating_mul(1_000);
    Timestamp::of_unix_milliseconds(end).ok_or("its end is no time")
}

fn subject(claims: &Value) -> Result<String, &'static str> {
    let subject = claims.get("sub").and_then(Value::as_str).ok_or("it names nobody")?;
    let fits = (1..=LONGEST_SUBJECT).contains(&subject.len()) && subject.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(subject.to_owned()) } else { Err("it names nobody that can be written down") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_given_by_a_value_of_the_claim() {
        let role: RoleOf = "cn=shop,dc=example=writer:shop".parse().expect("a role");
        assert_eq!((role.value.as_str(), role.grant.to_string().as_str()), ("cn=shop,dc=example", "writer:shop"));
        for text in ["", "shop", "=admin", "shop=root", "shop=", "ci=machine"] {
            assert!(text.parse::<RoleOf>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_time_that_is_no_number_is_none() {
        let now = Timestamp::of_unix_milliseconds(1_000_000_000).expect("a time");
        let at = |claims: Value| good_until(&claims, now).map(|until| until.unix_seconds());
        let (past, future) = (1_000_000 - 31, 1_000_000 + 31);
        assert_eq!(at(serde_json::json!({"exp": future})), Ok(future + LEEWAY_S));
        for claims in [
            serde_json::json!({}),
            serde_json::json!({"exp": past}),
            serde_json::json!({"exp": future.to_string()}),
            serde_json::json!({"exp": -1}),
            serde_json::json!({"exp": u64::MAX}),
            serde_json::json!({"exp": future, "nbf": future}),
            serde_json::json!({"exp": future, "nbf": "soon"}),
            serde_json::json!({"exp": future, "nbf": null}),
        ] {
            assert!(at(claims.clone()).is_err(), "{claims}");
        }
    }
}
