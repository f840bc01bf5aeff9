//! Whether a token is one of ours that is good now: for those who ask us instead of checking by themselves.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};

use super::{Broker, revoked_in};
use crate::model::{IdentityClaims, SignerKeyId, TokenIssuer};

/// Why a token proves nothing. For the log: whoever guesses is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("it cannot be read")]
    Unreadable,
    #[error("its signature is of a kind that does not count")]
    Algorithm,
    #[error("nobody knows the key that it names")]
    Key,
    #[error("its signature is not right")]
    Signature,
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
        let header = decode_header(token).map_err(|_| Unproven::Unreadable)?;
        if header.alg != Algorithm::EdDSA {
            return Err(Unproven::Algorithm);
        }
        let id: SignerKeyId = header.kid.as_deref().and_then(|kid| kid.parse().ok()).ok_or(Unproven::Key)?;
        let keys = self.published().keys;
        let key = keys.iter().find(|key| key.kid == id).ok_or(Unproven::Key)?;
        let key = DecodingKey::from_ed_components(key.x.as_str()).map_err(|_| Unproven::Key)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.required_spec_claims.clear();
        // Looked at below, by our clock; the audience by who asks.
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let claims = decode::<IdentityClaims>(token, &key, &validation).map_err(|_| Unproven::Signature)?.claims;
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
