//! A store in an etcd cluster, served by several processes at once: the engine for when one machine is not enough.
//!
//! There is no leader of our own. A commit is one transaction of etcd that puts the next entry of a log and compares that
//! the head is still the one that its planner knew; of two that plan behind the same head one wins, and the other follows
//! the log and plans again. State is the last snapshot and the log behind it, in the memory of every process. As a commit
//! is bound to one head, sending it again does nothing twice: that is how a lost answer is found out.

mod archive;
mod board;
pub(super) mod copy;
mod engine;
mod follow;
mod keys;
mod load;
mod members;
mod ownership;
mod record;
mod registry;
#[cfg(test)]
mod tests;
mod tidy;

use std::{future::Future, sync::Arc};

use etcd_client::{Client, Error, GetOptions, GetResponse, Txn, TxnOp, TxnResponse};
use tokio::runtime::{Handle, Runtime};

use self::{
    engine::Cluster as Engine,
    follow::Follower,
    keys::{Keys, behind},
    load::load,
    members::{LARGEST_ANSWER, Members, kv},
    record::{PART, Parts, Value},
    registry::{EtcdRegistry, Registered, Side},
};
use super::{
    OverlayWish,
    birth::{Birth, random},
    engine::{Journal, Opened, Registry},
    error::DatabaseError,
    location::Cluster,
};
use crate::model::hex::hex;

/// The cluster, for whoever may wait. Cheap to clone.
#[derive(Clone)]
struct Etcd {
    runtime: Handle,
    members: Arc<Members>,
    keys: Arc<Keys>,
}

/// Opens a store that `init` made.
pub(super) fn open(cluster: &Cluster, wish: OverlayWish) -> Result<Opened, DatabaseError> {
    let (runtime, etcd) = connect(cluster)?;
    registry::settle_overlay(&etcd, wish)?;
    let (loaded, place) = load(&etcd)?.ok_or_else(|| DatabaseError::Missing { place: cluster.to_string() })?;
    let registered = Arc::new(Registered::default());
    let board = Arc::new(board::Shared::new(new_id()?));
    let (follower, usage) = Follower::start(&etcd, registered.clone(), board.clone(), place.read_at)?;
    etcd.runtime.spawn(board::keep(etcd.clone(), board.clone()));
    let lookup = Arc::new(Side { etcd: etcd.clone(), registered });
    let names = EtcdRegistry::new(etcd.clone(), None).names()?;
    let engine = Box::new(Engine::new(runtime, etcd, place, follower, board.clone())?);
    Ok(Opened { engine, lookup, board: Some(board), loaded, usage, names })
}

/// Opens a store for `init`, made if it does not exist.
pub(super) fn prepare(cluster: &Cluster, birth: &Birth, wish: OverlayWish) -> Result<Box<dyn Registry>, DatabaseError> {
    let (runtime, etcd) = connect(cluster)?;
    registry::create(&etcd, birth)?;
    registry::settle_overlay(&etcd, wish)?;
    Ok(Box::new(EtcdRegistry::new(etcd, Some(runtime))))
}

/// The journal of a store, whether somebody serves it or not.
pub(super) fn journal(cluster: &Cluster) -> Result<Arc<dyn Journal>, DatabaseError> {
    let (runtime, etcd) = connect(cluster)?;
    match etcd.value(&etcd.keys.head())? {
        Some(_) => Ok(Arc::new(archive::Alone { etcd, _runtime: runtime })),
        None => Err(DatabaseError::Missing { place: cluster.to_string() }),
    }
}

fn connect(cluster: &Cluster) -> Result<(Runtime, Etcd), DatabaseError> {
    let failed = |source| DatabaseError::File { path: "(a thread)".into(), source };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).thread_name("store-etcd").enable_all().build().map_err(failed)?;
    let etcd = Etcd {
        runtime: runtime.handle().clone(),
        members: Arc::new(Members::of(cluster)?),
        keys: Arc::new(Keys::new(&cluster.prefix)),
    };
    Ok((runtime, etcd))
}

/// A random name.
fn new_id() -> Result<String, DatabaseError> {
    Ok(hex(&random::<8>()?))
}

/// A key's name below the prefix asked for, its value, and when it was last put.
type Pair = (Vec<u8>, Vec<u8>, i64);

impl Etcd {
    fn call<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, DatabaseError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.runtime.block_on(self.members.call(call))
    }

    fn txn(&self, txn: &Txn) -> Result<TxnResponse, DatabaseError> {
        self.call(|client| async move { kv(&client).txn(txn.clone()).await })
    }

    fn get(&self, key: &str, options: &GetOptions) -> Result<GetResponse, DatabaseError> {
        self.runtime.block_on(self.members.get(key, options))
    }

    fn value(&self, key: &str) -> Result<Option<Vec<u8>>, DatabaseError> {
        let found = self.get(key, &GetOptions::new())?;
        Ok(found.kvs().first().map(|pair| pair.value().to_vec()))
    }

    /// Everything below a prefix, in the order of the keys; as of a revision of etcd, if one is given.
    fn all(&self, prefix: &str, at: Option<i64>) -> Result<Vec<Pair>, DatabaseError> {
        self.runtime.block_on(self.members.range(prefix.as_bytes(), &behind(prefix), at))
    }

    /// Writes a value that may be large, so that it can be pointed to: in parts, if it does not fit into a transaction.
    fn stage(&self, id: &str, bytes: Vec<u8>) -> Result<Value, DatabaseError> {
        if bytes.len() <= record::LARGEST_WHOLE {
            return Ok(Value::Whole(bytes));
        }
        let mut count = 0;
        for (number, part) in bytes.chunks(PART).enumerate() {
            self.txn(&Txn::new().and_then([TxnOp::put(self.keys.part(id, number), part, None)]))?;
            count += 1;
        }
        Ok(Value::InParts(Parts { id: id.to_owned(), count }))
    }

    /// The bytes of a value; its parts as they were at a revision of etcd, if one is given.
    fn whole(&self, value: Value, at: Option<i64>) -> Result<Vec<u8>, DatabaseError> {
        let Parts { id, count } = match value {
            Value::Whole(bytes) => return Ok(bytes),
            Value::InParts(parts) => parts,
        };
        let parts = self.all(&self.keys.parts_of(&id), at)?;
        if parts.len() != count {
            return Err(DatabaseError::Damaged(format!("{} of {count} parts of {id} are there", parts.len())));
        }
        let mut whole = Vec::with_capacity(parts.iter().map(|(_, part, _)| part.len()).sum());
        // Each part goes as it is taken: a snapshot of a large store would be in memory twice.
        parts.into_iter().for_each(|(_, part, _)| whole.extend_from_slice(&part));
        Ok(whole)
    }
}

/// Of the largest values that there are, parts, this is an answer of 64 MiB.
const FIRST_PAGE: i64 = 128;
/// Beside a value: its key and what else etcd tells of it.
const KEY: usize = 4 << 10;
/// Of any other values this is no more than an answer takes, so that small ones may be followed by large ones.
const LARGEST_PAGE: i64 = (LARGEST_ANSWER / (record::LARGEST_WHOLE + KEY)) as i64;
/// What an answer shall be about.
const ANSWER: usize = 4 << 20;

/// How many pairs to ask for next, where these many were so many bytes.
fn next_page(pairs: usize, bytes: usize) -> i64 {
    let fitting = pairs.saturating_mul(ANSWER) / bytes.max(1);
    i64::try_from(fitting).unwrap_or(LARGEST_PAGE).clamp(FIRST_PAGE, LARGEST_PAGE)
}

impl Members {
    async fn get(&self, key: &str, options: &GetOptions) -> Result<GetResponse, DatabaseError> {
        self.call(|client| async move { kv(&client).get(key, Some(options.clone())).await }).await
    }

    /// Everything from a key to before another one, by pages that fit into an answer; all as of one revision of etcd.
    ///
    /// Etcd counts for each page how much follows it, so that many small ones cost the square of what there is.
    async fn range(&self, first: &[u8], end: &[u8], at: Option<i64>) -> Result<Vec<Pair>, DatabaseError> {
        let (mut from, mut at, mut pairs, mut page) = (first.to_vec(), at, Vec::new(), FIRST_PAGE);
        loop {
            let mut options = GetOptions::new().with_range(end).with_limit(page);
            if let Some(at) = at {
                options = options.with_revision(at);
            }
            let (key, options) = (&from, &options);
            let mut found =
                self.call(|client| async move { kv(&client).get(key.clone(), Some(options.clone())).await }).await?;
            at = at.or_else(|| found.header().map(|header| header.revision()));
            let (more, before, mut bytes) = (found.more(), pairs.len(), 0);
            for pair in found.take_kvs() {
                let modified = pair.mod_revision();
                let (key, value) = pair.into_key_value();
                bytes += key.len() + value.len();
                pairs.push((key, value, modified));
            }
            let Some((last, ..)) = pairs.last().filter(|_| more) else { return Ok(pairs) };
            from = [last.as_slice(), &[0]].concat();
            page = next_page(pairs.len() - before, bytes);
        }
    }
}
