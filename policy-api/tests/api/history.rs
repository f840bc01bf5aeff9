//! The history, asked over HTTP: who did what, what was refused, when it was in force, and whether it is what was written.

use std::time::Duration;

use policy_api::{
    client::WriteOptions,
    model::{At, EntryKind, HistoryItem, HistoryQuery, KnownSeal, Report, Revision, Seal, Timestamp},
};

use crate::world::{SOON, World, app, claim, name, rule, until};

async fn listed(world: &World, query: &HistoryQuery) -> Vec<HistoryItem> {
    world.operator.history(query, false, None, 1_000).await.expect("history").items
}

fn of(kinds: &[EntryKind]) -> HistoryQuery {
    HistoryQuery { kinds: kinds.iter().copied().collect(), ..HistoryQuery::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_told_with_who_from_where_why_what_was_and_what_it_became() {
    let world = World::new().await;
    let why = WriteOptions { reason: Some("ticket 7".parse().expect("reason")), ..WriteOptions::default() };
    let created = world.operator.put_rule(&rule("allow web db 80"), &why).await.expect("put");
    let audited = world.raw().post(world.url() + "/v1/rules").header("x-request-id", "my-request");
    let token = world.prepared.read("operator.token");
    let body = serde_json::json!({"source": "web", "destination": "db", "ports": ["80"], "action": "allow",
        "mode": "audit", "reason": "to see"});
    let answer = audited.bearer_auth(token.trim()).json(&body).send().await.expect("answered");
    assert_eq!(answer.status(), 200);
    world.operator.delete_rule(created.rule.id, &why).await.expect("deleted");

    let told = listed(&world, &HistoryQuery { rule: Some(created.rule.id), ..HistoryQuery::default() }).await;
    let [deleted, updated, first] = told.as_slice() else { panic!("{told:?}") };
    let name = format!("{} (allow web -> db tcp/80)", created.rule.id);
    assert_eq!(first.what.last(), Some(&format!("{name} created")));
    assert_eq!(updated.what, [format!("{name}: mode enforce -> audit, reason none -> `to see`")]);
    assert_eq!(deleted.what, [format!("{name} deleted")]);
    assert_eq!((first.entry.who.as_str(), first.entry.revision), ("operator", created.rule.revision));
    let reasons = [first, updated, deleted].map(|item| item.entry.reason.as_ref().expect("a reason").to_string());
    assert_eq!(reasons, ["ticket 7", "to see", "ticket 7"], "the rule's, where the request gives none");
    assert!(told.iter().all(|item| item.entry.from.is_some_and(|from| from.is_loopback())));
    assert_eq!(updated.entry.request.as_deref(), Some("my-request"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_machines_do_is_told_where_it_is_asked_for_and_drowns_nothing() {
    let world = World::with_nodes().await;
    world.operator.put_rule(&rule("allow web db 80"), &Default::default()).await.expect("put");
    for host in 2..40 {
        world.n1.claim(&claim("web", &[&format!("10.255.1.{host}")])).await.expect("claimed");
    }
    let kinds = |items: &[HistoryItem]| items.iter().map(|item| item.entry.kind).collect::<Vec<_>>();
    let unasked = listed(&world, &HistoryQuery::default()).await;
    assert_eq!(kinds(&unasked), [EntryKind::Intent, EntryKind::Node, EntryKind::Node, EntryKind::Intent]);
    let placed = listed(&world, &of(&[EntryKind::Placement])).await;
    assert_eq!((placed.len(), placed[0].what[0].as_str()), (38, "web/37 has 10.255.1.39 on n1"));
    let of_db = listed(&world, &HistoryQuery { app: Some(app("db")), ..HistoryQuery::default() }).await;
    assert_eq!(of_db.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_either_order_hold_every_entry_once() {
    let world = World::new().await;
    for port in 1..=25 {
        world.operator.put_rule(&rule(&format!("allow web db {port}")), &Default::default()).await.expect("put");
    }
    for oldest_first in [false, true] {
        let (mut numbers, mut behind) = (Vec::new(), None);
        loop {
            let page = world.operator.history(&HistoryQuery::default(), oldest_first, behind, 7).await.expect("page");
            numbers.extend(page.items.iter().map(|item| item.entry.number));
            let Some(next) = page.next else { break };
            behind = Some(next.parse().expect("a number"));
        }
        if !oldest_first {
            numbers.reverse();
        }
        // Of the first signer, the second one, nobody is told who asks for nothing special.
        assert_eq!(numbers, std::iter::once(1).chain(3..=27).collect::<Vec<u64>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_in_the_history_as_soon_as_its_asker_hears_of_it() {
    let world = World::with_nodes().await;
    world.n1.put_rule(&rule("allow web db 80"), &Default::default()).await.expect_err("a node is no operator");
    world.n1.claim(&claim("web", &["10.255.2.7"])).await.expect_err("another node's slice");
    let refused = listed(&world, &of(&[EntryKind::Refused])).await;
    let [slice, right] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(refused.iter().all(|item| item.entry.who == "node/n1" && item.entry.from.is_some()));
    assert!(right.what[0].starts_with("POST /v1/rules refused: `node/n1` may not do this"), "{right:?}");
    assert!(slice.what[0].contains("is outside 10.255.1.0/24"), "{slice:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_all_the_time_does_not_flood_the_history() {
    let world = World::with_nodes().await;
    for _ in 0..200 {
        world.n1.put_rule(&rule("allow web db 80"), &Default::default()).await.expect_err("a node is no operator");
    }
    assert!(listed(&world, &of(&[EntryKind::Refused])).await.len() <= 10);
    let verified = world.operator.verify_history(None).await.expect("verified");
    assert_eq!(verified.misfit, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_when_a_change_was_in_force_on_every_node() {
    let world = World::with_nodes().await;
    let created = world.operator.put_rule(&rule("allow web db 80"), &Default::default()).await.expect("put");
    let query = HistoryQuery { rule: Some(created.rule.id), ..HistoryQuery::default() };
    world.applied(created.rule.revision, 1_000).await.expect("reported");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(listed(&world, &query).await[0].in_force_at, None, "one of two is not every node");
    let remove = world.operator.remove_node(&"n2".parse().expect("name"), &Default::default()).await;
    let removed = remove.expect("removed").revision;
    world.applied(removed, 1_000).await.expect("reported");
    until("in force", Duration::from_secs(10), async || listed(&world, &query).await[0].in_force_at.is_some()).await;
    let item = listed(&world, &query).await.remove(0);
    assert!(item.in_force_at.expect("known") >= item.entry.time);
    let spread = listed(&world, &of(&[EntryKind::InForce])).await;
    assert_eq!(spread[0].entry.in_force.as_ref().expect("a spread").nodes, 1);
}

/// By when which node had a revision in force, as the history tells it.
async fn on_nodes(world: &World, revision: Revision) -> Vec<(String, Timestamp)> {
    let at = Some(At::Revision(revision));
    let query = HistoryQuery { since: at, until: at, nodes: true, ..HistoryQuery::default() };
    let item = listed(world, &query).await.remove(0);
    item.in_force_on.into_iter().map(|on| (on.node.to_string(), on.at)).collect()
}

async fn report(world: &World, node: &str, revision: Revision) {
    let client = if node == "n1" { &world.n1 } else { &world.n2 };
    let history = world.operator.status().await.expect("status").history;
    let report = Report {
        history,
        applied: revision,
        ready: true,
        rows_used: 0,
        rows_capacity: 1_000,
        detail: None,
        clock: None,
        cuts: Vec::new(),
    };
    client.report(&name(node), &report).await.expect("reported");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_by_when_each_node_had_a_change_in_force() {
    let world = World::with_nodes().await;
    let first =
        world.operator.put_rule(&rule("allow web db 80"), &Default::default()).await.expect("put").rule.revision;
    report(&world, "n1", first).await;
    let second =
        world.operator.put_rule(&rule("allow web db 81"), &Default::default()).await.expect("put").rule.revision;
    // One at a time, and one both at once.
    report(&world, "n1", second).await;
    report(&world, "n2", second).await;
    until("all is told", SOON, async || on_nodes(&world, second).await.len() == 2).await;
    let (of_first, of_second) = (on_nodes(&world, first).await, on_nodes(&world, second).await);
    let names = |on: &[(String, Timestamp)]| on.iter().map(|(node, _)| node.clone()).collect::<Vec<_>>();
    assert_eq!((names(&of_first), names(&of_second)), (vec!["n1".into(), "n2".into()], vec!["n1".into(), "n2".into()]));
    assert!(of_first[0].1 < of_second[0].1, "n1 had the first one sooner: {of_first:?} {of_second:?}");
    assert_eq!(of_first[1], of_second[1], "n2 took both at once");
    let unasked = listed(&world, &HistoryQuery::default()).await;
    assert!(unasked.iter().all(|item| item.in_force_on.is_empty()), "only who asks is told");
    assert_eq!(world.operator.verify_history(None).await.expect("verified").misfit, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_took_is_told_when_another_stays_away_and_then_nothing_more_is_written() {
    let world = World::with_nodes().await;
    let revision =
        world.operator.put_rule(&rule("allow web db 80"), &Default::default()).await.expect("put").rule.revision;
    report(&world, "n1", revision).await;
    until("n1 is told", SOON, async || on_nodes(&world, revision).await.len() == 1).await;
    assert_eq!(listed(&world, &HistoryQuery::default()).await[0].in_force_at, None, "one of two is not every node");
    assert_eq!(listed(&world, &of(&[EntryKind::InForce])).await.len(), 1);
    report(&world, "n2", revision).await;
    until("n2 is told", SOON, async || on_nodes(&world, revision).await.len() == 2).await;
    let told = listed(&world, &of(&[EntryKind::InForce])).await;
    assert_eq!(told.len(), 2);
    // Who says again what was known says nothing new.
    report(&world, "n1", revision).await;
    world.n1.claim(&claim("web", &["10.255.1.7"])).await.expect("claimed");
    let placed = world.revision().await;
    for node in ["n1", "n2"] {
        report(&world, node, placed).await;
    }
    let more = world.operator.put_rule(&rule("allow web db 81"), &Default::default()).await.expect("put").rule.revision;
    for node in ["n1", "n2"] {
        report(&world, node, more).await;
    }
    until("the next is told", SOON, async || on_nodes(&world, more).await.len() == 2).await;
    let at = Some(At::Revision(more));
    let made = listed(&world, &HistoryQuery { since: at, until: at, ..HistoryQuery::default() }).await[0].entry.number;
    let told = listed(&world, &of(&[EntryKind::InForce])).await;
    let before = told.iter().filter(|item| item.entry.number < made).count();
    assert_eq!(before, 2, "a placement alone is not written down: {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_written_when_the_api_stops_is_written_then() {
    let world = World::with_nodes().await;
    let revision =
        world.operator.put_rule(&rule("allow web db 80"), &Default::default()).await.expect("put").rule.revision;
    report(&world, "n1", revision).await;
    let listen = world.server.address().to_string();
    world.server.stop().await;
    let server = world.prepared.serve(&listen).await;
    let at = Some(At::Revision(revision));
    let query = HistoryQuery { since: at, until: at, nodes: true, ..HistoryQuery::default() };
    let told = world.operator.history(&query, false, None, 10).await.expect("history").items.remove(0);
    assert_eq!(told.in_force_on.iter().map(|on| on.node.as_str()).collect::<Vec<_>>(), ["n1"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_proves_itself_and_a_seal_that_somebody_wrote_down_proves_more() {
    let world = World::new().await;
    for port in 1..=5 {
        world.operator.put_rule(&rule(&format!("allow web db {port}")), &Default::default()).await.expect("put");
    }
    let verified = world.operator.verify_history(None).await.expect("verified");
    assert_eq!((verified.first, verified.number, verified.misfit), (1, 7, None));
    let known = KnownSeal { number: verified.number, seal: verified.seal };
    world.operator.put_rule(&rule("allow web db 6"), &Default::default()).await.expect("put");
    assert_eq!(world.operator.verify_history(Some(known)).await.expect("verified").misfit, None);
    let other = KnownSeal { seal: Seal::default(), ..known };
    let misfit = world.operator.verify_history(Some(other)).await.expect("verified").misfit.expect("a misfit");
    assert_eq!((misfit.number, misfit.revision.0), (7, 7));
}
