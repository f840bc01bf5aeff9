//! `bench NAME…`: measures, prints, writes down. Run it by `cargo xtask bench`, in its sandbox.

use std::process::ExitCode;

use tests::bench;

type Bench = (&'static str, fn() -> anyhow::Result<()>);

const BENCHES: [Bench; 5] = [
    ("datapath", bench::datapath::run),
    ("path", bench::path::run),
    ("same-node", bench::path::run_same_node),
    ("deny", bench::deny::run),
    ("change", bench::change::run),
];

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let known: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
    if names.is_empty() || names.iter().any(|name| !known.contains(&name.as_str())) {
        eprintln!("bench: name one or more of {}", known.join(", "));
        return ExitCode::from(2);
    }
    for (name, run) in BENCHES.into_iter().filter(|(name, _)| names.iter().any(|wanted| wanted == name)) {
        eprintln!("bench {name}");
        if let Err(error) = run() {
            eprintln!("bench {name}: {error:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
