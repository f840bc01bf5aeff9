//! An item as watches carry it: written out and hashed once, shared by all that get it.

use std::sync::Arc;

use crate::model::{Change, Digest};

/// An item that stands.
#[derive(Debug)]
pub struct Item {
    change: Change,
    json: Box<str>,
    /// What it adds to a digest.
    part: Digest,
}

/// One change of what a watcher holds.
#[derive(Clone, Debug)]
pub enum Piece {
    Put(Arc<Item>),
    Delete(Change),
}

impl Item {
    /// The item that a change puts in place; none if it takes one away.
    pub(super) fn put_by(change: &Change) -> Option<Arc<Self>> {
        let revision = change.revision()?;
        let part = Digest::of(&change.key(), revision);
        let change = as_told(change);
        Some(Arc::new(Self { json: written(&change), change, part }))
    }

    pub(super) fn part(&self) -> Digest {
        self.part
    }
}

impl Piece {
    /// The change that it is.
    pub fn change(&self) -> &Change {
        match self {
            Self::Put(item) => &item.change,
            Self::Delete(change) => change,
        }
    }

    /// Writes it as lines of watches have it.
    pub fn write(&self, line: &mut Vec<u8>) {
        match self {
            Self::Put(item) => line.extend_from_slice(item.json.as_bytes()),
            Self::Delete(change) => line.extend_from_slice(written(change).as_bytes()),
        }
    }
}

/// Without what is nobody's business but the policy API's.
fn as_told(change: &Change) -> Change {
    match change {
        Change::PutNode { node } => Change::PutNode { node: Arc::new(node.without_credentials()) },
        other => other.clone(),
    }
}

fn written(change: &Change) -> Box<str> {
    // Writing plain structs into memory fails in no case; an empty text would be found out by every reader.
    serde_json::to_string(change).unwrap_or_default().into_boxed_str()
}
