//! `netpol-agent`: one per node. This file is the order in which things come to be.

mod config;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use agent::{
    admin::{self, Admin},
    attach::{Attacher, AttacherParts},
    datapath::{Attachment, Datapath, Hook, Sizes},
    flow::{FlowLog, read_events},
    link::{Links, OverlayDevice, watch_links},
    living::Living,
    names::{MOST_WAITING, name_strangers},
    node::{Node, NodeParts},
    random,
    tokens::Listeners,
    usage::{Told, tell_usage},
    watch::{Api, ApiConfig, Follow, Followed, Keyring, Place, join, send_reports},
};
use anyhow::{Context as _, Result, bail};
use common::{
    event::{REPORT_DROPS, REPORT_FLOWS},
    settings::{DEFAULT_MARK, Quotas, REFUSE, Settings},
};
use policy_api::model::NodeName;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};
use tracing::info;

use config::{Command, Options, RunOptions, Tunnel};

/// The gatekeeper serves an eighth more requests than with the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(Options { command: Command::Run(options) }) => options,
        Ok(Options { command: Command::Gatekeeper(options) }) => return gatekeeper(*options),
        Ok(Options { command: Command::Forwarder(options) }) => {
            config::start_logging(&options.log);
            return ended(gate::forwarder::run(*options));
        }
        Err(error) => {
            eprintln!("netpol-agent: {error:#}");
            return ExitCode::from(2);
        }
    };
    config::start_logging(&options.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("netpol-agent: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(*options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netpol-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn gatekeeper(options: gate::gatekeeper::GatekeeperOptions) -> ExitCode {
    config::start_logging(&options.log);
    match gate::gatekeeper::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netpol-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of what runs beside a command.
fn ended(code: Result<u8>) -> ExitCode {
    code.map_or_else(
        |error| {
            eprintln!("netpol-agent: {error:#}");
            ExitCode::from(125)
        },
        ExitCode::from,
    )
}

async fn run(options: RunOptions) -> Result<()> {
    let name: NodeName = options.node.parse().context("--node")?;
    fs::create_dir_all(&options.state_dir).with_context(|| format!("create {}", options.state_dir.display()))?;
    let _lock = lock(&options.state_dir)?;
    let keyring = Keyring::open(&options.state_dir, name.clone(), api_config(&options)?)?;
    let api = Api::new(&keyring, name.clone())?;
    let links = Links::open()?;
    let Place { joined, renew_in } = join(&keyring, &api, options.underlay, &options.state_dir).await?;

    let uplink = links.with_address(options.underlay).await?;
    let uplink = uplink
        .with_context(|| format!("--underlay: no interface of this node has the address {}", options.underlay))?;
    let mtu = OverlayDevice::mtu_over(&uplink, options.underlay.is_ipv6());
    let overlay = OverlayDevice { name: options.overlay_device.clone(), port: options.overlay_port, mtu };
    let overlay = links.ensure_overlay(&overlay).await?;
    links.ensure_instance_routing().await?;

    let sizes = Sizes { rows: options.rows, flows: options.flows, placements: options.placements };
    let mut datapath = Datapath::open(options.bpffs.clone(), &sizes)?;
    info!(way = %datapath.attach_by(options.attach)?, "programs are attached");
    datapath.set_settings(&settings(&datapath, &options, overlay.index, mtu)?)?;
    datapath.start_sweep()?;
    let events = datapath.take_events()?;
    let living = Living::new(datapath.flows.values()?);

    let fixed = vec![
        Attachment { hook: Hook::ToUnderlay, interface: uplink.name.clone(), ifindex: uplink.index },
        Attachment { hook: Hook::FromUnderlay, interface: uplink.name, ifindex: uplink.index },
        Attachment { hook: Hook::FromOverlay, interface: overlay.name, ifindex: overlay.index },
    ];
    let (follow, Followed { state, clock }) = Follow::resume(api.clone(), &options.state_dir)?;
    let parts = NodeParts {
        name: name.clone(),
        datapath,
        links: links.clone(),
        fixed,
        overlay: joined.overlay,
        uplink: (options.tunnel == Tunnel::Auto).then_some(uplink.index),
        rows_capacity: options.rows,
        clock,
    };
    let (node, reports) = Node::adopt(parts, &options.state_dir).await?;
    let (node, run_node) = node.start(state.clone(), watch_links()?);

    let flows = FlowLog::new();
    let kernel = links.clone();
    let (strangers, waiting) = mpsc::channel(MOST_WAITING);
    let listeners = Listeners::new(api.clone(), state.clone());
    let attacher = Attacher::new(AttacherParts {
        api: api.clone(),
        node: node.clone(),
        links,
        name,
        slices: joined.node.slices,
        mtu,
        state: state.clone(),
        listeners: listeners.clone(),
    })?;
    let mut background = JoinSet::new();
    background.spawn(run_node);
    background.spawn(follow.run());
    background.spawn(keyring.renew(renew_in, api.connection()));
    background.spawn(send_reports(api.clone(), reports));
    background.spawn(read_events(events, state, node.clone(), flows.clone(), joined.overlay, strangers));
    background.spawn(name_strangers(api.clone(), waiting, flows.clone()));
    background.spawn(attacher.clone().settle_for_ever());
    background.spawn(listeners.clone().tend_for_ever(node.clone()));
    background.spawn(tell_usage(api.clone(), node.clone(), Told::resume(&options.state_dir)?, living));
    say_when_ready(node.clone());
    let admin = Admin { attacher, node, flows, api, listeners };
    tokio::select! {
        served = admin::serve(admin, options.socket.clone(), stop_signal()?) => {
            served.with_context(|| format!("serve {}", options.socket.display()))?;
        }
        // Half an agent would look like a whole one: better to be started anew, while everything stays in force.
        ended = background.join_next() => bail!("a part of the agent ended: {ended:?}"),
        () = kernel.lost() => bail!("the kernel cannot be asked for interfaces any more"),
    }
    background.shutdown().await;
    info!("stopped; everything stays in force");
    Ok(())
}

/// One agent per state directory: two would undo each other's work.
fn lock(directory: &std::path::Path) -> Result<nix::fcntl::Flock<fs::File>> {
    let path = directory.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow::anyhow!("another agent runs with --state-dir {}; stop it first", directory.display()))
}

fn api_config(options: &RunOptions) -> Result<ApiConfig> {
    let read = |flag: &str, path: &PathBuf| fs::read(path).with_context(|| format!("{flag}: read {}", path.display()));
    let ca_pem = read("--ca", &options.ca)?;
    Ok(ApiConfig { urls: options.api.clone(), token_file: options.token_file.clone(), ca_pem })
}

/// Drops that each endpoint may report in a second: more than anybody reads, less than a flood.
const DROP_REPORTS: u32 = 1_000;

/// The programs' settings; the seed stays, so that flows stay.
fn settings(datapath: &Datapath, options: &RunOptions, overlay_ifindex: u32, mtu: u32) -> Result<Settings> {
    let seed = match datapath.settings()?.seed {
        0 => match datapath.inherited_seed()? {
            Some(seed) => seed,
            None => u64::from_ne_bytes(random::number().context("a seed")?),
        },
        seed => seed,
    };
    Ok(Settings {
        underlay: options.underlay.into(),
        seed,
        overlay_ifindex,
        mark: DEFAULT_MARK,
        overlay_port: u32::from(options.overlay_port),
        switches: REPORT_FLOWS | REPORT_DROPS | REFUSE,
        mtu,
        drop_reports: DROP_REPORTS,
        // Until the ways to other nodes are known.
        uplink_ifindex: 0,
        lifetimes: options.lifetimes.lifetimes(),
        quotas: Quotas { unanswered: options.unanswered_flows, answered: options.answered_flows, ..Quotas::default() },
    })
}

fn say_when_ready(node: agent::node::NodeHandle) {
    tokio::spawn(async move {
        while let Ok(status) = node.status().await {
            if status.ready {
                let revision = status.revision.map_or(0, |revision| revision.0);
                info!(node = %status.node, revision, endpoints = status.endpoints.len(), "ready");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
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
