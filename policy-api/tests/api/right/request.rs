//! Requests: one team asks, the other answers.

use policy_api::{
    client::Client,
    model::{CheckQuery, Outcome, RuleRequest, VerdictWord, Written},
};

use super::{assert_names_the_role, owning, plain, user, world_of_teams};
use crate::world::{World, refusal, rule};

async fn ask(client: &Client, text: &str) -> RuleRequest {
    match client.put_or_ask(&rule(text), &plain()).await.expect("taken") {
        Written::Asked(asked) => asked.request,
        Written::Stands(answer) => panic!("stands: {answer:?}"),
    }
}

async fn verdict(world: &World) -> VerdictWord {
    let selector = |name: &str| name.parse().expect("selector");
    let query = CheckQuery {
        source: selector("shop-web"),
        destination: selector("pay-db"),
        protocol: Default::default(),
        port: Some(1),
    };
    world.operator.check(&query).await.expect("checked").verdict
}

#[tokio::test]
async fn a_rule_between_two_teams_stands_when_the_other_team_accepts_it() {
    let world = world_of_teams().await;
    let shop = user(&world, "shop", "writer:shop").await;
    let pay = user(&world, "pay", "writer:pay").await;
    let auditor = user(&world, "aud", "auditor").await;
    let request = ask(&shop, "allow shop-web pay-db 1").await;
    assert_eq!((request.team.as_str(), request.of.as_ref().map(|team| team.as_str())), ("shop", Some("pay")));
    assert_eq!(verdict(&world).await, VerdictWord::Deny, "nothing stands yet");
    assert_eq!(ask(&shop, "allow shop-web pay-db 1").await, request, "asking again is the same");
    let why = policy_api::model::RuleSpec { reason: "CHG-7".parse().ok(), ..rule("allow shop-web pay-db 1") };
    let _asked = shop.put_or_ask(&why, &plain()).await.expect("asked with a reason");
    let again = ask(&shop, "allow shop-web pay-db 1").await;
    assert_eq!((again.id, again.rule.reason), (request.id, why.reason), "nor is the reason lost");

    for (client, who) in [(&shop, "token/shop"), (&auditor, "token/aud")] {
        let refused = client.accept(request.id, &plain()).await.expect_err("not theirs");
        assert_names_the_role(refused.problem().expect("a refusal"), who);
    }
    let accepted = pay.accept(request.id, &plain()).await.expect("accepted");
    assert_eq!((accepted.outcome, accepted.rule.created_by.as_str()), (Outcome::Created, "token/shop"));
    assert_eq!(accepted.rule.team.as_ref().map(|team| team.as_str()), Some("shop"));
    assert_eq!(verdict(&world).await, VerdictWord::Allow);
    assert!(pay.requests().await.expect("list").items.is_empty());
    assert_eq!(refusal(pay.accept(request.id, &plain()).await), (404, Some("id".to_owned())));
    // Either side may end it.
    pay.delete_rule(accepted.rule.id, &plain()).await.expect("revoked");
    world.server.stop().await;
}

#[tokio::test]
async fn a_request_is_rejected_by_who_was_asked_and_withdrawn_by_who_asked() {
    let world = world_of_teams().await;
    let shop = user(&world, "shop", "writer:shop").await;
    let pay = user(&world, "pay", "writer:pay").await;
    world.operator.set_team(&"third".parse().expect("name"), &owning("third-*", ""), &plain()).await.expect("team");
    let third = user(&world, "third", "writer:third").await;
    for client in [&pay, &shop, &world.operator] {
        let request = ask(&shop, "allow pay-web shop-db 1").await;
        let refused = third.reject(request.id, &plain()).await.expect_err("a third");
        assert_names_the_role(refused.problem().expect("a refusal"), "token/third");
        client.reject(request.id, &plain()).await.expect("ended");
    }
    assert_eq!(world.operator.status().await.expect("status").rules, 1, "the built-in one");
    world.server.stop().await;
}

#[tokio::test]
async fn what_is_nobodys_is_asked_of_the_operators() {
    let world = world_of_teams().await;
    let shop = user(&world, "shop", "writer:shop").await;
    let pay = user(&world, "pay", "writer:pay").await;
    let request = ask(&shop, "allow shop-web ghost 1").await;
    assert_eq!(request.of, None);
    assert_eq!(refusal(pay.accept(request.id, &plain()).await).0, 403);
    world.operator.accept(request.id, &plain()).await.expect("accepted");
    world.server.stop().await;
}

#[tokio::test]
async fn who_lost_an_app_since_is_not_accepted_for_it() {
    let world = world_of_teams().await;
    let shop = user(&world, "shop", "writer:shop").await;
    let pay = user(&world, "pay", "writer:pay").await;
    let request = ask(&shop, "allow shop-web pay-db 1").await;
    world.operator.set_team(&"shop".parse().expect("name"), &owning("shop-db", ""), &plain()).await.expect("smaller");
    let refused = pay.accept(request.id, &plain()).await.expect_err("shop-web is nobody's now");
    assert_names_the_role(refused.problem().expect("a refusal"), "token/pay");
    world.server.stop().await;
}

#[tokio::test]
async fn what_the_bearer_of_a_revoked_token_asked_for_is_asked_no_more() {
    let world = world_of_teams().await;
    let shop = user(&world, "shop", "writer:shop").await;
    let request = ask(&shop, "allow shop-web pay-db 1").await;
    world.operator.revoke_token(&"shop".parse().expect("name"), &plain()).await.expect("revoked");
    assert_eq!(refusal(world.operator.accept(request.id, &plain()).await), (404, Some("id".to_owned())));
    world.server.stop().await;
}
