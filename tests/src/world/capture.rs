//! What an outside witness sees on the underlay: `tcpdump` with its own idea of VXLAN.

use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fabric::UPLINK;
use super::namespace::Namespace;
use super::patience::{PATIENCE, await_that};

/// A VXLAN packet as tcpdump prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPacket {
    pub outer_source: Ipv4Addr,
    pub outer_destination: Ipv4Addr,
    /// The header's flags as printed: `[I] (0x08)` is the standard header.
    pub flags: String,
    pub vni: u32,
    /// The inner packet's own line.
    pub inner: String,
}

#[derive(Debug)]
pub struct Capture {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts to capture the overlay port on a machine's uplink; runs on return.
    pub fn start(machine: &Namespace) -> Result<Self> {
        let mut command = machine.command("tcpdump");
        command.args(["-n", "-t", "-l", "--immediate-mode", "-Z", "root", "-i", UPLINK, "udp", "port", "4789"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start tcpdump")?;
        let talk = child.stderr.take().expect("standard error was piped just above");
        let output = child.stdout.take().expect("standard output was piped just above");
        let lines = Arc::default();
        let mut capture = Self { child, lines: Arc::clone(&lines), reader: None };
        capture.reader = Some(std::thread::spawn(move || collect(output, &lines)));
        await_start(talk)?;
        Ok(capture)
    }

    /// Waits until at least one packet was seen whose line holds all `words`, and returns every tunnel packet so far.
    pub fn await_packet(&self, words: &[&str]) -> Result<Vec<TunnelPacket>> {
        let matches = |packet: &TunnelPacket| words.iter().all(|&word| packet.inner.contains(word));
        await_that("the packet to be captured", PATIENCE, || Ok(self.packets()?.iter().any(matches)))?;
        self.packets()
    }

    /// Every complete tunnel packet so far.
    pub fn packets(&self) -> Result<Vec<TunnelPacket>> {
        let lines = self.lines.lock().expect("the reader does not panic");
        let outers = lines.iter().zip(lines.iter().skip(1)).filter(|(outer, _)| outer.contains(": VXLAN,"));
        outers.map(|(outer, inner)| parse(outer, inner).with_context(|| format!("tcpdump said `{outer}`"))).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("a process id fits");
        // Ended already is as good.
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap_or_default();
        }
    }
}

fn collect(output: impl Read, lines: &Mutex<Vec<String>>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        lines.lock().expect("nobody panics while holding it").push(line);
    }
}

fn await_start(talk: impl Read + Send + 'static) -> Result<()> {
    let mut talk = BufReader::new(talk);
    let mut said = String::new();
    while talk.read_line(&mut said)? > 0 {
        if said.contains("listening on") {
            // Its closing statistics go to the same pipe.
            std::thread::spawn(move || std::io::copy(&mut talk, &mut std::io::sink()));
            return Ok(());
        }
    }
    bail!("tcpdump did not start: {said}")
}

/// `IP 192.0.2.1.51034 > 192.0.2.2.4789: VXLAN, flags [I] (0x08), vni 256`, and the inner packet on the next line.
fn parse(outer: &str, inner: &str) -> Option<TunnelPacket> {
    let (addresses, header) = outer.strip_prefix("IP ")?.split_once(": VXLAN, flags ")?;
    let (source, destination) = addresses.split_once(" > ")?;
    let (flags, vni) = header.split_once(", vni ")?;
    Some(TunnelPacket {
        outer_source: without_port(source)?,
        outer_destination: without_port(destination)?,
        flags: flags.to_owned(),
        vni: vni.trim().parse().ok()?,
        inner: inner.trim().to_owned(),
    })
}

fn without_port(text: &str) -> Option<Ipv4Addr> {
    text.rsplit_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_packet_is_read_from_what_tcpdump_prints() {
        let outer = "IP 192.0.2.1.51034 > 192.0.2.2.4789: VXLAN, flags [I] (0x08), vni 256";
        let inner = "IP 10.255.1.2.40000 > 10.255.2.2.8080: Flags [S], seq 1, win 2, length 0";
        let packet = parse(outer, inner).expect("the line is as tcpdump prints it");
        assert_eq!(packet.vni, 256);
        assert_eq!(packet.flags, "[I] (0x08)");
        assert_eq!(packet.outer_source, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(packet.outer_destination, Ipv4Addr::new(192, 0, 2, 2));
        assert!(packet.inner.contains("10.255.2.2.8080"));
    }
}
