//! Tokens of the broker, and everything that looks like one and is none.

use policy_api::model::{GateLine, ResourceId};
use serde_json::{Value, json};

use super::*;
use crate::authority::{
    Scheme,
    testing::{RESOURCE, Said, Signer, asked, but, hmac, in_seconds},
};

const ISSUER: &str = "netpol:00ff00ff00ff00ff";
const JTI: &str = "00112233445566778899aabbccddeeff";
const MINUTE: Duration = Duration::from_secs(60);

/// A gatekeeper's side: a feed that was told of one key and of CI, which may read and create.
struct Gate {
    feed: Arc<Feed>,
    broker: Broker,
    signer: Signer,
}

impl Gate {
    fn new() -> Self {
        Self::patient(MINUTE)
    }

    fn patient(patience: Duration) -> Self {
        let feed = Feed::new(patience);
        let audiences = vec!["release-bot".to_owned(), RESOURCE.to_owned()];
        let gate = Self { broker: Broker::new(feed.clone(), audiences, MINUTE), feed, signer: Signer::ed25519(1) };
        gate.tell(json!({}));
        gate
    }

    /// Tells the feed its state, with these members instead of the usual ones.
    fn tell(&self, instead: Value) {
        let mut line = json!({
            "revision": 1, "issuer": ISSUER, "resource": RESOURCE, "keys": [self.signer.published()],
            "subjects": {"host:ci-1": ["create", "read"], "app:web": ["read"]},
            "revoked": {"tokens": [], "subjects": {}},
        });
        for (member, value) in instead.as_object().expect("members") {
            line[member] = value.clone();
        }
        self.feed.take(serde_json::from_value(line).expect("a line"), &resource());
    }

    async fn asked(&self, token: &str, privilege: &str) -> Said {
        asked(&self.broker, Scheme::Bearer, token, privilege).await
    }
}

fn resource() -> ResourceId {
    RESOURCE.parse().expect("an id")
}

fn claims() -> Value {
    let (iat, exp) = (in_seconds(0), in_seconds(300));
    json!({"iss": ISSUER, "sub": "host:ci-1", "aud": "release-bot", "iat": iat, "nbf": iat, "exp": exp, "jti": JTI, "token": "ci-1"})
}

fn ci() -> Said {
    Said::Allowed("host:ci-1".to_owned())
}

#[tokio::test]
async fn who_has_a_token_may_what_was_pushed() {
    let gate = Gate::new();
    let token = gate.signer.sign(&claims());
    assert_eq!(gate.asked(&token, "create").await, ci());
    assert_eq!(gate.asked(&token, "delete").await, Said::Denied(Denial::NotPermitted));
    let by_resource = gate.signer.sign(&but(&claims(), "aud", json!(RESOURCE)));
    assert_eq!(gate.asked(&by_resource, "read").await, ci());
    gate.tell(json!({"subjects": {"host:ci-1": ["delete"]}}));
    assert_eq!(gate.asked(&token, "delete").await, ci());
    assert_eq!(gate.asked(&token, "create").await, Said::Denied(Denial::NotPermitted));
}

#[tokio::test]
async fn a_permit_names_the_app_of_an_instance_and_ends_with_the_token_or_sooner() {
    let gate = Gate::new();
    let claims = but(&but(&claims(), "sub", json!("app:web")), "exp", json!(in_seconds(20)));
    let token = gate.signer.sign(&claims);
    let (privilege, resource) = ("read".parse().expect("a privilege"), RESOURCE.parse().expect("a resource"));
    let credential = crate::authority::Credential { scheme: Scheme::Bearer, token: &token };
    let answer =
        gate.broker.judge(&Question { credential, privilege: &privilege, resource: &resource }, Timestamp::now());
    let Answer::Allow(permit) = answer else { panic!("{answer:?}") };
    assert_eq!(permit.source_app.as_ref().map(SourceApp::as_str), Some("web"));
    assert_eq!(permit.issued.map(Timestamp::unix_seconds), claims["iat"].as_i64());
    let left = permit.until - Instant::now();
    assert!((19..=25).contains(&left.as_secs()), "{left:?}");
}

#[tokio::test]
async fn what_is_not_the_brokers_word_for_us_and_now_lets_nobody_in() {
    let gate = Gate::new();
    let sign = |member: &str, value: Value| gate.signer.sign(&but(&claims(), member, value));
    let stranger = Signer::ed25519(1);
    for (what, token, denial) in [
        ("another audience", sign("aud", json!("billing")), Denial::Audience),
        ("no audience", sign("aud", Value::Null), Denial::Audience),
        ("an audience that begins alike", sign("aud", json!("release-bot-2")), Denial::Audience),
        ("expired", sign("exp", json!(in_seconds(-60))), Denial::Expired),
        ("not yet valid", sign("nbf", json!(in_seconds(60))), Denial::NotYetValid),
        ("made in the future", sign("iat", json!(in_seconds(60))), Denial::NotYetValid),
        ("without end", sign("exp", Value::Null), Denial::Malformed),
        ("without beginning", sign("nbf", Value::Null), Denial::Malformed),
        ("an end that is a text", sign("exp", json!(in_seconds(300).to_string())), Denial::Malformed),
        ("an endless end", sign("exp", json!(u64::MAX)), Denial::Malformed),
        ("no id", sign("jti", Value::Null), Denial::Malformed),
        ("no birth", sign("iat", Value::Null), Denial::Malformed),
        ("nobody", sign("sub", Value::Null), Denial::Malformed),
        (
            "a subject with a line end",
            sign("sub", json!("host:ci-1\r\nX-Netpol-Subject: user:root")),
            Denial::Malformed,
        ),
        ("another key under the same name", stranger.sign(&claims()), Denial::Signature),
    ] {
        assert_eq!(gate.asked(&token, "create").await, Said::Denied(denial), "{what}");
    }
    let other_store = sign("iss", json!("netpol:1111111111111111"));
    assert_eq!(gate.asked(&other_store, "create").await, Said::NotMine, "a token of another store");
    for (what, issuer) in
        [("no issuer", Value::Null), ("two", json!([ISSUER])), ("a provider's", json!("https://id.example"))]
    {
        assert_eq!(gate.asked(&sign("iss", issuer), "create").await, Said::NotMine, "{what}");
    }
    assert_eq!(gate.asked(&gate.signer.sign(&claims()), "create").await, ci(), "the same without a flaw");
}

#[tokio::test]
async fn a_token_cannot_choose_how_it_is_checked() {
    let gate = Gate::new();
    let (signer, claims) = (&gate.signer, claims());
    let header = |member: &str, value: Value| but(&signer.header(), member, value);
    let signed_by = |header: Value| signer.sign_as(&header, &claims);
    let good = signer.sign(&claims);
    let (body, signature) = good.rsplit_once('.').expect("a signature");
    let twice = format!("{{\"sub\":\"host:ci-2\",{}", &claims.to_string()[1..]);
    let attacker = Signer::ed25519(9);
    let embedded = but(&signer.header(), "jwk", attacker.published());
    let pointed =
        but(&but(&signer.header(), "jku", json!("https://evil.example/jwks")), "x5u", json!("https://evil.example"));
    for (what, token, denial) in [
        ("none", signed_by(header("alg", json!("none"))), Denial::Algorithm),
        (
            "none without a signature",
            format!("{}.", signed_by(header("alg", json!("none"))).rsplit_once('.').expect("parts").0),
            Denial::Malformed,
        ),
        ("nOnE", signed_by(header("alg", json!("nOnE"))), Denial::Algorithm),
        ("no algorithm", signed_by(header("alg", Value::Null)), Denial::Algorithm),
        (
            "the public key as a shared secret",
            hmac(signer.public(), &header("alg", json!("HS256")), &claims),
            Denial::Algorithm,
        ),
        ("another signature over the same key", signed_by(header("alg", json!("ES256"))), Denial::Algorithm),
        ("no key", signed_by(header("kid", Value::Null)), Denial::Key),
        ("an empty key", signed_by(header("kid", json!(""))), Denial::Key),
        ("a key that is a path", signed_by(header("kid", json!("../../../../dev/null"))), Denial::Key),
        ("a key that is a statement", signed_by(header("kid", json!("x' UNION SELECT 'k'"))), Denial::Key),
        ("an unknown key", signed_by(header("kid", json!("02".repeat(16)))), Denial::Key),
        ("a key that is a number", signed_by(header("kid", json!(1))), Denial::Key),
        ("a very long key", signed_by(header("kid", json!("k".repeat(3_000)))), Denial::Key),
        ("what must be understood", signed_by(header("crit", json!(["exp"]))), Denial::Malformed),
        ("an unencoded payload", signed_by(header("b64", json!(false))), Denial::Malformed),
        ("a token that is encrypted", signed_by(header("enc", json!("A128GCM"))), Denial::Malformed),
        ("a key of its own", attacker.sign_as(&embedded, &claims), Denial::Signature),
        ("a place of keys of its own", attacker.sign_as(&pointed, &claims), Denial::Signature),
        (
            "an algorithm that stands twice",
            signer.sign_text(&format!("{{\"alg\":\"none\",{}", &signer.header().to_string()[1..]), &claims.to_string()),
            Denial::Malformed,
        ),
        (
            "another body",
            format!(
                "{}.{signature}",
                signer.sign(&but(&claims, "sub", json!("app:web"))).rsplit_once('.').expect("parts").0
            ),
            Denial::Signature,
        ),
        ("no signature", format!("{body}."), Denial::Malformed),
        ("half a signature", format!("{body}.{}", &signature[..40]), Denial::Signature),
        ("another alphabet", format!("{body}.{}", signature.replace(['-', '_'], "+") + "+"), Denial::Malformed),
        ("padding", format!("{body}.{signature}=="), Denial::Malformed),
        ("a fourth part", format!("{good}.AAAA"), Denial::Malformed),
    ] {
        assert_eq!(gate.asked(&token, "create").await, Said::Denied(denial), "{what}");
    }
    // Whose issuer cannot even be read are nobody's, and refused by the stack.
    let oversized = signer.sign(&but(&claims, "extra", json!("x".repeat(10_000))));
    for (what, token) in [
        ("oversized", oversized.as_str()),
        ("a claim that stands twice", &signer.sign_text(&signer.header().to_string(), &twice)),
        ("dots", ".."),
        ("letters", "a.b.c"),
        ("nothing", ""),
        ("no base64", "{}.{}.{}"),
    ] {
        assert_eq!(gate.asked(token, "create").await, Said::NotMine, "{what}");
    }
    assert_eq!(
        gate.asked(&signer.sign_as(&header("jwk", attacker.published()), &claims), "create").await,
        ci(),
        "ignored"
    );
    assert_eq!(gate.asked(&good, "create").await, ci());
}

#[tokio::test]
async fn what_is_revoked_is_refused_and_taken_back() {
    let gate = Gate::new();
    let token = gate.signer.sign(&claims());
    let permit = gate.broker.believe(&token, &gate.feed.current().expect("a state"), Timestamp::now()).expect("good");
    let (read, delete) = ("read".parse().expect("privilege"), "delete".parse().expect("privilege"));
    let stands = |privilege| gate.feed.last().expect("a state").stands(&permit, privilege);
    assert!(stands(&read) && !stands(&delete));
    let before = |seconds| Timestamp::of_unix_milliseconds(in_seconds(seconds) * 1_000).expect("a time").to_string();
    for (what, state) in [
        ("the token", json!({"revoked": {"tokens": [JTI], "subjects": {}}})),
        ("all of its subject's", json!({"revoked": {"tokens": [], "subjects": {"host:ci-1": before(1)}}})),
    ] {
        gate.tell(state);
        assert_eq!(gate.asked(&token, "read").await, Said::Denied(Denial::Revoked), "{what}");
        assert!(!stands(&read), "{what}");
    }
    gate.tell(json!({"revoked": {"tokens": [], "subjects": {"host:ci-1": before(-60), "app:web": before(1)}}}));
    assert_eq!(gate.asked(&token, "read").await, ci(), "issued after it");
    assert!(stands(&read));
    gate.tell(json!({"subjects": {"host:ci-1": ["create"]}}));
    assert!(!stands(&read), "its permission is gone");
    gate.tell(json!({"keys": [Signer::ed25519(2).published()]}));
    assert_eq!(gate.asked(&token, "create").await, Said::Denied(Denial::Key));
    assert!(!stands(&read), "its key is gone");
}

#[tokio::test]
async fn keys_are_those_that_were_pushed_and_never_a_shared_secret() {
    let gate = Gate::new();
    let next = Signer::ed25519(2);
    let by_next = next.sign(&claims());
    assert_eq!(gate.asked(&by_next, "read").await, Said::Denied(Denial::Key));
    gate.tell(json!({"keys": [gate.signer.published(), next.published()]}));
    assert_eq!(gate.asked(&by_next, "read").await, ci());
}

#[tokio::test]
async fn when_nothing_is_heard_unseen_tokens_are_refused_until_it_is() {
    let gate = Gate::patient(Duration::from_millis(200));
    let token = gate.signer.sign(&claims());
    assert_eq!(gate.asked(&token, "read").await, ci());
    let beat: GateLine = serde_json::from_value(json!({"heartbeat": true, "revision": 9})).expect("a line");
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        gate.feed.take(beat.clone(), &resource());
    }
    assert_eq!(gate.asked(&token, "read").await, ci(), "heartbeats keep it alive");
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(gate.asked(&token, "read").await, Said::Unavailable(Outage::Stale));
    assert!(gate.feed.last().is_some(), "what was known is good for taking back");
    gate.feed.take(beat, &resource());
    assert_eq!(gate.asked(&token, "read").await, ci());
    let deaf = Broker::new(Feed::new(MINUTE), vec!["release-bot".to_owned()], MINUTE);
    assert_eq!(asked(&deaf, Scheme::Bearer, &token, "read").await, Said::Unavailable(Outage::Stale), "never told");
}

#[tokio::test]
async fn a_state_of_another_resource_is_not_taken() {
    let gate = Gate::new();
    gate.tell(json!({"resource": "production/billing", "subjects": {"host:ci-1": ["delete"]}}));
    assert_eq!(gate.asked(&gate.signer.sign(&claims()), "delete").await, Said::Denied(Denial::NotPermitted));
}
