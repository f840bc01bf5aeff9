//! The whole verdict on a packet whose two ends are proven: conntrack first, policy where conntrack has no answer.
//!
//! The fast path is one look-up and a comparison. The epoch is read before any row and stamped after, so a race with the
//! agent costs one more look, never a stale permit.

use crate::{
    conntrack::{Binding, Class, Conntrack, Entry, Epoch, Inserted, Side, Tuple, Word, retire},
    decide::{Decision, Question, Rules, decide},
    packet::{Kind, Packet, Protocol},
    placement::End,
    rule::RuleId,
    settings::{Settings, Ticks},
    verdict::{DropReason, Verdict},
};

/// Everything that a verdict reads or writes on a node.
pub trait Node: Rules + Conntrack {
    fn epoch(&self) -> Epoch;
    fn now(&self) -> Ticks;
    fn settings(&self) -> &Settings;
}

/// Who sent the packet and who is to receive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub source: End,
    pub destination: End,
}

/// What the stages hand on about one packet.
#[derive(Clone, Copy)]
struct Context<'a> {
    packet: &'a Packet,
    ends: &'a Ends,
    tuple: &'a Tuple,
    /// The side that sent this packet.
    sender: Side,
}

/// Judges a packet: the flow it belongs to, or the one it would open.
#[inline(always)]
pub fn judge<N: Node>(node: &N, packet: &Packet, ends: &Ends) -> Verdict {
    let (tuple, sender) = Tuple::of(packet);
    let context = Context { packet, ends, tuple: &tuple, sender };
    match find(node, &context) {
        Found::Live(flow) => match packet.kind {
            Kind::Opening => reopen(node, &context, &flow),
            Kind::Error => quote(node, &context, &flow),
            Kind::Datagram | Kind::Segment | Kind::Reply | Kind::Finish | Kind::Reset => {
                continue_flow(node, &context, &flow)
            }
        },
        Found::Stale(_) if packet.kind == Kind::Error => DropReason::NoFlow.into(),
        Found::Stale(handle) => {
            retire(node, handle, &tuple);
            open(node, &context)
        }
        Found::Nothing => open(node, &context),
    }
}

/// An entry that is this packet's own.
#[derive(Clone, Copy)]
struct Flow<H> {
    handle: H,
    entry: Entry,
    now: Ticks,
}

enum Found<H> {
    Live(Flow<H>),
    /// Expired, ended and to be opened anew, or made for somebody who had this address before.
    Stale(H),
    Nothing,
}

#[inline(always)]
fn find<N: Node>(node: &N, context: &Context) -> Found<N::Handle> {
    let Some(handle) = node.find(context.tuple) else { return Found::Nothing };
    let entry = node.read(handle);
    let now = node.now();
    let settings = node.settings();
    let binding = context.binding(settings.seed, entry.initiator());
    let reopened = context.packet.kind == Kind::Opening && entry.is_ended();
    if !entry.word().is_bound_to(binding)
        || reopened
        || entry.is_expired(context.packet.protocol, now, &settings.lifetimes)
    {
        return Found::Stale(handle);
    }
    Found::Live(Flow { handle, entry, now })
}

impl Context<'_> {
    #[inline(always)]
    fn binding(&self, seed: u64, initiator: Side) -> Binding {
        let (low, high) = match self.sender {
            Side::Low => (self.ends.source, self.ends.destination),
            Side::High => (self.ends.destination, self.ends.source),
        };
        Binding::new(seed, self.tuple, initiator, low, high)
    }

    /// The question to policy if this side is the initiator.
    #[inline(always)]
    fn question(&self, initiator: Side) -> Question {
        let (source, destination) = if initiator == self.sender {
            (self.ends.source, self.ends.destination)
        } else {
            (self.ends.destination, self.ends.source)
        };
        Question {
            source: source.identity,
            destination: destination.identity,
            protocol: self.packet.protocol,
            port: match self.packet.protocol {
                Protocol::Tcp | Protocol::Udp => self.tuple.port(initiator.other()),
                Protocol::Icmp => 0,
            },
        }
    }
}

/// A packet of a known flow: judged again if policy changed since, in whichever direction it goes.
#[inline(always)]
fn continue_flow<N: Node>(node: &N, context: &Context, flow: &Flow<N::Handle>) -> Verdict {
    let epoch = node.epoch();
    let initiator = flow.entry.initiator();
    if flow.entry.word().epoch() != epoch {
        match decide(node, &context.question(initiator)) {
            Decision::Allow(_) => stamp(node, context, flow, epoch),
            Decision::Deny(rule) => return Verdict::drop_by(DropReason::FlowRevoked, rule),
            Decision::NoRule => return DropReason::FlowRevoked.into(),
        }
    }
    let from_initiator = initiator == context.sender;
    let flags = flow.entry.flags_after(context.packet.kind, from_initiator);
    if flags != flow.entry.flags
        && let Err(reason) = advance(node, context, flow, flags)
    {
        return reason.into();
    }
    let extends = from_initiator || context.packet.protocol == Protocol::Tcp;
    if extends && flow.now != flow.entry.seen && !flow.entry.is_ended() {
        node.touch(flow.handle, flow.now);
    }
    Verdict::ESTABLISHED
}

/// An error about a known flow passes while the flow may; it leaves the entry as it is.
#[inline(always)]
fn quote<N: Node>(node: &N, context: &Context, flow: &Flow<N::Handle>) -> Verdict {
    if flow.entry.word().epoch() == node.epoch() {
        return Verdict::ESTABLISHED;
    }
    match decide(node, &context.question(flow.entry.initiator())) {
        Decision::Allow(_) => Verdict::ESTABLISHED,
        Decision::Deny(rule) => Verdict::drop_by(DropReason::FlowRevoked, rule),
        Decision::NoRule => DropReason::FlowRevoked.into(),
    }
}

/// Moves a flow to its next state; the first answer moves its charge.
#[inline(always)]
fn advance<N: Node>(node: &N, context: &Context, flow: &Flow<N::Handle>, flags: u32) -> Result<(), DropReason> {
    let answers = Entry { flags, ..flow.entry }.is_answered() && !flow.entry.is_answered();
    let initiator = context.tuple.address(flow.entry.initiator());
    if answers && !charge(node, &initiator, Class::Answered) {
        return Err(DropReason::QuotaAnswered);
    }
    let before = Entry { flags: node.set_flags(flow.handle, flags), ..flow.entry };
    if answers {
        // Whoever set the flag first keeps the new charge and returns the old one; the other returns his own. Of a retired
        // entry the old one has been returned.
        let class = if before.is_retired() { Class::Answered } else { before.class() };
        node.discharge(&initiator, class);
    }
    Ok(())
}

/// A SYN or an echo request where a flow already lives: its sender's new flow to policy, but never a new owner for the
/// entry.
#[inline(always)]
fn reopen<N: Node>(node: &N, context: &Context, flow: &Flow<N::Handle>) -> Verdict {
    let epoch = node.epoch();
    match decide(node, &context.question(context.sender)) {
        Decision::Allow(_) => {
            if flow.entry.initiator() == context.sender {
                stamp(node, context, flow, epoch);
                node.touch(flow.handle, flow.now);
            }
            Verdict::ESTABLISHED
        }
        Decision::Deny(rule) => Verdict::drop_by(DropReason::DenyRule, rule),
        Decision::NoRule => DropReason::NoRule.into(),
    }
}

/// Writes the epoch that was read before the rows. Losing to another CPU is fine: it stamped what it read, too.
#[inline(always)]
fn stamp<N: Node>(node: &N, context: &Context, flow: &Flow<N::Handle>, epoch: Epoch) {
    let binding = context.binding(node.settings().seed, flow.entry.initiator());
    let _ = node.swap_word(flow.handle, flow.entry.word(), Word::new(epoch, binding));
}

/// A packet without a flow: its sender's first one, if its kind may be that and a rule allows it.
#[inline(always)]
fn open<N: Node>(node: &N, context: &Context) -> Verdict {
    if matches!(context.packet.kind, Kind::Reply | Kind::Finish | Kind::Reset | Kind::Error) {
        return DropReason::NoFlow.into();
    }
    let epoch = node.epoch();
    match decide(node, &context.question(context.sender)) {
        Decision::Allow(rule) => create(node, context, epoch, rule),
        Decision::Deny(_) | Decision::NoRule if context.packet.kind == Kind::Segment => DropReason::NoFlow.into(),
        Decision::Deny(rule) => Verdict::drop_by(DropReason::DenyRule, rule),
        Decision::NoRule => DropReason::NoRule.into(),
    }
}

#[inline(always)]
fn create<N: Node>(node: &N, context: &Context, epoch: Epoch, rule: RuleId) -> Verdict {
    let initiator = context.packet.source;
    if !charge(node, &initiator, Class::Unanswered) {
        return DropReason::QuotaUnanswered.into();
    }
    let word = Word::new(epoch, context.binding(node.settings().seed, context.sender));
    match node.insert(context.tuple, &Entry::new(word, context.sender, node.now(), rule.0)) {
        Inserted::Created => Verdict::opened(rule),
        outcome @ (Inserted::Exists | Inserted::Full) => {
            node.discharge(&initiator, Class::Unanswered);
            match outcome {
                // Another CPU made the flow from a packet that was judged by the same rows.
                Inserted::Exists | Inserted::Created => Verdict::ESTABLISHED,
                Inserted::Full => DropReason::TableFull.into(),
            }
        }
    }
}

/// Charges one flow, unless the initiator is at its limit or holds no charge account (it is being removed).
#[inline(always)]
fn charge<N: Node>(node: &N, initiator: &crate::Address, class: Class) -> bool {
    let limit = match class {
        Class::Unanswered => node.settings().quotas.unanswered,
        Class::Answered => node.settings().quotas.answered,
    };
    match node.charge(initiator, class) {
        None => false,
        // A count that lost a race with the removal of its account reads as negative: none.
        Some(before) if before < u64::from(limit) || before > u64::MAX / 2 => true,
        Some(_) => {
            node.discharge(initiator, class);
            false
        }
    }
}
