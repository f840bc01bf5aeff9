//! Each caller may ask so often and no oftener, and every answer has a name.

use std::{num::NonZeroU32, time::Duration};

use policy_api::client::{ClientError, Credentials};

use crate::world::{World, name};

async fn until_refused(mut ask: impl AsyncFnMut() -> Option<u16>) -> usize {
    for asked in 0..1_000 {
        if ask().await == Some(429) {
            return asked;
        }
    }
    panic!("never refused");
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_back_and_nobody_else_suffers() {
    let world = World::with(Duration::from_secs(3_600), NonZeroU32::new(5).expect("not zero")).await;
    let status = |answer: Result<_, ClientError>| answer.map(|_: policy_api::model::Status| ()).err()?.status();
    let asked = until_refused(async || status(world.operator.status().await)).await;
    assert!(asked >= 10, "twice as many at once as in a second: {asked}");

    let raw = world.raw().get(format!("{}/v1/status", world.url()));
    let raw = raw.bearer_auth(world.prepared.read("operator.token").trim()).send().await.expect("an answer");
    assert_eq!(raw.status().as_u16(), 429);
    assert_eq!(raw.headers()["retry-after"], "1");
    assert_eq!(raw.headers()["content-type"], "application/problem+json");

    let node = world.prepared.join(&[world.url()], "n1", "192.168.1.1").await;
    node.status().await.expect("another caller");
    tokio::time::sleep(Duration::from_millis(450)).await;
    world.operator.status().await.expect("after a while again");
    world.server.stop().await;
}

#[tokio::test]
async fn who_guesses_tokens_is_soon_told_nothing() {
    let world = World::new().await;
    let guess = |token: usize| world.prepared.client_by(&[world.url()], Credentials::Token(format!("{token:064x}")));
    let mut tried = 0;
    let asked = until_refused(async || {
        tried += 1;
        guess(tried).status().await.err()?.status()
    })
    .await;
    assert!((99..400).contains(&asked), "{asked}");
    let anonymous = world.prepared.client_by(&[world.url()], Credentials::None);
    // Whoever it is at this address. What a moment gave back is soon used up.
    let more = until_refused(async || anonymous.certify(&name("n1"), "x").await.err()?.status()).await;
    assert!(more < 50, "{more}");
    // Whoever is known is counted for himself.
    world.operator.status().await.expect("known");
    world.server.stop().await;
}

#[tokio::test]
async fn every_answer_has_a_name_which_the_caller_may_choose() {
    let world = World::new().await;
    let ask = |id: Option<&str>, path: &str| {
        let request = world.raw().get(format!("{}{path}", world.url()));
        id.map_or(request.try_clone().expect("no stream"), |id| request.header("x-request-id", id)).send()
    };
    let name = |answer: &reqwest::Response| answer.headers()["x-request-id"].to_str().expect("text").to_owned();
    let first = name(&ask(None, "/v1/rules").await.expect("an answer"));
    assert_eq!(first.len(), 16);
    assert_ne!(first, name(&ask(None, "/healthz").await.expect("an answer")));
    assert_eq!(name(&ask(Some("deploy-77"), "/readyz").await.expect("an answer")), "deploy-77");
    for bad in ["a b", &"x".repeat(65)] {
        assert_ne!(name(&ask(Some(bad), "/healthz").await.expect("an answer")), bad);
    }
    world.server.stop().await;
}
