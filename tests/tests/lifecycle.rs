//! Enforcement outlives the daemons: what passes and what does not stays the same while an agent or the API is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::rounds;
use tests::world::agent_socket;
use tests::world::daemon::Daemon;
use tests::world::http::{Proof, Request};
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::pins;
use tests::world::probe::{Outcome, Transport, ask, expect_answer, expect_blocked};
use tests::world::stage::{NODES, PORT, Stage};
use tests::world::{Plan, World, scenario};

/// Enough for an answer on an idle machine; what asks so briefly asks again.
const A_MOMENT: Duration = Duration::from_millis(200);

#[test]
fn killing_agents_under_traffic_loses_no_allowed_packet_and_passes_no_denied_one() {
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        let traffic = stage.open_traffic()?;
        for round in 0..rounds(2, 100) {
            let node = NODES[round % NODES.len()];
            world.node_mut(node)?.kill_agent()?;
            traffic.await_a_while()?;
            expect_blocked(Transport::Tcp, &stage.c, &stage.b, PORT + 2)?;
            expect_answer(Transport::Tcp, &stage.a, &stage.b, PORT + 2)
                .context("a new flow while the agent is dead")?;
            world.restart_agent(node)?;
            traffic.await_a_while()?;
        }
        traffic.finish()
    });
}

#[test]
fn twenty_agents_one_after_the_other_under_load_lose_nothing_and_let_nothing_pass() {
    const RESTARTS: usize = 20;
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        let traffic = stage.open_traffic()?;
        for round in 0..RESTARTS {
            let node = NODES[round % NODES.len()];
            world.node_mut(node)?.kill_agent()?;
            world.restart_agent(node)?;
        }
        traffic.await_a_while()?;
        traffic.finish()
    });
}

#[test]
fn a_restarted_agent_adopts_what_is_pinned_and_goes_on_from_there() {
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        let before = pins::read(&world.node("n1")?.pins)?;
        ensure!(!before.is_empty(), "nothing is pinned under {}", world.node("n1")?.pins.display());
        let endpoints = world.node("n1")?.status()?["endpoints"].clone();

        world.node_mut("n1")?.kill_agent()?;
        world.restart_agent("n1")?;

        let after = pins::read(&world.node("n1")?.pins)?;
        ensure!(after == before, "adopted means the same kernel objects: {before:?} became {after:?}");
        let adopted = world.node("n1")?.status()?["endpoints"].clone();
        ensure!(adopted == endpoints, "endpoints {endpoints} became {adopted}");
        // It is the adopted maps that the new agent writes to.
        world.netpol(&["revoke", "appA", "appB", "--port", "8080-8089"])?.expect_exit(0)?;
        await_that("the revoke to reach the restarted agent", PATIENCE, || {
            Ok(ask(Transport::Tcp, &stage.a, &stage.near_b, PORT, A_MOMENT)? == Outcome::Blocked)
        })?;
        world.netpol(&["allow", "appC", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        expect_answer(Transport::Tcp, &stage.c, &stage.near_b, PORT).map(drop)
    });
}

#[test]
fn enforcement_and_agent_restarts_go_on_without_the_api() {
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        let traffic = stage.open_traffic()?;
        world.control.kill()?;
        traffic.await_a_while()?;
        for node in NODES {
            world.node_mut(node)?.kill_agent()?;
            traffic.await_a_while()?;
            world.restart_agent(node)?;
        }
        expect_answer(Transport::Tcp, &stage.a, &stage.b, PORT + 2)?;
        expect_blocked(Transport::Tcp, &stage.c, &stage.b, PORT + 2)?;
        traffic.finish()?;

        world.control.start()?;
        world.await_connected()?;
        world.netpol(&["allow", "appC", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        expect_answer(Transport::Tcp, &stage.c, &stage.b, PORT).map(drop)
    });
}

#[test]
fn without_the_api_a_new_instance_takes_an_address_still_published_for_its_app() {
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        let stopped = world.run_instance("appA", "n1")?;
        let freed = stopped.address()?;
        world.stop_instance(stopped)?;
        world.control.kill()?;

        let started = world.run_instance("appA", "n1")?;
        ensure!(started.address()? == freed, "{:?} instead of {freed}", started.attached);
        expect_answer(Transport::Tcp, &started, &stage.b, PORT).context("across nodes")?;
        expect_answer(Transport::Tcp, &started, &stage.near_b, PORT).context("on one node").map(drop)
    });
}

#[test]
fn without_the_api_an_unpublished_instance_reaches_its_own_node_only_and_is_told_so() {
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        world.netpol(&["allow", "appZ", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        world.control.kill()?;

        let unpublished = world.run_instance("appZ", "n1")?;
        let note = unpublished.attached.note.clone().unwrap_or_default();
        ensure!(!note.is_empty(), "nothing says that it is cut off: {:?}", unpublished.attached);
        expect_answer(Transport::Tcp, &unpublished, &stage.near_b, PORT).context("on one node")?;
        expect_blocked(Transport::Tcp, &unpublished, &stage.b, PORT).context("across nodes")?;

        world.control.start()?;
        await_that("the instance to be published once the API is back", PATIENCE, || {
            let outcome = ask(Transport::Tcp, &unpublished, &stage.b, PORT, A_MOMENT)?;
            Ok(matches!(outcome, Outcome::Answered(_)))
        })
    });
}

/// Asks as n1 until it has asked too often, and then as often as it may again, so that nothing is left for its agent.
fn ask_too_often(world: &World, proof: &Proof, stop: &AtomicBool) -> Result<()> {
    let request = Request { method: "GET", path: "/v1/status", headers: &[], body: Vec::new() };
    while !stop.load(Ordering::Relaxed) {
        world.control.request_of(proof, &request)?;
    }
    Ok(())
}

/// Starts n1's agent until it has been told to come back later, which luck may spare it, and waits until it enforces.
fn start_an_unwelcome_agent(node: &Node) -> Result<Daemon> {
    const TRIES: usize = 5;
    for _ in 0..TRIES {
        let mut agent = node.launch_agent(&[])?;
        agent.await_ready(|| Ok(agent_socket::get(&node.socket, "/v1/status")?["ready"] == true))?;
        if agent.log().contains("starting without the policy API") {
            return Ok(agent);
        }
        agent.kill()?;
    }
    bail!("nobody told n1's agent to come back later")
}

#[test]
fn an_agent_that_is_told_to_come_back_later_starts_from_what_it_remembers() {
    scenario(Plan::nodes(&NODES), |world| {
        let stage = Stage::set(world)?;
        let proof = world.node("n1")?.proof()?;
        world.node_mut("n1")?.kill_agent()?;
        world.control.kill()?;
        world.control.set_flags(["--requests-per-second", "1"].map(str::to_owned).into());
        world.control.start()?;

        let (world, node, stop) = (&*world, world.node("n1")?, AtomicBool::new(false));
        let agent = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask_too_often(world, &proof, &stop));
            let started = start_an_unwelcome_agent(node);
            stop.store(true, Ordering::Relaxed);
            asking.join().expect("it returns its errors").and(started)
        });
        let _agent = agent?;
        expect_answer(Transport::Tcp, &stage.a, &stage.b, PORT + 2)?;
        expect_blocked(Transport::Tcp, &stage.c, &stage.b, PORT + 2)?;
        await_that("the node to follow again", PATIENCE, || Ok(node.status()?["connected"] == true))
    });
}
