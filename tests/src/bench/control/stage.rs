//! What stands when the measuring begins: nodes, apps, rules and instances, the same each time.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use policy_api::{
    client::{Client, ClientConfig, Credentials, WriteOptions},
    model::{AppName, AppSettings, Claim, GroupName, GroupWish, NodeName, RuleSpec, Selector},
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{CHANGE_SET, CLIENTS, allow, change_set, progress, service::Service};

pub(super) const NODES: usize = 1_000;
pub(super) const APPS: usize = 30_000;
pub(super) const RULES: usize = 60_000;
/// Of each node.
const INSTANCES: usize = 100;
/// What each agent says that its maps hold.
pub(super) const ROWS: u64 = 2_097_152;
const PORT: usize = 8_080;

/// What was loaded.
pub(super) struct Stage {
    /// How long each change set of ten thousand rules took, in milliseconds.
    pub(super) change_sets: Vec<f64>,
    pub(super) rules: Vec<RuleSpec>,
    /// The key and the certificate of each node, PEM.
    pub(super) proofs: Vec<String>,
}

pub(super) fn node(number: usize) -> NodeName {
    name(&format!("node{number:04}"))
}

pub(super) fn app(number: usize) -> AppName {
    name(&format!("app{:05}", number % APPS))
}

fn group() -> GroupName {
    name("everywhere")
}

/// A name that is one.
fn name<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| unreachable!("{text}: {error}"))
}

/// The apps of a node's instances.
pub(super) fn apps_of(node: usize) -> impl Iterator<Item = usize> {
    (0..INSTANCES).map(move |instance| (node * INSTANCES + instance) % APPS)
}

/// A rule between two apps, each time of others.
pub(super) fn pair(number: usize) -> Result<RuleSpec> {
    allow(app(number * 37).into(), app(number * 41 + 7_777).into(), 10_000 + number)
}

/// A rule that is about an app of each node.
pub(super) fn everybody(number: usize) -> Result<RuleSpec> {
    allow(Selector::Group(group()), app(number * 53 + 5).into(), 20_000 + number)
}

impl Stage {
    pub(super) async fn set(service: &Service, operator: &Client) -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(1);
        let mut other = || random.usize(0..APPS);
        let rules = (0..RULES).map(|number| allow(app(number).into(), app(other()).into(), PORT + number / APPS));
        let rules: Vec<RuleSpec> = rules.collect::<Result<_>>()?;
        let mut change_sets = Vec::new();
        for (number, part) in rules.chunks(CHANGE_SET).enumerate() {
            progress(format_args!("bench control: rules, {} of {RULES}", number * CHANGE_SET));
            let changes = change_set(part.to_vec());
            let started = Instant::now();
            operator.change(&changes, &WriteOptions::default()).await?;
            change_sets.push(started.elapsed().as_secs_f64() * 1e3);
        }
        let proofs = run_instances(service).await?;
        // One app of each node: the first, or the next where another node has that one, too.
        for number in (0..NODES).map(|node| node * INSTANCES).take(APPS / INSTANCES) {
            let groups = GroupWish::These { groups: [group()].into() };
            let settings = AppSettings { mode: None, groups };
            operator.set_app(&app(number), &settings, &WriteOptions::default()).await?;
        }
        Ok(Self { change_sets, rules, proofs })
    }
}

/// Has each node join and claim addresses for its instances, many nodes at once; returns what they prove themselves by.
async fn run_instances(service: &Service) -> Result<Vec<String>> {
    let turns = Arc::new(Semaphore::new(CLIENTS));
    let mut tasks = JoinSet::new();
    for number in 0..NODES {
        let joining = service.client(Credentials::Token(service.node_token(number)?))?;
        let (ca_pem, turns) = (service.ca()?, turns.clone());
        let url = service.url();
        tasks.spawn(async move {
            let _turn = turns.acquire().await?;
            let underlay = std::net::Ipv4Addr::from(0xC0A8_0001 + u32::try_from(number)?);
            let (identity, joined) = joining.enrol(&node(number), underlay.into()).await?;
            let proof = identity.key_pem() + &joined.certified.context("a certificate")?.certificate;
            let credentials = Credentials::Identity(identity);
            let client = Client::new(ClientConfig { api: vec![url], credentials, ca_pem })?;
            for (host, number) in (1..).zip(apps_of(number)) {
                let address = joined.node.slices.slice_v4.subnet(32, host).context("an address")?.address();
                let (instance, labels) = (None, std::collections::BTreeMap::new());
                client.claim(&Claim { app: app(number), instance, addresses: vec![address], labels }).await?;
            }
            anyhow::Ok((number, proof))
        });
    }
    let mut proofs = std::collections::BTreeMap::new();
    while let Some(node) = tasks.join_next().await {
        proofs.extend([node??]);
        progress(format_args!("bench control: instances of {} nodes", proofs.len()));
    }
    Ok(proofs.into_values().collect())
}
