//! Audit changes what is told, not what passes; an app in audit lets pass at its own end, and tells.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::world::agent_socket;
use tests::world::flow::Flow;
use tests::world::instance::Instance;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_some};
use tests::world::probe::Transport::{Tcp, Udp};
use tests::world::probe::{expect_answer, expect_blocked};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
/// Nothing for this long is silence: hundreds of messages would have come.
const QUIET: Duration = Duration::from_millis(300);

/// Runs a command that must succeed, and returns what it says in JSON.
fn netpol(world: &World, line: &str) -> Result<Value> {
    let arguments: Vec<&str> = line.split(' ').chain(["-o", "json"]).collect();
    world.netpol(&arguments)?.expect_exit(0)?.json()
}

/// Makes a rule, waits until it is in force, and returns its id.
fn rule(world: &World, line: &str) -> Result<String> {
    let made = netpol(world, &format!("{line} --port {PORT} --wait"))?;
    made["id"].as_str().map(str::to_owned).with_context(|| format!("a rule without an id: {made}"))
}

fn events(node: &Node) -> Result<Vec<Value>> {
    let lines = agent_socket::get_text(&node.socket, "/v1/events")?;
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// What a node shall tell of a flow to [`PORT`].
#[derive(Clone, Copy, Debug)]
struct Told<'a> {
    node: &'a str,
    kind: &'a str,
    direction: &'a str,
    reason: Option<&'a str>,
    would: Option<&'a str>,
}

impl Told<'_> {
    fn fits(&self, event: &Value, from: &str, to: &str) -> bool {
        let says = |pointer, wanted: &str| event.pointer(pointer) == Some(&Value::from(wanted));
        says("/kind", self.kind)
            && says("/direction", self.direction)
            && says("/source/instance", from)
            && says("/destination/instance", to)
            && event["destination"]["port"] == PORT
            && self.reason.is_none_or(|reason| says("/reason", reason))
            && self.would.is_none_or(|would| says("/would", would))
    }

    /// Waits for the event, on the agent's socket and by `netpol observe`.
    fn wait(&self, world: &World, from: &Instance, to: &Instance) -> Result<()> {
        let (from, to) = (from.name(), to.name());
        let node = world.node(self.node)?;
        let told = await_some("an event", PATIENCE, || {
            Ok(events(node)?.into_iter().find(|event| self.fits(event, &from, &to)))
        });
        told.with_context(|| format!("wanted {self:?}, read {:#?}", events(node)))?;
        let said = world.netpol_on(self.node, &["observe", "-o", "jsonl", "--kind", self.kind])?.expect_exit(0)?;
        let lines = said.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        ensure!(lines.iter().any(|line| self.fits(line, &from, &to)), "{self:?} is not in what observe says\n{said}");
        Ok(())
    }
}

/// Who judges what an instance on n1 sends, and which way it goes there: on one node both ends are judged at once.
fn judges(to: &Instance) -> Vec<(&str, &'static str)> {
    let far = (to.node != "n1").then_some((to.node.as_str(), "ingress"));
    [("n1", "egress")].into_iter().chain(far).collect()
}

#[test]
fn an_audit_rule_decides_nothing_and_what_it_would_is_told() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, far) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near = world.run_instance("appB", "n1")?;

        let allow = rule(world, "allow appA appB --mode audit")?;
        for b in [&far, &near] {
            expect_blocked(Tcp, &a, b, PORT)?;
            let would = Some(allow.as_str());
            let told = Told { node: "n1", kind: "would-allow", direction: "egress", reason: Some("no-rule"), would };
            told.wait(world, &a, b)?;
        }

        // The same tuple, now enforced: the same rule.
        ensure!(rule(world, "allow appA appB --mode enforce")? == allow, "the rule was to be updated in place");
        let deny = rule(world, "deny appA appB --mode audit")?;
        for b in [&far, &near] {
            expect_answer(Tcp, &a, b, PORT)?;
            for (node, direction) in judges(b) {
                let would = Some(deny.as_str());
                Told { node, kind: "would-deny", direction, reason: None, would }.wait(world, &a, b)?;
            }
        }
        Ok(())
    });
}

#[test]
fn an_audit_rule_that_comes_or_goes_takes_nothing_from_a_live_flow() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        rule(world, "allow appA appB")?;
        let flow = Flow::open(Tcp, &a, &b, PORT)?;
        let deny = rule(world, "deny appA appB --mode audit")?;
        flow.await_deliveries(100)?;
        netpol(world, &format!("revoke {deny} --wait"))?;
        flow.await_deliveries(100)?;
        let totals = flow.finish();
        for way in [totals.forth, totals.back] {
            ensure!(way.sent == way.delivered, "an audit rule took something: {totals:?}");
        }
        Ok(())
    });
}

fn set_mode(world: &World, app: &str, mode: &str) -> Result<()> {
    netpol(world, &format!("app set {app} --mode {mode} --wait")).map(drop)
}

#[test]
fn an_app_in_audit_lets_pass_at_its_own_end_only() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, far) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near = world.run_instance("appB", "n1")?;
        let would_deny = |node, direction| Told { node, kind: "would-deny", direction, reason: None, would: None };
        let denied = |node, direction, reason| Told { node, kind: "denied", direction, reason, would: None };

        set_mode(world, "appA", "audit")?;
        for b in [&far, &near] {
            expect_blocked(Tcp, &a, b, PORT)?;
        }
        would_deny("n1", "egress").wait(world, &a, &far)?;
        denied("n2", "ingress", Some("no-rule")).wait(world, &a, &far)?;
        denied("n1", "egress", Some("no-rule")).wait(world, &a, &near)?;

        set_mode(world, "appA", "enforce")?;
        set_mode(world, "appB", "audit")?;
        let deny = rule(world, "deny appA appB")?;
        for b in [&far, &near] {
            expect_blocked(Tcp, &a, b, PORT)?;
            denied("n1", "egress", Some("deny-rule")).wait(world, &a, b)?;
        }
        netpol(world, &format!("revoke {deny} --wait")).map(drop)
    });
}

#[test]
fn two_apps_in_audit_talk_and_are_told_of_until_one_of_them_leaves_audit() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, far) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near = world.run_instance("appB", "n1")?;
        for leaver in ["appA", "appB"] {
            set_mode(world, "appA", "audit")?;
            set_mode(world, "appB", "audit")?;
            let mut flows = Vec::new();
            for b in [&far, &near] {
                flows.push(Flow::open(Tcp, &a, b, PORT)?);
                flows.push(Flow::open(Udp, &a, b, PORT)?);
                for (node, direction) in judges(b) {
                    Told { node, kind: "would-deny", direction, reason: None, would: None }.wait(world, &a, b)?;
                }
            }
            set_mode(world, leaver, "enforce")?;
            flows.iter().try_for_each(|flow| flow.await_silence(QUIET))?;
            drop(flows);
            for b in [&far, &near] {
                expect_blocked(Tcp, &a, b, PORT)?;
            }
        }
        Ok(())
    });
}
