//! A set of ports speaks for its own pair only: whose place it stands at, and what it has, after any change of policy.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use agent::{compile::Desired, datapath::Sizes, reconcile::Programmed};
use common::{
    Action, Layer, Party, PortRange, Protocol, RuleId, Ruling, Term,
    port_set::PortSet,
    rule::{PairKey, SetPlace},
};
use fastrand::Rng;
use tests::lab::{Lab, Scene, identity};

/// More pairs than there are places, so that places change hands.
const PAIRS: u32 = 330;
const ROUNDS: usize = 30;

/// A pair's range of ports.
type Policy = BTreeMap<u32, PortRange>;

fn change(policy: &mut Policy, rng: &mut Rng) {
    for _ in 0..rng.usize(1..120) {
        let app = 1_000 + rng.u32(0..PAIRS);
        let (a, b) = (rng.u16(..), rng.u16(..));
        let ports = match rng.u8(0..12) {
            0 => None,
            // One length, which needs no set.
            1 => PortRange::new(a, a),
            _ => PortRange::new(a.min(b), a.max(b)),
        };
        match ports {
            Some(ports) => policy.insert(app, ports),
            None => policy.remove(&app),
        };
    }
}

fn terms(policy: &Policy) -> Vec<Term> {
    let ruling = Ruling { action: Action::Deny, rule: RuleId(1) };
    let destination = Party::one(identity(257));
    let term = |(app, ports): (&u32, &PortRange)| {
        let (source, ports) = (Party::one(identity(*app)), *ports);
        Term { source, destination, protocol: Protocol::Tcp, ports, layer: Layer::Enforced, ruling }
    };
    policy.iter().map(term).collect()
}

fn covered(ports: PortRange) -> PortSet {
    let mut set = PortSet::NONE;
    ports.prefixes().for_each(|prefix| set.add(prefix));
    set
}

/// Which pair is at which place; fails where a set is not that of the pair that names it.
fn places(lab: &Lab, policy: &Policy) -> HashMap<SetPlace, PairKey> {
    let words = lab.datapath.lengths.read().expect("read the words");
    let mut places = HashMap::new();
    for (pair, place) in words.iter().filter_map(|(pair, word)| Some((*pair, word.set()?))) {
        assert_eq!(places.insert(place, pair), None, "two pairs name {place:?}");
        let ports = terms(policy).iter().find(|term| term.pair() == pair).expect("a pair that stands").ports;
        let set = lab.datapath.port_set(place).expect("read a set");
        assert!(set == covered(ports), "the set of {pair:?} has other ports than its rows");
    }
    places
}

#[test]
fn no_pair_is_ever_judged_by_the_ports_of_another() {
    let mut lab = Lab::open(&Sizes { rows: 16_384, flows: 64, placements: 64 }, &Scene::settings()).expect("lab");
    let (mut policy, mut rng) = (Policy::new(), Rng::with_seed(11));
    policy.extend((0..PAIRS).map(|app| (1_000 + app, PortRange::new(1, 1_000).expect("ordered"))));
    let mut programmed = Programmed::default();
    let mut owners: BTreeMap<SetPlace, BTreeSet<PairKey>> = BTreeMap::new();
    for round in 0..ROUNDS {
        change(&mut policy, &mut rng);
        let outcome = programmed.reconcile(&mut lab.datapath, &Desired::of_terms(terms(&policy)), false);
        assert!(outcome.is_complete(), "round {round}: {:?}", outcome.failures);
        for (place, pair) in places(&lab, &policy) {
            owners.entry(place).or_default().insert(pair);
        }
        // An agent that starts now knows what its predecessor left.
        if round % 7 == 6 {
            programmed = Programmed::adopt(&lab.datapath).expect("adopt");
            assert_eq!(programmed.reconcile(&mut lab.datapath, &Desired::of_terms(terms(&policy)), false).writes, 0);
        }
    }
    assert!(owners.values().any(|pairs| pairs.len() > 1), "no place ever changed hands: the test shows nothing");
    assert_eq!(owners.len(), SetPlace::all().count(), "every place was somebody's");
}
