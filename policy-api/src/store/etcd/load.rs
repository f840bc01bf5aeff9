//! Reading a store as of one moment: the snapshot, the log behind it, the intervals that go on.

use std::{collections::VecDeque, sync::Arc};

use etcd_client::{Txn, TxnOp, TxnOpResponse};

use super::{
    Etcd,
    ownership::Ledger,
    record::{Record, Snapshot, SnapshotPlace, Top, Value},
};
use crate::store::{
    chain::Tip,
    delta::{Delta, Ring},
    engine::Loaded,
    error::DatabaseError,
    state::State,
};

/// Where in the log a process is, and what it must know to go on.
pub(super) struct Place {
    /// Of the last commit.
    pub(super) sequence: u64,
    /// When the head was put, by etcd's count: what the next commit compares.
    pub(super) modified: i64,
    /// The revision of etcd that all was read at.
    pub(super) read_at: i64,
    pub(super) snapshot: SnapshotPlace,
    pub(super) logged: VecDeque<Logged>,
    pub(super) ledger: Ledger,
    /// The end of the journal.
    pub(super) tip: Tip,
}

/// An entry that is in the log.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) sequence: u64,
    pub(super) bytes: usize,
    /// What its parts are named by, if it has some.
    pub(super) parts: Option<String>,
}

impl Logged {
    pub(super) fn of(sequence: u64, value: &Value) -> Self {
        match value {
            Value::Whole(bytes) => Self { sequence, bytes: bytes.len(), parts: None },
            Value::InParts(parts) => {
                Self { sequence, bytes: parts.count.saturating_mul(super::PART), parts: Some(parts.id.clone()) }
            }
        }
    }
}

/// Nothing, if there is no store.
pub(super) fn load(etcd: &Etcd) -> Result<Option<(Loaded, Place)>, DatabaseError> {
    // What was read first may be compacted away before the last is read, in a store that is written to meanwhile.
    const ATTEMPTS: usize = 3;
    for _ in 1..ATTEMPTS {
        match load_once(etcd) {
            Err(DatabaseError::Etcd(failure)) if failure.contains("compacted") => {}
            done => return done,
        }
    }
    load_once(etcd)
}

fn load_once(etcd: &Etcd) -> Result<Option<(Loaded, Place)>, DatabaseError> {
    let gets = [TxnOp::get(etcd.keys.head(), None), TxnOp::get(etcd.keys.snapshot(), None)];
    let answer = etcd.txn(&Txn::new().and_then(gets))?;
    let read_at = answer.header().map_or(0, |header| header.revision());
    let mut found = answer.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(response) => response.kvs().first().cloned(),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    });
    let (head, snapshot) = (found.next().flatten(), found.next().flatten());
    let Some(head) = head else { return Ok(None) };
    let top: Top = serde_json::from_slice(head.value())?;
    if top.head.tip.number == 0 {
        return Err(DatabaseError::Older { place: etcd.keys.head() });
    }
    let snapshot: SnapshotPlace =
        snapshot.map(|pair| serde_json::from_slice(pair.value())).transpose()?.unwrap_or_default();

    let mut state = begin(etcd, &top, &snapshot, read_at)?;
    let (mut ring, mut logged) = (Ring::default(), VecDeque::new());
    for (key, value, _) in etcd.all(&etcd.keys.logs(), Some(read_at))? {
        let sequence = sequence_of(&key)?;
        let value = Value::decode(&value)?;
        logged.push_back(Logged::of(sequence, &value));
        let record: Record = serde_json::from_slice(&etcd.whole(value, Some(read_at))?)?;
        let is_new = sequence > snapshot.sequence;
        for (node, rows) in record.capacities.iter().filter(|_| is_new) {
            state.set_capacity(node.clone(), *rows);
        }
        for entry in record.entries()? {
            let base = crate::model::Revision(entry.revision.0.saturating_sub(1));
            if is_new {
                state.apply(entry.revision, &entry.changes);
            }
            let digest = is_new.then(|| state.replica().digest());
            ring.push(Arc::new(Delta::new(&top.history, base, entry.revision, digest, &entry.json)));
        }
        if is_new {
            state.set_tip(record.tip()?);
        }
    }
    if state.head() != top.head {
        return Err(DatabaseError::Damaged("its log does not lead to what was stored last".to_owned()));
    }
    let ledger = Ledger::load(etcd, read_at)?;
    let (sequence, modified, tip) = (top.sequence, head.mod_revision(), state.tip());
    Ok(Some((Loaded { state, ring }, Place { sequence, modified, read_at, snapshot, logged, ledger, tip })))
}

/// The state as of the snapshot, or the empty one if there is none yet.
fn begin(etcd: &Etcd, top: &Top, place: &SnapshotPlace, read_at: i64) -> Result<State, DatabaseError> {
    let empty = State::empty(top.history.clone(), top.overlay);
    if place.sequence == 0 {
        return Ok(empty);
    }
    let bytes = etcd.whole(Value::InParts(place.parts.clone()), Some(read_at))?;
    let snapshot: Snapshot = serde_json::from_slice(&bytes)?;
    drop(bytes);
    let mut state = empty
        .restored(snapshot.head, &snapshot.items)
        .ok_or_else(|| DatabaseError::Damaged("its items are not those that were stored last".to_owned()))?;
    for (node, rows) in snapshot.capacities {
        state.set_capacity(node, rows);
    }
    Ok(state)
}

/// The number at the end of a key of the log.
pub(super) fn sequence_of(key: &[u8]) -> Result<u64, DatabaseError> {
    let text = std::str::from_utf8(key).ok().and_then(|key| key.rsplit('/').next());
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| DatabaseError::Damaged(format!("`{}` in the log", String::from_utf8_lossy(key))))
}
