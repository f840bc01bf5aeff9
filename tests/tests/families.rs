//! Both versions of IP, inside the overlay and below it: the same rules, the same answers.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::world::flow::Flow;
use tests::world::instance::{Family, INTERFACE, Instance};
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{Transport, expect_answer, expect_answer_over, expect_blocked_over, ping_over};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;

/// What `ip` shows inside of the instance.
fn shown(instance: &Instance, arguments: &[&str]) -> Result<String> {
    let output = instance.namespace.command("ip").args(arguments).output().context("run ip")?;
    ensure!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn an_instance_has_one_address_of_each_family_and_both_are_the_same_host() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let a = world.run_instance("appA", "n1")?;
        let (v4, v6) = (a.address()?, a.address_v6()?);
        ensure!(u16::from(v4.octets()[3]) == v6.segments()[7], "{v4} and {v6} are not the same host");
        ensure!(a.attached.note.is_none(), "{:?}", a.attached.note);

        let addresses = shown(&a, &["-o", "-6", "addr", "show", INTERFACE])?;
        ensure!(addresses.lines().count() == 1, "the kernel made addresses of its own:\n{addresses}");
        ensure!(addresses.contains(&format!("{v6}/128")) && !addresses.contains("tentative"), "{addresses}");
        let routes = shown(&a, &["-6", "route", "show", "default"])?;
        ensure!(routes.contains("via fe80::1 dev eth0"), "{routes}");
        let neighbours = shown(&a, &["-6", "neigh", "show", "fe80::1"])?;
        ensure!(neighbours.contains("ee:ee:ee:ee:ee:ee") && neighbours.contains("PERMANENT"), "{neighbours}");

        let who = world.netpol(&["lookup", &v6.to_string()])?.expect_exit(0)?;
        who.expect_said("appA/0").map(drop)
    });
}

#[test]
fn a_namespace_without_ipv6_gets_ipv4_alone_and_is_told_so() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let bare = world.namespace()?;
        bare.inside(|| Ok(fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?))?;
        let a = world.attach(bare, "appA", "n1")?;
        ensure!(a.attached.addresses.len() == 1, "{:?}", a.attached);
        let note = a.attached.note.clone().unwrap_or_default();
        ensure!(note.contains("IPv4 only") && note.contains("disable_ipv6"), "`{note}`");

        let b = world.run_instance("appB", "n1")?;
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        expect_answer(Transport::Tcp, &a, &b, PORT).map(drop)
    });
}

/// `appA` and `appB` on two nodes each other can see, and `appC`, whom no rule names.
struct Cast {
    a: Instance,
    b: Instance,
    near_b: Instance,
    c: Instance,
}

impl Cast {
    fn set(world: &mut World) -> Result<Self> {
        let cast = Self {
            a: world.run_instance("appA", "n1")?,
            b: world.run_instance("appB", "n2")?,
            near_b: world.run_instance("appB", "n1")?,
            c: world.run_instance("appC", "n1")?,
        };
        for protocol in ["tcp", "udp"] {
            let line = ["allow", "appA", "appB", "--port", "8080-8089", "--protocol", protocol, "--wait"];
            world.netpol(&line)?.expect_exit(0)?;
        }
        world.netpol(&["allow", "appA", "appB", "--protocol", "icmp", "--wait"])?.expect_exit(0)?;
        Ok(cast)
    }

    /// The same rules say the same to both families, on one node and between two.
    fn expect_policy(&self) -> Result<()> {
        for family in Family::BOTH {
            for to in [&self.b, &self.near_b] {
                for transport in [Transport::Tcp, Transport::Udp] {
                    expect_answer_over(family, transport, &self.a, to, PORT)?;
                    expect_blocked_over(family, transport, &self.a, to, PORT + 10)?;
                    expect_blocked_over(family, transport, &self.c, to, PORT)?;
                    expect_blocked_over(family, transport, to, &self.a, PORT)?;
                }
                ensure!(ping_over(family, &self.a, to)?, "no echo from {} ({family:?})", to.name());
                ensure!(!ping_over(family, &self.c, to)?, "an echo from {} ({family:?})", to.name());
            }
        }
        Ok(())
    }
}

fn plan(underlay: Family) -> Plan {
    Plan { underlay, ..Plan::nodes(&["n1", "n2"]) }
}

#[test]
fn over_an_ipv4_underlay_both_families_follow_the_same_rules() {
    scenario(plan(Family::V4), |world| Cast::set(world)?.expect_policy());
}

#[test]
fn over_an_ipv6_underlay_both_families_follow_the_same_rules() {
    scenario(plan(Family::V6), |world| {
        Cast::set(world)?.expect_policy()?;
        let nodes = world.netpol(&["nodes", "-o", "json"])?.expect_exit(0)?;
        nodes.expect_said("fd00:c0:0:2::1").map(drop)
    });
}

#[test]
fn a_rule_revoked_stops_live_flows_of_both_families() {
    const QUIET: Duration = Duration::from_millis(300);
    for underlay in Family::BOTH {
        scenario(plan(underlay), |world| {
            let cast = Cast::set(world)?;
            let open = |family| Flow::open_over(family, Transport::Udp, &cast.a, &cast.b, PORT);
            let flows = [open(Family::V4)?, open(Family::V6)?];
            let line = ["revoke", "appA", "appB", "--port", "8080-8089", "--protocol", "udp"];
            world.netpol(&line)?.expect_exit(0)?;
            flows.iter().try_for_each(|flow| flow.await_silence(QUIET))
        });
    }
}

#[test]
fn an_ipv6_address_tells_whose_it_is_and_check_says_what_happens_to_it() {
    scenario(plan(Family::V4), |world| {
        let cast = Cast::set(world)?;
        for instance in [&cast.a, &cast.b, &cast.near_b, &cast.c] {
            let address = instance.address_v6()?.to_string();
            world.netpol(&["lookup", &address])?.expect_exit(0)?.expect_said(&instance.name())?;
        }
        world.netpol(&["check", "appA", "appB", "--port", "8080"])?.expect_exit(0)?;
        world.netpol(&["check", "appC", "appB", "--port", "8080"])?.expect_exit(1).map(drop)
    });
}

#[test]
fn a_node_reaches_its_instances_by_ipv6_as_by_ipv4() {
    scenario(plan(Family::V4), |world| {
        let a = world.run_instance("appA", "n1")?;
        world.netpol(&["allow", "host", "appA", "--port", "8080", "--wait"])?.expect_exit(0)?;
        for family in Family::BOTH {
            let address = SocketAddr::new(a.address_of(family)?, PORT);
            let listener = a.namespace.inside(|| TcpListener::bind(address).context("listen"))?;
            let node = &world.node("n1")?.namespace;
            let patience = Duration::from_secs(5);
            if family == Family::V6 {
                node.ip("addr add fd00:c0:0:2::99/64 dev uplink nodad\n")?;
                await_that("the node's new address to be known", PATIENCE, || {
                    Ok(node.inside(|| Ok(TcpStream::connect_timeout(&address, patience)?)).is_ok())
                })?;
            }
            node.inside(|| TcpStream::connect_timeout(&address, patience).context("connect"))
                .with_context(|| format!("{family:?}"))?;
            drop(listener);
        }
        Ok(())
    });
}
