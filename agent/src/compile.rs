//! What the maps must hold, from what the policy API says and which endpoints are here. Pure: no kernel, no clock, no IO.

use std::collections::{BTreeMap, HashMap, HashSet, hash_map::Entry};

use common::{
    Address, Identity, PortPrefix, Term,
    placement::Placement,
    rule::{Lengths, PairKey, Row, RowKey, Ruling},
};
use policy_api::model::{App, Mode, NodeName, Replica, Rule, Selector};

/// Everything that one node's maps must hold, less its own endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub rows: HashMap<RowKey, Row>,
    pub lengths: HashMap<PairKey, Lengths>,
    /// Instances on other nodes.
    pub placements: HashMap<Address, Placement>,
    /// The underlay addresses of other nodes.
    pub nodes: HashSet<Address>,
}

impl Desired {
    /// The rows of these terms and nothing else.
    pub fn of_terms(terms: impl Iterator<Item = Term>) -> Self {
        let mut desired = Self::default();
        add_rows(&mut desired, terms);
        desired
    }
}

/// Compiles for one node: rules that touch an app with an endpoint here, and everybody else's placements.
pub fn compile(replica: &Replica, node: &NodeName, local_apps: &HashSet<Identity>) -> Desired {
    let terms = replica.rules.values().flat_map(|rule| terms(replica, rule));
    let here = |term: &Term| local_apps.contains(&term.source) || local_apps.contains(&term.destination);
    let mut desired = Desired::of_terms(terms.filter(here));
    add_placements(&mut desired, replica, node);
    desired
}

/// A rule as terms, one for each pair of apps that it is about; none if it is audited only.
pub fn terms<'a>(replica: &'a Replica, rule: &'a Rule) -> impl Iterator<Item = Term> + 'a {
    let sources = match rule.mode {
        Mode::Enforce => identities(replica, &rule.source),
        Mode::Audit => Vec::new(),
    };
    let destinations = identities(replica, &rule.destination);
    let ruling = Ruling { action: rule.action.into(), rule: rule.id.into() };
    let pairs =
        sources.into_iter().flat_map(move |source| destinations.clone().into_iter().map(move |to| (source, to)));
    pairs.flat_map(move |(source, destination)| {
        let traffic =
            rule.protocol.wire().iter().flat_map(|wire| rule.ports.ranges().iter().map(move |ports| (*wire, *ports)));
        traffic.map(move |(protocol, ports)| Term { source, destination, protocol, ports, ruling })
    })
}

fn identities(replica: &Replica, selector: &Selector) -> Vec<Identity> {
    let apps =
        |fits: &dyn Fn(&App) -> bool| replica.apps.values().filter(|app| fits(app)).map(|app| app.identity).collect();
    match selector {
        Selector::Host => vec![Identity::HOST],
        Selector::Any => apps(&|_| true),
        Selector::Group(group) => apps(&|app| app.groups.contains(group)),
        Selector::App(name) => replica.apps.get(name).map(|app| app.identity).into_iter().collect(),
    }
}

/// Rows of all terms: per pair and prefix the strongest ruling of any prefix that covers it.
fn add_rows(desired: &mut Desired, terms: impl Iterator<Item = Term>) {
    let mut pairs: HashMap<PairKey, BTreeMap<PortPrefix, Ruling>> = HashMap::new();
    for term in terms {
        let direct = pairs.entry(term.pair()).or_default();
        for prefix in term.ports.prefixes() {
            direct.entry(prefix).and_modify(|ruling| *ruling = ruling.stronger(term.ruling)).or_insert(term.ruling);
        }
    }
    for (pair, direct) in pairs {
        desired.lengths.insert(pair, Lengths::new(pair, direct.keys().copied()));
        for prefix in direct.keys() {
            let covering = prefix.ancestors().filter_map(|ancestor| direct.get(&ancestor).copied());
            if let Some(ruling) = covering.reduce(Ruling::stronger) {
                let key = RowKey::new(pair, *prefix);
                desired.rows.insert(key, Row::new(key, ruling));
            }
        }
    }
}

fn add_placements(desired: &mut Desired, replica: &Replica, node: &NodeName) {
    let others = replica.nodes.values().filter(|other| other.name != *node);
    desired.nodes = others.map(|other| other.underlay.into()).collect();
    for binding in replica.bindings.values().filter(|binding| binding.node != *node) {
        let Some(home) = replica.nodes.get(&binding.node) else { continue };
        let placement = Placement::remote(home.underlay.into(), binding.identity);
        match desired.placements.entry(binding.address.into()) {
            Entry::Vacant(vacant) => {
                vacant.insert(placement);
            }
            // Bindings are keyed by address, so this would be a fault of the replica; nobody gets the address then.
            Entry::Occupied(occupied) if *occupied.get() != placement => {
                occupied.remove();
            }
            Entry::Occupied(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::{Action, PortRange, Protocol, Question, RuleId, Rules, Terms, decide};
    use proptest::prelude::*;

    struct Maps(Desired);

    impl Rules for Maps {
        fn lengths(&self, key: &PairKey) -> Option<Lengths> {
            self.0.lengths.get(key).copied()
        }

        fn row(&self, key: &RowKey) -> Option<Row> {
            self.0.rows.get(key).copied()
        }
    }

    fn identity(number: u32) -> Identity {
        Identity::new(number).expect("24 bits")
    }

    prop_compose! {
        fn term()(destination in 256_u32..258, a in 0_u16..40, b in 0_u16..40, top: bool, deny: bool, rule in 1_u32..30) -> Term {
            let lift = if top { u16::MAX - 40 } else { 0 };
            let ports = PortRange::new(lift + a.min(b), lift + a.max(b)).expect("ordered");
            let action = if deny { Action::Deny } else { Action::Allow };
            let ruling = Ruling { action, rule: RuleId(rule) };
            Term { source: identity(300), destination: identity(destination), protocol: Protocol::Tcp, ports, ruling }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn compiled_rows_decide_as_the_rules_themselves(terms in prop::collection::vec(term(), 0..12)) {
            let maps = Maps(Desired::of_terms(terms.iter().copied()));
            for port in (0..41).chain(u16::MAX - 41..=u16::MAX) {
                for destination in [256, 257] {
                    let question = Question { source: identity(300), destination: identity(destination), protocol: Protocol::Tcp, port };
                    prop_assert_eq!(decide(&maps, &question), decide(&Terms(&terms), &question));
                }
            }
        }
    }

    #[test]
    fn one_rule_costs_one_row_per_prefix_and_one_word_per_pair() {
        let ports = PortRange::new(8080, 8080).expect("ordered");
        let ruling = Ruling { action: Action::Allow, rule: RuleId(1) };
        let term = Term { source: identity(256), destination: identity(257), protocol: Protocol::Tcp, ports, ruling };
        let desired = Desired::of_terms([term].into_iter());
        assert_eq!((desired.rows.len(), desired.lengths.len()), (1, 1));
    }
}
