//! Attaching and detaching: an address, a placement that the other nodes know, a veth, an endpoint. One at a time, so that
//! no two agree on an address.

use std::{collections::HashSet, net::IpAddr, net::Ipv4Addr, sync::Arc, time::Duration};

use common::Identity;
use policy_api::model::{AppName, Claim, Labels, NodeName, Prefix, Replica, Revision};
use tokio::{sync::Mutex, time::interval};
use tracing::{debug, info, warn};

use crate::{
    endpoint::{Endpoint, choose_address, host_interface_name, published_address},
    link::{
        LinkError, Links, VethPlan,
        netns::{Netns, NetnsId},
    },
    node::{NodeError, NodeHandle, StateReceiver, current},
    random,
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
    slice: Prefix,
    mtu: u32,
    own_netns: NetnsId,
    state: StateReceiver,
    /// Held for the whole of an attachment or detachment.
    turn: Mutex<()>,
}

/// What an attacher works with.
pub struct AttacherParts {
    pub api: Arc<Api>,
    pub node: NodeHandle,
    pub links: Links,
    pub name: NodeName,
    pub slice: Prefix,
    pub mtu: u32,
    pub state: StateReceiver,
}

/// Who the new endpoint is, and what the other nodes know of it.
struct Placed {
    address: Ipv4Addr,
    instance: u32,
    identity: Identity,
    revision: Option<Revision>,
    note: Option<String>,
}

impl Attacher {
    pub fn new(parts: AttacherParts) -> Result<Arc<Self>, LinkError> {
        let AttacherParts { api, node, links, name, slice, mtu, state } = parts;
        let own_netns = Netns::own()?.id()?;
        Ok(Arc::new(Self { api, node, links, name, slice, mtu, own_netns, state, turn: Mutex::new(()) }))
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
        let placed = self.place(request).await?;
        match self.build(request, netns, &placed).await {
            Ok(endpoint) => Ok((endpoint, placed.note)),
            Err(error) => {
                // What nobody uses is given back; the comparison with the endpoints does it if this call cannot.
                if placed.revision.is_some() {
                    let _ = self.api.release(IpAddr::V4(placed.address)).await;
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
    async fn place(&self, request: &AttachRequest) -> Result<Placed, AttachError> {
        let taken = self.taken().await?;
        let replica = current(&self.state);
        let empty = Replica::default();
        let known = replica.as_deref().map_or(&empty, |(_, replica)| replica);
        let address = choose_address(known, &self.name, self.slice, &request.app, &taken)
            .ok_or(AttachError::SliceFull(self.slice))?;
        let claim = Claim {
            app: request.app.clone(),
            instance: request.instance,
            addresses: vec![IpAddr::V4(address)],
            labels: request.labels.clone(),
        };
        match self.api.claim(&claim).await {
            Ok(claimed) => Ok(Placed {
                address,
                instance: claimed.instance,
                identity: claimed.identity,
                revision: Some(claimed.revision),
                note: None,
            }),
            Err(error @ (ApiError::Problem(_) | ApiError::Config(_))) => Err(AttachError::Refused(error)),
            Err(error @ (ApiError::Unreachable { .. } | ApiError::Protocol(_))) => {
                debug!(%error, "attaching without the policy API");
                self.place_alone(request, known, &taken, address)
            }
        }
    }

    /// With the policy API gone: an address that is still published for the app on this node, else one that only this node
    /// knows.
    fn place_alone(
        &self,
        request: &AttachRequest,
        known: &Replica,
        taken: &HashSet<Ipv4Addr>,
        fresh: Ipv4Addr,
    ) -> Result<Placed, AttachError> {
        let app = known.apps.get(&request.app).ok_or_else(|| {
            AttachError::Unknown(format!(
                "the policy API cannot be reached and this node has never heard of app {}, so it has no identity; try again when the API is back",
                request.app
            ))
        })?;
        let published = published_address(known, &self.name, &request.app, taken);
        let note = match published {
            Some(_) => {
                "the policy API cannot be reached: attached with an address that is still published for this app"
            }
            None => {
                "the policy API cannot be reached: attached with an address that only this node knows, so traffic stays on this node until the API is back"
            }
        };
        let live: HashSet<u32> = known
            .bindings
            .values()
            .filter(|binding| binding.app == request.app && binding.is_live())
            .map(|binding| binding.instance)
            .collect();
        let lowest = (0..).find(|instance| !live.contains(instance)).unwrap_or(0);
        Ok(Placed {
            address: published.unwrap_or(fresh),
            instance: request.instance.unwrap_or(lowest),
            identity: app.identity,
            revision: None,
            note: Some(note.into()),
        })
    }

    async fn taken(&self) -> Result<HashSet<Ipv4Addr>, AttachError> {
        Ok(self.node.status().await?.endpoints.iter().map(|endpoint| endpoint.address).collect())
    }

    async fn build(&self, request: &AttachRequest, netns: NetnsId, placed: &Placed) -> Result<Endpoint, AttachError> {
        let plan = VethPlan {
            host_name: host_interface_name(placed.address),
            instance_name: request.interface.clone(),
            address: placed.address,
            mtu: self.mtu,
        };
        let pair = self.links.create_veth(&plan, &request.netns).await?;
        let endpoint = Endpoint {
            app: request.app.clone(),
            instance: placed.instance,
            identity: placed.identity.number(),
            address: placed.address,
            host_interface: plan.host_name,
            ifindex: pair.host.index,
            mac: pair.instance_mac.0,
            // Never repeated by any agent of any time, so that no flow of an earlier attachment lends a verdict.
            generation: random::number::<4>().map(u32::from_ne_bytes).map_err(AttachError::Random)?,
            netns,
            interface: plan.instance_name,
            labels: request.labels.clone(),
            placed: placed.revision,
        };
        if let Err(error) = self.node.add(endpoint.clone()).await {
            self.links.delete(endpoint.ifindex).await?;
            return Err(error.into());
        }
        Ok(endpoint)
    }

    /// Takes the endpoint out of a namespace. Its address stays published, for a restart of the app.
    pub async fn detach(&self, netns: &Netns) -> Result<Endpoint, AttachError> {
        let _turn = self.turn.lock().await;
        let not_attached = || AttachError::NotFound("the namespace is not attached on this node".into());
        let endpoint = self.node.in_netns(netns.id()?).await?.ok_or_else(not_attached)?;
        let removed = self.node.remove(endpoint.ifindex).await?.ok_or_else(not_attached)?;
        if let Err(error) = self.api.release(IpAddr::V4(removed.address)).await {
            debug!(%error, "the address will be released when the policy API is back");
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
            if !endpoints.iter().any(|endpoint| IpAddr::V4(endpoint.address) == binding.address) {
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
            addresses: vec![IpAddr::V4(endpoint.address)],
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
    let known = replica.bindings.get(&IpAddr::V4(endpoint.address)).is_some_and(|binding| {
        binding.is_live()
            && binding.node == *node
            && binding.app == endpoint.app
            && binding.instance == endpoint.instance
    });
    known || answered_later
}
