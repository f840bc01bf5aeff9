//! A change of policy reaches live flows: they end both ways, at both ends, and the operator reads how many did.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::world::flow::{BothWays, Flow, Totals};
use tests::world::probe::{Transport, expect_answer};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
const KEPT: u16 = 9090;
const QUIET: Duration = Duration::from_millis(300);

fn lost_nothing(totals: BothWays<Totals>) -> Result<()> {
    for way in [totals.forth, totals.back] {
        ensure!(way.sent == way.delivered && way.sent > 0, "the flow nobody touched lost messages: {totals:?}");
    }
    Ok(())
}

fn allow(world: &World, ports: &str, protocol: &str) -> Result<()> {
    let line = ["allow", "appA", "appB", "--port", ports, "--protocol", protocol, "--wait"];
    world.netpol(&line)?.expect_exit(0).map(drop)
}

#[test]
fn a_revocation_says_how_many_live_flows_it_cut_and_on_which_node_and_touches_no_other() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        for protocol in ["tcp", "udp"] {
            allow(world, "8080-8089", protocol)?;
            allow(world, "9090", protocol)?;
        }
        let open = |transport, ports: std::ops::Range<u16>| -> Result<Vec<Flow>> {
            ports.map(|port| Flow::open(transport, &a, &b, port)).collect()
        };
        let tcp = open(Transport::Tcp, PORT..PORT + 7)?;
        let udp = open(Transport::Udp, PORT..PORT + 3)?;
        let kept = [Flow::open(Transport::Tcp, &a, &b, KEPT)?, Flow::open(Transport::Udp, &a, &b, KEPT)?];

        for (protocol, flows, said) in
            [("tcp", tcp, "7 live flows cut: 7 on n1"), ("udp", udp, "3 live flows cut: 3 on n1")]
        {
            let line = ["revoke", "appA", "appB", "--port", "8080-8089", "--protocol", protocol];
            world.netpol(&line)?.expect_exit(0)?.expect_said(said)?;
            flows.iter().try_for_each(|flow| flow.await_silence(QUIET))?;
        }
        for flow in kept {
            flow.await_deliveries(20)?;
            lost_nothing(flow.finish())?;
        }

        for (protocol, transport) in [("tcp", Transport::Tcp), ("udp", Transport::Udp)] {
            allow(world, "8080-8089", protocol)?;
            // Another port than those on which the cut flows' senders still are.
            expect_answer(transport, &a, &b, PORT + 9)?;
        }
        Ok(())
    });
}

#[test]
fn a_deny_cuts_the_live_flows_that_an_allow_had_let_in() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, far) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near = world.run_instance("appB", "n1")?;
        for protocol in ["tcp", "udp"] {
            allow(world, "8080", protocol)?;
        }
        for (protocol, transport) in [("tcp", Transport::Tcp), ("udp", Transport::Udp)] {
            let flows = [Flow::open(transport, &a, &far, PORT)?, Flow::open(transport, &a, &near, PORT)?];
            let line = ["deny", "appA", "appB", "--port", "8080", "--protocol", protocol];
            world.netpol(&line)?.expect_exit(0)?.expect_said("2 live flows cut: 2 on n1")?;
            flows.iter().try_for_each(|flow| flow.await_silence(QUIET))?;
        }
        Ok(())
    });
}
