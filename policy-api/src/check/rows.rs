//! The rows that speak about one pair of ends, as an agent would compile them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::{
    Action, Identity, Layer, Party, PortPrefix, PortRange, Protocol, Rules, Ruling,
    rule::{Lengths, Membership, Memberships, PairKey, Row, RowKey, Scope},
};

use super::side::Side;
use crate::{
    model::{Mode, OnDeny, Rule, Selector},
    store::State,
};

/// All rows that could speak about flows of one protocol between two ends. Each holds the verdict over all prefixes that
/// cover it.
pub(super) struct PairRows {
    pairs: HashMap<PairKey, BTreeMap<PortPrefix, Ruling>>,
    members: Vec<(Identity, Memberships)>,
    ranges: Vec<PortRange>,
}

impl PairRows {
    pub(super) fn new(state: &State, source: &Side, destination: &Side, protocol: Protocol) -> Self {
        let members = [source, destination].map(|side| (side.identity(), memberships(state, side)));
        let mut rows = Self { pairs: HashMap::new(), members: members.into(), ranges: Vec::new() };
        let destinations = destination.selectors(state);
        for from in source.selectors(state) {
            for to in &destinations {
                let parties = party(state, &from).zip(party(state, to));
                let Some((of_source, of_destination)) = parties else { continue };
                let rules = state.rules_between(&from, to).filter(|rule| rule.protocol.wire().contains(&protocol));
                for rule in rules {
                    let layer = layer(rule.mode);
                    rows.add(PairKey::new(of_source, of_destination, protocol, layer), rule);
                }
            }
        }
        rows
    }

    fn add(&mut self, pair: PairKey, rule: &Rule) {
        let ruling = Ruling { action: action(rule), rule: rule.id.into() };
        let prefixes = self.pairs.entry(pair).or_default();
        for range in rule.ports.ranges() {
            self.ranges.push(*range);
            for prefix in range.prefixes() {
                let standing = prefixes.entry(prefix).or_insert(ruling);
                *standing = standing.stronger(ruling);
            }
        }
    }

    /// Ports that together speak for all: one on each side of every range's end.
    pub(super) fn telling_ports(&self) -> BTreeSet<u16> {
        let ends = self.ranges.iter().flat_map(|range| [Some(range.first().max(1)), range.last().checked_add(1)]);
        ends.flatten().chain([1]).collect()
    }
}

impl Rules for PairRows {
    fn scope(&self) -> Scope {
        Scope::of(self.pairs.keys().copied())
    }

    fn membership(&self, app: Identity, place: usize) -> Membership {
        let list = self.members.iter().find(|(member, _)| *member == app);
        list.map_or(Membership::NONE, |(_, list)| list.at(place))
    }

    fn lengths(&self, key: &PairKey) -> Option<Lengths> {
        self.pairs.get(key).map(|prefixes| Lengths::new(*key, prefixes.keys().copied()))
    }

    fn row(&self, key: &RowKey) -> Option<Row> {
        let prefixes = self.pairs.get(&key.pair())?;
        prefixes.get(&key.prefix())?;
        let covering = key.prefix().ancestors().filter_map(|ancestor| prefixes.get(&ancestor));
        covering.copied().reduce(Ruling::stronger).map(|ruling| Row::new(*key, ruling))
    }
}

fn memberships(state: &State, side: &Side) -> Memberships {
    let groups = side.groups();
    let parties = groups.iter().filter_map(|name| party(state, &Selector::Group(name.clone())));
    Memberships::new(side.identity(), parties)
}

fn party(state: &State, selector: &Selector) -> Option<Party> {
    match selector {
        Selector::Host => Some(Party::HOST),
        Selector::Any => Some(Party::ANY),
        Selector::Group(name) => Party::group(state.group(name)?.number),
        Selector::App(name) => Some(Party::one(state.app(name)?.identity)),
    }
}

fn layer(mode: Mode) -> Layer {
    match mode {
        Mode::Enforce => Layer::Enforced,
        Mode::Audit => Layer::Audited,
    }
}

fn action(rule: &Rule) -> Action {
    match (rule.action, rule.on_deny()) {
        (crate::model::Action::Allow, _) => Action::Allow,
        (crate::model::Action::Deny, OnDeny::Reset) => Action::Deny,
        (crate::model::Action::Deny, OnDeny::Drop) => Action::DenySilently,
    }
}
