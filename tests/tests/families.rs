//! Both versions of IP, inside the overlay and below it: the same rules, the same answers.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::world::instance::{INTERFACE, Instance};
use tests::world::probe::{Transport, expect_answer};
use tests::world::{Plan, scenario};

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
