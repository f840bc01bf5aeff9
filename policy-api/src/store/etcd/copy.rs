//! All of a store in etcd, for a file; and the other way round.

use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, Txn, TxnOp};

use super::{
    Etcd, PART, archive, connect,
    follow::usages,
    keys::behind,
    load, new_id, ownership,
    record::{self, Parts, Snapshot, SnapshotPlace, Top},
};
use crate::{
    model::{
        History,
        hex::{from_hex, hex},
    },
    store::{
        contents::{Bearer, Contents},
        error::DatabaseError,
        location::Cluster,
    },
};

/// Operations of one transaction here.
const AT_ONCE: usize = 100;

/// Everything that a store holds: what stands is of one moment, counts and tokens are of that one or a little later.
pub(in crate::store) fn read(cluster: &Cluster) -> Result<Contents, DatabaseError> {
    let (_runtime, etcd) = connect(cluster)?;
    let (loaded, place) = load(&etcd)?.ok_or_else(|| DatabaseError::Missing { place: cluster.to_string() })?;
    let state = loaded.state;
    Ok(Contents {
        history: state.history().clone(),
        overlay: state.overlay(),
        head: state.head(),
        items: state.replica().items().collect(),
        capacities: state.capacities(),
        usage: etcd.runtime.block_on(usages(&etcd))?,
        names: list(&etcd, &etcd.keys.names())?,
        tokens: tokens(&etcd)?,
        owners: ownership::all(&etcd, place.read_at)?,
        anchor: archive::anchor(&etcd, Some(place.read_at))?,
        journal: archive::all(&etcd, place.read_at, state.tip().number)?,
        succeeds: list(&etcd, &etcd.keys.succeeds())?,
        came_from: list(&etcd, &etcd.keys.came_from())?,
    })
}

fn list<T: serde::de::DeserializeOwned>(etcd: &Etcd, key: &str) -> Result<Vec<T>, DatabaseError> {
    Ok(etcd.value(key)?.map(|value| serde_json::from_slice(&value)).transpose()?.unwrap_or_default())
}

fn tokens(etcd: &Etcd) -> Result<Vec<Bearer>, DatabaseError> {
    let prefix = etcd.keys.tokens();
    let read = |(key, value, _): (Vec<u8>, Vec<u8>, i64)| {
        let record::Bearer { name, apps } = serde_json::from_slice(&value)?;
        let hash = key.get(prefix.len()..).and_then(|digits| from_hex(std::str::from_utf8(digits).ok()?));
        let hash = hash.ok_or_else(|| DatabaseError::Damaged(format!("token of `{name}`")))?;
        Ok(Bearer { hash, name, apps })
    };
    etcd.all(&prefix, None)?.into_iter().map(read).collect()
}

/// Whether there is anything below the prefix.
pub(in crate::store) fn is_empty(cluster: &Cluster) -> Result<bool, DatabaseError> {
    let (_runtime, etcd) = connect(cluster)?;
    let all = etcd.keys.all();
    let options = GetOptions::new().with_range(behind(&all)).with_limit(1).with_keys_only();
    Ok(etcd.get(&all, &options)?.kvs().is_empty())
}

/// Puts this below the prefix, in place of all that is there. The head is written last: until it is there nobody can
/// commit, and whoever serves the store begins anew with it.
pub(in crate::store) fn write(cluster: &Cluster, contents: &Contents) -> Result<(), DatabaseError> {
    let (_runtime, etcd) = connect(cluster)?;
    let keys = etcd.keys.clone();
    remove_all(&etcd)?;
    let mut puts = vec![
        TxnOp::put(keys.names(), serde_json::to_vec(&contents.names)?, None),
        TxnOp::put(keys.succeeds(), serde_json::to_vec(&contents.succeeds)?, None),
        TxnOp::put(keys.came_from(), serde_json::to_vec(&contents.came_from)?, None),
    ];
    for Bearer { hash, name, apps } in &contents.tokens {
        let (hash, bearer) = (hex(hash), record::Bearer { name: name.clone(), apps: apps.clone() });
        puts.push(TxnOp::put(keys.token(&hash), serde_json::to_vec(&bearer)?, None));
        puts.push(TxnOp::put(keys.token_of(name), hash, None));
    }
    for (node, rule, count) in &contents.usage {
        puts.push(TxnOp::put(keys.usage(*rule, node), serde_json::to_vec(count)?, None));
    }
    puts.extend(ownership::puts(&keys, &contents.owners)?);
    for some in puts.chunks(AT_ONCE) {
        etcd.txn(&Txn::new().and_then(some))?;
    }
    archive::fill(&etcd, contents.anchor, &contents.journal)?;
    begin(&etcd, contents)
}

/// Removes what is there now. A call that arrives late, when we took it for lost, must not remove what came since: it
/// compares that nothing was put since we looked.
fn remove_all(etcd: &Etcd) -> Result<(), DatabaseError> {
    let (all, end) = (etcd.keys.all(), behind(&etcd.keys.all()));
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(1).with_keys_only();
        let found = etcd.get(&all, &options)?;
        if found.kvs().is_empty() {
            return Ok(());
        }
        let now = found.header().map_or(0, |header| header.revision());
        let unchanged = Compare::mod_revision(all.clone(), CompareOp::Less, now + 1).with_range(end.clone());
        let everything = DeleteOptions::new().with_range(end.clone());
        etcd.txn(&Txn::new().when([unchanged]).and_then([TxnOp::delete(all.clone(), Some(everything))]))?;
    }
}

/// Writes the head, and the snapshot that all goes on from.
fn begin(etcd: &Etcd, contents: &Contents) -> Result<(), DatabaseError> {
    const SEQUENCE: u64 = 1;
    let (keys, id) = (&etcd.keys, new_id()?);
    let snapshot = Snapshot {
        sequence: SEQUENCE,
        head: contents.head,
        items: contents.items.clone(),
        capacities: contents.capacities.clone(),
    };
    let bytes = serde_json::to_vec(&snapshot)?;
    let parts = bytes.chunks(PART);
    let place = SnapshotPlace { sequence: SEQUENCE, parts: Parts { id: id.clone(), count: parts.len() } };
    for (number, part) in parts.enumerate() {
        etcd.txn(&Txn::new().and_then([TxnOp::put(keys.part(&id, number), part, None)]))?;
    }
    let (history, overlay) = (contents.history.clone(), contents.overlay);
    let top = Top { sequence: SEQUENCE, history, overlay, head: contents.head };
    let puts = [
        TxnOp::put(keys.snapshot(), serde_json::to_vec(&place)?, None),
        TxnOp::put(keys.head(), serde_json::to_vec(&top)?, None),
        // So that whoever watches the log looks.
        TxnOp::put(keys.log(SEQUENCE), record::Value::Whole(anew(contents)?).encode()?, None),
    ];
    let is_absent = Compare::create_revision(keys.head(), CompareOp::Equal, 0);
    if etcd.txn(&Txn::new().when([is_absent]).and_then(puts))?.succeeded() {
        return Ok(());
    }
    // If that was an earlier attempt of ours, it is ours.
    match load(etcd)? {
        Some((loaded, _)) if *loaded.state.history() == contents.history => Ok(()),
        _ => Err(DatabaseError::Etcd("somebody else made a store there at the same time".to_owned())),
    }
}

fn anew(contents: &Contents) -> Result<Vec<u8>, DatabaseError> {
    Ok(serde_json::to_vec(&record::Record::anew(new_id()?, contents.head.tip))?)
}

/// Lets followers of these histories go over to this store's, of those that it came from if none is named; returns whom
/// it lets.
pub(in crate::store) fn accept(cluster: &Cluster, named: &[History]) -> Result<Vec<History>, DatabaseError> {
    let (_runtime, etcd) = connect(cluster)?;
    if etcd.value(&etcd.keys.head())?.is_none() {
        return Err(DatabaseError::Missing { place: cluster.to_string() });
    }
    let mut succeeds: Vec<History> = list(&etcd, &etcd.keys.succeeds())?;
    let wanted = if named.is_empty() { list(&etcd, &etcd.keys.came_from())? } else { named.to_vec() };
    succeeds.extend(wanted.into_iter().filter(|history| !succeeds.contains(history)).collect::<Vec<_>>());
    let put = TxnOp::put(etcd.keys.succeeds(), serde_json::to_vec(&succeeds)?, None);
    etcd.txn(&Txn::new().and_then([put]))?;
    Ok(succeeds)
}
