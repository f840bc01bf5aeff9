//! Rules that name many at once, on the wire and over both families: `any`, groups, the node itself; and those that end.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::world::fabric::add_ipv6;
use tests::world::flow::Flow;
use tests::world::instance::{Family, Instance};
use tests::world::netpol::Invocation;
use tests::world::probe::Transport::{self, Tcp, Udp};
use tests::world::probe::{expect_answer_over, expect_blocked_over, ping_over};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
/// Nothing for this long is silence: hundreds of messages would have come.
const QUIET: Duration = Duration::from_millis(300);

fn netpol(world: &World, line: &str) -> Result<Invocation> {
    world.netpol(&line.split(' ').collect::<Vec<_>>())?.expect_exit(0)
}

fn expect_reaches(transport: Transport, from: &Instance, to: &Instance) -> Result<()> {
    Family::BOTH.into_iter().try_for_each(|family| expect_answer_over(family, transport, from, to, PORT).map(drop))
}

fn expect_shut(transport: Transport, from: &Instance, to: &Instance) -> Result<()> {
    Family::BOTH.into_iter().try_for_each(|family| expect_blocked_over(family, transport, from, to, PORT))
}

fn expect_ping(from: &Instance, to: &Instance, expected: bool) -> Result<()> {
    Family::BOTH.into_iter().try_for_each(|family| {
        let answered = ping_over(family, from, to)?;
        ensure!(answered == expected, "{} pings {} ({family:?}): {answered}", from.name(), to.name());
        Ok(())
    })
}

#[test]
fn a_group_opens_what_it_names_for_its_members_and_a_deny_of_one_of_them_beats_it() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, c) = (world.run_instance("appA", "n1")?, world.run_instance("appC", "n1")?);
        let stranger = world.run_instance("appD", "n1")?;
        let (far, near) = (world.run_instance("appB", "n2")?, world.run_instance("appB", "n1")?);
        for line in ["app set appA --group front", "app set appC --group front", "app set appB --group back"] {
            netpol(world, line)?;
        }
        netpol(world, "allow group:front group:back --port 8080 --wait")?;
        for b in [&far, &near] {
            expect_reaches(Tcp, &a, b)?;
            expect_reaches(Tcp, &c, b)?;
            expect_shut(Tcp, &stranger, b)?;
            expect_shut(Tcp, b, &a)?;
        }
        expect_shut(Udp, &a, &far)?;
        expect_shut(Tcp, &a, &c)?;

        netpol(world, "deny appA appB --port 8080 --wait")?;
        for b in [&far, &near] {
            expect_shut(Tcp, &a, b)?;
            expect_reaches(Tcp, &c, b)?;
        }
        Ok(())
    });
}

#[test]
fn joining_a_group_opens_and_leaving_it_cuts_while_the_flow_lives() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near = world.run_instance("appB", "n1")?;
        netpol(world, "allow group:front appB --protocol udp --wait")?;
        let mut flows = Vec::new();
        for (family, to) in [(Family::V4, &b), (Family::V6, &b), (Family::V4, &near), (Family::V6, &near)] {
            flows.push(Flow::start_over(family, Udp, &a, to, PORT)?);
        }
        for _ in 0..2 {
            netpol(world, "app set appA --add-group front --wait")?;
            flows.iter().try_for_each(|flow| flow.await_deliveries(50))?;
            netpol(world, "app set appA --remove-group front --wait")?;
            flows.iter().try_for_each(|flow| flow.await_silence(QUIET))?;
        }
        // The other end may be the group too.
        netpol(world, "revoke group:front appB --protocol udp")?;
        netpol(world, "allow appA group:back --protocol udp --wait")?;
        netpol(world, "app set appB --add-group back --wait")?;
        flows.iter().try_for_each(|flow| flow.await_deliveries(50))?;
        netpol(world, "app set appB --remove-group back --wait")?;
        flows.iter().try_for_each(|flow| flow.await_silence(QUIET))
    });
}

#[test]
fn any_is_every_app_and_protocol_any_is_every_protocol() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, c) = (world.run_instance("appA", "n1")?, world.run_instance("appC", "n2")?);
        let b = world.run_instance("appB", "n2")?;
        expect_ping(&a, &b, false)?;
        netpol(world, "allow any appB --protocol any --wait")?;
        for from in [&a, &c] {
            expect_reaches(Tcp, from, &b)?;
            expect_reaches(Udp, from, &b)?;
            expect_ping(from, &b, true)?;
        }
        // An app of which nobody had heard when the rule was made.
        let late = world.run_instance("late", "n1")?;
        expect_reaches(Tcp, &late, &b)?;
        expect_shut(Tcp, &b, &a)?;
        expect_shut(Tcp, &a, &c)?;

        netpol(world, "revoke any appB --protocol any")?;
        netpol(world, "allow appA any --protocol icmp --wait")?;
        for to in [&b, &c] {
            expect_ping(&a, to, true)?;
            expect_shut(Tcp, &a, to)?;
            expect_ping(to, &a, false)?;
        }
        Ok(())
    });
}

/// Whether the node itself reaches an instance of its own.
fn node_reaches(world: &World, to: &Instance, family: Family, patience: Duration) -> Result<bool> {
    let address = SocketAddr::new(to.address_of(family)?, PORT);
    let _listener = to.namespace.inside(|| TcpListener::bind(address).context("listen"))?;
    let node = &world.node(&to.node)?.namespace;
    node.inside(|| Ok(TcpStream::connect_timeout(&address, patience).is_ok()))
}

#[test]
fn the_node_reaches_its_instances_until_the_built_in_rule_is_revoked_and_any_is_not_the_node() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        for node in &world.nodes {
            add_ipv6(&node.namespace, node.underlay)?;
        }
        netpol(world, "list")?.expect_said("host")?;
        netpol(world, "allow any any --wait")?;
        let expect = |expected: bool| -> Result<()> {
            for (to, family) in [(&a, Family::V4), (&a, Family::V6), (&b, Family::V4), (&b, Family::V6)] {
                let patience = if expected { Duration::from_secs(5) } else { QUIET };
                let reached = node_reaches(world, to, family, patience)?;
                ensure!(reached == expected, "the node reaches {} ({family:?}): {reached}", to.name());
            }
            Ok(())
        };
        expect(true)?;
        netpol(world, "revoke host any --protocol any --wait")?;
        expect(false)?;
        expect_reaches(Tcp, &a, &b)?;
        netpol(world, "allow host any --protocol any --wait")?;
        expect(true)
    });
}

/// Opens flows that live for two seconds, does something, and awaits that they end by themselves and on time.
fn expect_to_lapse(
    world: &mut World,
    ends: &[Instance; 3],
    meanwhile: impl FnOnce(&mut World) -> Result<()>,
) -> Result<()> {
    let [a, far, near] = ends;
    let sent = Instant::now();
    for protocol in ["tcp", "udp"] {
        netpol(world, &format!("allow appA appB --protocol {protocol} --ttl 2s --wait"))?;
    }
    let mut flows = Vec::new();
    for (transport, to) in [(Tcp, far), (Udp, far), (Udp, near)] {
        flows.push(Flow::open(transport, a, to, PORT)?);
    }
    meanwhile(world)?;
    for flow in &flows {
        flow.await_silence(QUIET)?;
        let last = flow.last_deliveries();
        let lived = last.forth.max(last.back).saturating_duration_since(sent);
        ensure!(lived > Duration::from_millis(1_500), "a flow ended after {lived:?} of two seconds");
        ensure!(lived < Duration::from_secs(4), "a flow ended only after {lived:?}");
    }
    drop(flows);
    expect_shut(Tcp, a, far)?;
    expect_shut(Udp, a, near)
}

#[test]
fn an_allow_with_a_lifetime_ends_by_itself_and_also_where_the_api_is_gone() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let ends =
            [world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?, world.run_instance("appB", "n1")?];
        expect_to_lapse(world, &ends, |_| Ok(()))?;
        ensure!(!netpol(world, "list")?.said().contains("appA"), "the rule is still listed");
        expect_to_lapse(world, &ends, |world| world.control.kill())
    });
}
