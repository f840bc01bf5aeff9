//! What gatekeepers are told, at once and whole, and what they have written down.

use std::time::Duration;

use policy_api::{
    client::{Client, GateWatch},
    model::{Decision, EntryKind, GateLine, GateReport, GateState, GateVerdict, HistoryQuery, ResourceId, Timestamp},
};
use tokio::task::spawn_blocking;

use super::{
    BOT, audience,
    check::{releases, set},
    own_token,
};
use crate::{
    etcd_cluster::EtcdCluster,
    right::{plain, user},
    world::{Prepared, SOON, World, name, refusal},
};

const RESOURCE: &str = "production/release-bot";

fn resource() -> ResourceId {
    RESOURCE.parse().expect("resource")
}

async fn watching(client: &Client) -> GateWatch {
    client.gate_watch(&resource(), &audience(BOT)).await.expect("a watch")
}

/// Somebody who watches as a gatekeeper does.
pub(crate) struct Gatekeeper {
    watch: GateWatch,
    state: GateState,
}

impl Gatekeeper {
    /// By a token of its own.
    pub(crate) async fn of(world: &World) -> Self {
        let client = user(world, "gate-1", "gate").await;
        Self::by(&client).await
    }

    pub(crate) async fn by(client: &Client) -> Self {
        let mut watch = watching(client).await;
        let first = tokio::time::timeout(SOON, watch.next()).await.expect("in time").expect("a line");
        let GateLine::State(state) = first else { panic!("the first line is the state: {first:?}") };
        Self { watch, state: *state }
    }

    /// The first state of which this is so.
    pub(crate) async fn until(&mut self, is_so: impl Fn(&GateState) -> bool) -> GateState {
        let reading = async {
            while !is_so(&self.state) {
                if let GateLine::State(state) = self.watch.next().await.expect("a line") {
                    self.state = *state;
                }
            }
        };
        tokio::time::timeout(SOON, reading).await.expect("in time");
        self.state.clone()
    }

    /// Returns when the watch has ended.
    async fn ended(&mut self) {
        let reading = async { while self.watch.next().await.is_ok() {} };
        tokio::time::timeout(SOON, reading).await.expect("the watch is ended");
    }
}

#[tokio::test]
async fn a_gatekeeper_is_told_everything_first_and_then_hears_heartbeats() {
    let world = World::new().await;
    let gate = Gatekeeper::of(&world).await;
    let status = world.operator.status().await.expect("status");
    assert_eq!(gate.state.issuer.as_str(), format!("netpol:{}", status.history));
    assert_eq!(gate.state.keys, world.operator.jwks().await.expect("keys").keys);
    assert_eq!(
        (gate.state.resource.as_str(), gate.state.subjects.len()),
        (RESOURCE, 0),
        "nobody may do anything there"
    );
    let Gatekeeper { mut watch, .. } = gate;
    let next = tokio::time::timeout(SOON, watch.next()).await.expect("in time").expect("a line");
    assert!(matches!(next, GateLine::Heartbeat { heartbeat: true, .. }), "{next:?}");
    world.server.stop().await;
}

#[tokio::test]
async fn who_may_do_what_is_told_whole_when_it_changes() {
    let world = releases().await;
    let mut gate = Gatekeeper::of(&world).await;
    let may = |state: &GateState, who: &str| -> Vec<String> {
        let privileges = state.subjects.get(&who.parse().expect("subject"));
        privileges.into_iter().flatten().map(ToString::to_string).collect()
    };
    assert_eq!(may(&gate.state, "host:ci-1"), ["create", "read"]);
    assert_eq!(may(&gate.state, "user:operator"), ["delete"]);
    // Another machine takes its place in the layer, that has the role, that has the privileges.
    set(&world, serde_json::json!({"layers": [{"name": "ci", "members": ["host:ci-2"]}]})).await;
    let state = gate.until(|state| may(state, "host:ci-1").is_empty()).await;
    assert_eq!(may(&state, "host:ci-2"), ["create", "read"]);
    set(&world, serde_json::json!({"resources": [{"id": RESOURCE, "permissions": []}]})).await;
    gate.until(|state| state.subjects.is_empty()).await;
    world.server.stop().await;
}

#[tokio::test]
async fn what_is_no_business_of_gatekeepers_is_told_to_none() {
    let world = World::new().await;
    let Gatekeeper { mut watch, state } = Gatekeeper::of(&world).await;
    world.operator.put_rule(&crate::world::rule("allow web db 80"), &plain()).await.expect("written");
    let after = world.revision().await;
    let reading = async {
        loop {
            match watch.next().await.expect("a line") {
                GateLine::Heartbeat { revision, .. } if revision >= after => return,
                GateLine::Heartbeat { .. } => {}
                GateLine::State(told) => panic!("told again: {told:?} after {state:?}"),
            }
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("in time");
    world.server.stop().await;
}

#[tokio::test]
async fn a_node_may_watch_by_its_certificate_until_it_is_removed() {
    let world = World::with_nodes().await;
    let mut gate = Gatekeeper::by(&world.n1).await;
    world.operator.remove_node(&name("n1"), &plain()).await.expect("removed");
    gate.ended().await;
    assert_eq!(refusal(world.n1.gate_watch(&resource(), &audience(BOT)).await.map(drop)).0, 401);
    world.server.stop().await;
}

#[tokio::test]
async fn a_revoked_gatekeeper_hears_nothing_more() {
    let world = World::new().await;
    let mut gate = Gatekeeper::of(&world).await;
    world.operator.revoke_token(&"gate-1".parse().expect("name"), &plain()).await.expect("revoked");
    gate.ended().await;
    world.server.stop().await;
}

#[tokio::test]
async fn nobody_but_gatekeepers_and_nodes_is_told_or_reports() {
    let world = World::new().await;
    let machine = user(&world, "ci-1", "machine").await;
    let admin = user(&world, "root", "admin").await;
    for client in [&machine, &admin, &world.operator, &world.n1] {
        let field = Some("Authorization".to_owned());
        let watch = client.gate_watch(&resource(), &audience(BOT)).await.map(drop);
        assert_eq!(refusal(watch), (403, field.clone()));
        assert_eq!(refusal(client.gate_report(&report(1, 0)).await), (403, field));
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_at_one_api_reaches_gatekeepers_at_another() {
    let start = || {
        let cluster = EtcdCluster::start();
        (Prepared::in_etcd(&cluster), cluster)
    };
    let (prepared, _cluster) = spawn_blocking(start).await.expect("started");
    let one = prepared.serve("127.0.0.1:0").await;
    let two = prepared.serve("127.0.0.1:0").await;
    let [at_one, at_two] = [&one, &two].map(|server| [format!("https://{}", server.address())]);
    let n1 = prepared.join(&at_two, "n1", "192.168.1.1").await;
    let mut gate = Gatekeeper::by(&n1).await;
    let operator = prepared.client(&at_one, "operator.token");
    let token = own_token(&operator).await;
    operator.revoke_identity_token(&token.id, &plain()).await.expect("revoked");
    gate.until(|state| state.revoked.tokens.contains(&token.id)).await;
    tokio::join!(one.stop(), two.stop());
}

fn decision(path: &str) -> Decision {
    Decision {
        at: Timestamp::now(),
        subject: Some("host:ci-1".to_owned()),
        privilege: Some("create".parse().expect("privilege")),
        method: "POST".to_owned(),
        path: path.to_owned(),
        verdict: GateVerdict::Allow,
        reason: "role publisher".to_owned(),
        status: Some(201),
        request_id: Some("abc".to_owned()),
        count: 1,
    }
}

fn report(decisions: usize, lost: u64) -> GateReport {
    let decisions = (0..decisions).map(|number| decision(&format!("/releases/{number}"))).collect();
    GateReport { resource: resource(), decisions, lost }
}

#[tokio::test]
async fn what_a_gatekeeper_decided_stands_in_the_history_with_who_told_it() {
    let world = World::new().await;
    let gate = user(&world, "gate-1", "gate").await;
    gate.gate_report(&report(2, 5)).await.expect("written");
    let query = HistoryQuery { kinds: [EntryKind::Gate].into(), ..HistoryQuery::default() };
    let items = world.operator.history(&query, true, None, 100).await.expect("history").items;
    let told: Vec<&str> = items.iter().flat_map(|item| item.what.iter().map(String::as_str)).collect();
    assert_eq!(
        told,
        [
            "production/release-bot: POST /releases/0 by host:ci-1 allowed, privilege create: role publisher; status 201",
            "production/release-bot: POST /releases/1 by host:ci-1 allowed, privilege create: role publisher; status 201",
            "production/release-bot: 5 decisions were not told",
        ]
    );
    assert!(items.iter().all(|item| item.entry.who == "token/gate-1" && item.entry.from.is_some()));
    let of_machine = HistoryQuery { who: Some("host:ci-1".to_owned()), ..HistoryQuery::default() };
    let items = world.operator.history(&of_machine, true, None, 100).await.expect("history").items;
    assert_eq!(items.len(), 2, "it is found by whom it is about");
    let verified = world.operator.verify_history(None).await.expect("walked");
    assert!(verified.misfit.is_none());
    world.server.stop().await;
}

#[tokio::test]
async fn a_gatekeeper_cannot_flood_the_history() {
    let world = World::new().await;
    let gate = user(&world, "gate-1", "gate").await;
    let mut written = 0;
    let refused = loop {
        match gate.gate_report(&report(100, 0)).await {
            Ok(()) => written += 100,
            Err(refused) => break refused,
        }
        assert!(written <= 700, "{written} lines at once");
    };
    assert_eq!(refused.status(), Some(429));
    assert!(refused.retry_after().is_some_and(|wait| wait <= Duration::from_secs(60)));
    // Another one has its own.
    let other = user(&world, "gate-2", "gate").await;
    other.gate_report(&report(100, 0)).await.expect("written");
    assert_eq!(refusal(other.gate_report(&report(101, 0)).await), (400, Some("decisions".to_owned())));
    world.server.stop().await;
}
