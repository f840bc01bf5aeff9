//! Signed tokens: whatever they say, nothing is believed that the key did not sign, and what is signed is believed no longer and
//! of nobody else than it says.
#![no_main]

use std::{sync::LazyLock, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use policy_api::{
    jose::{Algorithm, Beginning, Expected, Key, Unverified, claimed_issuer},
    model::Timestamp,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

const HEADER: &str = r#"{"alg":"EdDSA","kid":"a"}"#;
const NOW_S: i64 = 1_800_000_000;
const LEEWAY: Duration = Duration::from_secs(5);

static SIGNER: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed of 32 bytes"));

static KEY: LazyLock<Key> = LazyLock::new(|| {
    let x = URL_SAFE_NO_PAD.encode(SIGNER.public_key());
    Key::of_jwk(&json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x})).expect("a key").1
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _claimed = claimed_issuer(text);
        forged(text);
    }
    let mut parts = bytes.splitn(3, |&byte| byte == b'\n');
    let (Some(header), Some(claims)) = (parts.next(), parts.next()) else { return };
    let (encoded, said) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    forged(&format!("{encoded}.{said}.{}", URL_SAFE_NO_PAD.encode(parts.next().unwrap_or_default())));
    signed(&said);
});

/// Nobody has the key to sign these with.
fn forged(text: &str) {
    let Ok(token) = Unverified::read(text) else { return };
    assert!(!token.key_id().is_empty());
    assert!(token.verify(&KEY, &Algorithm::ALL).is_err(), "{text} was believed");
}

fn signed(claims: &str) {
    let signed = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(HEADER));
    let signature = URL_SAFE_NO_PAD.encode(SIGNER.sign(signed.as_bytes()));
    let text = format!("{signed}.{signature}");
    let Ok(token) = Unverified::read(&text) else { return };
    let claims = token.verify(&KEY, &[Algorithm::EdDsa]).expect("the key signed it");
    if let Ok(subject) = claims.subject() {
        assert!((1..=128).contains(&subject.len()) && subject.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let now = Timestamp::of_unix_milliseconds(NOW_S * 1_000).expect("a time");
    let expected = Expected { issuer: "me", audience: "you", leeway: LEEWAY, beginning: Beginning::Required };
    let Ok(validity) = claims.expect(&expected, now) else { return };
    assert!(validity.until > now);
    assert_eq!(claims.text("iss"), Some("me"));
    assert!(claims.values("aud").contains(&"you"));
}
