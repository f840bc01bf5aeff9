//! Users whom an OpenID provider vouches for, and everything that looks like its word and is not.

use std::{path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use policy_api::{
    client::Client,
    model::Timestamp,
    oidc::{KeySource, ProviderConfig},
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{by, grants, owning, plain};
use crate::world::{MANY, Prepared, SOON, World, refusal, rule, until};

const ISSUER: &str = "https://id.example.org";
const AUDIENCE: &str = "netpol";

/// A key of a provider.
struct Signer {
    id: &'static str,
    pair: rcgen::KeyPair,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        Self { id, pair: rcgen::KeyPair::generate().expect("key") }
    }

    fn encoding(&self) -> EncodingKey {
        EncodingKey::from_ec_der(&self.pair.serialize_der())
    }

    /// As it is published: the two coordinates of its point on P-256.
    fn published(&self) -> Value {
        let point = self.pair.public_key_raw();
        let [x, y] = [&point[1..33], &point[33..65]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id, "x": x, "y": y})
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(self.header(), claims)
    }

    fn header(&self) -> Header {
        Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) }
    }

    fn sign_as(&self, header: Header, claims: &Value) -> String {
        encode(&header, claims, &self.encoding()).expect("signed")
    }
}

fn in_seconds(seconds: i64) -> i64 {
    Timestamp::now().unix_seconds() + seconds
}

/// What the provider says of a developer of the shop.
fn claims() -> Value {
    let (iat, exp) = (in_seconds(0), in_seconds(300));
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice@example.org", "iat": iat, "exp": exp, "groups": ["all", "shop"]})
}

fn with(member: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[member] = value;
    claims
}

fn without(member: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().expect("an object").remove(member);
    claims
}

fn publish(path: &PathBuf, keys: &[Value]) {
    let new = path.with_extension("new");
    std::fs::write(&new, json!({ "keys": keys }).to_string()).expect("written");
    std::fs::rename(new, path).expect("published");
}

fn provider(keys: KeySource) -> ProviderConfig {
    let roles = ["shop=writer:shop", "ops=operator"].map(|role| role.parse().expect("a role"));
    let (issuer, audience, claim) = (ISSUER.to_owned(), AUDIENCE.to_owned(), "groups".to_owned());
    ProviderConfig { issuer, audience, keys, claim, roles: roles.into() }
}

/// A world that believes these keys, and where they are published.
async fn world_believing(keys: &[Value]) -> (World, PathBuf) {
    let prepared = Prepared::new();
    let path = prepared.pki().join("jwks.json");
    publish(&path, keys);
    let prepared = prepared.believing(provider(KeySource::File(path.clone())));
    (World::of(prepared, Duration::from_secs(3_600), MANY).await, path)
}

async fn is_known(client: &Client) -> bool {
    client.who_am_i().await.is_ok()
}

#[tokio::test]
async fn whom_the_provider_vouches_for_may_what_his_claims_give() {
    let signer = Signer::new("one");
    let (world, _) = world_believing(&[signer.published()]).await;
    world.operator.set_team(&"shop".parse().expect("name"), &owning("shop-*", ""), &plain()).await.expect("team");
    let alice = by(&world, &signer.sign(&claims()));
    let me = alice.who_am_i().await.expect("known");
    assert_eq!((me.who.as_str(), me.grants), ("oidc/alice@example.org", grants("writer:shop")));
    assert!(me.expires_at.is_some());
    let written = alice.put_rule(&rule("allow shop-web shop-db 80"), &plain()).await.expect("its team's");
    assert_eq!(written.rule.created_by, "oidc/alice@example.org");
    assert_eq!(refusal(alice.put_rule(&rule("allow lone other 80"), &plain()).await).0, 403);
    let on_call = by(&world, &signer.sign(&with("groups", json!("ops all"))));
    on_call.put_rule(&rule("allow lone other 80"), &plain()).await.expect("an operator's");
    let stranger = by(&world, &signer.sign(&with("groups", json!(["all"]))));
    assert_eq!(
        refusal(stranger.status().await),
        (403, Some("Authorization".to_owned())),
        "he has no role, and reads nothing"
    );
    world.server.stop().await;
}

#[tokio::test]
async fn what_is_not_the_providers_word_for_us_and_now_lets_nobody_in() {
    let (signer, foreign) = (Signer::new("one"), Signer::new("one"));
    let (world, _) = world_believing(&[signer.published()]).await;
    let cases = [
        ("another issuer", signer.sign(&with("iss", json!("https://evil.example")))),
        ("another issuer beside ours", signer.sign(&with("iss", json!([ISSUER, "https://evil.example"])))),
        ("no issuer", signer.sign(&without("iss"))),
        ("another audience", signer.sign(&with("aud", json!("grafana")))),
        ("no audience", signer.sign(&without("aud"))),
        ("nobody", signer.sign(&without("sub"))),
        ("a name that redraws the terminal", signer.sign(&with("sub", json!("a\u{1b}[2J")))),
        ("over", signer.sign(&with("exp", json!(in_seconds(-60))))),
        ("without end", signer.sign(&without("exp"))),
        ("an end that is a text", signer.sign(&with("exp", json!(in_seconds(300).to_string())))),
        ("not yet", signer.sign(&with("nbf", json!(in_seconds(3_600))))),
        ("a beginning that is a text", signer.sign(&with("nbf", json!("0")))),
        ("another's key under its name", foreign.sign(&claims())),
        ("no name of a key", signer.sign_as(Header::new(Algorithm::ES256), &claims())),
    ];
    for (what, token) in cases {
        assert_eq!(refusal(by(&world, &token).status().await), (401, Some("Authorization".to_owned())), "{what}");
    }
    assert!(is_known(&by(&world, &signer.sign(&claims()))).await, "the same without a flaw");
    world.server.stop().await;
}

#[tokio::test]
async fn a_token_cannot_choose_how_it_is_checked() {
    let signer = Signer::new("one");
    let secret = json!({"kty": "oct", "kid": "shared", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode("secret")});
    let (world, _) = world_believing(&[signer.published(), secret]).await;
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let good = signer.sign(&claims());
    let (body, signature) = good.split_once('.').and_then(|(_, rest)| rest.split_once('.')).expect("a token");
    let under = |header: Value, signature: &str| format!("{}.{body}.{signature}", part(&header));
    let hmac = |id: &str, secret: &[u8]| {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims(), &EncodingKey::from_secret(secret)).expect("signed")
    };
    let critical = {
        // Signed as it stands: only that nobody understands the member is against it.
        let header = part(&json!({"alg": "ES256", "kid": "one", "crit": ["cap"], "cap": 1}));
        let text = format!("{header}.{body}");
        let signature =
            jsonwebtoken::crypto::sign(text.as_bytes(), &signer.encoding(), Algorithm::ES256).expect("signed");
        format!("{text}.{signature}")
    };
    let changed = part(&with("groups", json!(["ops"])));
    for (what, token) in [
        ("none", under(json!({"alg": "none", "kid": "one"}), "")),
        ("None", under(json!({"alg": "None", "kid": "one"}), signature)),
        ("no signature", under(json!({"alg": "ES256", "kid": "one"}), "")),
        ("the public key as a shared secret", hmac("one", signer.pair.public_key_raw())),
        ("a shared secret that is published", hmac("shared", b"secret")),
        ("another algorithm over the same key", under(json!({"alg": "RS256", "kid": "one"}), signature)),
        ("what must be understood", critical),
        ("another body", good.replacen(body, &changed, 1)),
        ("nothing but dots", "..".to_owned()),
        ("dots and letters", "a.b.c".to_owned()),
    ] {
        assert_eq!(refusal(by(&world, &token).status().await), (401, Some("Authorization".to_owned())), "{what}");
    }
    assert!(is_known(&by(&world, &good)).await);
    world.server.stop().await;
}

#[tokio::test]
async fn keys_that_are_published_later_count_and_those_that_are_taken_back_do_not() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let (world, path) = world_believing(&[old.published()]).await;
    let (by_old, by_new) = (by(&world, &old.sign(&claims())), by(&world, &new.sign(&claims())));
    assert!(is_known(&by_old).await && !is_known(&by_new).await);
    publish(&path, &[new.published()]);
    until("the new key is known", SOON, async || is_known(&by_new).await).await;
    assert!(!is_known(&by_old).await, "the old one was taken back");
    std::fs::write(&path, "half of").expect("written");
    let unknown = by(&world, &Signer::new("third").sign(&claims()));
    assert!(!is_known(&unknown).await && is_known(&by_new).await, "what cannot be read changes nothing");
    world.server.stop().await;
}

#[tokio::test]
async fn a_watch_ends_with_the_word_that_it_was_opened_by() {
    let signer = Signer::new("one");
    let (world, _) = world_believing(&[signer.published()]).await;
    // Half a minute of grace for the provider's clock is part of its word.
    let alice = by(&world, &signer.sign(&with("exp", json!(in_seconds(-27)))));
    let mut watch = alice.watch(policy_api::model::Revision::default(), None).await.expect("watch");
    let ended = tokio::time::timeout(SOON, async { while watch.next().await.is_ok() {} }).await;
    assert!(ended.is_ok() && !is_known(&alice).await);
    world.server.stop().await;
}

#[tokio::test]
async fn keys_come_by_https_from_a_server_that_is_known() {
    let signer = Signer::new("one");
    let (url, certificate) = serve(json!({"keys": [signer.published()]}).to_string()).await;
    let prepared = Prepared::new();
    let ca = prepared.pki().join("provider.pem");
    std::fs::write(&ca, certificate).expect("written");
    let keys = KeySource::new(&url, ca).expect("a source");
    let world = World::of(prepared.believing(provider(keys)), Duration::from_secs(3_600), MANY).await;
    assert!(is_known(&by(&world, &signer.sign(&claims()))).await);
    world.server.stop().await;

    let unknown = Prepared::new();
    let keys = KeySource::new(&url, unknown.pki().join("ca.pem")).expect("a source");
    let refused = policy_api::oidc::Provider::new(provider(keys)).await.err().expect("a server that nobody knows");
    assert!(refused.to_string().contains(&url), "{refused}");
    assert!(KeySource::new("http://id.example.org/jwks.json", PathBuf::new()).is_err());
}

/// Answers this over TLS to whoever asks; returns where, and the certificate that it is known by.
async fn serve(body: String) -> (String, String) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.expect("config")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _request = stream.read(&mut [0; 4_096]).await;
            let answer =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _written = stream.write_all(answer.as_bytes()).await;
            let _closed = stream.shutdown().await;
        }
    });
    (format!("https://localhost:{port}/jwks.json"), cert.pem())
}
