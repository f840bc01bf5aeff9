//! A real etcd cluster of three inside the bench's own sandbox, on loopback and on disk.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Command,
};

use anyhow::Result;

use crate::world::daemon::Daemon;

const MEMBERS: usize = 3;

/// Its members; they end when this is dropped.
pub(super) struct Cluster {
    _members: Vec<Daemon>,
    clients: Vec<String>,
}

impl Cluster {
    /// Starts the members; whoever asks them waits until they have a leader.
    pub(super) fn start(directory: &Path) -> Result<Self> {
        let ports = free_ports(2 * MEMBERS)?;
        let (clients, peers) = ports.split_at(MEMBERS);
        let name = |number: usize| format!("m{number}");
        let all: Vec<String> =
            peers.iter().enumerate().map(|(number, peer)| format!("{}=http://{peer}", name(number))).collect();
        let mut members = Vec::new();
        for (number, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/etcd"));
            command.arg("--name").arg(name(number)).arg("--data-dir").arg(directory.join(name(number)));
            let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
            members.push(Daemon::start(&format!("etcd-{number}"), &mut command, directory)?);
        }
        Ok(Self { _members: members, clients: clients.to_vec() })
    }

    pub(super) fn store(&self) -> String {
        format!("etcd://{}/netpol", self.clients.join(","))
    }
}

/// `IP:PORT`, all at once, so that none is given out twice.
fn free_ports(count: usize) -> Result<Vec<String>> {
    let bound = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<Vec<_>, _>>()?;
    Ok(bound.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect::<std::io::Result<_>>()?)
}
