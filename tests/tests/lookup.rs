//! An address, now or then, leads back to the instance that had it, whatever became of the instance, its node and the API.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, World, scenario};

/// A time as the API's clock has it, and well apart from what happens before and after.
fn moment(world: &World) -> Result<String> {
    const APART: Duration = Duration::from_millis(20);
    std::thread::sleep(APART);
    let mut date = world.control.namespace.command("date");
    let output = date.args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"]).output().context("ask for the time")?;
    std::thread::sleep(APART);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[test]
fn an_address_leads_to_whoever_had_it_at_a_time_also_when_the_api_was_killed_since() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let before = moment(world)?;
        let web = world.run_instance("web", "n1")?;
        let addresses = [web.address()?.to_string(), web.address_v6()?.to_string()];
        let live = moment(world)?;
        world.stop_instance(web)?;
        await_that("the address to be given back", PATIENCE, || {
            Ok(world.netpol(&["lookup", &addresses[0]])?.said().contains("gave it back"))
        })?;
        let gone = moment(world)?;
        for killed in [false, true] {
            if killed {
                world.control.kill()?;
                world.control.start()?;
            }
            for address in &addresses {
                let ask = |at: &str| world.netpol(&["lookup", address, "--at", at]);
                ask(&live)?.expect_exit(0)?.expect_said("web/0")?.expect_said("UNTIL")?;
                ask(&before)?.expect_exit(1)?.expect_said("web/0 has it after")?;
                ask(&gone)?.expect_exit(1)?.expect_said("web/0 had it before")?;
                let json = world.netpol(&["lookup", address, "--at", &live, "-o", "json"])?.json()?;
                ensure!(json["app"] == "web" && json["node"] == "n1" && json["at"] == live.as_str(), "{json}");
                ensure!(json["from"].as_str() < Some(&live) && json["until"].as_str() > Some(&live), "{json}");
            }
        }
        // All clocks of this machine are one.
        let clock = &world.netpol(&["nodes", "-o", "json"])?.expect_exit(0)?.json()?["items"][0]["clock"];
        let (ahead, error) = (clock["ahead_ms"].as_i64(), clock["error_ms"].as_u64());
        let (ahead, error) = ahead.zip(error).with_context(|| format!("n1 says nothing of its clock: {clock}"))?;
        ensure!(ahead.unsigned_abs() <= error + 2 && error < 5_000, "{clock}");
        world.netpol(&["lookup", &addresses[0], "--at", "2h"])?.expect_exit(1)?.expect_said("web/0 has it after")?;
        world.netpol(&["lookup", &addresses[0], "--at", "2999-01-01T00:00:00Z"])?.expect_exit(2).map(drop)?;
        Ok(())
    });
}
