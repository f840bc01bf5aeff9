//! Teams: what they own, and how much.

use policy_api::model::{RuleRequest, TeamSettings};

use super::{owning, plain, user, world_of_teams};
use crate::world::{World, refusal, rule};

#[tokio::test]
async fn no_app_and_no_group_is_ever_two_teams() {
    let world = World::new().await;
    let (shop, pay) = ("shop".parse().expect("name"), "pay".parse().expect("name"));
    world.operator.set_team(&shop, &owning("shop-* cart", "front"), &plain()).await.expect("team");
    for (apps, groups, field) in [
        ("shop-db", "", "apps[0]"),
        ("pay-* *", "", "apps[0]"),
        ("Cart", "", "apps[0]"),
        ("pay-*", "fro*", "groups[0]"),
    ] {
        let refused = world.operator.set_team(&pay, &owning(apps, groups), &plain()).await;
        assert_eq!(refusal(refused), (409, Some(field.to_owned())), "{apps} {groups}");
    }
    world.operator.set_team(&pay, &owning("pay-* front", "cart"), &plain()).await.expect("apart");
    world.operator.set_team(&shop, &owning("shop-*", ""), &plain()).await.expect("its own may change");
    world.server.stop().await;
}

#[tokio::test]
async fn a_team_has_no_more_rules_than_it_may() {
    let world = world_of_teams().await;
    let name = "shop".parse().expect("name");
    let two = TeamSettings { most_rules: Some(2), ..owning("shop-*", "shop*") };
    world.operator.set_team(&name, &two, &plain()).await.expect("team");
    let shop = user(&world, "shop", "writer:shop").await;
    for port in [1, 2] {
        shop.put_rule(&rule(&format!("allow shop-web shop-db {port}")), &plain()).await.expect("within");
    }
    let third = rule("allow shop-web shop-db 3");
    assert_eq!(refusal(shop.put_rule(&third, &plain()).await), (409, Some("team".to_owned())));
    shop.put_rule(&rule("allow shop-web shop-db 2"), &plain()).await.expect("it stands already");
    world.operator.put_rule(&third, &plain()).await.expect("an operator's is not the team's");
    let first = world.operator.list_rules(&Default::default()).await.expect("list").items;
    let first = first.iter().find(|view| view.rule.team.is_some()).expect("a rule of the team").rule.id;
    let instead = policy_api::model::ChangeSet {
        create: vec![rule("allow shop-web shop-db 4")],
        delete: vec![first],
        ..Default::default()
    };
    shop.change(&instead, &plain()).await.expect("one for another");
    world.server.stop().await;
}

#[tokio::test]
async fn writers_of_a_team_make_no_more_apps_than_it_may_have() {
    let world = world_of_teams().await;
    let name = "shop".parse().expect("name");
    // Two are there.
    let three = TeamSettings { most_apps: Some(3), ..owning("shop-*", "shop*") };
    world.operator.set_team(&name, &three, &plain()).await.expect("team");
    let shop = user(&world, "shop", "writer:shop").await;
    let over = (409, Some("team".to_owned()));
    let both = rule("allow shop-c shop-d 1");
    assert_eq!(refusal(shop.put_rule(&both, &plain()).await), over, "a rule that would make two");
    shop.put_rule(&rule("allow shop-web shop-c 1"), &plain()).await.expect("the third");
    let set = policy_api::model::AppSettings::default();
    assert_eq!(refusal(shop.set_app(&"shop-d".parse().expect("name"), &set, &plain()).await), over);
    shop.put_rule(&rule("allow shop-c shop-db 1"), &plain()).await.expect("these are there");
    world.operator.put_rule(&both, &plain()).await.expect("an operator may");
    assert_eq!(refusal(shop.put_rule(&rule("allow shop-web shop-e 1"), &plain()).await), over, "and it counts");
    world.server.stop().await;
}

#[tokio::test]
async fn a_team_goes_when_nothing_is_its_any_more() {
    let world = world_of_teams().await;
    let name = "shop".parse().expect("name");
    let shop = user(&world, "alice", "writer:shop").await;
    let made = shop.put_rule(&rule("allow shop-web shop-db 1"), &plain()).await.expect("written");
    let refused = world.operator.delete_team(&name, &plain()).await.expect_err("in use");
    let detail = refused.to_string();
    assert!(detail.contains("rules: 1") && detail.contains("alice"), "{detail}");
    let _asked = shop.put_or_ask(&rule("allow shop-web pay-db 1"), &plain()).await.expect("asked");
    world.operator.delete_rule(made.rule.id, &plain()).await.expect("deleted");
    world.operator.revoke_token(&"alice".parse().expect("name"), &plain()).await.expect("revoked");
    world.operator.delete_team(&name, &plain()).await.expect("deleted");
    let waiting: Vec<RuleRequest> = world.operator.requests().await.expect("list").items;
    assert!(waiting.is_empty(), "{waiting:?}");
    world.server.stop().await;
}
