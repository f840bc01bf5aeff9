//! `netpol-api serve`: the store behind HTTPS, from the first connection to the last.

use std::{io, net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use axum_server::{
    Handle,
    accept::Accept,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use hyper_util::rt::TokioTimer;
use socket2::{SockRef, TcpKeepalive};
use time::OffsetDateTime;
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};
use tracing::{error, info, warn};

use crate::{
    broker::{Broker, BrokerError, SignerTiming, keep_rotating},
    challenge::{Challenger, Underlay},
    directory::{Directory, DirectoryError},
    http::{self, Compat, Context, Issuer},
    model::Timestamp,
    oidc::{KeysError, Provider, ProviderConfig},
    store::{DatabaseError, Location, OverlayWish, Retention, Store},
    tls::{Authority, Identifying, TlsError},
    watch::{Planner, Planning, Presence, Timing, note_spread},
};

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    pub store: Location,
    /// As `init` wrote it.
    pub directory: PathBuf,
    /// Names and addresses of ours besides `listen`, `localhost`, `127.0.0.1` and those that `init` was told.
    pub names: Vec<String>,
    pub overlay: OverlayWish,
    /// What it takes for a node to be believed to be at its underlay address.
    pub underlay: Underlay,
    pub heartbeat: Duration,
    /// How much of the past is kept.
    pub retention: Retention,
    /// How long a node's certificate is good for; nodes renew theirs long before.
    pub certificate_lifetime: Duration,
    /// How long a key of the signer of identity tokens signs.
    pub signer_lifetime: Duration,
    /// How many requests each caller may make.
    pub requests_per_second: NonZeroU32,
    /// Who vouches for users besides our own tokens.
    pub provider: Option<ProviderConfig>,
    /// Whether Cloud Foundry's paths are served, too.
    pub cf_compat: Option<Compat>,
}

/// What keeps us from serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Store(#[from] DatabaseError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot read the keys of the OpenID provider: {0}")]
    Provider(#[from] KeysError),
    #[error(transparent)]
    Broker(BrokerError),
    #[error("cannot start the planner of watches: {0}")]
    Planner(io::Error),
}

/// A server that answers.
pub struct Server {
    address: SocketAddr,
    store: Arc<Store>,
    stop: watch::Sender<bool>,
    handle: Handle<SocketAddr>,
    serving: JoinHandle<io::Result<()>>,
    renewing: JoinHandle<()>,
    noting: JoinHandle<()>,
    rotating: JoinHandle<()>,
    planning: Planning,
}

/// How long a reader of a watch may take nothing, and a peer acknowledge nothing, before it is given up: three heartbeats.
const STALL: Duration = Duration::from_secs(15);
/// For the rest of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For requests under way when we stop.
const GRACE: Duration = Duration::from_secs(5);
/// A third of a certificate's life.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);

impl Server {
    /// Opens the store and listens. When this returns, connections are taken.
    pub async fn start(config: ServerConfig) -> Result<Self, ServeError> {
        let authority = Directory::at(&config.directory).authority()?;
        let provider = match config.provider.clone() {
            Some(provider) => Some(Provider::new(provider).await?),
            None => None,
        };
        let store = Arc::new(open(&config).await?);
        let broker = Arc::new(broker(&config, &store).await?);
        let names = names(&config, &store);
        let tls = RustlsConfig::from_config(authority.server(&names, OffsetDateTime::now_utc())?);
        let (listener, address) =
            listen(config.listen).map_err(|source| ServeError::Listen { address: config.listen, source })?;

        let (stop, stopped) = watch::channel(false);
        let timing = Timing { heartbeat: config.heartbeat, stall: STALL };
        let challenger = Challenger::new(&authority, config.underlay);
        let issuer = Issuer { authority: authority.clone(), challenger, lifetime: config.certificate_lifetime };
        let presence = Arc::new(Presence::shared_by(store.board()));
        let planner = Planner::start(&store, presence.clone(), stopped.clone());
        let (planner, planning) = planner.map_err(ServeError::Planner)?;
        let rotating = tokio::spawn(keep_rotating(broker.clone(), stopped.clone()));
        let noting = tokio::spawn(note_spread(store.clone(), presence.clone(), stopped.clone()));
        let limit = config.requests_per_second;
        let context = Context::new(broker, presence, planner, timing, issuer, limit, stopped);
        let router = http::router(context.believing(provider), config.cf_compat.as_ref());
        let handle = Handle::new();
        let server = axum_server::from_tcp(listener).map_err(|source| ServeError::Listen { address, source })?;
        let mut server = server
            .acceptor(Identifying(RustlsAcceptor::new(tls.clone()).acceptor(Prompt)))
            .handle(handle.clone())
            .http1_only();
        server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        let serving = tokio::spawn(server.serve(router.into_make_service_with_connect_info::<SocketAddr>()));
        let renewing = tokio::spawn(renew(authority, names, tls));
        info!(%address, revision = %store.read(|state| state.revision()), "serving");
        Ok(Self { address, store, stop, handle, serving, renewing, noting, rotating, planning })
    }

    /// Where we listen, with the port that was found if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when serving ended without being asked to.
    pub async fn failed(&mut self) -> io::Error {
        tokio::select! {
            ended = &mut self.serving => match ended {
                Ok(Ok(())) => io::Error::other("the server ended"),
                Ok(Err(error)) => error,
                Err(panic) => io::Error::other(panic),
            },
            // What it was doing is unknown: better to be started anew from what is on disk.
            () = self.store.stopped() => io::Error::other("the store's writer ended"),
        }
    }

    /// Ends watches, finishes requests under way, closes the store.
    pub async fn stop(self) {
        self.renewing.abort();
        self.stop.send_replace(true);
        self.handle.graceful_shutdown(Some(GRACE));
        if let Err(failure) = self.serving.await {
            error!(error = %failure, "the server did not end well");
        }
        // They were told to stop, and a panic of one was reported when it happened.
        let _reported = (self.planning.join(), self.noting.await, self.rotating.await);
        // Connections that outlived their grace may hold the store a moment longer; all that was answered is on disk anyway.
        if let Some(store) = Arc::into_inner(self.store) {
            store.close();
        }
        info!("stopped");
    }
}

/// Opening waits for the disk or the network.
async fn open(config: &ServerConfig) -> Result<Store, ServeError> {
    let (location, overlay, retention) = (config.store.clone(), config.overlay, config.retention);
    let opening = tokio::task::spawn_blocking(move || Store::open_keeping(&location, overlay, retention)).await;
    Ok(opening.map_err(|panic| ServeError::Listen { address: config.listen, source: io::Error::other(panic) })??)
}

/// The broker of the store, with a key to sign with: the first one is made here.
async fn broker(config: &ServerConfig, store: &Arc<Store>) -> Result<Broker, ServeError> {
    let directory = Directory::at(&config.directory);
    let seal = directory.seal_key(store.read(|state| !state.replica().signer_keys.is_empty()))?;
    let timing = SignerTiming { lifetime: config.signer_lifetime };
    let broker = Broker::new(store.clone(), seal, timing, Arc::new(Timestamp::now)).map_err(|error| match error {
        BrokerError::WrongSeal(key) => DirectoryError::WrongSeal { path: directory.seal_key_path(), key }.into(),
        other => ServeError::Broker(other),
    })?;
    match broker.rotate().await {
        Ok(_) => {}
        // A store that takes no writes now may take them later, and answers until then.
        Err(BrokerError::Store(refusal)) => warn!(error = %refusal, "cannot make a key of the signer yet"),
        Err(other) => return Err(ServeError::Broker(other)),
    }
    Ok(broker)
}

fn names(config: &ServerConfig, store: &Store) -> Vec<String> {
    let own = [config.listen.ip().to_string(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut names: Vec<String> = own.into_iter().chain(config.names.clone()).chain(store.names().to_vec()).collect();
    names.sort();
    names.dedup();
    names
}

fn listen(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Makes a new certificate long before the old one ends; connections that stand keep theirs.
async fn renew(authority: Authority, names: Vec<String>, tls: RustlsConfig) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        match authority.server(&names, OffsetDateTime::now_utc()) {
            Ok(config) => tls.reload_from_config(config),
            Err(failure) => error!(error = %failure, "cannot renew the server's certificate"),
        }
    }
}

/// Takes connections that send at once and do not wait for ever for a peer that is gone.
#[derive(Clone, Copy)]
struct Prompt;

impl<S> Accept<TcpStream, S> for Prompt {
    type Stream = TcpStream;
    type Service = S;
    type Future = std::future::Ready<io::Result<(TcpStream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        std::future::ready(make_prompt(&stream).map(|()| (stream, service)))
    }
}

fn make_prompt(stream: &TcpStream) -> io::Result<()> {
    // A rule's way to the nodes must not wait for a full segment.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // A node that is gone would count as connected, and be waited for, until the kernel gives up: 15 minutes.
    socket.set_tcp_user_timeout(Some(STALL))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(STALL).with_interval(STALL / 3))
}
