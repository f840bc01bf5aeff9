//! `cargo xtask soak fuzz`: what reads bytes of others, fed with anything, each for a minute.
//!
//! The targets stand in `fuzz/`, a workspace of its own, since they are built with a sanitizer. That takes switches of the
//! compiler that are not stable; the pinned one takes them when it is told to, so no second compiler is needed.

use std::process::Command;

use crate::progress::{self, Failure};
use crate::{setup, workspace};

const TARGETS: [&str; 7] = ["packet", "watch", "request", "yaml", "http1", "admit", "token"];
const SECONDS: u32 = 60;
const REMEDY: &str = "the input that breaks it is kept in fuzz/artifacts; the line above says how to repeat it";

pub(crate) fn run() -> Result<(), Failure> {
    setup::run()?;
    setup::cargo_fuzz()?;
    progress::step("build the fuzz targets", &mut cargo_fuzz("build", None), "the compiler's message stands above")?;
    for target in TARGETS {
        let mut run = cargo_fuzz("run", Some(target));
        let directory = workspace::root().join("fuzz");
        run.arg(directory.join("corpus").join(target)).arg(directory.join("seeds").join(target));
        run.args(["--", &format!("-max_total_time={SECONDS}"), "-max_len=4096", "-print_final_stats=1"]);
        let said = progress::step(&format!("fuzz {target}"), &mut run, REMEDY)?;
        said.lines().filter(|line| line.starts_with("Done ")).for_each(|line| println!("    {line}"));
    }
    Ok(())
}

fn cargo_fuzz(verb: &str, target: Option<&str>) -> Command {
    let directory = workspace::root().join("fuzz");
    let corpus = target.map(|target| directory.join("corpus").join(target));
    // cargo-fuzz makes what is missing below its own directory only.
    let _made = corpus.map(std::fs::create_dir_all);
    let mut command = workspace::command(&workspace::tools().join("bin/cargo-fuzz").to_string_lossy());
    command.current_dir(&directory).env("RUSTC_BOOTSTRAP", "1");
    command.args(["fuzz", verb, "--fuzz-dir", ".", "--target-dir"]).arg(workspace::target().join("fuzz"));
    command.args(target);
    command
}
