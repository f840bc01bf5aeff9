//! The provider's published keys (JWKS), from a file or by HTTPS: kept in memory, few of them, and read again when they
//! are old or when a token names one that is not among them.

use std::{
    collections::HashMap,
    fmt, io,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::Value;
use tracing::warn;

use crate::model::Invalid;

/// Where the keys are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    File(PathBuf),
    /// And the certificates that its server is known by.
    Url(reqwest::Url, PathBuf),
}

/// What keeps keys from being read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{place}: {why}")]
    Unreadable { place: String, why: String },
}

/// A key that may have signed.
pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    /// The one way in which it signs, where its publisher says so.
    pub(super) algorithm: Option<Algorithm>,
}

/// The keys, as they were when last read.
pub(super) struct Keys {
    source: KeySource,
    known: RwLock<Known>,
    /// When somebody last tried to read them. Held while they are read: nobody reads twice at a time.
    tried: tokio::sync::Mutex<Instant>,
}

struct Known {
    keys: HashMap<String, Arc<Key>>,
    read: Instant,
}

/// After this they are read again: so long a key counts that its publisher has taken back.
const FRESH: Duration = Duration::from_secs(300);
/// After this they count no longer, whatever keeps them from being read.
const GOOD: Duration = Duration::from_secs(24 * 3_600);
/// Between two readings: whoever names keys that do not exist must not make us a burden to the provider.
const PAUSE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 1 << 20;
const MOST_KEYS: usize = 64;

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
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url, _) => url.fmt(f),
        }
    }
}

impl Keys {
    pub(super) async fn read(source: KeySource) -> Result<Self, KeysError> {
        let keys = read(&source).await?;
        let now = Instant::now();
        Ok(Self { source, known: RwLock::new(Known { keys, read: now }), tried: tokio::sync::Mutex::new(now) })
    }

    /// The key of this name. One that is not known may have been published since.
    pub(super) async fn key(&self, id: &str) -> Option<Arc<Key>> {
        match self.find(id) {
            (Some(key), age) if age < FRESH => return Some(key),
            // Somebody else reads them already: until then what was known is good enough.
            (Some(key), age) if age < GOOD && self.tried.try_lock().is_err() => return Some(key),
            (Some(_) | None, _) => {}
        }
        let mut tried = self.tried.lock().await;
        if tried.elapsed() >= PAUSE {
            *tried = Instant::now();
            match read(&self.source).await {
                Ok(keys) => self.replace(keys),
                Err(error) => warn!(%error, "cannot read the provider's keys; going on with those that are known"),
            }
        }
        let (key, age) = self.find(id);
        key.filter(|_| age < GOOD)
    }

    fn find(&self, id: &str) -> (Option<Arc<Key>>, Duration) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.keys.get(id).cloned(), known.read.elapsed())
    }

    fn replace(&self, keys: HashMap<String, Arc<Key>>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known { keys, read: Instant::now() };
    }
}

async fn read(source: &KeySource) -> Result<HashMap<String, Arc<Key>>, KeysError> {
    let unreadable = |why: String| KeysError::Unreadable { place: source.to_string(), why };
    let reading = async {
        match source {
            KeySource::File(path) => tokio::fs::read(path).await.map_err(|source| at(path, source)),
            KeySource::Url(url, path) => {
                let ca = tokio::fs::read(path).await.map_err(|source| at(path, source))?;
                let tls = believing(&ca).ok_or_else(|| at(path, no_certificates()))?;
                fetch(url, tls)
                    .await
                    .map_err(|error| unreadable(error.to_string()))?
                    .ok_or_else(|| unreadable("is too large".to_owned()))
            }
        }
    };
    let bytes =
        tokio::time::timeout(PATIENCE, reading).await.map_err(|_| unreadable("does not answer".to_owned()))??;
    let set: Value = serde_json::from_slice(&bytes).map_err(|_| unreadable("is no set of keys (JWKS)".to_owned()))?;
    let keys: HashMap<_, _> = published(&set).take(MOST_KEYS).collect();
    if keys.is_empty() { Err(unreadable("has no key that can sign".to_owned())) } else { Ok(keys) }
}

fn at(path: &std::path::Path, source: io::Error) -> KeysError {
    KeysError::File { path: path.to_owned(), source }
}

fn no_certificates() -> io::Error {
    io::Error::other("holds no certificates that a server could be known by")
}

/// Believes servers by these certificates, and by no others.
fn believing(ca_pem: &[u8]) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(ca_pem).filter_map(Result::ok).collect();
    roots.add_parsable_certificates(certificates);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    (!roots.is_empty()).then(|| config.with_root_certificates(roots).with_no_client_auth())
}

/// The body of an answer; none if it is larger than keys are.
async fn fetch(url: &reqwest::Url, tls: ClientConfig) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let mut answer = client.get(url.clone()).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await? {
        body.extend_from_slice(&part);
        if body.len() > LARGEST {
            return Ok(None);
        }
    }
    Ok(Some(body))
}

/// The keys of a set that can sign; of a kind that nobody knows, or for something else, they are left out.
fn published(set: &Value) -> impl Iterator<Item = (String, Arc<Key>)> {
    let keys = set.get("keys").and_then(Value::as_array).into_iter().flatten();
    keys.filter_map(|key| {
        let key: Jwk = serde_json::from_value(key.clone()).ok()?;
        // A shared secret proves nothing: whoever checks by it could have signed.
        let is_public = !matches!(key.algorithm, AlgorithmParameters::OctetKey(_));
        let signs = key.common.public_key_use.as_ref().is_none_or(|wanted| *wanted == PublicKeyUse::Signature);
        let decoding = DecodingKey::from_jwk(&key).ok().filter(|_| is_public && signs)?;
        let algorithm = match key.common.key_algorithm {
            None => None,
            Some(algorithm) => Some(algorithm.to_string().parse().ok()?),
        };
        Some((key.common.key_id?, Arc::new(Key { decoding, algorithm })))
    })
}
