//! What names keys and tokens without being them.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use super::{
    hex::{bytes_of, hex},
    invalid::{Invalid, text_serde},
};

/// Which key a node proves itself by: the SHA-256 of the public key as certificates hold it (SPKI, DER).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 32]);

/// The SHA-256 of a token. No salt and no stretching: 256 random bits cannot be guessed from their hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

impl KeyId {
    pub fn of(public_key: &[u8]) -> Self {
        Self(Sha256::digest(public_key).into())
    }
}

impl TokenHash {
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Implements `Display`, `Debug`, `FromStr` and serde: 64 hexadecimal digits.
macro_rules! hash_type {
    ($name:ident, $names_none:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let refuse = || Invalid::of("the text", $names_none, "use 64 hexadecimal digits");
                bytes_of(text).map(Self).ok_or_else(refuse)
            }
        }

        text_serde!($name);
    };
}

hash_type!(KeyId, "names no key");
hash_type!(TokenHash, "is no hash of a token");

/// What the policy API sends to an underlay address, and takes for a proof that a node is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnderlayProof([u8; 32]);

impl UnderlayProof {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for UnderlayProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for UnderlayProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnderlayProof")
    }
}

impl FromStr for UnderlayProof {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let remedy = "send what came to the address";
        bytes_of(text).map(Self).ok_or_else(|| Invalid::of("the proof", "is none", remedy))
    }
}

text_serde!(UnderlayProof);

/// Which join token a node came with: the beginning of the token's hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(String);

impl TokenId {
    const DIGITS: usize = 16;

    /// Of a token that is a secret of 256 random bits: none of them can be told from this.
    pub fn of(token: &str) -> Self {
        Self(hex(&Sha256::digest(token.as_bytes()))[..Self::DIGITS].to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = text.len() == Self::DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| Self(text.to_owned()))
            .ok_or_else(|| Invalid::new(text, "names no token", "use 16 hexadecimal digits"))
    }
}

super::invalid::text_type!(TokenId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_key_survives_being_written_down() {
        let id = KeyId::of(b"a public key");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(id, KeyId::of(b"another"));
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_names_a_token_is_no_token() {
        let token = "00".repeat(32);
        let id = TokenId::of(&token);
        assert!(!token.contains(id.as_str()) && id.as_str().len() == 16);
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
