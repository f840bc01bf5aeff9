//! Apps and isolation as clients see them.

use std::time::Duration;

use policy_api::{
    client::WriteOptions,
    model::{AppSettings, GroupWish, IsolationSpec, Mode, Outcome, RuleFilter, Selector, Target, Timestamp},
};

use crate::world::{SOON, World, app, claim, name, refusal, rule};

fn plain() -> WriteOptions {
    WriteOptions::default()
}

fn these(groups: &[&str]) -> GroupWish {
    GroupWish::These { groups: groups.iter().map(|group| group.parse().expect("name")).collect() }
}

fn isolation(target: &str) -> IsolationSpec {
    let Target { app, instance } = target.parse().expect("target");
    IsolationSpec { app, instance, expires_at: None, reason: None }
}

#[tokio::test]
async fn an_apps_mode_and_groups_are_set_and_shown() {
    let world = World::new().await;
    let settings = AppSettings { mode: Some(Mode::Audit), groups: these(&["front", "eu"]) };
    let created = world.operator.set_app(&app("web"), &settings, &plain()).await.expect("created");
    assert_eq!((created.outcome, created.app.mode), (Outcome::Created, Mode::Audit));
    let again = world.operator.set_app(&app("web"), &settings, &plain()).await.expect("unchanged");
    assert_eq!((again.outcome, again.app.revision), (Outcome::Unchanged, created.app.revision));
    let edit = GroupWish::Edit {
        add_groups: ["blue".parse().expect("name")].into(),
        remove_groups: ["eu".parse().expect("name")].into(),
    };
    let settings = AppSettings { mode: None, groups: edit };
    let updated = world.operator.set_app(&app("web"), &settings, &plain()).await.expect("updated");
    let groups: Vec<_> = updated.app.groups.iter().map(ToString::to_string).collect();
    assert_eq!(
        (updated.outcome, updated.app.mode, groups),
        (Outcome::Updated, Mode::Audit, vec!["blue".into(), "front".into()])
    );
    assert_eq!(world.operator.apps().await.expect("apps").items, [updated.app]);
    let groups = world.operator.groups().await.expect("groups").items;
    let numbers: Vec<_> = groups.iter().map(|group| (group.name.to_string(), group.number)).collect();
    assert_eq!(numbers, [("blue".to_owned(), 3), ("eu".to_owned(), 1), ("front".to_owned(), 2)]);
    world.server.stop().await;
}

#[tokio::test]
async fn an_app_is_in_eight_groups_at_most() {
    let world = World::new().await;
    let names: Vec<String> = (0..9).map(|number| format!("g{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let set = |groups| AppSettings { mode: None, groups };
    let eight = world.operator.set_app(&app("web"), &set(these(&names[..8])), &plain()).await;
    assert_eq!(eight.expect("eight").app.groups.len(), 8);
    let nine = world.operator.set_app(&app("web"), &set(these(&names)), &plain()).await;
    assert_eq!(refusal(nine), (409, Some("groups".to_owned())));
    let more = GroupWish::Edit { add_groups: ["g8".parse().expect("name")].into(), remove_groups: Default::default() };
    let more = world.operator.set_app(&app("web"), &set(more), &plain()).await;
    assert_eq!(refusal(more), (409, Some("add_groups".to_owned())));
    assert_eq!(world.operator.groups().await.expect("groups").items.len(), 8, "a refused request makes no group");
    world.server.stop().await;
}

#[tokio::test]
async fn an_app_goes_when_nobody_runs_it_and_no_rule_names_it() {
    let world = World::with_nodes().await;
    let web = app("web");
    world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("claim");
    let id = world.operator.put_rule(&rule("allow web db 80"), &plain()).await.expect("rule").rule.id;
    world.operator.isolate(&isolation("web"), &plain()).await.expect("isolated");
    assert_eq!(refusal(world.operator.delete_app(&web, &plain()).await), (409, Some("name".to_owned())));
    world.n1.release("10.255.1.7".parse().expect("address")).await.expect("released");
    assert_eq!(refusal(world.operator.delete_app(&web, &plain()).await), (409, Some("name".to_owned())));
    world.operator.delete_rule(id, &plain()).await.expect("deleted");
    let before = world.operator.apps().await.expect("apps").items;
    world.operator.delete_app(&web, &plain()).await.expect("deleted");
    assert_eq!(world.operator.apps().await.expect("apps").items.len(), 1);
    assert!(world.operator.bindings().await.expect("bindings").items.is_empty());
    assert!(world.operator.isolations().await.expect("isolations").items.is_empty());
    assert_eq!(refusal(world.operator.delete_app(&web, &plain()).await), (404, Some("name".to_owned())));
    world.operator.put_rule(&rule("allow web db 80"), &plain()).await.expect("named anew");
    let after = world.operator.apps().await.expect("apps").items;
    let of = |apps: &[policy_api::model::App]| apps.iter().find(|known| known.name == web).expect("web").identity;
    assert!(of(&after) > of(&before), "an identity never comes back");
    world.server.stop().await;
}

#[tokio::test]
async fn isolation_is_begun_updated_and_ended_by_name() {
    let world = World::with_nodes().await;
    world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("claim");
    let whole = world.operator.isolate(&isolation("web"), &plain()).await.expect("isolated");
    let one = world.operator.isolate(&isolation("web/0"), &plain()).await.expect("isolated");
    assert_eq!(
        (whole.outcome, one.outcome, one.isolation.created_by.as_str()),
        (Outcome::Created, Outcome::Created, "operator")
    );
    let reasoned = IsolationSpec { reason: "INC-7".parse().ok(), ..isolation("web") };
    let updated = world.operator.isolate(&reasoned, &plain()).await.expect("updated");
    assert_eq!(updated.outcome, Outcome::Updated);
    assert_eq!(world.operator.isolate(&reasoned, &plain()).await.expect("same").outcome, Outcome::Unchanged);
    let standing = world.operator.isolations().await.expect("isolations").items;
    assert_eq!(standing, [updated.isolation.clone(), one.isolation.clone()]);
    let ended = world.operator.end_isolation(&"web".parse().expect("target"), &plain()).await.expect("ended");
    assert_eq!((ended.isolation, ended.still_isolated_by), (updated.isolation, vec![one.isolation]));
    let again = world.operator.end_isolation(&"web".parse().expect("target"), &plain()).await;
    assert_eq!(refusal(again), (404, Some("target".to_owned())));
    world.operator.end_isolation(&"web/0".parse().expect("target"), &plain()).await.expect("ended");
    world.server.stop().await;
}

#[tokio::test]
async fn nobody_is_isolated_by_a_mistyped_name() {
    let world = World::with_nodes().await;
    world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("claim");
    for (target, field) in [("wbe", "app"), ("web/7", "instance")] {
        let refused = world.operator.isolate(&isolation(target), &plain()).await;
        let text = refused.as_ref().expect_err("unknown").to_string();
        assert!(text.contains("did you mean `web"), "{text}");
        assert_eq!(refusal(refused), (404, Some(field.to_owned())));
    }
    world.server.stop().await;
}

#[tokio::test]
async fn what_has_an_end_is_gone_when_it_is_reached_and_watchers_hear_of_it() {
    let world = World::new().await;
    let now = world.operator.status().await.expect("status").now;
    let end = now.after(Duration::from_millis(300));
    let ending = policy_api::model::RuleSpec { expires_at: end, ..rule("allow web db 80") };
    let standing = world.operator.put_rule(&ending, &plain()).await.expect("rule").rule;
    assert_eq!(standing.expires_at, end);
    let past = policy_api::model::RuleSpec { expires_at: Some(now), ..rule("allow web db 81") };
    assert_eq!(refusal(world.operator.put_rule(&past, &plain()).await), (400, Some("expires_at".to_owned())));
    world.operator.wait_in_force(standing.revision, SOON).await.expect("there are no nodes");
    let mut watch = world
        .operator
        .watch(standing.revision, Some(&world.operator.status().await.expect("status").history))
        .await
        .expect("watch");
    let line = crate::world::next_news(&mut watch).await;
    let policy_api::model::WatchLine::Delta { revision, changes, .. } = line else { panic!("{line:?}") };
    assert_eq!(revision, standing.revision.next());
    assert_eq!(changes, [policy_api::model::Change::DeleteRule { id: standing.id }]);
    assert!(end.is_some_and(|end| end <= Timestamp::now()), "not before its time");
    world.server.stop().await;
}

#[tokio::test]
async fn a_rule_may_name_a_group_before_anybody_is_in_it() {
    let world = World::new().await;
    let before = world.revision().await;
    let revision =
        world.operator.put_rule(&rule("allow group:front any 80"), &plain()).await.expect("rule").rule.revision;
    assert_eq!(revision, before.next());
    let front = Selector::Group("front".parse().expect("name"));
    let filter = RuleFilter { source: Some(front), ..RuleFilter::default() };
    assert_eq!(world.operator.list_rules(&filter).await.expect("list").items.len(), 1);
    let mistyped = RuleFilter { source: "group:frnt".parse().ok(), ..RuleFilter::default() };
    let refused = world.operator.list_rules(&mistyped).await;
    assert!(refused.as_ref().expect_err("unknown").to_string().contains("did you mean `front`?"));
    assert_eq!(refusal(refused), (404, Some("source".to_owned())));
    let cased = world.operator.put_rule(&rule("allow group:Front any 80"), &plain()).await;
    assert_eq!(refusal(cased), (409, Some("source".to_owned())));
    let status = world.operator.status().await.expect("status");
    assert_eq!((status.apps, status.rules), (0, 2));
    assert_eq!(world.operator.groups().await.expect("groups").items[0].number, 1);
    assert!(
        world
            .n1
            .report_usage(&name("n1"), &policy_api::model::UsageReport { since: Timestamp::now(), rules: vec![] })
            .await
            .is_err()
    );
    world.server.stop().await;
}
