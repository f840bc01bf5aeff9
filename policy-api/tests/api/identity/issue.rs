//! Who is given which identity token, and what is refused to whom.

use std::time::Duration;

use policy_api::{
    client::{WriteOptions, new_secret},
    model::{EntryKind, HistoryQuery, IsolationSpec, NodeSettings, Timestamp, TokenSpec},
};

use super::{BOT, audience, instance, own_token, place_two, proven};
use crate::{
    right::{by, grants, plain, user},
    world::{World, ip, name, refusal},
};

fn on(field: &str) -> (u16, Option<String>) {
    (403, Some(field.to_owned()))
}

#[tokio::test]
async fn machines_people_and_the_operator_are_told_by_what_they_show() {
    let world = World::new().await;
    let machine = user(&world, "ci-1", "machine").await;
    let person = user(&world, "alice", "auditor").await;
    let keys = machine.jwks().await.expect("keys");
    for (client, subject, made_with) in [
        (&machine, "host:ci-1", Some("ci-1")),
        (&person, "user:alice", Some("alice")),
        (&world.operator, "user:operator", None),
    ] {
        let token = own_token(client).await;
        let claims = proven(&keys, &token.token).expect("proven");
        assert_eq!((claims.sub.to_string().as_str(), claims.aud.as_str()), (subject, BOT));
        assert_eq!(claims.token.map(|name| name.to_string()).as_deref(), made_with);
        assert_eq!((claims.instance, claims.node, claims.jti), (None, None, token.id));
        assert!(claims.exp - claims.iat == 300 && token.renew_at < token.expires_at);
    }
    world.server.stop().await;
}

#[tokio::test]
async fn an_agent_is_given_tokens_for_what_is_on_its_node_and_for_nothing_else() {
    let world = World::with_nodes().await;
    let [first, second] = place_two(&world).await;
    let keys = world.n1.jwks().await.expect("keys");
    let ask = async |node: &policy_api::client::Client, which: &str| {
        node.identity_token(&audience(BOT), Some(&instance(which)), None).await
    };
    let (first_name, second_name) = (first.instance_name(), second.instance_name());
    let token = ask(&world.n1, &first_name).await.expect("its own");
    let claims = proven(&keys, &token.token).expect("proven");
    assert_eq!(claims.sub.to_string(), "app:web");
    assert_eq!((claims.instance, claims.node), (Some(first_name.clone()), Some(name("n1"))));

    let elsewhere = ask(&world.n1, &second_name).await.expect_err("another node's");
    let nowhere = ask(&world.n1, "web/77").await.expect_err("nobody's");
    let unknown = ask(&world.n1, "db/0").await.expect_err("an app that nobody knows");
    for refused in [&elsewhere, &nowhere, &unknown] {
        let problem = refused.problem().expect("a refusal");
        assert_eq!((problem.status, problem.field.as_deref()), (403, Some("instance")));
        // Where it is instead is none of the node's business.
        assert!(problem.detail.contains("is not on node n1") && !problem.detail.contains("n2"), "{}", problem.detail);
    }
    let query = HistoryQuery { kinds: [EntryKind::Refused].into(), ..HistoryQuery::default() };
    let history = world.operator.history(&query, true, None, 100).await.expect("history").items;
    assert_eq!(history.len(), 3, "whoever tries it stands in the history");
    assert!(history.iter().all(|item| item.entry.who == "node/n1"));

    let nobody = world.n1.identity_token(&audience(BOT), None, None).await;
    assert_eq!(refusal(nobody), on("instance"), "a node has no identity of its own");
    world.n1.release(first.address).await.expect("released");
    assert_eq!(refusal(ask(&world.n1, &first_name).await), on("instance"), "what has ended asks for nothing");
    world.server.stop().await;
}

#[tokio::test]
async fn a_drained_node_keeps_what_it_runs_and_a_removed_one_has_nothing() {
    let world = World::with_nodes().await;
    let [first, _] = place_two(&world).await;
    let which = instance(&first.instance_name());
    let draining = NodeSettings { draining: true };
    world.operator.set_node(&name("n1"), &draining, &plain()).await.expect("drained");
    assert!(world.n1.identity_token(&audience(BOT), Some(&which), None).await.is_ok());
    world.operator.remove_node(&name("n1"), &plain()).await.expect("removed");
    let refused = world.n1.identity_token(&audience(BOT), Some(&which), None).await;
    assert_eq!(refusal(refused).0, 401);
    world.server.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_proves_nothing() {
    let world = World::with(Duration::from_secs(1), crate::world::MANY).await;
    let n1 = world.prepared.join(&[world.url()], "n1", "192.168.1.1").await;
    let ask = async || n1.identity_token(&audience(BOT), Some(&instance("web/0")), None).await;
    // On a connection that stands it is refused; on a new one it never gets so far.
    let is_over = async || ask().await.is_err_and(|refused| refused.status().is_none_or(|status| status == 401));
    crate::world::until("the certificate is over", crate::world::SOON, is_over).await;
    world.server.stop().await;
}

#[tokio::test]
async fn nobody_but_an_agent_speaks_for_an_instance_and_nobody_says_who_he_is() {
    let world = World::with_nodes().await;
    let [first, _] = place_two(&world).await;
    let which = instance(&first.instance_name());
    let machine = user(&world, "ci-1", "machine").await;
    for client in [&machine, &world.operator] {
        let refused = client.identity_token(&audience(BOT), Some(&which), None).await;
        assert_eq!(refusal(refused), on("instance"));
    }
    let send = async |body: &str| {
        let request = world
            .raw()
            .post(world.url() + "/v1/identity-tokens")
            .bearer_auth(world.prepared.read("operator.token").trim());
        request.body(body.to_owned()).send().await.expect("an answer")
    };
    for body in [
        r#"{"audience": "release-bot", "subject": "app:web"}"#,
        r#"{"audience": "release-bot", "sub": "user:root"}"#,
        r#"{"instance": "web/0"}"#,
        r#"{"audience": "*"}"#,
        r#"{"audience": ["release-bot", "other"]}"#,
        r#"{"audience": "release-bot", "audience": "other"}"#,
        r#"{"audience": "release-bot", "lifetime": 86400}"#,
        r#"{"audience": "release-bot", "lifetime": 1}"#,
    ] {
        assert_eq!(send(body).await.status(), 400, "{body}");
    }
    let good = send(r#"{"audience": "release-bot", "lifetime": 30}"#).await;
    assert_eq!((good.status().as_u16(), good.headers()["cache-control"].to_str().ok()), (201, Some("no-store")));
    world.server.stop().await;
}

#[tokio::test]
async fn a_join_token_a_gatekeepers_and_nothing_at_all_ask_for_no_identity() {
    let world = World::new().await;
    let gate = user(&world, "gate-1", "gate").await;
    for client in [&world.n1, &gate] {
        assert_eq!(refusal(client.identity_token(&audience(BOT), None, None).await), on("Authorization"));
    }
    let nobody = by(&world, &new_secret().expect("random").0);
    assert_eq!(refusal(nobody.identity_token(&audience(BOT), None, None).await).0, 401);
    // Replayed once the node has joined, a join token is good for nothing either.
    world.prepared.join(&[world.url()], "n1", "192.168.1.1").await;
    let refused = world.n1.identity_token(&audience(BOT), Some(&instance("web/0")), None).await;
    assert_eq!(refusal(refused).0, 403);
    world.server.stop().await;
}

#[tokio::test]
async fn an_isolated_instance_is_given_no_identity() {
    let world = World::with_nodes().await;
    let [first, _] = place_two(&world).await;
    let which = instance(&first.instance_name());
    let spec = IsolationSpec { app: first.app.clone(), instance: None, expires_at: None, reason: None };
    world.operator.isolate(&spec, &plain()).await.expect("isolated");
    assert_eq!(refusal(world.n1.identity_token(&audience(BOT), Some(&which), None).await), on("instance"));
    let target = policy_api::model::Target { app: first.app.clone(), instance: None };
    world.operator.end_isolation(&target, &plain()).await.expect("ended");
    assert!(world.n1.identity_token(&audience(BOT), Some(&which), None).await.is_ok());
    assert_eq!(first.address, ip("10.255.1.1"));
    world.server.stop().await;
}

#[tokio::test]
async fn a_token_ends_with_the_api_token_that_it_was_made_with() {
    let world = World::new().await;
    let (secret, hash) = new_secret().expect("random");
    let end = Timestamp::now().after(Duration::from_secs(60)).expect("a time");
    let spec =
        TokenSpec { name: "ci-1".parse().expect("name"), grants: grants("machine"), hash, expires_at: Some(end) };
    world.operator.create_token(&spec, &WriteOptions::default()).await.expect("token");
    let machine = by(&world, &secret);
    let hour = Some(Duration::from_secs(3_600));
    let token = machine.identity_token(&audience(BOT), None, hour).await.expect("a token");
    assert!(token.expires_at <= end && token.renew_at < token.expires_at);
    world.operator.revoke_token(&spec.name, &plain()).await.expect("revoked");
    assert_eq!(refusal(machine.identity_token(&audience(BOT), None, None).await).0, 401);
    world.server.stop().await;
}
