//! What the maps must hold, from what the policy API says and which endpoints are here. Pure: no kernel, no clock, no IO.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
};

use common::{
    Action, Address, Identity, Layer, Party, PortPrefix, PortRange, Protocol, Term,
    placement::{Placement, Standing},
    port_set::PortSet,
    rule::{Lengths, Memberships, PairKey, Row, RowKey, Ruling, SetPlace},
};
use policy_api::model::{self, AppName, Mode, NodeName, OnDeny, Replica, Rule, Selector, Target};

/// Everything that one node's maps must hold, less its own endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub rows: HashMap<RowKey, Row>,
    pub lengths: HashMap<PairKey, Lengths>,
    /// The ports of those pairs that have rows of the most lengths.
    pub port_sets: HashMap<PairKey, Box<PortSet>>,
    /// The groups of apps, by identity.
    pub memberships: HashMap<u32, Memberships>,
    /// Instances on other nodes.
    pub placements: HashMap<Address, Placement>,
    /// The underlay addresses of other nodes.
    pub nodes: HashSet<Address>,
    /// The rules behind the rows.
    pub rules: HashSet<u32>,
}

impl Desired {
    /// The rows of these terms and nothing else.
    pub fn of_terms(terms: impl IntoIterator<Item = Term>) -> Self {
        let mut desired = Self::default();
        add_rows(&mut desired, terms.into_iter());
        desired
    }

    /// All that rows may call an app: itself, any app, and its groups.
    pub fn parties(&self, app: Identity) -> Vec<Party> {
        let groups = self.memberships.get(&app.number());
        let groups = groups.into_iter().flat_map(|list| list.groups(app));
        [Party::one(app), Party::ANY].into_iter().chain(groups).collect()
    }

    /// The same, with these apps in these groups.
    #[must_use]
    pub fn with_members(self, members: impl IntoIterator<Item = (Identity, Party)>) -> Self {
        let mut groups: BTreeMap<Identity, Vec<Party>> = BTreeMap::new();
        for (app, group) in members {
            groups.entry(app).or_default().push(group);
        }
        let lists = groups.into_iter().map(|(app, groups)| (app.number(), Memberships::new(app, groups)));
        Self { memberships: lists.collect(), ..self }
    }
}

/// Compiles for one node: rules that touch an app with an endpoint here, and placements of all instances elsewhere that this
/// node was told of. Rules that are `lapsed` are left out: allows whose time is over by this node's own clock.
pub fn compile(
    replica: &Replica,
    node: &NodeName,
    local_apps: &HashSet<Identity>,
    lapsed: impl Fn(&Rule) -> bool,
) -> Desired {
    let groups: Vec<(Identity, Party)> = members(replica).collect();
    let here: HashSet<Party> = local_apps
        .iter()
        .flat_map(|app| [Party::one(*app), Party::ANY])
        .chain(groups.iter().filter(|(app, _)| local_apps.contains(app)).map(|(_, group)| *group))
        .collect();
    let rules = replica.rules.values().filter(|rule| !lapsed(rule));
    let terms = rules.flat_map(|rule| terms(replica, rule));
    let mut terms: Vec<Term> =
        terms.filter(|term| here.contains(&term.source) || here.contains(&term.destination)).collect();
    terms.extend(unknown_denies(replica, node, local_apps));
    let named: HashSet<Party> = terms.iter().flat_map(|term| [term.source, term.destination]).collect();
    // Groups that no rule here names are nobody's business here.
    let members = groups.into_iter().filter(|(_, group)| named.contains(group));
    let mut desired = Desired::of_terms(terms).with_members(members);
    add_placements(&mut desired, replica, node);
    desired
}

/// Between apps whose own rules are not here there may be denies that nobody here knows, and a rule about groups or any app must
/// not pass for all there is. Of what they and others say to each other everything is known, since each rule about that touches
/// the others; and of what they and the node do, every deny.
fn unknown_denies(replica: &Replica, node: &NodeName, local_apps: &HashSet<Identity>) -> Vec<Term> {
    let governed = governed(replica, node);
    let known = replica.apps.values().filter(|app| governed.contains(&app.name)).map(|app| app.identity);
    let known: HashSet<Identity> = known.collect();
    let strangers: Vec<Party> = local_apps.difference(&known).map(|app| Party::one(*app)).collect();
    let ruling = Ruling { action: Action::Deny, rule: common::RuleId(NO_RULE) };
    let between = |source, destination| {
        let term = move |protocol| Term {
            source,
            destination,
            protocol,
            ports: PortRange::ALL,
            layer: Layer::Enforced,
            ruling,
        };
        Protocol::ALL.into_iter().map(term)
    };
    let pairs = strangers.iter().flat_map(|from| strangers.iter().map(move |to| (*from, *to)));
    pairs.flat_map(|(from, to)| between(from, to)).collect()
}

/// The number of what is decided by no rule.
const NO_RULE: u32 = 0;

/// A rule as terms, one for each protocol and port range; none if it names an app or a group that is not known, which the
/// policy API never sends.
pub fn terms<'a>(replica: &'a Replica, rule: &'a Rule) -> impl Iterator<Item = Term> + 'a {
    let ends = party(replica, &rule.source).zip(party(replica, &rule.destination));
    let action = match (rule.action, rule.on_deny()) {
        (model::Action::Allow, _) => Action::Allow,
        (model::Action::Deny, OnDeny::Reset) => Action::Deny,
        (model::Action::Deny, OnDeny::Drop) => Action::DenySilently,
    };
    let layer = match rule.mode {
        Mode::Enforce => Layer::Enforced,
        Mode::Audit => Layer::Audited,
    };
    let ruling = Ruling { action, rule: rule.id.into() };
    ends.into_iter().flat_map(move |(source, destination)| {
        let of = move |protocol: Protocol| {
            let term = move |ports: &PortRange| Term { source, destination, protocol, ports: *ports, layer, ruling };
            rule.ports.ranges().iter().map(term)
        };
        rule.protocol.wire().iter().copied().flat_map(of)
    })
}

fn party(replica: &Replica, selector: &Selector) -> Option<Party> {
    match selector {
        Selector::Host => Some(Party::HOST),
        Selector::Any => Some(Party::ANY),
        Selector::App(name) => replica.apps.get(name).map(|app| Party::one(app.identity)),
        Selector::Group(name) => replica.groups.get(name).and_then(|group| Party::group(group.number)),
    }
}

/// Who is in which group.
fn members(replica: &Replica) -> impl Iterator<Item = (Identity, Party)> {
    replica.apps.values().flat_map(|app| {
        let groups = app.groups.iter().filter_map(|name| Party::group(replica.groups.get(name)?.number));
        groups.map(|group| (app.identity, group))
    })
}

/// Rows of all terms: per pair and prefix the strongest ruling of any prefix that covers it.
fn add_rows(desired: &mut Desired, terms: impl Iterator<Item = Term>) {
    let mut pairs: HashMap<PairKey, BTreeMap<PortPrefix, Ruling>> = HashMap::new();
    for term in terms {
        desired.rules.extend(Some(term.ruling.rule.0).filter(|rule| *rule != NO_RULE));
        let direct = pairs.entry(term.pair()).or_default();
        for prefix in term.ports.prefixes() {
            direct.entry(prefix).and_modify(|ruling| *ruling = ruling.stronger(term.ruling)).or_insert(term.ruling);
        }
    }
    for (pair, direct) in &pairs {
        let (pair, lengths) = (*pair, Lengths::new(*pair, direct.keys().copied()));
        desired.lengths.insert(pair, lengths);
        for prefix in direct.keys() {
            let covering = prefix.ancestors().filter_map(|ancestor| direct.get(&ancestor).copied());
            if let Some(ruling) = covering.reduce(Ruling::stronger) {
                let key = RowKey::new(pair, *prefix);
                desired.rows.insert(key, Row::new(key, ruling));
            }
        }
    }
    add_port_sets(desired, &pairs);
}

/// Sets of ports, for as many pairs as there are places. A pair with rows of one length is asked as quickly without, and one
/// that has a row for all ports has no port that matches nothing.
fn add_port_sets(desired: &mut Desired, pairs: &HashMap<PairKey, BTreeMap<PortPrefix, Ruling>>) {
    let whole = PortPrefix::covering(0, 0);
    let gains = |(pair, lengths): (&PairKey, &Lengths)| {
        let gains = lengths.count() > 1 && pairs.get(pair).is_some_and(|direct| !direct.contains_key(&whole));
        gains.then_some((Reverse(lengths.count()), *pair))
    };
    let mut gainers: Vec<_> = desired.lengths.iter().filter_map(gains).collect();
    let places = SetPlace::all().count();
    if gainers.len() > places {
        gainers.select_nth_unstable(places);
        gainers.truncate(places);
    }
    for (_, pair) in gainers {
        let mut set = Box::new(PortSet::NONE);
        pairs[&pair].keys().for_each(|prefix| set.add(*prefix));
        desired.port_sets.insert(pair, set);
    }
}

/// The apps whose rules are all here: those that have, or had, an address of this node. Of others it is only those that
/// touch these.
pub fn governed(replica: &Replica, node: &NodeName) -> HashSet<AppName> {
    let own = replica.bindings.values().filter(|binding| binding.node == *node);
    own.map(|binding| binding.app.clone()).collect()
}

/// Whether an instance speaks with nobody, by itself or with its whole app.
pub fn is_isolated(replica: &Replica, app: &AppName, instance: u32) -> bool {
    let stands = |instance| replica.isolations.contains_key(&Target { app: app.clone(), instance });
    !replica.isolations.is_empty() && (stands(None) || stands(Some(instance)))
}

fn add_placements(desired: &mut Desired, replica: &Replica, node: &NodeName) {
    let others = replica.nodes.values().filter(|other| other.name != *node);
    desired.nodes = others.map(|other| other.underlay.into()).collect();
    for binding in replica.bindings.values().filter(|binding| binding.node != *node) {
        let Some(home) = replica.nodes.get(&binding.node) else { continue };
        let isolated = is_isolated(replica, &binding.app, binding.instance);
        let standing = if isolated { Standing::ISOLATED } else { Standing::ORDINARY };
        let placement = Placement::remote(home.underlay.into(), binding.identity).standing_as(standing);
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
    use common::{
        Question, RuleId, Rules, decide,
        decide::decide_with_audit,
        rule::{Membership, Scope},
        terms::Terms,
    };
    use proptest::prelude::*;

    /// Maps that hold what is desired, each set of ports at the place that its pair was given.
    struct Maps {
        desired: Desired,
        places: HashMap<PairKey, SetPlace>,
    }

    impl Maps {
        fn holding(desired: Desired) -> Self {
            let places = desired.port_sets.keys().copied().zip(SetPlace::all()).collect();
            Self { desired, places }
        }
    }

    impl Rules for Maps {
        fn scope(&self) -> Scope {
            Scope::of(self.desired.lengths.keys().copied())
        }

        fn membership(&self, app: Identity, place: usize) -> Membership {
            self.desired.memberships.get(&app.number()).map_or(Membership::NONE, |groups| groups.at(place))
        }

        fn lengths(&self, key: &PairKey) -> Option<Lengths> {
            let lengths = self.desired.lengths.get(key)?;
            Some(lengths.with_set(self.places.get(key).copied()))
        }

        fn row(&self, key: &RowKey) -> Option<Row> {
            self.desired.rows.get(key).copied()
        }

        fn set_has(&self, place: SetPlace, port: u16) -> bool {
            let (pair, _) = self.places.iter().find(|(_, of)| **of == place).expect("a word names places of sets only");
            self.desired.port_sets[pair].has(port)
        }
    }

    fn identity(number: u32) -> Identity {
        Identity::new(number).expect("24 bits")
    }

    fn group(number: u32) -> Party {
        Party::group(number).expect("24 bits")
    }

    /// 256 and 257 are in group 1.
    fn members() -> Vec<(Identity, Party)> {
        vec![(identity(256), group(1)), (identity(257), group(1))]
    }

    fn party() -> impl Strategy<Value = Party> {
        let one = (256_u32..259).prop_map(|number| Party::one(identity(number)));
        prop_oneof![3 => one, 1 => Just(Party::ANY), 1 => Just(group(1)), 1 => Just(Party::HOST)]
    }

    prop_compose! {
        fn term()(source in party(), destination in party(), a in 0_u16..40, b in 0_u16..40, top: bool, deny: bool,
                  audited in prop::bool::weighted(0.2), rule in 1_u32..30) -> Term {
            let lift = if top { u16::MAX - 40 } else { 0 };
            let ports = PortRange::new(lift + a.min(b), lift + a.max(b)).expect("ordered");
            let action = if deny { Action::Deny } else { Action::Allow };
            let layer = if audited { Layer::Audited } else { Layer::Enforced };
            let ruling = Ruling { action, rule: RuleId(rule) };
            Term { source, destination, protocol: Protocol::Tcp, ports, layer, ruling }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn compiled_rows_decide_as_the_rules_themselves(terms in prop::collection::vec(term(), 0..12)) {
            let members = members();
            let maps = Maps::holding(Desired::of_terms(terms.iter().copied()).with_members(members.iter().copied()));
            let rules = Terms { terms: &terms, members: &members };
            for port in (0..41).step_by(3).chain(u16::MAX - 41..=u16::MAX) {
                for (source, destination) in [(256, 257), (258, 256), (1, 258), (257, 1)] {
                    let (source, destination) = (identity(source), identity(destination));
                    let question = Question { source, destination, protocol: Protocol::Tcp, port };
                    let (found, wanted) = (decide(&maps, &question), decide(&rules, &question));
                    prop_assert_eq!(found, wanted);
                    let audited = decide_with_audit(&maps, &question, found);
                    prop_assert_eq!(audited, decide_with_audit(&rules, &question, wanted));
                }
            }
        }
    }

    #[test]
    fn pairs_with_rows_of_the_most_lengths_have_sets_and_others_none() {
        let ruling = Ruling { action: Action::Allow, rule: RuleId(1) };
        let term = |app: u32, first, last| {
            let (source, destination) = (Party::one(identity(app)), Party::one(identity(257)));
            let ports = PortRange::new(first, last).expect("ordered");
            Term { source, destination, protocol: Protocol::Tcp, ports, layer: Layer::Enforced, ruling }
        };
        let one_length = term(1_000, 8080, 8080);
        let all_ports = [term(1_001, 0, u16::MAX), term(1_001, 80, 90)];
        let two = (2_000..2_300).map(|app| term(app, 80, 82));
        let many = term(3_000, 1, 1_000);
        let desired = Desired::of_terms(two.chain(all_ports).chain([one_length, many]));
        assert_eq!(desired.port_sets.len(), SetPlace::all().count());
        assert!(desired.port_sets.contains_key(&many.pair()));
        assert!([one_length, all_ports[0]].iter().all(|term| !desired.port_sets.contains_key(&term.pair())));
        let set = &desired.port_sets[&many.pair()];
        assert_eq!([0, 1, 1_000, 1_001].map(|port| set.has(port)), [false, true, true, false]);
    }

    #[test]
    fn one_rule_costs_one_row_per_prefix_and_one_word_per_pair_whoever_it_is_about() {
        let ports = PortRange::new(8080, 8080).expect("ordered");
        let ruling = Ruling { action: Action::Allow, rule: RuleId(1) };
        for party in [Party::one(identity(256)), Party::ANY, group(1)] {
            let destination = Party::one(identity(257));
            let term =
                Term { source: party, destination, protocol: Protocol::Tcp, ports, layer: Layer::Enforced, ruling };
            let desired = Desired::of_terms([term]).with_members(members());
            assert_eq!((desired.rows.len(), desired.lengths.len()), (1, 1), "{party:?}");
        }
    }
}
