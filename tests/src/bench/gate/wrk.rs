//! `wrk`, and what it says.

use std::{net::SocketAddr, process::Command};

use anyhow::{Context as _, Result, bail};

/// Requests over so many connections for so long.
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) connections: u32,
    pub(super) seconds: u32,
}

/// Requests in a second, and milliseconds that one in a hundred took longer than.
#[derive(Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) throughput: f64,
    pub(super) p99: f64,
}

/// As long as tokens of a broker are.
pub(super) const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3MiOiJuZXRwb2w6MDFKREFCQ0RFRiIsInN1YiI6\
     Imhvc3Q6Y2ktMSIsImF1ZCI6InJlbGVhc2UtYm90IiwiaWF0IjoxODAwMDAwMDAwLCJuYmYiOjE4MDAwMDAwMDAsImV4cCI6MTgwMDAwMDMwMCwianRpIjoi\
     MDFKREFCQ0RFRkdISiJ9.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmUtc2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmUtc2lnbmF0dXI";

impl Load {
    pub(super) fn run(&self) -> Result<Measured> {
        let mut command = Command::new("wrk");
        command.args(["-t1", "--latency"]).arg(format!("-c{}", self.connections)).arg(format!("-d{}s", self.seconds));
        command.args(["-H", &format!("Authorization: Bearer {TOKEN}")]).arg(format!("http://{}/", self.address));
        let output = command.output().context("run wrk, which `cargo xtask setup` installs")?;
        let said = String::from_utf8_lossy(&output.stdout);
        read(&said).with_context(|| format!("wrk at {}: {said}", self.address))
    }
}

fn read(said: &str) -> Result<Measured> {
    if said.contains("Non-2xx") || said.contains("Socket errors") {
        bail!("not every request was answered as it should be");
    }
    let after = |name: &str| said.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let throughput = after("Requests/sec:").context("no throughput")?.parse()?;
    Ok(Measured { throughput, p99: milliseconds(after("99%").context("no latency")?)? })
}

fn milliseconds(text: &str) -> Result<f64> {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1_000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * factor);
        }
    }
    bail!("{text:?} is no time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_understood() {
        let said = "  Latency Distribution\n     50%    1.10ms\n     99%    2.50ms\n  9 requests in 1s\nRequests/sec:  40123.50\n";
        assert_eq!(read(said).expect("a measurement"), Measured { throughput: 40_123.5, p99: 2.5 });
        assert_eq!(milliseconds("250.00us").expect("a time"), 0.25);
        assert!(read("Non-2xx or 3xx responses: 3\n").is_err());
    }
}
