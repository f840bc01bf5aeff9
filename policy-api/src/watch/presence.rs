//! Which nodes are there, and what they say they enforce.
//!
//! Soft state: it comes back by itself when the nodes connect and report again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::model::{InForce, NodeName, NodeReceipt, Receipt, Report, Revision, Timestamp};

/// All nodes that were seen since the start.
#[derive(Debug, Default)]
pub struct Presence {
    nodes: Mutex<BTreeMap<NodeName, Seen>>,
    /// Told of every change that a waiter for a revision may be interested in.
    changed: watch::Sender<()>,
}

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Open watches: more than one while a node that lost its connection comes back.
    pub watches: usize,
    pub report: Option<(Report, Timestamp)>,
}

impl Seen {
    pub fn is_connected(&self) -> bool {
        self.watches > 0
    }

    /// The last revision it reported as wholly applied.
    pub fn applied(&self) -> Option<Revision> {
        self.report.as_ref().map(|(report, _)| report.applied)
    }
}

/// An open watch of a node; the node is disconnected when the last one is dropped.
#[derive(Debug)]
pub struct Connection {
    presence: Arc<Presence>,
    name: NodeName,
}

impl Presence {
    /// Notes an open watch.
    pub fn connect(self: &Arc<Self>, name: NodeName) -> Connection {
        self.change(&name, |seen| seen.watches += 1);
        Connection { presence: self.clone(), name }
    }

    /// Notes what a node says.
    pub fn report(&self, name: &NodeName, report: Report, now: Timestamp) {
        self.change(name, |seen| seen.report = Some((report, now)));
    }

    pub fn seen(&self, name: &NodeName) -> Seen {
        self.lock().get(name).cloned().unwrap_or_default()
    }

    /// Where a revision is in force, among these nodes.
    pub fn in_force(&self, revision: Revision, registered: &[NodeName]) -> InForce {
        let nodes = self.lock();
        let mut answer =
            InForce { revision, complete: true, in_force: Vec::new(), missing: Vec::new(), disconnected: Vec::new() };
        for name in registered {
            let seen = nodes.get(name);
            let has_it = seen.and_then(Seen::applied).is_some_and(|applied| applied >= revision);
            let list = match seen.is_some_and(Seen::is_connected) {
                _ if has_it => &mut answer.in_force,
                true => &mut answer.missing,
                false => &mut answer.disconnected,
            };
            list.push(name.clone());
        }
        answer.complete = answer.missing.is_empty();
        answer
    }

    /// The last revision that all of these nodes have acknowledged; nothing if one of them was never heard of.
    pub fn acknowledged<'a>(&self, registered: impl Iterator<Item = &'a NodeName>) -> Option<Revision> {
        let nodes = self.lock();
        let applied = |name: &NodeName| nodes.get(name).and_then(Seen::applied);
        // Without nodes nobody remembers anything.
        registered.map(applied).try_fold(Revision(u64::MAX), |least, applied| Some(least.min(applied?)))
    }

    /// What a revision cut, among these nodes. A node that has it in force has said what it cut.
    pub fn receipt(&self, revision: Revision, registered: &[NodeName]) -> Receipt {
        let nodes = self.lock();
        let mut receipt = Receipt { revision, flows: 0, nodes: Vec::new(), missing: Vec::new() };
        for name in registered {
            let report = nodes.get(name).and_then(|seen| seen.report.as_ref()).map(|(report, _)| report);
            match report.filter(|report| report.applied >= revision) {
                Some(report) => {
                    let cuts = report.cuts.iter().filter(|cut| cut.covers(revision));
                    let flows = cuts.fold(0_u64, |sum, cut| sum.saturating_add(cut.flows));
                    receipt.flows = receipt.flows.saturating_add(flows);
                    receipt.nodes.push(NodeReceipt { node: name.clone(), flows });
                }
                None => receipt.missing.push(name.clone()),
            }
        }
        receipt
    }

    /// Tells of changes from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn change(&self, name: &NodeName, change: impl FnOnce(&mut Seen)) {
        change(self.lock().entry(name.clone()).or_default());
        self.changed.send_replace(());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeName, Seen>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.presence.change(&self.name, |seen| seen.watches = seen.watches.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cut;

    const HISTORY: &str = "00ff00ff00ff00ff";

    fn name(text: &str) -> NodeName {
        text.parse().expect("name")
    }

    fn applied(revision: u64) -> Report {
        let history = HISTORY.parse().expect("history");
        Report {
            history,
            applied: Revision(revision),
            ready: true,
            rows_used: 0,
            rows_capacity: 0,
            detail: None,
            cuts: Vec::new(),
        }
    }

    #[test]
    fn a_revision_is_in_force_when_every_connected_node_says_so() {
        let presence = Arc::new(Presence::default());
        let registered = [name("n1"), name("n2"), name("n3")];
        let _first = presence.connect(name("n1"));
        let second = presence.connect(name("n2"));
        presence.report(&name("n1"), applied(7), Timestamp::now());
        presence.report(&name("n2"), applied(6), Timestamp::now());
        let answer = presence.in_force(Revision(7), &registered);
        assert!(!answer.complete);
        assert_eq!((answer.in_force, answer.missing), (vec![name("n1")], vec![name("n2")]));
        assert_eq!(answer.disconnected, [name("n3")]);
        presence.report(&name("n2"), applied(9), Timestamp::now());
        assert!(presence.in_force(Revision(7), &registered).complete);
        drop(second);
        assert_eq!(presence.in_force(Revision(10), &registered).missing, [name("n1")]);
    }

    #[test]
    fn a_receipt_sums_what_covers_the_revision_and_names_who_was_not_heard_of() {
        let presence = Arc::new(Presence::default());
        let registered = [name("n1"), name("n2"), name("n3")];
        let cut = |after, applied, flows| Cut { after: Revision(after), applied: Revision(applied), flows };
        // n1 took revision 7 together with others, n2 by itself; n3 is silent.
        let one = Report { cuts: vec![cut(3, 5, 9), cut(5, 8, 2)], ..applied(8) };
        let two = Report { cuts: vec![cut(6, 7, 3), cut(7, 9, 4)], ..applied(9) };
        presence.report(&name("n1"), one, Timestamp::now());
        presence.report(&name("n2"), two, Timestamp::now());
        let receipt = presence.receipt(Revision(7), &registered);
        let flows: Vec<u64> = receipt.nodes.iter().map(|node| node.flows).collect();
        assert_eq!((receipt.flows, flows, receipt.missing), (5, vec![2, 3], vec![name("n3")]));
        let later = presence.receipt(Revision(9), &registered);
        assert_eq!((later.flows, later.missing), (4, vec![name("n1"), name("n3")]));
    }

    #[test]
    fn a_node_that_comes_back_before_its_old_watch_ends_stays_connected() {
        let presence = Arc::new(Presence::default());
        let old = presence.connect(name("n1"));
        let _new = presence.connect(name("n1"));
        drop(old);
        assert!(presence.seen(&name("n1")).is_connected());
    }
}
