//! Which nodes are there, and what they say they enforce.
//!
//! Soft state: it comes back by itself when the nodes connect and report again. Where several APIs serve one store, each
//! puts up what it knows for the others to see.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    model::{InForce, NodeName, NodeReceipt, Receipt, Report, Revision, Taken, Timestamp},
    scope::Watcher,
    store::{Board, Owes, Sighting},
};

/// All nodes that were seen since the start.
#[derive(Default)]
pub struct Presence {
    nodes: Mutex<Nodes>,
    /// Told of every change that a waiter for a revision may be interested in.
    changed: watch::Sender<()>,
    /// What other APIs see.
    board: Option<Arc<dyn Board>>,
}

#[derive(Debug, Default)]
struct Nodes {
    seen: BTreeMap<NodeName, Seen>,
    /// Everybody was told what this revision changes for him.
    planned: Revision,
}

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Open watches: more than one while a node that lost its connection comes back.
    pub watches: usize,
    pub report: Option<(Report, Timestamp)>,
    /// The newest watch of its scope.
    told: Option<Told>,
    /// What it took that nobody was told of yet, oldest first.
    taken: VecDeque<Took>,
}

/// A node had what these revisions change for it in force by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Took {
    first: Revision,
    last: Revision,
    at: Timestamp,
}

/// What is told apart of what a node took: older ones are taken for one, which is true of all of them, if later than need be.
const MOST_TAKEN: usize = 16;

/// What a node was told by a watch and has not acknowledged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    by: Watcher,
    /// Where the watch began. Until that is acknowledged, what the node enforces is what it says.
    beginning: Option<Revision>,
    /// The revisions that changed something for it, oldest first.
    deltas: VecDeque<Revision>,
    /// The last of them, acknowledged or not, and since when they are all there.
    touched: VecDeque<Revision>,
    all_since: Revision,
}

/// How many revisions that changed something for a node are remembered.
const MOST_TOUCHED: usize = 256;

impl Told {
    fn begun(by: Watcher, beginning: Revision) -> Self {
        let (deltas, touched) = (VecDeque::new(), VecDeque::new());
        Self { by, beginning: Some(beginning), deltas, touched, all_since: beginning }
    }

    fn touch(&mut self, revision: Revision) {
        self.deltas.push_back(revision);
        if self.touched.len() == MOST_TOUCHED {
            self.all_since = self.touched.pop_front().unwrap_or(self.all_since);
        }
        self.touched.push_back(revision);
    }

    /// Whether it is known that a revision changed nothing for the node.
    fn was_untouched_by(&self, revision: Revision) -> bool {
        revision > self.all_since && self.touched.binary_search(&revision).is_err()
    }

    fn acknowledge(&mut self, applied: Revision) {
        self.beginning = self.beginning.filter(|beginning| *beginning > applied);
        while self.deltas.front().is_some_and(|first| *first <= applied) {
            self.deltas.pop_front();
        }
    }

    /// The last revision that is in force where all of this but what is acknowledged is missing. What changed nothing for a
    /// node asks nothing of it: having applied the last revision that did, it enforces every later one up to the next that does.
    fn in_force(&self, planned: Revision) -> Option<Revision> {
        match (self.beginning, self.deltas.front()) {
            (Some(_), _) => None,
            (None, Some(first)) => Some(Revision(first.0.saturating_sub(1))),
            (None, None) => Some(planned),
        }
    }
}

impl Seen {
    pub fn is_connected(&self) -> bool {
        self.watches > 0
    }

    /// With what another API knows: what the node said last counts, wherever it did.
    fn joined(self, other: Sighting) -> Self {
        let watches = self.watches + usize::from(other.connected);
        let time = |report: &Option<(Report, Timestamp)>| report.as_ref().map(|(_, time)| *time);
        let report = if time(&other.report) > time(&self.report) { other.report } else { self.report };
        Self { watches, report, ..self }
    }

    /// What others are to know of it.
    fn sighting(&self) -> Sighting {
        let owes = self.told.as_ref().and_then(|told| match (told.beginning, told.deltas.front()) {
            (Some(_), _) => None,
            (None, Some(first)) => Some(Owes::From(*first)),
            (None, None) => Some(Owes::Nothing),
        });
        Sighting { connected: self.is_connected(), report: self.report.clone(), owes, planned: Revision::default() }
    }

    /// The first revision that it may not have in force.
    fn owes_from(&self) -> Option<Revision> {
        let behind_report = || Some(self.reported().unwrap_or_default().next());
        match &self.told {
            None => behind_report(),
            Some(told) if told.beginning.is_some() => behind_report(),
            Some(told) => told.deltas.front().copied(),
        }
    }

    /// Takes what the node says.
    fn take_report(&mut self, report: Report, now: Timestamp) {
        let (owed, last) = (self.owes_from(), report.applied);
        self.report = Some((report, now));
        self.acknowledge();
        let Some(first) = owed.filter(|first| *first <= last) else { return };
        self.taken.push_back(Took { first, last, at: now });
        if self.taken.len() > MOST_TAKEN
            && let Some(oldest) = self.taken.pop_front()
            && let Some(next) = self.taken.front_mut()
        {
            next.first = oldest.first.min(next.first);
        }
    }

    /// The last revision it reported as wholly applied.
    fn reported(&self) -> Option<Revision> {
        self.report.as_ref().map(|(report, _)| report.applied)
    }

    fn acknowledge(&mut self) {
        if let Some((told, applied)) = self.told.as_mut().zip(self.report.as_ref().map(|(report, _)| report.applied)) {
            told.acknowledge(applied);
        }
    }

    fn in_force(&self, planned: Revision) -> Option<Revision> {
        let reported = self.reported();
        reported.max(self.told.as_ref().filter(|_| reported.is_some()).and_then(|told| told.in_force(planned)))
    }
}

/// An open watch of a node; the node is disconnected when the last one is dropped.
pub struct Connection {
    presence: Arc<Presence>,
    name: NodeName,
}

impl Presence {
    /// Of nodes that may be at other APIs too, if there is a board.
    pub fn shared_by(board: Option<Arc<dyn Board>>) -> Self {
        // One bell for what is seen here and there.
        let changed = board.as_ref().map_or_else(watch::Sender::default, |board| board.changed());
        Self { nodes: Mutex::default(), changed, board }
    }

    /// Notes an open watch.
    pub fn connect(self: &Arc<Self>, name: NodeName) -> Connection {
        self.change(&name, |seen| seen.watches += 1);
        Connection { presence: self.clone(), name }
    }

    /// Notes what a node says.
    pub fn report(&self, name: &NodeName, report: Report, now: Timestamp) {
        self.change(name, |seen| seen.take_report(report, now));
    }

    /// Notes that a node is told its scope as of a revision, and from there on what changes in it.
    pub fn begin(&self, name: &NodeName, by: Watcher, revision: Revision) {
        self.change(name, |seen| {
            seen.told = Some(Told::begun(by, revision));
            seen.acknowledge();
        });
    }

    /// Notes that this watch tells the node nothing any more.
    pub fn end(&self, name: &NodeName, by: Watcher) {
        self.change(name, |seen| seen.told = seen.told.take().filter(|told| told.by != by));
    }

    /// Notes what a revision changes, before anybody is told: something for these, nothing for all others.
    pub fn plan<'a>(&self, revision: Revision, touched: impl IntoIterator<Item = (&'a NodeName, Watcher)>) {
        let mut nodes = self.lock();
        for (name, by) in touched {
            let Some(seen) = nodes.seen.get_mut(name) else { continue };
            if let Some(told) = seen.told.as_mut().filter(|told| told.by == by) {
                told.touch(revision);
                if let Some(board) = &self.board {
                    board.post(name, seen.sighting());
                }
            }
        }
        nodes.planned = revision;
        // Behind what it changes for whom: who hears of this has heard of that.
        self.board.iter().for_each(|board| board.post_planned(revision));
        drop(nodes);
        self.changed.send_replace(());
    }

    /// What is known of a node, here and at other APIs.
    pub fn seen(&self, name: &NodeName) -> Seen {
        let nodes = self.lock();
        self.seen_among(&nodes, name)
    }

    fn seen_among(&self, nodes: &Nodes, name: &NodeName) -> Seen {
        let here = nodes.seen.get(name).cloned().unwrap_or_default();
        self.others(name).into_iter().fold(here, Seen::joined)
    }

    fn is_connected_among(&self, nodes: &Nodes, name: &NodeName) -> bool {
        nodes.seen.get(name).is_some_and(Seen::is_connected) || self.others(name).iter().any(|other| other.connected)
    }

    /// What other APIs know of a node.
    fn others(&self, name: &NodeName) -> Vec<Sighting> {
        self.board.as_ref().map(|board| board.others(name)).unwrap_or_default()
    }

    /// The node whose clock may be furthest from ours, and by how many milliseconds.
    pub fn worst_clock(&self) -> Option<(NodeName, u64)> {
        let nodes = self.lock();
        let clock = |name: &NodeName| self.seen_among(&nodes, name).report.and_then(|(report, _)| report.clock);
        let known = nodes.seen.keys().filter_map(|name| Some((name.clone(), clock(name)?.most_ms())));
        known.max_by_key(|(_, most_ms)| *most_ms)
    }

    /// The last revision that is in force on a node.
    pub fn applied(&self, name: &NodeName) -> Option<Revision> {
        self.applied_among(&self.lock(), name)
    }

    fn applied_among(&self, nodes: &Nodes, name: &NodeName) -> Option<Revision> {
        let here = nodes.seen.get(name).and_then(|seen| seen.in_force(nodes.planned));
        self.others(name).iter().filter_map(Sighting::in_force).chain(here).max()
    }

    /// Where a revision is in force, among these nodes.
    pub fn in_force(&self, revision: Revision, registered: &[NodeName]) -> InForce {
        let nodes = self.lock();
        let mut answer =
            InForce { revision, complete: true, in_force: Vec::new(), missing: Vec::new(), disconnected: Vec::new() };
        for name in registered {
            let has_it = self.applied_among(&nodes, name).is_some_and(|applied| applied >= revision);
            let list = match self.is_connected_among(&nodes, name) {
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
        let applied = |name: &NodeName| self.applied_among(&nodes, name);
        // Without nodes nobody remembers anything.
        registered.map(applied).try_fold(Revision(u64::MAX), |least, applied| Some(least.min(applied?)))
    }

    /// The first of these nodes that has acknowledged nothing behind a revision.
    pub fn laggard<'a>(&self, revision: Revision, registered: impl Iterator<Item = &'a NodeName>) -> Option<NodeName> {
        let nodes = self.lock();
        let lags = |name: &&NodeName| self.applied_among(&nodes, name) <= Some(revision);
        let mut registered = registered;
        registered.find(lags).cloned()
    }

    /// Takes what nodes took of revisions up to this, and behind what is said of them already: each is told once.
    pub fn take_taken(&self, behind: Revision, up_to: Revision) -> Vec<Taken> {
        let mut all = Vec::new();
        for (name, seen) in &mut self.lock().seen {
            let later = seen.taken.iter().position(|took| took.first > up_to).unwrap_or(seen.taken.len());
            let news = seen.taken.drain(..later).filter(|took| took.last > behind);
            // What is said already is not said again of a node that comes back and takes all of it at once.
            let first = |first: Revision| first.max(behind.next());
            all.extend(news.map(|took| Taken {
                node: name.clone(),
                first: first(took.first),
                last: took.last,
                at: took.at,
            }));
        }
        all
    }

    /// Whether there is some of that.
    pub fn has_taken(&self, behind: Revision, up_to: Revision) -> bool {
        let is_news = |took: &Took| took.last > behind && took.first <= up_to;
        self.lock().seen.values().any(|seen| seen.taken.iter().any(is_news))
    }

    /// Whether one of these nodes is connected and has not got a revision in force. Those at the end of the list that are not
    /// waited for any more are taken off it, so that whoever waits for many may ask with each report.
    pub fn misses_some(&self, revision: Revision, nodes: &mut Vec<NodeName>) -> bool {
        let known = self.lock();
        while let Some(name) = nodes.last() {
            if self.applied_among(&known, name) < Some(revision) && self.is_connected_among(&known, name) {
                return true;
            }
            nodes.pop();
        }
        false
    }

    /// What a revision cut, among these nodes. A node that has it in force has said what it cut.
    pub fn receipt(&self, revision: Revision, registered: &[NodeName]) -> Receipt {
        let nodes = self.lock();
        let mut receipt = Receipt { revision, flows: 0, nodes: Vec::new(), missing: Vec::new() };
        for name in registered {
            let has_it = self.applied_among(&nodes, name).is_some_and(|applied| applied >= revision);
            match self.seen_among(&nodes, name).report.filter(|_| has_it) {
                Some((report, _)) => {
                    // What changed nothing for a node cut nothing there, whatever a later revision cut that it applied since.
                    let told = nodes.seen.get(name).and_then(|seen| seen.told.as_ref());
                    let is_untouched = told.is_some_and(|told| told.was_untouched_by(revision));
                    let cuts = report.cuts.iter().filter(|cut| !is_untouched && cut.covers(revision));
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
        let mut nodes = self.lock();
        let seen = nodes.seen.entry(name.clone()).or_default();
        change(seen);
        if let Some(board) = &self.board {
            // Under the lock, so that what is known last is put up last.
            board.post(name, seen.sighting());
        }
        drop(nodes);
        self.changed.send_replace(());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Nodes> {
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
            clock: None,
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
    fn what_changes_nothing_for_a_node_is_in_force_there_once_it_acknowledged_what_did() {
        let (presence, n1) = (Arc::new(Presence::default()), name("n1"));
        let _connection = presence.connect(n1.clone());
        let mut scopes = crate::scope::Scopes::default();
        let (old, new) = (scopes.open(&n1).0, scopes.open(&n1).0);
        let in_force = || presence.applied(&n1);
        presence.begin(&n1, old, Revision(5));
        presence.plan(Revision(6), []);
        assert_eq!(in_force(), None, "it has said nothing");
        presence.report(&n1, applied(4), Timestamp::now());
        assert_eq!(in_force(), Some(Revision(4)), "where its watch began is not acknowledged");
        presence.report(&n1, applied(5), Timestamp::now());
        assert_eq!(in_force(), Some(Revision(6)));
        presence.plan(Revision(7), [(&n1, old)]);
        presence.plan(Revision(8), []);
        presence.plan(Revision(9), [(&n1, old)]);
        assert_eq!(in_force(), Some(Revision(6)));
        presence.report(&n1, applied(7), Timestamp::now());
        assert_eq!(in_force(), Some(Revision(8)));

        presence.begin(&n1, new, Revision(9));
        presence.plan(Revision(10), [(&n1, old), (&n1, new)]);
        presence.end(&n1, old);
        assert_eq!(in_force(), Some(Revision(7)), "the newer watch counts, and it has just begun");
        presence.report(&n1, applied(10), Timestamp::now());
        presence.plan(Revision(11), []);
        assert_eq!(in_force(), Some(Revision(11)));
        presence.end(&n1, new);
        assert_eq!(in_force(), Some(Revision(10)), "of who does not watch it is only known what he said");
    }

    #[test]
    fn what_a_node_took_is_told_once_and_nothing_of_what_asked_nothing_of_it() {
        let presence = Arc::new(Presence::default());
        let (n1, watcher) = (name("n1"), crate::scope::Scopes::default().open(&name("n1")).0);
        let _open = presence.connect(n1.clone());
        let told = |behind, up_to| {
            let taken = presence.take_taken(Revision(behind), Revision(up_to));
            taken.iter().map(|taken| (taken.first.0, taken.last.0)).collect::<Vec<_>>()
        };
        presence.begin(&n1, watcher, Revision(5));
        presence.report(&n1, applied(5), Timestamp::now());
        assert!(presence.has_taken(Revision(4), Revision(5)) && !presence.has_taken(Revision(5), Revision(9)));
        assert_eq!(told(0, 5), [(1, 5)]);
        presence.plan(Revision(6), []);
        presence.report(&n1, applied(6), Timestamp::now());
        assert!(told(5, 6).is_empty(), "it asked nothing of the node");
        presence.plan(Revision(7), [(&n1, watcher)]);
        presence.plan(Revision(8), [(&n1, watcher)]);
        presence.report(&n1, applied(8), Timestamp::now());
        presence.plan(Revision(9), [(&n1, watcher)]);
        presence.report(&n1, applied(9), Timestamp::now());
        assert_eq!(told(6, 8), [(7, 8)], "what is later is for the next time");
        assert_eq!(told(8, 9), [(9, 9)]);
        assert!(told(0, 9).is_empty(), "once");
        for revision in 10..40 {
            presence.plan(Revision(revision), [(&n1, watcher)]);
            presence.report(&n1, applied(revision), Timestamp::now());
        }
        let all = told(9, 40);
        assert_eq!((all.len(), all[0].0, all[15]), (MOST_TAKEN, 10, (39, 39)), "the oldest are taken for one");
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
    fn what_changed_nothing_for_a_node_cut_nothing_there_whatever_it_applied_since() {
        let presence = Arc::new(Presence::default());
        let (n1, registered) = (name("n1"), [name("n1")]);
        let watcher = crate::scope::Scopes::default().open(&n1).0;
        let _open = presence.connect(n1.clone());
        presence.begin(&n1, watcher, Revision(4));
        presence.report(&n1, applied(4), Timestamp::now());
        presence.plan(Revision(5), []);
        presence.plan(Revision(6), [(&n1, watcher)]);
        let cut = Cut { after: Revision(4), applied: Revision(6), flows: 3 };
        presence.report(&n1, Report { cuts: vec![cut], ..applied(6) }, Timestamp::now());
        assert_eq!(presence.receipt(Revision(5), &registered).flows, 0);
        assert_eq!(presence.receipt(Revision(6), &registered).flows, 3);
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
