//! The journal beyond the log: what is cut off the log is kept in segments, many commits to one, that nobody follows and
//! nobody reads but who asks for the history. A commit writes nothing here, so the head waits for none of it.

use std::ops::RangeInclusive;

use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse};
use tokio::runtime::Runtime;

use super::{
    Etcd, PART, behind,
    load::{Logged, sequence_of},
    new_id,
    record::{Parts, Record, Segment, Top, Value, Written},
    tidy,
};
use crate::{
    model::HistoryEntry,
    store::{
        chain::{Line, Tip},
        engine::{Journal, Mark, Order},
        error::DatabaseError,
        retention::Limit,
    },
};

/// Commits of the log that one look reads.
const LOOK: u64 = 256;

/// The journal in the hands of somebody who does not serve the store.
pub(super) struct Alone {
    pub(super) etcd: Etcd,
    pub(super) _runtime: Runtime,
}

impl Journal for Alone {
    fn bounds(&self) -> Result<(Tip, Tip), DatabaseError> {
        bounds(&self.etcd)
    }

    fn lines(&self, numbers: RangeInclusive<u64>, order: Order, most: usize) -> Result<Vec<Line>, DatabaseError> {
        lines(&self.etcd, &numbers, order, most)
    }

    fn first(&self, holds: &dyn Fn(Mark) -> bool) -> Result<Option<HistoryEntry>, DatabaseError> {
        first(&self.etcd, holds)
    }
}

/// Takes over what is cut off the log; returns where that begins then. Whoever did so first did it.
pub(super) fn take_over(etcd: &Etcd, gone: &[Logged]) -> Result<u64, DatabaseError> {
    let (Some(first), Some(last)) = (gone.first(), gone.last()) else { return Ok(0) };
    let (from, end) = (etcd.keys.log(first.sequence), etcd.keys.log(last.sequence + 1));
    let records = records(etcd, &from, &end, None)?;
    let mut operations = Vec::new();
    let mut when = vec![Compare::create_revision(from.clone(), CompareOp::Greater, 0)];
    if let Some(before) = records.first().map(|record| record.before) {
        let lines: Vec<Line> = records.iter().flat_map(Record::lines).collect();
        if let Some((key, put)) = write_segment(etcd, before, &lines)? {
            when.push(Compare::create_revision(key, CompareOp::Equal, 0));
            operations.push(put);
        }
    }
    operations.push(TxnOp::delete(from, Some(DeleteOptions::new().with_range(end))));
    operations.extend(gone.iter().filter_map(|logged| logged.parts.as_deref()).map(|id| tidy::remove(etcd, id)));
    let answer = etcd.txn(&Txn::new().when(when).and_then(operations))?;
    if answer.succeeded() {
        return Ok(last.sequence + 1);
    }
    let at = answer.header().map_or(0, |header| header.revision());
    Ok(log_bounds(etcd, at)?.map_or(0, |(first, _)| first))
}

/// Writes the parts of a segment; returns what makes it one, and its key. None where there are no lines.
fn write_segment(etcd: &Etcd, before: Tip, lines: &[Line]) -> Result<Option<(String, TxnOp)>, DatabaseError> {
    if lines.is_empty() {
        return Ok(None);
    }
    let (first, id) = (before.number + 1, new_id()?);
    let tip = lines.iter().try_fold(before, |tip, line| tip.with(line))?;
    let written = lines.iter().map(Written::of).collect::<Result<Vec<_>, _>>()?;
    let body = serde_json::to_vec(&written)?;
    for (number, part) in body.chunks(PART).enumerate() {
        etcd.txn(&Txn::new().and_then([TxnOp::put(etcd.keys.segment_part(first, &id, number), part, None)]))?;
    }
    let parts = Parts { id, count: body.chunks(PART).count() };
    let key = etcd.keys.segment(first);
    let put = TxnOp::put(key.clone(), serde_json::to_vec(&Segment { before, tip, parts })?, None);
    Ok(Some((key, put)))
}

/// Puts a whole journal where there is none.
pub(super) fn fill(etcd: &Etcd, anchor: Tip, journal: &[Line]) -> Result<(), DatabaseError> {
    const LINES: usize = 500;
    let put = TxnOp::put(etcd.keys.anchor(), serde_json::to_vec(&anchor)?, None);
    etcd.txn(&Txn::new().and_then([put]))?;
    let mut before = anchor;
    for lines in journal.chunks(LINES) {
        if let Some((_, put)) = write_segment(etcd, before, lines)? {
            etcd.txn(&Txn::new().and_then([put]))?;
        }
        before = lines.iter().try_fold(before, |tip, line| tip.with(line))?;
    }
    Ok(())
}

/// Where what is kept begins; as of a revision of etcd, if one is given.
pub(super) fn anchor(etcd: &Etcd, at: Option<i64>) -> Result<Tip, DatabaseError> {
    let options = at.map_or_else(GetOptions::new, |at| GetOptions::new().with_revision(at));
    let found = etcd.get(&etcd.keys.anchor(), &options)?;
    Ok(found.kvs().first().map(|pair| serde_json::from_slice(pair.value())).transpose()?.unwrap_or_default())
}

pub(super) fn bounds(etcd: &Etcd) -> Result<(Tip, Tip), DatabaseError> {
    let gets = [TxnOp::get(etcd.keys.anchor(), None), TxnOp::get(etcd.keys.head(), None)];
    let answer = etcd.txn(&Txn::new().and_then(gets))?;
    let mut values = answer.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(found) => found.kvs().first().map(|pair| pair.value().to_vec()),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    });
    let anchor = values.next().flatten().map(|value| serde_json::from_slice(&value)).transpose()?;
    let head = values.next().flatten().ok_or_else(|| DatabaseError::Missing { place: etcd.keys.head() })?;
    let top: Top = serde_json::from_slice(&head)?;
    Ok((anchor.unwrap_or_default(), top.head.tip))
}

/// Lines around one end of `numbers`, wherever they are at one moment.
pub(super) fn lines(
    etcd: &Etcd,
    numbers: &RangeInclusive<u64>,
    order: Order,
    most: usize,
) -> Result<Vec<Line>, DatabaseError> {
    let wanted = match order {
        Order::OldestFirst => *numbers.start(),
        Order::NewestFirst => *numbers.end(),
    };
    let (segment, at) = segment_with(etcd, wanted)?;
    let mut lines = match segment.filter(|segment| wanted <= segment.tip.number) {
        Some(segment) => body(etcd, &segment, Some(at))?,
        None => logged(etcd, wanted, order, at)?,
    };
    lines.retain(|line| numbers.contains(&line.number));
    if order == Order::NewestFirst {
        lines.reverse();
    }
    lines.truncate(most);
    Ok(lines)
}

/// The last segment that begins no later than this, and the revision of etcd that it was read at.
fn segment_with(etcd: &Etcd, number: u64) -> Result<(Option<Segment>, i64), DatabaseError> {
    segment_at(etcd, number, None)
}

fn segment_at(etcd: &Etcd, number: u64, at: Option<i64>) -> Result<(Option<Segment>, i64), DatabaseError> {
    let end = etcd.keys.segment(number.saturating_add(1));
    let options = GetOptions::new().with_range(end).with_sort(SortTarget::Key, SortOrder::Descend).with_limit(1);
    let options = at.map_or(options.clone(), |at| options.with_revision(at));
    let found = etcd.get(&etcd.keys.segments(), &options)?;
    let at = found.header().map_or(0, |header| header.revision());
    Ok((found.kvs().first().map(|pair| serde_json::from_slice(pair.value())).transpose()?, at))
}

fn body(etcd: &Etcd, segment: &Segment, at: Option<i64>) -> Result<Vec<Line>, DatabaseError> {
    let (first, Parts { id, count }) = (segment.before.number + 1, &segment.parts);
    let parts = etcd.all(&etcd.keys.segment_parts_of(first, id), at)?;
    if parts.len() != *count {
        return Err(DatabaseError::Damaged(format!("parts of the journal from entry {first} on are missing")));
    }
    let bytes: Vec<u8> = parts.into_iter().flat_map(|(_, part, _)| part).collect();
    let written: Vec<Written> = serde_json::from_slice(&bytes)?;
    Ok(written.iter().zip(first..).map(|(written, number)| written.line(number)).collect())
}

/// Lines of the log around this one, as of a revision of etcd.
fn logged(etcd: &Etcd, wanted: u64, order: Order, at: i64) -> Result<Vec<Line>, DatabaseError> {
    let Some(bounds) = log_bounds(etcd, at)? else { return Ok(Vec::new()) };
    let found = last_commit(etcd, bounds, at, &|before| before.number < wanted)?;
    let (from, end) = match order {
        Order::OldestFirst => (found, found + LOOK),
        Order::NewestFirst => (found.saturating_sub(LOOK - 1).max(bounds.0), found + 1),
    };
    let records = records(etcd, &etcd.keys.log(from), &etcd.keys.log(end), Some(at))?;
    Ok(records.iter().flat_map(Record::lines).collect())
}

/// The last commit of the log of which this holds before it, as it does of all earlier ones; else the first.
fn last_commit(
    etcd: &Etcd,
    (mut low, mut high): (u64, u64),
    at: i64,
    holds: &dyn Fn(&Tip) -> bool,
) -> Result<u64, DatabaseError> {
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(&commit(etcd, middle, at)?.before) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
}

fn commit(etcd: &Etcd, sequence: u64, at: i64) -> Result<Record, DatabaseError> {
    let record = records(etcd, &etcd.keys.log(sequence), &etcd.keys.log(sequence + 1), Some(at))?.pop();
    record.ok_or_else(|| DatabaseError::Damaged(format!("commit {sequence} of the log is missing")))
}

/// The first entry of which this holds, as it does of all that follow. What stands before each segment and each commit
/// tells which of them to look into.
pub(super) fn first(etcd: &Etcd, holds: &dyn Fn(Mark) -> bool) -> Result<Option<HistoryEntry>, DatabaseError> {
    let is_before = |tip: &Tip| Mark::behind(tip).is_none_or(|mark| !holds(mark));
    let newest = etcd.get(&etcd.keys.head(), &GetOptions::new().with_keys_only())?;
    let at = newest.header().map_or(0, |header| header.revision());
    let anchor = anchor(etcd, Some(at))?;
    let mut lines = Vec::new();
    let mut archived = anchor.number;
    if let Some(bounds) = log_bounds(etcd, at)? {
        let begins = commit(etcd, bounds.0, at)?.before;
        archived = begins.number;
        if is_before(&begins) {
            lines = commit(etcd, last_commit(etcd, bounds, at, &is_before)?, at)?.lines();
        }
    }
    if lines.is_empty()
        && let Some(segment) = last_segment(etcd, anchor.number + 1, archived, at, &is_before)?
    {
        lines = body(etcd, &segment, Some(at))?;
    }
    for line in lines {
        let entry = line.entry()?;
        if holds(Mark::of(&entry)) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The last segment of these entries of which this holds before it.
fn last_segment(
    etcd: &Etcd,
    mut low: u64,
    mut high: u64,
    at: i64,
    holds: &dyn Fn(&Tip) -> bool,
) -> Result<Option<Segment>, DatabaseError> {
    let mut found = None;
    while low <= high {
        let middle = low + (high - low) / 2;
        let Some(segment) = segment_at(etcd, middle, Some(at))?.0 else { break };
        if holds(&segment.before) {
            low = segment.tip.number.max(middle) + 1;
            found = Some(segment);
        } else {
            high = segment.before.number;
        }
    }
    Ok(found)
}

/// The first and the last commit in the log.
fn log_bounds(etcd: &Etcd, at: i64) -> Result<Option<(u64, u64)>, DatabaseError> {
    let logs = etcd.keys.logs();
    let one = |order| {
        let options = GetOptions::new().with_range(behind(&logs)).with_sort(SortTarget::Key, order);
        let found = etcd.get(&logs, &options.with_limit(1).with_keys_only().with_revision(at))?;
        found.kvs().first().map(|pair| sequence_of(pair.key())).transpose()
    };
    Ok(one(SortOrder::Ascend)?.zip(one(SortOrder::Descend)?))
}

fn records(etcd: &Etcd, from: &str, end: &str, at: Option<i64>) -> Result<Vec<Record>, DatabaseError> {
    let pairs = etcd.runtime.block_on(etcd.members.range(from.as_bytes(), end.as_bytes(), at))?;
    let read =
        |(_, value, _): (Vec<u8>, Vec<u8>, i64)| Ok(serde_json::from_slice(&etcd.whole(Value::decode(&value)?, at)?)?);
    pairs.into_iter().map(read).collect()
}

/// The whole journal up to this line, as of a revision of etcd.
pub(super) fn all(etcd: &Etcd, at: i64, last: u64) -> Result<Vec<Line>, DatabaseError> {
    let mut lines = Vec::new();
    for (_, value, _) in etcd.all(&etcd.keys.segments(), Some(at))? {
        lines.extend(body(etcd, &serde_json::from_slice(&value)?, Some(at))?);
    }
    let logs = etcd.keys.logs();
    let end = String::from_utf8_lossy(&behind(&logs)).into_owned();
    lines.extend(records(etcd, &logs, &end, Some(at))?.iter().flat_map(Record::lines));
    lines.retain(|line| line.number <= last);
    Ok(lines)
}

/// Forgets segments of which all is beyond the limit; returns how many entries.
pub(super) fn forget(etcd: &Etcd, limit: &Limit) -> Result<u64, DatabaseError> {
    let mut forgotten = 0;
    loop {
        let (anchor, tip) = bounds(etcd)?;
        let (segment, _) = segment_with(etcd, anchor.number + 1)?;
        let Some(segment) = segment.filter(|segment| segment.before.number == anchor.number) else { break };
        if !limit.passes(segment.before, segment.tip, tip) {
            break;
        }
        let first = anchor.number + 1;
        let unchanged = match anchor.number {
            0 => Compare::create_revision(etcd.keys.segment(first), CompareOp::Greater, 0),
            _ => Compare::value(etcd.keys.anchor(), CompareOp::Equal, serde_json::to_vec(&anchor)?),
        };
        let operations = [
            TxnOp::put(etcd.keys.anchor(), serde_json::to_vec(&segment.tip)?, None),
            TxnOp::delete(etcd.keys.segment(first), None),
            TxnOp::delete(etcd.keys.segment_parts(first), Some(DeleteOptions::new().with_prefix())),
        ];
        if !etcd.txn(&Txn::new().when([unchanged]).and_then(operations))?.succeeded() {
            // Somebody else forgets it.
            break;
        }
        forgotten += segment.tip.number - anchor.number;
    }
    Ok(forgotten)
}
