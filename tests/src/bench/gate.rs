//! What a request costs at the gate: the gatekeeper beside nginx with `auth_request` and a cached verdict, and beside itself
//! with nobody who judges. One worker each, on a CPU of its own; what sends and what answers share the other.

mod nginx;
mod ours;
mod wrk;

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{Row, Target, clock::stay_on_cpu, end_progress, median, progress};

use nginx::Nginx;
use ours::{Ours, Way};
use wrk::{Load, Measured};

const BENCH: &str = "gate";
const PAIRS: usize = 15;
/// Long enough that the first requests of each connection are fewer than one in a hundred.
const SECONDS: u32 = 5;
const CONNECTIONS: [u32; 2] = [64, 512];
/// The CPU of whoever is measured, and the one of what sends and answers.
const GATE: usize = 0;
const REST: usize = 1;

const APP: SocketAddr = local(18_081);
const NGINX: SocketAddr = local(18_082);
const OURS: SocketAddr = local(18_083);
const PLAIN: SocketAddr = local(18_084);

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Nginx,
    Ours,
    Plain,
}

const GATES: [(Gate, SocketAddr); 3] = [(Gate::Nginx, NGINX), (Gate::Ours, OURS), (Gate::Plain, PLAIN)];

/// What one gate did in each round.
#[derive(Default)]
struct Rounds {
    throughput: Vec<f64>,
    p99: Vec<f64>,
}

pub fn run() -> Result<Vec<Row>> {
    let directory = Scratch::create()?;
    stay_on_cpu(REST)?;
    let _app = Nginx::app(APP, &directory.0)?;
    stay_on_cpu(GATE)?;
    let _nginx = Nginx::gate(NGINX, APP, &directory.0)?;
    let _ours = Ours::start(Way::Judged, OURS, APP, &directory.0)?;
    let _plain = Ours::start(Way::Plain, PLAIN, APP, &directory.0)?;
    stay_on_cpu(REST)?;
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        rows.extend(compare(connections)?);
    }
    end_progress();
    Ok(rows)
}

fn compare(connections: u32) -> Result<Vec<Row>> {
    let mut rounds: [Rounds; 3] = Default::default();
    for (_, address) in GATES {
        Load { address, connections, seconds: 1 }.run().context("warm up")?;
    }
    for round in 0..PAIRS {
        for step in 0..GATES.len() {
            let index = (round + step) % GATES.len();
            progress(format_args!("bench {BENCH}: {connections} connections, round {} of {PAIRS}", round + 1));
            let Measured { throughput, p99 } = Load { address: GATES[index].1, connections, seconds: SECONDS }.run()?;
            rounds[index].throughput.push(throughput);
            rounds[index].p99.push(p99);
        }
    }
    let [nginx, ours, plain] = rounds;
    Ok(rows(connections, &nginx, &ours, &plain))
}

fn rows(connections: u32, nginx: &Rounds, ours: &Rounds, plain: &Rounds) -> Vec<Row> {
    // The first count bears the plain name, by which others compare.
    let case = |name: &str| match connections {
        64 => name.to_owned(),
        more => format!("{name}, {more} connections"),
    };
    let row = |name: &str, unit, samples: &[f64]| Row::of(BENCH, case(name), 0, unit, samples);
    let faster = ratio(&ours.throughput, &nginx.throughput);
    let sooner = ratio(&nginx.p99, &ours.p99);
    let judging = ratio(&ours.throughput, &plain.throughput);
    vec![
        row("nginx, warm cache throughput", "req/s", &nginx.throughput),
        row("warm cache throughput", "req/s", &ours.throughput)
            .against("nginx", faster)
            .wanting(Target::at_least(faster, 1.0)),
        row("nginx, warm cache p99", "ms", &nginx.p99),
        row("warm cache p99", "ms", &ours.p99).against("nginx", sooner).wanting(Target::at_least(sooner, 1.0)),
        row("judged beside plain throughput", "req/s", &ours.throughput)
            .against("plain", judging)
            .wanting(Target::at_least(judging, 0.9)),
        row("plain throughput", "req/s", &plain.throughput),
    ]
}

/// The median of the rounds' own ratios.
fn ratio(ours: &[f64], others: &[f64]) -> f64 {
    median(&ours.iter().zip(others).map(|(ours, other)| ours / other).collect::<Vec<_>>())
}

/// A directory that goes with this.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Self> {
        let parent = std::env::var_os("NETPOL_SANDBOX_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let path = parent.join(format!("gate-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over is in the sandbox's directory, which goes too.
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}
