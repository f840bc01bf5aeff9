//! What nodes ask for, say and get.

use std::time::{Duration, Instant};

use policy_api::model::{
    BindingState, ClockReading, Cut, NodeReceipt, Report, Revision, RuleUsage, Timestamp, Usage, UsageReport,
};

use crate::world::{SOON, World, app, at, claim, ip, name, refusal, rule, until};

#[tokio::test]
async fn a_node_joins_claims_and_releases() {
    let world = World::with_nodes().await;
    let joined = world.n1.join(&name("n1"), &at("192.168.1.1")).await.expect("again");
    assert_eq!(joined.node.slices.slice_v4.to_string(), "10.255.1.0/24");
    let claimed = world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("claimed");
    assert_eq!((claimed.instance, claimed.identity.number()), (0, 256));
    let found = world.operator.lookup(ip("10.255.1.7"), None).await.expect("found");
    assert_eq!((found.binding.instance_name().as_str(), found.binding.node.as_str()), ("web/0", "n1"));
    assert_eq!(world.operator.instances(Some(&app("web"))).await.expect("instances").items.len(), 1);
    let released = world.n1.release(ip("10.255.1.7")).await.expect("released");
    assert!(released.revision > claimed.revision);
    let freed = world.operator.lookup(ip("10.255.1.7"), None).await.expect("still known");
    assert_eq!(freed.binding.state, BindingState::Freed);
    assert!(world.operator.instances(None).await.expect("instances").items.is_empty());
    assert_eq!(world.operator.bindings().await.expect("bindings").items.len(), 1);
    world.server.stop().await;
}

#[tokio::test]
async fn a_node_gets_only_what_is_its_own() {
    let world = World::with_nodes().await;
    world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("claimed");
    let field = |field: &str| Some(field.to_owned());
    assert_eq!(refusal(world.n2.join(&name("n2"), &at("192.168.1.1")).await), (409, field("underlay")));
    assert_eq!(refusal(world.n2.claim(&claim("web", &["10.255.1.8"])).await), (403, field("addresses[0]")));
    assert_eq!(refusal(world.n2.claim(&claim("db", &["10.255.2.8"])).await), (403, field("app")));
    assert_eq!(refusal(world.n1.claim(&claim("db", &["10.255.1.7"])).await), (409, field("addresses[0]")));
    assert_eq!(refusal(world.n2.release(ip("10.255.1.7")).await), (403, field("address")));
    let mut elsewhere = claim("web", &["10.255.2.7"]);
    elsewhere.instance = Some(0);
    assert_eq!(refusal(world.n2.claim(&elsewhere).await), (409, field("instance")));
    assert_eq!(world.n2.claim(&claim("web", &["10.255.2.7"])).await.expect("claimed").instance, 1);
    world.server.stop().await;
}

#[tokio::test]
async fn instances_come_by_the_page_with_all_their_addresses() {
    let world = World::with_nodes().await;
    for host in 1..=5 {
        let (v4, v6) = (format!("10.255.1.{host}"), slice_v6_address(&world, host).await);
        world.n1.claim(&claim("web", &[&v4, &v6])).await.expect("claimed");
    }
    let http = world.raw();
    let token = world.prepared.read("operator.token");
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let url = format!("{}/v1/instances?app=web&limit=3{cursor}", world.url());
        let answer = http.get(url).bearer_auth(token.trim()).send().await.expect("answer");
        let page: policy_api::model::List<policy_api::model::Binding> = answer.json().await.expect("page");
        seen.extend(page.items.iter().map(|binding| binding.address));
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 10);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10);
    world.server.stop().await;
}

async fn slice_v6_address(world: &World, host: u16) -> String {
    let nodes = world.operator.nodes().await.expect("nodes");
    format!("{}{host:x}", nodes.items[0].node.slices.slice_v6.address())
}

#[tokio::test]
async fn a_revision_is_in_force_when_the_connected_nodes_say_so() {
    let world = World::with_nodes().await;
    let revision =
        world.operator.put_rule(&rule("allow appA appB 80"), &Default::default()).await.expect("rule").rule.revision;
    let alone = world.operator.wait_in_force(revision, SOON).await.expect("answer");
    assert!(alone.complete && alone.in_force.is_empty());
    assert_eq!(alone.disconnected, [name("n1"), name("n2")]);
    let mut watch = world.n1.watch(Default::default(), None).await.expect("watch");
    watch.next().await.expect("line");
    let waited = world.operator.wait_in_force(revision, Duration::from_millis(50)).await.expect("answer");
    assert_eq!((waited.complete, waited.missing), (false, vec![name("n1")]));
    let (answer, reported) = tokio::join!(world.operator.wait_in_force(revision, SOON), world.applied(revision, 1000));
    reported.expect("reported");
    let answer = answer.expect("answer");
    assert_eq!((answer.complete, answer.in_force), (true, vec![name("n1")]));
    let view = world.operator.nodes().await.expect("nodes").items.remove(0);
    assert_eq!((view.connected, view.ready, view.applied, view.rows_capacity), (true, true, Some(revision), 1000));
    drop(watch);
    let start = Instant::now();
    while world.operator.status().await.expect("status").nodes_connected > 0 {
        assert!(start.elapsed() < SOON, "a node whose watch ended stays connected");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.server.stop().await;
}

#[tokio::test]
async fn rules_that_a_node_has_no_room_for_are_refused() {
    let world = World::with_nodes().await;
    let built_in = world.operator.status().await.expect("status").rows;
    world.applied(world.revision().await, built_in + 3).await.expect("reported");
    world.operator.put_rule(&rule("allow appA appB 8000-8010"), &Default::default()).await.expect("3 rows");
    let full = world.operator.put_rule(&rule("allow appA appB 80"), &Default::default()).await;
    assert_eq!(refusal(full), (409, None));
    world.server.stop().await;
}

#[tokio::test]
async fn a_report_about_another_store_or_the_future_is_refused() {
    let world = World::with_nodes().await;
    let future = policy_api::model::Revision(99);
    assert_eq!(refusal(world.applied(future, 1).await), (409, Some("applied".to_owned())));
    let report = policy_api::model::Report {
        history: "1111111111111111".parse().expect("history"),
        applied: policy_api::model::Revision(1),
        ready: true,
        rows_used: 0,
        rows_capacity: 0,
        detail: None,
        clock: None,
        cuts: Vec::new(),
    };
    assert_eq!(refusal(world.n1.report(&name("n1"), &report).await), (409, Some("history".to_owned())));
    world.server.stop().await;
}

#[tokio::test]
async fn a_receipt_waits_for_the_nodes_and_says_what_each_cut() {
    let world = World::with_nodes().await;
    // What the rule is about runs there: else it would change nothing for the node.
    world.n1.claim(&claim("appA", &["10.255.1.7"])).await.expect("claimed");
    let _watch = world.n1.watch(Revision(0), None).await.expect("watch");
    let revision =
        world.operator.put_rule(&rule("deny appA appB 80"), &Default::default()).await.expect("rule").rule.revision;
    let early = world.operator.receipt(revision, Duration::from_millis(50)).await.expect("answer");
    assert_eq!((early.flows, early.nodes.len(), early.missing), (0, 0, vec![name("n1"), name("n2")]));
    let report = Report {
        history: world.operator.status().await.expect("status").history,
        applied: revision,
        ready: true,
        rows_used: 0,
        rows_capacity: 1000,
        detail: None,
        clock: None,
        cuts: vec![Cut { after: Revision(1), applied: revision, flows: 3 }],
    };
    let n1 = name("n1");
    let (receipt, reported) = tokio::join!(world.operator.receipt(revision, SOON), world.n1.report(&n1, &report));
    reported.expect("reported");
    let receipt = receipt.expect("answer");
    assert_eq!(
        (receipt.flows, receipt.nodes, receipt.missing),
        (3, vec![NodeReceipt { node: n1, flows: 3 }], vec![name("n2")])
    );
    assert_eq!(refusal(world.operator.receipt(Revision(99), SOON).await), (404, Some("revision".to_owned())));
    world.server.stop().await;
}

#[tokio::test]
async fn rules_show_what_they_are_used_for_on_all_nodes_together() {
    let world = World::with_nodes().await;
    let id = world.operator.put_rule(&rule("allow appA appB 80"), &Default::default()).await.expect("rule").rule.id;
    let since = Timestamp::now();
    let counted = |packets| {
        let usage = Usage { packets, bytes: 60 * packets, flows: 1, live: 2, last_hit: Some(since) };
        UsageReport { since, rules: vec![RuleUsage { id, usage }] }
    };
    world.n1.report_usage(&name("n1"), &counted(5)).await.expect("noted");
    world.n2.report_usage(&name("n2"), &counted(2)).await.expect("noted");
    let other = world.n1.report_usage(&name("n2"), &counted(2)).await;
    assert_eq!(refusal(other), (403, Some("Authorization".to_owned())));
    let usage = world.operator.rule(id).await.expect("rule").usage;
    assert_eq!((usage.packets, usage.bytes, usage.flows, usage.last_hit), (7, 420, 2, Some(since)));
    assert_eq!(usage.live, 0, "no node is there that could say what lives");
    let mut watch = world.n1.watch(Revision(0), None).await.expect("a watch");
    watch.next().await.expect("a line");
    assert_eq!(world.operator.rule(id).await.expect("rule").usage.live, 2);
    let listed = world.operator.list_rules(&Default::default()).await.expect("list").items;
    assert_eq!(listed.iter().map(|view| view.usage.packets).collect::<Vec<_>>(), [0, 7]);
    world.server.stop().await;
}

#[tokio::test]
async fn a_time_too_near_to_a_change_of_owner_for_the_clocks_of_nodes_is_said_to_be() {
    let world = World::with_nodes().await;
    let address = ip("10.255.1.7");
    let web = world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("claimed");
    world.n1.release(address).await.expect("released");
    world.n1.claim(&claim("db", &["10.255.1.7"])).await.expect("claimed");
    let db = world.operator.lookup(address, None).await.expect("found").binding;
    until("it to be past", SOON, async || Timestamp::now() > db.since).await;

    let certain = world.operator.lookup(address, Some(db.since)).await.expect("found");
    assert_eq!((certain.binding.instance_name().as_str(), certain.clock_error_ms), ("db/0", None));
    assert!(certain.or.is_empty(), "no node has said anything about its clock: {certain:?}");

    let history = world.operator.status().await.expect("status").history;
    let clock = Some(ClockReading { ahead_ms: -3_600_000, error_ms: 5 });
    let (applied, detail, cuts) = (web.revision, None, Vec::new());
    let report = Report { history, applied, ready: true, rows_used: 0, rows_capacity: 1, detail, clock, cuts };
    world.n1.report(&name("n1"), &report).await.expect("reported");
    assert_eq!(world.operator.nodes().await.expect("nodes").items[0].clock, clock);
    let found = world.operator.lookup(address, Some(db.since)).await.expect("found");
    assert_eq!((found.clock_error_ms, found.or), (Some(3_600_005), vec!["nobody".to_owned()]));
    assert!(found.text.contains("within 3600005 ms") && found.text.contains("n1's"), "{}", found.text);
    let nobody = world.operator.lookup(address, db.since.before(Duration::from_secs(60))).await.expect_err("nobody");
    assert!(nobody.to_string().contains("it was also db/0's"), "{nobody}");
    world.server.stop().await;
}
