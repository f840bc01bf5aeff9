//! Bad input gets an error that names the field, and changes nothing: by the API's status, by the CLI's exit code.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::world::http::{Answer, Request};
use tests::world::netpol::Invocation;
use tests::world::{Plan, World};

/// A world with a policy API and nothing else.
fn with_the_api(test: impl FnOnce(&World) -> Result<()>) {
    let mut world = World::make(Plan::nodes(&["n1"])).unwrap_or_else(|error| panic!("{error:?}"));
    let result = world.control.start().and_then(|()| test(&world));
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

/// The history, the revision and every rule: what must not move.
fn state(world: &World) -> Result<[Value; 2]> {
    let read = |path| -> Result<Value> {
        let answer = get(world, path)?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        Ok(answer.body)
    };
    let status = read("/v1/status")?;
    Ok([json!([status["history"], status["revision"]]), read("/v1/rules")?])
}

fn get(world: &World, path: &str) -> Result<Answer> {
    world.control.request(&Request { method: "GET", path, headers: &[], body: Vec::new() })
}

fn post(world: &World, path: &str, body: impl Into<Vec<u8>>) -> Result<Answer> {
    world.control.request(&Request { method: "POST", path, headers: &[], body: body.into() })
}

/// The answer is a problem that speaks of this field.
fn ensure_refused(what: &str, answer: &Answer, status: u16, field: Option<&str>) -> Result<()> {
    ensure!(answer.status == status, "{what}: expected status {status}: {answer:?}");
    ensure!(answer.content_type.starts_with("application/problem+json"), "{what}: {answer:?}");
    ensure!(answer.body["status"] == status && answer.body["title"].is_string(), "{what}: {answer:?}");
    ensure!(answer.body["field"].as_str() == field, "{what}: expected field {field:?}: {answer:?}");
    Ok(())
}

/// How the API calls the body as a whole where it names a field.
const BODY: &str = "(body)";

fn rule(changes: &[(&str, Value)]) -> String {
    let mut rule = json!({"source": "appA", "destination": "appB", "ports": ["8080"], "action": "allow"});
    for (member, value) in changes {
        rule[member] = value.clone();
    }
    rule.to_string()
}

/// What is wrong, the members that make it so, and the field that the answer has to name.
type BadRule<'a> = (&'a str, &'a [(&'a str, Value)], &'a str);

#[test]
fn a_bad_rule_is_refused_by_the_name_of_its_field_and_changes_nothing() {
    let long = "a".repeat(300);
    let table: &[BadRule<'_>] = &[
        ("empty name", &[("source", json!(""))], "source"),
        ("300-character name", &[("destination", json!(long))], "destination"),
        ("name with a slash", &[("source", json!("web/0"))], "source"),
        ("reserved name", &[("source", json!("Unassigned"))], "source"),
        ("selector that is not built", &[("source", json!("cidr:10.0.0.0/8"))], "source"),
        ("host on both sides", &[("source", json!("host")), ("destination", json!("host"))], "destination"),
        ("port 70000", &[("ports", json!(["70000"]))], "ports"),
        ("port 0", &[("ports", json!(["0"]))], "ports"),
        ("range backwards", &[("ports", json!(["8010-8000"]))], "ports"),
        ("no port at all", &[("ports", json!([]))], "ports"),
        ("ports that are no list", &[("ports", json!("8080"))], "ports"),
        ("port with icmp", &[("protocol", json!("icmp"))], "ports"),
        ("unknown protocol", &[("protocol", json!("gre"))], "protocol"),
        ("port with any protocol", &[("protocol", json!("any"))], "ports"),
        ("unknown action", &[("action", json!("permit"))], "action"),
        ("action that is a number", &[("action", json!(1))], "action"),
        ("unknown mode", &[("mode", json!("dry"))], "mode"),
        ("end that is past", &[("expires_at", json!("2020-01-01T00:00:00Z"))], "expires_at"),
        ("way to deny what is allowed", &[("on_deny", json!("drop"))], "on_deny"),
        ("unknown member", &[("portz", json!(["8080"]))], "portz"),
    ];
    with_the_api(|world| {
        post(world, "/v1/rules", rule(&[]))?;
        let before = state(world)?;
        for (what, changes, field) in table {
            let answer = post(world, "/v1/rules", rule(changes))?;
            let named = answer.body["field"].as_str().unwrap_or_default();
            // An entry of a list may be named more closely.
            let field = if named.starts_with(&format!("{field}[")) { named } else { field };
            ensure_refused(what, &answer, 400, Some(field))?;
        }
        ensure!(state(world)? == before, "something changed");
        Ok(())
    });
}

#[test]
fn a_body_that_is_no_request_is_refused_and_changes_nothing() {
    with_the_api(|world| {
        let before = state(world)?;
        ensure_refused("malformed JSON", &post(world, "/v1/rules", "{\"source\": ")?, 400, Some(BODY))?;
        ensure_refused("no object", &post(world, "/v1/rules", "[]")?, 400, Some(BODY))?;
        let padded = rule(&[("reason", json!("x".repeat(2 << 20)))]);
        ensure_refused("2 MiB body", &post(world, "/v1/rules", padded)?, 413, Some(BODY))?;
        ensure!(state(world)? == before, "something changed");
        Ok(())
    });
}

#[test]
fn a_change_set_with_one_bad_rule_changes_nothing() {
    with_the_api(|world| {
        let before = state(world)?;
        let good: Value = serde_json::from_str(&rule(&[]))?;
        let bad: Value = serde_json::from_str(&rule(&[("ports", json!(["70000"]))]))?;
        let answer = post(world, "/v1/changes", json!({"create": [good, bad], "delete": []}).to_string())?;
        ensure!(answer.status == 400, "{answer:?}");
        let field = answer.body["field"].as_str().context("the answer names the field")?;
        ensure!(field.starts_with("create[1].ports"), "{answer:?}");
        ensure!(state(world)? == before, "something changed");
        Ok(())
    });
}

#[test]
fn a_bad_question_is_refused_by_the_name_of_its_parameter() {
    let table = [
        ("/v1/lookup?ip=banana", 400, Some("ip")),
        ("/v1/lookup", 400, Some("ip")),
        ("/v1/lookup?ip=10.255.9.9", 404, None),
        ("/v1/check?source=appA&destination=appB&port=70000", 400, Some("port")),
        ("/v1/check?source=appA&destination=appB&protocol=gre", 400, Some("protocol")),
        ("/v1/check?destination=appB&port=1", 400, Some("source")),
        ("/v1/rules?limit=none", 400, Some("limit")),
    ];
    with_the_api(|world| {
        post(world, "/v1/rules", rule(&[]))?;
        for (path, status, field) in table {
            let answer = get(world, path)?;
            let field = field.or(answer.body["field"].as_str());
            ensure_refused(path, &answer, status, field)?;
        }
        Ok(())
    });
}

#[test]
fn nobody_is_served_without_the_right_token() {
    with_the_api(|world| {
        let before = state(world)?;
        let request = Request { method: "POST", path: "/v1/rules", headers: &[], body: rule(&[]).into() };
        for token in [None, Some("not-the-token")] {
            let answer = world.control.request_as(token, &request)?;
            ensure_refused("wrong token", &answer, 401, Some("Authorization"))?;
        }
        let join_token = std::fs::read_to_string(world.control.join_token("n1"))?;
        let answer = world.control.request_as(Some(join_token.trim()), &request)?;
        ensure_refused("a join token", &answer, 403, Some("Authorization"))?;
        ensure!(state(world)? == before, "something changed");
        Ok(())
    });
}

#[test]
fn a_write_that_goes_by_an_old_state_is_refused() {
    with_the_api(|world| {
        let old = get(world, "/v1/rules")?.etag;
        post(world, "/v1/rules", rule(&[]))?;
        let before = state(world)?;
        let headers = [("if-match", old.as_str())];
        let body = rule(&[("ports", json!(["9090"]))]).into_bytes();
        let answer = world.control.request(&Request { method: "POST", path: "/v1/rules", headers: &headers, body })?;
        ensure_refused("an old state", &answer, 412, Some("If-Match"))?;
        ensure!(state(world)? == before, "something changed");
        Ok(())
    });
}

#[test]
fn the_command_line_names_what_was_wrong_ends_with_2_and_changes_nothing() {
    let long = "a".repeat(300);
    // The words that the error has to hold: the field, and the value where it is short.
    let table: &[(&[&str], &[&str])] = &[
        (&["allow", "", "appB", "--port", "8080"], &["SRC"]),
        (&["allow", "appA", &long, "--port", "8080"], &["DST"]),
        (&["allow", "web/0", "appB"], &["SRC", "web/0"]),
        (&["allow", "world", "appB"], &["world"]),
        (&["allow", "appA", "appB", "--port", "70000"], &["--port", "70000"]),
        (&["allow", "appA", "appB", "--port", "8010-8000"], &["--port", "8010-8000"]),
        (&["allow", "appA", "appB", "--port", ""], &["--port"]),
        (&["allow", "appA", "appB", "--protocol", "gre"], &["--protocol", "gre"]),
        (&["allow", "appA"], &["DST"]),
        (&["deny", "host", "host", "--port", "22"], &["host"]),
        (&["check", "appA", "appB", "--port", "http"], &["--port", "http"]),
        (&["lookup", "banana"], &["IP", "banana"]),
        (&["revoke", "appA", "appB", "--action", "permit"], &["--action", "permit"]),
        (&["alow", "appA", "appB"], &["alow", "allow"]),
    ];
    with_the_api(|world| {
        let before = state(world)?;
        for (arguments, words) in table {
            let invocation = world.netpol(arguments)?.expect_exit(2)?;
            ensure_names(&invocation, words)?;
        }
        ensure!(state(world)? == before, "something changed");
        Ok(())
    });
}

fn ensure_names(invocation: &Invocation, words: &[&str]) -> Result<()> {
    ensure!(invocation.stdout.is_empty(), "errors belong on standard error\n{invocation}");
    let missing: Vec<_> = words.iter().filter(|&&word| !invocation.stderr.contains(word)).collect();
    ensure!(missing.is_empty(), "the error does not say {missing:?}\n{invocation}");
    Ok(())
}
