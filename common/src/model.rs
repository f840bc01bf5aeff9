//! A node in hash maps: the same engine as in the kernel, over tables that a test can look into.

use core::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use crate::{
    address::Address,
    conntrack::{Class, Conntrack, Entry, Epoch, Inserted, Record, Traffic, Word, flag},
    datagram::{Datagram, DatagramKey, Datagrams},
    decide::Rules,
    event::{Charge, Usage},
    identity::Identity,
    judge::{Matter, Node, consult},
    path::Site,
    placement::{Endpoint, Placement},
    rule::{Lengths, Membership, PairKey, Party, Row, RowKey, RuleId, Scope},
    settings::{Settings, Ticks},
    terms::{Term, Terms},
    tuple::{FlowKey, Side, Tuple},
};

/// A node without a kernel.
#[derive(Debug)]
pub struct ModelNode {
    pub terms: RefCell<std::vec::Vec<Term>>,
    /// Who is in which group.
    pub members: RefCell<std::vec::Vec<(Identity, Party)>>,
    pub flows: RefCell<HashMap<FlowKey, Record>>,
    pub datagrams: RefCell<HashMap<DatagramKey, Datagram>>,
    pub charges: RefCell<HashMap<Address, Charge>>,
    pub usage: RefCell<HashMap<RuleId, Usage>>,
    pub endpoints: HashMap<u32, Endpoint>,
    pub placements: HashMap<Address, Placement>,
    pub nodes: HashSet<Address>,
    pub epoch: Cell<Epoch>,
    pub now: Cell<Ticks>,
    pub settings: Settings,
    pub capacity: usize,
}

impl ModelNode {
    pub fn new(settings: Settings, capacity: usize) -> Self {
        Self {
            terms: RefCell::default(),
            members: RefCell::default(),
            flows: RefCell::default(),
            datagrams: RefCell::default(),
            charges: RefCell::default(),
            usage: RefCell::default(),
            endpoints: HashMap::new(),
            placements: HashMap::new(),
            nodes: HashSet::new(),
            epoch: Cell::new(Epoch(1)),
            now: Cell::new(Ticks(1)),
            settings,
            capacity,
        }
    }

    /// Lets an instance open flows.
    pub fn open_account(&self, address: Address) {
        self.charges.borrow_mut().entry(address).or_default();
    }

    /// Replaces the rules, as an agent does: rows first, epoch last.
    pub fn set_terms(&self, terms: std::vec::Vec<Term>) {
        *self.terms.borrow_mut() = terms;
        self.epoch.set(Epoch(self.epoch.get().0 + 1));
    }

    pub fn pass_time(&self, ticks: u32) {
        self.now.set(Ticks(self.now.get().0 + ticks));
    }

    /// Asks the rules, as they stand.
    fn ask<T>(&self, question: impl FnOnce(&Terms) -> T) -> T {
        question(&Terms { terms: &self.terms.borrow(), members: &self.members.borrow() })
    }

    fn with<T>(&self, key: &FlowKey, change: impl FnOnce(&mut Entry) -> T) -> T {
        change(&mut self.flows.borrow_mut().get_mut(key).expect("a handle is the key of an entry that was found").entry)
    }
}

impl Rules for ModelNode {
    fn scope(&self) -> Scope {
        self.ask(|rules| rules.scope())
    }

    fn membership(&self, app: Identity, place: usize) -> Membership {
        self.ask(|rules| rules.membership(app, place))
    }

    fn lengths(&self, key: &PairKey) -> Option<Lengths> {
        self.ask(|rules| rules.lengths(key))
    }

    fn row(&self, key: &RowKey) -> Option<Row> {
        self.ask(|rules| rules.row(key))
    }
}

impl Conntrack for ModelNode {
    type Handle = FlowKey;
    type Account = Address;

    fn find(&self, key: &FlowKey) -> Option<FlowKey> {
        self.flows.borrow().contains_key(key).then_some(*key)
    }

    fn read(&self, handle: FlowKey) -> Entry {
        self.with(&handle, |entry| *entry)
    }

    fn tuple(&self, handle: FlowKey, key: &FlowKey) -> Tuple {
        self.flows.borrow()[&handle].tuple(key)
    }

    fn swap_word(&self, handle: FlowKey, old: Word, new: Word) -> bool {
        self.with(&handle, |entry| {
            let same = entry.word == old.raw();
            if same {
                entry.word = new.raw();
            }
            same
        })
    }

    fn set_flags(&self, handle: FlowKey, flags: u32) -> u32 {
        self.with(&handle, |entry| {
            let before = entry.flags;
            entry.flags |= flags;
            before
        })
    }

    fn touch(&self, handle: FlowKey, now: Ticks) {
        self.with(&handle, |entry| entry.seen = now);
    }

    fn count(&self, handle: FlowKey, packet: Traffic) {
        self.with(&handle, |entry| entry.traffic = entry.traffic.wrapping_add(packet.raw()));
    }

    fn settle(&self, handle: FlowKey) -> Traffic {
        self.with(&handle, |entry| {
            let traffic = Traffic::from_raw(std::mem::take(&mut entry.traffic));
            entry.packets += traffic.packets();
            entry.bytes += traffic.bytes();
            traffic
        })
    }

    fn reattribute(&self, handle: FlowKey, rule: RuleId) {
        self.with(&handle, |entry| {
            entry.rule = rule.0;
            entry.flags &= !flag::CUT;
        });
    }

    fn insert(&self, key: &FlowKey, record: &Record) -> Inserted {
        let mut flows = self.flows.borrow_mut();
        if flows.contains_key(key) {
            Inserted::Exists
        } else if flows.len() >= self.capacity {
            Inserted::Full
        } else {
            flows.insert(*key, *record);
            Inserted::Created
        }
    }

    fn remove(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }

    fn account(&self, instance: &Address) -> Option<Address> {
        self.charges.borrow().contains_key(instance).then_some(*instance)
    }

    fn account_of(&self, handle: FlowKey, side: Side) -> Option<Address> {
        let address = *self.flows.borrow()[&handle].address(side);
        self.account(&address)
    }

    fn charge(&self, account: Address, class: Class) -> u64 {
        let mut charges = self.charges.borrow_mut();
        let count = charges.entry(account).or_default().of_mut(class);
        let before = *count;
        *count = before.wrapping_add(1);
        before
    }

    fn discharge(&self, account: Address, class: Class) {
        let mut charges = self.charges.borrow_mut();
        let count = charges.entry(account).or_default().of_mut(class);
        *count = count.wrapping_sub(1);
    }

    fn credit(&self, rule: RuleId, traffic: Traffic, flows: u32) {
        let mut usage = self.usage.borrow_mut();
        let usage = usage.entry(rule).or_default();
        usage.packets += traffic.packets();
        usage.bytes += traffic.bytes();
        usage.flows += u64::from(flows);
    }

    fn ended(&self, _: FlowKey, _: &FlowKey) {}
}

impl Datagrams for ModelNode {
    fn find_datagram(&self, key: &DatagramKey) -> Option<Datagram> {
        self.datagrams.borrow().get(key).copied()
    }

    fn insert_datagram(&self, key: &DatagramKey, datagram: &Datagram) -> bool {
        let mut datagrams = self.datagrams.borrow_mut();
        let is_free = datagrams.len() < self.capacity && !datagrams.contains_key(key);
        if is_free {
            datagrams.insert(*key, *datagram);
        }
        is_free
    }

    fn advance_datagram(&self, key: &DatagramKey, come: u32, whole: u32) -> Option<(u32, u32)> {
        let mut datagrams = self.datagrams.borrow_mut();
        let datagram = datagrams.get_mut(key)?;
        datagram.come += come;
        datagram.whole = datagram.whole.max(whole);
        Some((datagram.come, datagram.whole))
    }

    fn poison_datagram(&self, key: &DatagramKey) {
        if let Some(datagram) = self.datagrams.borrow_mut().get_mut(key) {
            datagram.poisoned = 1;
        }
    }

    fn remove_datagram(&self, key: &DatagramKey) -> bool {
        self.datagrams.borrow_mut().remove(key).is_some()
    }
}

impl Charge {
    fn of_mut(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Unanswered => &mut self.unanswered,
            Class::Answered => &mut self.answered,
            Class::Fragmented => &mut self.fragmented,
        }
    }
}

impl Node for ModelNode {
    fn epoch(&self) -> Epoch {
        self.epoch.get()
    }

    fn now(&self) -> Ticks {
        self.now.get()
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn consult(&self, matter: &mut Matter, initiator: Side) {
        consult(self, matter, initiator);
    }
}

impl Site for ModelNode {
    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint> {
        self.endpoints.get(&ifindex)
    }

    fn placement(&self, address: &Address) -> Option<&Placement> {
        self.placements.get(address)
    }

    fn is_node(&self, underlay: &Address) -> bool {
        self.nodes.contains(underlay)
    }
}
