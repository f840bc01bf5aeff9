//! `bench NAME… [--plot]`: measures, prints, writes down, and draws if asked. Run it by `cargo xtask bench`, in its sandbox.

use std::process::ExitCode;

use tests::bench;

/// As `netpol-agent` has, of which the gatekeeper and the watchers in here are parts.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Bench = (&'static str, fn() -> anyhow::Result<Vec<bench::Row>>);

const BENCHES: [Bench; 10] = [
    ("datapath", bench::datapath::run),
    ("path", bench::path::run),
    ("same-node", bench::path::run_same_node),
    ("deny", bench::deny::run),
    ("gate", bench::gate::run),
    ("memory", bench::memory::run),
    ("change", bench::change::run),
    ("apply", bench::control::apply::run),
    ("control", bench::control::run),
    ("control-etcd", bench::control::run_on_etcd),
];

const PLOT: &str = "--plot";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (flags, names): (Vec<_>, Vec<_>) = words.iter().map(String::as_str).partition(|word| *word == PLOT);
    let known: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
    if names.is_empty() || names.iter().any(|name| !known.contains(name)) {
        eprintln!("bench: name one or more of {}; {PLOT} draws pictures into docs/", known.join(", "));
        return ExitCode::from(2);
    }
    for (name, run) in BENCHES.into_iter().filter(|(name, _)| names.contains(name)) {
        eprintln!("bench {name}");
        if let Err(error) = run_one(name, run, !flags.is_empty()) {
            eprintln!("bench {name}: {error:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run_one(name: &str, run: fn() -> anyhow::Result<Vec<bench::Row>>, plots: bool) -> anyhow::Result<()> {
    let rows = run()?;
    bench::publish(name, &rows)?;
    if plots && let Some(picture) = bench::plot::draw(name, &rows)? {
        println!("drawn into {picture}");
    }
    Ok(())
}
