//! Users whom an OpenID provider vouches for: a signed token, of this issuer, for us, good now, and what its claims grant.
//!
//! How a token is read and believed is [`jose`](crate::jose)'s to know. Knows neither HTTP requests nor the store's state.

use std::{str::FromStr, time::Duration};

use tracing::debug;

use crate::{
    jose::{Algorithm, Beginning, Claims, Expected, KeySet, Unverified},
    model::{Grant, Grants, Invalid, Timestamp},
    store::User,
};

pub use crate::jose::{KeySource, KeysError};

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
    keys: KeySet,
}

/// How far the provider's clock may be from ours.
const LEEWAY: Duration = Duration::from_secs(30);

impl Provider {
    /// Reads the keys once, so that a provider that cannot be read is noticed at the start.
    pub async fn new(config: ProviderConfig) -> Result<Self, KeysError> {
        let keys = KeySet::read(config.keys.clone()).await?;
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

    async fn judge(&self, token: &str, now: Timestamp) -> Result<User, String> {
        let token = Unverified::read(token).map_err(|why| why.to_string())?;
        let key = self.keys.key(token.key_id()).await.map_err(|error| error.to_string())?;
        let key = key.ok_or("nobody knows the key that it names")?;
        let claims = token.verify(&key, &Algorithm::ALL).map_err(|why| why.to_string())?;
        let ProviderConfig { issuer, audience, .. } = &self.config;
        let expected = Expected { issuer, audience, leeway: LEEWAY, beginning: Beginning::Optional };
        let validity = claims.expect(&expected, now).map_err(|why| why.to_string())?;
        let subject = claims.subject().map_err(|why| why.to_string())?.to_owned();
        Ok(User::Vouched { subject, grants: self.grants(&claims), until: validity.until })
    }

    fn grants(&self, claims: &Claims) -> Grants {
        let values = claims.values(&self.config.claim);
        let given = self.config.roles.iter().filter(|role| values.contains(&role.value.as_str()));
        given.map(|role| role.grant.clone()).collect()
    }
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
}
