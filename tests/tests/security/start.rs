//! What the agent refuses to stand on: pins that others could have touched, maps that do not fit, a port that is taken.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::Path;

use anyhow::{Result, bail, ensure};
use tests::world::pins;
use tests::world::probe::{Transport, expect_answer, expect_blocked};
use tests::world::{Plan, World, scenario};

use super::talk::before_the_agents_start;

const PORT: u16 = 8080;
const NOBODY: u32 = 65_534;

/// Starts the agents, which have to end and to say all of this.
fn expect_refusal(world: &mut World, words: &[&str]) -> Result<()> {
    let Err(error) = world.start_agents() else { bail!("the agent started") };
    expect_words(&format!("{error:?}"), words)
}

fn expect_words(said: &str, words: &[&str]) -> Result<()> {
    let missing: Vec<_> = words.iter().filter(|&&word| !said.contains(word)).collect();
    ensure!(missing.is_empty(), "the agent does not say {missing:?}: {said}");
    ensure!(said.contains("ended with"), "the agent did not end: {said}");
    Ok(())
}

fn private_directory(path: &Path) -> Result<()> {
    Ok(DirBuilder::new().mode(0o700).create(path)?)
}

#[test]
fn a_pin_directory_that_somebody_else_made_first_is_refused() {
    before_the_agents_start(&["n1"], |world| {
        let pins = world.node("n1")?.pins.clone();
        private_directory(&pins)?;
        chown(&pins, Some(NOBODY), None)?;
        let result = expect_refusal(world, &["root's", "--bpffs", &pins.display().to_string()]);
        fs::remove_dir(&pins)?;
        result
    });
}

#[test]
fn a_link_in_place_of_the_pin_directory_is_refused() {
    before_the_agents_start(&["n1"], |world| {
        let pins = world.node("n1")?.pins.clone();
        let elsewhere = std::path::PathBuf::from(format!("{}-elsewhere", pins.display()));
        private_directory(&elsewhere)?;
        symlink(&elsewhere, &pins)?;
        let result = expect_refusal(world, &["root's", &pins.display().to_string()]);
        let untouched = fs::read_dir(&elsewhere)?.next().is_none();
        fs::remove_file(&pins)?;
        fs::remove_dir(&elsewhere)?;
        ensure!(untouched, "the agent pinned where the link leads");
        result
    });
}

#[test]
fn a_directory_below_the_pin_directory_that_others_may_enter_is_refused() {
    before_the_agents_start(&["n1"], |world| {
        let pins = world.node("n1")?.pins.clone();
        let version = pins.join(format!("v{}", common::SCHEMA));
        private_directory(&pins)?;
        private_directory(&version)?;
        fs::set_permissions(&version, Permissions::from_mode(0o777))?;
        let result = expect_refusal(world, &["0700", &version.display().to_string()]);
        fs::remove_dir(&version)?;
        fs::remove_dir(&pins)?;
        result
    });
}

#[test]
fn pinned_maps_of_another_size_are_refused_by_name_and_go_on_to_enforce() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n1")?);
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        let before = pins::read(&world.node("n1")?.pins)?;
        let node = world.node_mut("n1")?;
        node.kill_agent()?;
        let Err(error) = node.start_agent(&["--rows", "1000"].map(str::to_owned)) else {
            bail!("the agent adopted maps of another size");
        };
        expect_words(&format!("{error:?}"), &["ROWS", "262144", "1000", "remove the pin directory"])?;

        ensure!(pins::read(&world.node("n1")?.pins)? == before, "the refusal changed what is pinned");
        expect_answer(Transport::Tcp, &a, &b, PORT)?;
        expect_blocked(Transport::Tcp, &b, &a, PORT)?;
        world.restart_agent("n1")?;
        expect_answer(Transport::Tcp, &a, &b, PORT).map(drop)
    });
}

#[test]
fn a_foreign_tunnel_device_on_the_overlay_port_is_refused_by_name() {
    before_the_agents_start(&["n1"], |world| {
        let foreign = "link add flannel9 type vxlan id 7 dstport 4789 dev uplink\nlink set flannel9 up\n";
        world.node("n1")?.namespace.ip(foreign)?;
        expect_refusal(world, &["4789", "flannel9", "--overlay-port"])
    });
}

#[test]
fn a_foreign_device_under_the_overlays_name_is_refused_not_taken_over() {
    before_the_agents_start(&["n1"], |world| {
        world.node("n1")?.namespace.ip("link add netpol0 type vxlan id 7 dstport 4789 dev uplink\n")?;
        expect_refusal(world, &["netpol0", "--overlay-device"])
    });
}
