//! One key of the signer, made, sealed, opened and used.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};

use super::{BrokerError, seal::SealKey};
use crate::model::{IdentityClaims, NewSignerKey, PublicKey, SignerKey, SignerKeyId};

/// A key that signs.
pub(super) struct SigningKey {
    id: SignerKeyId,
    key: EncodingKey,
}

/// Makes a key that nobody but who has the seal key can use.
pub(super) fn generate(seal: &SealKey, lifetime: Duration) -> Result<NewSignerKey, BrokerError> {
    let failed = |_| BrokerError::Key("no random numbers");
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(failed)?;
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| BrokerError::Key("it cannot be read back"))?;
    let public = pair.public_key().as_ref();
    let id = SignerKeyId::of(public);
    let text: PublicKey =
        URL_SAFE_NO_PAD.encode(public).parse().map_err(|_| BrokerError::Key("its public half has another size"))?;
    let sealed = seal.seal(&name(&id, &text), pkcs8.as_ref()).ok_or(BrokerError::Key("no random numbers"))?;
    Ok(NewSignerKey { id, public: text, sealed, lifetime })
}

/// What a private half is sealed for: its own public half, so that none passes for another's.
fn name(id: &SignerKeyId, public: &PublicKey) -> Vec<u8> {
    [b"netpol signer key\0", id.as_str().as_bytes(), b"\0", public.as_str().as_bytes()].concat()
}

/// The private half, as PKCS #8; nothing if it was not sealed with this seal key.
pub(super) fn secret(seal: &SealKey, key: &SignerKey) -> Option<Vec<u8>> {
    seal.open(&name(&key.id, &key.public), key.sealed.as_ref()?)
}

impl SigningKey {
    /// Opens a key; nothing if it was not sealed with this seal key.
    pub(super) fn open(seal: &SealKey, key: &SignerKey) -> Option<Self> {
        Some(Self { id: key.id.clone(), key: EncodingKey::from_ed_der(&secret(seal, key)?) })
    }

    pub(super) fn sign(&self, claims: &IdentityClaims) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { kid: Some(self.id.to_string()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &self.key)
    }
}
