//! What a flow may do, told as an operator would: one node, two apps, packets in order.
#![cfg(feature = "model")]

use common::{
    Action, Address, DropReason, Ends, Fragment, Grounds, Identity, Kind, Layer, Note, Outcome, Packet, Party, Pass,
    PortRange, Protocol, RuleId, Ruling, Softening, Term, Verdict,
    conntrack::Entry,
    judge,
    model::ModelNode,
    placement::End,
    settings::{Lifetimes, Quotas, Settings},
};

const WEB: Address = Address::from_v4([10, 255, 1, 2]);
const DB: Address = Address::from_v4([10, 255, 2, 3]);
const RULE: RuleId = RuleId(7);

fn identity(number: u32) -> Identity {
    Identity::new(number).expect("24 bits")
}

struct Scene {
    node: ModelNode,
    web: End,
    db: End,
    softening: Softening,
}

/// Of every packet.
const BYTES: u32 = 100;

impl Scene {
    fn new() -> Self {
        Self::with_quotas(Quotas { unanswered: 4, answered: 4, ..Quotas::default() })
    }

    fn with_quotas(quotas: Quotas) -> Self {
        let settings = Settings { lifetimes: Lifetimes::default(), quotas, seed: 99, ..Settings::NONE };
        let node = ModelNode::new(settings, 1_000);
        node.open_account(WEB);
        node.open_account(DB);
        Self {
            node,
            web: End { identity: identity(300), generation: 1 },
            db: End { identity: identity(400), generation: 0 },
            softening: Softening::default(),
        }
    }

    fn term(&self, action: Action, protocol: Protocol) -> Term {
        let ports = match protocol {
            Protocol::Icmp => PortRange::ALL,
            Protocol::Tcp | Protocol::Udp | Protocol::Sctp => PortRange::new(8080, 8080).expect("ordered"),
        };
        let ruling = Ruling { action, rule: RULE };
        let (source, destination) = (Party::one(self.web.identity), Party::one(self.db.identity));
        Term { source, destination, protocol, ports, layer: Layer::Enforced, ruling }
    }

    fn allow(&self, protocol: Protocol) {
        self.node.set_terms(vec![self.term(Action::Allow, protocol)]);
    }

    fn there(&self, protocol: Protocol, kind: Kind, port: u16) -> Verdict {
        let packet = packet(protocol, kind, (WEB, port), (DB, 8080));
        judge(&self.node, &packet, &Ends { source: self.web, destination: self.db, softening: self.softening }, BYTES)
    }

    fn back(&self, protocol: Protocol, kind: Kind, port: u16) -> Verdict {
        let packet = packet(protocol, kind, (DB, 8080), (WEB, port));
        judge(&self.node, &packet, &Ends { source: self.db, destination: self.web, softening: self.softening }, BYTES)
    }

    fn handshake(&self, port: u16) {
        assert_eq!(self.there(Protocol::Tcp, Kind::Opening, port), NEW);
        assert_eq!(self.back(Protocol::Tcp, Kind::Reply, port), KNOWN);
        assert_eq!(self.there(Protocol::Tcp, Kind::Segment, port), KNOWN);
    }

    fn only_entry(&self) -> Entry {
        let flows = self.node.flows.borrow();
        assert_eq!(flows.len(), 1);
        flows.values().next().expect("one flow").entry
    }

    fn charged(&self, address: Address) -> (u64, u64) {
        let charges = self.node.charges.borrow();
        (charges[&address].unanswered, charges[&address].answered)
    }
}

const NEW: Verdict = Verdict { outcome: Outcome::Pass(Pass::New), grounds: Grounds { rule: RULE, ..Grounds::NONE } };
const KNOWN: Verdict = Verdict { outcome: Outcome::Pass(Pass::Established), grounds: Grounds::NONE };

fn dropped_by(reason: DropReason, rule: RuleId) -> Verdict {
    Verdict { outcome: Outcome::Drop(reason), grounds: Grounds { rule, ..Grounds::NONE } }
}

fn dropped(verdict: Verdict) -> Option<DropReason> {
    match verdict.outcome {
        Outcome::Drop(reason) => Some(reason),
        Outcome::Pass(_) => None,
    }
}

fn packet(protocol: Protocol, kind: Kind, source: (Address, u16), destination: (Address, u16)) -> Packet {
    let (source_port, destination_port, echo_id) = match (protocol, kind) {
        (Protocol::Icmp, Kind::Opening) => (1, 0, source.1),
        (Protocol::Icmp, _) => (0, 1, destination.1),
        (Protocol::Tcp | Protocol::Udp | Protocol::Sctp, _) => (source.1, destination.1, 0),
    };
    Packet {
        source: source.0,
        destination: destination.0,
        protocol,
        kind,
        source_port,
        destination_port,
        echo_id,
        transport: 34,
        header: 8,
        length: 8,
        fragment: Fragment::WHOLE,
    }
}

#[test]
fn nothing_passes_without_a_rule() {
    let scene = Scene::new();
    assert_eq!(dropped(scene.there(Protocol::Tcp, Kind::Opening, 1)), Some(DropReason::NoRule));
    assert_eq!(dropped(scene.there(Protocol::Udp, Kind::Datagram, 1)), Some(DropReason::NoRule));
    assert_eq!(dropped(scene.there(Protocol::Tcp, Kind::Segment, 1)), Some(DropReason::NoFlow));
    assert!(scene.node.flows.borrow().is_empty());
}

#[test]
fn replies_of_an_allowed_flow_pass_and_nothing_else_goes_backwards() {
    let scene = Scene::new();
    scene.allow(Protocol::Tcp);
    scene.handshake(1);
    assert_eq!(dropped(scene.back(Protocol::Tcp, Kind::Opening, 1)), Some(DropReason::NoRule));
    assert_eq!(dropped(scene.back(Protocol::Tcp, Kind::Opening, 2)), Some(DropReason::NoRule));
    assert_eq!(dropped(scene.back(Protocol::Tcp, Kind::Segment, 2)), Some(DropReason::NoFlow));
}

#[test]
fn a_revoked_rule_stops_a_live_flow_in_both_directions_and_a_new_one_resumes_it() {
    for (protocol, first, then, reply) in [
        (Protocol::Tcp, Kind::Opening, Kind::Segment, Kind::Segment),
        (Protocol::Udp, Kind::Datagram, Kind::Datagram, Kind::Datagram),
    ] {
        let scene = Scene::new();
        scene.allow(protocol);
        assert_eq!(scene.there(protocol, first, 1), NEW);
        assert_eq!(scene.back(protocol, reply, 1), KNOWN);
        scene.node.set_terms(vec![]);
        assert_eq!(dropped(scene.there(protocol, then, 1)), Some(DropReason::FlowRevoked));
        assert_eq!(dropped(scene.back(protocol, reply, 1)), Some(DropReason::FlowRevoked));
        scene.allow(protocol);
        assert_eq!(scene.back(protocol, reply, 1), KNOWN);
        assert_eq!(scene.there(protocol, then, 1), KNOWN);
    }
}

#[test]
fn a_deny_beats_a_standing_allow_on_a_live_flow_and_is_named() {
    let scene = Scene::new();
    scene.allow(Protocol::Tcp);
    scene.handshake(1);
    let deny =
        Term { ruling: Ruling { action: Action::Deny, rule: RuleId(9) }, ..scene.term(Action::Deny, Protocol::Tcp) };
    scene.node.set_terms(vec![scene.term(Action::Allow, Protocol::Tcp), deny]);
    assert_eq!(scene.back(Protocol::Tcp, Kind::Segment, 1), dropped_by(DropReason::FlowRevoked, RuleId(9)));
    assert_eq!(scene.there(Protocol::Tcp, Kind::Opening, 2), dropped_by(DropReason::DenyRule, RuleId(9)));
}

#[test]
fn a_change_of_rules_is_looked_up_once_per_flow() {
    let scene = Scene::new();
    scene.allow(Protocol::Tcp);
    scene.handshake(1);
    scene.allow(Protocol::Tcp);
    assert_eq!(scene.there(Protocol::Tcp, Kind::Segment, 1), KNOWN);
    assert_eq!(scene.only_entry().word().epoch(), scene.node.epoch.get());
}

#[test]
fn an_address_that_changed_owner_inherits_no_verdict() {
    let mut scene = Scene::new();
    scene.allow(Protocol::Udp);
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), NEW);
    scene.web.identity = identity(301);
    assert_eq!(dropped(scene.there(Protocol::Udp, Kind::Datagram, 1)), Some(DropReason::NoRule));
    assert_eq!(scene.charged(WEB), (0, 0));
}

#[test]
fn a_new_attachment_of_the_same_app_is_judged_afresh() {
    let mut scene = Scene::new();
    scene.allow(Protocol::Udp);
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), NEW);
    scene.web.generation = 2;
    assert_eq!(dropped(scene.back(Protocol::Udp, Kind::Datagram, 1)), Some(DropReason::NoRule));
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), NEW);
    assert_eq!(scene.charged(WEB), (1, 0));
}

#[test]
fn quotas_hit_only_their_instance_and_charge_what_they_say() {
    let scene = Scene::new();
    scene.allow(Protocol::Udp);
    for port in 1..=4 {
        assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, port), NEW);
    }
    assert_eq!(dropped(scene.there(Protocol::Udp, Kind::Datagram, 5)), Some(DropReason::QuotaUnanswered));
    assert_eq!(scene.charged(WEB), (4, 0));
    for port in 1..=4 {
        assert_eq!(scene.back(Protocol::Udp, Kind::Datagram, port), KNOWN);
    }
    assert_eq!(scene.charged(WEB), (0, 4));
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 5), NEW);
    assert_eq!(dropped(scene.back(Protocol::Udp, Kind::Datagram, 5)), Some(DropReason::QuotaAnswered));
    assert_eq!(scene.charged(WEB), (1, 4));
    assert_eq!(scene.charged(DB), (0, 0));
}

#[test]
fn an_instance_without_an_account_opens_nothing() {
    let scene = Scene::new();
    scene.allow(Protocol::Udp);
    scene.node.charges.borrow_mut().remove(&WEB);
    assert_eq!(dropped(scene.there(Protocol::Udp, Kind::Datagram, 1)), Some(DropReason::QuotaUnanswered));
}

#[test]
fn a_flow_ends_when_it_ends_and_a_syn_starts_it_anew() {
    let scene = Scene::new();
    scene.allow(Protocol::Tcp);
    scene.handshake(1);
    assert_eq!(scene.there(Protocol::Tcp, Kind::Finish, 1), KNOWN);
    assert!(!scene.only_entry().is_ended());
    assert_eq!(scene.back(Protocol::Tcp, Kind::Finish, 1), KNOWN);
    assert!(scene.only_entry().is_ended());
    assert_eq!(scene.there(Protocol::Tcp, Kind::Segment, 1), KNOWN, "the last acknowledgement");
    assert_eq!(scene.there(Protocol::Tcp, Kind::Opening, 1), NEW);
    assert_eq!(scene.charged(WEB), (1, 0));
}

#[test]
fn udp_lives_by_its_initiator_alone() {
    let scene = Scene::new();
    scene.allow(Protocol::Udp);
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), NEW);
    for _ in 0..2 {
        scene.node.pass_time(100);
        let _ = scene.back(Protocol::Udp, Kind::Datagram, 1);
    }
    assert_eq!(dropped(scene.back(Protocol::Udp, Kind::Datagram, 1)), Some(DropReason::NoRule));
}

#[test]
fn a_silent_flow_is_forgotten_and_its_charge_with_it() {
    let scene = Scene::new();
    scene.allow(Protocol::Udp);
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), NEW);
    scene.node.pass_time(60);
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), NEW);
    assert_eq!(scene.charged(WEB), (1, 0));
}

#[test]
fn a_stream_that_outlived_its_entry_is_picked_up_only_from_the_allowed_side() {
    let scene = Scene::new();
    scene.allow(Protocol::Tcp);
    assert_eq!(dropped(scene.back(Protocol::Tcp, Kind::Segment, 1)), Some(DropReason::NoFlow));
    for kind in [Kind::Reply, Kind::Finish, Kind::Reset] {
        assert_eq!(dropped(scene.there(Protocol::Tcp, kind, 1)), Some(DropReason::NoFlow));
    }
    assert_eq!(scene.there(Protocol::Tcp, Kind::Segment, 1), NEW);
    assert_eq!(scene.back(Protocol::Tcp, Kind::Segment, 1), KNOWN);
}

#[test]
fn an_echo_reply_needs_its_request_and_each_side_asks_for_itself() {
    let scene = Scene::new();
    scene.allow(Protocol::Icmp);
    assert_eq!(dropped(scene.back(Protocol::Icmp, Kind::Reply, 5)), Some(DropReason::NoFlow));
    assert_eq!(scene.there(Protocol::Icmp, Kind::Opening, 5), NEW);
    assert_eq!(scene.back(Protocol::Icmp, Kind::Reply, 5), KNOWN);
    let request = Packet { source: DB, destination: WEB, ..packet(Protocol::Icmp, Kind::Opening, (DB, 5), (WEB, 0)) };
    let ends = Ends { source: scene.db, destination: scene.web, softening: Softening::default() };
    let verdict = judge(&scene.node, &request, &ends, BYTES);
    assert_eq!(dropped(verdict), Some(DropReason::NoRule));
}

#[test]
fn an_error_passes_with_its_flow_and_changes_nothing() {
    let scene = Scene::new();
    scene.allow(Protocol::Udp);
    assert_eq!(dropped(scene.back(Protocol::Udp, Kind::Error, 1)), Some(DropReason::NoFlow));
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), NEW);
    let before = scene.only_entry();
    scene.node.pass_time(1);
    assert_eq!(scene.back(Protocol::Udp, Kind::Error, 1), KNOWN);
    assert_eq!(scene.only_entry(), before);
    scene.allow(Protocol::Udp);
    assert_eq!(scene.back(Protocol::Udp, Kind::Error, 1), KNOWN);
    assert_eq!(scene.only_entry(), before, "not even its epoch");
    scene.node.set_terms(vec![]);
    assert_eq!(dropped(scene.back(Protocol::Udp, Kind::Error, 1)), Some(DropReason::FlowRevoked));
}

#[test]
fn a_rule_is_credited_with_what_it_let_pass_and_a_deny_with_what_it_did_not() {
    let scene = Scene::new();
    scene.allow(Protocol::Udp);
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), NEW);
    assert_eq!(scene.back(Protocol::Udp, Kind::Datagram, 1), KNOWN);
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), KNOWN);
    let other = Ruling { action: Action::Allow, rule: RuleId(8) };
    scene.node.set_terms(vec![Term { ruling: other, ..scene.term(Action::Allow, Protocol::Udp) }]);
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), KNOWN);
    let usage = scene.node.usage.borrow()[&RULE];
    assert_eq!((usage.packets, usage.bytes, usage.flows), (3, 3 * u64::from(BYTES), 1));
    assert_eq!(scene.only_entry().rule, 8);
    let deny = Ruling { action: Action::Deny, rule: RuleId(9) };
    scene.node.set_terms(vec![Term { ruling: deny, ..scene.term(Action::Deny, Protocol::Udp) }]);
    assert_eq!(dropped(scene.there(Protocol::Udp, Kind::Datagram, 1)), Some(DropReason::FlowRevoked));
    assert_eq!(dropped(scene.there(Protocol::Udp, Kind::Datagram, 2)), Some(DropReason::DenyRule));
    assert_eq!(scene.node.usage.borrow()[&RuleId(9)].packets, 2);
}

#[test]
fn an_audited_rule_decides_nothing_and_says_what_it_would() {
    let scene = Scene::new();
    let audited = |action| Term { layer: Layer::Audited, ..scene.term(action, Protocol::Udp) };
    scene.node.set_terms(vec![audited(Action::Allow)]);
    let verdict = scene.there(Protocol::Udp, Kind::Datagram, 1);
    assert_eq!(
        (dropped(verdict), verdict.grounds.note, verdict.grounds.would),
        (Some(DropReason::NoRule), Note::WouldAllow, RULE)
    );
    let deny = Term { ruling: Ruling { action: Action::Deny, rule: RuleId(9) }, ..audited(Action::Deny) };
    scene.node.set_terms(vec![scene.term(Action::Allow, Protocol::Udp), deny]);
    let verdict = scene.there(Protocol::Udp, Kind::Datagram, 1);
    assert_eq!((dropped(verdict), verdict.grounds.note, verdict.grounds.would), (None, Note::WouldDeny, RuleId(9)));
    assert_eq!(scene.there(Protocol::Udp, Kind::Datagram, 1), KNOWN, "said once");
}

#[test]
fn an_app_in_audit_lets_pass_what_policy_denies_and_nothing_else() {
    let mut scene = Scene::new();
    scene.softening = Softening::both(true);
    let verdict = scene.there(Protocol::Udp, Kind::Datagram, 1);
    assert_eq!((dropped(verdict), verdict.grounds.note), (None, Note::WouldDeny));
    assert_eq!(scene.back(Protocol::Udp, Kind::Datagram, 1), KNOWN);
    assert_eq!(dropped(scene.back(Protocol::Tcp, Kind::Reply, 1)), Some(DropReason::NoFlow));
    for port in 2..=4 {
        assert_eq!(dropped(scene.there(Protocol::Udp, Kind::Datagram, port)), None);
    }
    assert_eq!(dropped(scene.there(Protocol::Udp, Kind::Datagram, 5)), None);
    assert_eq!(dropped(scene.there(Protocol::Udp, Kind::Datagram, 6)), Some(DropReason::QuotaUnanswered));
    scene.softening = Softening::default();
    scene.node.set_terms(vec![]);
    assert_eq!(dropped(scene.back(Protocol::Udp, Kind::Datagram, 1)), Some(DropReason::FlowRevoked));
}

#[test]
fn a_full_table_opens_nothing_and_keeps_what_it_has() {
    let mut scene = Scene::with_quotas(Quotas { unanswered: 100, answered: 100, ..Quotas::default() });
    scene.node.capacity = 1;
    scene.allow(Protocol::Tcp);
    scene.handshake(1);
    assert_eq!(dropped(scene.there(Protocol::Tcp, Kind::Opening, 2)), Some(DropReason::TableFull));
    assert_eq!(scene.there(Protocol::Tcp, Kind::Segment, 1), KNOWN);
    assert_eq!(scene.charged(WEB), (0, 1));
}
