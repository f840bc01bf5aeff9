//! Keeping the log short: a snapshot from time to time, entries that nobody resumes behind any more put where only the
//! history is asked for (`archive`), and parts removed whose writer died before he pointed to them.

use std::{
    collections::HashSet,
    io,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use etcd_client::{Compare, CompareOp, DeleteOptions, Txn, TxnOp};

use super::{
    Etcd, PART, archive, behind,
    load::{Logged, Place},
    new_id,
    record::{Parts, Snapshot, SnapshotPlace},
};
use crate::store::{delta::Ring, error::DatabaseError, state::State};

/// How much is left lying about.
pub(super) struct Limits {
    /// Commits between snapshots; there are fewer where they are large.
    pub(super) between: u64,
    /// Commits, and bytes of them, that stay in the log for watches that resume.
    pub(super) kept: usize,
    pub(super) kept_bytes: usize,
    /// Commits that are cut off together at least, where they are small: each time makes a segment of the archive.
    pub(super) together: usize,
    /// So long parts may be pointed to by nobody before they are taken for orphans; and so often we look.
    pub(super) orphaned: Duration,
}

/// Commits that one transaction cuts off, and bytes of them where there is more than one.
const AT_ONCE: usize = 100;
const BYTES_AT_ONCE: usize = 4 << 20;

/// Something that is done on a thread of its own.
type Task<T> = JoinHandle<Result<T, DatabaseError>>;

fn start<T: Send + 'static>(
    name: &str,
    task: impl FnOnce() -> Result<T, DatabaseError> + Send + 'static,
) -> Result<Task<T>, DatabaseError> {
    let failed = |source| DatabaseError::File { path: "(a thread)".into(), source };
    std::thread::Builder::new().name(name.to_owned()).spawn(task).map_err(failed)
}

/// Waits for it, if there is one.
fn end<T>(task: &mut Option<Task<T>>) -> Result<Option<T>, DatabaseError> {
    let Some(task) = task.take() else { return Ok(None) };
    let ended = task.join().map_err(|_| DatabaseError::Etcd("what keeps the log short panicked".to_owned()))?;
    ended.map(Some)
}

pub(super) struct Tidying {
    limits: Limits,
    /// A snapshot that is being written. Of a large store it takes seconds, in which the writer has other things to do.
    writing: Option<Task<Option<SnapshotPlace>>>,
    /// Commits that are being cut off, for the same reason; tells where the log begins then.
    cutting: Option<Task<u64>>,
    looked: Instant,
    /// Parts that nobody pointed to at the last look.
    suspects: HashSet<String>,
}

impl Tidying {
    /// With what a process keeps in its memory as the measure of what the log keeps.
    pub(super) fn begin() -> Result<Self, DatabaseError> {
        let [spread] = crate::store::birth::random::<1>()?;
        Ok(Self::within(Limits {
            // Every process adds some of its own, so that not all write one at the same time.
            between: 1_000 + u64::from(spread),
            kept: Ring::MOST_DELTAS,
            kept_bytes: Ring::MOST_BYTES,
            together: AT_ONCE,
            orphaned: Duration::from_secs(600),
        }))
    }

    pub(super) fn within(limits: Limits) -> Self {
        Self { limits, writing: None, cutting: None, looked: Instant::now(), suspects: HashSet::new() }
    }

    /// `state` is what the log leads to at this place. What is due is only begun, and taken note of another time.
    pub(super) fn run(&mut self, etcd: &Etcd, place: &mut Place, state: &State) -> Result<(), DatabaseError> {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end_writing(place)?;
        }
        if self.cutting.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end_cutting(place)?;
        }
        if self.writing.is_none() && self.is_due(place) {
            let snapshot = PendingSnapshot::of(etcd, place, state)?;
            self.writing = Some(start("store-snapshot", move || snapshot.write())?);
        }
        let segments = if self.cutting.is_none() { self.superfluous(place) } else { Vec::new() };
        if !segments.is_empty() {
            let etcd = etcd.clone();
            self.cutting = Some(start("store-archive", move || cut(&etcd, &segments))?);
        }
        if self.looked.elapsed() >= self.limits.orphaned {
            self.looked = Instant::now();
            self.collect(etcd, place)?;
        }
        Ok(())
    }

    /// Waits for what was begun.
    pub(super) fn settle(&mut self, place: &mut Place) -> Result<(), DatabaseError> {
        let written = self.end_writing(place);
        self.end_cutting(place).and(written)
    }

    fn end_writing(&mut self, place: &mut Place) -> Result<(), DatabaseError> {
        let written = end(&mut self.writing)?.flatten();
        // We may have heard of it already, and of one that somebody else wrote after it.
        if let Some(next) = written.filter(|next| next.sequence > place.snapshot.sequence) {
            place.snapshot = next;
        }
        Ok(())
    }

    fn end_cutting(&mut self, place: &mut Place) -> Result<(), DatabaseError> {
        let begins = end(&mut self.cutting)?.unwrap_or(0);
        while place.logged.front().is_some_and(|logged| logged.sequence < begins) {
            place.logged.pop_front();
        }
        Ok(())
    }

    fn is_due(&self, place: &Place) -> bool {
        let behind = place.logged.iter().filter(|logged| logged.sequence > place.snapshot.sequence);
        let bytes: usize = behind.map(|logged| logged.bytes).sum();
        let commits = place.sequence.saturating_sub(place.snapshot.sequence);
        commits >= self.limits.between || bytes > self.limits.kept_bytes
    }

    /// The oldest commits that need not be in the log: what the snapshot holds and nobody resumes behind, as segments of the
    /// archive. What would make a small one is left for another time.
    fn superfluous(&self, place: &Place) -> Vec<Vec<Logged>> {
        let mut bytes: usize = place.logged.iter().map(|logged| logged.bytes).sum();
        let (mut count, mut taken) = (place.logged.len(), 0);
        let (mut segments, mut segment) = (Vec::new(), Vec::new());
        for logged in &place.logged {
            if segment.len() == AT_ONCE || (taken > 0 && taken + logged.bytes > BYTES_AT_ONCE) {
                segments.push(std::mem::take(&mut segment));
                taken = 0;
            }
            let is_kept = count <= self.limits.kept && bytes <= self.limits.kept_bytes;
            if is_kept || logged.sequence >= place.snapshot.sequence {
                break;
            }
            (count, bytes, taken) = (count - 1, bytes.saturating_sub(logged.bytes), taken + logged.bytes);
            segment.push(logged.clone());
        }
        if segment.len() >= self.limits.together.max(1) {
            segments.push(segment);
        }
        segments
    }

    /// Removes parts that nobody pointed to at this look and the last one. Whoever still wants to point to them finds
    /// them gone, and writes them again.
    fn collect(&mut self, etcd: &Etcd, place: &Place) -> Result<(), DatabaseError> {
        let known: HashSet<&str> = place.logged.iter().filter_map(|logged| logged.parts.as_deref()).collect();
        let mut orphans = HashSet::new();
        for id in part_ids(etcd)? {
            if !known.contains(id.as_str()) && id != place.snapshot.parts.id {
                orphans.insert(id);
            }
        }
        for id in orphans.intersection(&self.suspects) {
            etcd.txn(&Txn::new().and_then([remove(etcd, id)]))?;
        }
        self.suspects = orphans;
        Ok(())
    }
}

/// Moves these out of the log, the oldest first, until somebody else does so; tells where the log begins then.
fn cut(etcd: &Etcd, segments: &[Vec<Logged>]) -> Result<u64, DatabaseError> {
    let mut begins = 0;
    for segment in segments {
        begins = archive::take_over(etcd, segment)?;
        if segment.first().is_none_or(|first| begins <= first.sequence) {
            break;
        }
    }
    Ok(begins)
}

pub(super) fn remove(etcd: &Etcd, id: &str) -> TxnOp {
    TxnOp::delete(etcd.keys.parts_of(id), Some(DeleteOptions::new().with_prefix()))
}

fn part_ids(etcd: &Etcd) -> Result<HashSet<String>, DatabaseError> {
    let prefix = etcd.keys.parts();
    let options = etcd_client::GetOptions::new().with_range(behind(&prefix)).with_keys_only();
    let found = etcd.get(&prefix, &options)?;
    let id = |key: &[u8]| {
        let rest = String::from_utf8_lossy(key.get(prefix.len()..)?).into_owned();
        rest.split_once('/').map(|(id, _)| id.to_owned())
    };
    Ok(found.kvs().iter().filter_map(|pair| id(pair.key())).collect())
}

/// Everything that stands, about to be written.
struct PendingSnapshot {
    etcd: Etcd,
    /// The one that it takes the place of.
    last: SnapshotPlace,
    id: String,
    snapshot: Snapshot,
}

impl PendingSnapshot {
    fn of(etcd: &Etcd, place: &Place, state: &State) -> Result<Self, DatabaseError> {
        let snapshot = Snapshot {
            sequence: place.sequence,
            head: state.head(),
            items: state.replica().items().collect(),
            capacities: state.capacities(),
        };
        Ok(Self { etcd: etcd.clone(), last: place.snapshot.clone(), id: new_id()?, snapshot })
    }

    /// Writes everything, and points to it if nobody else did so first; tells where it is then.
    fn write(self) -> Result<Option<SnapshotPlace>, DatabaseError> {
        let Self { etcd, last, id, snapshot } = self;
        let mut parts = PartWriter { etcd: &etcd, id: &id, part: Vec::with_capacity(PART), count: 0, failure: None };
        let written = serde_json::to_writer(&mut parts, &snapshot).map_err(DatabaseError::from);
        // What etcd says is behind what serde says of it.
        let written = written.and_then(|()| parts.finish());
        let count = match parts.failure.take().map_or(written, Err) {
            Ok(()) => parts.count,
            Err(failure) => return Err(failure),
        };
        let next = SnapshotPlace { sequence: snapshot.sequence, parts: Parts { id: id.clone(), count } };
        let key = etcd.keys.snapshot();
        let unchanged = match last.sequence {
            0 => Compare::create_revision(key.clone(), CompareOp::Equal, 0),
            _ => Compare::value(key.clone(), CompareOp::Equal, serde_json::to_vec(&last)?),
        };
        let is_whole = Compare::create_revision(etcd.keys.part(&id, 0), CompareOp::Greater, 0);
        let mut operations = vec![TxnOp::put(key, serde_json::to_vec(&next)?, None)];
        if last.sequence > 0 {
            operations.push(remove(&etcd, &last.parts.id));
        }
        // In vain nothing is removed: a try whose answer was lost may have pointed to these parts. If not, they are orphans.
        let txn = Txn::new().when([unchanged, is_whole]).and_then(operations);
        Ok(etcd.txn(&txn)?.succeeded().then_some(next))
    }
}

/// Puts what is written to it part by part, so that it never is in memory as a whole.
struct PartWriter<'a> {
    etcd: &'a Etcd,
    id: &'a str,
    part: Vec<u8>,
    count: usize,
    failure: Option<DatabaseError>,
}

impl PartWriter<'_> {
    fn finish(&mut self) -> Result<(), DatabaseError> {
        if self.part.is_empty() {
            return Ok(());
        }
        self.etcd.txn(&Txn::new().and_then([TxnOp::put(
            self.etcd.keys.part(self.id, self.count),
            &*self.part,
            None,
        )]))?;
        self.part.clear();
        self.count += 1;
        Ok(())
    }
}

impl io::Write for PartWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        if self.part.len() == PART
            && let Err(failure) = self.finish()
        {
            let error = io::Error::other(failure.to_string());
            self.failure = Some(failure);
            return Err(error);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
