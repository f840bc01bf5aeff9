//! The kernel's programs against the engine: random rules, random packets of every kind, one history of flows on both sides.
//! Whatever the engine says of a packet, the program must have done, under the same reason and naming the same rule; and
//! what an endpoint is told of a refusal must be what its stack believes.

#[path = "datapath/packets.rs"]
mod packets;
#[path = "datapath/refusal.rs"]
mod refusal;
#[path = "datapath/wrapping.rs"]
mod wrapping;

use std::{collections::BTreeMap, net::Ipv4Addr};

use agent::datapath::{Hook, Sizes};
use common::{
    Action, DropReason, Identity, Kind, Layer, Note, Party, Pass, PortRange, Protocol, RuleId, Ruling, Term,
    event::EventKind,
    packet::read,
    path::{Findings, Way, judge_egress, judge_from_host, judge_ingress},
    placement::{Standing, Tag},
    refusal::Refusal,
};
use fastrand::Rng;
use packets::{follow_up, random_case, rest_of};
use tests::{
    lab::{Arrival, LOCALS, Lab, Preparation, REMOTES, Run, Scene, group, identity, traffic::Speech, traffic::family},
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
    fn kind(&self) -> Option<(Protocol, Kind)> {
        let packet = read(self.frame.as_slice(), family(&self.frame)?).ok()?;
        Some((packet.protocol, packet.kind))
    }

    /// What sets it apart, for the list of fates that a run has met.
    fn label(&self) -> &'static str {
        match self.kind() {
            Some((_, Kind::Error)) => ", an ICMP error",
            Some((_, Kind::Tail)) => ", a later fragment",
            Some((Protocol::Sctp, _)) => ", SCTP",
            Some(_) | None if family(&self.frame) == Some(common::Family::V6) => ", IPv6",
            Some(_) | None => "",
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    outcome: Result<Pass, DropReason>,
    told: Option<(EventKind, Option<RuleId>, Option<RuleId>)>,
    redirected: bool,
}

#[test]
fn the_verifier_is_far_from_its_limit() {
    /// Of the million steps that the kernel allows, and a sign of how long loading takes.
    const MOST: u32 = 100_000;
    let sizes = Sizes { rows: 64, flows: 1_024, placements: 64 };
    let mut lab = Lab::open(&sizes, &Scene::settings()).expect("lab");
    for (name, program) in lab.datapath.programs().programs() {
        let steps =
            program.info().expect("a loaded program").verified_instruction_count().expect("a kernel that counts");
        println!("{name}: {steps}");
        assert!(steps <= MOST, "{name} takes {steps} steps");
    }
}

#[test]
fn the_programs_do_what_the_engine_says_of_every_packet() {
    let seed =
        std::env::var("NETPOL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("NETPOL_SEED={seed} repeats this run");
    let mut rng = Rng::with_seed(seed);
    let rule_sets = rounds(4_500, 110_000);
    let settings = Scene::settings();
    let sizes = Sizes { rows: 8_192, flows: 65_536, placements: 1_024 };
    let mut lab = Lab::open(&sizes, &settings).expect("lab");
    let mut scene = Scene::set(&mut lab, settings).expect("scene");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut open: Vec<Speech> = Vec::new();
    let mut heads: Vec<Case> = Vec::new();
    for rule_set in 0..rule_sets {
        if rule_set % RULE_SETS_PER_WORLD == 0 {
            scene.forget_flows(&mut lab).expect("forget flows");
            open.clear();
            heads.clear();
        }
        change_standings(&mut rng, &mut lab, &mut scene);
        scene.set_terms(&mut lab, random_terms(&mut rng)).expect("rules in force");
        for _ in 0..PACKETS_PER_RULE_SET {
            let case = match (rng.choice(open.iter()), rng.choice(heads.iter())) {
                (_, Some(head)) if rng.u8(0..6) == 0 => rest_of(&mut rng, head),
                (Some(flow), _) if rng.u8(0..5) < 3 => follow_up(&mut rng, &scene, flow),
                (Some(_) | None, _) => random_case(&mut rng, &scene),
            };
            let case = if rng.bool() { wrapping::by_the_uplink(case) } else { case };
            let held = scene.model.flows.borrow().len();
            let expected = judge(&scene, &case);
            if scene.model.flows.borrow().len() > held {
                open.extend(Speech::read(&case.frame));
            }
            let found = run(&mut lab, &case);
            assert_eq!(found.fate, expected, "seed {seed}, rule set {rule_set}: {case:?}");
            if let (Err(reason), true) = (expected.outcome, expected.redirected) {
                refusal::prove(&case.frame, &found.frame, case.hook, reason);
            }
            if expected.outcome.is_ok() {
                wrapping::prove(&case, &found.frame, &settings);
            }
            if packets::is_head(&case.frame) {
                heads.push(case.clone());
            }
            *seen.entry(format!("{:?} {:?}{}", case.hook, expected.outcome, case.label())).or_default() += 1;
            if let Some((kind, ..)) = expected.told {
                *seen.entry(format!("{:?} told {}", case.hook, kind.name())).or_default() += 1;
            }
            if expected.outcome.is_err() && expected.redirected {
                *seen.entry(format!("{:?} refused{}", case.hook, case.label())).or_default() += 1;
            }
        }
        prove_usage(&lab, &scene, seed);
    }
    println!("{} packets over {rule_sets} rule sets, 0 mismatches", rule_sets * PACKETS_PER_RULE_SET);
    for (fate, count) in &seen {
        println!("{count:>8}  {fate}");
    }
    assert_every_fate_was_met(&seen);
}

/// Flows are credited when they are settled, drops by a rule at once; both sides must agree on the latter and on what rules
/// of flows that changed hands got.
fn prove_usage(lab: &Lab, scene: &Scene, seed: u64) {
    for (rule, found, wanted) in scene.usage(lab).expect("usage") {
        assert_eq!(
            (found.packets, found.bytes, found.flows),
            (wanted.packets, wanted.bytes, wanted.flows),
            "seed {seed}: usage of {rule:?}"
        );
    }
}

/// A test that never met a reason proves nothing about it.
fn assert_every_fate_was_met(seen: &BTreeMap<String, usize>) {
    let wanted = [
        "FromEndpoint Ok(New)",
        "FromEndpoint Ok(New), IPv6",
        "FromEndpoint Ok(New), SCTP",
        "FromEndpoint Ok(Established)",
        "FromEndpoint Ok(Established), IPv6",
        "FromEndpoint Ok(Established), SCTP",
        "FromEndpoint Ok(Established), a later fragment",
        "FromEndpoint Ok(Established), an ICMP error",
        "FromEndpoint Err(NoRule)",
        "FromEndpoint Err(NoRule), IPv6",
        "FromEndpoint Err(DenyRule)",
        "FromEndpoint Err(DenyRule), SCTP",
        "FromEndpoint Err(NoFlow)",
        "FromEndpoint Err(NoFlow), an ICMP error",
        "FromEndpoint Err(FlowRevoked)",
        "FromEndpoint Err(FlowRevoked), an ICMP error",
        "FromEndpoint Err(FlowRevoked), a later fragment",
        "FromEndpoint Err(SpoofedSource)",
        "FromEndpoint Err(SpoofedSource), IPv6",
        "FromEndpoint Err(SpoofedMac)",
        "FromEndpoint Err(OverlayPort)",
        "FromEndpoint Err(UnknownDestination)",
        "FromEndpoint Err(Multicast)",
        "FromEndpoint Err(Multicast), IPv6",
        "FromEndpoint Err(LinkLocal), IPv6",
        "FromEndpoint Err(NeighborDiscovery), IPv6",
        "FromEndpoint Err(Isolated)",
        "FromEndpoint Err(EndpointClosed)",
        "FromEndpoint Err(TooBig)",
        "FromEndpoint Err(TooBig), IPv6",
        "FromEndpoint Err(QuotaUnanswered)",
        "FromEndpoint Err(QuotaFragmented)",
        "FromEndpoint Err(UnsupportedProtocol)",
        "FromEndpoint Err(UnsupportedProtocol), IPv6",
        "FromEndpoint Err(UnsupportedIcmp)",
        "FromEndpoint Err(Malformed)",
        "FromEndpoint Err(Malformed), IPv6",
        "FromEndpoint Err(ExtensionHeaders), IPv6",
        "FromEndpoint Err(ForeignQuote)",
        "FromEndpoint Err(Fragment), a later fragment",
        "FromEndpoint Err(FragmentConflict)",
        "FromEndpoint Err(FragmentOverlap), a later fragment",
        "FromEndpoint Err(UnsupportedEthertype)",
        "FromEndpoint told start",
        "FromEndpoint told denied",
        "FromEndpoint told would-deny",
        "FromEndpoint told would-allow",
        "FromOverlay Ok(New)",
        "FromOverlay Ok(New), IPv6",
        "FromOverlay Ok(New), SCTP",
        "FromOverlay Ok(Established)",
        "FromOverlay Ok(Established), IPv6",
        "FromOverlay Ok(Established), a later fragment",
        "FromOverlay Ok(Established), an ICMP error",
        "FromOverlay Err(WrongTag)",
        "FromOverlay Err(WrongNode)",
        "FromOverlay Err(UnknownNode)",
        "FromOverlay Err(UnknownSource)",
        "FromOverlay Err(ReservedTag)",
        "FromOverlay Err(NotLocal)",
        "FromOverlay Err(FlowRevoked)",
        "FromOverlay Err(Isolated)",
        "FromOverlay told would-deny",
        "FromUnderlay Ok(New)",
        "FromUnderlay Ok(New), IPv6",
        "FromUnderlay Ok(Established)",
        "FromUnderlay Err(UnknownNode)",
        "FromUnderlay Err(UnknownSource)",
        "FromUnderlay Err(NoRule)",
        "FromUnderlay Err(FlowRevoked)",
        "ToEndpoint Ok(New)",
        "ToEndpoint Ok(Established)",
        "ToEndpoint Err(OverlaySourceFromHost)",
        "ToEndpoint Err(NotFromHost)",
        "ToEndpoint Err(NoRule)",
        "ToEndpoint Err(FlowRevoked)",
        "FromEndpoint refused",
        "FromEndpoint refused, IPv6",
        "FromEndpoint refused, SCTP",
        "ToEndpoint refused",
    ];
    let missing: Vec<_> = wanted.into_iter().filter(|fate| !seen.contains_key(*fate)).collect();
    assert!(missing.is_empty(), "no packet met {missing:?}");
}

/// What the engine says.
fn judge(scene: &Scene, case: &Case) -> Fate {
    let mut found = Findings::new();
    let (model, frame) = (&scene.model, case.frame.as_slice());
    let outcome = match (case.hook, case.tag) {
        (Hook::FromEndpoint, _) => judge_egress(model, frame, case.arrival.ifindex, &mut found),
        (Hook::ToEndpoint, _) => {
            judge_from_host(model, frame, case.arrival.ifindex, case.arrival.entered_by, &mut found)
        }
        (Hook::FromOverlay | Hook::FromUnderlay, Some((node, vni))) => {
            let tag = Tag { node: node.into(), identity: Identity::from_vni(vni) };
            judge_ingress(model, frame, &tag, &mut found)
        }
        (Hook::FromOverlay | Hook::FromUnderlay | Hook::ToUnderlay, _) => unreachable!("no such case is made"),
    };
    let trace = &found.trace;
    let kind = match (outcome, trace.grounds.note) {
        (Err(_), Note::WouldAllow) => Some(EventKind::WouldAllow),
        (Err(_), Note::Nothing | Note::WouldDeny) => Some(EventKind::Denied),
        (Ok(_), Note::WouldDeny) => Some(EventKind::WouldDeny),
        (Ok(Pass::New), Note::Nothing | Note::WouldAllow) => Some(EventKind::Start),
        (Ok(Pass::Established), Note::Nothing | Note::WouldAllow) => None,
    };
    let named = |rule: RuleId| (rule != RuleId::NONE).then_some(rule);
    let refused = |reason: DropReason| {
        matches!(case.hook, Hook::FromEndpoint | Hook::ToEndpoint)
            && reason.is_refused()
            && !trace.grounds.silent
            && found.packet().is_some_and(|packet| Refusal::of(packet, reason).is_some())
    };
    Fate {
        // What is told of a softened packet does not say whether it opened a flow; the packets that follow show it.
        outcome: if kind == Some(EventKind::WouldDeny) { Ok(Pass::Established) } else { outcome },
        told: kind.map(|kind| (kind, named(trace.grounds.rule), named(trace.grounds.would))),
        redirected: match outcome {
            Ok(_) => trace.way != Way::Stack,
            Err(reason) => refused(reason),
        },
    }
}

/// What the program did.
struct Found {
    fate: Fate,
    frame: Vec<u8>,
}

fn run(lab: &mut Lab, case: &Case) -> Found {
    const REDIRECT: u32 = 7;
    let run = match case.tag {
        Some((node, vni)) if case.hook == Hook::FromUnderlay => {
            lab.run(case.hook, &wrapping::wrap(&case.frame, node, vni), case.arrival)
        }
        Some((node, vni)) => {
            let preparation = Preparation::default().tunnel(node, vni);
            lab.run_prepared(case.hook, &case.frame, case.arrival, preparation)
        }
        None => lab.run(case.hook, &case.frame, case.arrival),
    };
    let Run { action, mut events, frame } = run.expect("test run");
    // The end of an earlier flow with the same ends is told too.
    events.retain(|event| event.kind() != Some(EventKind::End));
    assert!(events.len() <= 1, "one packet, {} events", events.len());
    let event = events.first();
    let kind = event.map(|event| event.kind().expect("a kind that exists"));
    let outcome = match (event.and_then(|event| event.drop_reason()), kind) {
        (Some(reason), _) => Err(reason.expect("a reason that exists")),
        (None, Some(EventKind::Start)) => Ok(Pass::New),
        // Whether it opened a flow too is not told; the engine's word is compared by the flows that follow.
        (None, _) => Ok(Pass::Established),
    };
    let told = event.zip(kind).map(|(event, kind)| (kind, event.rule(), event.would()));
    Found { fate: Fate { outcome, told, redirected: action == REDIRECT }, frame }
}

fn change_standings(rng: &mut Rng, lab: &mut Lab, scene: &mut Scene) {
    let mut random = || match rng.u8(0..12) {
        0 => Standing::ISOLATED,
        1 => Standing::CLOSED,
        2..=4 => Standing::AUDITED,
        _ => Standing::ORDINARY,
    };
    for i in 0..LOCALS.len() {
        scene.stand(lab, i, random()).expect("standing");
    }
    for i in 0..REMOTES.len() {
        let standing = if random() == Standing::ISOLATED { Standing::ISOLATED } else { Standing::ORDINARY };
        scene.stand_remotely(lab, i, standing).expect("standing");
    }
}

fn random_terms(rng: &mut Rng) -> Vec<Term> {
    let apps = (256..260).map(|number| Party::one(identity(number)));
    let wide = [Party::ANY, group(1), group(2), Party::HOST];
    // Many rule sets have narrow rules only, as many nodes do.
    let ends: Vec<Party> = if rng.bool() { apps.chain(wide).collect() } else { apps.chain([Party::HOST]).collect() };
    let audits = rng.bool();
    let count = rng.usize(0..60);
    let mut terms: Vec<Term> = (0..count)
        .map(|_| {
            let protocol = *rng.choice(Protocol::ALL.iter()).expect("not empty");
            let action = match rng.u8(0..8) {
                0 => Action::Deny,
                1 => Action::DenySilently,
                _ => Action::Allow,
            };
            let ports = match (protocol.has_ports(), rng.u8(0..3)) {
                (false, _) | (true, 0) => PortRange::ALL,
                (true, 1) => PortRange::new(8080, 8080).expect("ordered"),
                (true, _) => {
                    let (a, b) = (rng.u16(8070..8090), rng.u16(8070..8090));
                    PortRange::new(a.min(b), a.max(b)).expect("ordered")
                }
            };
            let end = |rng: &mut Rng| *rng.choice(ends.iter()).expect("not empty");
            let ruling = Ruling { action, rule: RuleId(rng.u32(1..1_000)) };
            let layer = if audits && rng.u8(0..4) == 0 { Layer::Audited } else { Layer::Enforced };
            Term { source: end(rng), destination: end(rng), protocol, ports, layer, ruling }
        })
        .collect();
    // Rules of one pair and prefix that are equally strong are told apart by their ids.
    terms.sort_by_key(|term| term.ruling.rule);
    terms.dedup_by_key(|term| term.ruling.rule);
    terms
}
