//! An issuer's published keys (JWKS), from a file or by HTTPS: kept in memory, few of them, and read again when they are old
//! or when a token names one that is not among them, but never twice within a pause.

use std::{
    collections::HashMap,
    fmt, io,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::Value;
use tracing::warn;

use super::Algorithm;
use crate::model::Invalid;

/// Where the keys are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    File(PathBuf),
    /// And the certificates that its server is known by.
    Url(reqwest::Url, PathBuf),
    /// Where the issuer's own description says (OpenID Connect Discovery); it has to be this issuer's.
    Discovered {
        issuer: String,
        description: reqwest::Url,
        ca: PathBuf,
    },
}

/// What keeps keys from being read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{place}: {why}")]
    Unreadable { place: String, why: String },
}

/// A public key, and the ways in which it may have signed.
#[derive(Clone)]
pub struct Key {
    decoding: DecodingKey,
    ways: Vec<Algorithm>,
}

/// How often keys are read, and for how long they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// After this they are read again: so long a key counts that its publisher has taken back.
    pub fresh: Duration,
    /// After this they count no longer, whatever keeps them from being read.
    pub good: Duration,
    /// Between two readings: whoever names keys that do not exist must not make us a burden to the issuer.
    pub pause: Duration,
}

/// The keys, as they were when last read.
pub struct KeySet {
    source: KeySource,
    pace: Pace,
    known: RwLock<Known>,
    /// When somebody last tried to read them. Held while they are read: nobody reads twice at a time.
    tried: tokio::sync::Mutex<Option<Instant>>,
}

/// None were read yet, where there is no time at which they were.
#[derive(Default)]
struct Known {
    keys: HashMap<String, Arc<Key>>,
    read: Option<Instant>,
}

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 1 << 20;
const MOST_KEYS: usize = 64;

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { fresh: seconds(300), good: seconds(24 * 3_600), pause: seconds(2) }
    }
}

impl KeySource {
    /// A path, or an `https` URL whose server is known by the certificates in this file.
    pub fn new(text: &str, ca: PathBuf) -> Result<Self, Invalid> {
        let remedy = "use the path of a file, or a URL that begins with `https://`";
        match text.split_once("://") {
            None => Ok(Self::File(PathBuf::from(text))),
            Some(("https", _)) => {
                let url = reqwest::Url::from_str(text).map_err(|_| Invalid::new(text, "is not a URL", remedy))?;
                Ok(Self::Url(url, ca))
            }
            Some(_) => Err(Invalid::new(text, "is nowhere that keys can be believed from", remedy)),
        }
    }

    /// What an issuer's description names, at `ISSUER/.well-known/openid-configuration`.
    pub fn discovered(issuer: &str, ca: PathBuf) -> Result<Self, Invalid> {
        let refuse = || {
            Invalid::new(issuer, "is no issuer that can be asked for its keys", "use a URL that begins with `https://`")
        };
        let place = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let description = reqwest::Url::from_str(&place).map_err(|_| refuse())?;
        if description.scheme() != "https" {
            return Err(refuse());
        }
        Ok(Self::Discovered { issuer: issuer.to_owned(), description, ca })
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url, _) => url.fmt(f),
            Self::Discovered { description, .. } => description.fmt(f),
        }
    }
}

impl KeySet {
    /// Reads them once, so that keys that cannot be read are noticed at the start.
    pub async fn read(source: KeySource) -> Result<Self, KeysError> {
        let keys = read(&source).await?;
        let set = Self::unread(source, Pace::default());
        *set.tried.lock().await = Some(Instant::now());
        set.replace(keys);
        Ok(set)
    }

    /// Reads none until a key is asked for.
    pub fn unread(source: KeySource, pace: Pace) -> Self {
        Self { source, pace, known: RwLock::default(), tried: tokio::sync::Mutex::new(None) }
    }

    /// The key of this name, if there is one. One that is not known may have been published since. An error, where keys were
    /// never read or count no longer, so that nobody knows whether there is one.
    pub async fn key(&self, id: &str) -> Result<Option<Arc<Key>>, KeysError> {
        match self.find(id) {
            (Some(key), Some(age)) if age < self.pace.fresh => return Ok(Some(key)),
            // Somebody else reads them already: until then what was known is good enough.
            (Some(key), Some(age)) if age < self.pace.good && self.tried.try_lock().is_err() => return Ok(Some(key)),
            (Some(_) | None, _) => {}
        }
        let mut tried = self.tried.lock().await;
        if tried.is_none_or(|tried| tried.elapsed() >= self.pace.pause) {
            *tried = Some(Instant::now());
            match read(&self.source).await {
                Ok(keys) => self.replace(keys),
                Err(error) => warn!(%error, "cannot read the issuer's keys; going on with those that are known"),
            }
        }
        match self.find(id) {
            (key, Some(age)) if age < self.pace.good => Ok(key),
            (_, Some(_) | None) => Err(KeysError::Unreadable {
                place: self.source.to_string(),
                why: "was not read for too long".to_owned(),
            }),
        }
    }

    fn find(&self, id: &str) -> (Option<Arc<Key>>, Option<Duration>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.keys.get(id).cloned(), known.read.map(|read| read.elapsed()))
    }

    fn replace(&self, keys: HashMap<String, Arc<Key>>) {
        let known = Known { keys, read: Some(Instant::now()) };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

async fn read(source: &KeySource) -> Result<HashMap<String, Arc<Key>>, KeysError> {
    let unreadable = |why: &str| KeysError::Unreadable { place: source.to_string(), why: why.to_owned() };
    let reading = tokio::time::timeout(PATIENCE, bytes_of(source));
    let bytes = reading.await.map_err(|_| unreadable("does not answer"))??;
    let set: Value = serde_json::from_slice(&bytes).map_err(|_| unreadable("is no set of keys (JWKS)"))?;
    let published = set.get("keys").and_then(Value::as_array).into_iter().flatten();
    let keys: HashMap<_, _> =
        published.filter_map(Key::of_jwk).take(MOST_KEYS).map(|(id, key)| (id, Arc::new(key))).collect();
    if keys.is_empty() { Err(unreadable("has no key that can sign")) } else { Ok(keys) }
}

async fn bytes_of(source: &KeySource) -> Result<Vec<u8>, KeysError> {
    match source {
        KeySource::File(path) => tokio::fs::read(path).await.map_err(|source| at(path, source)),
        KeySource::Url(url, ca) => fetch(url, &http(ca).await?).await,
        KeySource::Discovered { issuer, description, ca } => {
            let http = http(ca).await?;
            let described = fetch(description, &http).await?;
            fetch(&keys_of(issuer, &described).map_err(|why| unreadable(description, why))?, &http).await
        }
    }
}

/// Where a description says that the keys are. It has to be the issuer's own, or anybody's could stand for it.
fn keys_of(issuer: &str, described: &[u8]) -> Result<reqwest::Url, &'static str> {
    let described: Value = serde_json::from_slice(described).map_err(|_| "is no description of an issuer")?;
    if described.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("describes another issuer");
    }
    let place = described.get("jwks_uri").and_then(Value::as_str).and_then(|place| reqwest::Url::parse(place).ok());
    place.filter(|place| place.scheme() == "https").ok_or("names no `https` place of its keys")
}

fn unreadable(place: &reqwest::Url, why: impl Into<String>) -> KeysError {
    KeysError::Unreadable { place: place.to_string(), why: why.into() }
}

fn at(path: &std::path::Path, source: io::Error) -> KeysError {
    KeysError::File { path: path.to_owned(), source }
}

fn no_certificates() -> io::Error {
    io::Error::other("holds no certificates that a server could be known by")
}

/// Believes servers by these certificates, and by no others; none if there are none.
pub fn believing(ca_pem: &[u8]) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(ca_pem).filter_map(Result::ok).collect();
    roots.add_parsable_certificates(certificates);
    (!roots.is_empty()).then(|| config(roots))
}

/// Believes no server: for who speaks no TLS, and must not depend on who else is in the process.
pub fn believing_nobody() -> ClientConfig {
    config(RootCertStore::empty())
}

fn config(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config.expect("ring has the standard versions' ciphers").with_root_certificates(roots).with_no_client_auth()
}

/// What asks over TLS whom these certificates name, and never anybody else.
async fn http(ca: &std::path::Path) -> Result<reqwest::Client, KeysError> {
    let pem = tokio::fs::read(ca).await.map_err(|source| at(ca, source))?;
    let tls = believing(&pem).ok_or_else(|| at(ca, no_certificates()))?;
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).https_only(true).no_proxy();
    let client = client.redirect(reqwest::redirect::Policy::none()).build();
    client.map_err(|error| at(ca, io::Error::other(error)))
}

/// The body of an answer, if it is no larger than keys are.
async fn fetch(url: &reqwest::Url, http: &reqwest::Client) -> Result<Vec<u8>, KeysError> {
    let failed = |error: reqwest::Error| unreadable(url, error.to_string());
    let answer = http.get(url.clone()).send().await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(unreadable(url, format!("answers with status {}", answer.status())));
    }
    let (mut answer, mut body) = (answer, Vec::new());
    while let Some(part) = answer.chunk().await.map_err(failed)? {
        body.extend_from_slice(&part);
        if body.len() > LARGEST {
            return Err(unreadable(url, "is too large"));
        }
    }
    Ok(body)
}

impl Key {
    /// A published key and its name. None, where it is of a kind that nobody knows, for something else, or a shared secret:
    /// that proves nothing, as whoever checks by it could have signed.
    pub fn of_jwk(key: &Value) -> Option<(String, Self)> {
        let key: Jwk = serde_json::from_value(key.clone()).ok()?;
        let is_for_signatures =
            key.common.public_key_use.as_ref().is_none_or(|wanted| *wanted == PublicKeyUse::Signature);
        let verifies = key.common.key_operations.as_ref().is_none_or(|wanted| wanted.contains(&KeyOperations::Verify));
        if !is_for_signatures || !verifies {
            return None;
        }
        let ways = match &key.algorithm {
            AlgorithmParameters::RSA(_) => vec![Algorithm::Rs256, Algorithm::Ps256],
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => vec![Algorithm::Es256],
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => vec![Algorithm::Es384],
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDsa],
            AlgorithmParameters::EllipticCurve(_) | AlgorithmParameters::OctetKeyPair(_) => return None,
            AlgorithmParameters::OctetKey(_) => return None,
        };
        let ways = match key.common.key_algorithm {
            None => ways,
            Some(only) => {
                let only: Algorithm = only.to_string().parse().ok()?;
                ways.into_iter().filter(|way| *way == only).collect()
            }
        };
        let decoding = DecodingKey::from_jwk(&key).ok()?;
        let id = key.common.key_id.filter(|_| !ways.is_empty())?;
        Some((id, Self { decoding, ways }))
    }

    pub(super) fn signs_by(&self, algorithm: Algorithm) -> bool {
        self.ways.contains(&algorithm)
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}
