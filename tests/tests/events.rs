//! What the agent says about flows: names for both ends, the rule or the reason, and how much it could not say.

use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use common::verdict::DropReason;
use serde_json::Value;
use tests::world::agent_socket;
use tests::world::instance::Instance;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_some, await_that};
use tests::world::probe::{Transport, expect_answer, expect_blocked};
use tests::world::{Plan, scenario};

const PORT: u16 = 8080;

fn events(node: &Node) -> Result<Vec<Value>> {
    let lines = agent_socket::get_text(&node.socket, "/v1/events")?;
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// The first event with these members, which may be a moment under way.
fn await_event(node: &Node, wanted: &[(&str, &str)]) -> Result<Value> {
    let matches =
        |event: &Value| wanted.iter().all(|(pointer, value)| event.pointer(pointer) == Some(&Value::from(*value)));
    await_some("an event", PATIENCE, || Ok(events(node)?.into_iter().find(matches)))
        .with_context(|| format!("wanted {wanted:?}, read {:#?}", events(node)))
}

fn ends<'a>(from: &'a str, to: &'a str) -> [(&'static str, &'a str); 2] {
    [("/source/instance", from), ("/destination/instance", to)]
}

#[test]
fn a_denied_flow_and_a_new_one_are_told_with_names_reason_and_rule() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        expect_blocked(Transport::Tcp, &a, &b, PORT)?;
        let (a_name, b_name) = (a.name(), b.name());
        let ends = ends(&a_name, &b_name);
        let denied = [&ends[..], &[("/kind", "drop"), ("/reason", "no-rule"), ("/direction", "egress")]].concat();
        let event = await_event(world.node("n1")?, &denied)?;
        ensure!(event["destination"]["port"] == PORT && event["protocol"] == "tcp", "{event}");
        ensure!(event["source"]["node"] == "n1" && event["destination"]["node"] == "n2", "{event}");

        let allowed =
            world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait", "-o", "json"])?.expect_exit(0)?;
        let rule = allowed.json()?.pointer("/id").and_then(Value::as_str).context("a rule's id")?.to_owned();
        expect_answer(Transport::Tcp, &a, &b, PORT)?;
        for (node, direction) in [("n1", "egress"), ("n2", "ingress")] {
            let opened = [&ends[..], &[("/kind", "new-flow"), ("/rule", &rule), ("/direction", direction)]].concat();
            await_event(world.node(node)?, &opened)?;
        }
        Ok(())
    });
}

/// Sends as many datagrams as nobody allows.
fn knock(from: &Instance, to: &Instance, times: u64) -> Result<()> {
    let destination = (to.address()?, PORT);
    from.namespace.inside(|| {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        (0..times).try_for_each(|_| socket.send_to(b"knock", destination).map(drop)).context("knock")
    })
}

#[test]
fn what_the_ring_could_not_hold_is_counted_and_the_drops_are_exact() {
    /// More than the ring holds while nobody reads it.
    const KNOCKS: u64 = 30_000;
    scenario(Plan::nodes(&["n1"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n1")?);
        let denied =
            |node: &Node| -> Result<u64> { Ok(node.drops()?.get(DropReason::NoRule.name()).copied().unwrap_or(0)) };
        let before = denied(world.node("n1")?)?;
        world.node_mut("n1")?.kill_agent()?;
        knock(&a, &b, KNOCKS)?;
        world.restart_agent("n1")?;
        let node = world.node("n1")?;
        ensure!(denied(node)? == before + KNOCKS, "{} of {KNOCKS} denials were counted", denied(node)? - before);
        let lost = agent_socket::get(&node.socket, "/v1/drops")?["events_lost"].as_u64().context("events_lost")?;
        ensure!(0 < lost && lost < KNOCKS, "{lost} of {KNOCKS} events were lost");
        // What was not lost is read by the next agent.
        await_that("the kept events", PATIENCE, || Ok(!events(node)?.is_empty()))
    });
}
