//! The writer's side: commits behind the last one that is known, and others' commits in order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::{runtime::Runtime, sync::Notify};

use super::{
    Etcd, PART, archive, board,
    follow::{Event, Follower},
    load::{Logged, Place, load},
    new_id, ownership,
    record::{LARGEST_WHOLE, Parts, Record, Top, Value},
    tidy::Tidying,
};
use crate::{
    model::{History, Overlay, Timestamp, hex::hex},
    store::{
        engine::{AnswerKey, Batch, Engine, GivenAnswer, Heard, Outcome},
        error::DatabaseError,
        retention::Limit,
        state::{Head, State},
        usage::Unwritten,
    },
};

/// What one transaction takes, beside the head and the log: etcd's limit is 128, and one write may exceed the room that
/// is left by 49.
const ROOM: usize = 72;
const MOST_OPERATIONS: usize = 128;
/// Operations of transactions that nothing depends on.
const AT_ONCE: usize = 100;
/// How long a repeated request gets its first answer, and how long one lease takes new answers: it keeps them longer.
const ANSWERS_KEPT: i64 = 25 * 3600;
const LEASE_USED: Duration = Duration::from_secs(3600);

pub(super) struct Cluster {
    runtime: Option<Runtime>,
    etcd: Etcd,
    history: History,
    overlay: Overlay,
    place: Place,
    follower: Follower,
    board: Arc<board::Shared>,
    /// Whether the log goes on behind our place, or may.
    is_behind: bool,
    /// What new answers are kept by.
    lease: Option<(i64, Instant)>,
    tidying: Tidying,
}

#[derive(Serialize, Deserialize)]
struct KeptAnswer {
    who: String,
    key: String,
    request: Vec<u8>,
    answer: String,
}

impl Cluster {
    pub(super) fn new(
        runtime: Runtime,
        etcd: Etcd,
        place: Place,
        follower: Follower,
        board: Arc<board::Shared>,
    ) -> Result<Self, DatabaseError> {
        let value = etcd.value(&etcd.keys.head())?.unwrap_or_default();
        let Top { history, overlay, .. } = serde_json::from_slice(&value)?;
        let tidying = Tidying::begin()?;
        // What came between reading and watching is heard with the first look.
        Ok(Self {
            runtime: Some(runtime),
            etcd,
            history,
            overlay,
            place,
            follower,
            board,
            is_behind: true,
            lease: None,
            tidying,
        })
    }

    /// Whether our place is the last one.
    fn is_last(&self) -> Result<Outcome, DatabaseError> {
        let found = self.etcd.get(&self.etcd.keys.head(), &GetOptions::new().with_keys_only())?;
        let modified = found.kvs().first().map(etcd_client::KeyValue::mod_revision);
        Ok(if modified == Some(self.place.modified) { Outcome::Done } else { Outcome::Behind })
    }

    fn write(&mut self, batch: &Batch, head: Head) -> Result<Outcome, DatabaseError> {
        let keys = self.etcd.keys.clone();
        let (sequence, id) = (self.place.sequence + 1, new_id()?);
        let value = self.etcd.stage(&id, serde_json::to_vec(&Record::of(id.clone(), self.place.tip, batch)?)?)?;
        let top = Top { sequence, history: self.history.clone(), overlay: self.overlay, head };
        let owned = self.place.ledger.changed(&batch.entries);
        let mut operations = vec![
            TxnOp::put(keys.head(), serde_json::to_vec(&top)?, None),
            TxnOp::put(keys.log(sequence), value.encode()?, None),
        ];
        operations.extend(owned.operations(&keys)?);
        for (key, given) in &batch.answers {
            operations.push(self.keep(key, given)?);
        }
        if operations.len() > MOST_OPERATIONS {
            let count = operations.len();
            return Err(DatabaseError::Etcd(format!("{count} operations are more than one transaction takes")));
        }
        let mut when = vec![Compare::mod_revision(keys.head(), CompareOp::Equal, self.place.modified)];
        if let Value::InParts(Parts { id, .. }) = &value {
            // Nobody took them for orphans meanwhile.
            when.push(Compare::create_revision(keys.part(id, 0), CompareOp::Greater, 0));
        }
        let look = TxnOp::get(keys.log(sequence), None);
        // Sent until it is answered. Only the first that arrives finds the head that it compares; behind it, what is in
        // the log tells whether that one was ours.
        let answer = self.etcd.txn(&Txn::new().when(when).and_then(operations).or_else([look]))?;
        let modified = match committed(&answer, &id)? {
            Some(modified) => modified,
            None => return Ok(Outcome::Behind),
        };
        self.place.sequence = sequence;
        self.place.modified = modified;
        self.place.tip = head.tip;
        self.place.ledger.apply(owned);
        self.place.logged.push_back(Logged::of(sequence, &value));
        Ok(Outcome::Done)
    }

    /// What keeps an answer for a day.
    fn keep(&mut self, key: &AnswerKey, given: &GivenAnswer) -> Result<TxnOp, DatabaseError> {
        let lease = self.lease()?;
        let (who, request) = (key.who.clone(), given.request.clone());
        let kept = KeptAnswer { who, key: key.key.clone(), request, answer: given.answer.clone() };
        let bytes = serde_json::to_vec(&kept)?;
        let options = || Some(PutOptions::new().with_lease(lease));
        let value = if bytes.len() <= LARGEST_WHOLE / 64 {
            Value::Whole(bytes)
        } else {
            let (id, mut count) = (new_id()?, 0);
            for (number, part) in bytes.chunks(PART).enumerate() {
                let put = TxnOp::put(self.etcd.keys.answer_part(&id, number), part, options());
                self.etcd.txn(&Txn::new().and_then([put]))?;
                count += 1;
            }
            Value::InParts(Parts { id, count })
        };
        Ok(TxnOp::put(self.etcd.keys.answer(&answer_name(key)), value.encode()?, options()))
    }

    fn lease(&mut self) -> Result<i64, DatabaseError> {
        match self.lease {
            Some((lease, since)) if since.elapsed() < LEASE_USED => Ok(lease),
            Some(_) | None => {
                let grant =
                    |client: etcd_client::Client| async move { client.lease_client().grant(ANSWERS_KEPT, None).await };
                let lease = self.etcd.call(grant)?.id();
                self.lease = Some((lease, Instant::now()));
                Ok(lease)
            }
        }
    }

    /// The values of the answers' keys, by as few questions as etcd allows.
    fn kept_values(&self, keys: &[AnswerKey]) -> Result<Vec<Option<Vec<u8>>>, DatabaseError> {
        let mut values = Vec::new();
        for some in keys.chunks(AT_ONCE) {
            let gets: Vec<TxnOp> =
                some.iter().map(|key| TxnOp::get(self.etcd.keys.answer(&answer_name(key)), None)).collect();
            for response in self.etcd.txn(&Txn::new().and_then(gets))?.op_responses() {
                let TxnOpResponse::Get(found) = response else { continue };
                values.push(found.kvs().first().map(|pair| pair.value().to_vec()));
            }
        }
        Ok(values)
    }

    fn given(&self, key: &AnswerKey, value: &[u8]) -> Result<Option<GivenAnswer>, DatabaseError> {
        let bytes = match Value::decode(value)? {
            Value::Whole(bytes) => bytes,
            Value::InParts(Parts { id, count }) => {
                let mut bytes = Vec::new();
                for number in 0..count {
                    let part = self.etcd.value(&self.etcd.keys.answer_part(&id, number))?;
                    // Its time is over while we read it.
                    let Some(part) = part else { return Ok(None) };
                    bytes.extend(part);
                }
                bytes
            }
        };
        let kept: KeptAnswer = serde_json::from_slice(&bytes)?;
        let same = kept.who == key.who && kept.key == key.key;
        Ok(same.then_some(GivenAnswer { request: kept.request, answer: kept.answer }))
    }

    /// Takes the log's entries behind our place, from the log itself.
    fn catch_up(&mut self, heard: &mut Vec<Heard>) -> Result<(), DatabaseError> {
        let keys = self.etcd.keys.clone();
        let (first, end) = (keys.log(self.place.sequence + 1), super::behind(&keys.logs()));
        let pairs = self.etcd.runtime.block_on(self.etcd.members.range(first.as_bytes(), &end, None))?;
        for (key, value, modified) in pairs {
            let sequence = super::load::sequence_of(&key)?;
            if sequence == self.place.sequence + 1 {
                self.take(sequence, modified, &value, heard)?;
            } else if sequence > self.place.sequence {
                return self.begin_anew(heard);
            }
        }
        // Where the log was cut behind us, nothing of it is left to say so.
        let head = self.etcd.value(&keys.head())?;
        let top: Option<Top> = head.map(|head| serde_json::from_slice(&head)).transpose()?;
        match top {
            Some(top) if top.history != self.history || top.sequence < self.place.sequence => self.begin_anew(heard),
            Some(top) if top.sequence > self.place.sequence && !self.log_has(self.place.sequence + 1)? => {
                self.begin_anew(heard)
            }
            Some(_) => Ok(()),
            None => Err(DatabaseError::Missing { place: keys.head() }),
        }
    }

    fn log_has(&self, sequence: u64) -> Result<bool, DatabaseError> {
        Ok(self.etcd.value(&self.etcd.keys.log(sequence))?.is_some())
    }

    fn take(
        &mut self,
        sequence: u64,
        modified: i64,
        value: &[u8],
        heard: &mut Vec<Heard>,
    ) -> Result<(), DatabaseError> {
        let value = Value::decode(value)?;
        let logged = Logged::of(sequence, &value);
        let record: Record = serde_json::from_slice(&self.etcd.whole(value, None)?)?;
        if record.anew {
            return self.begin_anew(heard);
        }
        let entries = record.entries()?;
        self.place.ledger.apply(self.place.ledger.changed(&entries));
        self.place.logged.push_back(logged);
        (self.place.sequence, self.place.modified) = (sequence, modified);
        let tip = record.tip()?;
        self.place.tip = tip;
        heard.push(Heard::Commit { entries, tip, capacities: record.capacities });
        Ok(())
    }

    fn begin_anew(&mut self, heard: &mut Vec<Heard>) -> Result<(), DatabaseError> {
        let place = self.etcd.keys.head();
        let (loaded, place) = load(&self.etcd)?.ok_or(DatabaseError::Missing { place })?;
        self.history = loaded.state.history().clone();
        self.overlay = loaded.state.overlay();
        self.place = place;
        heard.push(Heard::Anew(Box::new(loaded)));
        Ok(())
    }
}

/// When the commit with this id was made, if it was.
fn committed(answer: &etcd_client::TxnResponse, id: &str) -> Result<Option<i64>, DatabaseError> {
    if answer.succeeded() {
        return Ok(answer.header().map(etcd_client::ResponseHeader::revision));
    }
    for response in answer.op_responses() {
        let TxnOpResponse::Get(found) = response else { continue };
        let Some(pair) = found.kvs().first() else { continue };
        let is_ours = match Value::decode(pair.value())? {
            Value::Whole(bytes) => serde_json::from_slice::<Record>(&bytes)?.id == id,
            Value::InParts(parts) => parts.id == id,
        };
        return Ok(is_ours.then(|| pair.mod_revision()));
    }
    Ok(None)
}

/// The name of an answer's key, whatever characters are in what the asker chose.
fn answer_name(key: &AnswerKey) -> String {
    let mut hash = Sha256::new();
    for part in [key.who.as_bytes(), b"\n", key.key.as_bytes()] {
        hash.update(part);
    }
    hex(&hash.finalize())
}

impl Engine for Cluster {
    fn room(&self) -> usize {
        ROOM
    }

    fn given_answers(&mut self, keys: &[AnswerKey]) -> Result<Vec<Option<GivenAnswer>>, DatabaseError> {
        let values = self.kept_values(keys)?;
        let given = |(key, value): (&AnswerKey, Option<Vec<u8>>)| match value {
            Some(value) => self.given(key, &value),
            None => Ok(None),
        };
        keys.iter().zip(values).map(given).collect()
    }

    fn commit(&mut self, batch: &Batch, head: Head) -> Result<Outcome, DatabaseError> {
        let outcome = if batch.is_empty() { self.is_last() } else { self.write(batch, head) };
        // After a failure it may have been done all the same; a lease may be what failed.
        self.is_behind |= !matches!(outcome, Ok(Outcome::Done));
        if outcome.is_err() {
            self.lease = None;
        }
        outcome
    }

    fn bell(&self) -> Arc<Notify> {
        self.follower.bell.clone()
    }

    fn heard(&mut self) -> Result<Vec<Heard>, DatabaseError> {
        let mut heard = Vec::new();
        while let Ok(event) = self.follower.events.try_recv() {
            match event {
                // Our own, or read from the log before we heard of it.
                Event::Log { modified, .. } if modified <= self.place.modified => {}
                // Read from the log all the same, which tells whether it still is the one that we know.
                Event::Log { .. } if self.is_behind => {}
                Event::Log { sequence, modified, value } if sequence == self.place.sequence + 1 => {
                    if let Err(failure) = self.take(sequence, modified, &value, &mut heard) {
                        // What was heard before it counts; this one is read again.
                        tracing::warn!(error = %failure, "cannot read an entry of the log; trying again");
                        self.is_behind = true;
                    }
                }
                Event::Log { .. } | Event::Missed => self.is_behind = true,
                Event::Snapshot(place) => self.place.snapshot = place,
                Event::Usage(node, rule, count) => heard.push(Heard::Usage(node, rule, count)),
            }
        }
        if self.is_behind {
            match self.catch_up(&mut heard) {
                Ok(()) => self.is_behind = false,
                Err(failure) if heard.is_empty() => return Err(failure),
                // It is tried again with the next look.
                Err(failure) => tracing::warn!(error = %failure, "cannot read all of the log"),
            }
        }
        Ok(heard)
    }

    fn write_usage(&mut self, unwritten: &Unwritten) -> Result<(), DatabaseError> {
        let keys = &self.etcd.keys;
        let gone = unwritten.forgotten.iter().map(|rule| {
            let options = etcd_client::DeleteOptions::new().with_prefix();
            TxnOp::delete(keys.usage_of(*rule), Some(options))
        });
        let told = unwritten
            .told
            .iter()
            .map(|(node, rule, count)| Ok(TxnOp::put(keys.usage(*rule, node), serde_json::to_vec(count)?, None)));
        let operations = gone.map(Ok).chain(told).collect::<Result<Vec<_>, DatabaseError>>()?;
        for part in operations.chunks(AT_ONCE) {
            self.etcd.txn(&Txn::new().and_then(part))?;
        }
        Ok(())
    }

    fn forget_owners(&mut self, before: Timestamp) -> Result<usize, DatabaseError> {
        ownership::forget(&self.etcd, before)
    }

    fn forget_history(&mut self, limit: &Limit) -> Result<u64, DatabaseError> {
        archive::forget(&self.etcd, limit)
    }

    fn tidy(&mut self, state: &State) -> Result<(), DatabaseError> {
        if self.is_behind {
            return Ok(());
        }
        self.tidying.run(&self.etcd, &mut self.place, state)
    }

    fn is_following(&self) -> bool {
        self.follower.is_following()
    }

    fn has_recovered(&mut self) -> bool {
        self.is_last().is_ok()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            if let Err(failure) = self.tidying.settle(&mut self.place) {
                tracing::warn!(error = %failure, "the log stays as long as it is; nothing of it is lost");
            }
            board::take_down(&self.etcd, &self.board);
            // Waits for nobody: what it still does is watching.
            runtime.shutdown_background();
        }
    }
}
