//! How a node proves itself: a join token for one key, a certificate for that key, and nobody else's word.

use std::{sync::Arc, time::Duration};

use policy_api::{
    client::{Client, Credentials, Identity},
    model::{Join, NodeSettings, Revision},
};

use crate::world::{MANY, SOON, World, at, claim, ip, name, refusal, rule, until};

fn field(field: &str) -> Option<String> {
    Some(field.to_owned())
}

fn with_key(world: &World, identity: &Arc<Identity>) -> Client {
    world.prepared.client_by(&[world.url()], Credentials::Identity(identity.clone()))
}

fn anonymous(world: &World) -> Client {
    world.prepared.client_by(&[world.url()], Credentials::None)
}

#[tokio::test]
async fn a_join_token_registers_one_key_and_is_good_for_nothing_else() {
    let world = World::new().await;
    let n1 = name("n1");
    let without_key = world.n1.join(&n1, &at("192.168.1.1")).await;
    assert_eq!(refusal(without_key), (400, field("csr")));
    assert_eq!(refusal(world.n1.claim(&claim("web", &["10.255.1.7"])).await), (403, field("Authorization")));
    assert_eq!(refusal(world.n1.status().await), (403, field("Authorization")));

    let identity = Identity::generate().expect("key");
    let join = Join { csr: Some(identity.request().expect("request")), ..at("192.168.1.1") };
    let first = world.n1.join(&n1, &join).await.expect("joined");
    // Its answer may have been lost on the way.
    let again = world.n1.join(&n1, &join).await.expect("the same key again");
    assert_eq!((first.node, first.revision), (again.node, again.revision));
    let stolen = world.n1.enrol(&n1, ip("192.168.1.66")).await;
    assert_eq!(refusal(stolen), (403, field("Authorization")));
    assert_eq!(refusal(world.n1.claim(&claim("web", &["10.255.1.7"])).await), (403, field("Authorization")));

    identity.certify(&again.certified.expect("certificate").certificate).expect("usable");
    let node = with_key(&world, &Arc::new(identity));
    assert_eq!(node.claim(&claim("web", &["10.255.1.7"])).await.expect("claimed").node, n1);
    world.server.stop().await;
}

#[tokio::test]
async fn a_node_renews_its_certificate_by_its_key_alone() {
    let world = World::new().await;
    let n1 = name("n1");
    let (identity, _) = world.n1.enrol(&n1, ip("192.168.1.1")).await.expect("joined");
    let certified = anonymous(&world).certify(&n1, &identity.request().expect("request")).await.expect("renewed");
    assert_eq!(certified.renew_in, 1_800, "half of the lifetime");
    let copy = Identity::of_key(&identity.key_pem()).expect("key");
    copy.certify(&certified.certificate).expect("usable");
    with_key(&world, &Arc::new(copy)).status().await.expect("known");

    let other = Identity::generate().expect("key");
    let by_another = anonymous(&world).certify(&n1, &other.request().expect("request")).await;
    assert_eq!(refusal(by_another), (403, field("csr")));
    let of_nobody = anonymous(&world).certify(&name("n2"), &identity.request().expect("request")).await;
    assert_eq!(refusal(of_nobody), (403, field("csr")));
    assert_eq!(refusal(anonymous(&world).certify(&n1, "nonsense").await), (400, field("csr")));
    world.server.stop().await;
}

#[tokio::test]
async fn a_request_that_its_key_did_not_sign_proves_nothing() {
    let world = World::new().await;
    let n1 = name("n1");
    let (identity, _) = world.n1.enrol(&n1, ip("192.168.1.1")).await.expect("joined");
    let request = identity.request().expect("request");
    // The last character of the signature but for the padding.
    let mut forged: Vec<char> = request.chars().collect();
    let end = request.find("\n-----END").expect("PEM");
    let place = (0..end).rev().find(|place| forged[*place].is_ascii_alphanumeric()).expect("base64") - 4;
    forged[place] = if forged[place] == 'A' { 'B' } else { 'A' };
    let forged: String = forged.into_iter().collect();
    assert_eq!(refusal(anonymous(&world).certify(&n1, &forged).await), (400, field("csr")));
    world.server.stop().await;
}

#[tokio::test]
async fn joining_again_with_a_new_token_voids_the_old_key() {
    let world = World::new().await;
    let (old, _) = world.n1.enrol(&name("n1"), ip("192.168.1.1")).await.expect("joined");
    let with_old = with_key(&world, &old);
    with_old.status().await.expect("known");
    let token = world.prepared.new_join_token("n1");
    let joining = world.prepared.client_by(&[world.url()], Credentials::Token(token));
    let (new, joined) = joining.enrol(&name("n1"), ip("192.168.1.1")).await.expect("joined again");
    assert_eq!(joined.node.slices.slice_v4.to_string(), "10.255.1.0/24", "it keeps its slices");
    assert_eq!(refusal(with_old.status().await), (401, field("certificate")));
    assert_eq!(refusal(with_key(&world, &old).status().await), (401, field("certificate")));
    let renewal = anonymous(&world).certify(&name("n1"), &old.request().expect("request")).await;
    assert_eq!(refusal(renewal), (403, field("csr")));
    with_key(&world, &new).status().await.expect("known");
    world.server.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_nobodys() {
    let (world, other) = (World::new().await, World::new().await);
    let (foreign, _) = other.n1.enrol(&name("n1"), ip("192.168.1.1")).await.expect("joined there");
    world.n1.enrol(&name("n1"), ip("192.168.1.1")).await.expect("joined here");
    let refused = with_key(&world, &foreign).status().await.expect_err("refused");
    assert!(refused.status().is_none_or(|status| status == 401), "{refused}");
    world.server.stop().await;
    other.server.stop().await;
}

#[tokio::test]
async fn a_node_that_is_removed_is_nobody_from_that_moment_on() {
    let world = World::with_nodes().await;
    let (n1, options) = (name("n1"), Default::default());
    world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("claimed");
    let mut watch = world.n1.watch(Revision::default(), None).await.expect("watch");
    let removed = world.operator.remove_node(&n1, &options).await.expect("removed");
    assert_eq!(removed.instances, ["web/0"]);
    let ended = tokio::time::timeout(SOON, async { while watch.next().await.is_ok() {} }).await;
    assert!(ended.is_ok(), "its watch is ended");
    assert_eq!(refusal(world.n1.status().await), (401, field("certificate")));
    let token = world.prepared.client(&[world.url()], "join/n1.token");
    assert_eq!(refusal(token.enrol(&n1, ip("192.168.1.1")).await), (401, field("Authorization")));
    assert_eq!(refusal(world.operator.lookup(ip("10.255.1.7"), None).await), (404, field("ip")));
    assert_eq!(refusal(world.operator.remove_node(&n1, &options).await), (404, field("name")));
    // Its underlay address is free, and what it was is not forgotten.
    let n2 = world.n2.join(&name("n2"), &at("192.168.1.1")).await.expect("moved");
    assert_eq!(n2.node.underlay, ip("192.168.1.1"));
    world.server.stop().await;
}

#[tokio::test]
async fn a_node_that_drains_keeps_its_instances_and_takes_no_new_ones() {
    let world = World::with_nodes().await;
    let (n1, options) = (name("n1"), Default::default());
    world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("claimed");
    let drain = |draining| NodeSettings { draining };
    let drained = world.operator.set_node(&n1, &drain(true), &options).await.expect("drained");
    assert!(drained.node.draining);
    let again = world.operator.set_node(&n1, &drain(true), &options).await.expect("again");
    assert_eq!(again.node.revision, drained.node.revision, "nothing changed");
    world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("the same claim again");
    assert_eq!(refusal(world.n1.claim(&claim("web", &["10.255.1.8"])).await), (409, field("node")));
    // Joining again, as each start of an agent does, does not end it.
    world.n1.join(&n1, &at("192.168.1.1")).await.expect("joined again");
    assert_eq!(refusal(world.n1.claim(&claim("web", &["10.255.1.8"])).await), (409, field("node")));
    world.operator.set_node(&n1, &drain(false), &options).await.expect("undrained");
    world.n1.claim(&claim("web", &["10.255.1.8"])).await.expect("claimed");
    world.server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_over_lets_nobody_in_until_it_is_renewed() {
    let world = World::with(Duration::from_secs(2), MANY).await;
    let n1 = name("n1");
    let (identity, joined) = world.n1.enrol(&n1, ip("192.168.1.1")).await.expect("joined");
    assert_eq!(joined.certified.expect("certificate").renew_in, 1);
    let standing = with_key(&world, &identity);
    standing.status().await.expect("known");
    // On the connection that it made while the certificate was good, and on a new one.
    until("the certificate is over", SOON, || async { standing.status().await.is_err() }).await;
    assert!(with_key(&world, &identity).status().await.is_err());
    let renewed = anonymous(&world).certify(&n1, &identity.request().expect("request")).await.expect("renewed");
    identity.certify(&renewed.certificate).expect("usable");
    with_key(&world, &identity).status().await.expect("known again");
    assert_eq!(
        refusal(anonymous(&world).put_rule(&rule("allow web db 80"), &Default::default()).await),
        (401, field("Authorization"))
    );
    world.server.stop().await;
}
