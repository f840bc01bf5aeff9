//! Receipts: what a change of policy cut, node by node.

use serde::{Deserialize, Serialize};

use super::{
    fields::Fields,
    history::Revision,
    invalid::{Invalid, InvalidField},
    name::NodeName,
};

/// Going from one revision to another, a node cut so many live flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The revision before, which is no part of it.
    pub after: Revision,
    /// The revision that was applied.
    pub applied: Revision,
    pub flows: u64,
}

impl Cut {
    /// How many of its last cuts a node reports.
    pub const MOST: usize = 64;

    /// Whether the change of this revision is among those that were applied.
    pub fn covers(&self, revision: Revision) -> bool {
        self.after < revision && revision <= self.applied
    }

    pub(super) fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let remedy = "give a whole number";
        let [after, applied, flows] = ["after", "applied", "flows"].map(|name| -> Result<u64, InvalidField> {
            fields.number(name, u64::MAX)?.ok_or_else(|| fields.missing(name, remedy))
        });
        let cut = Self { after: Revision(after?), applied: Revision(applied?), flows: flows? };
        let path = fields.path("after");
        fields.finish()?;
        // They are the same where something else than a revision cut it, such as an end by the node's own clock.
        if cut.after > cut.applied {
            let problem = format!("is behind {}, the revision that was applied", cut.applied);
            return Err(Invalid::new(cut.after, problem, "give the revision that was in force before").in_field(path));
        }
        Ok(cut)
    }
}

/// What a revision cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Receipt {
    pub revision: Revision,
    /// On all nodes that were heard of.
    pub flows: u64,
    /// Nodes that have the revision in force, and what they cut.
    pub nodes: Vec<NodeReceipt>,
    /// Registered nodes that have not: nobody can say what still flows there.
    pub missing: Vec<NodeName>,
}

/// A node's part of a [`Receipt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct NodeReceipt {
    pub node: NodeName,
    pub flows: u64,
}
