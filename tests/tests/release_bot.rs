//! `examples/release-bot`, played with the real programs: a service without authentication code, a gatekeeper before it,
//! forwarders beside those who call it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tests::rounds;
use tests::world::daemon::Daemon;
use tests::world::http::Request;
use tests::world::netpol::Invocation;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, World, binary, scenario};

const SERVICE: &str = "127.0.0.1:9000";
const GATE: &str = "127.0.0.1:8443";
const RESOURCE: &str = "production/release-bot";
const A_SECOND: Duration = Duration::from_secs(1);

/// The service, its gatekeeper, and the tokens of those who have to do with it. Ends before its world does.
struct Stage {
    directory: PathBuf,
    _service: Daemon,
    _gatekeeper: Daemon,
}

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/release-bot").join(file)
}

fn netpol(world: &World, line: &str) -> Result<Invocation> {
    world.netpol(&line.split(' ').collect::<Vec<_>>())
}

impl Stage {
    fn set(world: &World) -> Result<Self> {
        let directory = world.control.ca().parent().context("a directory")?.join("release-bot");
        fs::create_dir_all(&directory)?;
        for (name, role) in [("gate-1", "gate"), ("ci-1", "machine"), ("ci-2", "machine"), ("olga", "operator")] {
            let out = directory.join(format!("{name}.token"));
            netpol(world, &format!("token create {name} --role {role} --out {}", out.display()))?.expect_exit(0)?;
        }
        netpol(world, &format!("apply -f {}", example("policy.yaml").display()))?.expect_exit(0)?;
        let mut service = world.control.namespace.command(binary("release-bot")?);
        let mut service = Daemon::start("release-bot", service.arg(SERVICE), &directory)?;
        service.await_ready(|| is_open(world, SERVICE))?;
        let mut gatekeeper = world.control.namespace.command(binary("netpol-agent")?);
        gatekeeper.args(["gatekeeper", "--app", "release-bot", "--resource", RESOURCE, "--listen", GATE]);
        gatekeeper.arg("--upstream").arg(format!("http://{SERVICE}")).arg("--config").arg(example("gatekeeper.toml"));
        gatekeeper.arg("--api").arg(world.control.url()).arg("--ca").arg(world.control.ca());
        gatekeeper.arg("--token-file").arg(directory.join("gate-1.token")).args(["--access-log", "off"]);
        let mut gatekeeper = Daemon::start("gatekeeper", &mut gatekeeper, &directory)?;
        gatekeeper.await_ready(|| is_open(world, GATE))?;
        let stage = Self { directory, _service: service, _gatekeeper: gatekeeper };
        let token = stage.identity_token(world, "olga")?;
        await_that("the gatekeeper to know who may do what", PATIENCE, || {
            Ok(ask(world, "GET", "/releases", Some(&token))?.0 == 200)
        })?;
        Ok(stage)
    }

    fn token_file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.token"))
    }

    /// `release.sh` beside a forwarder, as a job of CI or a person runs it.
    fn release(&self, world: &World, who: &str, method: &str, version: &str) -> Result<Invocation> {
        let mut forwarder = world.control.namespace.command(binary("netpol-agent")?);
        forwarder.args(["forwarder", "--to", &format!("{GATE}={RESOURCE},unproven"), "--log", "warn"]);
        forwarder.arg("--token-file").arg(self.token_file(who)).arg("--api").arg(world.control.url());
        forwarder.arg("--ca").arg(world.control.ca()).arg("--").arg(example("release.sh")).args([method, version]);
        forwarder.env("RELEASE_BOT", format!("http://{GATE}"));
        Invocation::run(&mut forwarder, format!("netpol-agent forwarder … release.sh {method} {version} as {who}"))
    }

    /// A token for the service, from the broker.
    fn identity_token(&self, world: &World, who: &str) -> Result<String> {
        let token = fs::read_to_string(self.token_file(who))?;
        let body = json!({"audience": RESOURCE}).to_string().into_bytes();
        let request = Request { method: "POST", path: "/v1/identity-tokens", headers: &[], body };
        let answer = world.control.request_as(Some(token.trim()), &request)?;
        ensure!(answer.status == 201, "{answer:?}");
        Ok(answer.body["token"].as_str().context("a token")?.to_owned())
    }
}

fn is_open(world: &World, address: &str) -> Result<bool> {
    world.control.namespace.inside(|| Ok(TcpStream::connect(address).is_ok()))
}

fn connect(world: &World) -> Result<TcpStream> {
    let stream = world.control.namespace.inside(|| Ok(TcpStream::connect(GATE)?))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

fn send(stream: &mut TcpStream, method: &str, path: &str, token: Option<&str>) -> Result<()> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {GATE}\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    Ok(())
}

/// What the gatekeeper answers: the status, and everything.
fn ask(world: &World, method: &str, path: &str, token: Option<&str>) -> Result<(u16, String)> {
    let mut stream = connect(world)?;
    send(&mut stream, method, path, token)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no answer: `{answer}`"))?, answer))
}

/// A stream that goes on for ever, if nobody cuts it.
fn open_stream(world: &World, token: &str) -> Result<BufReader<TcpStream>> {
    let mut stream = connect(world)?;
    send(&mut stream, "GET", "/events", Some(token))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains("still here") {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "the stream ended before it began");
    }
    Ok(reader)
}

fn revoke(world: &World, subject: &str) -> Result<()> {
    let body = json!({ "subject": subject }).to_string().into_bytes();
    let request = Request { method: "POST", path: "/v1/identity-tokens/revocations", headers: &[], body };
    let answer = world.control.request(&request)?;
    ensure!((200..300).contains(&answer.status), "{answer:?}");
    Ok(())
}

#[test]
fn ci_publishes_and_withdraws_nothing_and_a_stranger_is_nobody() {
    scenario(Plan::nodes(&[]), |world| {
        let stage = Stage::set(world)?;
        let stranger = ask(world, "POST", "/releases/v6.6.6", None)?;
        ensure!(stranger.0 == 401 && stranger.1.to_lowercase().contains("www-authenticate: bearer"), "{}", stranger.1);
        ensure!(ask(world, "POST", "/releases/v6.6.6", Some("guess"))?.0 == 401);

        stage
            .release(world, "ci-1", "POST", "v1.2.3")?
            .expect_exit(0)?
            .expect_said("v1.2.3 published by host:ci-1")?
            .expect_said("201")?;
        stage.release(world, "ci-1", "DELETE", "v1.2.3")?.expect_exit(0)?.expect_said("403")?;
        netpol(world, &format!("can host:ci-1 create {RESOURCE}"))?.expect_exit(0)?;
        netpol(world, &format!("can host:ci-1 delete {RESOURCE}"))?.expect_exit(1)?;
        stage
            .release(world, "olga", "DELETE", "v1.2.3")?
            .expect_exit(0)?
            .expect_said("withdrawn by user:olga")?
            .expect_said("200")?;
        ensure!(ask(world, "GET", "/releases", Some(&stage.identity_token(world, "olga")?))?.1.contains("200 OK"));

        // What is taken back: the machine's own token, and with it all that was made by it.
        let token = stage.identity_token(world, "ci-1")?;
        ensure!(ask(world, "POST", "/releases/v1.2.4", Some(&token))?.0 == 201);
        let revoked = Instant::now();
        netpol(world, "token revoke ci-1")?.expect_exit(0)?;
        while ask(world, "POST", "/releases/v1.2.5", Some(&token))?.0 != 401 {
            ensure!(revoked.elapsed() < A_SECOND, "a revoked machine publishes after {:?}", revoked.elapsed());
        }
        let refused = stage.release(world, "ci-1", "POST", "v1.2.6")?.expect_said("503")?;
        ensure!(!refused.said().contains("published"), "{refused}");
        stage.release(world, "ci-2", "POST", "v1.2.6")?.expect_said("201").map(drop)
    });
}

#[test]
fn after_a_revocation_nothing_is_accepted_for_longer_than_a_second_and_open_streams_are_cut() {
    let rounds = rounds(25, 100);
    scenario(Plan::nodes(&[]), |world| {
        let stage = Stage::set(world)?;
        let bystander = stage.identity_token(world, "ci-2")?;
        let mut untouched = open_stream(world, &bystander)?;
        let mut slowest = Duration::ZERO;
        for round in 0..rounds {
            let token = stage.identity_token(world, "ci-1")?;
            ensure!(ask(world, "GET", "/releases", Some(&token))?.0 == 200, "round {round}: a new token is good");
            let mut stream = open_stream(world, &token)?;
            revoke(world, "host:ci-1")?;
            let revoked = Instant::now();
            let cut = std::thread::spawn(move || {
                // Whether it ends properly or breaks is not asked: it ends.
                while matches!(stream.read_line(&mut String::new()), Ok(1..)) {}
                Instant::now()
            });
            let mut accepted = Duration::ZERO;
            loop {
                let sent = revoked.elapsed();
                match ask(world, "GET", "/releases", Some(&token))?.0 {
                    200 => accepted = sent,
                    401 => break,
                    other => bail!("round {round}: {other}"),
                }
                ensure!(sent < 10 * A_SECOND, "round {round}: it is accepted for ever");
            }
            let cut = cut.join().expect("it only reads").duration_since(revoked);
            ensure!(
                accepted < A_SECOND && cut < A_SECOND,
                "round {round}: accepted for {accepted:?}, cut after {cut:?}"
            );
            slowest = slowest.max(accepted).max(cut);
        }
        println!("{rounds} revocations, the slowest felt after {slowest:?}");
        let mut line = String::new();
        ensure!(untouched.read_line(&mut line)? > 0, "a stream of somebody else was cut");
        ensure!(ask(world, "GET", "/releases", Some(&bystander))?.0 == 200);
        Ok(())
    });
}

#[test]
fn with_the_policy_api_away_who_is_known_stays_in_and_nobody_new_is_let_in() {
    scenario(Plan::nodes(&[]), |world| {
        let stage = Stage::set(world)?;
        let known = stage.identity_token(world, "ci-1")?;
        // Each is unseen once only: until the gatekeeper notices, who asks is let in and remembered.
        let mut unseen = (0..60).map(|_| stage.identity_token(world, "ci-2")).collect::<Result<Vec<_>>>()?;
        ensure!(ask(world, "GET", "/releases", Some(&known))?.0 == 200);
        world.control.kill()?;
        let silent = Instant::now();
        while ask(world, "GET", "/releases", Some(&unseen.pop().context("it never notices")?))?.0 != 503 {
            std::thread::sleep(A_SECOND / 2);
        }
        ensure!(silent.elapsed() > 5 * A_SECOND, "a short silence is no outage: {:?}", silent.elapsed());
        ensure!(ask(world, "GET", "/releases", Some(&known))?.0 == 200, "what is remembered lives out");
        world.control.start()?;
        await_that("the gatekeeper to follow again", PATIENCE, || {
            Ok(ask(world, "GET", "/releases", unseen.last().map(String::as_str))?.0 == 200)
        })
    });
}

#[test]
fn who_published_and_who_was_refused_stands_in_the_history() {
    scenario(Plan::nodes(&[]), |world| {
        let stage = Stage::set(world)?;
        stage.release(world, "ci-1", "POST", "v1.2.3")?.expect_said("201")?;
        stage.release(world, "ci-1", "POST", "v1.2.4")?.expect_said("201")?;
        stage.release(world, "ci-1", "DELETE", "v1.2.3")?.expect_said("403")?;
        ensure!(ask(world, "GET", "/releases", Some("guess"))?.0 == 401);
        await_that("all of it to stand in the history", PATIENCE, || {
            let history = netpol(world, "history -o json")?.expect_exit(0)?.stdout;
            let parts = ["host:ci-1", "/releases/v1.2.3", "/releases/v1.2.4", "not-permitted", "token-unknown"];
            Ok(parts.iter().all(|part| history.contains(part)))
        })
    });
}
