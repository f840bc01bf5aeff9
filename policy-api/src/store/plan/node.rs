//! Nodes: registered by themselves, each with a slice of the overlay for life.

use std::sync::Arc;

use super::Draft;
use crate::{
    model::{Change, Invalid, Join, Joined, Node, NodeName, Slices},
    store::Refusal,
};

/// How large a node's slices are.
pub(crate) const SLICE_V4: u8 = 24;
pub(crate) const SLICE_V6: u8 = 64;

impl Draft<'_> {
    /// Registers the node, or moves it to another underlay address, or finds it as it is.
    pub(super) fn join(&mut self, name: &NodeName, join: &Join) -> Result<Joined, Refusal> {
        self.check_underlay(name, join)?;
        let standing = self.state.replica().nodes.get(name).cloned();
        let node = match standing {
            Some(node) if node.underlay == join.underlay => node,
            Some(node) => {
                self.register(Node { underlay: join.underlay, revision: self.revision, ..Node::clone(&node) })
            }
            None => {
                let node = Node {
                    name: name.clone(),
                    underlay: join.underlay,
                    slices: self.new_slices()?,
                    revision: self.revision,
                };
                self.register(node)
            }
        };
        Ok(Joined {
            node: Node::clone(&node),
            overlay: self.state.overlay(),
            history: self.state.history().clone(),
            revision: self.resulting_revision(),
        })
    }

    /// Two nodes at one underlay address could speak for each other's instances.
    fn check_underlay(&self, name: &NodeName, join: &Join) -> Result<(), Refusal> {
        if self.state.overlay().contains(join.underlay) {
            let invalid =
                Invalid::new(join.underlay, "lies in the overlay", "use the node's own address on the underlay");
            return Err(invalid.in_field("underlay").into());
        }
        match self.state.node_at(join.underlay) {
            Some(other) if other != name => {
                let problem = format!("belongs to node `{other}`");
                Err(Refusal::conflict("underlay", join.underlay, problem, "give each node an address of its own"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn new_slices(&self) -> Result<Slices, Refusal> {
        let index = self.state.head().next_slice;
        let overlay = self.state.overlay();
        let slices = overlay.v4.subnet(SLICE_V4, index).zip(overlay.v6.subnet(SLICE_V6, index));
        let (slice_v4, slice_v6) = slices.ok_or(Refusal::Exhausted("slices of the overlay"))?;
        Ok(Slices { slice_v4, slice_v6 })
    }

    fn register(&mut self, node: Node) -> Arc<Node> {
        let node = Arc::new(node);
        self.changes.push(Change::PutNode { node: node.clone() });
        node
    }

    /// The node, which must have joined.
    pub(super) fn registered(&self, name: &NodeName) -> Result<&Arc<Node>, Refusal> {
        self.state.replica().nodes.get(name).ok_or_else(|| {
            Refusal::conflict("node", name, "has not joined".to_owned(), "join first: `POST /v1/nodes/{name}/join`")
        })
    }
}
