//! Two policy APIs on one store in etcd, real agents that know both: either may die, and nodes, operators and instances go on by
//! the other.

use anyhow::{Result, ensure};
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::Transport::Tcp;
use tests::world::probe::{expect_answer, expect_blocked};
use tests::world::{Plan, World};

const PORT: u16 = 8080;

/// Asks the API there.
fn netpol(world: &World, api: &str, line: &str) -> Result<String> {
    let words: Vec<&str> = ["--api", api].into_iter().chain(line.split(' ')).collect();
    Ok(world.netpol(&words)?.expect_exit(0)?.stdout)
}

fn await_both(world: &World, api: &str) -> Result<()> {
    await_that("both nodes to be with the API that is left", PATIENCE, || {
        let nodes = netpol(world, api, "nodes")?;
        Ok(nodes.lines().filter(|line| line.contains(" ready ")).count() == 2)
    })
}

fn play(world: &mut World) -> Result<()> {
    let (first, second) = (world.control.url(), world.control.second_url());
    let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
    let said = netpol(world, &first, "allow appA appB --port 8080 --wait")?;
    ensure!(said.contains("in force on 2 nodes"), "{said}");
    expect_answer(Tcp, &a, &b, PORT)?;
    // Written by one, known by the other at once.
    ensure!(netpol(world, &second, "list -o name")?.contains("r2"));

    world.control.kill()?;
    await_both(world, &second)?;
    expect_answer(Tcp, &a, &b, PORT)?;
    let said = netpol(world, &second, "deny appA appB --port 8080 --wait")?;
    ensure!(said.contains("in force on 2 nodes"), "{said}");
    expect_blocked(Tcp, &a, &b, PORT)?;
    let c = world.run_instance("appC", "n1")?;
    netpol(world, &second, "allow appC appB --port 8080 --wait")?;
    expect_answer(Tcp, &c, &b, PORT)?;

    world.control.start()?;
    world.control.kill_second()?;
    await_both(world, &first)?;
    let said = netpol(world, &first, "revoke appC appB --port 8080 --wait")?;
    ensure!(said.contains("in force on 2 nodes"), "{said}");
    expect_blocked(Tcp, &c, &b, PORT)
}

#[test]
fn either_api_may_die_and_everything_goes_on_by_the_other() {
    let nodes = ["n1", "n2"].map(str::to_owned);
    let up = || -> Result<World> {
        let mut world = World::make(Plan::nodes(&["n1", "n2"]))?;
        world.control.share(&nodes)?;
        world.control.start()?;
        world.control.start_second()?;
        let second = world.control.second_url();
        world.set_agent_flags(&["--api", &second]);
        world.start_agents()?;
        Ok(world)
    };
    let mut world = up().expect("the world comes up");
    play(&mut world).unwrap_or_else(|error| panic!("{error:?}"));
}
