//! Brings the maps from what they hold to what they must hold, in an order in which no packet sees a permit that neither
//! the old policy nor the new one gives: add denies, add allows, remove allows, remove denies, raise the epoch.
//!
//! Where apps change groups too, allows are removed before the groups and added behind them, for the same reason.
//!
//! What does not fit is said: the revision is then not applied, and an endpoint whose deny did not fit is closed.

use std::collections::{HashMap, HashSet};

use common::{
    Action, Address, Identity, Party,
    event::{Charge, Usage},
    placement::{Place, Placement},
    rule::{Lengths, Memberships, PairKey, Row, RowKey, Scope},
};
use policy_api::model::Timestamp;
use tracing::warn;

use crate::{
    compile::Desired,
    datapath::{Datapath, DatapathError},
    port_sets::PortSets,
    usage::{Account, Accounts},
};

/// What the kernel holds, as far as this agent wrote or found it.
#[derive(Debug, Default)]
pub struct Programmed {
    rows: HashMap<RowKey, Row>,
    lengths: HashMap<PairKey, Lengths>,
    port_sets: PortSets,
    memberships: HashMap<u32, Memberships>,
    placements: HashMap<Address, Placement>,
    nodes: HashSet<Address>,
    /// Rules that are credited with what they let pass.
    /// Since when each rule's account counts; nothing of what an agent before opened.
    rules: HashMap<u32, Option<Timestamp>>,
    /// What was counted on accounts that are closed, until somebody asks.
    closed: Vec<Account>,
}

/// What a reconciliation did.
#[must_use]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows, lengths, placements and nodes written or removed.
    pub writes: usize,
    /// What did not fit; empty if the maps now hold all that they must.
    pub failures: Vec<String>,
    /// Whom a deny that did not fit is about: their endpoints have to be closed.
    pub unguarded: HashSet<Party>,
    /// The epoch was raised: flows may have been cut.
    pub raised: bool,
}

impl Outcome {
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// Counts a write, or keeps why it failed.
    fn wrote(&mut self, what: &str, result: Result<(), DatapathError>) -> bool {
        match result {
            Ok(()) => self.writes += 1,
            Err(ref error) => self.failures.push(format!("{what}: {error}")),
        }
        result.is_ok()
    }
}

/// The value of a known node: its presence is what counts.
const KNOWN: u32 = 1;

/// Removes a placement, unless an endpoint of this node took the address over.
fn remove_remote(datapath: &mut Datapath, address: &Address) -> Result<(), DatapathError> {
    match datapath.placements.get(address)?.and_then(|placement| placement.place()) {
        Some(Place::Local | Place::Host) => Ok(()),
        Some(Place::Remote) | None => datapath.placements.remove(address),
    }
}

impl Programmed {
    /// Reads what an earlier agent left; on a fresh start, nothing.
    pub fn adopt(datapath: &Datapath) -> Result<Self, DatapathError> {
        let remote = |(_, placement): &(Address, Placement)| placement.place() == Some(Place::Remote);
        let lengths = datapath.lengths.read()?.into_iter().collect();
        Ok(Self {
            rows: datapath.rows.read()?.into_iter().collect(),
            port_sets: PortSets::adopt(datapath, &lengths)?,
            lengths,
            memberships: datapath.memberships.read()?.into_iter().collect(),
            rules: datapath.usage.read()?.into_iter().map(|(rule, _)| (rule, None)).collect(),
            closed: Vec::new(),
            placements: datapath.placements.read()?.into_iter().filter(remote).collect(),
            nodes: datapath.nodes.read()?.into_iter().map(|(address, _)| address).collect(),
        })
    }

    /// The rules that are credited with what they let pass.
    pub fn rules(&self) -> impl Iterator<Item = u32> {
        self.rules.keys().copied()
    }

    /// What was counted of each rule; of those that are gone, once.
    pub fn accounts(&mut self, datapath: &Datapath) -> Result<Accounts, DatapathError> {
        let of = |(rule, usage)| Account { rule, opened: self.rules.get(&rule).copied().flatten(), usage, live: 0 };
        let open = datapath.usage.read()?.into_iter().map(of).collect();
        Ok(Accounts { open, closed: std::mem::take(&mut self.closed) })
    }

    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Brings the maps to what is desired. Placement and rows are written in this order; the epoch is raised if anything
    /// changed that a verdict reads, whether or not everything fitted, and always if `raise` says so.
    pub fn reconcile(&mut self, datapath: &mut Datapath, desired: &Desired, raise: bool) -> Outcome {
        let mut outcome = Outcome::default();
        self.reconcile_nodes(datapath, desired, &mut outcome);
        let restood = self.reconcile_placements(datapath, desired, &mut outcome);
        self.credit_rules(datapath, desired, &mut outcome);
        let changed = self.reconcile_rows(datapath, desired, &mut outcome);
        if changed || restood || raise {
            datapath.raise_epoch(Scope::of(self.lengths.keys().copied()));
            outcome.raised = true;
        }
        outcome
    }

    /// Opens an account for each rule, and closes those of rules that are gone.
    fn credit_rules(&mut self, datapath: &mut Datapath, desired: &Desired, outcome: &mut Outcome) {
        let new: Vec<_> = desired.rules.iter().filter(|rule| !self.rules.contains_key(rule)).copied().collect();
        let old: Vec<_> = self.rules.keys().filter(|rule| !desired.rules.contains(rule)).copied().collect();
        for rule in new {
            if outcome.wrote(&format!("usage of r{rule}"), datapath.usage.put_new(&rule, &Usage::default())) {
                self.rules.insert(rule, Some(Timestamp::now()));
            }
        }
        for rule in old {
            let counted = datapath.usage.get(&rule).ok().flatten();
            if outcome.wrote(&format!("usage of r{rule}"), datapath.usage.remove(&rule)) {
                let opened = self.rules.remove(&rule).flatten();
                self.closed.extend(counted.map(|usage| Account { rule, opened, usage, live: 0 }));
            }
        }
    }

    fn reconcile_nodes(&mut self, datapath: &mut Datapath, desired: &Desired, outcome: &mut Outcome) {
        let new: Vec<_> = desired.nodes.difference(&self.nodes).copied().collect();
        let old: Vec<_> = self.nodes.difference(&desired.nodes).copied().collect();
        for node in new {
            if outcome.wrote(&format!("node {}", node.ip()), datapath.nodes.put(&node, &KNOWN)) {
                self.nodes.insert(node);
            }
        }
        for node in old {
            if outcome.wrote(&format!("node {}", node.ip()), datapath.nodes.remove(&node)) {
                self.nodes.remove(&node);
            }
        }
    }

    /// Removes placements of instances that nobody here may speak with any more; returns what failed. A part of its own, so
    /// that flows can be looked at between: a flow is known to be cut only as long as it is known between whom it was.
    #[must_use]
    pub fn retire(&mut self, datapath: &mut Datapath, desired: &Desired) -> Vec<String> {
        let mut outcome = Outcome::default();
        let gone = |address: &&Address| !desired.placements.contains_key(address);
        let gone: Vec<_> = self.placements.keys().filter(gone).copied().collect();
        for address in gone {
            if outcome.wrote(&format!("placement of {}", address.ip()), remove_remote(datapath, &address)) {
                self.placements.remove(&address);
            }
        }
        outcome.failures
    }

    /// True if an instance elsewhere was isolated or released.
    fn reconcile_placements(&mut self, datapath: &mut Datapath, desired: &Desired, outcome: &mut Outcome) -> bool {
        let changed: Vec<_> = differing(&desired.placements, &self.placements).collect();
        let restood = changed.iter().any(|(address, placement)| {
            self.placements.get(address).is_some_and(|before| before.standing() != placement.standing())
        });
        for (address, placement) in changed {
            // The account first: an instance that is placed but cannot be charged opens nothing.
            let account = datapath.charges.put_new(&address, &Charge::default());
            let written = account.and_then(|()| datapath.placements.put(&address, &placement));
            if outcome.wrote(&format!("placement of {}", address.ip()), written) {
                self.placements.insert(address, placement);
            }
        }
        restood
    }

    /// True if anything was touched that a verdict reads.
    fn reconcile_rows(&mut self, datapath: &mut Datapath, desired: &Desired, outcome: &mut Outcome) -> bool {
        let plan = Plan::new(self, desired);
        let before = (outcome.writes, outcome.failures.len());
        let members_change = self.memberships != desired.memberships;
        self.put_rows(datapath, &plan.add_denies, outcome);
        self.put_lengths(datapath, plan.lengths_with_old(self, desired), outcome);
        if members_change {
            self.remove_rows(datapath, &plan.remove_allows, outcome);
            self.reconcile_memberships(datapath, desired, outcome);
            self.put_rows(datapath, &plan.add_allows, outcome);
        } else {
            self.put_rows(datapath, &plan.add_allows, outcome);
            self.remove_rows(datapath, &plan.remove_allows, outcome);
        }
        self.remove_rows(datapath, &plan.remove_denies, outcome);
        self.put_rows(datapath, &plan.replace_denies, outcome);
        let kept = self.port_sets.keep(datapath, &desired.port_sets);
        self.put_lengths(datapath, self.words(desired), outcome);
        self.remove_lengths(datapath, desired, outcome);
        // Places that stay unfree are no fault of the policy: pairs do without a set.
        if let Err(error) = self.port_sets.free_unread(&self.lengths) {
            warn!(error = %error, "places of sets of ports cannot be used again");
        }
        let placed = self.port_sets.place(datapath, &desired.port_sets);
        self.put_lengths(datapath, self.words(desired), outcome);
        outcome.writes += kept.writes + placed.writes;
        outcome.failures.extend(kept.failures.into_iter().chain(placed.failures));
        (outcome.writes, outcome.failures.len()) != before
    }

    /// The words that lengths must be, as far as they are not.
    fn words(&self, desired: &Desired) -> Vec<(PairKey, Lengths)> {
        let words = desired.lengths.iter().map(|(pair, lengths)| (*pair, self.port_sets.word(pair, *lengths)));
        words.filter(|(pair, word)| self.lengths.get(pair) != Some(word)).collect()
    }

    fn reconcile_memberships(&mut self, datapath: &mut Datapath, desired: &Desired, outcome: &mut Outcome) {
        let changed: Vec<_> = differing(&desired.memberships, &self.memberships).collect();
        let gone = |app: &&u32| !desired.memberships.contains_key(app);
        let gone: Vec<_> = self.memberships.keys().filter(gone).copied().collect();
        for (app, groups) in changed {
            if outcome.wrote("groups of an app", datapath.memberships.put(&app, &groups)) {
                self.memberships.insert(app, groups);
            } else {
                // One of its groups may be denied.
                outcome.unguarded.extend(Identity::new(app).map(Party::one));
            }
        }
        for app in gone {
            if outcome.wrote("groups of an app", datapath.memberships.remove(&app)) {
                self.memberships.remove(&app);
            }
        }
    }

    fn put_rows(&mut self, datapath: &mut Datapath, rows: &[(RowKey, Row)], outcome: &mut Outcome) {
        let refused = datapath.rows.put_all(rows).err();
        let missing: HashSet<usize> = refused.iter().flat_map(|refused| refused.indices.iter().copied()).collect();
        for (i, (key, row)) in rows.iter().enumerate() {
            if missing.contains(&i) {
                if action(*key, *row).is_some_and(Action::is_deny) {
                    outcome.unguarded.extend(ends(key.pair()));
                }
            } else {
                self.rows.insert(*key, *row);
            }
        }
        outcome.failures.extend(refused.map(|refused| refused.to_string()));
        outcome.writes += rows.len() - missing.len();
    }

    fn remove_rows(&mut self, datapath: &mut Datapath, keys: &[RowKey], outcome: &mut Outcome) {
        match datapath.rows.remove_all(keys) {
            Ok(()) => {
                for key in keys {
                    self.rows.remove(key);
                }
            }
            Err(refused) => outcome.failures.push(format!("removing: {refused}")),
        }
        outcome.writes += keys.len();
    }

    fn put_lengths(&mut self, datapath: &mut Datapath, lengths: Vec<(PairKey, Lengths)>, outcome: &mut Outcome) {
        let refused = datapath.lengths.put_all(&lengths).err();
        let missing: HashSet<usize> = refused.iter().flat_map(|refused| refused.indices.iter().copied()).collect();
        for (i, (key, length)) in lengths.iter().enumerate() {
            if missing.contains(&i) {
                // Without its lengths a pair matches nothing new; a deny among them is not seen either.
                outcome.unguarded.extend(ends(*key));
            } else {
                self.lengths.insert(*key, *length);
            }
        }
        outcome.failures.extend(refused.map(|refused| refused.to_string()));
        outcome.writes += lengths.len() - missing.len();
    }

    fn remove_lengths(&mut self, datapath: &mut Datapath, desired: &Desired, outcome: &mut Outcome) {
        let gone: Vec<_> = self.lengths.keys().filter(|key| !desired.lengths.contains_key(key)).copied().collect();
        match datapath.lengths.remove_all(&gone) {
            Ok(()) => {
                for key in &gone {
                    self.lengths.remove(key);
                }
            }
            Err(refused) => outcome.failures.push(format!("removing: {refused}")),
        }
        outcome.writes += gone.len();
    }
}

/// Row writes, by the phase that they belong to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// New denies, and allows that become denies.
    add_denies: Vec<(RowKey, Row)>,
    /// Allows where nothing or another allow stood.
    add_allows: Vec<(RowKey, Row)>,
    remove_allows: Vec<RowKey>,
    remove_denies: Vec<RowKey>,
    /// Denies that become allows: a deny removed, so among the last.
    replace_denies: Vec<(RowKey, Row)>,
}

impl Plan {
    fn new(programmed: &Programmed, desired: &Desired) -> Self {
        let mut plan = Self::default();
        for (key, row) in differing(&desired.rows, &programmed.rows) {
            let standing = programmed.rows.get(&key).and_then(|row| action(key, *row));
            let was_deny = standing.is_some_and(Action::is_deny);
            match action(key, row).is_some_and(Action::is_deny) {
                true => plan.add_denies.push((key, row)),
                false if was_deny => plan.replace_denies.push((key, row)),
                false => plan.add_allows.push((key, row)),
            }
        }
        for (key, row) in programmed.rows.iter().filter(|(key, _)| !desired.rows.contains_key(key)) {
            match action(*key, *row).is_some_and(Action::is_deny) {
                true => plan.remove_denies.push(*key),
                false => plan.remove_allows.push(*key),
            }
        }
        plan
    }

    /// For each pair that gets new rows, the lengths of old and new rows together, and no set of ports: none of either is
    /// missed meanwhile.
    fn lengths_with_old(&self, programmed: &Programmed, desired: &Desired) -> Vec<(PairKey, Lengths)> {
        let new: HashSet<PairKey> = self.add_denies.iter().chain(&self.add_allows).map(|(key, _)| key.pair()).collect();
        let mut prefixes: HashMap<PairKey, Vec<_>> = HashMap::new();
        for key in programmed.rows.keys().chain(desired.rows.keys()).filter(|key| new.contains(&key.pair())) {
            prefixes.entry(key.pair()).or_default().push(key.prefix());
        }
        let joined = prefixes.into_iter().map(|(pair, prefixes)| (pair, Lengths::new(pair, prefixes)));
        joined.filter(|(pair, lengths)| programmed.lengths.get(pair) != Some(lengths)).collect()
    }
}

fn action(key: RowKey, row: Row) -> Option<Action> {
    row.ruling(key).map(|ruling| ruling.action)
}

fn ends(pair: PairKey) -> impl Iterator<Item = Party> {
    let (source, destination) = pair.parties();
    [source, destination].into_iter()
}

/// Elements of `desired` that `programmed` lacks or holds otherwise.
fn differing<'a, K: Copy + Eq + std::hash::Hash, V: Copy + Eq>(
    desired: &'a HashMap<K, V>,
    programmed: &'a HashMap<K, V>,
) -> impl Iterator<Item = (K, V)> + 'a {
    desired.iter().filter(|(key, value)| programmed.get(key) != Some(value)).map(|(key, value)| (*key, *value))
}
