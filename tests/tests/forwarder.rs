//! The forwarder in an instance's namespace: what runs beside it says who the instance is to whom it shall, and to nobody else.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context, Result, ensure};
use tests::world::daemon::Daemon;
use tests::world::instance::Instance;
use tests::world::netpol::Invocation;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, World, binary, scenario};

const SERVICE: &str = "127.0.0.1:9000";
const RESOURCE: &str = "production/release-bot";
const PORT: u16 = 8443;

const POLICY: &str = "
apiVersion: netpol/v1
roles:
  - {name: production/release-bot/publisher, members: [app:web]}
resources:
  - id: production/release-bot
    permissions:
      - {role: production/release-bot/publisher, privileges: [create, read]}
";

/// An app's instance that listens, and the port it has.
fn listen(instance: &Instance) -> Result<TcpListener> {
    let address = instance.address()?;
    instance.namespace.inside(|| Ok(TcpListener::bind((address, PORT))?))
}

/// The gatekeeper and the service behind it. They run where they reach the policy API; clients connect to the instance's socket.
struct Gate {
    address: SocketAddr,
    _service: Daemon,
    _gatekeeper: Daemon,
}

impl Gate {
    fn set(world: &World, instance: &Instance) -> Result<Self> {
        let directory = world.control.ca().parent().context("a directory")?.to_owned();
        let (token, policy) = (directory.join("gate-1.token"), directory.join("policy.yaml"));
        fs::write(&policy, POLICY)?;
        world.netpol(&["apply", "-f", &policy.display().to_string()])?.expect_exit(0)?;
        let create = ["token", "create", "gate-1", "--role", "gate", "--out", &token.display().to_string()];
        world.netpol(&create)?.expect_exit(0)?;
        let namespace = &world.control.namespace;
        let mut service =
            Daemon::start("release-bot", namespace.command(binary("release-bot")?).arg(SERVICE), &directory)?;
        service.await_ready(|| namespace.inside(|| Ok(TcpStream::connect(SERVICE).is_ok())))?;

        let socket = listen(instance)?;
        let address = socket.local_addr()?;
        let mut gatekeeper = namespace.command(binary("netpol-agent")?);
        gatekeeper.args(["gatekeeper", "--app", "release-bot", "--resource", RESOURCE, "--access-log", "off"]);
        gatekeeper.args(["--listen", &address.to_string(), "--upstream", &format!("http://{SERVICE}")]);
        gatekeeper.arg("--api").arg(world.control.url()).arg("--ca").arg(world.control.ca());
        gatekeeper.arg("--token-file").arg(&token);
        let gatekeeper = Daemon::start_listening(&socket, "gatekeeper", &gatekeeper, &directory)?;
        Ok(Self { address, _service: service, _gatekeeper: gatekeeper })
    }
}

/// Runs `curl` beside a forwarder, in an instance's namespace.
fn curl(instance: &Instance, flags: &[&str], arguments: &[&str]) -> Result<Invocation> {
    let mut forwarder = instance.namespace.command(binary("netpol-agent")?);
    forwarder.args(["forwarder", "--log", "warn"]).args(flags).args(["--", "curl", "--silent", "--show-error"]);
    forwarder.args(["--max-time", "10", "--write-out", "%{http_code}\n"]).args(arguments);
    let line = format!("netpol-agent forwarder {} -- curl {}", flags.join(" "), arguments.join(" "));
    Invocation::run(&mut forwarder, line)
}

/// Answers whoever asks, and tells what was asked.
fn overhear(socket: TcpListener) -> Receiver<String> {
    let (tell, told) = channel();
    thread::spawn(move || {
        for client in socket.incoming().flatten() {
            let lines = BufReader::new(&client).lines().map_while(std::result::Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            // Nobody waits for it any more only when the test is over.
            let _over = tell.send(head.join("\n"));
            let _gone = (&client).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    told
}

#[test]
fn what_runs_beside_a_forwarder_is_the_instance_to_whom_it_shall_be_and_nobody_to_others() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (web, bot) = (world.run_instance("web", "n1")?, world.run_instance("release-bot", "n2")?);
        let other = world.run_instance("db", "n2")?;
        for destination in ["release-bot", "db"] {
            world.netpol(&["allow", "web", destination, "--port", &PORT.to_string(), "--wait"])?.expect_exit(0)?;
        }
        let gate = Gate::set(world, &bot)?;
        let to = format!("{}=release-bot", gate.address);
        let url = |path: &str| format!("http://{}{path}", gate.address);
        await_that("the gatekeeper to know who may do what", PATIENCE, || {
            Ok(curl(&web, &["--to", &to], &[&url("/releases")])?.said().contains("200"))
        })?;
        curl(&web, &["--to", &to], &["--request", "POST", &url("/releases/v1.2.3")])?
            .expect_exit(0)?
            .expect_said("v1.2.3 published by app:web")?
            .expect_said("201")?;
        // It may not withdraw, and without a forwarder it is nobody.
        curl(&web, &["--to", &to], &["--request", "DELETE", &url("/releases/v1.2.3")])?.expect_said("403")?;
        curl(&web, &["--to", &to], &["--noproxy", "*", &url("/releases")])?.expect_said("401")?;

        let told = overhear(listen(&other)?);
        let elsewhere = format!("{}:{PORT}", other.address()?);
        let url = format!("http://{elsewhere}/releases");
        curl(&web, &["--to", &to], &[&url])?
            .expect_said("is none of this forwarder's destinations")?
            .expect_said("403")?;
        // Named as what it is not: its address is another app's.
        let posing = format!("{elsewhere}=release-bot");
        curl(&web, &["--to", &posing], &[&url])?.expect_said("does not prove to be release-bot")?.expect_said("502")?;
        ensure!(told.try_recv().is_err(), "it heard of a request that was none of its business");
        curl(&web, &["--to", &to, "--pass", &elsewhere], &[&url])?.expect_said("200")?;
        let heard = told.recv_timeout(PATIENCE).context("a request that may pass")?;
        ensure!(!heard.to_lowercase().contains("authorization"), "it got a token:\n{heard}");
        Ok(())
    });
}
