//! Taking a permission back reaches what lives by it: every flow, both ways, at both ends, and nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::world::flow::{BothWays, Flow, Totals};
use tests::world::instance::{Family, Instance};
use tests::world::probe::Transport::{Tcp, Udp};
use tests::world::probe::{expect_answer, expect_blocked};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
/// Of the flows that another rule allows.
const OTHER_PORT: u16 = 9090;
/// Nothing for this long is silence: hundreds of messages would have come.
const QUIET: Duration = Duration::from_millis(300);
/// An idle connection has to have heard by now; nobody sends anything on it.
const HEARD: Duration = Duration::from_secs(2);

const ALLOW: [&str; 6] = ["allow", "appA", "appB", "--protocol", "any", "--wait"];

/// `appA` on n1, and `appB` on each node.
struct Pairs {
    a: Instance,
    far: Instance,
    near: Instance,
}

impl Pairs {
    fn run(world: &mut World) -> Result<Self> {
        let pairs = Self {
            a: world.run_instance("appA", "n1")?,
            far: world.run_instance("appB", "n2")?,
            near: world.run_instance("appB", "n1")?,
        };
        world.netpol(&ALLOW)?.expect_exit(0)?;
        Ok(pairs)
    }

    /// Three TCP and two UDP flows; one of each between instances of one node.
    fn open_five(&self) -> Result<Vec<Flow>> {
        [(Tcp, &self.far, 0), (Tcp, &self.far, 1), (Tcp, &self.near, 0), (Udp, &self.far, 0), (Udp, &self.near, 0)]
            .into_iter()
            .map(|(transport, to, more)| Flow::open(transport, &self.a, to, PORT + more))
            .collect()
    }
}

/// Runs a command that cuts, and returns how many flows it says that it cut, on n1 and on any node.
fn cut_by(world: &World, line: &[&str]) -> Result<(u64, u64)> {
    let said = world.netpol(&[line, &["-o", "json"]].concat())?.expect_exit(0)?;
    let receipt = said.json()?.get("receipt").cloned().with_context(|| format!("no receipt in {said}"))?;
    ensure!(receipt["missing"].as_array().is_some_and(Vec::is_empty), "not every node was heard: {said}");
    let nodes = receipt["nodes"].as_array().cloned().unwrap_or_default();
    let of_n1 = nodes.iter().filter(|node| node["node"] == "n1").filter_map(|node| node["flows"].as_u64()).sum();
    Ok((of_n1, receipt["flows"].as_u64().context("a count of flows")?))
}

/// Flows of `appC` that no change may touch.
fn open_bystanders(world: &mut World, pairs: &Pairs) -> Result<(Instance, Vec<Flow>)> {
    let c = world.run_instance("appC", "n1")?;
    world.netpol(&["allow", "appC", "appB", "--protocol", "any", "--wait"])?.expect_exit(0)?;
    let mut flows = Vec::new();
    for (transport, to) in [(Tcp, &pairs.far), (Udp, &pairs.far), (Tcp, &pairs.near), (Udp, &pairs.near)] {
        flows.push(Flow::open(transport, &c, to, OTHER_PORT)?);
    }
    Ok((c, flows))
}

fn expect_all_cut(flows: Vec<Flow>) -> Result<()> {
    for flow in flows {
        flow.await_silence(QUIET)?;
        let before = flow.totals();
        std::thread::sleep(QUIET);
        let after = flow.totals();
        let delivered = |totals: BothWays<Totals>| [totals.forth.delivered, totals.back.delivered];
        ensure!(delivered(before) == delivered(after), "a cut flow runs again: {before:?}, then {after:?}");
    }
    Ok(())
}

fn expect_whole(flow: Flow) -> Result<()> {
    flow.await_deliveries(100)?;
    let totals = flow.finish();
    for way in [totals.forth, totals.back] {
        ensure!(way.sent == way.delivered, "a flow of another rule lost something: {totals:?}");
    }
    Ok(())
}

#[test]
fn a_revoke_and_a_deny_cut_every_live_flow_both_ways_count_them_exactly_and_touch_no_other() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let pairs = Pairs::run(world)?;
        let (_c, bystanders) = open_bystanders(world, &pairs)?;
        let revoke = ["revoke", "appA", "appB", "--protocol", "any"];
        let deny = ["deny", "appA", "appB", "--protocol", "any"];
        for (line, undo) in [
            (&revoke[..], &ALLOW[..]),
            (&deny[..], &["revoke", "appA", "appB", "--protocol", "any", "--action", "deny", "--wait"][..]),
        ] {
            let flows = pairs.open_five()?;
            let (of_n1, all) = cut_by(world, line)?;
            ensure!((of_n1, all) == (5, 5), "{line:?}: {of_n1} cut on n1, {all} in all, of 5 that n1 began");
            expect_all_cut(flows)?;
            for to in [&pairs.far, &pairs.near] {
                expect_blocked(Tcp, &pairs.a, to, PORT)?;
                expect_blocked(Udp, &pairs.a, to, PORT)?;
            }
            ensure!(cut_of_nothing(world)? == 0, "what is cut already was counted again");

            world.netpol(undo)?.expect_exit(0)?;
            for to in [&pairs.far, &pairs.near] {
                // Over at once; a question by UDP would count as live for as long as its flow is kept.
                expect_answer(Tcp, &pairs.a, to, PORT)?;
            }
        }
        bystanders.into_iter().try_for_each(expect_whole)
    });
}

/// A rule that no flow lives by comes and goes.
fn cut_of_nothing(world: &World) -> Result<u64> {
    world.netpol(&["allow", "appD", "appE", "--wait"])?.expect_exit(0)?;
    cut_by(world, &["revoke", "appD", "appE"]).map(|(_, all)| all)
}

fn allow_ports(world: &World, ports: &str, protocol: &str) -> Result<()> {
    let line = ["allow", "appA", "appB", "--port", ports, "--protocol", protocol, "--wait"];
    world.netpol(&line)?.expect_exit(0).map(drop)
}

#[test]
fn a_revocation_of_some_ports_cuts_the_flows_on_them_and_none_of_the_same_pair_beside_them() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        for protocol in ["tcp", "udp"] {
            allow_ports(world, "8080-8089", protocol)?;
            allow_ports(world, "9090", protocol)?;
        }
        let open = |transport, ports: std::ops::Range<u16>| -> Result<Vec<Flow>> {
            ports.map(|port| Flow::open(transport, &a, &b, port)).collect()
        };
        let tcp = open(Tcp, PORT..PORT + 7)?;
        let udp = open(Udp, PORT..PORT + 3)?;
        let kept = [Flow::open(Tcp, &a, &b, OTHER_PORT)?, Flow::open(Udp, &a, &b, OTHER_PORT)?];

        for (protocol, flows, said) in
            [("tcp", tcp, "7 live flows cut: 7 on n1"), ("udp", udp, "3 live flows cut: 3 on n1")]
        {
            let line = ["revoke", "appA", "appB", "--port", "8080-8089", "--protocol", protocol];
            world.netpol(&line)?.expect_exit(0)?.expect_said(said)?;
            flows.iter().try_for_each(|flow| flow.await_silence(QUIET))?;
        }
        kept.into_iter().try_for_each(expect_whole)?;

        for (protocol, transport) in [("tcp", Tcp), ("udp", Udp)] {
            allow_ports(world, "8080-8089", protocol)?;
            // Another port than those on which the cut flows' senders still are.
            expect_answer(transport, &a, &b, PORT + 9)?;
        }
        Ok(())
    });
}

#[test]
fn the_count_is_told_in_words_too_and_for_each_node_that_began_flows() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let pairs = Pairs::run(world)?;
        let also_a = world.run_instance("appA", "n2")?;
        let _flows = [
            Flow::open(Tcp, &pairs.a, &pairs.far, PORT)?,
            Flow::open(Udp, &pairs.a, &pairs.far, PORT)?,
            Flow::open(Tcp, &also_a, &pairs.near, PORT)?,
        ];
        let said = world.netpol(&["revoke", "appA", "appB", "--protocol", "any"])?.expect_exit(0)?;
        said.expect_said("3 live flows cut: 2 on n1, 1 on n2").map(drop)
    });
}

/// A process in the instance's namespace, as every container has one: by it the namespace is found.
struct Resident(Child);

impl Resident {
    fn move_in(instance: &Instance) -> Result<Self> {
        // Says nothing until its input ends.
        let mut command = instance.namespace.command("cat");
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().context("start cat")?))
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // Already gone is as good.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

/// A connection on which nobody says anything once both ends have heard each other.
struct Idle {
    name: String,
    ends: [TcpStream; 2],
}

impl Idle {
    fn open(family: Family, from: &Instance, to: &Instance) -> Result<Self> {
        let address = SocketAddr::new(to.address_of(family)?, PORT);
        let listener = to.namespace.inside(|| TcpListener::bind(address).context("listen"))?;
        let client = from.namespace.inside(|| TcpStream::connect(address).context("connect"))?;
        let (server, _) = listener.accept().context("accept")?;
        let mut ends = [client, server];
        for (speaker, hearer) in [(0, 1), (1, 0)] {
            ends[speaker].write_all(b"hello")?;
            ends[hearer].read_exact(&mut [0; 5])?;
        }
        Ok(Self { name: format!("{} to {} ({family:?})", from.name(), to.name()), ends })
    }

    /// What both ends hear, with nothing sent.
    fn expect_ended(mut self) -> Result<()> {
        for (side, end) in ["client", "server"].into_iter().zip(&mut self.ends) {
            end.set_read_timeout(Some(HEARD))?;
            match end.read(&mut [0; 8]).map_err(|error| error.kind()) {
                Err(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::HostUnreachable) => {}
                other => bail!("the {side} of {} reads {other:?}", self.name),
            }
        }
        Ok(())
    }

    fn expect_alive(mut self) -> Result<()> {
        let [client, server] = &mut self.ends;
        client.write_all(b"still")?;
        server.set_read_timeout(Some(HEARD))?;
        server.read_exact(&mut [0; 5]).with_context(|| format!("{} is idle and allowed", self.name))
    }
}

#[test]
fn idle_connections_end_at_both_ends_though_nobody_sends_and_others_live() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let pairs = Pairs::run(world)?;
        let c = world.run_instance("appC", "n1")?;
        world.netpol(&["allow", "appC", "appB", "--wait"])?.expect_exit(0)?;
        let everybody = [&pairs.a, &pairs.far, &pairs.near, &c];
        let _residents = everybody.into_iter().map(Resident::move_in).collect::<Result<Vec<_>>>()?;
        let mut spared = Vec::new();
        let revoke = ["revoke", "appA", "appB", "--protocol", "any"];
        for line in [&revoke[..], &["deny", "appA", "appB", "--protocol", "any"][..]] {
            let mut idle = Vec::new();
            for family in Family::BOTH {
                for to in [&pairs.far, &pairs.near] {
                    idle.push(Idle::open(family, &pairs.a, to)?);
                    spared.push(Idle::open(family, &c, to)?);
                }
            }
            let (of_n1, all) = cut_by(world, line)?;
            ensure!((of_n1, all) == (4, 4), "{line:?}: {of_n1} cut on n1, {all} in all, of 4 idle connections");
            idle.into_iter().try_for_each(Idle::expect_ended)?;
            world.netpol(&ALLOW)?.expect_exit(0)?;
        }
        spared.into_iter().try_for_each(Idle::expect_alive)
    });
}
