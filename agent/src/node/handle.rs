//! How the node is asked, and what it answers. Knows nothing of how the answers come to be.

use std::net::Ipv4Addr;

use common::{Direction, DropReason, event::Counter};
use policy_api::model::{NodeName, Revision};
use tokio::sync::{mpsc, oneshot};

use super::NodeError;
use crate::{
    datapath::{DatapathError, Lost, Outcome},
    endpoint::Endpoint,
    link::netns::NetnsId,
    usage::Accounts,
};

/// What others ask of the node.
pub enum Request {
    /// Programs and guards an endpoint whose host end is still down, then brings it up.
    Add(Box<Endpoint>, oneshot::Sender<Result<(), NodeError>>),
    /// Remembers the revision that placed an endpoint.
    Placed(u32, Revision),
    /// Takes an endpoint out of the datapath; its veth is deleted first.
    Remove(u32, oneshot::Sender<Result<Option<Endpoint>, NodeError>>),
    Status(oneshot::Sender<Status>),
    Counters(oneshot::Sender<Result<Counted, DatapathError>>),
    Usage(oneshot::Sender<Result<Accounts, DatapathError>>),
    EventsLost(oneshot::Sender<Result<u64, DatapathError>>),
}

/// What the node is doing.
#[derive(Clone, Debug)]
pub struct Status {
    pub node: NodeName,
    pub revision: Option<Revision>,
    pub epoch: u32,
    pub ready: bool,
    pub detail: Option<String>,
    pub endpoints: Vec<Endpoint>,
    pub rows_used: usize,
    pub rows_capacity: u32,
    /// Attachments that were found missing and repaired.
    pub repairs: u64,
    /// Who wraps what is sent to other nodes: programs, or the VXLAN device.
    pub tunnel: &'static str,
    /// Addresses of endpoints that are closed because a deny did not fit.
    pub closed: Vec<Ipv4Addr>,
}

/// What the programs counted.
#[derive(Clone, Debug)]
pub struct Counted {
    pub outcomes: Vec<Outcome>,
    pub lost: Lost,
}

impl Counted {
    /// Each outcome, summed over the endpoints; also those that never happened.
    pub fn totals(&self) -> Vec<(Direction, Option<DropReason>, Counter)> {
        let mut totals: Vec<(Direction, Option<DropReason>, Counter)> = Vec::new();
        for Outcome { direction, dropped, counter, .. } in &self.outcomes {
            match totals.iter_mut().find(|total| (total.0, total.1) == (*direction, *dropped)) {
                Some((_, _, total)) => {
                    total.packets += counter.packets;
                    total.bytes += counter.bytes;
                }
                None => totals.push((*direction, *dropped, *counter)),
            }
        }
        totals
    }
}

/// A way to ask the node.
#[derive(Clone)]
pub struct NodeHandle(pub(super) mpsc::Sender<Request>);

impl NodeHandle {
    pub async fn add(&self, endpoint: Endpoint) -> Result<(), NodeError> {
        self.ask(|reply| Request::Add(Box::new(endpoint), reply)).await?
    }

    pub async fn placed(&self, ifindex: u32, revision: Revision) -> Result<(), NodeError> {
        self.0.send(Request::Placed(ifindex, revision)).await.map_err(|_| NodeError::Stopping)
    }

    pub async fn remove(&self, ifindex: u32) -> Result<Option<Endpoint>, NodeError> {
        self.ask(|reply| Request::Remove(ifindex, reply)).await?
    }

    pub async fn status(&self) -> Result<Status, NodeError> {
        self.ask(Request::Status).await
    }

    pub async fn counters(&self) -> Result<Counted, NodeError> {
        Ok(self.ask(Request::Counters).await??)
    }

    /// Events that were not told since the maps were made.
    pub async fn events_lost(&self) -> Result<u64, NodeError> {
        Ok(self.ask(Request::EventsLost).await??)
    }

    /// What each rule let pass here.
    pub async fn usage(&self) -> Result<Accounts, NodeError> {
        Ok(self.ask(Request::Usage).await??)
    }

    pub async fn in_netns(&self, netns: NetnsId) -> Result<Option<Endpoint>, NodeError> {
        Ok(self.status().await?.endpoints.into_iter().find(|endpoint| endpoint.netns == netns))
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, NodeError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.map_err(|_| NodeError::Stopping)?;
        answer.await.map_err(|_| NodeError::Stopping)
    }
}
