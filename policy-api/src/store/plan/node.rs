//! Nodes: registered by themselves, each with a slice of the overlay; drained and removed by operators.

use std::{net::IpAddr, sync::Arc};

use super::Draft;
use crate::{
    model::{
        Change, Invalid, Joined, KeyId, Node, NodeAnswer, NodeDeleted, NodeName, NodeSettings, Outcome, Slices, TokenId,
    },
    store::{NodeGrant, Principal, Refusal, state::Head},
};

/// How large a node's slices are.
pub(crate) const SLICE_V4: u8 = 24;
pub(crate) const SLICE_V6: u8 = 64;

/// A node's wish to be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    pub underlay: IpAddr,
    /// A key that it has proven to hold, to be known by from now on.
    pub key: Option<KeyId>,
}

impl Draft<'_> {
    /// Registers the node, or moves it to another underlay address or key, or finds it as it is.
    pub(super) fn join(&mut self, by: &Principal, wish: &Registration) -> Result<Joined, Refusal> {
        let grant = match by {
            Principal::Node(grant) | Principal::Joining(grant, _) => grant,
            Principal::Operator | Principal::User(_) | Principal::Itself => super::grant(by)?,
        };
        self.check_underlay(&grant.name, wish.underlay)?;
        let standing = self.state.replica().nodes.get(&grant.name).cloned();
        let (key, joined_with) = proofs(by, wish.key, standing.as_deref())?;
        let node = match standing {
            Some(node) => self.moved(&node, grant, wish.underlay, key, joined_with),
            None => {
                let new = Node::new(grant.name.clone(), wish.underlay, self.new_slices()?, self.revision);
                self.register(Node { apps: grant.apps.clone(), key, joined_with, ..new })
            }
        };
        Ok(Joined {
            node: Node::clone(&node),
            overlay: self.state.overlay(),
            history: self.state.history().clone(),
            revision: self.resulting_revision(),
            certified: None,
        })
    }

    fn moved(
        &mut self,
        node: &Arc<Node>,
        grant: &NodeGrant,
        underlay: IpAddr,
        key: Option<KeyId>,
        joined_with: Option<TokenId>,
    ) -> Arc<Node> {
        let moved = Node { underlay, apps: grant.apps.clone(), key, joined_with, ..Node::clone(node) };
        if moved == **node { node.clone() } else { self.register(Node { revision: self.revision, ..moved }) }
    }

    /// Two nodes at one underlay address could speak for each other's instances.
    fn check_underlay(&self, name: &NodeName, underlay: IpAddr) -> Result<(), Refusal> {
        if self.state.overlay().contains(underlay) {
            let invalid = Invalid::new(underlay, "lies in the overlay", "use the node's own address on the underlay");
            return Err(invalid.in_field("underlay").into());
        }
        match self.state.node_at(underlay) {
            Some(other) if other != name => {
                let problem = format!("belongs to node `{other}`");
                Err(Refusal::conflict("underlay", underlay, problem, "give each node an address of its own"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn new_slices(&self) -> Result<Slices, Refusal> {
        let (head, overlay) = (self.state.head(), self.state.overlay());
        let slices = |index| overlay.v4.subnet(SLICE_V4, index).zip(overlay.v6.subnet(SLICE_V6, index));
        let rested = || {
            let taken = self.state.replica().nodes.values().filter_map(|node| self.state.slice_of(node)).collect();
            let first = Head::first().next_slice;
            slices(head.resting_slices.rested(first..head.next_slice, first, &taken, self.acknowledged)?)
        };
        let (slice_v4, slice_v6) =
            slices(head.next_slice).or_else(rested).ok_or(Refusal::Resting("slices of the overlay"))?;
        Ok(Slices { slice_v4, slice_v6 })
    }

    fn register(&mut self, node: Node) -> Arc<Node> {
        let node = Arc::new(node);
        self.changes.push(Change::PutNode { node: node.clone() });
        node
    }

    /// Sets what an operator may set of a node.
    pub(super) fn set_node(&mut self, name: &NodeName, settings: NodeSettings) -> Result<NodeAnswer, Refusal> {
        self.permit_operator("name", &format!("set node {name}"))?;
        let node = self.known_node(name)?;
        if node.draining == settings.draining {
            return Ok(NodeAnswer { node: Node::clone(&node), outcome: Outcome::Unchanged, dry_run: false });
        }
        let changed = Node { draining: settings.draining, revision: self.revision, ..Node::clone(&node) };
        let node = self.register(changed);
        Ok(NodeAnswer { node: Node::clone(&node), outcome: Outcome::Updated, dry_run: false })
    }

    /// Takes a node away with all that has addresses of its slices. Who says so says that it is off: it cannot be asked.
    pub(super) fn remove_node(&mut self, name: &NodeName) -> Result<NodeDeleted, Refusal> {
        self.permit_operator("name", &format!("remove node {name}"))?;
        let node = self.known_node(name)?;
        let bindings = self.state.replica().bindings.values().filter(|binding| binding.node == *name);
        let (addresses, instances): (Vec<_>, Vec<_>) =
            bindings.map(|binding| (binding.address, binding.is_live().then(|| binding.instance_name()))).unzip();
        let mut instances: Vec<String> = instances.into_iter().flatten().collect();
        instances.sort();
        instances.dedup();
        self.changes.extend(addresses.into_iter().map(|address| Change::DeleteBinding { address }));
        self.changes.push(Change::DeleteNode { name: name.clone() });
        self.revoke_asked_for_by(name)?;
        Ok(NodeDeleted { revision: self.revision, node: Node::clone(&node), instances, dry_run: false })
    }

    fn known_node(&self, name: &NodeName) -> Result<Arc<Node>, Refusal> {
        let nodes = &self.state.replica().nodes;
        let known = nodes.keys().map(NodeName::as_str);
        nodes.get(name).cloned().ok_or_else(|| Refusal::not_found("name", "a node", name.as_str(), known))
    }

    /// The node, which must have joined.
    pub(super) fn registered(&self, name: &NodeName) -> Result<&Arc<Node>, Refusal> {
        self.state.replica().nodes.get(name).ok_or_else(|| {
            Refusal::conflict("node", name, "has not joined".to_owned(), "join first: `POST /v1/nodes/{name}/join`")
        })
    }
}

/// The key that the node is known by from now on, and the token that it came with.
fn proofs(
    by: &Principal,
    key: Option<KeyId>,
    standing: Option<&Node>,
) -> Result<(Option<KeyId>, Option<TokenId>), Refusal> {
    let Principal::Joining(grant, token) = by else {
        let standing = standing.map(|node| (node.key, node.joined_with.clone()));
        let (known, joined_with) = standing.unwrap_or_default();
        return Ok((key.or(known), joined_with));
    };
    let remedy = "send a certificate signing request by the key that the node is to be known by";
    let key = key.ok_or_else(|| Invalid::of("the request", "is missing", remedy).in_field("csr"))?;
    let spent = standing.is_some_and(|node| node.joined_with.as_ref() == Some(token) && node.key != Some(key));
    if spent {
        let problem = "was used to join with another key".to_owned();
        let remedy = "make a new one: remove the token's file and run `netpol-api init --node NAME` again";
        return Err(Refusal::forbidden(
            "Authorization",
            format!("the join token of node {}", grant.name),
            problem,
            remedy,
        ));
    }
    Ok((Some(key), Some(token.clone())))
}
