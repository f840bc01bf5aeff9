//! The keys that identity tokens are signed with: what everybody may know of them, what is kept sealed, and when the next
//! one is due.
//!
//! A key is made long before it signs, so that who checks signatures knows it by then, and is known until the last token
//! that it signed has ended. Pure: times are arguments, and what a sealed key holds is the broker's business.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    hex::{from_hex, hex},
    history::Revision,
    identity_token::LONGEST_LIFETIME,
    invalid::{Invalid, text_serde, text_type},
    time::Timestamp,
};

/// What names a key (`kid`): the beginning of the SHA-256 of its public half, 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignerKeyId(String);

/// The public half of a key, as a JWK has it in `x`: 32 bytes in base64url, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(String);

/// The private half, for whoever has the key that it was sealed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

/// A key of the signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerKey {
    pub id: SignerKeyId,
    pub public: PublicKey,
    /// For the policy API alone: nobody is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
    pub signs_from: Timestamp,
    /// From then on the next key signs.
    pub signs_until: Timestamp,
    /// When the last token that it can have signed has ended: nobody is told of it any more.
    pub expires_at: Timestamp,
    pub revision: Revision,
}

/// A new key, before it is known from when on it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSignerKey {
    pub id: SignerKeyId,
    pub public: PublicKey,
    pub sealed: Sealed,
    /// How long it is to sign.
    pub lifetime: Duration,
}

/// When the next key is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Now; it signs from then on.
    Now {
        signs_from: Timestamp,
    },
    At(Timestamp),
}

/// How far clocks of those who check may be behind.
const LEEWAY: Duration = Duration::from_secs(60);

/// How long before it signs a key is made and published: half of what one signs, so that an API that was away for less
/// than that has a key that everybody knows when it is back.
pub fn published_ahead(lifetime: Duration) -> Duration {
    lifetime / 2
}

/// When the next key is due, of those that there are.
pub fn next_key<'a>(keys: impl IntoIterator<Item = &'a SignerKey>, now: Timestamp, lifetime: Duration) -> Due {
    let last = keys.into_iter().map(|key| key.signs_until).max();
    let Some(last) = last.filter(|last| *last > now) else { return Due::Now { signs_from: now } };
    match last.before(published_ahead(lifetime)) {
        Some(due) if due > now => Due::At(due),
        Some(_) | None => Due::Now { signs_from: last },
    }
}

/// The key that signs now. A clock that was set back finds the oldest one rather than none.
pub fn signing_key<'a>(keys: impl IntoIterator<Item = &'a SignerKey> + Clone, now: Timestamp) -> Option<&'a SignerKey> {
    let signs = |key: &&SignerKey| key.signs_from <= now && now < key.signs_until;
    let current = keys.clone().into_iter().filter(signs).max_by_key(|key| key.signs_from);
    current.or_else(|| keys.into_iter().filter(|key| now < key.signs_from).min_by_key(|key| key.signs_from))
}

impl SignerKey {
    /// What others are told of it.
    pub fn without_secret(&self) -> Self {
        Self { sealed: None, ..self.clone() }
    }
}

impl NewSignerKey {
    /// The key, as it stands when it is known from when on it signs; nothing if there is no such time.
    pub fn signing_from(&self, signs_from: Timestamp, revision: Revision) -> Option<SignerKey> {
        let signs_until = signs_from.after(self.lifetime)?;
        Some(SignerKey {
            id: self.id.clone(),
            public: self.public.clone(),
            sealed: Some(self.sealed.clone()),
            signs_from,
            signs_until,
            expires_at: signs_until.after(LONGEST_LIFETIME + LEEWAY)?,
            revision,
        })
    }
}

impl SignerKeyId {
    const DIGITS: usize = 32;

    /// What names the key with this public half.
    pub fn of(public: &[u8]) -> Self {
        Self(hex(&Sha256::digest(public))[..Self::DIGITS].to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SignerKeyId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = text.len() == Self::DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| Self(text.to_owned()))
            .ok_or_else(|| Invalid::new(text, "names no key of the signer", "use 32 hexadecimal digits"))
    }
}

text_type!(SignerKeyId);

impl PublicKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const LETTERS: usize = 43;
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let fits = text.len() == LETTERS && text.bytes().all(is_letter);
        fits.then(|| Self(text.to_owned()))
            .ok_or_else(|| Invalid::new(text, "is no public key", "use 32 bytes in base64url, without padding"))
    }
}

text_type!(PublicKey);

impl Sealed {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Sealed {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = || Invalid::of("the text", "is nothing that was sealed", "use hexadecimal digits");
        from_hex(text).filter(|_| text.len().is_multiple_of(2)).map(Self).ok_or_else(refuse)
    }
}

text_serde!(Sealed);

/// A public key, as others read it (RFC 7517, RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    pub kid: SignerKeyId,
    pub x: PublicKey,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// `EdDSA`.
    pub alg: String,
}

/// The public keys that tokens may be signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct JwkSet {
    pub keys: Vec<Jwk>,
}

impl From<&SignerKey> for Jwk {
    fn from(key: &SignerKey) -> Self {
        let [kty, crv, usage, alg] = ["OKP", "Ed25519", "sig", "EdDSA"].map(str::to_owned);
        Self { kty, crv, kid: key.id.clone(), x: key.public.clone(), usage, alg }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(hours: i64) -> Timestamp {
        Timestamp::of_unix_milliseconds(1_700_000_000_000 + hours * 3_600_000).expect("a time")
    }

    fn key(from: i64) -> SignerKey {
        let public = [u8::try_from(from % 251).expect("small"); 32];
        let new = NewSignerKey {
            id: SignerKeyId::of(&public),
            public: "A".repeat(43).parse().expect("a key"),
            sealed: Sealed::new(vec![1, 2]),
            lifetime: DAY,
        };
        new.signing_from(at(from), Revision(1)).expect("a key")
    }

    fn signs_at(keys: &[SignerKey], hours: i64) -> Option<Timestamp> {
        signing_key(keys, at(hours)).map(|key| key.signs_from)
    }

    #[test]
    fn the_next_key_is_made_half_a_life_before_it_signs() {
        assert_eq!(next_key([], at(0), DAY), Due::Now { signs_from: at(0) });
        let first = [key(0)];
        assert_eq!(next_key(&first, at(11), DAY), Due::At(at(12)));
        assert_eq!(next_key(&first, at(12), DAY), Due::Now { signs_from: at(24) });
        let both = [key(0), key(24)];
        assert_eq!(next_key(&both, at(12), DAY), Due::At(at(36)));
        assert_eq!((signs_at(&both, 23), signs_at(&both, 24)), (Some(at(0)), Some(at(24))));
    }

    #[test]
    fn after_a_long_absence_the_next_key_signs_at_once() {
        let old = [key(0)];
        assert_eq!(signs_at(&old, 24), None);
        assert_eq!(next_key(&old, at(100), DAY), Due::Now { signs_from: at(100) });
    }

    #[test]
    fn a_clock_that_is_set_back_finds_a_key() {
        assert_eq!(signs_at(&[key(24), key(0)], -1), Some(at(0)));
    }

    #[test]
    fn a_key_is_known_until_the_last_token_that_it_signed_has_ended() {
        let key = key(0);
        let last_token = key.signs_until.after(LONGEST_LIFETIME).expect("a time");
        assert!(key.expires_at > last_token);
    }

    #[test]
    fn what_is_told_of_a_key_and_what_is_printed_of_it_has_nothing_of_its_secret() {
        let key = key(0);
        assert!(serde_json::to_string(&key).expect("json").contains("\"0102\""));
        assert!(!serde_json::to_string(&key.without_secret()).expect("json").contains("sealed"));
        assert!(!format!("{key:?}").contains("0102") && !format!("{key:?}").contains("[1, 2]"));
        assert!("012".parse::<Sealed>().is_err() && "zz".parse::<Sealed>().is_err());
    }
}
