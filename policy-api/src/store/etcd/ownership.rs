//! Who had an address when, in etcd: one key per interval. Which intervals go on is known in memory too, by following the
//! log, so that a commit need not ask how what it ends began.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use etcd_client::{DeleteOptions, GetOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse};
use serde::{Deserialize, Serialize};

use super::{
    Etcd,
    keys::{Keys, behind},
};
use crate::{
    model::{Binding, Change, Owned, Timestamp},
    store::{Owners, contents, engine::Entry, error::DatabaseError},
};

/// An interval of ownership.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Interval {
    binding: Binding,
    from: Timestamp,
    /// The revision that began it.
    revision: u64,
    until: Option<Timestamp>,
}

/// The intervals that go on.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<IpAddr, Interval>);

/// What entries change about them.
#[derive(Debug, Default)]
pub(super) struct Changed {
    open: HashMap<IpAddr, Option<Interval>>,
    ended: Vec<Interval>,
}

impl Ledger {
    /// As it was at a revision of etcd.
    pub(super) fn load(etcd: &Etcd, at: i64) -> Result<Self, DatabaseError> {
        let mut ledger = Self::default();
        for (_, value, _) in etcd.all(&etcd.keys.open_owners(), Some(at))? {
            let interval: Interval = serde_json::from_slice(&value)?;
            ledger.0.insert(interval.binding.address, interval);
        }
        Ok(ledger)
    }

    pub(super) fn changed(&self, entries: &[Entry]) -> Changed {
        let mut changed = Changed::default();
        for entry in entries {
            for change in &entry.changes {
                match change {
                    Change::PutBinding { binding } if binding.is_live() => self.begin(binding, &mut changed),
                    Change::PutBinding { binding } => self.end(binding.address, binding.since, &mut changed),
                    Change::DeleteBinding { address } => self.end(*address, entry.time, &mut changed),
                    _ => {}
                }
            }
        }
        changed
    }

    pub(super) fn apply(&mut self, changed: Changed) {
        for (address, interval) in changed.open {
            match interval {
                Some(interval) => drop(self.0.insert(address, interval)),
                None => drop(self.0.remove(&address)),
            }
        }
    }

    fn open(&self, address: IpAddr, changed: &Changed) -> Option<Interval> {
        changed.open.get(&address).cloned().unwrap_or_else(|| self.0.get(&address).cloned())
    }

    /// The same instance on the same node goes on with the interval it has.
    fn begin(&self, binding: &Binding, changed: &mut Changed) {
        let owner = |binding: &Binding| (binding.identity, binding.instance, binding.node.clone());
        let begun = match self.open(binding.address, changed) {
            Some(open) if owner(&open.binding) == owner(binding) => Interval { binding: binding.clone(), ..open },
            other => {
                if other.is_some() {
                    self.end(binding.address, binding.since, changed);
                }
                let (from, revision) = (binding.since, binding.revision.0);
                Interval { binding: binding.clone(), from, revision, until: None }
            }
        };
        changed.open.insert(binding.address, Some(begun));
    }

    /// Never before its beginning: a clock may have been set back meanwhile.
    fn end(&self, address: IpAddr, at: Timestamp, changed: &mut Changed) {
        if let Some(open) = self.open(address, changed) {
            changed.ended.push(Interval { until: Some(at.max(open.from)), ..open });
            changed.open.insert(address, None);
        }
    }
}

impl Changed {
    pub(super) fn operations(&self, keys: &Keys) -> Result<Vec<TxnOp>, DatabaseError> {
        let mut operations = Vec::new();
        for (address, interval) in &self.open {
            let key = keys.open_owner(*address);
            operations.push(match interval {
                Some(interval) => TxnOp::put(key, serde_json::to_vec(interval)?, None),
                None => TxnOp::delete(key, None),
            });
        }
        for interval in &self.ended {
            let (address, start) = (interval.binding.address, interval.from.unix_milliseconds());
            let until = interval.until.unwrap_or(interval.from).unix_milliseconds();
            let ended = keys.ended_owner(address, start, interval.revision);
            operations.push(TxnOp::put(keys.owner_end(until, address, start, interval.revision), ended.clone(), None));
            operations.push(TxnOp::put(ended, serde_json::to_vec(interval)?, None));
        }
        Ok(operations)
    }
}

/// Who had an address at one time.
pub(super) fn owners(etcd: &Etcd, address: IpAddr, at: Timestamp) -> Result<Owners, DatabaseError> {
    let keys = &etcd.keys;
    let ended = keys.ended_owners(address);
    let border = keys.ended_owner(address, at.unix_milliseconds().saturating_add(1), 0);
    let one = |order| GetOptions::new().with_sort(SortTarget::Key, order).with_limit(1);
    let last = TxnOp::get(ended.clone(), Some(one(SortOrder::Descend).with_range(border.clone())));
    let after = TxnOp::get(border, Some(one(SortOrder::Ascend).with_range(behind(&ended))));
    let open = TxnOp::get(keys.open_owner(address), None);
    let answer = etcd.txn(&Txn::new().and_then([last, after, open]))?;
    let mut found = Vec::new();
    for response in answer.op_responses() {
        let TxnOpResponse::Get(response) = response else { continue };
        let first = response.kvs().first().map(|pair| serde_json::from_slice::<Interval>(pair.value())).transpose()?;
        found.push(first.map(owned));
    }
    let mut found = found.into_iter();
    let (last, after, open) = (found.next().flatten(), found.next().flatten(), found.next().flatten());
    Ok(match open {
        // What goes on is the last there is.
        Some(open) if open.from <= at => Owners::around(Some(open), None, at),
        open => Owners::around(last, after.or(open), at),
    })
}

fn owned(interval: Interval) -> Owned {
    Owned { binding: interval.binding, from: interval.from, until: interval.until }
}

/// All intervals, as of a revision of etcd.
pub(super) fn all(etcd: &Etcd, at: i64) -> Result<Vec<contents::Interval>, DatabaseError> {
    let mut pairs = etcd.all(&etcd.keys.open_owners(), Some(at))?;
    pairs.extend(etcd.all(&etcd.keys.all_ended_owners(), Some(at))?);
    let read = |(_, value, _): (Vec<u8>, Vec<u8>, i64)| {
        let interval: Interval = serde_json::from_slice(&value)?;
        Ok(contents::Interval { revision: interval.revision, owned: owned(interval) })
    };
    pairs.into_iter().map(read).collect()
}

/// What puts intervals where there are none.
pub(super) fn puts(keys: &Keys, intervals: &[contents::Interval]) -> Result<Vec<TxnOp>, DatabaseError> {
    let mut puts = Vec::new();
    for contents::Interval { owned: Owned { binding, from, until }, revision } in intervals {
        let interval = Interval { binding: binding.clone(), from: *from, revision: *revision, until: *until };
        let changed = match until {
            None => Changed { open: [(binding.address, Some(interval))].into(), ended: Vec::new() },
            Some(_) => Changed { open: HashMap::new(), ended: vec![interval] },
        };
        puts.extend(changed.operations(keys)?);
    }
    Ok(puts)
}

/// Forgets intervals that ended so long ago; returns how many.
pub(super) fn forget(etcd: &Etcd, before: Timestamp) -> Result<usize, DatabaseError> {
    const AT_ONCE: i64 = 60;
    let (first, end) = (etcd.keys.owner_ends(), etcd.keys.owner_ends_from(before.unix_milliseconds()));
    let mut forgotten = 0;
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(AT_ONCE);
        let found = etcd.get(&first, &options)?;
        if found.kvs().is_empty() {
            return Ok(forgotten);
        }
        let delete = |key: &[u8]| TxnOp::delete(key, None::<DeleteOptions>);
        let both = found.kvs().iter().flat_map(|pair| [delete(pair.key()), delete(pair.value())]);
        etcd.txn(&Txn::new().and_then(both.collect::<Vec<_>>()))?;
        forgotten += found.kvs().len();
    }
}
