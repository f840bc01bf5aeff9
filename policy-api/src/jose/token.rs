//! A token as it came: taken apart, and not believed yet.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{Algorithm, Claims, Key, TokenError};
use crate::model::strict_json;

/// In bytes. Longer ones are refused before anything of them is decoded.
pub const LONGEST_TOKEN: usize = 8 << 10;
/// Longer names are no key's.
const LONGEST_KEY_ID: usize = 256;

/// A token whose form is right, and nothing more.
#[derive(Debug)]
pub struct Unverified<'a> {
    algorithm: Algorithm,
    key_id: String,
    claims: Map<String, Value>,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart: three parts of unpadded base64url, JSON in which nothing stands twice, a signature that can count, the
    /// name of a key, and no member that must be understood.
    pub fn read(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > LONGEST_TOKEN {
            return Err(TokenError::Oversized);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if claims.contains('.') || signature.is_empty() || URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(TokenError::Malformed);
        }
        let header = object(header).ok_or(TokenError::Header)?;
        let (algorithm, key_id) = understand(&header)?;
        let claims = object(claims).ok_or(TokenError::Claims)?;
        Ok(Self { algorithm, key_id, claims, signed, signature })
    }

    /// How it says that it was signed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Which key it says it was signed with: a name to look up, and never a place to look in.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Its claims, if this key signed them in a way that is allowed and that the key was published for.
    pub fn verify(self, key: &Key, allowed: &[Algorithm]) -> Result<Claims, TokenError> {
        if !allowed.contains(&self.algorithm) {
            return Err(TokenError::Algorithm);
        }
        if !key.signs_by(self.algorithm) {
            return Err(TokenError::OtherWay);
        }
        let good = jsonwebtoken::crypto::verify(
            self.signature,
            self.signed.as_bytes(),
            key.decoding(),
            self.algorithm.of_library(),
        );
        if good.unwrap_or(false) { Ok(Claims::new(self.claims)) } else { Err(TokenError::Signature) }
    }
}

/// Who a token says made it, whatever its header says. Only good for choosing who is to judge it.
pub fn claimed_issuer(text: &str) -> Option<String> {
    if text.len() > LONGEST_TOKEN {
        return None;
    }
    let claims = object(text.split('.').nth(1)?)?;
    claims.get("iss").and_then(Value::as_str).map(str::to_owned)
}

/// What the header says, as far as anybody asks. A key or a certificate that it carries or points to (`jwk`, `jku`, `x5c`, `x5u`)
/// is not looked at.
fn understand(header: &Map<String, Value>) -> Result<(Algorithm, String), TokenError> {
    if ["crit", "b64", "enc", "zip"].iter().any(|member| header.contains_key(*member)) {
        return Err(TokenError::Critical);
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(kind)) if ["jwt", "at+jwt"].contains(&kind.to_ascii_lowercase().as_str()) => {}
        Some(_) => return Err(TokenError::Type),
    }
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(TokenError::Algorithm)?;
    let algorithm = algorithm.parse().map_err(|_| TokenError::Algorithm)?;
    let key_id = header.get("kid").and_then(Value::as_str).ok_or(TokenError::NoKeyId)?;
    let fits = (1..=LONGEST_KEY_ID).contains(&key_id.len());
    if fits { Ok((algorithm, key_id.to_owned())) } else { Err(TokenError::UnknownKey) }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    match strict_json(&URL_SAFE_NO_PAD.decode(part).ok()?) {
        Ok(Value::Object(members)) => Some(members),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn read(header: &str, claims: &str) -> Result<(), TokenError> {
        Unverified::read(&format!("{}.{}.AAAA", part(header), part(claims))).map(drop)
    }

    #[test]
    fn what_its_header_says_is_taken_strictly() {
        assert_eq!(read(r#"{"alg":"EdDSA","kid":"a","typ":"JWT"}"#, "{}"), Ok(()));
        assert_eq!(
            read(r#"{"alg":"EdDSA","kid":"a","jwk":{},"jku":"https://evil","x5u":"https://evil","x5c":[]}"#, "{}"),
            Ok(())
        );
        for (header, why) in [
            (r#"{"alg":"none","kid":"a"}"#, TokenError::Algorithm),
            (r#"{"alg":"None","kid":"a"}"#, TokenError::Algorithm),
            (r#"{"alg":"HS256","kid":"a"}"#, TokenError::Algorithm),
            (r#"{"alg":["EdDSA"],"kid":"a"}"#, TokenError::Algorithm),
            (r#"{"kid":"a"}"#, TokenError::Algorithm),
            (r#"{"alg":"EdDSA"}"#, TokenError::NoKeyId),
            (r#"{"alg":"EdDSA","kid":7}"#, TokenError::NoKeyId),
            (r#"{"alg":"EdDSA","kid":""}"#, TokenError::UnknownKey),
            (r#"{"alg":"EdDSA","kid":"a","crit":["exp"]}"#, TokenError::Critical),
            (r#"{"alg":"EdDSA","kid":"a","b64":false}"#, TokenError::Critical),
            (r#"{"alg":"EdDSA","kid":"a","zip":"DEF"}"#, TokenError::Critical),
            (r#"{"alg":"EdDSA","kid":"a","typ":"JOSE+JSON"}"#, TokenError::Type),
            (r#"{"alg":"none","alg":"EdDSA","kid":"a"}"#, TokenError::Header),
            ("[]", TokenError::Header),
            ("", TokenError::Header),
        ] {
            assert_eq!(read(header, "{}"), Err(why), "{header}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_by_its_form() {
        let (header, claims) = (part(r#"{"alg":"EdDSA","kid":"a"}"#), part("{}"));
        for text in
            ["", ".", "..", "a.b.c", &header, &format!("{header}.{claims}"), &format!("{header}.{claims}.AAAA.AAAA")]
        {
            assert!(Unverified::read(text).is_err(), "{text}");
        }
        let refused = |text: &str| Unverified::read(text).err();
        assert_eq!(refused(&format!("{header}.{claims}.")), Some(TokenError::Malformed), "no signature");
        assert_eq!(refused(&format!("{header}.{claims}.A+/=")), Some(TokenError::Malformed), "another alphabet");
        assert_eq!(refused(&format!("{header}.{claims}.AAAB=")), Some(TokenError::Malformed), "padding");
        assert_eq!(refused(&format!("{header}=.{claims}.AAAA")), Some(TokenError::Header), "padding");
        let twice = part(r#"{"sub":"a","sub":"b"}"#);
        assert_eq!(refused(&format!("{header}.{twice}.AAAA")), Some(TokenError::Claims));
        let long = format!("{header}.{}.AAAA", "A".repeat(LONGEST_TOKEN));
        assert_eq!(refused(&long), Some(TokenError::Oversized));
    }
}
