//! What it takes to make ten thousand rules stand from a file: the real `netpol apply` against the real API, over TLS, beside
//! the one request without which it cannot be done.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use policy_api::{
    client::{Client, WriteOptions},
    model::{ChangeSet, RuleFilter, RuleSpec},
    policy::{End, Policy, WantedRule, write},
};

use super::{
    CHANGE_SET, Row, Target, allow, end_progress, median, progress,
    service::{Engine, Service},
};
use crate::world::binary;

const BENCH: &str = "apply";
const ROUNDS: usize = 15;
/// Between so many apps.
const APPS: usize = 2_000;
/// In milliseconds.
const WANTED: f64 = 2_000.0;
const BASELINE: &str = "bare POST";

/// On a store in a file.
pub fn run() -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    runtime.block_on(measure())
}

/// Milliseconds of each round.
#[derive(Default)]
struct Samples {
    post: Vec<f64>,
    apply: Vec<f64>,
    again: Vec<f64>,
    round_trip: Vec<f64>,
}

async fn measure() -> Result<Vec<Row>> {
    let mut service = Service::prepare(0, Engine::File)?;
    service.start().await?;
    let bench = Bench::new(&service)?;
    let mut samples = Samples::default();
    for round in 0..ROUNDS {
        progress(format_args!("bench apply: round {} of {ROUNDS}", round + 1));
        // Each is first as often as the other.
        if round % 2 == 0 {
            samples.post.push(bench.post().await?);
            bench.clear().await?;
        }
        samples.apply.push(bench.netpol("apply -f FILE")?);
        samples.again.push(bench.netpol("apply -f FILE")?);
        samples.round_trip.push(bench.netpol("export | apply")?);
        bench.clear().await?;
        if round % 2 == 1 {
            samples.post.push(bench.post().await?);
            bench.clear().await?;
        }
    }
    end_progress();
    let Samples { post, apply, again, round_trip } = samples;
    let against = |samples: &[f64]| {
        let ratios: Vec<f64> = post.iter().zip(samples).map(|(post, other)| post / other).collect();
        median(&ratios)
    };
    let row = |case: &str, samples: &[f64]| Row::of(BENCH, case, CHANGE_SET, "ms", samples);
    let beside = |case: &str, samples: &[f64]| {
        let most = samples.iter().copied().fold(0.0, f64::max);
        row(case, samples).against(BASELINE, against(samples)).wanting(Target::at_most(most, WANTED))
    };
    Ok(vec![
        row("POST /v1/changes, 10,000 new rules", &post),
        beside("netpol apply -f, 10,000 new rules", &apply),
        beside("netpol apply -f, nothing to change", &again),
        beside("netpol export | netpol apply -f -, nothing to change", &round_trip),
    ])
}

struct Bench {
    operator: Client,
    rules: Vec<RuleSpec>,
    /// What stands before, which stays.
    kept: usize,
    connection: Vec<(&'static str, String)>,
    file: PathBuf,
}

impl Bench {
    fn new(service: &Service) -> Result<Self> {
        let app = |number: usize| super::stage::app(number % APPS);
        let rule = |number: usize| allow(app(number).into(), app(number * 7 + 3).into(), 8_000 + number / APPS);
        let rules: Vec<RuleSpec> = (0..CHANGE_SET).map(rule).collect::<Result<_>>()?;
        let mut policy = Policy::default();
        policy
            .rules
            .extend(rules.iter().map(|spec| (spec.tuple(), WantedRule { spec: spec.clone(), end: End::Never })));
        ensure!(policy.rules.len() == CHANGE_SET, "two of the rules are the same");
        let file = service.path("policy.yaml");
        fs::write(&file, write(&policy)).with_context(|| file.display().to_string())?;
        let of = |name: &str| service.path(name).display().to_string();
        let connection = vec![
            ("NETPOL_API", service.url()),
            ("NETPOL_CA", of("ca.pem")),
            ("NETPOL_TOKEN_FILE", of("operator.token")),
        ];
        Ok(Self { operator: service.operator()?, rules, kept: 1, connection, file })
    }

    /// The change itself, planned by somebody else.
    async fn post(&self) -> Result<f64> {
        let changes = ChangeSet::of_rules(self.rules.clone(), Vec::new());
        let started = Instant::now();
        self.operator.change(&changes, &WriteOptions::default()).await?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    /// A whole run of the command line, with all that it prints.
    fn netpol(&self, line: &str) -> Result<f64> {
        let (netpol, file) = (binary("netpol")?.display().to_string(), self.file.display().to_string());
        let line = match line {
            "export | apply" => format!("{netpol} export | {netpol} apply -f -"),
            line => format!("{netpol} {}", line.replace("FILE", &file)),
        };
        let mut command = Command::new("sh");
        command.args(["-c", &line]).envs(self.connection.iter().cloned()).stdin(Stdio::null());
        let started = Instant::now();
        let output = command.output().context("run netpol")?;
        let elapsed = started.elapsed().as_secs_f64() * 1e3;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{line}: {}: {said}", output.status);
        Ok(elapsed)
    }

    /// Back to what stood before; proves that all of it had stood.
    async fn clear(&self) -> Result<()> {
        let standing = self.operator.list_rules(&RuleFilter::default()).await?.items;
        ensure!(standing.len() == CHANGE_SET + self.kept, "{} rules stand", standing.len());
        let ids = standing.iter().skip(self.kept).map(|view| view.rule.id).collect();
        self.operator.change(&ChangeSet::of_rules(Vec::new(), ids), &WriteOptions::default()).await?;
        Ok(())
    }
}
