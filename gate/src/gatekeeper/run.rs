//! A gatekeeper from its command line to its end: what it is told, its sockets, its authorities, its workers, its successor.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::info;

use super::{
    admin::{self, Admin},
    args::GatekeeperOptions,
    config::Config,
    handover::{self, Predecessor, Sockets},
    judge::{Authorities, Judge},
    listen::{ListenAddress, ListeningSocket},
    metrics::Metrics,
    running::Gatekeeper,
    settings::Settings,
    tls,
    upstream::{UpstreamProtocol, UpstreamSettings},
};
use crate::{
    authority::{Asked, Feed, PolicyApi, Told},
    verdict_cache::VerdictCache,
};

/// Runs a gatekeeper until it is told to stop, or relieved.
///
/// # Errors
///
/// What it is told makes no sense, or something of it is not to be had.
pub fn run(options: GatekeeperOptions) -> Result<()> {
    run_with(options, judge)
}

/// The same, and whom it asks is made by the caller, on the runtime that outlives the workers.
///
/// # Errors
///
/// As for [`run`], and those of whoever makes the judge.
pub fn run_with(
    options: GatekeeperOptions,
    judge: impl FnOnce(&GatekeeperOptions, &Config) -> Result<Arc<dyn Judge>>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let config = Config::read(options.config.as_deref())?;
        let judge = judge(&options, &config)?;
        serve(options, &config, judge).await
    })
}

async fn serve(options: GatekeeperOptions, config: &Config, judge: Arc<dyn Judge>) -> Result<()> {
    let settings = Arc::new(settings(&options, config)?);
    let ready_file = options.ready_file.clone().filter(|_| !settings.ready);
    let metrics = Metrics::new();
    let (sockets, predecessor) = sockets(&options).await?;
    let sockets = Arc::new(sockets);
    let gatekeeper = Gatekeeper::start(settings, &sockets.clients, judge, &metrics).context("start to serve")?;
    if let Some(path) = ready_file {
        tokio::spawn(wait_for_file(path, gatekeeper.readiness()));
    }
    let relieved = take_over(&options, &sockets, predecessor).await?;
    let admin = Admin { metrics, ready: gatekeeper.readiness() };
    let admin = sockets.admin.as_ref().map(|socket| serve_admin(admin, socket)).transpose().context("--admin")?;
    let address = sockets.clients.address().context("--listen")?;
    let listen = address.map_or_else(|| options.listen.to_string(), |address| address.to_string());
    info!(app = options.app, resource = %options.resource, %listen, upstream = %options.upstream, "serving");

    let stop = stop_signal()?;
    let drain = Duration::from_secs(options.drain);
    tokio::select! {
        () = stop => leave(gatekeeper, sockets, Some(drain)).await,
        Ok(()) = relieved => {
            if let Some(admin) = admin {
                admin.abort();
            }
            leave(gatekeeper, sockets, None).await
        }
    }
}

fn settings(options: &GatekeeperOptions, config: &Config) -> Result<Settings> {
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(certificate), Some(key)) => Some(tls::server_config(certificate, key)?),
        _ => None,
    };
    Ok(Settings {
        resource: options.resource.clone(),
        privileges: config.privileges()?,
        upstream: config.upstream(UpstreamSettings {
            protocol: if options.upstream_http2 { UpstreamProtocol::Http2 } else { UpstreamProtocol::Http1 },
            ..UpstreamSettings::of(options.upstream.clone())
        }),
        limits: config.head_limits()?,
        longest_body: config.longest_body(),
        patience: config.patience(),
        pass_authorization: options.pass_authorization,
        access_log: options.access_log.clone(),
        tls,
        threads: options.threads,
        // Before anybody is served: one that takes over from another refuses nobody for an app that has long been ready.
        ready: options.ready_file.as_ref().is_none_or(|file| file.exists()),
    })
}

/// Whom the file names, and the cache before them, which hears of what is pushed.
fn judge(options: &GatekeeperOptions, config: &Config) -> Result<Arc<dyn Judge>> {
    let api = PolicyApi { urls: &options.api, ca: &options.ca, token_file: options.token_file.as_ref() };
    let (app, resource) = (options.app.as_str(), &options.resource);
    let (sections, silence, recorded) = (&config.authority, config.silence(), config.recorded()?);
    let Asked { stack, feed, reports } = Told { app, resource, sections, silence, api, recorded }.open()?;
    let cache = Arc::new(VerdictCache::new(Arc::new(stack)));
    if let Some(feed) = feed {
        tokio::spawn(review(feed, cache.clone()));
    }
    Ok(Arc::new(Authorities::new(cache, Handle::current()).telling(reports)))
}

/// Judges anew what is remembered whenever something was pushed, for ever.
async fn review(feed: Arc<Feed>, cache: Arc<VerdictCache>) {
    let mut told = feed.told();
    while told.changed().await.is_ok() {
        if let Some(state) = feed.last() {
            cache.review(|permit, privilege, _| state.stands(permit, privilege));
        }
    }
}

/// Sockets of systemd, of whoever runs already, or new ones.
async fn sockets(options: &GatekeeperOptions) -> Result<(Sockets, Option<Predecessor>)> {
    let taken = match options.handover.clone() {
        Some(path) => spawn_blocking(move || handover::take(&path)).await?.context("--handover: take over")?,
        None => None,
    };
    let (taken, predecessor) = taken.unzip();
    let (clients, admin) = taken.map_or((None, None), |Sockets { clients, admin }| (Some(clients), admin));
    let clients = match handover::from_systemd().context("LISTEN_FDS")? {
        Some(socket) => Some(socket),
        None => clients.filter(|socket| socket.is_at(&options.listen)),
    };
    let listen = |flag, address: &ListenAddress| {
        ListeningSocket::bind(address).with_context(|| format!("{flag} {address}: listen"))
    };
    let clients = match clients {
        Some(socket) => socket,
        None => listen("--listen", &options.listen)?,
    };
    let admin = match options.admin.map(ListenAddress::Tcp) {
        Some(address) => Some(match admin.filter(|socket| socket.is_at(&address)) {
            Some(socket) => socket,
            None => listen("--admin", &address)?,
        }),
        None => None,
    };
    Ok((Sockets { clients, admin }, predecessor))
}

/// Relieves whoever ran before, and waits to be relieved; for ever where nobody can.
async fn take_over(
    options: &GatekeeperOptions,
    sockets: &Arc<Sockets>,
    predecessor: Option<Predecessor>,
) -> Result<oneshot::Receiver<()>> {
    let Some(path) = options.handover.clone() else { return Ok(nobody()) };
    let sockets = sockets.clone();
    let offered = spawn_blocking(move || {
        if let Some(predecessor) = predecessor {
            predecessor.relieve().context("--handover: relieve the one that runs")?;
        }
        handover::offer(path, sockets).context("--handover: wait for a successor")
    });
    offered.await?
}

/// Never heard of.
fn nobody() -> oneshot::Receiver<()> {
    oneshot::channel().1
}

async fn wait_for_file(path: PathBuf, ready: Arc<AtomicBool>) {
    const EVERY: Duration = Duration::from_millis(50);
    while !is_there(&path).await {
        sleep(EVERY).await;
    }
    ready.store(true, std::sync::atomic::Ordering::Relaxed);
    info!(file = %path.display(), "ready");
}

async fn is_there(path: &Path) -> bool {
    tokio::fs::try_exists(path).await.unwrap_or(false)
}

fn serve_admin(admin: Admin, socket: &ListeningSocket) -> Result<tokio::task::JoinHandle<()>> {
    let listener = std::net::TcpListener::from(OwnedFd::from(socket.share()?));
    Ok(tokio::spawn(admin::serve(admin, TcpListener::from_std(listener)?)))
}

/// Takes nobody in any more, and waits until what is open has ended; longer than is left for it only until another signal.
async fn leave(gatekeeper: Gatekeeper, sockets: Arc<Sockets>, limit: Option<Duration>) -> Result<()> {
    drop(sockets);
    gatekeeper.leave();
    info!("leaving: what is open goes on");
    let ended = async {
        while !gatekeeper.has_ended() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let stop = stop_signal()?;
    tokio::select! {
        _ = timeout(limit.unwrap_or(Duration::MAX), ended) => {}
        () = stop => {}
    }
    gatekeeper.end();
    spawn_blocking(move || gatekeeper.join()).await?;
    info!("stopped");
    Ok(())
}

fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
