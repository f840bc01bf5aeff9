//! `cargo xtask test` and `soak`: every test there is, in a sandbox, summed up on the last line.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::progress::{self, Failure};
use crate::tally::Tally;
use crate::userland::{self, Artifacts, Profile};
use crate::{sandbox, setup, workspace};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What every change has to pass: each proof takes a minute at most.
    Ci,
    /// Long proofs: as many rounds as each test thinks worthwhile.
    Soak,
}

/// A suite that hangs must fail inside the time that CI gives it, with its last line in sight.
const CI_DEADLINE: Duration = Duration::from_secs(30 * 60);
const SOAK_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn run(filter: Option<&str>, effort: Effort) -> Result<ExitCode, Failure> {
    setup::run()?;
    let profile = match effort {
        Effort::Ci => Profile::Debug,
        Effort::Soak => Profile::Soak,
    };
    userland::build(profile, Artifacts::BinariesAndTests)?;

    let mut tally = Tally::default();
    if filter.is_none() {
        let programs = ebpf_host_tests();
        match programs {
            Some(mut command) => run_counted("eBPF stages on the host", &mut command, CI_DEADLINE, &mut tally)?,
            None => progress::nothing_to_do("eBPF stages on the host", "no host tests in ebpf/"),
        }
    }
    let mut sandbox = sandbox::around(Path::new("cargo"))?;
    let command = &mut sandbox.command;
    command.args(["test", "--workspace", "--locked", "--offline", "--no-fail-fast"]);
    command.args(profile.flags()).args(selection(filter));
    let deadline = match effort {
        Effort::Ci => CI_DEADLINE,
        Effort::Soak => SOAK_DEADLINE,
    };
    if effort == Effort::Soak {
        command.env("NETPOL_SOAK", "1");
    }
    run_counted("tests", command, deadline, &mut tally)?;
    Ok(verdict(tally, filter))
}

/// A file of tests/tests by its name, or else a part of test names.
fn selection(filter: Option<&str>) -> Vec<String> {
    let Some(filter) = filter else {
        return Vec::new();
    };
    let file = workspace::root().join("tests/tests").join(format!("{filter}.rs"));
    let flag = if file.exists() { "--test" } else { "--" };
    vec![flag.into(), filter.into()]
}

/// The stages of the programs are ordinary Rust; the crate stands outside the workspace, so it is run by itself.
fn ebpf_host_tests() -> Option<Command> {
    let manifest = workspace::root().join("ebpf/Cargo.toml");
    if !manifest.exists() || !has_tests(&workspace::root().join("ebpf/src")) {
        return None;
    }
    let mut command = workspace::command("cargo");
    command.args(["test", "--locked", "--lib", "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(workspace::target().join("ebpf-host"));
    Some(command)
}

fn has_tests(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            has_tests(&path)
        } else {
            std::fs::read_to_string(&path).is_ok_and(|text| text.contains("#[test]"))
        }
    })
}

/// Passes the command's output on and counts the results in it. A run that ends badly without saying so counts as one
/// failure.
fn run_counted(name: &str, command: &mut Command, deadline: Duration, tally: &mut Tally) -> Result<(), Failure> {
    let started = Instant::now();
    let before = tally.failed;
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| Failure::new(name, error.to_string(), "run `cargo xtask setup`"))?;
    let output = child.stdout.take().expect("standard output was piped just above");
    let watcher = std::thread::spawn(move || watch(child, deadline));
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.read(&line);
    }
    let ended = watcher.join().unwrap_or(Ended::Badly);
    if ended != Ended::Well && tally.failed == before {
        tally.failed += 1;
        eprintln!(
            "error: {name} ended badly ({ended:?}) and no test says why; the last lines above were its last words"
        );
    }
    println!("  {name}: {:.1} s", started.elapsed().as_secs_f32());
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Well,
    Badly,
    AtTheDeadline,
}

/// Awaits the child while another thread reads from it, and kills it at the deadline.
fn watch(mut child: Child, deadline: Duration) -> Ended {
    const POLL: Duration = Duration::from_millis(100);
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ended::Well,
            Ok(Some(_)) | Err(_) => return Ended::Badly,
            Ok(None) if started.elapsed() < deadline => std::thread::sleep(POLL),
            Ok(None) => {
                // The sandbox goes with it: no process is left that could hold the pipe open.
                child.kill().unwrap_or_default();
                child.wait().map(drop).unwrap_or_default();
                return Ended::AtTheDeadline;
            }
        }
    }
}

fn verdict(tally: Tally, filter: Option<&str>) -> ExitCode {
    if tally.ignored > 0 {
        println!("\n{} ignored: a test that cannot run has to fail and say why", tally.ignored);
    }
    if tally.passed + tally.failed == 0 {
        println!("\nno test is named like `{}`", filter.unwrap_or(""));
    }
    println!("\n{tally}");
    let good = tally.failed == 0 && tally.ignored == 0 && tally.passed > 0;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
