//! How fast policy is: from a request to the policy API until it is in force on both nodes, and until a live flow has
//! delivered its last byte.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use policy_api::{
    client::{Client, WriteOptions},
    model::{Protocol, RuleId},
};

use super::{
    Row, end_progress,
    operator::{Operator, rule},
    progress,
};
use crate::world::{Plan, World, flow::Flow, instance::Instance, probe::Transport};

const BENCH: &str = "change";
const CHANGES: usize = 200;
const REVOCATIONS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than a sender of the flow pauses, and than TCP takes to send again.
const SILENCE: Duration = Duration::from_millis(250);
const PORT: u16 = 8080;

pub fn run() -> Result<Vec<Row>> {
    let mut world = World::start(Plan::nodes(&["n1", "n2"]))?;
    let client = world.run_instance("appA", "n1")?;
    let server = world.run_instance("appB", "n2")?;
    let changes = Changes { world: &world, operator: Operator::new(&world)? };
    let mut rows = vec![Row::of(BENCH, "allow to in force, both nodes", 1, "ms", &changes.time_allows()?)];
    for (transport, name) in [(Transport::Tcp, "tcp"), (Transport::Udp, "udp")] {
        let (forth, back) = changes.time_revocations(transport, &client, &server)?;
        rows.push(Row::of(BENCH, format!("revoke to last byte, {name}, forth"), 1, "ms", &forth));
        rows.push(Row::of(BENCH, format!("revoke to last byte, {name}, back"), 1, "ms", &back));
    }
    Ok(rows)
}

/// The measurements, and who asks for the changes.
struct Changes<'a> {
    world: &'a World,
    operator: Operator,
}

impl Changes<'_> {
    fn time_allows(&self) -> Result<Vec<f64>> {
        self.operator.converse(self.world, async |client| {
            let mut samples = Vec::with_capacity(CHANGES);
            for change in 0..CHANGES {
                progress(format_args!("bench change: allow {} of {CHANGES}", change + 1));
                let started = Instant::now();
                let rule = allow(client, Protocol::Tcp).await?;
                samples.push(milliseconds(started.elapsed()));
                client.delete_rule(rule, &WriteOptions::default()).await?;
            }
            Ok(samples)
        })
    }

    /// Each time a flow of its own, which runs both ways when its rule goes.
    fn time_revocations(&self, transport: Transport, from: &Instance, to: &Instance) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mut forth, mut back) = (Vec::new(), Vec::new());
        let protocol = match transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        };
        for revocation in 0..REVOCATIONS {
            progress(format_args!("bench change: revoke {} of {REVOCATIONS}, {protocol:?}", revocation + 1));
            let rule = self.operator.converse(self.world, async |client| allow(client, protocol).await)?;
            // A port each: what TCP sends again of an earlier flow must not be taken for this one's.
            let flow = Flow::open(transport, from, to, PORT)?;
            let revoked = self.operator.converse(self.world, async |client| {
                let started = Instant::now();
                client.delete_rule(rule, &WriteOptions::default()).await?;
                Ok(started)
            })?;
            flow.await_silence(SILENCE)?;
            let last = flow.last_deliveries();
            forth.push(milliseconds(last.forth.saturating_duration_since(revoked)));
            back.push(milliseconds(last.back.saturating_duration_since(revoked)));
            flow.finish();
        }
        end_progress();
        Ok((forth, back))
    }
}

/// Allows the pair and returns when it is in force everywhere.
async fn allow(client: &Client, protocol: Protocol) -> Result<RuleId> {
    let spec = rule("appA", "appB", protocol, PORT)?;
    let answer = client.put_rule(&spec, &WriteOptions::default()).await?;
    let state = client.wait_in_force(answer.rule.revision, PATIENCE).await?;
    ensure!(state.complete && state.in_force.len() == 2, "not in force on both nodes: {state:?}");
    Ok(answer.rule.id)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
