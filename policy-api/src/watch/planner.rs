//! The one planner: takes each revision as it is committed and hands every node what it changes for that node, by way of a
//! queue that nobody waits for. Whoever does not keep up loses his watch, and comes back for what he needs then.
//!
//! A thread of its own, because it computes; it reads the store once, and follows it from there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use tokio::{
    runtime::Runtime,
    sync::{
        Semaphore,
        broadcast::{self, error::RecvError},
        mpsc, oneshot, watch,
    },
};
use tracing::{error, warn};

use super::{presence::Presence, stream::stopped};
use crate::{
    model::{Change, Digest, History, NodeName, Revision},
    scope::{Part, Scopes, Watcher},
    store::{Delta, Start, Store, Subscription},
};

/// What changes for a watcher may wait so long until he loses his watch.
const QUEUE: usize = 1024;
/// Scopes that are sent as a whole at once: bounds memory when all nodes come at once.
const AT_ONCE: usize = 32;

/// A way to the planner.
#[derive(Clone, Debug)]
pub struct Planner {
    orders: mpsc::UnboundedSender<Order>,
    planned: Arc<AtomicU64>,
    turns: Arc<Semaphore>,
}

/// What a node holds already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub revision: Revision,
    pub history: History,
    pub digest: Digest,
}

/// What changed for one watcher.
#[derive(Debug)]
pub(super) struct News {
    pub(super) revision: Revision,
    pub(super) part: Part,
}

/// The beginning of a scoped watch.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) watcher: Watcher,
    pub(super) history: History,
    pub(super) revision: Revision,
    pub(super) digest: Digest,
    /// All of the scope; nothing if the watcher holds just that.
    pub(super) whole: Option<Part>,
    pub(super) news: mpsc::Receiver<News>,
}

#[derive(Debug)]
enum Order {
    Open { node: NodeName, place: Option<Place>, reply: oneshot::Sender<Opened> },
    Close { node: NodeName, watcher: Watcher },
}

/// A planner's thread.
pub type Planning = JoinHandle<()>;

impl Planner {
    /// Starts the planner. It ends when told to stop.
    pub fn start(
        store: &Arc<Store>,
        presence: Arc<Presence>,
        stop: watch::Receiver<bool>,
    ) -> std::io::Result<(Self, Planning)> {
        let (orders, receiver) = mpsc::unbounded_channel();
        let planned = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let subscription = subscribe(store);
        let work = Work {
            store: Arc::downgrade(store),
            presence,
            orders: receiver,
            planned: planned.clone(),
            desk: Desk::new(subscription),
        };
        let thread = std::thread::Builder::new().name("watch-planner".to_owned());
        let planning = thread.spawn(move || work.run(&runtime, stop))?;
        Ok((Self { orders, planned, turns: Arc::new(Semaphore::new(AT_ONCE)) }, planning))
    }

    pub(super) async fn open(&self, node: NodeName, place: Option<Place>) -> Option<Opened> {
        let (reply, opened) = oneshot::channel();
        self.orders.send(Order::Open { node, place, reply }).ok()?;
        opened.await.ok()
    }

    pub(super) fn close(&self, node: NodeName, watcher: Watcher) {
        // Where nobody plans any more there is nothing to close.
        let _stopped = self.orders.send(Order::Close { node, watcher });
    }

    /// The last revision whose news are all in their queues.
    pub(super) fn planned(&self) -> Revision {
        Revision(self.planned.load(Ordering::Acquire))
    }

    /// Waited for before a whole scope is asked for, and held until it is sent.
    pub(super) fn turns(&self) -> Arc<Semaphore> {
        self.turns.clone()
    }
}

/// The thread's own.
struct Work {
    store: Weak<Store>,
    presence: Arc<Presence>,
    orders: mpsc::UnboundedReceiver<Order>,
    planned: Arc<AtomicU64>,
    desk: Desk,
}

/// What follows the store.
struct Desk {
    history: History,
    revision: Revision,
    scopes: Scopes,
    deltas: broadcast::Receiver<Arc<Delta>>,
    watchers: HashMap<Watcher, (NodeName, mpsc::Sender<News>)>,
}

fn subscribe(store: &Store) -> Subscription {
    match store.subscribe(None) {
        Ok(subscription) => subscription,
        Err(ahead) => unreachable!("who knows nothing is not ahead: {ahead}"),
    }
}

impl Desk {
    fn new(subscription: Subscription) -> Self {
        let Subscription { history, revision, start, deltas, .. } = subscription;
        let mut scopes = Scopes::default();
        if let Start::Snapshot(items) = start {
            scopes.apply(&items);
        }
        Self { history, revision, scopes, deltas, watchers: HashMap::new() }
    }
}

impl Work {
    fn run(mut self, runtime: &Runtime, mut stop: watch::Receiver<bool>) {
        self.settle();
        runtime.block_on(async {
            loop {
                tokio::select! {
                    biased;
                    () = stopped(&mut stop) => return,
                    delta = self.desk.deltas.recv() => match delta {
                        Ok(delta) => self.plan(&delta),
                        Err(RecvError::Lagged(behind)) => {
                            error!(behind, "the planner of watches is too slow; all of them begin anew");
                            self.begin_anew();
                        }
                        // What is to be followed is another store now, or cannot be heard of for a while; or it is closed.
                        Err(RecvError::Closed) => {
                            if self.begin_anew().is_none() {
                                return;
                            }
                        }
                    },
                    order = self.orders.recv() => match order {
                        Some(order) => self.obey(order),
                        None => return,
                    },
                }
            }
        });
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open { node, place, reply } => {
                // What a watcher holds may be ahead of what was planned so far, but not of what was committed.
                while let Ok(delta) = self.desk.deltas.try_recv() {
                    self.plan(&delta);
                }
                self.open(node, place, reply);
            }
            Order::Close { node, watcher } => self.close(&node, watcher),
        }
    }

    fn open(&mut self, node: NodeName, place: Option<Place>, reply: oneshot::Sender<Opened>) {
        let desk = &mut self.desk;
        let (watcher, whole) = desk.scopes.open(&node);
        let (sender, news) = mpsc::channel(QUEUE);
        let holds_it = |place: &Place| {
            place.history == desk.history && place.digest == whole.digest && place.revision <= desk.revision
        };
        let resumes = place.as_ref().is_some_and(holds_it);
        let opened = Opened {
            watcher,
            history: desk.history.clone(),
            revision: desk.revision,
            digest: whole.digest,
            whole: (!resumes).then_some(whole),
            news,
        };
        self.presence.begin(&node, watcher, desk.revision);
        desk.watchers.insert(watcher, (node.clone(), sender));
        if reply.send(opened).is_err() {
            self.close(&node, watcher);
        }
    }

    fn close(&mut self, node: &NodeName, watcher: Watcher) {
        self.desk.scopes.close(watcher);
        self.desk.watchers.remove(&watcher);
        self.presence.end(node, watcher);
    }

    fn plan(&mut self, delta: &Delta) {
        let desk = &mut self.desk;
        let parts = desk.scopes.apply(&delta.changes);
        desk.revision = delta.revision;
        let touched = parts.iter().filter_map(|(watcher, _)| Some((&desk.watchers.get(watcher)?.0, *watcher)));
        self.presence.plan(delta.revision, touched);
        let removed = delta
            .changes
            .iter()
            .filter_map(|change| if let Change::DeleteNode { name } = change { Some(name) } else { None });
        let removed: Vec<&NodeName> = removed.collect();
        for (watcher, part) in parts {
            let Some((node, queue)) = desk.watchers.get(&watcher) else { continue };
            // One that was removed is told nothing more: what it knew it may go on enforcing, and nobody believes it.
            let is_removed = removed.contains(&node);
            if is_removed || queue.try_send(News { revision: delta.revision, part }).is_err() {
                let node = node.clone();
                warn!(%node, is_removed, "a watcher is removed or too slow, its watch is ended");
                desk.scopes.close(watcher);
                desk.watchers.remove(&watcher);
                self.presence.end(&node, watcher);
            }
        }
        self.settle();
    }

    /// What is planned is in the queues: heartbeats may speak of it.
    fn settle(&self) {
        self.planned.store(self.desk.revision.0, Ordering::Release);
    }

    /// What leads from what we know to what stands is not known to us. All watches end; whoever comes back gets what he needs.
    /// Nothing if the store is gone.
    fn begin_anew(&mut self) -> Option<()> {
        let store = self.store.upgrade()?;
        let ended: Vec<_> = self.desk.watchers.drain().collect();
        for (watcher, (node, _)) in ended {
            self.presence.end(&node, watcher);
        }
        self.desk = Desk::new(subscribe(&store));
        self.presence.plan(self.desk.revision, []);
        self.settle();
        Some(())
    }
}
