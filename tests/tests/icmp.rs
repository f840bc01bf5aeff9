//! ICMP errors reach whom they are for: as fast as a host itself would say it, and only along a flow that may be.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::world::instance::Instance;
use tests::world::{Plan, scenario};

const PORT: u16 = 8080;

/// What a client hears that asks where nobody listens.
fn ask_a_closed_port(from: &Instance, to: &Instance) -> Result<ErrorKind> {
    let destination = (to.address()?, PORT);
    from.namespace.inside(|| {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect(destination)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.send(b"anybody?").context("ask")?;
        match socket.recv(&mut [0; 16]) {
            Ok(read) => bail!("somebody answered with {read} bytes"),
            Err(error) => Ok(error.kind()),
        }
    })
}

#[test]
fn a_closed_udp_port_is_told_at_once_across_nodes_and_on_one_node_and_only_where_a_rule_allows_the_flow() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, far) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near = world.run_instance("appB", "n1")?;
        for b in [&far, &near] {
            // Its own node says that it is prohibited; what the other end would say does not come back.
            ensure!(ask_a_closed_port(&a, b)? == ErrorKind::HostUnreachable, "a denied flow reached the closed port");
        }
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--protocol", "udp", "--wait"])?.expect_exit(0)?;
        for b in [&far, &near] {
            let heard = ask_a_closed_port(&a, b)?;
            ensure!(heard == ErrorKind::ConnectionRefused, "{} is closed, but {} hears {heard:?}", b.name(), a.name());
        }
        Ok(())
    });
}
