//! What the agent says about flows: names for both ends, the rule or the reason, and how much it could not say.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context, Result, ensure};
use common::verdict::DropReason;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::world::agent_socket;
use tests::world::instance::Instance;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_some, await_that};
use tests::world::probe::{Transport, expect_answer, expect_blocked};
use tests::world::{Plan, World, scenario};

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
        let denied = [&ends[..], &[("/kind", "denied"), ("/reason", "no-rule"), ("/direction", "egress")]].concat();
        let event = await_event(world.node("n1")?, &denied)?;
        ensure!(event["destination"]["port"] == PORT && event["protocol"] == "tcp", "{event}");
        ensure!(event["source"]["node"] == "n1" && event["destination"]["node"] == "n2", "{event}");

        let allowed =
            world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait", "-o", "json"])?.expect_exit(0)?;
        let rule = allowed.json()?.pointer("/id").and_then(Value::as_str).context("a rule's id")?.to_owned();
        expect_answer(Transport::Tcp, &a, &b, PORT)?;
        for (node, direction) in [("n1", "egress"), ("n2", "ingress")] {
            let opened = [&ends[..], &[("/kind", "start"), ("/rule", &rule), ("/direction", direction)]].concat();
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

/// `netpol observe` at work, and the lines it has printed.
struct Observer {
    process: Child,
    lines: Receiver<String>,
}

impl Observer {
    fn start(node: &Node, flags: &[&str]) -> Result<Self> {
        let own = std::env::current_exe().context("find this program")?;
        let netpol = own.parent().and_then(Path::parent).context("find the binaries beside it")?.join("netpol");
        let mut command = node.namespace.command(netpol);
        command.arg("observe").args(flags).env("NETPOL_SOCKET", &node.socket).stdout(Stdio::piped());
        let mut process = command.spawn().context("start netpol")?;
        let stdout = process.stdout.take().context("its standard output")?;
        let (printed, lines) = channel();
        // Ends with the process; a test that has seen enough listens no more.
        thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|it| printed.send(it)));
        Ok(Self { process, lines })
    }

    fn line(&self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).context("wait for a line of netpol observe")
    }

    /// Ctrl-C; returns the exit code.
    fn interrupt(mut self) -> Result<Option<i32>> {
        kill(Pid::from_raw(i32::try_from(self.process.id())?), Signal::SIGINT)?;
        await_some("the end of netpol observe", PATIENCE, || Ok(self.process.try_wait()?)).map(|status| status.code())
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // Already gone is as good.
        self.process.kill().unwrap_or_default();
        self.process.wait().map(drop).unwrap_or_default();
    }
}

/// What `netpol observe` prints on n1 of this pair, as kinds.
fn observed(world: &World, (from, to): (&str, &str), flags: &[&str]) -> Result<Vec<String>> {
    let said = world.netpol_on("n1", &[&["observe", "-o", "jsonl"], flags].concat())?.expect_exit(0)?;
    let events: Vec<Value> = said.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let is_ours = |event: &&Value| ends(from, to).iter().all(|(end, name)| event.pointer(end) == Some(&(*name).into()));
    Ok(events.iter().filter(is_ours).filter_map(|event| event["kind"].as_str().map(str::to_owned)).collect())
}

#[test]
fn netpol_observe_shows_what_was_and_follows_what_comes_until_ctrl_c() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n1")?);
        let (a_name, b_name) = (a.name(), b.name());
        let pair = (a_name.as_str(), b_name.as_str());
        expect_blocked(Transport::Tcp, &a, &b, PORT)?;
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        expect_answer(Transport::Tcp, &a, &b, PORT)?;
        await_that("both verdicts", PATIENCE, || {
            let kinds = observed(world, pair, &[])?;
            Ok(["denied", "start"].iter().all(|kind| kinds.iter().any(|seen| seen == kind)))
        })?;
        let drops = observed(world, pair, &["--kind", "denied", "--app", "appA"])?;
        ensure!(!drops.is_empty() && drops.iter().all(|kind| kind == "denied"), "{drops:?}");

        let follow = ["-f", "--last", "0", "--source", "appB", "--reason", "no-rule"];
        let observer = Observer::start(world.node("n1")?, &follow)?;
        let header = observer.line()?;
        ensure!(header.starts_with("TIME"), "{header}");
        expect_blocked(Transport::Tcp, &b, &a, PORT)?;
        let line = observer.line()?;
        let parts = ["denied", "no-rule", "egress", &format!("{b_name} "), &format!("{a_name} ")];
        ensure!(parts.iter().all(|part| line.contains(part)), "{parts:?} are not all in `{line}`");
        ensure!(observer.interrupt()? == Some(0), "Ctrl-C is no failure");
        Ok(())
    });
}
