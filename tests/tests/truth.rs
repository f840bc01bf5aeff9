//! The truth table of rules: what `netpol check` says is what happens on the wire, and both are what the contract says,
//! for every way to name both ends, every state of the rules, every protocol and both families.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::world::fabric::add_ipv6;
use tests::world::instance::{Family, Instance};
use tests::world::namespace::Namespace;
use tests::world::netpol::Invocation;
use tests::world::{Plan, World, scenario, sctp};

const PORT: u16 = 8080;
const SCTP_PORT: u16 = 40_000;
/// An answer between idle nodes takes less than a hundredth of this; who is denied at his own node is told at once.
const PATIENCE: Duration = Duration::from_millis(400);
const PROTOCOLS: [&str; 4] = ["tcp", "udp", "sctp", "icmp"];

/// Who speaks or is spoken to: an instance, or the node itself.
struct End<'a> {
    name: String,
    namespace: &'a Namespace,
    addresses: [IpAddr; 2],
}

impl<'a> End<'a> {
    fn instance(of: &'a Instance) -> Result<Self> {
        let addresses = [of.address_of(Family::V4)?, of.address_of(Family::V6)?];
        Ok(Self { name: of.name(), namespace: &of.namespace, addresses })
    }

    fn address(&self, family: Family, port: u16) -> SocketAddr {
        let [v4, v6] = self.addresses;
        SocketAddr::new(if family == Family::V4 { v4 } else { v6 }, port)
    }
}

/// Looks until a question was answered, or refused, or long enough.
fn await_fate(mut fate: impl FnMut() -> Result<Option<bool>>) -> Result<bool> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(answered) = fate()? {
            return Ok(answered);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

fn passes(protocol: &str, family: Family, from: &End<'_>, to: &End<'_>) -> Result<bool> {
    let address = to.address(family, PORT);
    match protocol {
        "tcp" => {
            let _listener = to.namespace.inside(|| TcpListener::bind(address).context("listen"))?;
            from.namespace.inside(|| Ok(TcpStream::connect_timeout(&address, PATIENCE).is_ok()))
        }
        "udp" => {
            let server = to.namespace.inside(|| UdpSocket::bind(address).context("bind"))?;
            let client = from.namespace.inside(|| UdpSocket::bind(from.address(family, 0)).context("bind"))?;
            client.connect(address).context("connect")?;
            [&server, &client].into_iter().try_for_each(|socket| socket.set_nonblocking(true))?;
            let sent = client.send(b"question").is_ok();
            let mut heard = [0; 8];
            let fate = || {
                match server.recv_from(&mut heard) {
                    Ok((_, peer)) => server.send_to(b"reply ok", peer).map(drop).context("answer")?,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error).context("receive"),
                }
                Ok(match client.recv(&mut [0; 8]) {
                    Ok(_) => Some(true),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                    Err(_) => Some(false),
                })
            };
            Ok(sent && await_fate(fate)?)
        }
        "sctp" => {
            let (source, destination) = (from.address(family, SCTP_PORT), address);
            let server = sctp::End::open(to.namespace, destination)?;
            let client = sctp::End::open(from.namespace, source)?;
            let fate = || {
                server.answer(source)?;
                client.fate(destination)
            };
            Ok(client.begin(destination)? && await_fate(fate)?)
        }
        _ => {
            let mut ping = from.namespace.command("ping");
            ping.args(["-n", "-c", "1", "-W", "0.4"]).arg(address.ip().to_string());
            Ok(Invocation::run(&mut ping, "ping".into())?.exit == 0)
        }
    }
}

fn netpol(world: &World, line: &str) -> Result<Invocation> {
    world.netpol(&line.split(' ').collect::<Vec<_>>())?.expect_exit(0)
}

/// What `netpol check` says of two apps, or the node and an app.
fn checked(world: &World, from: &str, to: &str, protocol: &str) -> Result<bool> {
    let port = PORT.to_string();
    let mut line = vec!["check", from, to, "--protocol", protocol];
    if protocol != "icmp" {
        line.extend(["--port", &port]);
    }
    let said = world.netpol(&line)?;
    ensure!(said.exit == 0 || said.exit == 1, "no answer: {said}");
    Ok(said.exit == 0)
}

/// Apps on both nodes, and the nodes themselves, with the built-in rule gone.
struct Cast {
    a: Instance,
    far: Instance,
    near: Instance,
}

impl Cast {
    fn gather(world: &mut World) -> Result<Self> {
        for node in &world.nodes {
            add_ipv6(&node.namespace, node.underlay)?;
        }
        let a = world.run_instance("appA", "n1")?;
        let (far, near) = (world.run_instance("appB", "n2")?, world.run_instance("appB", "n1")?);
        netpol(world, "app set appA --group front")?;
        netpol(world, "app set appB --group back")?;
        netpol(world, "revoke host any --protocol any --wait")?;
        Ok(Self { a, far, near })
    }

    fn host<'a>(world: &'a World, node: &str) -> Result<End<'a>> {
        let node = world.node(node)?;
        let [.., number] = node.underlay.octets();
        let v6 = format!("fd00:c0:0:2::{number:x}").parse()?;
        let name = format!("the host {}", node.name);
        Ok(End { name, namespace: &node.namespace, addresses: [node.underlay.into(), v6] })
    }

    /// Who in this world a rule for these selectors speaks of: names for `check`, and the ends of each way between them.
    fn ways<'a>(&'a self, world: &'a World, from: &str, to: &str) -> Result<(&'a str, &'a str, Vec<[End<'a>; 2]>)> {
        let [a, near, far] = [&self.a, &self.near, &self.far].map(End::instance);
        Ok(match (from, to) {
            ("host", _) => ("host", "appB", vec![[Self::host(world, "n1")?, near?], [Self::host(world, "n2")?, far?]]),
            (_, "host") => ("appA", "host", vec![[a?, Self::host(world, "n1")?]]),
            _ => ("appA", "appB", vec![[End::instance(&self.a)?, near?], [a?, far?]]),
        })
    }

    /// Whether every protocol passes, as is expected, by `check` and on the wire, over both families.
    fn expect(&self, world: &World, from: &str, to: &str, expected: bool) -> Result<()> {
        let (source, destination, ways) = self.ways(world, from, to)?;
        for protocol in PROTOCOLS {
            let said = checked(world, source, destination, protocol)?;
            ensure!(said == expected, "{source} to {destination} by {protocol}: check says {said}");
            for [from, to] in &ways {
                for family in Family::BOTH {
                    let passed = passes(protocol, family, from, to)?;
                    let way = format!("{} to {} by {protocol} ({family:?})", from.name, to.name);
                    ensure!(passed == expected, "{way}: passes on the wire: {passed}");
                }
            }
        }
        Ok(())
    }
}

/// From state to state of the rules between two selectors by one command each, and what passes then.
const STATES: [(&str, bool); 6] = [
    ("allow {} --protocol any --mode audit --wait", false),
    ("allow {} --protocol any --mode enforce --wait", true),
    ("deny {} --protocol any --mode audit --wait", true),
    ("deny {} --protocol any --mode enforce --wait", false),
    ("revoke {} --protocol any --action allow --wait", false),
    ("revoke {} --protocol any --action deny --wait", false),
];

fn play(from: &str, destinations: &[&str]) {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let cast = Cast::gather(world)?;
        for to in destinations {
            cast.expect(world, from, to, false).context("without a rule")?;
            for (command, expected) in STATES {
                let line = command.replace("{}", &format!("{from} {to}"));
                netpol(world, &line)?;
                cast.expect(world, from, to, expected).with_context(|| format!("after netpol {line}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn from_an_app() {
    play("appA", &["appB", "any", "group:back", "host"]);
}

#[test]
fn from_any_app() {
    play("any", &["appB", "any", "group:back", "host"]);
}

#[test]
fn from_a_group() {
    play("group:front", &["appB", "any", "group:back", "host"]);
}

#[test]
fn from_the_host() {
    play("host", &["appB", "any", "group:back"]);
}

#[test]
fn apps_in_audit() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let cast = Cast::gather(world)?;
        for (a, b, softened) in [("audit", "enforce", false), ("enforce", "audit", false), ("audit", "audit", true)] {
            netpol(world, &format!("app set appA --mode {a}"))?;
            netpol(world, &format!("app set appB --mode {b} --wait"))?;
            cast.expect(world, "appA", "appB", softened).with_context(|| format!("{a}, {b}, no rule"))?;
            // The node itself is never in audit.
            cast.expect(world, "host", "appB", false).with_context(|| format!("{a}, {b}, no rule"))?;
            for (command, expected) in STATES {
                let line = command.replace("{}", "appA appB");
                netpol(world, &line)?;
                let expected = expected || softened;
                cast.expect(world, "appA", "appB", expected)
                    .with_context(|| format!("{a}, {b}, after netpol {line}"))?;
            }
        }
        Ok(())
    });
}
