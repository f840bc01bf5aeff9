//! Watches of everything: in order, at once, and resumed where they broke off.

use std::time::Instant;

use policy_api::{
    client::{ClientError, Watch},
    model::{Change, ChangeSet, Follower, Revision, WatchLine},
};

use crate::world::{World, claim, next_news, refusal, rule};

/// Reads until the follower holds this revision.
async fn follow(watch: &mut Watch, follower: &mut Follower, revision: Revision) {
    while follower.held().is_none_or(|(_, replica)| replica.revision() < revision) {
        follower.take(next_news(watch).await).expect("it fits");
    }
}

async fn put(world: &World, text: &str) -> Revision {
    world.operator.put_rule(&rule(text), &Default::default()).await.expect("rule").rule.revision
}

#[tokio::test]
async fn a_watch_begins_with_a_snapshot_and_goes_on_with_deltas() {
    let world = World::new().await;
    let create = (1..=2300).map(|port| rule(&format!("allow appA appB {port}"))).collect();
    let revision = world.operator.change(&ChangeSet::of_rules(create, vec![]), &Default::default()).await;
    let revision = revision.expect("changed").revision;
    let mut watch = world.operator.watch(Revision(0), None).await.expect("watch");
    let mut follower = Follower::default();
    follow(&mut watch, &mut follower, revision).await;
    let revision = put(&world, "deny appC appB 80").await;
    let WatchLine::Delta { base, revision: to, changes, .. } = next_news(&mut watch).await else { panic!("no delta") };
    assert_eq!((base.next(), to), (revision, revision));
    assert!(matches!(changes.as_slice(), [Change::PutApp { .. }, Change::PutRule { .. }]));
    world.server.stop().await;
}

#[tokio::test]
async fn a_watch_begins_with_the_clock_and_tells_it_again_with_each_heartbeat() {
    let world = World::new().await;
    let mut watch = world.operator.watch(Revision(0), None).await.expect("watch");
    let WatchLine::Clock { now: first } = watch.next().await.expect("line") else { panic!("not the clock") };
    let mut before = None;
    loop {
        let line = watch.next().await.expect("line");
        if matches!(line, WatchLine::Heartbeat { .. }) {
            let Some(WatchLine::Clock { now }) = before else { panic!("no clock before it, but {before:?}") };
            assert!(now >= first);
            break;
        }
        before = Some(line);
    }
    world.server.stop().await;
}

#[tokio::test]
async fn heartbeats_carry_head_and_digest() {
    let world = World::new().await;
    let mut watch = world.operator.watch(Revision(0), None).await.expect("watch");
    let mut follower = Follower::default();
    put(&world, "allow appA appB 80").await;
    let mut heartbeats = 0;
    while heartbeats < 2 {
        let line = watch.next().await.expect("line");
        heartbeats += usize::from(matches!(line, WatchLine::Heartbeat { .. }));
        follower.take(line).expect("head and digest agree");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_watch_resumes_behind_its_place_also_after_a_restart() {
    let world = World::new().await;
    let mut watch = world.operator.watch(Revision(0), None).await.expect("watch");
    let mut follower = Follower::default();
    let first = put(&world, "allow appA appB 80").await;
    follow(&mut watch, &mut follower, first).await;
    drop(watch);
    put(&world, "allow appA appB 81").await;
    let address = world.server.address().to_string();
    world.server.stop().await;
    let server = world.prepared.serve(&address).await;
    let (history, place) =
        follower.held().map(|(history, replica)| (history.clone(), replica.revision())).expect("held");
    let mut watch = world.operator.watch(place, Some(&history)).await.expect("resumed");
    let line = next_news(&mut watch).await;
    assert!(matches!(&line, WatchLine::Delta { base, .. } if *base == first), "{line:?}");
    follower.take(line).expect("it fits");
    let heartbeat = watch.next().await.expect("line");
    assert!(matches!(heartbeat, WatchLine::Heartbeat { .. }));
    follower.take(heartbeat).expect("nothing was missed");
    server.stop().await;
}

#[tokio::test]
async fn a_place_that_is_not_known_gets_a_snapshot_and_one_ahead_a_refusal() {
    let world = World::new().await;
    put(&world, "allow appA appB 80").await;
    let stranger = "1111111111111111".parse().expect("history");
    let mut watch = world.operator.watch(Revision(1), Some(&stranger)).await.expect("watch");
    assert!(matches!(next_news(&mut watch).await, WatchLine::Snapshot { .. }));
    let history = world.operator.status().await.expect("status").history;
    let ahead = world.operator.watch(Revision(9), Some(&history)).await.map(|_| ());
    assert_eq!(refusal(ahead), (409, Some("since".to_owned())));
    world.server.stop().await;
}

#[tokio::test]
async fn stopping_ends_every_watch_at_once() {
    let world = World::new().await;
    let mut watch = world.operator.watch(Revision(0), None).await.expect("watch");
    watch.next().await.expect("line");
    let start = Instant::now();
    world.server.stop().await;
    assert!(start.elapsed().as_secs() < 3, "a watch kept the server for {:?}", start.elapsed());
    let ended = loop {
        match watch.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, ClientError::Unreachable { .. }), "{ended}");
}

#[tokio::test]
async fn a_rule_reaches_a_watch_within_milliseconds() {
    let world = World::with_nodes().await;
    world.n1.claim(&claim("appA", &["10.255.1.7"])).await.expect("claimed");
    let mut watch = world.n1.watch_scope(None).await.expect("watch");
    let mut follower = Follower::default();
    let first = put(&world, "allow appA appB 1").await;
    follow(&mut watch, &mut follower, first).await;
    let mut times = Vec::new();
    for port in 2..=101 {
        let start = Instant::now();
        let spec = rule(&format!("allow appA appB {port}"));
        let options = Default::default();
        let (written, line) = tokio::join!(world.operator.put_rule(&spec, &options), next_news(&mut watch));
        written.expect("written");
        assert!(matches!(line, WatchLine::Delta { .. }));
        times.push(start.elapsed());
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("rule to watch line: median {median:?}, worst {worst:?}");
    assert!(median.as_millis() < 25, "median {median:?}, worst {worst:?}");
    world.server.stop().await;
}
