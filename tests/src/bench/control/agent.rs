//! A simulated agent: follows its node's watch over TLS, proves what it is told, and reports what it holds as in force.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use policy_api::{
    client::{LineBuffer, read_line},
    model::{Follower, NodeName, Report, WatchLine},
};
use reqwest::Url;
use tokio::task::JoinSet;

use super::{ledger::Ledger, service::Service, stage};

/// All of them; they end when this is dropped.
pub(super) struct Agents(JoinSet<()>);

impl Agents {
    pub(super) fn start(service: &Service, proofs: &[String], ledger: &Ledger) -> Result<Self> {
        let mut agents = JoinSet::new();
        for (number, proof) in proofs.iter().enumerate() {
            let name = stage::node(number);
            let agent = Agent {
                watch: format!("{}/v1/watch", service.url()).parse()?,
                report: format!("{}/v1/nodes/{name}/report", service.url()).parse()?,
                name,
                client: service.https(Some(proof))?,
                ledger: ledger.clone(),
                follower: Follower::default(),
            };
            agents.spawn(agent.follow());
        }
        Ok(Self(agents))
    }

    pub(super) fn stop(&mut self) {
        self.0.abort_all();
    }
}

struct Agent {
    name: NodeName,
    watch: Url,
    report: Url,
    client: reqwest::Client,
    ledger: Ledger,
    follower: Follower,
}

/// Of a report.
const TRIES: usize = 3;
/// Real agents pause longer from one time to the next.
const PAUSE: Duration = Duration::from_millis(500);

impl Agent {
    async fn follow(mut self) {
        loop {
            if let Err(error) = self.follow_once().await
                && std::env::var_os("NETPOL_BENCH_LOG").is_some()
            {
                eprintln!("{}: {error:#}", self.name);
            }
            tokio::time::sleep(PAUSE / 2 + PAUSE.mul_f32(fastrand::f32() / 2.0)).await;
        }
    }

    async fn follow_once(&mut self) -> Result<()> {
        let place = self.follower.held().map(|(history, replica)| {
            let (since, digest) = (replica.revision().to_string(), replica.digest().to_string());
            [("since", since), ("history", history.to_string()), ("digest", digest)]
        });
        let parameters: Vec<_> = place.into_iter().flatten().collect();
        let request = self.client.get(self.watch.clone()).query(&parameters);
        let mut response = request.send().await?.error_for_status()?;
        let (mut buffer, mut following) = (LineBuffer::default(), None);
        while let Some(chunk) = response.chunk().await? {
            self.ledger.add_bytes(chunk.len());
            buffer.push(&chunk);
            while let Some(line) = buffer.next_line() {
                let line: WatchLine = read_line(line)?;
                if self.follower.take(line)? {
                    following.get_or_insert_with(|| self.ledger.follows());
                    self.report().await?;
                }
            }
        }
        Ok(())
    }

    /// Says that what is held is in force.
    async fn report(&self) -> Result<()> {
        let (history, replica) = self.follower.held().context("a state")?;
        self.ledger.takes(replica.revision());
        let report = Report {
            history: history.clone(),
            applied: replica.revision(),
            ready: true,
            rows_used: replica.rules.len() as u64,
            rows_capacity: stage::ROWS,
            detail: None,
            clock: None,
            cuts: Vec::new(),
        };
        // A connection that was idle may be closed at the moment in which it is used again.
        for _ in 1..TRIES {
            let asked = self.client.post(self.report.clone()).json(&report).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
        }
        let answer = self.client.post(self.report.clone()).json(&report).send().await?;
        ensure!(answer.status().is_success(), "the report was answered {}", answer.status());
        Ok(())
    }
}
