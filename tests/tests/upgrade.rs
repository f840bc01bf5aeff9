//! Upgrades to an agent whose maps have another layout, under load: flows go on, and nothing passes that should not.

use std::fs;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::SCHEMA;
use tests::rounds;
use tests::world::instance::Instance;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{Transport, expect_answer, expect_blocked};
use tests::world::stage::{NODES, PORT, Stage};
use tests::world::{Plan, World, scenario};

/// The agent with longer flows and the next number.
const NEXT: &str = "netpol-agent-next";
const THIS: &str = "netpol-agent";

fn replace_agents(world: &mut World, program: &'static str) -> Result<()> {
    for node in NODES {
        world.node_mut(node)?.upgrade_to(program);
        world.node_mut(node)?.kill_agent()?;
        world.restart_agent(node)?;
    }
    Ok(())
}

/// The layouts whose pins a node has.
fn layouts(node: &Node) -> Result<Vec<String>> {
    let names = fs::read_dir(&node.pins)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

fn expect_layout(world: &World, schema: u32) -> Result<()> {
    for node in NODES {
        let found = layouts(world.node(node)?)?;
        ensure!(found == [format!("v{schema}")], "{node} has pins of {found:?}");
    }
    Ok(())
}

fn expect_policy(stage: &Stage) -> Result<()> {
    expect_answer(Transport::Tcp, &stage.a, &stage.b, PORT + 2)?;
    expect_answer(Transport::Udp, &stage.a, &stage.near_b, PORT + 2)?;
    expect_blocked(Transport::Tcp, &stage.c, &stage.b, PORT + 2)?;
    expect_blocked(Transport::Udp, &stage.c, &stage.near_b, PORT + 2)
}

#[test]
fn an_upgrade_to_another_layout_interrupts_no_flow_and_lets_nothing_pass() {
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        let traffic = stage.open_traffic()?;
        replace_agents(world, NEXT)?;
        traffic.await_a_while()?;
        expect_layout(world, SCHEMA + 1)?;
        expect_policy(&stage)?;
        traffic.finish()?;

        world.netpol(&["revoke", "appA", "appB", "--port", "8080-8089"])?.expect_exit(0)?;
        await_that("the revoke to be in force", PATIENCE, || {
            Ok(expect_blocked(Transport::Tcp, &stage.a, &stage.b, PORT).is_ok())
        })
    });
}

#[test]
fn an_upgrade_by_filters_interrupts_no_flow_either() {
    let agent_flags = ["--attach", "tc"].map(str::to_owned).to_vec();
    scenario(Plan { agent_flags, ..Plan::nodes(&NODES) }, |world| {
        let stage = Stage::set(world)?;
        let traffic = stage.open_traffic()?;
        replace_agents(world, NEXT)?;
        traffic.await_a_while()?;
        expect_layout(world, SCHEMA + 1)?;
        expect_policy(&stage)?;
        traffic.finish()
    });
}

#[test]
fn an_upgrade_killed_on_its_way_is_done_by_the_next_agent_and_still_interrupts_nothing() {
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        let traffic = stage.open_traffic()?;
        world.node_mut("n1")?.kill_agent()?;
        world.node_mut("n1")?.upgrade_to(NEXT);
        let rounds = rounds(8, 80);
        for round in 1..=rounds {
            // Anywhere between the start and, on an idle machine, some time after the take-over.
            let moment = 200 * u64::try_from(round)? / u64::try_from(rounds)?;
            let mut agent = world.node("n1")?.launch_agent(&[])?;
            std::thread::sleep(Duration::from_millis(moment));
            agent.kill()?;
        }
        world.restart_agent("n1")?;
        traffic.await_a_while()?;
        let found = layouts(world.node("n1")?)?;
        ensure!(found == [format!("v{}", SCHEMA + 1)], "n1 has pins of {found:?}");
        expect_policy(&stage)?;
        traffic.finish()
    });
}

#[test]
fn from_a_layout_that_an_agent_does_not_know_policy_goes_on_and_flows_are_opened_again() {
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        replace_agents(world, NEXT)?;
        let traffic = stage.open_traffic()?;
        replace_agents(world, THIS)?;
        traffic.await_a_while().context("flows after the way back")?;
        expect_layout(world, SCHEMA)?;
        expect_policy(&stage)?;
        // The first answers after the change find no flow, until its initiator speaks.
        traffic.finish_but(40)
    });
}

/// What became of flows that were opened one after the other, each by a question that has an answer.
#[derive(Debug, Default)]
struct Openings {
    asked: usize,
    /// How many had to ask twice.
    again: usize,
}

/// Opens flow after flow until it is told to stop.
fn open_flows(from: &Instance, to: &Instance, stop: &AtomicBool) -> Result<Openings> {
    const ANSWER_WITHIN: Duration = Duration::from_millis(500);
    let (source, destination) = (from.address()?, (to.address()?, PORT + 9));
    let answerer = to.namespace.inside(|| Ok(UdpSocket::bind(destination)?))?;
    answerer.set_read_timeout(Some(ANSWER_WITHIN))?;
    let nobody_asks = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut question = [0; 8];
            while !nobody_asks.load(Ordering::Relaxed) {
                if let Ok((_, asker)) = answerer.recv_from(&mut question) {
                    // Whether it arrives is what the asker finds out.
                    answerer.send_to(&question, asker).map(drop).unwrap_or_default();
                }
            }
        });
        let openings = from.namespace.inside(|| {
            let mut openings = Openings::default();
            while !stop.load(Ordering::Relaxed) {
                let asker = UdpSocket::bind((source, 0))?;
                asker.set_read_timeout(Some(ANSWER_WITHIN))?;
                asker.connect(destination)?;
                let ask = || asker.send(b"question").is_ok() && asker.recv(&mut [0; 8]).is_ok();
                openings.asked += 1;
                if !ask() {
                    asker.set_read_timeout(Some(PATIENCE))?;
                    ensure!(ask(), "a flow was not opened by its second question either: {openings:?}");
                    openings.again += 1;
                }
            }
            Ok(openings)
        });
        nobody_asks.store(true, Ordering::Relaxed);
        openings
    })
}

/// The two programs that a flow passes on a node change over one after the other. A flow that is opened by one just before,
/// or just after, is not known to the other until flows have been copied again: its first answer may find no flow. Measured:
/// none of 340,000 flows that were opened one after the other, over five upgrades of both nodes; on a machine with three times
/// as much to do as it can, one in some upgrades.
#[test]
fn a_flow_that_is_opened_while_the_hooks_change_over_is_opened_by_its_next_question_at_the_latest() {
    const IN_THAT_MOMENT: usize = 3;
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        let stop = AtomicBool::new(false);
        let openings = std::thread::scope(|scope| {
            let opening = scope.spawn(|| open_flows(&stage.a, &stage.b, &stop));
            let replaced = replace_agents(world, NEXT);
            stop.store(true, Ordering::Relaxed);
            let openings = opening.join().expect("it returns its errors");
            replaced.and(openings)
        })?;
        ensure!(openings.asked > 1_000, "hardly any flow was opened: {openings:?}");
        ensure!(openings.again <= IN_THAT_MOMENT, "{openings:?}\n{}", world.logs());
        Ok(())
    });
}
