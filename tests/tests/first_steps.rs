//! The README's way from nothing to two nodes, a team and its writer: its own commands, typed as they stand there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tests::world::daemon::Daemon;
use tests::world::namespace::Namespace;
use tests::world::netpol::Invocation;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::Transport::Tcp;
use tests::world::probe::{expect_answer, expect_blocked};
use tests::world::{Plan, World};

const README: &str = include_str!("../../README.md");
const HEADING: &str = "## From nothing to two nodes, a team and its writer";
const MOST_COMMANDS: usize = 5;

/// The commands of the first block below the heading, each in one line.
fn commands() -> Result<Vec<String>> {
    let section = README.split_once(HEADING).context("the README has lost its first steps")?.1;
    let block = section.split("```").nth(1).context("the first steps have no commands")?.replace("\\\n", " ");
    let typed = block.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(typed.map(str::to_owned).collect())
}

/// Where the machines of this world keep what the README keeps in `/etc` and `/var`.
struct Machine<'a> {
    root: &'a Path,
    programs: PathBuf,
}

impl Machine<'_> {
    fn command(&self, namespace: &Namespace, line: &str, more: &str) -> Command {
        let root = self.root.display();
        let line = line.replace("/etc/netpol", &format!("{root}/etc")).replace("/var/lib", &format!("{root}/var"));
        let found = format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = namespace.command("/bin/sh");
        shell.arg("-c").arg(format!("exec {line} {more}")).env("PATH", found).env("HOME", self.root);
        shell
    }
}

fn play(world: &mut World) -> Result<()> {
    let lines = commands()?;
    ensure!(lines.len() <= MOST_COMMANDS, "{} commands: {lines:#?}", lines.len());
    let [init, serve, n1, n2, allow] = lines.as_slice() else {
        bail!("other commands than this test knows: {lines:#?}")
    };
    let root = world.control.ca().parent().context("a directory")?.join("readme");
    fs::create_dir(&root)?;
    let programs = tests::world::binary("netpol")?.parent().context("a directory")?.to_owned();
    let machine = Machine { root: &root, programs };
    let control = &world.control.namespace;

    Invocation::run(&mut machine.command(control, init, ""), init.clone())?.expect_exit(0)?;
    let mut daemons = vec![Daemon::start("readme-api", &mut machine.command(control, serve, ""), &root)?];
    for (node, line) in world.nodes.iter().zip([n1, n2]) {
        // Two nodes on one machine: what each keeps is kept apart, as nobody needs who has two.
        let (name, socket, pins) = (&node.name, node.socket.display(), node.pins.display());
        let apart = format!("--state-dir {}/{name} --socket {socket} --bpffs {pins}", root.display());
        let mut command = machine.command(&node.namespace, line, &apart);
        daemons.push(Daemon::start(&format!("readme-{name}"), &mut command, &root)?);
    }
    await_that("both nodes to be connected", PATIENCE, || {
        Ok(world.nodes.iter().all(|node| node.status().is_ok_and(|status| status["connected"] == true)))
    })?;
    let mut written = machine.command(control, allow, "");
    let written = Invocation::run(&mut written, allow.clone())?.expect_exit(0)?;
    written.expect_said("created r2")?.expect_said("in force on 2 nodes")?;

    let [web, db, other] =
        [("shop-web", "n1"), ("shop-db", "n2"), ("other", "n2")].map(|(app, node)| world.run_instance(app, node));
    let (web, db, other) = (web?, db?, other?);
    expect_answer(Tcp, &web, &db, 8080)?;
    expect_blocked(Tcp, &other, &db, 8080)?;
    let beyond = allow.replace("allow shop-web shop-db", "allow other shop-db");
    let asked = Invocation::run(&mut machine.command(&world.control.namespace, &beyond, ""), beyond)?;
    asked.expect_exit(1)?.expect_said("nothing stands yet")?;
    expect_blocked(Tcp, &other, &db, 8080)?;
    drop(daemons);
    Ok(())
}

#[test]
fn the_readmes_commands_lead_from_nothing_to_two_nodes_a_team_and_its_writer() {
    let mut world = World::make(Plan::nodes(&["n1", "n2"])).expect("machines");
    if let Err(error) = play(&mut world) {
        panic!("{error:?}");
    }
}
