//! An instance gets tokens by where it runs: the listener that its node's agent has in its namespace, and nobody else reaches.

use std::io::{Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tests::world::namespace::Namespace;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, World, scenario};

const LISTENER: &str = "netpol";

/// What is answered in a namespace: the status, and what stands in the body.
type Answer = (u16, Value);

fn ask(namespace: &Namespace, request: &str, body: &Value) -> Result<Answer> {
    namespace.inside(|| exchange(UnixStream::connect_addr(&address()?)?, request, body))
}

fn address() -> Result<SocketAddr> {
    Ok(SocketAddr::from_abstract_name(LISTENER)?)
}

fn exchange(mut stream: UnixStream, request: &str, body: &Value) -> Result<Answer> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: `{answer}`"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

fn token(namespace: &Namespace) -> Result<Answer> {
    ask(namespace, "POST /v1/identity-tokens", &json!({"audience": "release-bot"}))
}

/// The claims of the token that is issued in a namespace.
fn claims(namespace: &Namespace) -> Result<Value> {
    let (status, issued) = token(namespace)?;
    ensure!(status == 201, "{status}: {issued}");
    let token = issued["token"].as_str().context("a token")?;
    let claims = token.split('.').nth(1).context("claims")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?)
}

fn is_listening(namespace: &Namespace) -> Result<bool> {
    namespace.inside(|| Ok(UnixStream::connect_addr(&address()?).is_ok()))
}

fn listeners(world: &World) -> Result<Value> {
    Ok(world.node("n1")?.status()?["token_listeners"].clone())
}

#[test]
fn who_runs_in_an_instances_namespace_is_that_instance_and_nobody_else_is() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let (web, db) = (world.run_instance("web", "n1")?, world.run_instance("db", "n1")?);
        let of_web = claims(&web.namespace)?;
        let expected = json!({"sub": "app:web", "instance": "web/0", "node": "n1", "aud": "release-bot"});
        for (claim, value) in expected.as_object().context("claims")? {
            ensure!(of_web[claim] == *value, "{claim}: {of_web}");
        }
        ensure!(claims(&db.namespace)?["sub"] == "app:db");
        // What it says of itself is not asked for, and what is no question is refused.
        for (request, body, status) in [
            ("POST /v1/identity-tokens", json!({"audience": "release-bot", "instance": "db/0"}), 400),
            ("POST /v1/identity-tokens", json!({"audience": "../../v1/tokens"}), 400),
            ("POST /v1/identity-tokens", json!({"audience": "a".repeat(8_000)}), 413),
            ("GET /v1/status", Value::Null, 404),
            ("POST /v1/detach", json!({"netns_fd": 3}), 404),
            ("GET /v1/identity-tokens", Value::Null, 405),
        ] {
            let answer = ask(&web.namespace, request, &body)?;
            ensure!(answer.0 == status, "{request}: {answer:?}");
        }
        // The node itself is no instance, and neither is a namespace that nobody attached.
        ensure!(!is_listening(&world.node("n1")?.namespace)? && !is_listening(&world.namespace()?)?);
        ensure!(listeners(world)? == json!({"open": 2, "taken": []}), "{}", listeners(world)?);

        // Where an address is: yes or no, and nothing more.
        let place = |app: &str| -> Result<Answer> {
            let query = format!("GET /v1/placed?ip={}&app={app}", db.address()?);
            ask(&web.namespace, &query, &Value::Null)
        };
        ensure!(place("db")? == (200, json!({"placed": true})), "{:?}", place("db")?);
        ensure!(place("web")? == (200, json!({"placed": false})), "{:?}", place("web")?);
        Ok(())
    });
}

#[test]
fn the_next_agent_listens_again_and_a_detached_instance_is_none() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let (web, db) = (world.run_instance("web", "n1")?, world.run_instance("db", "n1")?);
        world.node_mut("n1")?.kill_agent()?;
        ensure!(!is_listening(&web.namespace)?, "nobody is there to answer");
        world.restart_agent("n1")?;
        await_that("the listeners to be back", PATIENCE, || {
            Ok(is_listening(&web.namespace)? && is_listening(&db.namespace)?)
        })?;
        await_that("the API to be followed", PATIENCE, || Ok(token(&web.namespace)?.0 == 201))?;
        ensure!(claims(&db.namespace)?["sub"] == "app:db");

        // A connection that was opened before is none afterwards either.
        let kept = web.namespace.inside(|| Ok(UnixStream::connect_addr(&address()?)?))?;
        let path = web.namespace.path().display().to_string();
        world.netpol_on("n1", &["detach", "--netns", &path])?.expect_exit(0)?;
        await_that("the listener to close", PATIENCE, || Ok(!is_listening(&web.namespace)?))?;
        match exchange(kept, "POST /v1/identity-tokens", &json!({"audience": "release-bot"})) {
            Err(_) => {}
            Ok((status, body)) => ensure!(status != 201, "a detached instance got {body}"),
        }
        ensure!(claims(&db.namespace)?["sub"] == "app:db");

        // The same namespace as another app is that app.
        let again = world.attach(web.namespace, "api", "n1")?;
        ensure!(claims(&again.namespace)?["sub"] == "app:api");
        Ok(())
    });
}

#[test]
fn where_somebody_inside_has_the_name_it_is_said_and_opened_nowhere_else() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let namespace = world.namespace()?;
        let squatter = namespace.inside(|| Ok(UnixListener::bind_addr(&address()?)?))?;
        let web = world.attach(namespace, "web", "n1")?;
        ensure!(listeners(world)? == json!({"open": 0, "taken": ["web/0"]}), "{}", listeners(world)?);
        let metrics = tests::world::agent_socket::get_text(&world.node("n1")?.socket, "/metrics")?;
        ensure!(metrics.contains("netpol_node_token_listeners_taken_total 1"), "{metrics}");
        drop(squatter);
        await_that("the listener to open", PATIENCE, || Ok(listeners(world)?["open"] == 1))?;
        ensure!(claims(&web.namespace)?["sub"] == "app:web");
        ensure!(listeners(world)? == json!({"open": 1, "taken": []}), "{}", listeners(world)?);
        Ok(())
    });
}

#[test]
fn a_listener_keeps_no_namespace_alive_that_everybody_has_left() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let web = world.run_instance("web", "n1")?;
        ensure!(is_listening(&web.namespace)?);
        let host_interface = web.attached.host_interface.clone();
        drop(web);
        await_that("the endpoint to be forgotten", PATIENCE * 2, || {
            let status = world.node("n1")?.status()?;
            Ok(status["endpoints"].as_array().is_some_and(Vec::is_empty))
        })?;
        let links = world.node("n1")?.namespace.command("ip").args(["-o", "link"]).output()?;
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        if links.contains(&host_interface) {
            bail!("{host_interface} is still there: {links}");
        }
        ensure!(listeners(world)?["open"] == 0);
        Ok(())
    });
}
