//! What changes of policy cut: counted for the receipt of whoever changed it, and idle connections ended.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use common::{Address, Protocol, Side, event::CutFlow};
use policy_api::model::{Cut, Revision};
use tracing::{debug, warn};

use crate::{
    endpoint::Endpoint,
    link::{
        netns::NetnsId,
        socket::{Connection, end_connections},
    },
};

/// The last cuts, oldest first.
#[derive(Debug, Default)]
pub struct Receipts(VecDeque<Cut>);

impl Receipts {
    /// Notes what going from one revision to another cut. A later look at the same revision adds to it.
    pub fn note(&mut self, after: Revision, applied: Revision, flows: &[CutFlow]) {
        // Each flow is counted by the node that its initiator is on.
        let flows = u64::try_from(flows.iter().filter(|flow| flow.is_ours()).count()).unwrap_or(u64::MAX);
        if flows == 0 {
            return;
        }
        match self.0.back_mut() {
            Some(last) if last.applied == applied => last.flows += flows,
            Some(_) | None => self.0.push_back(Cut { after: after.min(applied), applied, flows }),
        }
        if self.0.len() > Cut::MOST {
            self.0.pop_front();
        }
    }

    pub fn list(&self) -> Vec<Cut> {
        self.0.iter().copied().collect()
    }
}

/// Ends the TCP connections of these flows at this node's instances, in the background: enforcement does not wait for it.
pub fn end_in_background<'a>(flows: &[CutFlow], endpoints: impl Iterator<Item = &'a Endpoint>) {
    let netns: HashMap<Address, NetnsId> = endpoints
        .flat_map(|endpoint| endpoint.addresses().into_iter().map(|ip| (Address::from(ip), endpoint.netns)))
        .collect();
    let mut connections: HashMap<NetnsId, Vec<Connection>> = HashMap::new();
    for flow in flows.iter().filter(|flow| flow.tuple().protocol() == Some(Protocol::Tcp)) {
        for side in [Side::Low, Side::High] {
            let end = |side| SocketAddr::new(flow.tuple().address(side).ip(), flow.tuple().port(side));
            if let Some(netns) = netns.get(&flow.tuple().address(side)) {
                let connection = Connection { own: end(side), other: end(side.other()) };
                connections.entry(*netns).or_default().push(connection);
            }
        }
    }
    for (netns, connections) in connections {
        tokio::spawn(async move {
            match end_connections(netns, connections).await {
                Ok(ended) => debug!(ended, "connections that policy cut are ended"),
                Err(error) => warn!(%error, "connections that policy cut are not ended; what they send is refused"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::{
        Entry, Tuple,
        conntrack::{Traffic, Word},
        settings::Ticks,
    };

    fn flow(ours: bool) -> CutFlow {
        let tuple = Tuple::from_bytes(&[1; 40]);
        CutFlow::new(&tuple, &Entry::new(Word::from_raw(1), Side::Low, ours, Ticks(0), 1, Traffic::default()))
    }

    #[test]
    fn a_receipt_counts_the_flows_that_began_here_and_says_for_which_revisions() {
        let mut receipts = Receipts::default();
        receipts.note(Revision(3), Revision(5), &[flow(true), flow(false), flow(true)]);
        receipts.note(Revision(5), Revision(6), &[flow(false)]);
        receipts.note(Revision(5), Revision(7), &[flow(true)]);
        receipts.note(Revision(7), Revision(7), &[flow(true)]);
        let cut = |after, applied, flows| Cut { after: Revision(after), applied: Revision(applied), flows };
        assert_eq!(receipts.list(), [cut(3, 5, 2), cut(5, 7, 2)]);
    }

    #[test]
    fn the_oldest_receipts_make_room() {
        let mut receipts = Receipts::default();
        for revision in 0..100 {
            receipts.note(Revision(revision), Revision(revision + 1), &[flow(true)]);
        }
        let list = receipts.list();
        assert_eq!((list.len(), list[0].after), (Cut::MOST, Revision(36)));
    }
}
