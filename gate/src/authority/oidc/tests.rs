//! Tokens of a provider that publishes its keys over a real server, and what looks like them.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use policy_api::jose::{KeySource, Pace};
use serde_json::{Value, json};

use super::*;
use crate::authority::{
    Credential, Scheme,
    testing::{RESOURCE, Said, Server, Signer, asked, but, hmac, in_seconds},
};

const AUDIENCE: &str = "release-bot";
const PAUSE: Duration = Duration::from_millis(300);

/// A provider: its server, and the keys that it publishes at the moment.
struct Provider {
    server: Server,
    keys: Arc<Mutex<Vec<Value>>>,
    is_down: Arc<AtomicBool>,
    ca: tempfile::NamedTempFile,
}

impl Provider {
    async fn publishing(signers: &[&Signer]) -> Self {
        let keys = Arc::new(Mutex::new(signers.iter().map(|signer| signer.published()).collect::<Vec<_>>()));
        let is_down = Arc::new(AtomicBool::new(false));
        let (published, down) = (keys.clone(), is_down.clone());
        let server = Server::tls(move |head| {
            if down.load(Ordering::SeqCst) {
                return (503, String::new());
            }
            let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().trim().to_owned();
            let keys = published.lock().expect("nobody panics").clone();
            match head.split(' ').nth(1) {
                Some("/realm/.well-known/openid-configuration") => {
                    let issuer = format!("https://{host}/realm");
                    (200, json!({"issuer": issuer, "jwks_uri": format!("https://{host}/keys")}).to_string())
                }
                Some("/keys") => (200, json!({"keys": keys}).to_string()),
                _ => (404, String::new()),
            }
        })
        .await;
        let ca = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(ca.path(), &server.certificate).expect("written");
        Self { server, keys, is_down, ca }
    }

    fn issuer(&self) -> String {
        format!("{}/realm", self.server.url)
    }

    fn publish(&self, signers: &[&Signer]) {
        *self.keys.lock().expect("nobody panics") = signers.iter().map(|signer| signer.published()).collect();
    }

    fn claims(&self) -> Value {
        let (iat, exp) = (in_seconds(0), in_seconds(300));
        json!({"iss": self.issuer(), "aud": [AUDIENCE], "sub": "alice", "iat": iat, "exp": exp, "groups": ["all", "managers"]})
    }

    fn authority(&self, rights: Rights) -> Oidc {
        let source = KeySource::discovered(&self.issuer(), self.ca.path().to_owned()).expect("a source");
        let settings = OidcSettings {
            issuer: self.issuer(),
            audience: AUDIENCE.to_owned(),
            algorithms: vec![Algorithm::Es256],
            subject: "sub".to_owned(),
            rights,
            remember: Duration::from_secs(60),
        };
        Oidc::new(settings, KeySet::unread(source, Pace { pause: PAUSE, ..Pace::default() }))
    }
}

fn managers() -> Rights {
    let privileges = ["read", "create"].map(|word| word.parse().expect("a privilege")).into();
    Rights::Claims(vec![ClaimGrant { claim: "groups".to_owned(), value: "managers".to_owned(), privileges }])
}

async fn judged(authority: &Oidc, token: &str, privilege: &str) -> Said {
    asked(authority, Scheme::Bearer, token, privilege).await
}

fn alice() -> Said {
    Said::Allowed("user:oidc/alice".to_owned())
}

#[tokio::test]
async fn whom_the_provider_vouches_for_may_what_his_claims_give() {
    let signer = Signer::p256("one");
    let provider = Provider::publishing(&[&signer]).await;
    let authority = provider.authority(managers());
    let token = signer.sign(&provider.claims());
    assert_eq!(judged(&authority, &token, "create").await, alice());
    assert_eq!(judged(&authority, &token, "delete").await, Said::Denied(Denial::NotPermitted));
    let (privilege, resource) = ("create".parse().expect("a privilege"), RESOURCE.parse().expect("a resource"));
    let credential = Credential { scheme: Scheme::Bearer, token: &token };
    let answer = authority.check(Question { credential, privilege: &privilege, resource: &resource }).await;
    let Answer::Allow(permit) = answer else { panic!("{answer:?}") };
    let age = permit.issued.expect("the token says so").until(Timestamp::now());
    assert!(age < Duration::from_secs(30), "{age:?}");
    let other = signer.sign(&but(&provider.claims(), "groups", json!(["all"])));
    assert_eq!(judged(&authority, &other, "read").await, Said::Denied(Denial::NotPermitted));
    assert_eq!(provider.server.count(), 2, "one description and one set of keys for all of it");
}

#[tokio::test]
async fn whom_the_provider_vouches_for_may_what_was_pushed_for_him() {
    let signer = Signer::p256("one");
    let provider = Provider::publishing(&[&signer]).await;
    let feed = Feed::new(Duration::from_secs(60));
    let authority = provider.authority(Rights::Pushed(feed.clone()));
    let token = signer.sign(&provider.claims());
    assert_eq!(judged(&authority, &token, "create").await, Said::Unavailable(Outage::Stale));
    let line = json!({
        "revision": 1, "issuer": "netpol:00ff00ff00ff00ff", "resource": RESOURCE, "keys": [],
        "subjects": {"user:oidc/alice": ["create"]}, "revoked": {"tokens": [], "subjects": {}},
    });
    feed.take(serde_json::from_value(line).expect("a line"), &RESOURCE.parse().expect("an id"));
    assert_eq!(judged(&authority, &token, "create").await, Said::Allowed("user:oidc/alice".to_owned()));
    assert_eq!(judged(&authority, &token, "delete").await, Said::Denied(Denial::NotPermitted));
}

#[tokio::test]
async fn what_is_not_the_providers_word_for_us_and_now_lets_nobody_in() {
    let (signer, stranger) = (Signer::p256("one"), Signer::p256("one"));
    let provider = Provider::publishing(&[&signer]).await;
    let authority = provider.authority(managers());
    let claims = provider.claims();
    let sign = |member: &str, value: Value| signer.sign(&but(&claims, member, value));
    let header = |member: &str, value: Value| signer.sign_as(&but(&signer.header(), member, value), &claims);
    for (what, token, denial) in [
        ("another audience", sign("aud", json!("billing")), Denial::Audience),
        ("expired", sign("exp", json!(in_seconds(-60))), Denial::Expired),
        ("not yet valid", sign("nbf", json!(in_seconds(60))), Denial::NotYetValid),
        ("without end", sign("exp", Value::Null), Denial::Malformed),
        ("nobody", sign("sub", Value::Null), Denial::Malformed),
        ("a name with a line end", sign("sub", json!("alice\r\nX-Netpol-Subject: user:root")), Denial::Malformed),
        ("another key under the same name", stranger.sign(&claims), Denial::Signature),
        ("none", header("alg", json!("none")), Denial::Algorithm),
        ("a signature that is not listed", header("alg", json!("RS256")), Denial::Algorithm),
        (
            "the public key as a shared secret",
            hmac(signer.public(), &but(&signer.header(), "alg", json!("HS256")), &claims),
            Denial::Algorithm,
        ),
        ("what must be understood", header("crit", json!(["exp"])), Denial::Malformed),
    ] {
        assert_eq!(judged(&authority, &token, "read").await, Said::Denied(denial), "{what}");
    }
    for (what, issuer) in [("another issuer", json!("https://evil.example")), ("several", json!([provider.issuer()]))] {
        assert_eq!(judged(&authority, &sign("iss", issuer), "read").await, Said::NotMine, "{what}");
    }
    assert_eq!(judged(&authority, &signer.sign(&claims), "read").await, alice());
}

#[tokio::test]
async fn who_names_keys_that_do_not_exist_is_no_burden_to_the_provider() {
    let signer = Signer::p256("one");
    let provider = Provider::publishing(&[&signer]).await;
    let authority = provider.authority(managers());
    let good = signer.sign(&provider.claims());
    assert_eq!(judged(&authority, &good, "read").await, alice());
    let began = Instant::now();
    for guess in 0..500 {
        let header = but(&signer.header(), "kid", json!(format!("guess-{guess}")));
        let token = signer.sign_as(&header, &provider.claims());
        assert_eq!(judged(&authority, &token, "read").await, Said::Denied(Denial::Key));
    }
    let pauses = usize::try_from(began.elapsed().as_millis() / PAUSE.as_millis()).expect("few") + 1;
    assert!(provider.server.count() <= 2 + 2 * pauses, "{} questions in {pauses} pauses", provider.server.count());
    assert_eq!(judged(&authority, &good, "read").await, alice());
}

#[tokio::test]
async fn keys_that_are_published_later_count_and_a_provider_that_is_down_keeps_those_that_are_known() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let provider = Provider::publishing(&[&old]).await;
    let authority = provider.authority(managers());
    let (by_old, by_new) = (old.sign(&provider.claims()), new.sign(&provider.claims()));
    assert_eq!(judged(&authority, &by_old, "read").await, alice());
    provider.publish(&[&old, &new]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while judged(&authority, &by_new, "read").await != alice() {
        assert!(Instant::now() < deadline, "the new key is never known");
        tokio::time::sleep(PAUSE / 10).await;
    }
    provider.is_down.store(true, Ordering::SeqCst);
    assert_eq!(judged(&authority, &by_old, "read").await, alice());
    let third = Signer::p256("third").sign(&provider.claims());
    assert_eq!(judged(&authority, &third, "read").await, Said::Denied(Denial::Key));
}

#[tokio::test]
async fn a_provider_that_was_never_reached_lets_nobody_in_and_says_why() {
    let signer = Signer::p256("one");
    let provider = Provider::publishing(&[&signer]).await;
    provider.is_down.store(true, Ordering::SeqCst);
    let authority = provider.authority(managers());
    let token = signer.sign(&provider.claims());
    assert_eq!(judged(&authority, &token, "read").await, Said::Unavailable(Outage::Unreachable));
    provider.is_down.store(false, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(10);
    while judged(&authority, &token, "read").await != alice() {
        assert!(Instant::now() < deadline, "it is never reached");
        tokio::time::sleep(PAUSE / 10).await;
    }
}
