//! How far the policy API carries: a thousand agents, 30,000 apps, 60,000 rules and 100,000 instances against one server and
//! its store, all on this machine. Agents are simulated as far as what they say and hear; they hold and prove what they are
//! told as real ones do, and write it to no kernel.

mod agent;
pub mod apply;
mod cluster;
mod ledger;
mod poll;
mod service;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use policy_api::{
    client::WriteOptions,
    model::{Action, ChangeSet, Ports, Protocol, RuleSpec, Selector},
};
use tokio::task::JoinSet;

use self::{
    agent::Agents,
    ledger::Ledger,
    service::{Engine, Service},
    stage::Stage,
};
use super::{Row, Sorted, Target, end_progress, median, progress};

const BENCH: &str = "control";
const RULES: usize = stage::RULES;
/// Rules in the change set that is timed by itself.
const CHANGE_SET: usize = 10_000;
const WRITES_OF_ONE: usize = 1_000;
const CLIENTS: usize = 64;
const WRITES_OF_EACH: usize = 100;
const IDLE: Duration = Duration::from_secs(20);
/// Until what the start leaves to be written is written: by when each node had it in force.
const SETTLED: Duration = Duration::from_secs(2);
const CHANGES: usize = 100;
const WIDE_CHANGES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// On a store in a file.
pub fn run() -> Result<Vec<Row>> {
    run_on(Engine::File)
}

/// On a store in etcd.
pub fn run_on_etcd() -> Result<Vec<Row>> {
    run_on(Engine::Etcd)
}

fn run_on(engine: Engine) -> Result<Vec<Row>> {
    service::raise_limits()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    runtime.block_on(measure(engine))
}

async fn measure(engine: Engine) -> Result<Vec<Row>> {
    let mut service = Service::prepare(stage::NODES, engine)?;
    service.start().await?;
    let operator = service.operator()?;
    let stage = Stage::set(&service, &operator).await?;
    let mut rows = vec![
        Row::of(BENCH, "10,000 rules in one change set", RULES, "ms", &stage.change_sets)
            .wanting(Target::at_most(median(&stage.change_sets), 1_000.0)),
    ];
    rows.extend(writes(&service).await?);
    // What it took to load is not what it takes to serve.
    service.restart().await?;
    rows.push(Row::of(BENCH, "start of the API", RULES, "ms", &[service.started_in_ms]));

    let ledger = Ledger::new();
    let (started, cpu) = (Instant::now(), service.cpu_seconds()?);
    let mut agents = Agents::start(&service, &stage.proofs, &ledger)?;
    ledger.all_follow(stage::NODES, PATIENCE * 4).await.context("cold start")?;
    let cold = started.elapsed().as_secs_f64();
    let per_agent = ledger.bytes() as f64 / stage::NODES as f64 / 1024.0;
    rows.push(row("cold start of 1,000 agents", "s", &[cold]).wanting(Target::at_most(cold, 10.0)));
    rows.push(row("what an agent is told then", "KiB", &[per_agent]));
    wait_for_all(&service).await?;
    rows.push(row("cold start, the API's CPU", "s", &[service.cpu_seconds()? - cpu]));

    rows.extend(idle(&service, &ledger).await?);
    rows.extend(changes(&service, &ledger, "change in force, two apps", CHANGES, stage::pair).await?);
    rows.extend(changes(&service, &ledger, "change in force, all 1,000 agents", WIDE_CHANGES, stage::everybody).await?);

    let before = ledger.bytes();
    let resumed = Instant::now();
    service.restart().await?;
    // What is in force is also known from what the process before has put up.
    ledger.all_follow(stage::NODES, PATIENCE).await.context("restart")?;
    wait_for_all(&service).await?;
    let resumed = resumed.elapsed().as_secs_f64();
    let told = (ledger.bytes() - before) as f64 / stage::NODES as f64;
    rows.push(row("restart of the API until all agents follow again", "s", &[resumed]));
    rows.push(row("what an agent is told then, with nothing new", "B", &[told]));
    let memory = service.peak_mib()?;
    rows.push(
        row("the API's memory at most, cold start", "MiB", &[service.peak_before_restart.unwrap_or(memory)])
            .wanting(Target::at_most(service.peak_before_restart.unwrap_or(memory), 512.0)),
    );
    rows.push(row("the API's memory at most, restart", "MiB", &[memory]).wanting(Target::at_most(memory, 512.0)));
    agents.stop();
    service.stop()?;
    rows.extend(poll::run(&stage).await?);
    end_progress();
    Ok(rows)
}

fn row(case: &str, unit: &'static str, samples: &[f64]) -> Row {
    Row::of(BENCH, case, RULES, unit, samples)
}

/// Until every agent has everything in force.
async fn wait_for_all(service: &Service) -> Result<()> {
    let operator = service.operator()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let head = operator.status().await?.revision;
        let answer = operator.wait_in_force(head, Duration::from_secs(1)).await?;
        if answer.in_force.len() == stage::NODES {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{} agents have it, {} not", answer.in_force.len(), answer.missing.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One rule a request: by one client, and by many at once.
async fn writes(service: &Service) -> Result<Vec<Row>> {
    let (one, _) = write_all(service, 1, WRITES_OF_ONE).await?;
    let (many, per_commit) = write_all(service, CLIENTS, WRITES_OF_EACH).await?;
    Ok(vec![
        row("writes, one client", "1/s", &[one]),
        row("writes, 64 clients", "1/s", &[many])
            .against("one client", many / one)
            .wanting(Target::at_least(many / one, 3.0)),
        row("writes a commit, 64 clients", "1", &[per_commit]).wanting(Target::at_least(per_commit, 8.0)),
    ])
}

/// Writes in a second, and in a commit.
async fn write_all(service: &Service, clients: usize, each: usize) -> Result<(f64, f64)> {
    let before = service.commits().await?;
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for client in 0..clients {
        let operator = service.operator()?;
        tasks.spawn(async move {
            for number in 0..each {
                let app = |side: usize| stage::app((client * each + number) * 2 + side);
                let spec = allow(app(0).into(), app(1).into(), 9_000 + clients)?;
                operator.put_rule(&spec, &WriteOptions::default()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let commits = service.commits().await? - before;
    let writes = (clients * each) as f64;
    Ok((writes / seconds, writes / commits as f64))
}

/// What it costs that nothing happens.
async fn idle(service: &Service, ledger: &Ledger) -> Result<Vec<Row>> {
    tokio::time::sleep(SETTLED).await;
    let (bytes, commits) = (ledger.bytes(), service.commits().await?);
    let (requests, cpu) = (service.answers().await?, service.cpu_seconds()?);
    tokio::time::sleep(IDLE).await;
    let bytes = (ledger.bytes() - bytes) as f64 / IDLE.as_secs_f64() / stage::NODES as f64;
    let commits = (service.commits().await? - commits) as f64;
    // Those that ask for these figures are not the agents'.
    let requests = (service.answers().await? - requests).saturating_sub(2) as f64;
    let cpu = (service.cpu_seconds()? - cpu) / IDLE.as_secs_f64() * 100.0;
    Ok(vec![
        row("idle, payload an agent is told", "B/s", &[bytes]).wanting(Target::at_most(bytes, 50.0)),
        row("idle, requests and commits", "1", &[requests + commits]).wanting(Target::at_most(requests + commits, 0.0)),
        row("idle, the API's CPU", "%", &[cpu]),
    ])
}

/// From the request until it is in force wherever it changes anything, and until each agent it changes something for has it.
async fn changes(
    service: &Service,
    ledger: &Ledger,
    case: &str,
    times: usize,
    spec: fn(usize) -> Result<RuleSpec>,
) -> Result<Vec<Row>> {
    let operator = service.operator()?;
    let (mut whole, mut each, mut touched) = (Vec::new(), Vec::new(), Vec::new());
    let cpu = service.cpu_seconds()?;
    for number in 0..times {
        progress(format_args!("bench control: {case}, {} of {times}", number + 1));
        let started = Instant::now();
        let rule = operator.put_rule(&spec(number)?, &WriteOptions::default()).await?.rule;
        let answer = operator.wait_in_force(rule.revision, PATIENCE).await?;
        whole.push(started.elapsed().as_secs_f64() * 1e3);
        ensure!(answer.in_force.len() == stage::NODES, "in force on {} nodes", answer.in_force.len());
        let taken = ledger.taken(rule.revision);
        touched.push(taken.len() as f64);
        each.extend(taken.into_iter().map(|at| at.saturating_duration_since(started).as_secs_f64() * 1e3));
        let deletion = operator.delete_rule(rule.id, &WriteOptions::default()).await?;
        operator.wait_in_force(deletion.revision, PATIENCE).await?;
    }
    let p99 = Sorted::new(&whole).at(0.99);
    Ok(vec![
        row(case, "ms", &whole).wanting(Target::at_most(p99, 200.0)),
        row(&format!("{case}: at each agent"), "ms", &each),
        row(
            &format!("{case}: the API's CPU, there and back"),
            "ms",
            &[(service.cpu_seconds()? - cpu) * 1e3 / times as f64],
        ),
        row(&format!("{case}: agents that it changes something for"), "1", &touched),
    ])
}

fn allow(source: Selector, destination: Selector, port: usize) -> Result<RuleSpec> {
    let ports = Ports::from_entries("ports", &[port.to_string()]).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(RuleSpec::new(source, destination, Protocol::Tcp, ports, Action::Allow))
}

fn change_set(create: Vec<RuleSpec>) -> ChangeSet {
    ChangeSet::of_rules(create, Vec::new())
}
