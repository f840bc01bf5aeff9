//! What tests of authorities share: keys that sign, tokens of any shape, and small real servers that answer.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use policy_api::model::Timestamp;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use super::{Answer, Authority, Credential, Denial, Outage, Privilege, Question, Resource, Scheme};

/// A key that signs, and its name.
pub(crate) struct Signer {
    pub(crate) id: String,
    pair: rcgen::KeyPair,
    algorithm: Algorithm,
}

impl Signer {
    /// As our broker signs.
    pub(crate) fn ed25519(byte: u8) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        Self { id: format!("{byte:02x}").repeat(16), pair, algorithm: Algorithm::EdDSA }
    }

    /// As providers sign.
    pub(crate) fn p256(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        Self { id: id.to_owned(), pair, algorithm: Algorithm::ES256 }
    }

    pub(crate) fn public(&self) -> &[u8] {
        self.pair.public_key_raw()
    }

    pub(crate) fn published(&self) -> Value {
        let point = self.public();
        if self.algorithm == Algorithm::EdDSA {
            let x = URL_SAFE_NO_PAD.encode(point);
            return json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x, "use": "sig", "alg": "EdDSA"});
        }
        let [x, y] = [&point[1..33], &point[33..65]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id, "x": x, "y": y})
    }

    pub(crate) fn header(&self) -> Value {
        let algorithm = if self.algorithm == Algorithm::EdDSA { "EdDSA" } else { "ES256" };
        json!({"alg": algorithm, "kid": self.id, "typ": "JWT"})
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs whatever stands there, as it stands there.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let key = self.pair.serialize_der();
        let key = if self.algorithm == Algorithm::EdDSA {
            EncodingKey::from_ed_der(&key)
        } else {
            EncodingKey::from_ec_der(&key)
        };
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, self.algorithm).expect("signed");
        format!("{signed}.{signature}")
    }
}

/// A token of another kind of signature: HS256 by this secret.
pub(crate) fn hmac(secret: &[u8], header: &Value, claims: &Value) -> String {
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("signed");
    format!("{signed}.{signature}")
}

pub(crate) fn in_seconds(seconds: i64) -> i64 {
    Timestamp::now().unix_seconds() + seconds
}

/// The claims with one of them replaced, or taken away by null.
pub(crate) fn but(claims: &Value, member: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    if value.is_null() {
        claims.as_object_mut().expect("an object").remove(member);
    } else {
        claims[member] = value;
    }
    claims
}

/// What an authority says of a token, in a word.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Allowed(String),
    Denied(Denial),
    NotMine,
    Unavailable(Outage),
}

pub(crate) async fn asked(authority: &dyn Authority, scheme: Scheme, token: &str, privilege: &str) -> Said {
    let privilege: Privilege = privilege.parse().expect("a privilege");
    let resource: Resource = RESOURCE.parse().expect("a resource");
    let credential = Credential { scheme, token };
    match authority.check(Question { credential, privilege: &privilege, resource: &resource }).await {
        Answer::Allow(permit) => Said::Allowed(permit.subject.as_str().to_owned()),
        Answer::Deny(denial) => Said::Denied(denial),
        Answer::Forbid(_) => Said::Denied(Denial::NotPermitted),
        Answer::NotMine => Said::NotMine,
        Answer::Unavailable(outage) => Said::Unavailable(outage),
    }
}

pub(crate) const RESOURCE: &str = "production/release-bot";

/// A server that answers each request by what it is told, and keeps what it was asked.
pub(crate) struct Server {
    pub(crate) url: String,
    /// Of a server that speaks TLS: what it is known by.
    pub(crate) certificate: String,
    asked: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
}

type Answering = Arc<dyn Fn(&str) -> (u16, String) + Send + Sync>;

impl Server {
    /// In the clear, on this machine.
    pub(crate) async fn plain(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(answer)).await
    }

    /// By TLS, as `localhost`.
    pub(crate) async fn tls(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.expect("a config")));
        let started = Self::start(Some(acceptor), Arc::new(answer)).await;
        Self { certificate: cert.pem(), ..started }
    }

    async fn start(acceptor: Option<tokio_rustls::TlsAcceptor>, answer: Answering) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (asked, count) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let url = match acceptor {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let (kept, counted) = (asked.clone(), count.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, kept, counted, acceptor) =
                    (answer.clone(), kept.clone(), counted.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let answer = |head: &str| {
                        counted.fetch_add(1, Ordering::SeqCst);
                        kept.lock().expect("nobody panics").push(head.to_owned());
                        answer(head)
                    };
                    match acceptor {
                        None => serve(stream, answer).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { url, certificate: String::new(), asked, count }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// The head of the last request.
    pub(crate) fn last(&self) -> String {
        self.asked.lock().expect("nobody panics").last().cloned().unwrap_or_default()
    }
}

/// One request per connection; a status of 0 hangs up without an answer.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: impl Fn(&str) -> (u16, String)) {
    let mut head = Vec::new();
    let mut buffer = [0; 4_096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => head.extend_from_slice(&buffer[..read]),
            Ok(0) | Err(_) => return,
        }
    }
    let (status, body) = answer(&String::from_utf8_lossy(&head));
    if status != 0 {
        let answer =
            format!("HTTP/1.1 {status} Said\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _sent = stream.write_all(answer.as_bytes()).await;
        let _closed = stream.shutdown().await;
    }
}
