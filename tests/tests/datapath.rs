//! The kernel's programs against the engine: random rules, random packets, one history of flows on both sides. Whatever
//! the engine says of a packet, the program must have done, under the same reason and naming the same rule.

use std::{collections::BTreeMap, net::Ipv4Addr};

use agent::datapath::{Hook, Sizes};
use common::{
    Action, DropReason, Identity, Kind, Pass, PortRange, Protocol, RuleId, Ruling, Term,
    packet::parse_ipv4,
    path::{Trace, Way, judge_egress, judge_from_host, judge_ingress},
    placement::Tag,
};
use fastrand::Rng;
use tests::{
    lab::{
        Arrival, LOCALS, Lab, NODES, Preparation, REMOTES, Run, STRANGER, Scene, identity,
        traffic::{ACK, FIN_ACK, RST, SYN, SYN_ACK, Speaking, Speech},
    },
    rounds,
};

const PACKETS_PER_RULE_SET: usize = 100;
const RULE_SETS_PER_WORLD: usize = 20;

/// One packet on its way into a program.
#[derive(Clone, Debug)]
struct Case {
    hook: Hook,
    frame: Vec<u8>,
    arrival: Arrival,
    tag: Option<(Ipv4Addr, u32)>,
}

impl Case {
    fn is_error(&self) -> bool {
        parse_ipv4(self.frame.as_slice()).is_ok_and(|packet| packet.kind == Kind::Error)
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    outcome: Result<Pass, DropReason>,
    rule: Option<RuleId>,
    redirected: bool,
}

#[test]
fn the_programs_do_what_the_engine_says_of_every_packet() {
    let seed =
        std::env::var("NETPOL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("NETPOL_SEED={seed} repeats this run");
    let mut rng = Rng::with_seed(seed);
    let rule_sets = rounds(1_500, 110_000);
    let settings = Scene::settings();
    let sizes = Sizes { rows: 4_096, flows: 65_536, placements: 1_024 };
    let mut lab = Lab::open(&sizes, &settings).expect("lab");
    let mut scene = Scene::set(&mut lab, settings).expect("scene");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut open: Vec<Speech> = Vec::new();
    for rule_set in 0..rule_sets {
        if rule_set % RULE_SETS_PER_WORLD == 0 {
            scene.forget_flows(&mut lab).expect("forget flows");
            open.clear();
        }
        scene.set_terms(&mut lab, random_terms(&mut rng)).expect("rules in force");
        for _ in 0..PACKETS_PER_RULE_SET {
            let case = match rng.choice(open.iter()) {
                Some(flow) if rng.u8(0..5) < 3 => follow_up(&mut rng, &scene, flow),
                Some(_) | None => random_case(&mut rng, &scene),
            };
            let expected = judge(&scene, &case);
            if expected.outcome == Ok(Pass::New) {
                open.extend(Speech::read(&case.frame));
            }
            let found = run(&mut lab, &case);
            assert_eq!(found, expected, "seed {seed}, rule set {rule_set}: {case:?}");
            let about = if case.is_error() { ", an ICMP error" } else { "" };
            *seen.entry(format!("{:?} {:?}{about}", case.hook, expected.outcome)).or_default() += 1;
        }
    }
    println!("{} packets over {rule_sets} rule sets, 0 mismatches", rule_sets * PACKETS_PER_RULE_SET);
    for (fate, count) in &seen {
        println!("{count:>8}  {fate}");
    }
    assert_every_fate_was_met(&seen);
}

/// A test that never met a reason proves nothing about it.
fn assert_every_fate_was_met(seen: &BTreeMap<String, usize>) {
    let wanted = [
        "FromEndpoint Ok(New)",
        "FromEndpoint Ok(Established)",
        "FromEndpoint Err(NoRule)",
        "FromEndpoint Err(DenyRule)",
        "FromEndpoint Err(NoFlow)",
        "FromEndpoint Err(FlowRevoked)",
        "FromEndpoint Err(SpoofedSource)",
        "FromEndpoint Err(SpoofedMac)",
        "FromEndpoint Err(OverlayPort)",
        "FromEndpoint Err(UnknownDestination)",
        "FromEndpoint Err(QuotaUnanswered)",
        "FromEndpoint Err(UnsupportedProtocol)",
        "FromEndpoint Err(UnsupportedIcmp)",
        "FromEndpoint Err(Malformed)",
        "FromEndpoint Err(ForeignQuote)",
        "FromEndpoint Err(Fragment)",
        "FromEndpoint Err(UnsupportedEthertype)",
        "FromEndpoint Ok(Established), an ICMP error",
        "FromEndpoint Err(NoFlow), an ICMP error",
        "FromEndpoint Err(FlowRevoked), an ICMP error",
        "FromOverlay Ok(Established), an ICMP error",
        "FromOverlay Ok(New)",
        "FromOverlay Ok(Established)",
        "FromOverlay Err(WrongTag)",
        "FromOverlay Err(WrongNode)",
        "FromOverlay Err(UnknownNode)",
        "FromOverlay Err(UnknownSource)",
        "FromOverlay Err(ReservedTag)",
        "FromOverlay Err(NotLocal)",
        "FromOverlay Err(FlowRevoked)",
        "ToEndpoint Ok(New)",
        "ToEndpoint Ok(Established)",
        "ToEndpoint Err(OverlaySourceFromHost)",
        "ToEndpoint Err(NotFromHost)",
        "ToEndpoint Err(NoRule)",
        "ToEndpoint Err(FlowRevoked)",
    ];
    let missing: Vec<_> = wanted.into_iter().filter(|fate| !seen.contains_key(*fate)).collect();
    assert!(missing.is_empty(), "no packet met {missing:?}");
}

/// What the engine says.
fn judge(scene: &Scene, case: &Case) -> Fate {
    let mut trace = Trace::EMPTY;
    let (model, frame) = (&scene.model, case.frame.as_slice());
    let outcome = match (case.hook, case.tag) {
        (Hook::FromEndpoint, _) => judge_egress(model, frame, case.arrival.ifindex, &mut trace),
        (Hook::ToEndpoint, _) => {
            judge_from_host(model, frame, case.arrival.ifindex, case.arrival.entered_by, &mut trace)
        }
        (Hook::FromOverlay, Some((node, vni))) => {
            let tag = Tag { node: node.into(), identity: Identity::from_vni(vni) };
            judge_ingress(model, frame, &tag, &mut trace)
        }
        (Hook::FromOverlay | Hook::ToUnderlay, _) => unreachable!("no such case is made"),
    };
    let reported = outcome != Ok(Pass::Established);
    Fate {
        outcome,
        rule: (reported && trace.rule != RuleId::NONE).then_some(trace.rule),
        redirected: outcome.is_ok() && trace.way != Way::Stack,
    }
}

/// What the program does.
fn run(lab: &mut Lab, case: &Case) -> Fate {
    const REDIRECT: u32 = 7;
    let run = match case.tag {
        Some((node, vni)) => {
            let preparation = Preparation::default().tunnel(node, vni);
            lab.run_prepared(case.hook, &case.frame, case.arrival, preparation)
        }
        None => lab.run(case.hook, &case.frame, case.arrival),
    };
    let Run { action, events } = run.expect("test run");
    assert!(events.len() <= 1, "one packet, {} events", events.len());
    let event = events.first();
    let outcome = match event.map(|event| event.drop_reason()) {
        None => Ok(Pass::Established),
        Some(None) => Ok(Pass::New),
        Some(Some(reason)) => Err(reason.expect("a reason that exists")),
    };
    Fate { outcome, rule: event.and_then(|event| event.rule()), redirected: action == REDIRECT }
}

fn random_terms(rng: &mut Rng) -> Vec<Term> {
    let ends: Vec<Identity> = (256..260).map(identity).chain([Identity::HOST]).collect();
    let count = rng.usize(0..60);
    let mut terms: Vec<Term> = (0..count)
        .map(|_| {
            let protocol = *rng.choice(Protocol::ALL.iter()).expect("not empty");
            let action = if rng.u8(0..4) == 0 { Action::Deny } else { Action::Allow };
            let ports = match (protocol, rng.u8(0..3)) {
                (Protocol::Icmp, _) | (_, 0) => PortRange::ALL,
                (Protocol::Tcp | Protocol::Udp, 1) => PortRange::new(8080, 8080).expect("ordered"),
                (Protocol::Tcp | Protocol::Udp, _) => {
                    let (a, b) = (rng.u16(8070..8090), rng.u16(8070..8090));
                    PortRange::new(a.min(b), a.max(b)).expect("ordered")
                }
            };
            let end = |rng: &mut Rng| *rng.choice(ends.iter()).expect("not empty");
            let ruling = Ruling { action, rule: RuleId(rng.u32(1..1_000)) };
            Term { source: end(rng), destination: end(rng), protocol, ports, ruling }
        })
        .collect();
    // Rules of one pair and prefix that are equally strong are told apart by their ids.
    terms.sort_by_key(|term| term.ruling.rule);
    terms.dedup_by_key(|term| term.ruling.rule);
    terms
}

fn random_case(rng: &mut Rng, scene: &Scene) -> Case {
    let mut case = match rng.u8(0..10) {
        0..=4 => from_endpoint(rng, scene),
        5..=8 => from_overlay(rng),
        _ => to_endpoint(rng, scene),
    };
    if rng.u8(0..12) == 0 {
        spoil(rng, &mut case.frame);
    }
    case
}

/// A later packet of a flow that was opened, in either direction, through the program that would see it.
fn follow_up(rng: &mut Rng, scene: &Scene, flow: &Speech) -> Case {
    let turned = rng.bool();
    let protocol = match flow.kind {
        Speaking::Tcp(_) => Protocol::Tcp,
        Speaking::EchoRequest | Speaking::EchoReply => Protocol::Icmp,
        Speaking::Udp | Speaking::Unreachable(_) | Speaking::Redirect | Speaking::Gre => Protocol::Udp,
    };
    let kind = match (flow.kind, rng.u8(0..12)) {
        (_, 11) => Speaking::Unreachable(protocol),
        (Speaking::Tcp(_), 0) => Speaking::Tcp(SYN),
        (Speaking::Tcp(_), 1) => Speaking::Tcp(FIN_ACK),
        (Speaking::Tcp(_), 2) if rng.bool() => Speaking::Tcp(RST),
        (Speaking::Tcp(_), 3..=5) if turned => Speaking::Tcp(SYN_ACK),
        (Speaking::Tcp(_), _) => Speaking::Tcp(ACK),
        (Speaking::EchoRequest, 0) => Speaking::EchoRequest,
        (Speaking::EchoRequest, _) if turned => Speaking::EchoReply,
        (kind, _) => kind,
    };
    let said = if turned { Speech { kind, ..flow.turned() } } else { Speech { kind, ..*flow } };
    let frame = said.frame(rng.usize(0..32));
    if let Some(i) = LOCALS.iter().position(|(_, address)| *address == said.source) {
        let arrival = Arrival { ifindex: scene.ifindexes[i], ..Arrival::default() };
        return Case { hook: Hook::FromEndpoint, frame, arrival, tag: None };
    }
    if let Some((home, app, _)) = REMOTES.into_iter().find(|(_, _, address)| *address == said.source) {
        let arrival = Arrival { ifindex: 1, ..Arrival::default() };
        return Case { hook: Hook::FromOverlay, frame, arrival, tag: Some((NODES[home], app)) };
    }
    let i = LOCALS.iter().position(|(_, address)| *address == said.destination).unwrap_or(0);
    let arrival = Arrival { ifindex: scene.ifindexes[i], ..Arrival::default() };
    Case { hook: Hook::ToEndpoint, frame, arrival, tag: None }
}

fn from_endpoint(rng: &mut Rng, scene: &Scene) -> Case {
    let i = rng.usize(0..LOCALS.len());
    let (_, own) = LOCALS[i];
    let source = if rng.u8(0..20) == 0 { some_address(rng) } else { own };
    let mut frame = speech(rng, source, some_address);
    if rng.u8(0..40) == 0 {
        frame[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    } else {
        frame[6..12].copy_from_slice(&Scene::mac(own).0);
    }
    let arrival = Arrival { ifindex: scene.ifindexes[i], ..Arrival::default() };
    Case { hook: Hook::FromEndpoint, frame, arrival, tag: None }
}

fn from_overlay(rng: &mut Rng) -> Case {
    let (home, app, own) = REMOTES[rng.usize(0..REMOTES.len())];
    let (node, vni) = match rng.u8(0..16) {
        0 => (NODES[1 - home], app),
        1 => (NODES[home], rng.u32(256..260)),
        2 => (STRANGER, app),
        3 => (NODES[home], rng.u32(0..256)),
        _ => (NODES[home], app),
    };
    let source = if rng.u8(0..20) == 0 { some_address(rng) } else { own };
    let frame = speech(rng, source, |rng| match rng.u8(0..10) {
        0 => some_address(rng),
        _ => LOCALS[rng.usize(0..LOCALS.len())].1,
    });
    Case {
        hook: Hook::FromOverlay,
        frame,
        arrival: Arrival { ifindex: 1, ..Arrival::default() },
        tag: Some((node, vni)),
    }
}

fn to_endpoint(rng: &mut Rng, scene: &Scene) -> Case {
    let i = rng.usize(0..LOCALS.len());
    let source = if rng.u8(0..4) == 0 { some_address(rng) } else { HOST };
    let entered_by = if rng.u8(0..8) == 0 { scene.ifindexes[0] } else { 0 };
    let frame = speech(rng, source, |rng| if rng.u8(0..10) == 0 { some_address(rng) } else { LOCALS[i].1 });
    let arrival = Arrival { ifindex: scene.ifindexes[i], entered_by, mark: 0 };
    Case { hook: Hook::ToEndpoint, frame, arrival, tag: None }
}

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn some_address(rng: &mut Rng) -> Ipv4Addr {
    let placed = LOCALS.iter().map(|(_, address)| *address).chain(REMOTES.iter().map(|(_, _, address)| *address));
    let others = [HOST, STRANGER, Ipv4Addr::new(10, 255, 9, 9), Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)];
    let all: Vec<_> = placed.clone().chain(placed).chain(others).collect();
    all[rng.usize(0..all.len())]
}

/// Few ports, so that flows meet: the servers' are those of the rules, the clients' a handful.
fn speech(rng: &mut Rng, source: Ipv4Addr, destination: impl FnOnce(&mut Rng) -> Ipv4Addr) -> Vec<u8> {
    let kind = match rng.u8(0..24) {
        0..=4 => Speaking::Tcp(SYN),
        5..=6 => Speaking::Tcp(SYN_ACK),
        7..=11 => Speaking::Tcp(ACK),
        12 => Speaking::Tcp(FIN_ACK),
        13 => Speaking::Tcp(if rng.bool() { RST } else { SYN | RST }),
        14..=18 => Speaking::Udp,
        19..=20 => Speaking::EchoRequest,
        21 => Speaking::EchoReply,
        22 if rng.bool() => Speaking::Redirect,
        22 => Speaking::Unreachable(*rng.choice(Protocol::ALL.iter()).expect("not empty")),
        _ => Speaking::Gre,
    };
    let server = if rng.u8(0..30) == 0 { 4789 } else { rng.u16(8075..8085) };
    let client = rng.u16(40_000..40_020);
    let (source_port, destination_port) = if rng.u8(0..3) == 0 { (server, client) } else { (client, server) };
    let destination = destination(rng);
    Speech { source, destination, kind, source_port, destination_port }.frame(rng.usize(0..32))
}

/// Turns bytes over, or cuts the end off; what stays is at least what the kernel takes for a packet.
fn spoil(rng: &mut Rng, frame: &mut Vec<u8>) {
    const LEAST: usize = 34;
    if rng.bool() {
        frame.truncate(rng.usize(LEAST..=frame.len()));
    }
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(12..frame.len());
        frame[at] = rng.u8(..);
    }
}
