//! Watches of nodes: what their instances need and nothing else, and what is in force where a revision changes nothing.

use std::time::Duration;

use policy_api::{
    client::Watch,
    model::{Follower, Replica, Revision, WatchLine},
};

use crate::world::{SOON, World, app, claim, ip, name, next_news, rule};

/// A node that follows its watch.
struct Node {
    watch: Watch,
    follower: Follower,
}

impl Node {
    /// `n1`, as it comes for the first time.
    async fn new(world: &World) -> Self {
        Self::resuming(world, Follower::default()).await
    }

    async fn resuming(world: &World, follower: Follower) -> Self {
        Self { watch: world.n1.watch_scope(follower.held()).await.expect("watch"), follower }
    }

    fn replica(&self) -> &Replica {
        self.follower.held().map(|(_, replica)| replica).expect("a state")
    }

    /// Reads until it holds this revision, by whatever line says so.
    async fn reach(&mut self, revision: Revision) {
        let reading = async {
            while self.follower.held().is_none_or(|(_, replica)| replica.revision() < revision) {
                self.follower.take(self.watch.next().await.expect("a line")).expect("it fits");
            }
        };
        tokio::time::timeout(SOON, reading).await.expect("in time");
    }

    async fn next_change(&mut self) {
        let line = next_news(&mut self.watch).await;
        assert!(matches!(line, WatchLine::Delta { .. }), "{line:?}");
        assert!(self.follower.take(line).expect("it fits"));
    }
}

/// `appA` runs on `n1`, `webB` and `webC` on `n2`.
async fn world() -> World {
    let world = World::with_nodes().await;
    world.n1.claim(&claim("appA", &["10.255.1.7"])).await.expect("claimed");
    world.n2.claim(&claim("webB", &["10.255.2.7"])).await.expect("claimed");
    world.n2.claim(&claim("webC", &["10.255.2.8"])).await.expect("claimed");
    world
}

#[tokio::test]
async fn a_node_hears_of_an_app_when_a_rule_makes_it_a_peer_and_until_none_does() {
    let world = world().await;
    let mut node = Node::new(&world).await;
    node.reach(world.revision().await).await;
    let alone = Replica::clone(node.replica());
    assert_eq!(alone.apps.keys().cloned().collect::<Vec<_>>(), [app("appA")]);
    assert_eq!(alone.bindings.keys().copied().collect::<Vec<_>>(), [ip("10.255.1.7")]);
    assert_eq!(alone.nodes.keys().cloned().collect::<Vec<_>>(), [name("n1")]);

    let options = Default::default();
    let other = world.operator.put_rule(&rule("allow webB webC 80"), &options).await.expect("rule").rule;
    let allowed = world.operator.put_rule(&rule("allow appA webB 80"), &options).await.expect("rule").rule;
    node.next_change().await;
    let replica = node.replica();
    assert_eq!(replica.revision(), allowed.revision);
    assert!(replica.rules.contains_key(&allowed.id) && !replica.rules.contains_key(&other.id));
    assert!(replica.apps.contains_key(&app("webB")) && !replica.apps.contains_key(&app("webC")));
    assert!(replica.bindings.contains_key(&ip("10.255.2.7")) && replica.nodes.contains_key(&name("n2")));

    world.n2.release(ip("10.255.2.7")).await.expect("released");
    node.next_change().await;
    assert!(!node.replica().bindings[&ip("10.255.2.7")].is_live(), "a peer that may come back stays published");

    world.operator.delete_rule(allowed.id, &options).await.expect("deleted");
    node.next_change().await;
    assert_eq!(node.replica().digest(), alone.digest());
    assert_eq!((&node.replica().apps, &node.replica().bindings), (&alone.apps, &alone.bindings));
    world.server.stop().await;
}

#[tokio::test]
async fn a_revision_that_changes_nothing_for_a_node_is_told_by_a_heartbeat_alone() {
    let world = world().await;
    let mut node = Node::new(&world).await;
    node.reach(world.revision().await).await;
    let rule = world.operator.put_rule(&rule("allow webB webC 80"), &Default::default()).await.expect("rule").rule;
    loop {
        let line = node.watch.next().await.expect("a line");
        assert!(matches!(line, WatchLine::Clock { .. } | WatchLine::Heartbeat { .. }), "{line:?}");
        assert!(!node.follower.take(line).expect("it fits"), "nothing changes");
        if node.replica().revision() == rule.revision {
            break;
        }
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_node_resumes_if_it_holds_what_it_needs_also_after_a_restart_and_else_gets_all_of_it() {
    let world = world().await;
    let mut node = Node::new(&world).await;
    node.reach(world.revision().await).await;
    let Node { watch, follower } = node;
    drop(watch);
    world.operator.put_rule(&rule("allow webB webC 80"), &Default::default()).await.expect("rule");
    let (head, address) = (world.revision().await, world.server.address().to_string());
    world.server.stop().await;
    let server = world.prepared.serve(&address).await;

    let watch = world.n1.watch_scope(follower.held()).await.expect("watch");
    let mut node = Node { watch, follower };
    node.next_change().await;
    assert_eq!(node.replica().revision(), head, "nothing is said twice, and the node says what it has in force");

    let Node { watch, follower } = node;
    drop(watch);
    world.operator.put_rule(&rule("deny webC appA 80"), &Default::default()).await.expect("rule");
    let mut watch = world.n1.watch_scope(follower.held()).await.expect("watch");
    assert!(matches!(next_news(&mut watch).await, WatchLine::Snapshot { .. }));
    server.stop().await;
}

#[tokio::test]
async fn what_changes_nothing_for_a_node_is_in_force_there_once_it_has_all_that_does() {
    let world = world().await;
    let mut node = Node::new(&world).await;
    let begun = world.revision().await;
    node.reach(begun).await;
    let elsewhere = || rule("allow webB webC 80");
    let before = world.operator.put_rule(&elsewhere(), &Default::default()).await.expect("rule").rule;
    let early = world.operator.wait_in_force(before.revision, Duration::from_millis(50)).await.expect("answer");
    assert_eq!(early.missing, [name("n1")], "it has not said that it enforces anything");

    world.applied(begun, 1000).await.expect("reported");
    let answer = world.operator.wait_in_force(before.revision, SOON).await.expect("answer");
    assert_eq!((answer.complete, answer.in_force), (true, vec![name("n1")]));
    let receipt = world.operator.receipt(before.revision, SOON).await.expect("answer");
    assert_eq!((receipt.flows, receipt.nodes.len()), (0, 1));

    let here = world.operator.put_rule(&rule("allow appA webB 80"), &Default::default()).await.expect("rule").rule;
    world.operator.delete_rule(before.id, &Default::default()).await.expect("deleted");
    let head = world.revision().await;
    let late = world.operator.wait_in_force(head, Duration::from_millis(50)).await.expect("answer");
    assert_eq!(late.missing, [name("n1")]);
    let view = world.operator.nodes().await.expect("nodes").items.remove(0);
    assert_eq!(view.applied.map(Revision::next), Some(here.revision), "up to the one that it has not acknowledged");

    world.applied(here.revision, 1000).await.expect("reported");
    let answer = world.operator.wait_in_force(head, SOON).await.expect("answer");
    assert_eq!((answer.complete, answer.in_force), (true, vec![name("n1")]));
    world.server.stop().await;
}
