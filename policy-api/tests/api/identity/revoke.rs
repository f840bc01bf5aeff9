//! Revocations: by id, by subject, by API token; who may, and that they reach gatekeepers and end by themselves.

use policy_api::model::{GateState, IdentityToken, NodeName, Revoked, Subject, Timestamp};

use super::{BOT, audience, gate::Gatekeeper, instance, own_token, place_two, proven};
use crate::{
    right::{assert_names_the_role, plain, user},
    world::{World, refusal},
};

fn subject(text: &str) -> Subject {
    text.parse().expect("subject")
}

fn all_of(text: &str) -> Revoked {
    text.parse().expect("a subject or a node")
}

async fn is_revoked(world: &World, state: &GateState, token: &IdentityToken) -> bool {
    let keys = world.operator.jwks().await.expect("keys");
    state.revoked.contains(&proven(&keys, &token.token).expect("signed and not ended"))
}

#[tokio::test]
async fn a_token_is_revoked_by_its_id_and_no_other_with_it() {
    let world = World::new().await;
    let machine = user(&world, "ci-1", "machine").await;
    let (one, two) = (own_token(&machine).await, own_token(&machine).await);
    let mut gate = Gatekeeper::of(&world).await;
    let answer = world.operator.revoke_identity_token(&one.id, &plain()).await.expect("revoked");
    assert!(answer.revocation.expires_at > Timestamp::now());
    let state = gate.until(|state| state.revoked.tokens.contains(&one.id)).await;
    assert!(is_revoked(&world, &state, &one).await && !is_revoked(&world, &state, &two).await);
    world.server.stop().await;
}

#[tokio::test]
async fn all_that_a_subject_has_is_revoked_and_what_it_asks_for_later_is_good() {
    let world = World::new().await;
    let (machine, other) = (user(&world, "ci-1", "machine").await, user(&world, "ci-2", "machine").await);
    let (before, others) = (own_token(&machine).await, own_token(&other).await);
    let mut gate = Gatekeeper::of(&world).await;
    world.operator.revoke_identity_tokens_of(&all_of("host:ci-1"), &plain()).await.expect("revoked");
    let state = gate.until(|state| state.revoked.subjects.contains_key(&subject("host:ci-1"))).await;
    // In the same second, too.
    let after = own_token(&machine).await;
    assert!(is_revoked(&world, &state, &before).await);
    assert!(!is_revoked(&world, &state, &after).await && !is_revoked(&world, &state, &others).await);
    world.server.stop().await;
}

#[tokio::test]
async fn revoking_an_api_token_revokes_what_was_made_with_it() {
    let world = World::new().await;
    let mut gate = Gatekeeper::of(&world).await;
    for (name, roles, made) in [("ci-1", "machine", "host:ci-1"), ("alice", "auditor", "user:alice")] {
        let token = own_token(&user(&world, name, roles).await).await;
        world.operator.revoke_token(&name.parse().expect("name"), &plain()).await.expect("revoked");
        let state = gate.until(|state| state.revoked.subjects.contains_key(&subject(made))).await;
        assert!(is_revoked(&world, &state, &token).await, "{name}");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn removing_a_node_revokes_what_it_asked_for() {
    let world = World::with_nodes().await;
    let placed = place_two(&world).await;
    let mut tokens = Vec::new();
    for (node, of) in [&world.n1, &world.n2].into_iter().zip(&placed) {
        let which = instance(&of.instance_name());
        tokens.push(node.identity_token(&audience(BOT), Some(&which), None).await.expect("a token"));
    }
    let mut gate = Gatekeeper::of(&world).await;
    let n1: NodeName = "n1".parse().expect("name");
    world.operator.remove_node(&n1, &plain()).await.expect("removed");
    let state = gate.until(|state| state.revoked.nodes.contains_key(&n1)).await;
    assert!(is_revoked(&world, &state, &tokens[0]).await);
    assert!(!is_revoked(&world, &state, &tokens[1]).await, "the same app elsewhere goes on");
    world.server.stop().await;
}

#[tokio::test]
async fn one_revokes_ones_own_and_nobody_elses() {
    let world = World::new().await;
    let machine = user(&world, "ci-1", "machine").await;
    let person = user(&world, "alice", "writer:shop");
    // The team has to be there first.
    let shop = crate::right::owning("shop-*", "");
    world.operator.set_team(&"shop".parse().expect("name"), &shop, &plain()).await.expect("team");
    let person = person.await;
    machine.revoke_identity_tokens_of(&all_of("host:ci-1"), &plain()).await.expect("its own");
    person.revoke_identity_tokens_of(&all_of("user:alice"), &plain()).await.expect("her own");
    let token = own_token(&person).await;
    for (who, client) in [("token/ci-1", &machine), ("token/alice", &person)] {
        let refused =
            client.revoke_identity_tokens_of(&all_of("user:operator"), &plain()).await.expect_err("another's");
        assert_names_the_role(refused.problem().expect("a refusal"), who);
        let refused = client.revoke_identity_tokens_of(&all_of("node:n1"), &plain()).await.expect_err("a node's");
        assert_names_the_role(refused.problem().expect("a refusal"), who);
        // Its id is in logs that others read, too.
        let refused = client.revoke_identity_token(&token.id, &plain()).await.expect_err("by its id");
        assert_names_the_role(refused.problem().expect("a refusal"), who);
    }
    let odd = world.raw().delete(world.url() + "/v1/identity-tokens/everything");
    let odd = odd.bearer_auth(world.prepared.read("operator.token").trim()).send().await.expect("an answer");
    assert_eq!(odd.status(), 400);
    assert_eq!(refusal(world.n1.revoke_identity_token(&token.id, &plain()).await).0, 403, "a join token");
    world.server.stop().await;
}

#[tokio::test]
async fn a_dry_run_revokes_nothing() {
    let world = World::new().await;
    let before = world.revision().await;
    let dry = policy_api::client::WriteOptions { dry_run: true, ..plain() };
    let answer = world.operator.revoke_identity_tokens_of(&all_of("host:ci-1"), &dry).await.expect("planned");
    assert!(answer.dry_run);
    assert_eq!(world.revision().await, before);
    world.server.stop().await;
}
