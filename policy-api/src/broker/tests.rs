//! The broker on a real store, by a clock that the test turns.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::{
    jose::TokenError,
    model::{Audience, IdentityClaims, Revoked},
    store::{Command, Location, OverlayWish, Retention, Write, back_up, prepare, restore},
};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR_MS: i64 = 3_600_000;

/// A clock that stands until it is turned.
#[derive(Clone)]
struct Turned(Arc<AtomicI64>);

impl Turned {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_700_000_000_000)))
    }

    fn clock(&self) -> Clock {
        let Self(milliseconds) = self.clone();
        Arc::new(move || Timestamp::of_unix_milliseconds(milliseconds.load(Ordering::Relaxed)).expect("a time"))
    }

    fn turn(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }

    fn now(&self) -> Timestamp {
        (self.clock())()
    }
}

fn open(location: &Location, turned: &Turned) -> Arc<Store> {
    let (wish, retention) = (OverlayWish::default(), Retention::default());
    Arc::new(Store::open_by(location, wish, retention, turned.clock()).expect("store"))
}

/// A store in a file, and a broker on it that has a key.
async fn broker_at(directory: &Path, seal: &SealKey, turned: &Turned) -> Broker {
    let location = Location::Sqlite(directory.join("policy.db"));
    prepare(&location, OverlayWish::default()).expect("prepared");
    let timing = SignerTiming { lifetime: DAY };
    let broker = Broker::new(open(&location, turned), seal.clone(), timing, turned.clock()).expect("broker");
    broker.rotate().await.expect("a key");
    broker
}

fn spec(audience: &str, seconds: u64) -> IdentityTokenSpec {
    let audience: Audience = audience.parse().expect("audience");
    IdentityTokenSpec { audience, instance: None, lifetime: Duration::from_secs(seconds) }
}

fn token(broker: &Broker) -> String {
    broker.issue(&Principal::Operator, &spec("release-bot", 3_600)).expect("a token").token
}

fn kids(broker: &Broker) -> BTreeSet<SignerKeyId> {
    broker.published().keys.into_iter().map(|key| key.kid).collect()
}

fn kid_of(token: &str) -> SignerKeyId {
    let header = jsonwebtoken::decode_header(token).expect("a header");
    assert_eq!((header.alg, header.typ.as_deref()), (jsonwebtoken::Algorithm::EdDSA, Some("JWT")));
    header.kid.expect("a key's name").parse().expect("a key's name")
}

#[tokio::test]
async fn a_token_says_who_asked_for_whom_and_until_when() {
    let (directory, turned) = (tempfile::tempdir().expect("directory"), Turned::new());
    let broker = broker_at(directory.path(), &SealKey::random().expect("random"), &turned).await;
    let issued = broker.issue(&Principal::Operator, &spec("release-bot", 300)).expect("a token");
    let IdentityClaims { iss, sub, aud, iat, nbf, exp, jti, instance, node, token } =
        broker.verify(&issued.token).expect("good");
    let history = broker.store.read(|state| state.history().clone());
    assert_eq!(iss.as_str(), format!("netpol:{history}"));
    assert_eq!((sub.to_string().as_str(), aud.as_str(), jti), ("user:operator", "release-bot", issued.id));
    let now = turned.now().unix_seconds();
    assert_eq!((iat, nbf, exp), (now, now, now + 300));
    assert_eq!((instance, node, token), (None, None, None));
    assert_eq!(issued.expires_at.unix_seconds(), exp);
    assert_eq!(issued.renew_at.unix_seconds(), now + 200);
    turned.turn(300_000);
    assert_eq!(broker.verify(&issued.token), Err(Unproven::Time));
}

#[tokio::test]
async fn a_key_is_published_long_before_it_signs_and_until_its_last_token_has_ended() {
    let (directory, turned) = (tempfile::tempdir().expect("directory"), Turned::new());
    let broker = broker_at(directory.path(), &SealKey::random().expect("random"), &turned).await;
    let first = kids(&broker);
    assert_eq!(first.len(), 1);
    // Whatever is asked, nothing is made before it is due.
    turned.turn(11 * HOUR_MS);
    broker.rotate().await.expect("not due");
    assert_eq!(kids(&broker), first);
    turned.turn(HOUR_MS);
    broker.rotate().await.expect("due");
    let both = kids(&broker);
    assert_eq!(both.len(), 2);
    assert_eq!(BTreeSet::from([kid_of(&token(&broker))]), first, "the next one is known and does not sign yet");
    assert!(broker.timing().cached() < DAY / 4, "by the time it signs nobody keeps an older set");
    turned.turn(12 * HOUR_MS - 1_000);
    let last = token(&broker);
    assert_eq!(BTreeSet::from([kid_of(&last)]), first);
    turned.turn(1_000);
    let next = kid_of(&token(&broker));
    assert!(both.contains(&next) && !first.contains(&next));
    turned.turn(HOUR_MS - 2_000);
    assert!(broker.verify(&last).is_ok(), "the last token of the first key is good to its end");
    turned.turn(100_000);
    broker.rotate().await.expect("not due");
    assert!(kids(&broker).is_disjoint(&first), "then the key is nobody's");
    assert_eq!(broker.verify(&last), Err(Unproven::Token(TokenError::UnknownKey)));
}

#[tokio::test]
async fn who_has_the_store_or_a_copy_of_it_signs_nothing_and_sees_no_key() {
    let (directory, turned) = (tempfile::tempdir().expect("directory"), Turned::new());
    let seal = SealKey::random().expect("random");
    let broker = broker_at(directory.path(), &seal, &turned).await;
    let keys = broker.store.read(held);
    let secret = signer::secret(&seal, &keys[0]).expect("ours");
    let (from, copy) = (Location::Sqlite(directory.path().join("policy.db")), directory.path().join("copy.db"));
    back_up(&from, &copy).expect("backed up");
    let bytes = std::fs::read(&copy).expect("a copy");
    for hidden in [secret.clone(), crate::model::hex::hex(&secret).into_bytes(), seal.to_text().into_bytes()] {
        assert!(!bytes.windows(hidden.len()).any(|window| window == hidden), "the copy has a secret in it");
    }
    let stolen = Location::Sqlite(directory.path().join("stolen.db"));
    restore(&copy, &stolen, false).expect("restored");
    let thief = open(&stolen, &turned);
    let own_seal = SealKey::random().expect("random");
    let refused = Broker::new(thief, own_seal, SignerTiming { lifetime: DAY }, turned.clock()).map(drop);
    assert!(matches!(refused, Err(BrokerError::WrongSeal(id)) if id == keys[0].id));
}

#[tokio::test]
async fn a_key_that_somebody_put_into_the_store_signs_nothing() {
    let (directory, turned) = (tempfile::tempdir().expect("directory"), Turned::new());
    let broker = broker_at(directory.path(), &SealKey::random().expect("random"), &turned).await;
    let own = kids(&broker);
    turned.turn(12 * HOUR_MS);
    let forged = signer::generate(&SealKey::random().expect("random"), DAY).expect("a key");
    let id = forged.id.clone();
    broker.store.write(Write::new(Command::RotateSigner(forged), Principal::Itself)).await.expect("written");
    assert!(broker.store.read(|state| state.replica().signer_keys.contains_key(&id)));
    assert_eq!(kids(&broker), own, "who has not our seal key is not published");
    turned.turn(12 * HOUR_MS);
    assert!(broker.issue(&Principal::Operator, &spec("a", 300)).is_err(), "nor does it sign");
}

#[tokio::test]
async fn a_token_of_another_store_proves_nothing_here() {
    let (here, there, turned) =
        (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"), Turned::new());
    let seal = SealKey::random().expect("random");
    let ours = broker_at(here.path(), &seal, &turned).await;
    let theirs = broker_at(there.path(), &seal, &turned).await;
    assert_eq!(ours.verify(&token(&theirs)), Err(Unproven::Token(TokenError::UnknownKey)));
    // Not even with our own key, as after a restoration, which begins another history.
    let key = ours.store.read(held).remove(0);
    let key = ours.open(&key).expect("ours");
    let history = ours.store.read(|state| state.history().clone());
    let claims =
        |text: &str| IdentityClaims { iss: text.parse().expect("issuer"), ..ours.verify(&token(&ours)).expect("good") };
    let foreign = key.sign(&claims("netpol:00ff00ff00ff00ff")).expect("signed");
    assert_eq!(ours.verify(&foreign), Err(Unproven::Issuer));
    let own = key.sign(&claims(&format!("netpol:{history}"))).expect("signed");
    assert!(ours.verify(&own).is_ok());
}

#[tokio::test]
async fn whatever_is_done_to_a_token_it_proves_nothing() {
    let (directory, turned) = (tempfile::tempdir().expect("directory"), Turned::new());
    let broker = broker_at(directory.path(), &SealKey::random().expect("random"), &turned).await;
    let good = token(&broker);
    assert!(broker.verify(&good).is_ok());
    let parts: Vec<&str> = good.split('.').collect();
    let encode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    let kid = kid_of(&good);
    let key = broker.published().keys.remove(0);
    let hmac = |secret: &[u8]| {
        let header = jsonwebtoken::Header { kid: Some(kid.to_string()), ..Default::default() };
        let claims = broker.verify(&good).expect("good");
        jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_secret(secret)).expect("signed")
    };
    let none = encode(&format!(r#"{{"alg":"none","kid":"{kid}"}}"#));
    let unnamed = encode(r#"{"alg":"EdDSA"}"#);
    let other = encode(r#"{"alg":"EdDSA","kid":"../../../dev/null"}"#);
    let root = encode(r#"{"iss":"netpol:00ff00ff00ff00ff","sub":"user:root"}"#);
    for forged in [
        String::new(),
        "a.b.c".to_owned(),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{unnamed}.{}.{}", parts[1], parts[2]),
        format!("{other}.{}.{}", parts[1], parts[2]),
        format!("{}.{root}.{}", parts[0], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], encode("nothing")),
        hmac(key.x.as_str().as_bytes()),
        hmac(b""),
    ] {
        assert!(broker.verify(&forged).is_err(), "{forged}");
    }
}

#[tokio::test]
async fn what_is_revoked_proves_nothing_and_what_is_issued_behind_it_does() {
    let (directory, turned) = (tempfile::tempdir().expect("directory"), Turned::new());
    let broker = broker_at(directory.path(), &SealKey::random().expect("random"), &turned).await;
    turned.turn(500);
    let (one, two) = (broker.issue(&Principal::Operator, &spec("a", 300)).expect("a token"), token(&broker));
    let revoke = async |what: Revoked| {
        broker.store.write(Write::new(Command::Revoke(what), Principal::Operator)).await.expect("revoked");
    };
    revoke(Revoked::Token(one.id)).await;
    assert_eq!((broker.verify(&one.token), broker.verify(&two).is_ok()), (Err(Unproven::Revoked), true));
    revoke("user:operator".parse().expect("subject")).await;
    assert_eq!(broker.verify(&two), Err(Unproven::Revoked));
    // In the same second.
    turned.turn(100);
    assert!(broker.verify(&token(&broker)).is_ok());
    turned.turn(2 * HOUR_MS);
    let gone = async || broker.store.read(|state| state.replica().revocations.is_empty());
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !gone().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("revocations end by themselves when there is nothing left that they are about");
}
