//! The outbound side: an explicit proxy beside a client, which says to the right destinations who the client is.
//!
//! A client asks it for `http://DESTINATION/…`; it puts a token on the request if that is a destination of its own, proves before
//! that whoever answers there is whom the token is for (`security.md` 38), and passes on what comes back, streams and changes
//! of protocol included. Tokens are fetched ahead (`token`) from where the client is known (`source`). Towards its clients it
//! speaks HTTP/1.1, as clients of proxies do. Knows nothing of packets.

mod child;
mod destination;
mod hop;
mod listen;
mod options;
mod refusal;
mod secret;
mod serve;
mod source;
mod token;
mod upstream;

use std::{collections::BTreeSet, fs, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use policy_api::{jose::believing, model::Audience};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tracing::{info, warn};

use self::{
    child::Environment,
    destination::Proof,
    listen::{Accepted, Listen, Listener},
    options::Settings,
    secret::{Secret, SecretSource},
    serve::{Door, Form, Forwarder, OwnAuthorization},
    source::Source,
    token::Tokens,
    upstream::{Tls, Upstream},
};

pub use self::{options::ForwarderOptions, source::AGENT_LISTENER};

/// What is open may go on for so long after the forwarder was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs a forwarder until it is told to stop, or beside a command until that ends; returns the exit code.
pub fn run(options: ForwarderOptions) -> Result<u8> {
    let settings = Settings::resolve(options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
    runtime.context("start the runtime")?.block_on(run_async(settings))
}

async fn run_async(settings: Settings) -> Result<u8> {
    let source = Arc::new(choose_source(&settings).await?);
    let listen = settings.listen.clone().or_else(|| (!settings.command.is_empty()).then_some(LOCAL));
    let listen = listen.context("--listen: say where clients connect, unix:PATH or ADDR:PORT")?;
    let secret = proxy_secret(&settings, &listen, &source)?;
    let listener = Listener::open(&listen).await.with_context(|| format!("--listen: open {listen:?}"))?;
    let environment = environment(&settings, &listener, secret.as_ref())?;

    let mut tasks = JoinSet::new();
    let audiences: BTreeSet<Audience> = settings.destinations.to.iter().map(|to| to.audience.clone()).collect();
    let tokens = Tokens::keep(audiences, &source, &mut tasks);
    let destinations = Arc::new(settings.destinations.clone());
    let own_authorization =
        if settings.replace_authorization { OwnAuthorization::Replaced } else { OwnAuthorization::Kept };
    let forwarder = Arc::new(Forwarder {
        upstream: Upstream::new(destinations.clone(), source, tls(&settings)?),
        destinations,
        tokens,
        door: secret.map_or(Door::Open, Door::Secret),
        own_authorization,
    });
    info!(%listener, "forwarding");
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(accept(listener, forwarder, stopped));
    let code = match environment {
        Some(environment) => match child::run(&settings.command, &environment).await {
            Ok(code) => code,
            Err((code, why)) => {
                eprintln!("netpol-agent: {why}");
                code
            }
        },
        None => {
            stop_signal().await?;
            0
        }
    };
    stop.send_replace(true);
    let _drained = tokio::time::timeout(DRAIN, serving).await;
    tasks.shutdown().await;
    Ok(code)
}

/// A port that is free, for the command alone.
const LOCAL: Listen = Listen::Tcp(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0));

/// Who says who the client is: what was named, else the node's agent, else what `netpol login` kept.
async fn choose_source(settings: &Settings) -> Result<Source> {
    let secret = match &settings.secret {
        Some(secret) => secret.clone(),
        None if Source::is_instance() => return Ok(Source::Agent(AGENT_LISTENER)),
        None => SecretSource::File(settings.login.clone().context(
            "nobody knows who the client is: this is no instance of netpol's, and no API token is named; use --token-file, NETPOL_TOKEN, --provider or `netpol login`",
        )?),
    };
    let ca_pem = fs::read(&settings.ca).with_context(|| format!("--ca: read {}", settings.ca.display()))?;
    Ok(Source::api(settings.api.clone(), ca_pem, secret))
}

/// What clients of a port have to know. In an instance's namespace who can connect is the instance, as long as nobody else can.
fn proxy_secret(settings: &Settings, listen: &Listen, source: &Source) -> Result<Option<Secret>> {
    let Listen::Tcp(address) = listen else {
        return Ok(settings.proxy_secret.clone());
    };
    let is_namespaced = matches!(source, Source::Agent(_)) && address.ip().is_loopback();
    match &settings.proxy_secret {
        Some(secret) => Ok(Some(secret.clone())),
        None if is_namespaced => Ok(None),
        None if !settings.command.is_empty() => made_up().map(Some),
        None => bail!(
            "--listen: whoever reaches {address} would act as you; listen on unix:PATH, or give clients a secret by --proxy-secret-file"
        ),
    }
}

fn made_up() -> Result<Secret> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).context("randomness for a secret")?;
    Secret::new(&URL_SAFE_NO_PAD.encode(bytes)).context("a secret")
}

/// How the command finds the proxy; none without a command.
fn environment(settings: &Settings, listener: &Listener, secret: Option<&Secret>) -> Result<Option<Environment>> {
    if settings.command.is_empty() {
        return Ok(None);
    }
    let Listener::Tcp(_, address) = listener else {
        bail!("--listen: a command finds the proxy by a URL, and a URL names no Unix socket; leave --listen out");
    };
    let user = secret.map(|secret| format!("netpol:{}@", secret.reveal())).unwrap_or_default();
    let tunnels = !settings.destinations.pass.is_empty();
    Ok(Some(Environment { proxy: format!("http://{user}{address}"), tunnels }))
}

/// Whom destinations are known by, where there are any that TLS proves.
fn tls(settings: &Settings) -> Result<Tls> {
    let is_needed = settings.destinations.to.iter().any(|to| to.proof == Proof::Tls);
    let pem = match fs::read(&settings.tls_ca) {
        Ok(pem) => pem,
        Err(_) if !is_needed => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("--tls-ca: read {}", settings.tls_ca.display())),
    };
    match believing(&pem) {
        Some(config) => Ok(Tls::believing(&config)),
        None if !is_needed => Ok(Tls::of_nobody()),
        None => bail!("--tls-ca: {} holds no certificates that a server could be known by", settings.tls_ca.display()),
    }
}

async fn accept(listener: Listener, forwarder: Arc<Forwarder>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let stopping = stopped.clone();
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(client) => drop(connections.spawn(serve_client(client, forwarder.clone(), stopping.clone()))),
            Err(error) => {
                // Too many descriptors, most likely: those that are open go on.
                warn!(%error, "a client is not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_client(client: Accepted, forwarder: Arc<Forwarder>, mut stopped: watch::Receiver<bool>) {
    let stopping = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
    match client {
        Accepted::Tcp(stream) => serve::serve(forwarder, stream, Form::Absolute, stopping).await,
        Accepted::Unix(stream) => serve::serve(forwarder, stream, Form::AbsoluteOrOrigin, stopping).await,
    }
}

async fn stop_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
