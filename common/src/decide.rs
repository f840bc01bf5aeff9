//! What policy says about a flow: the one place where rows become a decision.

use crate::{
    identity::Identity,
    packet::Protocol,
    port::PortPrefix,
    rule::{Action, Lengths, PairKey, Row, RowKey, RuleId, Ruling},
};

/// Look-ups of rows: BPF maps in the kernel, the model in the policy API, hash maps in tests.
pub trait Rules {
    /// The prefix lengths in use for a pair.
    fn lengths(&self, key: &PairKey) -> Option<Lengths>;
    /// The row with exactly this key.
    fn row(&self, key: &RowKey) -> Option<Row>;
}

/// A flow, from its initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub source: Identity,
    pub destination: Identity,
    pub protocol: Protocol,
    /// The destination's port; 0 for protocols without ports.
    pub port: u16,
}

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(RuleId),
    Deny(RuleId),
    /// Nothing matches: default deny.
    NoRule,
}

/// Judges a flow: the longest matching prefix decides, because its row already holds the verdict over all that cover it.
#[inline(always)]
pub fn decide(rules: &impl Rules, question: &Question) -> Decision {
    let pair = PairKey::new(question.source, question.destination, question.protocol);
    let Some(lengths) = rules.lengths(&pair).and_then(|lengths| lengths.bits(pair)) else {
        return Decision::NoRule;
    };
    let mut length = PortPrefix::LONGEST + 1;
    while length > 0 {
        length -= 1;
        if lengths >> length & 1 == 0 {
            continue;
        }
        let key = RowKey::new(pair, PortPrefix::covering(question.port, length));
        let Some(row) = rules.row(&key) else { continue };
        return match row.ruling(key) {
            Some(Ruling { action: Action::Allow, rule }) => Decision::Allow(rule),
            Some(Ruling { action: Action::Deny, rule }) => Decision::Deny(rule),
            // Recycled under our eyes: it may have been a deny, and a shorter prefix must not speak for it.
            None => Decision::NoRule,
        };
    }
    Decision::NoRule
}
