//! What the keys hold, as JSON: the head, the commits of the log, the snapshot they go on from.
//!
//! A value that is small is its key's value. A larger one is written in parts first, under keys that nobody reads, and
//! then pointed to: so a transaction stays below what etcd takes however much it changes.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    model::{Change, History, NodeName, Overlay, Seal},
    store::{
        chain::{Line, Tip},
        delta::changes_json,
        engine::{Batch, Entry},
        error::DatabaseError,
        state::Head,
    },
};

/// The value of the head's key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Top {
    /// Of the last commit.
    pub(super) sequence: u64,
    pub(super) history: History,
    pub(super) overlay: Overlay,
    pub(super) head: Head,
}

/// One commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Random: by it the writer knows its own commit.
    pub(super) id: String,
    /// The end of the journal before it.
    pub(super) before: Tip,
    lines: Vec<Written>,
    pub(super) capacities: Vec<(NodeName, u64)>,
    /// What came before leads nowhere any more: everything is to be read again.
    #[serde(default)]
    pub(super) anew: bool,
}

/// A line of the journal: byte for byte what was sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Written {
    seal: Seal,
    line: Box<RawValue>,
}

/// Lines of the journal that are kept beyond the log, and where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// The end of the journal before and behind them.
    pub(super) before: Tip,
    pub(super) tip: Tip,
    pub(super) parts: Parts,
}

/// Everything that stands as of one commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Snapshot {
    pub(super) sequence: u64,
    pub(super) head: Head,
    pub(super) items: Vec<Change>,
    pub(super) capacities: Vec<(NodeName, u64)>,
}

/// Where the snapshot is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotPlace {
    pub(super) sequence: u64,
    pub(super) parts: Parts,
}

/// A token's value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Bearer {
    pub(super) name: String,
    pub(super) apps: Option<String>,
}

/// A value in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parts {
    pub(super) id: String,
    pub(super) count: usize,
}

/// The value of a key that may be large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Whole(Vec<u8>),
    InParts(Parts),
}

const WHOLE: u8 = b'=';
const IN_PARTS: u8 = b'@';
/// The largest value that is kept whole. Many of these fit into one transaction of 1.5 MiB.
pub(super) const LARGEST_WHOLE: usize = 128 << 10;
/// The size of a part.
pub(super) const PART: usize = 512 << 10;

impl Value {
    pub(super) fn encode(&self) -> Result<Vec<u8>, DatabaseError> {
        Ok(match self {
            Self::Whole(bytes) => [&[WHOLE], bytes.as_slice()].concat(),
            Self::InParts(parts) => [&[IN_PARTS], serde_json::to_vec(parts)?.as_slice()].concat(),
        })
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DatabaseError> {
        match bytes.split_first() {
            Some((&WHOLE, rest)) => Ok(Self::Whole(rest.to_vec())),
            Some((&IN_PARTS, rest)) => Ok(Self::InParts(serde_json::from_slice(rest)?)),
            Some(_) | None => Err(DatabaseError::Damaged("a value that is neither whole nor in parts".to_owned())),
        }
    }
}

impl Written {
    pub(super) fn of(line: &Line) -> Result<Self, DatabaseError> {
        Ok(Self { seal: line.seal, line: RawValue::from_string(line.text.clone())? })
    }

    /// The line in the place with this number.
    pub(super) fn line(&self, number: u64) -> Line {
        Line { number, seal: self.seal, text: self.line.get().to_owned() }
    }
}

impl Record {
    pub(super) fn of(id: String, before: Tip, batch: &Batch) -> Result<Self, DatabaseError> {
        let lines = batch.lines.iter().map(Written::of).collect::<Result<_, _>>()?;
        Ok(Self { id, before, lines, capacities: batch.capacities.clone(), anew: false })
    }

    /// The first commit of a store, or one that changes what no change tells of.
    pub(super) fn anew(id: String, before: Tip) -> Self {
        Self { id, before, lines: Vec::new(), capacities: Vec::new(), anew: true }
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        self.lines.iter().zip(self.before.number + 1..).map(|(written, number)| written.line(number)).collect()
    }

    /// The end of the journal with it.
    pub(super) fn tip(&self) -> Result<Tip, DatabaseError> {
        self.lines().iter().try_fold(self.before, |tip, line| tip.with(line))
    }

    /// The revisions in it.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, DatabaseError> {
        let mut entries = Vec::new();
        for line in self.lines() {
            let entry = line.entry()?;
            if entry.is_revision() {
                let json = changes_json(&entry.changes)?;
                entries.push(Entry { revision: entry.revision, time: entry.time, changes: entry.changes, json });
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back_as_it_was_written_and_nothing_else_is_taken_for_one() {
        let parts = Value::InParts(Parts { id: "00ff".to_owned(), count: 3 });
        for value in [Value::Whole(b"{}".to_vec()), Value::Whole(Vec::new()), parts] {
            assert_eq!(Value::decode(&value.encode().expect("bytes")).expect("a value"), value);
        }
        for bytes in [&b""[..], b"{}", b"@", b"@{}"] {
            assert!(Value::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
