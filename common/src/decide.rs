//! What policy says about a flow: the one place where rows become a decision.

use core::mem::MaybeUninit;

use crate::{
    identity::Identity,
    packet::Protocol,
    port::PortPrefix,
    rule::{Action, Layer, Lengths, Membership, Memberships, PairKey, Party, Row, RowKey, RuleId, Scope, SetPlace},
};

/// Look-ups of rows: BPF maps in the kernel, the model in the policy API, hash maps in tests.
pub trait Rules {
    /// Which kinds of rows there are.
    fn scope(&self) -> Scope;
    /// The word at this place of the list of groups that an app is in; [`Membership::NONE`] where there is no list.
    fn membership(&self, app: Identity, place: usize) -> Membership;
    /// The prefix lengths in use for a pair.
    fn lengths(&self, key: &PairKey) -> Option<Lengths>;
    /// Whether the set of ports at this place has a port. Where there are no sets it has all: rows tell.
    #[inline(always)]
    fn set_has(&self, _place: SetPlace, _port: u16) -> bool {
        true
    }
    /// The row with exactly this key.
    fn row(&self, key: &RowKey) -> Option<Row>;

    /// What the rows of one pair say about a port. The programs have one function for it, which the verifier follows once.
    #[inline(always)]
    fn ask(&self, pair: PairKey, port: u16) -> Decision
    where
        Self: Sized,
    {
        rows_say(self, pair, port)
    }

    /// Makes the decision between two identities the strongest of what all parties of both sides say. The programs have
    /// their own way to walk: the verifier follows each step of a loop.
    fn widen(&self, question: &Question, layer: Layer, decision: &mut Decision)
    where
        Self: Sized,
    {
        let mut place = MaybeUninit::uninit();
        let Some(widening) = Widening::begin(&mut place, self, question, layer, *decision) else {
            return *decision = Decision::DOUBT;
        };
        for _ in 0..widening.steps() {
            widening.step(self);
        }
        *decision = widening.decision();
    }
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

/// What policy says, by strength: what stands further down beats what stands above.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// Nothing matches: default deny.
    NoRule,
    Allow,
    Deny,
    /// Denied, and the sender is not told.
    DenySilently,
}

/// An answer and the rule behind it. All fields are always set, as in [`crate::Verdict`] and for the same reason.
#[must_use]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub answer: Answer,
    /// The rule that decided, or [`RuleId::NONE`].
    pub rule: RuleId,
}

impl Decision {
    pub const NO_RULE: Self = Self { answer: Answer::NoRule, rule: RuleId::NONE };

    /// A row or a list was recycled under our eyes: it may have been a deny, so nothing may speak for it. The sender is
    /// not told, because his next packet gets the real answer.
    pub const DOUBT: Self = Self { answer: Answer::DenySilently, rule: RuleId::NONE };

    /// In one word, and back. A word that none of these made denies.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        (self.rule.0 as u64) << 32 | self.answer as u64
    }

    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "each half is one of the two")]
        let (rule, answer) = (RuleId((word >> 32) as u32), word as u32);
        let answer = match answer {
            0 => Answer::NoRule,
            1 => Answer::Allow,
            2 => Answer::Deny,
            _ => Answer::DenySilently,
        };
        Self { answer, rule }
    }

    #[inline(always)]
    pub const fn is_allow(&self) -> bool {
        matches!(self.answer, Answer::Allow)
    }

    /// The one of two decisions that holds: deny beats allow, which beats nothing; of equals the older rule is named.
    #[inline(always)]
    pub fn stronger(self, other: Self) -> Self {
        let is_deny = |decision: &Self| decision.answer >= Answer::Deny;
        let (ours, theirs) = (is_deny(&self), is_deny(&other));
        if ours != theirs {
            return if ours { self } else { other };
        }
        match (self.answer, other.answer) {
            (Answer::NoRule, _) => other,
            (_, Answer::NoRule) => self,
            _ if self.rule <= other.rule => self,
            _ => other,
        }
    }
}

/// Judges a flow by the rules that are enforced.
pub fn decide<R: Rules>(rules: &R, question: &Question) -> Decision {
    let mut decision = Decision::NO_RULE;
    decide_into(rules, rules.scope(), question, Layer::Enforced, &mut decision);
    decision
}

/// What would be decided if all audited rules were enforced too. Ask only where there are some ([`Scope::has_audit`]).
pub fn decide_with_audit<R: Rules>(rules: &R, question: &Question, enforced: Decision) -> Decision {
    let mut decision = Decision::NO_RULE;
    decide_into(rules, rules.scope(), question, Layer::Audited, &mut decision);
    enforced.stronger(decision)
}

/// Judges a flow by the rules of one layer, in a place of the caller's. Rows between the two identities first: most nodes
/// have no others that could speak about this flow.
#[inline(always)]
pub fn decide_into<R: Rules>(rules: &R, scope: Scope, question: &Question, layer: Layer, decision: &mut Decision) {
    *decision = decide_pair(rules, question, layer, Party::one(question.source), Party::one(question.destination));
    if !scope.wide(question.source).is_none() {
        rules.widen(question, layer, decision);
    }
}

/// All that rows may call one side of a flow: the identity itself, `any`, and its groups.
#[derive(Clone, Copy, Debug)]
struct Parties {
    list: [Party; Self::MOST],
    count: u32,
}

impl Parties {
    const MOST: usize = 2 + Memberships::MOST;

    #[inline(always)]
    fn one(identity: Identity) -> Self {
        let mut parties = Self { list: [Party::NONE; Self::MOST], count: 1 };
        parties.list[0] = Party::one(identity);
        parties
    }

    /// Adds `any` and groups; nothing where it cannot be known who they are.
    #[inline(always)]
    fn add<R: Rules>(&mut self, rules: &R, identity: Identity, any: bool, groups: bool) -> Option<()> {
        if any && identity.is_app() {
            self.list[1] = Party::ANY;
            self.count = 2;
        }
        if groups && identity.is_app() {
            // The place of `any` is counted whether or not it is there: groups have places of their own.
            self.count = 2;
            let count = rules.membership(identity, 0).count();
            for place in 0..Memberships::MOST {
                if place >= count {
                    break;
                }
                self.list[2 + place] = rules.membership(identity, place).group(identity, count)?;
                self.count += 1;
            }
        }
        Some(())
    }

    #[inline(always)]
    fn at(&self, place: u32) -> Party {
        self.list.get(place as usize).copied().unwrap_or(Party::NONE)
    }
}

/// A question on its way through all pairs of parties.
#[derive(Clone, Copy, Debug)]
pub struct Widening {
    question: Question,
    layer: Layer,
    source: Parties,
    destination: Parties,
    /// The places of the next pair.
    from: u32,
    to: u32,
    decision: Decision,
}

impl Widening {
    /// Starts from what the rows between the two identities say, in a place of the caller's; nothing where it cannot be
    /// known who the parties are.
    #[inline(always)]
    pub fn begin<'a, R: Rules>(
        place: &'a mut MaybeUninit<Self>,
        rules: &R,
        question: &Question,
        layer: Layer,
        narrow: Decision,
    ) -> Option<&'a mut Self> {
        let widening = place.write(Self {
            question: *question,
            layer,
            source: Parties::one(question.source),
            destination: Parties::one(question.destination),
            from: 0,
            to: 0,
            decision: narrow,
        });
        let wide = rules.scope().wide(question.source);
        widening.source.add(rules, question.source, wide.from_any, wide.from_groups)?;
        widening.destination.add(rules, question.destination, wide.to_any, wide.to_groups)?;
        Some(widening)
    }

    #[inline(always)]
    pub const fn steps(&self) -> u32 {
        self.source.count * self.destination.count
    }

    /// Asks the rows of the next pair.
    #[inline(always)]
    pub fn step<R: Rules>(&mut self, rules: &R) {
        // The first pair is the two identities, who were asked before.
        let is_first = self.from == 0 && self.to == 0;
        let (from, to) = (self.source.at(self.from), self.destination.at(self.to));
        if !is_first && from != Party::NONE && to != Party::NONE {
            self.decision = self.decision.stronger(decide_pair(rules, &self.question, self.layer, from, to));
        }
        self.to += 1;
        if self.to >= self.destination.count {
            self.to = 0;
            self.from += 1;
        }
    }

    #[inline(always)]
    pub const fn decision(&self) -> Decision {
        self.decision
    }
}

#[inline(always)]
fn decide_pair<R: Rules>(rules: &R, question: &Question, layer: Layer, source: Party, destination: Party) -> Decision {
    rules.ask(PairKey::new(source, destination, question.protocol, layer), question.port)
}

/// Asks the rows of one pair of parties: the longest matching prefix decides, because its row already holds the verdict
/// over all that cover it.
#[inline(always)]
pub fn rows_say<R: Rules>(rules: &R, pair: PairKey, port: u16) -> Decision {
    let Some(word) = rules.lengths(&pair) else { return Decision::NO_RULE };
    let Some(bits) = word.bits(pair) else { return Decision::NO_RULE };
    if let Some(place) = word.set()
        && !rules.set_has(place, port)
    {
        return Decision::NO_RULE;
    }
    let mut length = PortPrefix::LONGEST + 1;
    // As long as there are shorter ones. The bits stay as they are: the verifier would tell apart what is left of them.
    while bits & ((1 << length) - 1) != 0 {
        length -= 1;
        if bits >> length & 1 == 0 {
            continue;
        }
        let key = RowKey::new(pair, PortPrefix::covering(port, length));
        let Some(row) = rules.row(&key) else { continue };
        let Some(ruling) = row.ruling(key) else { return Decision::DOUBT };
        let answer = match ruling.action {
            Action::Allow => Answer::Allow,
            Action::Deny => Answer::Deny,
            Action::DenySilently => Answer::DenySilently,
        };
        return Decision { answer, rule: ruling.rule };
    }
    Decision::NO_RULE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_and_answered_is_read_from_its_words_and_no_word_allows_by_mistake() {
        for answer in [Answer::NoRule, Answer::Allow, Answer::Deny, Answer::DenySilently] {
            for rule in [0, 1, u32::MAX].map(RuleId) {
                let decision = Decision { answer, rule };
                assert_eq!(Decision::from_word(decision.word()), decision);
            }
        }
        for unknown in [4, 1 << 8 | 1, 1 << 31 | 1, u64::from(u32::MAX)] {
            assert_eq!(Decision::from_word(unknown).answer, Answer::DenySilently);
        }
        let app = Identity::new(0xff_fffe).expect("24 bits");
        let pair = PairKey::new(Party::one(app), Party::ANY, Protocol::Sctp, Layer::Audited);
        for low in [0, 443, u32::MAX] {
            assert_eq!(PairKey::from_words(pair.words_with(low)), (pair, low));
        }
    }
}
