//! What one worker thread has: its own runtime, connections, counters and log, so that a request's way takes no lock that
//! another thread holds.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::rt::Executor;
use tokio::{
    sync::{Notify, watch},
    task::spawn_local,
    time::interval,
};

use super::{
    access_log::WorkerLog, connection, identity_headers::Names, judge::Judge, listen::Listener, metrics::WorkerMetrics,
    settings::Settings, upstream::Upstream, watch::Watch,
};

/// How far a gatekeeper has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// It takes no more connections, and ends when those that are open have.
    Leaving,
    /// It ends now.
    Ended,
}

/// One worker.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) judge: Arc<dyn Judge>,
    pub(crate) watch: Rc<Watch>,
    pub(crate) upstream: Rc<Upstream>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) log: WorkerLog,
    pub(crate) names: RefCell<Names>,
    pub(crate) ready: Arc<AtomicBool>,
    phase: watch::Receiver<Phase>,
    open: Cell<usize>,
    closed: Notify,
}

/// What a worker is made of.
pub(crate) struct WorkerParts {
    pub(crate) settings: Arc<Settings>,
    pub(crate) judge: Arc<dyn Judge>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) log: WorkerLog,
    pub(crate) names: Names,
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Counts a connection as long as it is open.
pub(crate) struct Open(Rc<Worker>);

/// Runs what hyper spawns on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

/// How often lines of the log are handed over when there are few, and connections closed that are of no use.
const TENDED: Duration = Duration::from_millis(200);

impl Worker {
    pub(crate) fn new(parts: WorkerParts) -> Rc<Self> {
        let WorkerParts { settings, judge, metrics, log, names, ready, phase } = parts;
        let watch = Watch::new(judge.clone(), settings.resource.clone());
        let upstream = Upstream::new(settings.upstream.clone(), metrics.all.upstream_connections.clone());
        let (open, closed) = (Cell::new(0), Notify::new());
        Rc::new(Self {
            settings,
            judge,
            watch,
            upstream,
            metrics,
            log,
            names: names.into(),
            ready,
            phase,
            open,
            closed,
        })
    }

    /// Serves what listeners take in, until it has left.
    pub(crate) async fn run(self: Rc<Self>, listeners: Vec<Listener>) {
        spawn_local(self.watch.clone().run());
        spawn_local(tend_for_ever(Rc::downgrade(&self)));
        let accepting = listeners.into_iter().map(|listener| spawn_local(connection::accept(self.clone(), listener)));
        let accepting: Vec<_> = accepting.collect();
        self.reach(Phase::Leaving).await;
        for task in accepting {
            let _ended = task.await;
        }
        self.watch.leave();
        tokio::select! {
            () = self.all_closed() => {}
            () = self.reach(Phase::Ended) => {}
        }
        self.log.flush();
    }

    /// Waits until the gatekeeper has come so far, or farther.
    pub(crate) async fn reach(&self, wanted: Phase) {
        let mut phase = self.phase.clone();
        // Who could say otherwise is gone: then it has ended.
        let _reached = phase.wait_for(|phase| *phase == wanted || *phase == Phase::Ended).await;
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.watch.is_leaving()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn opened(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        self.metrics.all.connections.inc();
        Open(self.clone())
    }

    async fn all_closed(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }
}

async fn tend_for_ever(worker: std::rc::Weak<Worker>) {
    let mut ticks = interval(TENDED);
    loop {
        ticks.tick().await;
        let Some(worker) = worker.upgrade() else { return };
        worker.log.flush();
        worker.upstream.close_idle();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.metrics.all.connections.dec();
        self.0.closed.notify_one();
    }
}

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        spawn_local(async move { drop(future.await) });
    }
}
