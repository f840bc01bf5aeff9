//! What stood at some time, asked over HTTP.

use policy_api::model::{At, CheckQuery, Protocol, Revision, RuleFilter, VerdictWord};

use crate::world::{World, app, claim, refusal, rule};

fn may_web_reach_db() -> CheckQuery {
    let selector = |name: &str| name.parse().expect("selector");
    CheckQuery { source: selector("web"), destination: selector("db"), protocol: Protocol::Tcp, port: Some(80) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_checks_apps_and_instances_are_told_as_they_were() {
    let world = World::with_nodes().await;
    let operator = &world.operator;
    let created = operator.put_rule(&rule("allow web db 80"), &Default::default()).await.expect("put");
    world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("claimed");
    let then = world.revision().await;
    operator.delete_rule(created.rule.id, &Default::default()).await.expect("deleted");
    world.n1.release("10.255.1.7".parse().expect("address")).await.expect("released");
    operator.put_rule(&rule("allow mail db 25"), &Default::default()).await.expect("put");

    let past = operator.at(At::Revision(then));
    let rules = past.rules(&RuleFilter::default()).await.expect("rules");
    assert_eq!(rules.revision, then);
    assert!(rules.items.iter().any(|view| view.rule == created.rule), "{rules:?}");
    assert_eq!(past.check(&may_web_reach_db()).await.expect("check").verdict, VerdictWord::Allow);
    assert_eq!(operator.check(&may_web_reach_db()).await.expect("check").verdict, VerdictWord::Deny);
    assert_eq!(past.instances(Some(&app("web"))).await.expect("instances").items.len(), 1);
    assert_eq!(operator.instances(Some(&app("web"))).await.expect("instances").items.len(), 0);
    assert!(past.apps().await.expect("apps").items.iter().all(|known| known.name != app("mail")));

    let now = policy_api::model::Timestamp::now();
    let present = operator.at(At::Time(now)).rules(&RuleFilter::default()).await.expect("rules");
    assert_eq!(present.items.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_to_come_a_revision_to_come_and_what_is_none_are_refused_naming_the_field() {
    let world = World::new().await;
    let operator = &world.operator;
    let rules = async |at: At| refusal(operator.at(at).rules(&RuleFilter::default()).await);
    assert_eq!(rules(At::Revision(Revision(99))).await, (404, Some("at".to_owned())));
    assert_eq!(rules(At::Revision(Revision(0))).await, (404, Some("at".to_owned())));
    let later = policy_api::model::Timestamp::now().after(std::time::Duration::from_secs(60)).expect("a time");
    assert_eq!(rules(At::Time(later)).await, (400, Some("at".to_owned())));
}
