//! Rules as a list, answering the look-ups that rows answer.
//!
//! This is the definition of what rows must hold: the agent's compiler is tested against it, and `netpol check` asks it
//! directly. It scans, so it suits a question; the datapath has rows.

use crate::{
    decide::Rules,
    identity::Identity,
    packet::Protocol,
    port::{PortPrefix, PortRange},
    rule::{Layer, Lengths, Membership, Memberships, PairKey, Party, Row, RowKey, Ruling, Scope},
};

/// One rule for one protocol and one port range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    pub source: Party,
    pub destination: Party,
    pub protocol: Protocol,
    pub ports: PortRange,
    pub layer: Layer,
    pub ruling: Ruling,
}

impl Term {
    pub const fn pair(&self) -> PairKey {
        PairKey::new(self.source, self.destination, self.protocol, self.layer)
    }

    /// How many rows this term costs where no other term has the same prefix.
    pub fn cost(&self) -> usize {
        self.ports.prefixes().count()
    }
}

/// A list of terms as look-ups of rows, and who is in which group.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub terms: &'a [Term],
    pub members: &'a [(Identity, Party)],
}

impl Terms<'_> {
    fn of(&self, pair: PairKey) -> impl Iterator<Item = &Term> {
        self.terms.iter().filter(move |term| term.pair() == pair)
    }

    fn prefixes(&self, pair: PairKey) -> impl Iterator<Item = (PortPrefix, Ruling)> {
        self.of(pair).flat_map(|term| term.ports.prefixes().map(|prefix| (prefix, term.ruling)))
    }
}

impl Rules for Terms<'_> {
    fn scope(&self) -> Scope {
        Scope::of(self.terms.iter().map(Term::pair))
    }

    fn membership(&self, app: Identity, place: usize) -> Membership {
        let groups = self.members.iter().filter(|(member, _)| *member == app).map(|(_, group)| *group);
        Memberships::new(app, groups).at(place)
    }

    fn lengths(&self, key: &PairKey) -> Option<Lengths> {
        self.of(*key).next()?;
        Some(Lengths::new(*key, self.prefixes(*key).map(|(prefix, _)| prefix)))
    }

    fn row(&self, key: &RowKey) -> Option<Row> {
        let wanted = key.prefix();
        self.prefixes(key.pair()).find(|(prefix, _)| *prefix == wanted)?;
        let covering = self.prefixes(key.pair()).filter(|(prefix, _)| prefix.covers(wanted));
        covering.map(|(_, ruling)| ruling).reduce(Ruling::stronger).map(|ruling| Row::new(*key, ruling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decide::{Answer, Decision, Question, decide, decide_with_audit},
        rule::{Action, RuleId},
    };
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    const APPS: core::ops::Range<u32> = 256..260;

    fn app(number: u32) -> Identity {
        Identity::new(number).expect("24 bits")
    }

    fn group(number: u32) -> Party {
        Party::group(number).expect("24 bits")
    }

    /// 256 is in group 1, 257 in 1 and 2, 258 in 2; 259 is in none.
    fn members() -> Vec<(Identity, Party)> {
        [(256, 1), (257, 1), (257, 2), (258, 2)].map(|(member, number)| (app(member), group(number))).to_vec()
    }

    fn stands_for(party: Party, identity: Identity) -> bool {
        match party {
            Party::ANY => identity.is_app(),
            group if group.is_group() => members().contains(&(identity, group)),
            one => one == Party::one(identity),
        }
    }

    /// The contract's sentence, word by word: any matching deny, else any matching allow, else denied.
    fn oracle(terms: &[Term], question: &Question, layers: &[Layer]) -> Answer {
        let matches = |term: &&Term| {
            layers.contains(&term.layer)
                && stands_for(term.source, question.source)
                && stands_for(term.destination, question.destination)
                && term.protocol == question.protocol
                && term.ports.contains(question.port)
        };
        let says = |deny| terms.iter().filter(matches).any(|term| term.ruling.action.is_deny() == deny);
        match (says(true), says(false)) {
            (true, _) => Answer::Deny,
            (false, true) => Answer::Allow,
            (false, false) => Answer::NoRule,
        }
    }

    fn agrees(decision: Decision, answer: Answer) -> bool {
        match answer {
            Answer::Deny | Answer::DenySilently => decision.answer >= Answer::Deny,
            Answer::Allow | Answer::NoRule => decision.answer == answer,
        }
    }

    /// Few ports, close to each other and to powers of two, so that ranges meet, nest and touch.
    fn port() -> impl Strategy<Value = u16> {
        prop_oneof![0_u16..20, 8070_u16..8100, Just(65535), any::<u16>()]
    }

    fn identity() -> impl Strategy<Value = Identity> {
        prop_oneof![4 => APPS.prop_map(app), 1 => Just(Identity::HOST), 1 => Just(Identity::UNKNOWN)]
    }

    fn party() -> impl Strategy<Value = Party> {
        prop_oneof![
            4 => APPS.prop_map(|number| Party::one(app(number))),
            1 => Just(Party::HOST),
            1 => Just(Party::ANY),
            2 => (1_u32..3).prop_map(group),
        ]
    }

    fn protocol() -> impl Strategy<Value = Protocol> {
        prop::sample::select(Protocol::ALL.to_vec())
    }

    prop_compose! {
        fn term()(source in party(), destination in party(), protocol in protocol(), a in port(), b in port(),
                  all in prop::bool::weighted(0.2), action in 0_u8..4, audited in prop::bool::weighted(0.25),
                  rule in 1_u32..50) -> Term {
            let ports = match protocol.has_ports() {
                true if !all => PortRange::new(a.min(b), a.max(b)).expect("ordered"),
                true | false => PortRange::ALL,
            };
            let action = match action {
                0 => Action::Deny,
                1 => Action::DenySilently,
                _ => Action::Allow,
            };
            let layer = if audited { Layer::Audited } else { Layer::Enforced };
            Term { source, destination, protocol, ports, layer, ruling: Ruling { action, rule: RuleId(rule) } }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn rows_say_what_all_matching_rules_say_together(
            terms in prop::collection::vec(term(), 0..12),
            source in identity(), destination in identity(), protocol in protocol(), probe in port(),
        ) {
            let ends = terms.iter().flat_map(|term| {
                let (first, last) = (term.ports.first(), term.ports.last());
                [first, last, first.saturating_sub(1), last.saturating_add(1)]
            });
            let members = members();
            let rules = Terms { terms: &terms, members: &members };
            for port in ends.chain([probe]).collect::<Vec<_>>() {
                let port = if protocol.has_ports() { port } else { 0 };
                let question = Question { source, destination, protocol, port };
                let enforced = decide(&rules, &question);
                let wanted = oracle(&terms, &question, &[Layer::Enforced]);
                prop_assert!(agrees(enforced, wanted), "{question:?}: {enforced:?}, not {wanted:?}");
                let with_audit = decide_with_audit(&rules, &question, enforced);
                let wanted = oracle(&terms, &question, &[Layer::Enforced, Layer::Audited]);
                prop_assert!(agrees(with_audit, wanted), "{question:?} with audit: {with_audit:?}, not {wanted:?}");
            }
        }
    }

    #[test]
    fn any_is_apps_only_and_a_group_its_members_only() {
        let ruling = Ruling { action: Action::Allow, rule: RuleId(1) };
        let base = Term {
            source: Party::ANY,
            destination: group(1),
            protocol: Protocol::Tcp,
            ports: PortRange::ALL,
            layer: Layer::Enforced,
            ruling,
        };
        let members = members();
        let asks = |source, destination| {
            let terms = vec![base];
            let question = Question { source, destination, protocol: Protocol::Tcp, port: 80 };
            decide(&Terms { terms: &terms, members: &members }, &question).is_allow()
        };
        assert!(asks(app(259), app(256)) && asks(app(256), app(257)) && asks(app(256), app(256)));
        for (source, destination) in [
            (Identity::HOST, app(256)),
            (Identity::UNKNOWN, app(256)),
            (Identity::WORLD, app(256)),
            (app(256), app(258)),
            (app(256), app(259)),
            (app(256), Identity::HOST),
        ] {
            assert!(!asks(source, destination), "{source:?} to {destination:?}");
        }
    }
}
