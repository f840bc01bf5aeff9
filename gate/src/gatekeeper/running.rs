//! A gatekeeper that runs: its workers, and the way to say to them that it is time.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

use super::{
    access_log::AccessLog,
    identity_headers::Names,
    judge::Judge,
    listen::ListeningSocket,
    metrics::Metrics,
    settings::Settings,
    worker::{Phase, Worker, WorkerParts},
};

/// A gatekeeper that runs.
pub struct Gatekeeper {
    phase: watch::Sender<Phase>,
    ready: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    log: AccessLog,
}

impl Gatekeeper {
    /// Begins to serve, on threads of its own.
    ///
    /// # Errors
    ///
    /// The kernel gives no thread, no socket or no file.
    pub fn start(
        settings: Arc<Settings>,
        socket: &ListeningSocket,
        judge: Arc<dyn Judge>,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        let log = AccessLog::open(&settings.access_log, metrics.log_lines_lost.clone())?;
        let (phase, watched) = watch::channel(Phase::Serving);
        let ready = Arc::new(AtomicBool::new(settings.ready));
        let mut workers = Vec::new();
        for number in 0..settings.threads {
            let parts = WorkerParts {
                settings: settings.clone(),
                judge: judge.clone(),
                metrics: metrics.worker(number),
                log: log.worker(),
                names: Names::new().map_err(io::Error::other)?,
                ready: ready.clone(),
                phase: watched.clone(),
            };
            workers.push(start_worker(number, parts, socket.share()?)?);
        }
        Ok(Self { phase, ready, workers, log })
    }

    /// Whether the app behind is ready; until then requests are told to come again.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(crate) fn readiness(&self) -> Arc<AtomicBool> {
        self.ready.clone()
    }

    /// Takes nobody in any more; what is open goes on until it ends.
    pub fn leave(&self) {
        self.phase.send_replace(Phase::Leaving);
    }

    /// Ends whatever is open.
    pub fn end(&self) {
        self.phase.send_replace(Phase::Ended);
    }

    /// Whether all workers have ended.
    pub fn has_ended(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Waits until all workers have ended and the log is written.
    pub fn join(self) {
        for worker in self.workers {
            // A worker that panicked has said so.
            let _ended = worker.join();
        }
        self.log.close();
    }
}

/// Starts a worker, and waits until it listens.
fn start_worker(number: u32, parts: WorkerParts, socket: ListeningSocket) -> io::Result<JoinHandle<()>> {
    let (started, heard) = sync_channel(1);
    let worker = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        runtime.block_on(async move {
            match socket.on_this_runtime() {
                Ok(listener) => {
                    // Who started this waits for it.
                    let _heard = started.send(Ok(()));
                    // It listens as long as somebody has it: when this worker leaves, it has it no more.
                    drop(socket);
                    Worker::new(parts).run(vec![listener]).await;
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
    })?;
    heard.recv().map_err(|_| io::Error::other("the worker ended before it began"))??;
    Ok(worker)
}
