//! Tokens: who is let in, until when, and that nobody is ever told what they are.

use std::time::Duration;

use policy_api::{
    client::new_secret,
    model::{HistoryQuery, Outcome, Revision, Timestamp, TokenHash, TokenSpec},
};

use super::{by, grants, plain, user};
use crate::world::{SOON, World, refusal, rule, until};

fn spec(name: &str, roles: &str, hash: TokenHash) -> TokenSpec {
    TokenSpec { name: name.parse().expect("name"), grants: grants(roles), hash, expires_at: None }
}

#[tokio::test]
async fn a_token_lets_its_bearer_in_as_who_it_names_until_it_is_revoked() {
    let world = World::new().await;
    let (secret, hash) = new_secret().expect("random");
    let alice = by(&world, &secret);
    assert_eq!(refusal(alice.who_am_i().await), (401, Some("Authorization".to_owned())));
    let made = world.operator.create_token(&spec("alice", "operator", hash), &plain()).await.expect("token");
    assert_eq!((made.outcome, made.token.hash), (Outcome::Created, None));
    let me = alice.who_am_i().await.expect("known");
    assert_eq!((me.who.as_str(), me.grants), ("token/alice", grants("operator")));
    let written = alice.put_rule(&rule("allow web db 80"), &plain()).await.expect("written");
    assert_eq!(written.rule.created_by, "token/alice");

    let mut watch = alice.watch(Revision::default(), None).await.expect("watch");
    world.operator.revoke_token(&"alice".parse().expect("name"), &plain()).await.expect("revoked");
    assert_eq!(refusal(alice.who_am_i().await), (401, Some("Authorization".to_owned())));
    let ended = tokio::time::timeout(SOON, async { while watch.next().await.is_ok() {} }).await;
    assert!(ended.is_ok(), "its watch is ended");
    world.server.stop().await;
}

#[tokio::test]
async fn a_token_is_made_once_and_its_name_is_nobody_elses_while_it_stands() {
    let world = World::new().await;
    let (_, hash) = new_secret().expect("random");
    let wish = spec("alice", "auditor", hash);
    world.operator.create_token(&wish, &plain()).await.expect("token");
    let again = world.operator.create_token(&wish, &plain()).await.expect("the same again");
    assert_eq!(again.outcome, Outcome::Unchanged);
    let more = spec("alice", "admin", hash);
    assert_eq!(refusal(world.operator.create_token(&more, &plain()).await), (409, Some("name".to_owned())));
    let twin = spec("bob", "admin", hash);
    let refused = world.operator.create_token(&twin, &plain()).await.expect_err("another name for it");
    assert!(!refused.to_string().contains(&hash.to_string()), "{refused}");
    let of_nobody = spec("carol", "writer:nobody", new_secret().expect("random").1);
    assert_eq!(refusal(world.operator.create_token(&of_nobody, &plain()).await), (404, Some("grants".to_owned())));
    world.server.stop().await;
}

#[tokio::test]
async fn a_token_for_one_purpose_is_good_for_nothing_else_not_even_to_read() {
    let world = World::new().await;
    for role in ["machine", "gate"] {
        let outside = user(&world, &format!("{role}-1"), role).await;
        let before = world.revision().await;
        let field = || Some("Authorization".to_owned());
        assert_eq!(refusal(outside.who_am_i().await), (403, field()), "{role}");
        assert_eq!(refusal(outside.apps().await), (403, field()), "{role}");
        assert_eq!(refusal(outside.status().await), (403, field()), "{role}");
        let watch = outside.watch(Revision::default(), None).await.map(drop);
        assert_eq!(refusal(watch), (403, field()), "{role}");
        let refused = outside.put_rule(&rule("allow web db 80"), &plain()).await.expect_err("written");
        let problem = refused.problem().expect("a refusal");
        assert_eq!(problem.status, 403);
        assert!(problem.detail.contains(&format!("this one's is `{role}`")), "{}", problem.detail);
        assert_eq!(world.revision().await, before, "nothing changed");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_token_that_has_expired_lets_nobody_in_and_goes() {
    let world = World::new().await;
    let (secret, hash) = new_secret().expect("random");
    let end = Timestamp::now().after(Duration::from_secs(3)).expect("a time");
    let wish = TokenSpec { expires_at: Some(end), ..spec("alice", "auditor", hash) };
    world.operator.create_token(&wish, &plain()).await.expect("token");
    let alice = by(&world, &secret);
    assert_eq!(alice.who_am_i().await.expect("known").expires_at, Some(end));
    until("it is over", SOON, async || alice.who_am_i().await.is_err()).await;
    until("it is gone", SOON, async || world.operator.tokens().await.expect("list").items.is_empty()).await;
    world.server.stop().await;
}

#[tokio::test]
async fn it_is_told_when_a_token_was_used_last_and_to_use_it_writes_nothing() {
    let world = World::new().await;
    let (secret, hash) = new_secret().expect("random");
    world.operator.create_token(&spec("alice", "auditor", hash), &plain()).await.expect("token");
    let seen = async || world.operator.tokens().await.expect("list").items.remove(0);
    assert_eq!(seen().await.last_used_at, None);
    let before = world.revision().await;
    by(&world, &secret).who_am_i().await.expect("known");
    let view = seen().await;
    assert!(view.last_used_at.expect("used") >= view.known_since, "{view:?}");
    assert_eq!(world.revision().await, before);
    // One that is made anew under its name was not used yet.
    world.operator.revoke_token(&"alice".parse().expect("name"), &plain()).await.expect("revoked");
    let (_, hash) = new_secret().expect("random");
    world.operator.create_token(&spec("alice", "auditor", hash), &plain()).await.expect("token");
    assert_eq!(seen().await.last_used_at, None);
    world.server.stop().await;
}

#[tokio::test]
async fn nobody_is_told_what_a_token_is_nor_its_hash() {
    let world = World::with_nodes().await;
    let (secret, hash) = new_secret().expect("random");
    let before = world.revision().await;
    let history = world.operator.status().await.expect("status").history;
    world.operator.create_token(&spec("alice", "auditor", hash), &plain()).await.expect("token");
    let after = world.revision().await;
    let mut told = Vec::new();
    // From the beginning, and behind what was before it.
    for (since, history) in [(Revision::default(), None), (before, Some(&history))] {
        let mut watch = world.operator.watch(since, history).await.expect("watch");
        let mut lines = String::new();
        let reading = async {
            loop {
                let line = watch.next().await.expect("a line");
                lines += &serde_json::to_string(&line).expect("json");
                if lines.contains("put_token") && lines.contains(&format!("\"revision\":{after}")) {
                    return;
                }
            }
        };
        tokio::time::timeout(SOON, reading).await.expect("in time");
        told.push(lines);
    }
    told.push(format!("{:?}", world.operator.tokens().await.expect("list")));
    world.operator.revoke_token(&"alice".parse().expect("name"), &plain()).await.expect("revoked");
    // As it came and as it went, with what was before.
    let history = world.operator.history(&HistoryQuery::default(), false, None, 1_000).await.expect("history");
    told.push(serde_json::to_string(&history).expect("json"));
    for text in &told {
        assert!(text.contains("alice"), "{text}");
        assert!(!text.contains(&hash.to_string()) && !text.contains(&secret), "{text}");
    }
    assert_eq!(refusal(world.n1.tokens().await), (403, Some("Authorization".to_owned())), "a node");
    world.server.stop().await;
}

#[tokio::test]
async fn what_a_node_is_told_does_not_change_with_tokens_and_teams() {
    let world = World::with_nodes().await;
    let mut watch = world.n1.watch_scope(None).await.expect("watch");
    let mut follower = policy_api::model::Follower::default();
    while follower.held().is_none() {
        follower.take(watch.next().await.expect("a line")).expect("it fits");
    }
    let before = follower.held().expect("held").1.digest();
    world
        .operator
        .set_team(&"shop".parse().expect("name"), &super::owning("shop-*", ""), &plain())
        .await
        .expect("team");
    let _alice = user(&world, "alice", "writer:shop").await;
    let after = world.revision().await;
    while follower.held().expect("held").1.revision() < after {
        let line = watch.next().await.expect("a line");
        let text = serde_json::to_string(&line).expect("json");
        assert!(!text.contains("alice") && !text.contains("shop"), "{text}");
        follower.take(line).expect("it fits: the digest is that of what the node holds");
    }
    assert_eq!(follower.held().expect("held").1.digest(), before);
    world.server.stop().await;
}

#[tokio::test]
async fn tokens_and_teams_survive_a_restart() {
    let world = World::new().await;
    world
        .operator
        .set_team(&"shop".parse().expect("name"), &super::owning("shop-*", ""), &plain())
        .await
        .expect("team");
    let (secret, hash) = new_secret().expect("random");
    world.operator.create_token(&spec("alice", "writer:shop", hash), &plain()).await.expect("token");
    let World { prepared, server, .. } = world;
    server.stop().await;
    let server = prepared.serve("127.0.0.1:0").await;
    let api = [format!("https://{}", server.address())];
    let alice = prepared.client_by(&api, policy_api::client::Credentials::Token(secret));
    alice.put_rule(&rule("allow shop-web shop-db 80"), &plain()).await.expect("still the team's writer");
    server.stop().await;
}
