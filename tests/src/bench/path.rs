//! What an app feels, between two nodes and on one: latency, connections and throughput through ours, and on the same path
//! through others and through nothing. Everybody is measured in every round of one run, each round in another order.

use anyhow::{Context as _, Result, ensure};
use policy_api::model::{Protocol, RuleSpec};

use super::{
    Row, Target as Wanted,
    clock::peaks,
    end_progress,
    load::{ACCEPT, ECHO, SINK, Services, Target, connect_rate, is_filtered, request_response, stream},
    median,
    operator::{Operator, rule},
    peer::{Backend, Cluster, Filter},
    progress,
};
use crate::world::{Plan, World, instance::Instance, namespace::Namespace};

const RULES: [usize; 3] = [0, 1_000, 10_000];
const ROUNDS: usize = 31;
const METRICS: [(&str, &str); 4] =
    [("request/response", "1/s"), ("round trip", "us"), ("connect rate", "1/s"), ("one stream", "B/s")];
const ROUND_TRIP: usize = 1;
const MEBIBYTE: f64 = 1_048_576.0;
/// Ours adds less than this, if anything: what the ratio of added latencies takes for it at the least.
const RESOLUTION: f64 = 0.5;

/// One round's figures, in the order of the metrics.
type Sample = [f64; METRICS.len()];

/// Where the two containers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    TwoNodes,
    OneNode,
}

pub fn run() -> Result<Vec<Row>> {
    measure("path", Place::TwoNodes)
}

pub fn run_same_node() -> Result<Vec<Row>> {
    measure("same-node", Place::OneNode)
}

/// A way to connect two containers, and who filters on it.
trait Site {
    fn name(&self) -> &'static str;
    fn client(&self) -> &Namespace;
    fn target(&self, place: Place) -> Result<Target<'_>>;
    /// Puts the rules that the load needs in force, and so many others.
    fn set_rules(&mut self, others: usize) -> Result<()>;
    fn filters(&self) -> bool;
}

const OURS: usize = 0;
const PLAIN: usize = 1;

fn sites() -> Result<Vec<Box<dyn Site>>> {
    let peer = |name, filter| -> Result<Box<dyn Site>> {
        Ok(Box::new(Peer { name, cluster: Cluster::start(&name.replace(' ', "-"), filter)?, filter }))
    };
    Ok(vec![
        Box::new(Ours::start()?),
        peer("plain", Filter::None)?,
        peer("iptables-nft", Filter::Iptables(Backend::Nft))?,
        peer("iptables-legacy", Filter::Iptables(Backend::Legacy))?,
        peer("nft-maps", Filter::Maps)?,
    ])
}

fn measure(bench: &'static str, place: Place) -> Result<Vec<Row>> {
    let mut sites = sites()?;
    let services = sites.iter().map(|site| Services::start(site.target(place)?)).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for rules in RULES {
        for (site, services) in sites.iter_mut().zip(&services) {
            progress(format_args!("bench {bench}: {} gets {rules} rules", site.name()));
            site.set_rules(rules).with_context(|| format!("{rules} rules of {}", site.name()))?;
            ensure!(
                is_filtered(site.client(), services)? == site.filters(),
                "{}: the port that no rule allows is not treated as it should be",
                site.name()
            );
        }
        let samples = rounds(bench, rules, &sites, &services).with_context(|| format!("with {rules} rules"))?;
        for (site, own) in sites.iter().zip(&samples) {
            rows.extend((0..METRICS.len()).map(|metric| row(bench, site.name(), rules, metric, own, &samples[PLAIN])));
        }
        let memory: Vec<f64> = peaks("netpol-agent")?.into_iter().map(|bytes| bytes as f64 / MEBIBYTE).collect();
        rows.push(Row::of(bench, "memory of an agent at most, ours", rules, "MiB", &memory));
        rows.extend(comparisons(bench, place, rules, &sites, &samples));
    }
    end_progress();
    for (site, services) in sites.iter().zip(services) {
        services.stop(site.target(place)?)?;
    }
    Ok(rows)
}

/// All figures of every site, round by round.
fn rounds(bench: &str, rules: usize, sites: &[Box<dyn Site>], services: &[Services]) -> Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::with_capacity(ROUNDS); sites.len()];
    for round in 0..ROUNDS {
        progress(format_args!("bench {bench}: {rules} rules, round {} of {ROUNDS}", round + 1));
        for (site, sample) in samples.iter_mut().zip(self::round(round, sites, services)?) {
            site.push(sample);
        }
    }
    Ok(samples)
}

fn round(round: usize, sites: &[Box<dyn Site>], services: &[Services]) -> Result<Vec<Sample>> {
    let mut samples = vec![[0.0; METRICS.len()]; sites.len()];
    for (first, load) in [(0, latency as Load), (2, connections), (3, throughput)] {
        for turn in 0..sites.len() {
            // Who goes first changes, and the direction too, so that drift hits all alike.
            let forth = (round + turn) % sites.len();
            let i = if round.is_multiple_of(2) { forth } else { sites.len() - 1 - forth };
            let figures = load(sites[i].client(), &services[i])
                .with_context(|| format!("{} of {}", METRICS[first].0, sites[i].name()))?;
            samples[i][first..first + figures.len()].copy_from_slice(&figures);
        }
    }
    Ok(samples)
}

type Load = fn(&Namespace, &Services) -> Result<Vec<f64>>;

fn latency(client: &Namespace, services: &Services) -> Result<Vec<f64>> {
    Ok(request_response(client, services.at(ECHO))?.to_vec())
}

fn connections(client: &Namespace, services: &Services) -> Result<Vec<f64>> {
    Ok(vec![connect_rate(client, services.at(ACCEPT))?])
}

fn throughput(client: &Namespace, services: &Services) -> Result<Vec<f64>> {
    Ok(vec![stream(client, services.at(SINK))?])
}

fn column(samples: &[Sample], metric: usize) -> Vec<f64> {
    samples.iter().map(|sample| sample[metric]).collect()
}

/// The median over the rounds of how one does against another in the same round; above 1 is better.
fn ratio(own: &[Sample], other: &[Sample], metric: usize) -> f64 {
    let pairs = own.iter().zip(other).map(|(own, other)| match metric {
        ROUND_TRIP => other[metric] / own[metric],
        _ => own[metric] / other[metric],
    });
    median(&pairs.collect::<Vec<_>>())
}

/// Microseconds that a round trip takes more than through nothing, as the median over the rounds.
fn added(own: &[Sample], plain: &[Sample]) -> Vec<f64> {
    own.iter().zip(plain).map(|(own, plain)| own[ROUND_TRIP] - plain[ROUND_TRIP]).collect()
}

fn row(bench: &'static str, site: &str, rules: usize, metric: usize, own: &[Sample], plain: &[Sample]) -> Row {
    let (name, unit) = METRICS[metric];
    let row = Row::of(bench, format!("{name}, {site}"), rules, unit, &column(own, metric));
    if site == "plain" {
        return row;
    }
    let ratio = ratio(own, plain, metric);
    let row = row.against("plain", ratio);
    match (site, metric) {
        ("ours", ROUND_TRIP) => row,
        ("ours", 0) => row.wanting(Wanted::at_least(ratio, 1.0)),
        ("ours", _) => row.wanting(Wanted::at_least(ratio, 0.95)),
        _ => row,
    }
}

/// Ours against each peer.
fn comparisons(
    bench: &'static str,
    place: Place,
    rules: usize,
    sites: &[Box<dyn Site>],
    samples: &[Vec<Sample>],
) -> Vec<Row> {
    let ours = added(&samples[OURS], &samples[PLAIN]);
    let mut rows = vec![Row::of(bench, "added latency, ours", rules, "us", &ours)];
    for (site, theirs) in sites.iter().zip(samples).skip(PLAIN + 1) {
        let added = added(theirs, &samples[PLAIN]);
        let times = median(&added) / median(&ours).max(RESOLUTION);
        let latency = Row::of(bench, format!("added latency, {}", site.name()), rules, "us", &added);
        let latency = latency.against("ours", times);
        let is_incumbent = site.name().starts_with("iptables");
        rows.push(match (place, rules) {
            (Place::TwoNodes, 10_000) if is_incumbent => latency.wanting(Wanted::at_least(times, 10.0)),
            _ => latency,
        });
        if place == Place::OneNode {
            for metric in [0, 2, 3] {
                let faster = ratio(&samples[OURS], theirs, metric);
                let name = format!("{}, ours", METRICS[metric].0);
                let row = Row::of(bench, name, rules, METRICS[metric].1, &column(&samples[OURS], metric));
                let row = row.against(site.name(), faster);
                rows.push(if is_incumbent { row.wanting(Wanted::at_least(faster, 1.0)) } else { row });
            }
        }
    }
    rows
}

/// One of the others.
struct Peer {
    name: &'static str,
    cluster: Cluster,
    filter: Filter,
}

impl Site for Peer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn client(&self) -> &Namespace {
        &self.cluster.client
    }

    fn target(&self, place: Place) -> Result<Target<'_>> {
        Ok(match place {
            Place::TwoNodes => self.cluster.server(),
            Place::OneNode => self.cluster.neighbour(),
        })
    }

    fn set_rules(&mut self, others: usize) -> Result<()> {
        self.cluster.set_rules(others)
    }

    fn filters(&self) -> bool {
        self.filter != Filter::None
    }
}

/// Two nodes with the real daemons.
struct Ours {
    world: World,
    client: Instance,
    server: Instance,
    neighbour: Instance,
    others: usize,
}

impl Ours {
    fn start() -> Result<Self> {
        let mut world = World::start(Plan::nodes(&["n1", "n2"]))?;
        let client = world.run_instance("appA", "n1")?;
        let neighbour = world.run_instance("appB", "n1")?;
        let server = world.run_instance("appB", "n2")?;
        let needed = [ECHO, ACCEPT, SINK].map(|port| rule("appA", "appB", Protocol::Tcp, port));
        Operator::new(&world)?.create(&world, &needed.into_iter().collect::<Result<Vec<_>>>()?)?;
        Ok(Self { world, client, server, neighbour, others: 0 })
    }
}

impl Site for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn client(&self) -> &Namespace {
        &self.client.namespace
    }

    fn target(&self, place: Place) -> Result<Target<'_>> {
        let instance = match place {
            Place::TwoNodes => &self.server,
            Place::OneNode => &self.neighbour,
        };
        Ok(Target { namespace: &instance.namespace, address: instance.address()? })
    }

    /// Of 250 other apps to the one that serves, so that both nodes hold them.
    fn set_rules(&mut self, others: usize) -> Result<()> {
        let rules = (self.others..others).map(other_rule).collect::<Result<Vec<_>>>()?;
        self.others = self.others.max(others);
        // A new connection: the API has closed one that was idle for so long.
        Operator::new(&self.world)?.create(&self.world, &rules)
    }

    fn filters(&self) -> bool {
        true
    }
}

fn other_rule(i: usize) -> Result<RuleSpec> {
    let port = u16::try_from(9_000 + i / 250)?;
    rule(&format!("other{}", i % 250), "appB", Protocol::Tcp, port)
}
