//! What is registered beside the changes: tokens, names, the overlay, accepted histories; and the birth of a store.

use std::{
    collections::HashMap,
    net::IpAddr,
    ops::RangeInclusive,
    sync::{PoisonError, RwLock},
};

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};
use tokio::runtime::Runtime;

use super::{
    Etcd, archive, behind, new_id, ownership,
    record::{Bearer, Record, Top, Value},
};
use crate::{
    model::{AppPattern, History, HistoryEntry, NodeName, Timestamp, hex::hex},
    store::{
        OverlayWish, Owners,
        birth::{Birth, wanted_overlay},
        chain::{Line, Tip},
        engine::{Batch, Journal, Lookup, Mark, Order, Registry},
        error::DatabaseError,
        principal::Principal,
        token,
    },
};

/// Makes a store if there is none.
pub(super) fn create(etcd: &Etcd, birth: &Birth) -> Result<(), DatabaseError> {
    let keys = &etcd.keys;
    let (history, overlay) = (birth.history.clone(), birth.overlay);
    let top = Top { sequence: 1, history, overlay, head: birth.head };
    let batch = Batch { lines: vec![birth.line.clone()], ..Batch::new(birth.entry.time) };
    let record = serde_json::to_vec(&Record::of(new_id()?, Tip::default(), &batch)?)?;
    let puts = [
        TxnOp::put(keys.head(), serde_json::to_vec(&top)?, None),
        TxnOp::put(keys.log(1), Value::Whole(record).encode()?, None),
    ];
    // If there is one already, it stays as it is.
    etcd.txn(&Txn::new().when([is_absent(keys.head())]).and_then(puts)).map(drop)
}

fn is_absent(key: String) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, 0)
}

/// Grants a wish for another overlay as long as no node has a slice of the present one. Whoever serves the store begins
/// anew with it.
pub(super) fn settle_overlay(etcd: &Etcd, wish: OverlayWish) -> Result<(), DatabaseError> {
    let keys = &etcd.keys;
    loop {
        let found = etcd.get(&keys.head(), &GetOptions::new())?;
        let Some(head) = found.kvs().first() else { return Ok(()) };
        let top: Top = serde_json::from_slice(head.value())?;
        let Some(overlay) = wanted_overlay(top.overlay, top.head, wish)? else { return Ok(()) };
        let top = Top { sequence: top.sequence + 1, overlay, ..top };
        let record = serde_json::to_vec(&Record::anew(new_id()?, top.head.tip))?;
        let puts = [
            TxnOp::put(keys.head(), serde_json::to_vec(&top)?, None),
            TxnOp::put(keys.log(top.sequence), Value::Whole(record).encode()?, None),
        ];
        let unchanged = Compare::mod_revision(keys.head(), CompareOp::Equal, head.mod_revision());
        // Whether it was done or somebody came before us, the next look tells.
        etcd.txn(&Txn::new().when([unchanged]).and_then(puts))?;
    }
}

/// In the hands of `init`.
pub(super) struct EtcdRegistry {
    etcd: Etcd,
    _runtime: Option<Runtime>,
}

impl EtcdRegistry {
    pub(super) fn new(etcd: Etcd, runtime: Option<Runtime>) -> Self {
        Self { etcd, _runtime: runtime }
    }

    fn bearer(&self, hash: &str) -> Result<Option<Bearer>, DatabaseError> {
        let value = self.etcd.value(&self.etcd.keys.token(hash))?;
        Ok(value.map(|value| serde_json::from_slice(&value)).transpose()?)
    }

    fn hash_of(&self, principal: &str) -> Result<Option<String>, DatabaseError> {
        hash_of(&self.etcd, principal)
    }
}

/// The hash of the token that somebody has.
fn hash_of(etcd: &Etcd, principal: &str) -> Result<Option<String>, DatabaseError> {
    let value = etcd.value(&etcd.keys.token_of(principal))?;
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

impl Registry for EtcdRegistry {
    fn principal(&self, hash: &[u8; 32]) -> Result<Option<Principal>, DatabaseError> {
        let bearer = self.bearer(&hex(hash))?;
        bearer.map(|bearer| token::principal(&bearer.name, bearer.apps.as_deref())).transpose()
    }

    fn apps_of(&self, node: &NodeName) -> Result<Option<Vec<AppPattern>>, DatabaseError> {
        let Some(hash) = self.hash_of(&format!("node/{node}"))? else { return Ok(None) };
        let apps = self.bearer(&hash)?.and_then(|bearer| bearer.apps);
        Ok(apps.map(|apps| serde_json::from_str(&apps)).transpose()?)
    }

    fn set_token(&self, hash: &[u8; 32], principal: &Principal) -> Result<(), DatabaseError> {
        let keys = &self.etcd.keys;
        let (name, hash) = (principal.to_string(), hex(hash));
        let bearer = Bearer { name: name.clone(), apps: token::apps_json(principal)? };
        let mut operations = vec![
            TxnOp::put(keys.token(&hash), serde_json::to_vec(&bearer)?, None),
            TxnOp::put(keys.token_of(&name), hash.clone(), None),
        ];
        loop {
            let former = self.hash_of(&name)?;
            let unchanged = match &former {
                Some(former) => Compare::value(keys.token_of(&name), CompareOp::Equal, former.clone()),
                None => is_absent(keys.token_of(&name)),
            };
            operations.truncate(2);
            operations
                .extend(former.filter(|former| *former != hash).map(|former| TxnOp::delete(keys.token(&former), None)));
            let txn = Txn::new().when([unchanged]).and_then(operations.clone());
            if self.etcd.txn(&txn)?.succeeded() {
                return Ok(());
            }
        }
    }

    fn names(&self) -> Result<Vec<String>, DatabaseError> {
        let value = self.etcd.value(&self.etcd.keys.names())?;
        Ok(value.map(|value| serde_json::from_slice(&value)).transpose()?.unwrap_or_default())
    }

    fn set_names(&self, names: &[String]) -> Result<(), DatabaseError> {
        let put = TxnOp::put(self.etcd.keys.names(), serde_json::to_vec(names)?, None);
        self.etcd.txn(&Txn::new().and_then([put])).map(drop)
    }
}

/// What is registered, in memory: asked for with every request, and changed by other processes at any time.
#[derive(Debug, Default)]
pub(super) struct Registered(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By the hashes of their tokens, in hexadecimal.
    bearers: HashMap<String, Principal>,
    succeeds: Vec<History>,
}

impl Registered {
    /// Reads everything; returns the revision of etcd that it is of, or a later one would do as well.
    pub(super) async fn read(&self, etcd: &Etcd) -> Result<i64, DatabaseError> {
        let succeeds = etcd.members.get(&etcd.keys.succeeds(), &GetOptions::new()).await?;
        let read_at = succeeds.header().map_or(0, |header| header.revision());
        let prefix = etcd.keys.tokens();
        let tokens = etcd.members.range(prefix.as_bytes(), &behind(&prefix), Some(read_at)).await?;
        let mut known = Known::default();
        for (key, value, _) in tokens {
            let hash = String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned();
            known.bearers.insert(hash, bearer(&value)?);
        }
        if let Some(pair) = succeeds.kvs().first() {
            known.succeeds = serde_json::from_slice(pair.value())?;
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(read_at)
    }

    pub(super) fn hear_token(&self, hash: &str, put: Option<&[u8]>) -> Result<(), DatabaseError> {
        let bearer = put.map(bearer).transpose()?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match bearer {
            Some(principal) => drop(known.bearers.insert(hash.to_owned(), principal)),
            None => drop(known.bearers.remove(hash)),
        }
        Ok(())
    }

    pub(super) fn hear_succeeds(&self, put: Option<&[u8]>) -> Result<(), DatabaseError> {
        let succeeds = put.map(serde_json::from_slice).transpose()?.unwrap_or_default();
        self.0.write().unwrap_or_else(PoisonError::into_inner).succeeds = succeeds;
        Ok(())
    }
}

fn bearer(value: &[u8]) -> Result<Principal, DatabaseError> {
    let bearer: Bearer = serde_json::from_slice(value)?;
    token::principal(&bearer.name, bearer.apps.as_deref())
}

/// What is looked up beside the writer.
pub(super) struct Side {
    pub(super) etcd: Etcd,
    pub(super) registered: std::sync::Arc<Registered>,
}

impl Journal for Side {
    fn bounds(&self) -> Result<(Tip, Tip), DatabaseError> {
        archive::bounds(&self.etcd)
    }

    fn lines(&self, numbers: RangeInclusive<u64>, order: Order, most: usize) -> Result<Vec<Line>, DatabaseError> {
        archive::lines(&self.etcd, &numbers, order, most)
    }

    fn first(&self, holds: &dyn Fn(Mark) -> bool) -> Result<Option<HistoryEntry>, DatabaseError> {
        archive::first(&self.etcd, holds)
    }
}

impl Lookup for Side {
    fn owners(&self, address: IpAddr, at: Timestamp) -> Result<Owners, DatabaseError> {
        ownership::owners(&self.etcd, address, at)
    }

    fn succeeds(&self) -> Result<Vec<History>, DatabaseError> {
        Ok(self.registered.0.read().unwrap_or_else(PoisonError::into_inner).succeeds.clone())
    }

    fn principal(&self, hash: &[u8; 32]) -> Result<Option<Principal>, DatabaseError> {
        let known = self.registered.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(known.bearers.get(&hex(hash)).cloned())
    }

    fn void_token(&self, node: &NodeName) -> Result<(), DatabaseError> {
        let (keys, name) = (&self.etcd.keys, format!("node/{node}"));
        loop {
            let Some(hash) = hash_of(&self.etcd, &name)? else { return Ok(()) };
            let unchanged = Compare::value(keys.token_of(&name), CompareOp::Equal, hash.clone());
            let deletes = [TxnOp::delete(keys.token(&hash), None), TxnOp::delete(keys.token_of(&name), None)];
            if self.etcd.txn(&Txn::new().when([unchanged]).and_then(deletes))?.succeeded() {
                return Ok(());
            }
        }
    }
}
