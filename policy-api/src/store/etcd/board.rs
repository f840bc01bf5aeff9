//! The board in etcd: one key per node and process, bound to a lease that ends when the process does.
//!
//! Only what changes is written, many at once. Which nodes are here is always written, so that a process that starts waits for
//! all of them; how far they are, only while another process is there to read it: each says that it is by what it has planned.
//! Keeping a lease alive writes nothing, so that an idle cluster is idle.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tokio::sync::{Notify, watch};
use tracing::warn;

use super::{
    Etcd, Keys,
    members::{Members, kv},
};
use crate::{
    model::{NodeName, Revision},
    store::{
        board::{Board, Sighting},
        error::DatabaseError,
    },
};

/// How long a process counts that is gone, in seconds; and how often it says that it is not.
const LEASE: i64 = 10;
const ALIVE: Duration = Duration::from_secs(3);
/// How long etcd may take to hear that we leave.
const LEAVE: Duration = Duration::from_secs(1);
/// How long posts wait for others to be written together: longer while nobody is there to read them; and how much longer where so
/// many wait that they are about a change for all nodes, as most of them are about to be replaced by the nodes' acknowledgements.
const GATHER: Duration = Duration::from_millis(5);
const GATHER_ALONE: Duration = Duration::from_millis(300);
const WAVE: usize = 32;
const GATHER_WAVE: Duration = Duration::from_millis(35);
const AT_ONCE: usize = 100;
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Shared {
    /// Our name among the processes.
    own: String,
    sightings: Mutex<Sightings>,
    posted: Notify,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Sightings {
    own: BTreeMap<NodeName, Sighting>,
    unwritten: BTreeSet<NodeName>,
    /// Those of them that came or went.
    moved: BTreeSet<NodeName>,
    /// By node and process.
    others: BTreeMap<NodeName, BTreeMap<String, Sighting>>,
    planned: Revision,
    /// Nothing, until others can know of us.
    written_planned: Option<Revision>,
    /// Of other processes.
    planned_by: BTreeMap<String, Revision>,
    lease: Lease,
}

/// What holds up what is written.
#[derive(Default)]
enum Lease {
    #[default]
    None,
    Held(i64),
    /// We put up nothing any more.
    GivenBack,
}

impl Shared {
    pub(super) fn new(own: String) -> Self {
        Self { own, sightings: Mutex::default(), posted: Notify::new(), changed: watch::Sender::new(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event: `NODE/PROCESS`, and what is put there; without a node it is what the process has planned.
    pub(super) fn hear(&self, place: &str, put: Option<&[u8]>) -> Result<(), DatabaseError> {
        let Some((node, process)) = place.split_once('/') else { return Ok(()) };
        if process == self.own {
            return Ok(());
        }
        if node.is_empty() {
            let mut sightings = self.lock();
            match put.map(serde_json::from_slice).transpose()? {
                Some(planned) => {
                    if sightings.planned_by.insert(process.to_owned(), planned).is_none() {
                        // It has not been told anything yet.
                        self.posted.notify_one();
                    }
                }
                None => drop(sightings.planned_by.remove(process)),
            }
            drop(sightings);
            self.changed.send_replace(());
            return Ok(());
        }
        let (node, sighting) = (node.parse()?, put.map(Sighting::of_json).transpose()?);
        let mut sightings = self.lock();
        let of_node = sightings.others.entry(node).or_default();
        match sighting {
            Some(sighting) => drop(of_node.insert(process.to_owned(), sighting)),
            None => drop(of_node.remove(process)),
        }
        drop(sightings);
        self.changed.send_replace(());
        Ok(())
    }

    /// Forgets what others said; it is read anew.
    pub(super) fn forget_others(&self) {
        let mut sightings = self.lock();
        sightings.others.clear();
        sightings.planned_by.clear();
        drop(sightings);
        self.changed.send_replace(());
    }

    /// What is to be written now.
    fn unwritten(&self) -> Vec<(NodeName, Sighting)> {
        let sightings = self.lock();
        let due = if sightings.is_alone() { &sightings.moved } else { &sightings.unwritten };
        due.iter().take(AT_ONCE).filter_map(|node| Some((node.clone(), sightings.own.get(node)?.clone()))).collect()
    }

    fn is_wave(&self) -> bool {
        self.lock().unwritten.len() >= WAVE
    }

    /// Notes what was written, as far as it is what we know still.
    fn note_written(&self, written: &[(NodeName, Sighting)]) {
        let mut sightings = self.lock();
        for (node, sighting) in written {
            if sightings.own.get(node) == Some(sighting) {
                sightings.unwritten.remove(node);
                sightings.moved.remove(node);
            }
        }
    }

    /// Everything we know is to be written again.
    fn note_all_lost(&self) {
        let mut sightings = self.lock();
        sightings.unwritten = sightings.own.keys().cloned().collect();
        sightings.moved = sightings.unwritten.clone();
        sightings.written_planned = None;
    }

    /// Notes what holds up what is written from now on; false if nothing is to be written any more.
    fn hold(&self, lease: Lease) -> bool {
        let mut sightings = self.lock();
        let goes_on = !matches!(sightings.lease, Lease::GivenBack);
        if goes_on {
            sightings.lease = lease;
        }
        goes_on
    }

    /// What is planned, if that is to be written. Asked for before what is unwritten, and written behind it.
    fn unwritten_planned(&self) -> Option<Revision> {
        let sightings = self.lock();
        let is_due = match sightings.written_planned {
            None => true,
            Some(written) => written != sightings.planned && !sightings.is_alone(),
        };
        is_due.then_some(sightings.planned)
    }
}

impl Sightings {
    /// Nobody reads what we write. What is written stays as it is and says too little of a node, never too much; who comes is
    /// told the rest.
    fn is_alone(&self) -> bool {
        self.planned_by.is_empty()
    }
}

impl Board for Shared {
    fn post(&self, node: &NodeName, sighting: Sighting) {
        let mut sightings = self.lock();
        let before = sightings.own.get(node);
        let has_moved = sighting.connected != before.is_some_and(|before| before.connected);
        if before.is_none_or(|before| sighting.is_news_after(before)) {
            sightings.own.insert(node.clone(), sighting);
            if has_moved {
                sightings.moved.insert(node.clone());
            }
            sightings.unwritten.insert(node.clone());
            drop(sightings);
            self.posted.notify_one();
        }
    }

    fn others(&self, node: &NodeName) -> Vec<Sighting> {
        let sightings = self.lock();
        let planned = |process: &String| sightings.planned_by.get(process).copied().unwrap_or_default();
        let others = sightings.others.get(node).into_iter().flatten();
        others.map(|(process, other)| Sighting { planned: planned(process), ..other.clone() }).collect()
    }

    fn post_planned(&self, revision: Revision) {
        self.lock().planned = revision;
        self.posted.notify_one();
    }

    fn changed(&self) -> watch::Sender<()> {
        self.changed.clone()
    }
}

/// Writes what is posted and keeps the lease, until that is given back or the runtime ends.
pub(super) async fn keep(etcd: Etcd, shared: Arc<Shared>) {
    while shared.hold(Lease::None) {
        // What an earlier lease held went with it.
        shared.note_all_lost();
        if let Err(failure) = keep_lease(&etcd.members, &etcd.keys, &shared).await
            && shared.hold(Lease::None)
        {
            warn!(error = %failure, "cannot tell the other APIs which nodes are here; trying again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes down what we put up, for good: others need not wait until our lease has ended to know that we serve nobody.
pub(super) fn take_down(etcd: &Etcd, shared: &Shared) {
    let held = std::mem::replace(&mut shared.lock().lease, Lease::GivenBack);
    let Lease::Held(lease) = held else { return };
    let given_back = async { tokio::time::timeout(LEAVE, give_back(&etcd.members, lease)).await };
    match etcd.runtime.block_on(given_back) {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            warn!(error = %failure, "cannot tell the other APIs that we leave; they see it in {LEASE} s")
        }
        Err(_) => warn!("etcd does not hear that we leave; the other APIs see it in {LEASE} s"),
    }
}

async fn give_back(members: &Members, lease: i64) -> Result<(), DatabaseError> {
    members.call(|client| async move { client.lease_client().revoke(lease).await.map(drop) }).await
}

/// Returns when the lease is no more.
async fn keep_lease(members: &Members, keys: &Keys, shared: &Shared) -> Result<(), DatabaseError> {
    let grant = |client: etcd_client::Client| async move { client.lease_client().grant(LEASE, None).await };
    let lease = members.call(grant).await?.id();
    if !shared.hold(Lease::Held(lease)) {
        return give_back(members, lease).await;
    }
    let mut alive = tokio::time::interval(ALIVE);
    loop {
        tokio::select! {
            () = shared.posted.notified() => {}
            _ = alive.tick() => {
                let say = |client: etcd_client::Client| async move {
                    client.lease_client().keep_alive(lease).await.map(drop)
                };
                members.call(say).await?;
            }
        }
        if shared.lock().is_alone() {
            tokio::time::sleep(GATHER_ALONE).await;
        } else {
            tokio::time::sleep(GATHER).await;
            if shared.is_wave() {
                tokio::time::sleep(GATHER_WAVE).await;
            }
        }
        let planned = shared.unwritten_planned();
        loop {
            let some = shared.unwritten();
            if some.is_empty() {
                break;
            }
            write(members, keys, shared, lease, &some).await?;
            shared.note_written(&some);
        }
        if let Some(planned) = planned {
            let put = TxnOp::put(keys.planned(&shared.own), serde_json::to_vec(&planned)?, Some(held_by(lease)));
            commit(members, keys, vec![put]).await?;
            shared.lock().written_planned = Some(planned);
        }
    }
}

async fn write(
    members: &Members,
    keys: &Keys,
    shared: &Shared,
    lease: i64,
    some: &[(NodeName, Sighting)],
) -> Result<(), DatabaseError> {
    let put = |(node, sighting): &(NodeName, Sighting)| {
        Ok(TxnOp::put(keys.present(node, &shared.own), sighting.to_json()?, Some(held_by(lease))))
    };
    commit(members, keys, some.iter().map(put).collect::<Result<Vec<_>, DatabaseError>>()?).await
}

fn held_by(lease: i64) -> PutOptions {
    PutOptions::new().with_lease(lease)
}

async fn commit(members: &Members, keys: &Keys, puts: Vec<TxnOp>) -> Result<(), DatabaseError> {
    // Of a store that is there.
    let txn = Txn::new().when([Compare::create_revision(keys.head(), CompareOp::Greater, 0)]).and_then(puts);
    let txn = &txn;
    members.call(|client| async move { kv(&client).txn(txn.clone()).await }).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> NodeName {
        "n1".parse().expect("name")
    }

    fn sighting(connected: bool, owes: u64) -> Sighting {
        Sighting { connected, owes: Some(crate::store::board::Owes::From(Revision(owes))), ..Sighting::default() }
    }

    /// What is due, taken as written.
    fn write(board: &Shared) -> Vec<Sighting> {
        let planned = board.unwritten_planned();
        let due = board.unwritten();
        board.note_written(&due);
        if planned.is_some() {
            board.lock().written_planned = planned;
        }
        due.into_iter().map(|(_, sighting)| sighting).collect()
    }

    #[test]
    fn how_far_nodes_are_is_written_only_while_another_process_reads_it() {
        let board = Shared::new("a".to_owned());
        board.post(&name(), sighting(true, 1));
        board.post_planned(Revision(7));
        assert_eq!(write(&board), [sighting(true, 1)], "that it is here, others have to know from their first moment");
        board.post(&name(), sighting(true, 2));
        board.post_planned(Revision(8));
        assert_eq!((write(&board), board.unwritten_planned()), (Vec::new(), None));
        assert_eq!(board.lock().written_planned, Some(Revision(7)), "older than any sighting that is written");

        board.hear("/b", Some(b"3")).expect("planned");
        assert_eq!(board.unwritten_planned(), Some(Revision(8)));
        assert_eq!(write(&board), [sighting(true, 2)]);
        board.post(&name(), sighting(true, 3));
        assert_eq!(write(&board), [sighting(true, 3)]);

        board.hear("/b", None).expect("its lease ended");
        board.post(&name(), sighting(true, 4));
        assert_eq!(write(&board), []);
        board.post(&name(), sighting(false, 4));
        assert_eq!(write(&board), [sighting(false, 4)], "that it went, too");
    }
}
