//! Whether a token is one of ours that is good now: for those who ask us instead of checking by themselves.

use super::{Broker, revoked_in};
use crate::{
    jose::{Algorithm, Key, TokenError, Unverified},
    model::{IdentityClaims, TokenIssuer},
};

/// Why a token proves nothing. For the log: whoever guesses is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("it is of another store")]
    Issuer,
    #[error("it is not good at this time")]
    Time,
    #[error("it is revoked")]
    Revoked,
}

/// How far clocks of other APIs may be from ours.
const LEEWAY_S: i64 = 5;

impl Broker {
    /// What a token of ours says that is good now; for whom it is, its reader has to look at.
    pub fn verify(&self, token: &str) -> Result<IdentityClaims, Unproven> {
        let token = Unverified::read(token)?;
        let published = self.published().keys.into_iter().find(|key| key.kid.as_str() == token.key_id());
        let jwk = published.and_then(|key| serde_json::to_value(key).ok()).ok_or(TokenError::UnknownKey)?;
        let (_, key) = Key::of_jwk(&jwk).ok_or(TokenError::UnknownKey)?;
        let claims: IdentityClaims = token.verify(&key, &[Algorithm::EdDsa])?.read()?;
        self.judge(&claims).map(|()| claims)
    }

    fn judge(&self, claims: &IdentityClaims) -> Result<(), Unproven> {
        let now = self.now().unix_seconds();
        if claims.exp <= now || claims.nbf > now + LEEWAY_S {
            return Err(Unproven::Time);
        }
        self.store.read(|state| {
            if claims.iss != TokenIssuer::of(state.history()) {
                return Err(Unproven::Issuer);
            }
            if revoked_in(state).contains(claims) { Err(Unproven::Revoked) } else { Ok(()) }
        })
    }
}
