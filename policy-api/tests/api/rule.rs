//! Rules as clients see them.

use policy_api::{
    client::WriteOptions,
    model::{ChangeSet, CheckQuery, Outcome, RuleFilter, RuleId, VerdictWord},
};

use crate::world::{World, app, refusal, rule};

/// The rule that a store is born with.
const BUILT_IN: RuleId = RuleId(1);

fn plain() -> WriteOptions {
    WriteOptions::default()
}

#[tokio::test]
async fn allowing_twice_is_unchanged_and_revoking_is_once() {
    let world = World::new().await;
    let created = world.operator.put_rule(&rule("allow appA appB 8080"), &plain()).await.expect("created");
    let again = world.operator.put_rule(&rule("allow appA appB 8080"), &plain()).await.expect("unchanged");
    assert_eq!((created.outcome, again.outcome), (Outcome::Created, Outcome::Unchanged));
    assert_eq!(created.rule, again.rule);
    let deleted = world.operator.delete_rule(created.rule.id, &plain()).await.expect("deleted");
    assert_eq!((deleted.rule, deleted.still_allowed_by.len()), (created.rule, 0));
    assert_eq!(refusal(world.operator.delete_rule(deleted.id, &plain()).await), (404, Some("id".to_owned())));
    world.server.stop().await;
}

#[tokio::test]
async fn a_key_makes_a_write_happen_once() {
    let world = World::new().await;
    let keyed = WriteOptions { idempotency_key: Some("deploy-7".to_owned()), ..plain() };
    let first = world.operator.put_rule(&rule("allow appA appB 8080"), &keyed).await.expect("created");
    world.operator.delete_rule(first.rule.id, &plain()).await.expect("deleted");
    let again = world.operator.put_rule(&rule("allow appA appB 8080"), &keyed).await.expect("the first answer");
    assert_eq!(first, again);
    let standing = world.operator.list_rules(&RuleFilter::default()).await.expect("list").items;
    assert_eq!(standing.iter().map(|view| view.rule.id).collect::<Vec<_>>(), [BUILT_IN]);
    let other = world.operator.put_rule(&rule("allow appA appB 9090"), &keyed).await;
    assert_eq!(refusal(other), (422, Some("Idempotency-Key".to_owned())));
    world.server.stop().await;
}

#[tokio::test]
async fn a_write_bound_to_a_state_that_is_gone_is_refused() {
    let world = World::new().await;
    world.operator.put_rule(&rule("allow appA appB 8080"), &plain()).await.expect("created");
    let seen = world.operator.list_rules(&RuleFilter::default()).await.expect("list").etag;
    let bound = WriteOptions { if_match: seen, ..plain() };
    world.operator.put_rule(&rule("allow appA appB 8081"), &bound).await.expect("nothing changed in between");
    let late = world.operator.put_rule(&rule("allow appA appB 8082"), &bound).await;
    assert_eq!(refusal(late), (412, Some("If-Match".to_owned())));
    assert_eq!(refusal(world.operator.delete_rule(BUILT_IN, &bound).await).0, 412);
    assert_eq!(world.operator.status().await.expect("status").rules, 3);
    world.server.stop().await;
}

#[tokio::test]
async fn a_dry_run_answers_and_changes_nothing() {
    let world = World::new().await;
    let dry = WriteOptions { dry_run: true, ..plain() };
    let before = world.revision().await;
    let answer = world.operator.put_rule(&rule("allow appA appB 8080"), &dry).await.expect("answer");
    assert!(answer.dry_run);
    assert_eq!(world.revision().await, before);
    world.server.stop().await;
}

#[tokio::test]
async fn a_change_set_is_all_or_nothing() {
    let world = World::new().await;
    let create = vec![rule("allow appA appB 80"), rule("deny appA appC 80")];
    let changes = ChangeSet::of_rules(create, vec![]);
    let done = world.operator.change(&changes, &plain()).await.expect("changed");
    assert_eq!((done.created.len(), done.revision.0), (2, 3));
    let broken = ChangeSet::of_rules(vec![rule("allow x y 80")], vec![BUILT_IN, RuleId(9)]);
    assert_eq!(refusal(world.operator.change(&broken, &plain()).await), (404, Some("delete[1]".to_owned())));
    assert_eq!(world.revision().await, done.revision);
    world.server.stop().await;
}

#[tokio::test]
async fn lists_come_by_the_page_and_filtered() {
    let world = World::new().await;
    let create = (1..=2500).map(|port| rule(&format!("allow app{} db {port}", port % 5))).collect();
    world.operator.change(&ChangeSet::of_rules(create, vec![]), &plain()).await.expect("changed");
    let all = world.operator.list_rules(&RuleFilter::default()).await.expect("list");
    assert_eq!(all.items.iter().map(|view| view.rule.id.0).collect::<Vec<_>>(), (1..=2501).collect::<Vec<_>>());
    let of_one = RuleFilter { app: Some(app("app3")), ..RuleFilter::default() };
    assert_eq!(world.operator.list_rules(&of_one).await.expect("list").items.len(), 500);
    let pair = RuleFilter { source: "app3".parse().ok(), destination: "app4".parse().ok(), app: None };
    assert!(world.operator.list_rules(&pair).await.expect("list").items.is_empty());
    assert_eq!(world.operator.apps().await.expect("apps").items.len(), 6);
    world.server.stop().await;
}

#[tokio::test]
async fn check_answers_by_what_stands() {
    let world = World::new().await;
    world.operator.put_rule(&rule("allow appA appB 8080"), &plain()).await.expect("created");
    let ask = |source: &str, destination: &str| CheckQuery {
        source: source.parse().expect("selector"),
        destination: destination.parse().expect("selector"),
        protocol: Default::default(),
        port: Some(8080),
    };
    let allowed = world.operator.check(&ask("appA", "appB")).await.expect("answer");
    assert_eq!((allowed.verdict, allowed.rule.map(|rule| rule.id)), (VerdictWord::Allow, Some(RuleId(2))));
    let reversed = world.operator.check(&ask("appB", "appA")).await.expect("answer");
    assert_eq!(reversed.verdict, VerdictWord::Deny);
    world.server.stop().await;
}
