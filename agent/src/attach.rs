//! Attaching and detaching: an address, a placement that the other nodes know, a veth, an endpoint. One at a time, so that
//! no two agree on an address.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use common::Identity;
use policy_api::model::{AppName, Claim, Labels, NodeName, Prefix, Replica, Revision, Slices};
use tokio::{sync::Mutex, time::interval};
use tracing::{debug, info, warn};

use crate::{
    compile::governed,
    endpoint::{Endpoint, host_interface_name},
    link::{
        LinkError, Links, VethPlan,
        netns::{Netns, NetnsId},
    },
    node::{NodeError, NodeHandle, StateReceiver, current},
    pool::{AddressPair, Pool},
    random,
    tokens::Listeners,
    watch::{Api, ApiError},
};

/// How long an attachment waits for the other nodes to know its placement.
const PLACEMENT_DEADLINE: Duration = Duration::from_secs(2);
/// How often placements are compared with endpoints.
const SETTLE_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    NotFound(String),
    #[error("the slice {0} has no free address")]
    SliceFull(Prefix),
    #[error("the policy API refused the placement: {0}")]
    Refused(ApiError),
    #[error("{0}")]
    Unknown(String),
    #[error("no randomness: {0}")]
    Random(std::io::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// What an attachment asks for.
#[derive(Debug)]
pub struct AttachRequest {
    pub app: AppName,
    pub instance: Option<u32>,
    pub interface: String,
    pub labels: Labels,
    pub netns: Netns,
}

/// What an attachment got.
#[derive(Debug)]
pub struct Attached {
    pub endpoint: Endpoint,
    pub in_force: Vec<NodeName>,
    pub missing: Vec<NodeName>,
    pub note: Option<String>,
}

/// What does attachments.
pub struct Attacher {
    api: Arc<Api>,
    node: NodeHandle,
    links: Links,
    name: NodeName,
    slices: Slices,
    mtu: u32,
    own_netns: NetnsId,
    state: StateReceiver,
    listeners: Arc<Listeners>,
    /// Held for the whole of an attachment or detachment.
    turn: Mutex<()>,
}

/// What an attacher works with.
pub struct AttacherParts {
    pub api: Arc<Api>,
    pub node: NodeHandle,
    pub links: Links,
    pub name: NodeName,
    pub slices: Slices,
    pub mtu: u32,
    pub state: StateReceiver,
    pub listeners: Arc<Listeners>,
}

/// Who the new endpoint is, and what the other nodes know of it.
struct Placed {
    pair: AddressPair,
    instance: u32,
    identity: Identity,
    revision: Option<Revision>,
    note: Option<String>,
}

impl Placed {
    fn add_note(&mut self, more: Option<&str>) {
        let notes: Vec<&str> = self.note.as_deref().into_iter().chain(more).collect();
        self.note = (!notes.is_empty()).then(|| notes.join("; "));
    }
}

impl Attacher {
    pub fn new(parts: AttacherParts) -> Result<Arc<Self>, LinkError> {
        let AttacherParts { api, node, links, name, slices, mtu, state, listeners } = parts;
        let own_netns = Netns::own()?.id()?;
        let turn = Mutex::new(());
        Ok(Arc::new(Self { api, node, links, name, slices, mtu, own_netns, state, listeners, turn }))
    }

    pub async fn attach(&self, request: AttachRequest) -> Result<Attached, AttachError> {
        let endpoint_and_note = {
            let _turn = self.turn.lock().await;
            self.attach_in_turn(&request).await?
        };
        let (endpoint, mut note) = endpoint_and_note;
        let (mut in_force, mut missing) = (Vec::new(), Vec::new());
        if let Some(revision) = endpoint.placed {
            match self.api.wait_in_force(revision, PLACEMENT_DEADLINE).await {
                Ok(answer) => (in_force, missing) = (answer.in_force, answer.missing),
                Err(error) => note = Some(format!("whether other nodes know the placement is unknown: {error}")),
            }
        }
        Ok(Attached { endpoint, in_force, missing, note })
    }

    async fn attach_in_turn(&self, request: &AttachRequest) -> Result<(Endpoint, Option<String>), AttachError> {
        let netns = request.netns.id()?;
        self.refuse_netns(netns).await?;
        let without_v6 = self.links.without_v6(&request.netns, self.mtu).await?;
        let mut placed = self.place(request, without_v6.is_some()).await?;
        placed.add_note(without_v6);
        match self.build(request, netns, &placed).await {
            Ok(endpoint) => {
                self.listeners.open(&endpoint, &request.netns).await;
                Ok((endpoint, placed.note))
            }
            Err(error) => {
                // What nobody uses is given back; the comparison with the endpoints does it if this call cannot.
                if placed.revision.is_some() {
                    for address in placed.pair.addresses() {
                        let _ = self.api.release(address).await;
                    }
                }
                Err(error)
            }
        }
    }

    async fn refuse_netns(&self, netns: NetnsId) -> Result<(), AttachError> {
        if netns == self.own_netns {
            return Err(AttachError::Invalid(
                "this is the node's own network namespace; it is never an endpoint".into(),
            ));
        }
        match self.node.in_netns(netns).await? {
            Some(endpoint) => Err(AttachError::Conflict(format!(
                "the namespace is already attached as {} ({})",
                endpoint.name(),
                endpoint.address
            ))),
            None => Ok(()),
        }
    }

    /// An address and an identity: from the policy API, or without it from what it last said.
    async fn place(&self, request: &AttachRequest, only_v4: bool) -> Result<Placed, AttachError> {
        let wanted = |pair: AddressPair| if only_v4 { pair.without_v6() } else { pair };
        let state = current(&self.state);
        let empty = Replica::default();
        let replica = state.as_deref().map_or(&empty, |(_, replica)| replica);
        let pool = Pool { replica, node: &self.name, slices: self.slices, taken: self.taken().await? };
        let pair = pool.choose(&request.app).ok_or(AttachError::SliceFull(self.slices.slice_v4))?;
        let claim = Claim {
            app: request.app.clone(),
            instance: request.instance,
            addresses: wanted(pair).addresses(),
            labels: request.labels.clone(),
        };
        match self.api.claim(&claim).await {
            Ok(claimed) => Ok(Placed {
                pair: wanted(pair),
                instance: claimed.instance,
                identity: claimed.identity,
                revision: Some(claimed.revision),
                note: None,
            }),
            Err(error @ (ApiError::Problem(_) | ApiError::Config(_))) => Err(AttachError::Refused(error)),
            Err(error @ (ApiError::Unreachable { .. } | ApiError::Busy { .. } | ApiError::Protocol(_))) => {
                debug!(%error, "attaching without the policy API");
                let placed = self.place_alone(request, &pool, pair)?;
                Ok(Placed { pair: wanted(placed.pair), ..placed })
            }
        }
    }

    /// With the policy API gone: an address that is still published for the app on this node, else one that only this node
    /// knows.
    fn place_alone(&self, request: &AttachRequest, pool: &Pool<'_>, fresh: AddressPair) -> Result<Placed, AttachError> {
        let known = pool.replica;
        let app = known.apps.get(&request.app).ok_or_else(|| {
            AttachError::Unknown(format!(
                "the policy API cannot be reached and this node knows nothing of app {}, as no instance here has to do with it; try again when the API is back",
                request.app
            ))
        })?;
        let published = pool.published(&request.app);
        let note = self.note_alone(known, request, published.is_some());
        let live: HashSet<u32> = known
            .bindings
            .values()
            .filter(|binding| binding.app == request.app && binding.is_live())
            .map(|binding| binding.instance)
            .collect();
        // Who comes back to its address is who it was. Of other numbers only those that are taken here are known.
        let again = published.and_then(|pair| known.bindings.get(&IpAddr::from(pair.v4)));
        let again = again.map(|binding| binding.instance).filter(|instance| !live.contains(instance));
        let instance = again.or_else(|| (0..).find(|instance| !live.contains(instance))).unwrap_or(0);
        Ok(Placed {
            pair: published.unwrap_or(fresh),
            instance: request.instance.unwrap_or(instance),
            identity: app.identity,
            revision: None,
            note: Some(note),
        })
    }

    /// What an instance has and lacks that is attached with the policy API gone.
    fn note_alone(&self, known: &Replica, request: &AttachRequest, is_published: bool) -> String {
        let address = if is_published {
            "with an address that is still published for this app"
        } else {
            "with an address that only this node knows, so traffic stays on this node until the API is back"
        };
        let rules = if governed(known, &self.name).contains(&request.app) {
            ""
        } else {
            "; this node does not know all of its rules, as the app never ran here: until the API is back it reaches, and is reached by, the node itself and those apps here that did run here before, as far as rules let it"
        };
        format!("the policy API does not answer: attached {address}{rules}")
    }

    async fn taken(&self) -> Result<HashSet<Ipv4Addr>, AttachError> {
        Ok(self.node.status().await?.endpoints.iter().map(|endpoint| endpoint.address).collect())
    }

    async fn build(&self, request: &AttachRequest, netns: NetnsId, placed: &Placed) -> Result<Endpoint, AttachError> {
        let plan = VethPlan {
            host_name: host_interface_name(placed.pair.v4),
            instance_name: request.interface.clone(),
            addresses: placed.pair.addresses(),
            mtu: self.mtu,
        };
        // The kernel numbers each new interface higher than the last.
        const TRIES: usize = 16;
        for _ in 1..TRIES {
            match self.build_once(request, netns, placed, &plan).await {
                Err(AttachError::Node(NodeError::PlaceTaken { ifindex, by })) => {
                    debug!(ifindex, by, "an interface with another number is made");
                }
                result => return result,
            }
        }
        self.build_once(request, netns, placed, &plan).await
    }

    async fn build_once(
        &self,
        request: &AttachRequest,
        netns: NetnsId,
        placed: &Placed,
        plan: &VethPlan,
    ) -> Result<Endpoint, AttachError> {
        let pair = self.links.create_veth(plan, &request.netns).await?;
        let endpoint = Endpoint {
            app: request.app.clone(),
            instance: placed.instance,
            identity: placed.identity.number(),
            address: placed.pair.v4,
            address_v6: placed.pair.v6,
            host_interface: plan.host_name.clone(),
            ifindex: pair.host.index,
            mac: pair.instance_mac.0,
            // Never repeated by any agent of any time, so that no flow of an earlier attachment lends a verdict.
            generation: random::number::<4>().map(u32::from_ne_bytes).map_err(AttachError::Random)?,
            slot: 0,
            netns,
            interface: plan.instance_name.clone(),
            labels: request.labels.clone(),
            placed: placed.revision,
        };
        if let Err(error) = self.node.add(endpoint.clone()).await {
            self.links.delete(endpoint.ifindex).await?;
            return Err(error.into());
        }
        Ok(endpoint)
    }

    /// Takes the endpoint out of a namespace. Its addresses stay published, for a restart of the app.
    pub async fn detach(&self, netns: &Netns) -> Result<Endpoint, AttachError> {
        let _turn = self.turn.lock().await;
        let not_attached = || AttachError::NotFound("the namespace is not attached on this node".into());
        let endpoint = self.node.in_netns(netns.id()?).await?.ok_or_else(not_attached)?;
        self.listeners.close(endpoint.netns).await;
        let removed = self.node.remove(endpoint.ifindex).await?.ok_or_else(not_attached)?;
        for address in removed.addresses() {
            if let Err(error) = self.api.release(address).await {
                debug!(%error, "the address will be released when the policy API is back");
            }
        }
        Ok(removed)
    }

    /// Compares placements with endpoints for ever: claims what was attached alone, releases what is gone.
    pub async fn settle_for_ever(self: Arc<Self>) {
        let mut tick = interval(SETTLE_EVERY);
        loop {
            tick.tick().await;
            if self.api.is_connected() {
                let _turn = self.turn.lock().await;
                if let Err(error) = self.settle().await {
                    warn!(%error, "placements and endpoints do not agree yet");
                }
            }
        }
    }

    async fn settle(&self) -> Result<(), AttachError> {
        let Some(state) = current(&self.state) else { return Ok(()) };
        let (_, replica) = &*state;
        let endpoints = self.node.status().await?.endpoints;
        for endpoint in &endpoints {
            if !is_placed(replica, &self.name, endpoint) {
                self.claim_for(endpoint).await?;
            }
        }
        for binding in replica.bindings.values().filter(|binding| binding.node == self.name && binding.is_live()) {
            if !endpoints.iter().any(|endpoint| endpoint.addresses().contains(&binding.address)) {
                self.api.release(binding.address).await.map_err(AttachError::Refused)?;
                info!(instance = binding.instance_name(), address = %binding.address, "released an address whose endpoint is gone");
            }
        }
        Ok(())
    }

    async fn claim_for(&self, endpoint: &Endpoint) -> Result<(), AttachError> {
        let claim = Claim {
            app: endpoint.app.clone(),
            instance: Some(endpoint.instance),
            addresses: endpoint.addresses(),
            labels: endpoint.labels.clone(),
        };
        let claimed = self.api.claim(&claim).await.map_err(AttachError::Refused)?;
        self.node.placed(endpoint.ifindex, claimed.revision).await?;
        info!(endpoint = endpoint.name(), address = %endpoint.address, "placed with the policy API");
        Ok(())
    }
}

/// Whether the policy API knows an endpoint, or will once this node has read what it answered.
fn is_placed(replica: &Replica, node: &NodeName, endpoint: &Endpoint) -> bool {
    let answered_later = endpoint.placed.is_some_and(|revision| revision > replica.revision());
    let is_bound = |address| {
        replica.bindings.get(address).is_some_and(|binding| {
            binding.is_live()
                && binding.node == *node
                && binding.app == endpoint.app
                && binding.instance == endpoint.instance
        })
    };
    answered_later || endpoint.addresses().iter().all(is_bound)
}
