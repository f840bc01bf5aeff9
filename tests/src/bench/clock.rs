//! Time and memory as this process spends them.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// CPU time of this thread over the run, in nanoseconds per packet.
pub(super) fn time_per_packet(repeat: u32, run: impl FnOnce(u32) -> Result<()>) -> Result<f64> {
    let before = cpu_time()?;
    run(repeat)?;
    let spent = cpu_time()? - before;
    Ok(spent.as_secs_f64() * 1e9 / f64::from(repeat))
}

fn cpu_time() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?))
}

/// Keeps the calling thread on the first CPU.
pub(super) fn stay_on_one_cpu() -> Result<()> {
    stay_on_cpu(0)
}

pub(super) fn stay_on_cpu(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}

/// Bytes of the kernel's memory behind each BPF map that this process holds open, by the map's number.
pub(super) fn map_bytes() -> Result<BTreeMap<u64, u64>> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // A descriptor may be gone by now: the directory's own is.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let field =
            |name| text.lines().find_map(|line| line.strip_prefix(name)).and_then(|value| value.trim().parse().ok());
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps)
}

/// The most memory that each process of a program ever had, in bytes.
pub(super) fn peaks(program: &str) -> Result<Vec<u64>> {
    let mut peaks = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // Not every entry is a process, and one that ends is none of those asked for.
        let Ok(status) = fs::read_to_string(entry?.path().join("status")) else { continue };
        let field = |name| status.lines().find_map(|line: &str| line.strip_prefix(name)).map(str::trim);
        // The kernel keeps fifteen characters of a name.
        if field("Name:").is_some_and(|name| !name.is_empty() && program.starts_with(name)) {
            let kilobytes = field("VmHWM:").and_then(|value| value.trim_end_matches(" kB").parse::<u64>().ok());
            peaks.push(kilobytes.with_context(|| format!("{program} has no VmHWM"))? * 1024);
        }
    }
    Ok(peaks)
}
