//! What an agent and the policy API need in memory as policy grows, and how long a large change takes until it is in force.

use std::time::Instant;

use anyhow::Result;
use policy_api::model::Protocol;

use super::{
    Row,
    clock::peaks,
    operator::{Operator, rule},
};
use crate::world::{Plan, World};

const BENCH: &str = "memory";
const RULES: [usize; 3] = [1, 10_000, 1_000_000];
/// Apps that the rules name, besides the one with an instance here.
const APPS: usize = 100_000;
const MEBIBYTE: f64 = 1_048_576.0;

pub fn run() -> Result<Vec<Row>> {
    let plan = Plan { agent_flags: vec!["--rows".into(), "2097152".into()], ..Plan::nodes(&["n1"]) };
    let mut world = World::start(plan)?;
    let _server = world.run_instance("appB", "n1")?;
    let mut rows = Vec::new();
    let mut made = 0;
    for count in RULES {
        eprintln!("bench {BENCH}: {count} rules");
        let specs = (made..count).map(|i| {
            let port = u16::try_from(9_000 + i / APPS)?;
            rule(&format!("other{}", i % APPS), "appB", Protocol::Tcp, port)
        });
        let specs = specs.collect::<Result<Vec<_>>>()?;
        let started = Instant::now();
        Operator::new(&world)?.create(&world, &specs)?;
        rows.push(Row::of(BENCH, "until all are in force", count, "s", &[started.elapsed().as_secs_f64()]));
        made = count;
        for (program, name) in
            [("netpol-agent", "memory of the agent at most"), ("netpol-api", "memory of the API at most")]
        {
            let peaks: Vec<f64> = peaks(program)?.into_iter().map(|bytes| bytes as f64 / MEBIBYTE).collect();
            rows.push(Row::of(BENCH, name, count, "MiB", &peaks));
        }
    }
    Ok(rows)
}
