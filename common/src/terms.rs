//! Rules as a list, answering the look-ups that rows answer.
//!
//! This is the definition of what rows must hold: the agent's compiler is tested against it, and `netpol check` asks it
//! directly. It scans, so it suits a question; the datapath has rows.

use crate::{
    decide::Rules,
    identity::Identity,
    packet::Protocol,
    port::{PortPrefix, PortRange},
    rule::{Lengths, PairKey, Row, RowKey, Ruling},
};

/// One rule for one protocol and one port range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    pub source: Identity,
    pub destination: Identity,
    pub protocol: Protocol,
    pub ports: PortRange,
    pub ruling: Ruling,
}

impl Term {
    pub const fn pair(&self) -> PairKey {
        PairKey::new(self.source, self.destination, self.protocol)
    }

    /// How many rows this term costs where no other term has the same prefix.
    pub fn cost(&self) -> usize {
        self.ports.prefixes().count()
    }
}

/// A list of terms as look-ups of rows.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a>(pub &'a [Term]);

impl Terms<'_> {
    fn of(&self, pair: PairKey) -> impl Iterator<Item = &Term> {
        self.0.iter().filter(move |term| term.pair() == pair)
    }

    fn prefixes(&self, pair: PairKey) -> impl Iterator<Item = (PortPrefix, Ruling)> {
        self.of(pair).flat_map(|term| term.ports.prefixes().map(|prefix| (prefix, term.ruling)))
    }
}

impl Rules for Terms<'_> {
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
        decide::{Decision, Question, decide},
        rule::{Action, RuleId},
    };
    use proptest::prelude::*;
    use std::vec::Vec;

    /// The contract's sentence, word by word: any matching deny, else any matching allow, else denied.
    fn oracle(terms: &[Term], question: &Question) -> (bool, bool) {
        let matches = |term: &&Term| {
            term.source == question.source
                && term.destination == question.destination
                && term.protocol == question.protocol
                && term.ports.contains(question.port)
        };
        let denied = terms.iter().filter(matches).any(|term| term.ruling.action == Action::Deny);
        let allowed = terms.iter().filter(matches).any(|term| term.ruling.action == Action::Allow);
        (denied, allowed)
    }

    /// Few ports, close to each other and to powers of two, so that ranges meet, nest and touch.
    fn port() -> impl Strategy<Value = u16> {
        prop_oneof![0_u16..20, 8070_u16..8100, Just(65535), any::<u16>()]
    }

    fn identity() -> impl Strategy<Value = Identity> {
        (256_u32..259).prop_map(|number| Identity::new(number).expect("24 bits"))
    }

    fn protocol() -> impl Strategy<Value = Protocol> {
        prop::sample::select(Protocol::ALL.to_vec())
    }

    prop_compose! {
        fn term()(source in identity(), destination in identity(), protocol in protocol(), a in port(), b in port(),
                  all in prop::bool::weighted(0.2), deny: bool, rule in 1_u32..50) -> Term {
            let ports = match protocol {
                Protocol::Icmp => PortRange::ALL,
                Protocol::Tcp | Protocol::Udp if all => PortRange::ALL,
                Protocol::Tcp | Protocol::Udp => PortRange::new(a.min(b), a.max(b)).expect("ordered"),
            };
            let action = if deny { Action::Deny } else { Action::Allow };
            Term { source, destination, protocol, ports, ruling: Ruling { action, rule: RuleId(rule) } }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_longest_row_says_what_all_matching_rules_say_together(
            terms in prop::collection::vec(term(), 0..12),
            source in identity(), destination in identity(), protocol in protocol(), probe in port(),
        ) {
            let ends = terms.iter().flat_map(|term| {
                let (first, last) = (term.ports.first(), term.ports.last());
                [first, last, first.saturating_sub(1), last.saturating_add(1)]
            });
            for port in ends.chain([probe]).collect::<Vec<_>>() {
                let port = if protocol == Protocol::Icmp { 0 } else { port };
                let question = Question { source, destination, protocol, port };
                let (denied, allowed) = oracle(&terms, &question);
                let decision = decide(&Terms(&terms), &question);
                let as_expected = match decision {
                    Decision::Deny(_) => denied,
                    Decision::Allow(_) => allowed && !denied,
                    Decision::NoRule => !allowed && !denied,
                };
                prop_assert!(as_expected, "{question:?}: {decision:?}, denied {denied}, allowed {allowed}");
            }
        }
    }
}
