//! The seal key: what private halves of the signer's keys are encrypted with before they go into the store. It lies beside the
//! store and never in it.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::model::{
    Sealed,
    hex::{from_hex, hex},
};

/// 256 random bits.
#[derive(Clone)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// A new one; nothing without random numbers.
    pub fn random() -> Option<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// As its file has it.
    pub fn from_text(text: &str) -> Option<Self> {
        from_hex(text.trim())?.try_into().ok().map(Self)
    }

    pub fn to_text(&self) -> String {
        hex(&self.0)
    }

    /// Seals a secret for what `name` says, and for nothing else; nothing without random numbers.
    pub(super) fn seal(&self, name: &[u8], secret: &[u8]) -> Option<Sealed> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut bytes = secret.to_vec();
        let key = self.key();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut bytes).ok()?;
        Some(Sealed::new([&nonce[..], &bytes].concat()))
    }

    /// The secret; nothing if it was sealed with another key, for something else, or changed since.
    pub(super) fn open(&self, name: &[u8], sealed: &Sealed) -> Option<Vec<u8>> {
        let (nonce, bytes) = sealed.as_bytes().split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = bytes.to_vec();
        let secret =
            self.key().open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), &mut bytes).ok()?;
        Some(secret.to_vec())
    }

    fn key(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &self.0).expect("it takes 32 bytes"))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_its_key_and_for_its_name_alone() {
        let (ours, other) = (SealKey::random().expect("random"), SealKey::random().expect("random"));
        let sealed = ours.seal(b"a", b"secret").expect("sealed");
        assert_eq!(ours.open(b"a", &sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!((ours.open(b"b", &sealed), other.open(b"a", &sealed)), (None, None));
        let written = SealKey::from_text(&format!("{}\n", ours.to_text())).expect("read back");
        assert!(written.open(b"a", &sealed).is_some());
        for place in [0, NONCE_LEN, sealed.as_bytes().len() - 1] {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[place] ^= 1;
            assert_eq!(ours.open(b"a", &Sealed::new(bytes)), None, "byte {place} was changed");
        }
        assert_eq!(ours.open(b"a", &Sealed::new(vec![0; 5])), None);
    }

    #[test]
    fn what_is_no_seal_key_is_refused_and_one_is_never_printed() {
        for text in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(66)] {
            assert!(SealKey::from_text(text).is_none(), "{text}");
        }
        let key = SealKey::random().expect("random");
        assert!(!format!("{key:?}").contains(&key.to_text()));
    }
}
