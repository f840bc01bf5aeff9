//! The whole verdict on a packet whose two ends are proven: conntrack first, policy where conntrack has no answer.
//!
//! The fast path is one look-up and a comparison. The epoch is read before any row and stamped after, so a race with the
//! agent costs one more look, never a stale permit.
//!
//! The slow ways are functions of their own that take a few references and return a small value: that is what the BPF
//! target can call, and it keeps the stack of the fast path, of which there are 512 bytes for all, as small as it is.

use core::mem::MaybeUninit;

use crate::{
    conntrack::{Binding, Class, Conntrack, Entry, Epoch, Inserted, Record, Traffic, Word, charge, credit, retire},
    decide::{Answer, Decision, Question, Rules, decide_into},
    packet::{Kind, Packet, Protocol},
    placement::End,
    rule::{Layer, RuleId},
    settings::{Settings, Ticks},
    tuple::{FlowKey, Side, Tuple},
    verdict::{DropReason, Grounds, Note, Outcome, Pass, Verdict},
};

/// Everything that a verdict reads or writes on a node.
pub trait Node: Conntrack {
    fn epoch(&self) -> Epoch;
    fn now(&self) -> Ticks;
    fn settings(&self) -> &Settings;

    /// Puts the question to policy that a packet raises if this side began its flow ([`consult`]). The programs have their
    /// own way to call it: the verifier follows a function once for each way into it, unless it is a global one.
    fn consult(&self, matter: &mut Matter, initiator: Side);
}

/// Who sent the packet and who is to receive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub source: End,
    pub destination: End,
    pub softening: Softening,
}

/// Which flows pass here whatever policy says, because this node's ends of them are in audit: those that the packet's source
/// began, and those that its destination began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softening {
    pub from_source: bool,
    pub from_destination: bool,
}

impl Softening {
    /// Of flows between two apps, whoever began them.
    #[inline(always)]
    pub const fn both(soft: bool) -> Self {
        Self { from_source: soft, from_destination: soft }
    }
}

/// A packet as it comes before the judge, and what policy says to it once it was asked.
#[derive(Clone, Copy)]
pub struct Matter {
    tuple: Tuple,
    key: FlowKey,
    /// Set by whoever asks, before it is read.
    judgement: MaybeUninit<Judgement>,
    /// What the table is to hold of it, made here because the programs' stack has no room for it.
    record: MaybeUninit<Record>,
    ends: Ends,
    kind: Kind,
    protocol: Protocol,
    /// The side that sent the packet.
    sender: Side,
    /// The length of the frame.
    bytes: u32,
}

impl Matter {
    #[inline(always)]
    pub fn new(packet: &Packet, ends: Ends, bytes: u32, seed: u64) -> Self {
        let (tuple, sender) = Tuple::of(packet);
        Self {
            tuple,
            key: FlowKey::of(&tuple, seed),
            judgement: MaybeUninit::uninit(),
            record: MaybeUninit::uninit(),
            ends,
            kind: packet.kind,
            protocol: packet.protocol,
            sender,
            bytes,
        }
    }

    /// A flow without a packet, from one of its ends; none for a protocol that no flow has.
    #[inline(always)]
    pub fn of_flow(key: &FlowKey, tuple: &Tuple, sender: Side, ends: Ends) -> Option<Self> {
        let protocol = tuple.protocol()?;
        Some(Self {
            tuple: *tuple,
            key: *key,
            judgement: MaybeUninit::uninit(),
            record: MaybeUninit::uninit(),
            ends,
            kind: Kind::Segment,
            protocol,
            sender,
            bytes: 0,
        })
    }

    #[inline(always)]
    fn binding(&self, seed: u64, initiator: Side) -> Binding {
        let (low, high) = match self.sender {
            Side::Low => (self.ends.source, self.ends.destination),
            Side::High => (self.ends.destination, self.ends.source),
        };
        Binding::new(seed, &self.key, initiator, low, high)
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
            protocol: self.protocol,
            port: if self.protocol.has_ports() { self.tuple.port(initiator.other()) } else { 0 },
        }
    }

    /// Whether this node's ends of a flow that this side began are in audit.
    #[inline(always)]
    fn is_soft(&self, initiator: Side) -> bool {
        if initiator == self.sender { self.ends.softening.from_source } else { self.ends.softening.from_destination }
    }

    #[inline(always)]
    fn traffic(&self) -> Traffic {
        Traffic::packet(self.bytes)
    }
}

/// Judges a packet, and says on which grounds.
pub fn judge<N: Node>(node: &N, packet: &Packet, ends: &Ends, bytes: u32) -> Verdict {
    let mut grounds = Grounds::NONE;
    let outcome = try_matter(node, &mut Matter::new(packet, *ends, bytes, node.settings().seed), &mut grounds);
    Verdict { outcome, grounds }
}

/// Judges a packet: the flow it belongs to, or the one it would open. `grounds` are none before.
#[inline(always)]
pub fn try_matter<N: Node>(node: &N, matter: &mut Matter, grounds: &mut Grounds) -> Outcome {
    if matter.kind == Kind::Opening {
        return begin(node, matter, grounds);
    }
    match find(node, matter) {
        Found::Live(flow) if matter.kind == Kind::Error => quote(node, matter, flow.handle, grounds),
        Found::Live(flow) => continue_flow(node, matter, &flow, grounds),
        Found::Stale(_) if matches!(matter.kind, Kind::Error | Kind::Tail) => Outcome::Drop(DropReason::NoFlow),
        Found::Stale(handle) => {
            retire(node, handle, &matter.key);
            open(node, matter, grounds)
        }
        Found::Nothing => open(node, matter, grounds),
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
fn find<N: Node>(node: &N, matter: &Matter) -> Found<N::Handle> {
    let Some(handle) = node.find(&matter.key) else { return Found::Nothing };
    let entry = node.read(handle);
    let now = node.now();
    let settings = node.settings();
    let binding = matter.binding(settings.seed, entry.initiator());
    let reopened = matter.kind == Kind::Opening && entry.is_ended();
    if !entry.word().is_bound_to(binding) || reopened || entry.is_expired(matter.protocol, now, &settings.lifetimes) {
        return Found::Stale(handle);
    }
    Found::Live(Flow { handle, entry, now })
}

/// What policy says, and what it would say otherwise.
#[repr(C)]
#[derive(Clone, Copy)]
struct Judgement {
    decision: Decision,
    /// Never set: beside each other the zeroes around it would be a call of `memset`, which on the BPF target goes byte by byte.
    gap: MaybeUninit<u64>,
    would: RuleId,
    note: Note,
    passes: bool,
    padding: [u8; 2],
}

/// Puts a question to policy, and writes the answer where it was asked.
#[inline(always)]
pub fn consult<R: Rules>(rules: &R, matter: &mut Matter, initiator: Side) {
    let (question, scope) = (matter.question(initiator), rules.scope());
    let softened = matter.is_soft(initiator);
    let judgement = matter.judgement.write(Judgement {
        decision: Decision::NO_RULE,
        gap: MaybeUninit::uninit(),
        would: RuleId::NONE,
        note: Note::Nothing,
        passes: false,
        padding: [0; 2],
    });
    decide_into(rules, scope, &question, Layer::Enforced, &mut judgement.decision);
    let decision = reread(&judgement.decision);
    let allowed = decision.is_allow();
    judgement.passes = allowed || softened;
    if softened && !allowed {
        judgement.note = Note::WouldDeny;
        judgement.would = decision.rule;
    } else if scope.has_audit() {
        let mut audited = Decision::NO_RULE;
        decide_into(rules, scope, &question, Layer::Audited, &mut audited);
        let audited = decision.stronger(audited);
        if audited.is_allow() != allowed {
            judgement.note = if allowed { Note::WouldDeny } else { Note::WouldAllow };
            judgement.would = audited.rule;
        }
    }
}

/// Reads a value back from where it was written. For the verifier, which would otherwise follow all that comes after once
/// for each value that it may have: what comes out of a map is any value to it.
#[inline(always)]
fn reread<T: Copy>(place: &T) -> T {
    // SAFETY: a reference is valid, aligned and initialised.
    unsafe { core::ptr::read_volatile(place) }
}

impl Judgement {
    /// What policy says to a flow that this side began.
    #[inline(always)]
    fn of<N: Node>(node: &N, matter: &mut Matter, initiator: Side) -> Self {
        node.consult(matter, initiator);
        // SAFETY: `consult` has written it.
        unsafe { Self::last(matter) }
    }

    /// What policy said last of this matter.
    ///
    /// # Safety
    ///
    /// It was asked.
    #[inline(always)]
    unsafe fn last(matter: &Matter) -> Self {
        // SAFETY: the caller's word.
        reread(unsafe { matter.judgement.assume_init_ref() })
    }

    /// The rule by which it passes: none, where only audit lets it.
    #[inline(always)]
    fn allowed_by(&self) -> RuleId {
        if self.decision.is_allow() { self.decision.rule } else { RuleId::NONE }
    }

    /// Lets pass, saying what would be otherwise.
    #[inline(always)]
    fn passed(&self, pass: Pass, grounds: &mut Grounds) -> Outcome {
        grounds.note = self.note;
        grounds.would = self.would;
        Outcome::Pass(pass)
    }

    /// Keeps a first packet from passing.
    #[inline(always)]
    fn denied(&self, grounds: &mut Grounds) -> Outcome {
        let reason = match self.decision.answer {
            Answer::NoRule | Answer::Allow => DropReason::NoRule,
            Answer::Deny | Answer::DenySilently => DropReason::DenyRule,
        };
        self.dropped(reason, grounds)
    }

    #[inline(always)]
    fn dropped(&self, reason: DropReason, grounds: &mut Grounds) -> Outcome {
        *grounds = Grounds {
            rule: self.decision.rule,
            would: self.would,
            note: self.note,
            silent: self.decision.answer == Answer::DenySilently,
            ..Grounds::NONE
        };
        Outcome::Drop(reason)
    }

    /// Counts a packet that a deny rule keeps from passing.
    #[inline(always)]
    fn blame<N: Node>(&self, node: &N, matter: &Matter) {
        if self.decision.rule != RuleId::NONE {
            node.credit(self.decision.rule, matter.traffic(), 0);
        }
    }
}

/// A packet of a known flow: judged again if policy changed since, in whichever direction it goes.
#[inline(always)]
fn continue_flow<N: Node>(node: &N, matter: &mut Matter, flow: &Flow<N::Handle>, grounds: &mut Grounds) -> Outcome {
    let initiator = flow.entry.initiator();
    if flow.entry.word().epoch() != node.epoch()
        && let Outcome::Drop(reason) = judge_again(node, matter, flow.handle, grounds)
    {
        return Outcome::Drop(reason);
    }
    let from_initiator = initiator == matter.sender;
    let flags = flow.entry.flags_after(matter.kind, from_initiator);
    if flags != flow.entry.flags
        && let Err(reason) = advance(node, flow.handle, &matter.tuple, flags)
    {
        return Outcome::Drop(reason);
    }
    let extends = from_initiator || extends_both_ways(matter.protocol);
    if extends && flow.now != flow.entry.seen && !flow.entry.is_ended() {
        node.touch(flow.handle, flow.now);
    }
    node.count(flow.handle, matter.traffic());
    Outcome::Pass(Pass::Established)
}

/// Whether answers keep a flow alive: where both ends agree on when it is over.
#[inline(always)]
const fn extends_both_ways(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp | Protocol::Sctp => true,
        Protocol::Udp | Protocol::Icmp => false,
    }
}

/// A flow that was judged under another epoch: it stands, and is stamped, or is revoked.
#[inline(never)]
fn judge_again<N: Node>(node: &N, matter: &mut Matter, handle: N::Handle, grounds: &mut Grounds) -> Outcome {
    let epoch = node.epoch();
    let judgement = Judgement::of(node, matter, node.read(handle).initiator());
    if !judgement.passes {
        judgement.blame(node, matter);
        return judgement.dropped(DropReason::FlowRevoked, grounds);
    }
    stamp(node, matter, handle, epoch, judgement.allowed_by());
    judgement.passed(Pass::Established, grounds)
}

/// An error about a known flow passes while the flow may; it leaves the entry as it is.
#[inline(never)]
fn quote<N: Node>(node: &N, matter: &mut Matter, handle: N::Handle, grounds: &mut Grounds) -> Outcome {
    let entry = node.read(handle);
    if entry.word().epoch() == node.epoch() {
        return Outcome::Pass(Pass::Established);
    }
    let judgement = Judgement::of(node, matter, entry.initiator());
    if judgement.passes {
        Outcome::Pass(Pass::Established)
    } else {
        judgement.dropped(DropReason::FlowRevoked, grounds)
    }
}

/// Moves a flow to its next state; the first answer moves its charge. Who is charged is read off the packet, which has the
/// flow's own ends: in the entry they lie where nothing else is read, and a first answer would wait for that memory.
#[inline(never)]
fn advance<N: Node>(node: &N, handle: N::Handle, tuple: &Tuple, flags: u32) -> Result<(), DropReason> {
    let entry = node.read(handle);
    let answers = Entry { flags, ..entry }.is_answered() && !entry.is_answered();
    if !answers {
        node.set_flags(handle, flags);
        return Ok(());
    }
    // Without an account, whoever began the flow is being removed.
    let account = node.account(&tuple.address(entry.initiator())).ok_or(DropReason::QuotaAnswered)?;
    if !charge(node, account, Class::Answered, node.settings().quotas.answered) {
        return Err(DropReason::QuotaAnswered);
    }
    let before = Entry { flags: node.set_flags(handle, flags), ..entry };
    // Whoever set the flag first keeps the new charge and returns the old one; the other returns his own. Of a retired entry
    // the old one has been returned.
    node.discharge(account, if before.is_retired() { Class::Answered } else { before.class() });
    Ok(())
}

/// A SYN, an INIT or an echo request: to policy always its sender's new flow. So policy is asked first, and a flood of what it
/// denies looks for no flows. Where one lives already the packet passes with it, but never makes it another's.
#[inline(never)]
fn begin<N: Node>(node: &N, matter: &mut Matter, grounds: &mut Grounds) -> Outcome {
    let epoch = node.epoch();
    let judgement = Judgement::of(node, matter, matter.sender);
    if !judgement.passes {
        judgement.blame(node, matter);
        return judgement.denied(grounds);
    }
    // SAFETY: policy was asked above.
    unsafe { enter(node, matter, epoch, grounds) }
}

/// Lets in what policy allows to begin. A function of its own, so that it is not on the stack while policy is asked.
///
/// # Safety
///
/// Policy was asked about this matter.
#[inline(never)]
unsafe fn enter<N: Node>(node: &N, matter: &mut Matter, epoch: Epoch, grounds: &mut Grounds) -> Outcome {
    // SAFETY: the caller's word.
    let judgement = unsafe { Judgement::last(matter) };
    match find(node, matter) {
        Found::Live(Flow { handle, entry, now }) => {
            if entry.initiator() == matter.sender {
                stamp(node, matter, handle, epoch, judgement.allowed_by());
                node.touch(handle, now);
                node.count(handle, matter.traffic());
            }
            judgement.passed(Pass::Established, grounds)
        }
        Found::Stale(handle) => {
            retire(node, handle, &matter.key);
            opened(node, matter, epoch, &judgement, grounds)
        }
        Found::Nothing => opened(node, matter, epoch, &judgement, grounds),
    }
}

/// Writes the epoch that was read before the rows. Losing to another CPU is fine: it stamped what it read, too.
#[inline(never)]
fn stamp<N: Node>(node: &N, matter: &Matter, handle: N::Handle, epoch: Epoch, rule: RuleId) {
    let entry = node.read(handle);
    if entry.rule != rule.0 || entry.is_cut() {
        // What passed so far was the other rule's doing.
        credit(node, handle, &entry);
        node.reattribute(handle, rule);
    }
    let binding = matter.binding(node.settings().seed, entry.initiator());
    let _ = node.swap_word(handle, entry.word(), Word::new(epoch, binding));
}

/// A packet without a flow that could be its sender's first one, if its kind may be that and a rule allows it.
#[inline(never)]
fn open<N: Node>(node: &N, matter: &mut Matter, grounds: &mut Grounds) -> Outcome {
    if matches!(matter.kind, Kind::Reply | Kind::Finish | Kind::Reset | Kind::Error | Kind::Tail) {
        return Outcome::Drop(DropReason::NoFlow);
    }
    let epoch = node.epoch();
    let judgement = Judgement::of(node, matter, matter.sender);
    if judgement.passes {
        return opened(node, matter, epoch, &judgement, grounds);
    }
    if matter.kind == Kind::Segment {
        return Outcome::Drop(DropReason::NoFlow);
    }
    judgement.blame(node, matter);
    judgement.denied(grounds)
}

/// Makes the flow of a packet that may open one.
#[inline(always)]
fn opened<N: Node>(
    node: &N,
    matter: &mut Matter,
    epoch: Epoch,
    judgement: &Judgement,
    grounds: &mut Grounds,
) -> Outcome {
    match create(node, matter, epoch, judgement.allowed_by()) {
        Ok(pass) => {
            grounds.rule = judgement.allowed_by();
            judgement.passed(pass, grounds)
        }
        Err(reason) => Outcome::Drop(reason),
    }
}

#[inline(never)]
fn create<N: Node>(node: &N, matter: &mut Matter, epoch: Epoch, rule: RuleId) -> Result<Pass, DropReason> {
    let account = node.account(&matter.tuple.address(matter.sender)).ok_or(DropReason::QuotaUnanswered)?;
    if !charge(node, account, Class::Unanswered, node.settings().quotas.unanswered) {
        return Err(DropReason::QuotaUnanswered);
    }
    let word = Word::new(epoch, matter.binding(node.settings().seed, matter.sender));
    let ours = matter.ends.source.is_here();
    let entry = Entry::new(word, matter.sender, ours, node.now(), rule.0, matter.traffic());
    let record = matter.record.write(Record::new(&matter.tuple, entry));
    let inserted = node.insert(&matter.key, record);
    if inserted != Inserted::Created {
        node.discharge(account, Class::Unanswered);
    }
    match inserted {
        Inserted::Created => Ok(Pass::New),
        // Another CPU made the flow from a packet that was judged by the same rows.
        Inserted::Exists => Ok(Pass::Established),
        Inserted::Full => Err(DropReason::TableFull),
    }
}

/// What a look at a flow found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reviewed {
    /// It may go on, is over, or is nobody's.
    Stands,
    /// It may not go on, and was marked so before.
    KnownCut,
    /// It may not go on.
    Cut,
}

/// Judges a flow as its next packet from its initiator would be. Stamps what stands, so that the next look is cheap; does
/// not mark what is cut, because only the caller knows whether he could say so.
#[inline(always)]
pub fn review<N: Node>(node: &N, handle: N::Handle, matter: &mut Matter, isolated: bool) -> Reviewed {
    let entry = node.read(handle);
    let epoch = node.epoch();
    let ours = entry.word().is_bound_to(matter.binding(node.settings().seed, entry.initiator()));
    let over = entry.is_ended() || entry.is_expired(matter.protocol, node.now(), &node.settings().lifetimes);
    if !ours || over {
        return Reviewed::Stands;
    }
    if !isolated {
        if entry.word().epoch() == epoch {
            return Reviewed::Stands;
        }
        let judgement = Judgement::of(node, matter, entry.initiator());
        if judgement.passes {
            // One that was cut lives again only once a packet comes, which is judged for itself.
            if !entry.is_cut() {
                stamp(node, matter, handle, epoch, judgement.allowed_by());
            }
            return Reviewed::Stands;
        }
    }
    if entry.is_cut() { Reviewed::KnownCut } else { Reviewed::Cut }
}
