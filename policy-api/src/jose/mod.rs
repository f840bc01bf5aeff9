//! Signed tokens that others made (JWT, RFC 7519), and the keys that they publish (JWKS): read strictly, believed only as far
//! as a signature, an issuer, an audience and the time say.
//!
//! What a token says of itself chooses among what its reader allows, and nothing else: neither a key that it carries or
//! points to, nor a way of signing that its key was not published for. Knows no users, no requests and no store.

mod claims;
mod keys;
mod token;

use std::str::FromStr;

use crate::model::Invalid;

pub use self::{
    claims::{Beginning, Claims, Expected, Validity},
    keys::{Key, KeySet, KeySource, KeysError, Pace, believing, believing_nobody},
    token::{LONGEST_TOKEN, Unverified, claimed_issuer},
};

/// A way to sign that can count: never one by which whoever checks could have signed, and never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    EdDsa,
    Es256,
    Es384,
    Rs256,
    Ps256,
}

impl Algorithm {
    pub const ALL: [Self; 5] = [Self::EdDsa, Self::Es256, Self::Es384, Self::Rs256, Self::Ps256];

    /// As it stands in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
        }
    }
}

impl FromStr for Algorithm {
    type Err = Invalid;

    /// Names are exact: `none` has no other spelling here, as it has none at all.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|known| known.name() == text)
            .ok_or_else(|| Invalid::new(text, "is no signature that counts", "use EdDSA, ES256, ES384, RS256 or PS256"))
    }
}

/// Why a token is not believed. For logs and for whoever tries out a configuration; who guesses is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    #[error("it is longer than tokens are")]
    Oversized,
    #[error("it is no signed token")]
    Malformed,
    #[error("its header cannot be read, or says something twice")]
    Header,
    #[error("its claims cannot be read, or say something twice")]
    Claims,
    #[error("its signature is of a kind that does not count")]
    Algorithm,
    #[error("it says that members must be understood which are not")]
    Critical,
    #[error("it is a token for something else")]
    Type,
    #[error("it does not say which key signed it")]
    NoKeyId,
    #[error("nobody knows the key that it names")]
    UnknownKey,
    #[error("its key signs in another way")]
    OtherWay,
    #[error("its signature is not right")]
    Signature,
    #[error("its issuer is not right")]
    Issuer,
    #[error("its audience is not right")]
    Audience,
    #[error("it names nobody that can be written down")]
    Subject,
    #[error("its times are none, or are missing")]
    Times,
    #[error("it has expired")]
    Expired,
    #[error("it is not good yet")]
    NotYet,
}
