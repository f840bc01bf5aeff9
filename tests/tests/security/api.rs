//! The policy API listens on the underlay, so it asks everybody who he is, and a node is good for itself only.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::world::World;
use tests::world::http::{Answer, Proof, Request};

use super::talk::before_the_agents_start;

fn ask(world: &World, token: Option<&str>, method: &str, path: &str, body: &Value) -> Result<Answer> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    world.control.request_as(token, &Request { method, path, headers: &[], body })
}

fn ask_as(world: &World, node: &Proof, method: &str, path: &str, body: &Value) -> Result<Answer> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    world.control.request_of(node, &Request { method, path, headers: &[], body })
}

#[test]
fn nothing_of_the_policy_is_told_or_taken_without_a_token() {
    before_the_agents_start(&["n1"], |world| {
        let reads = ["rules", "rules/r1", "apps", "instances", "nodes", "bindings", "status", "watch", "revisions/1"];
        let questions = ["lookup?ip=10.255.1.1", "check?source=appA&destination=appB&protocol=tcp&port=1"];
        for path in reads.into_iter().chain(questions) {
            let answer = ask(world, None, "GET", &format!("/v1/{path}"), &Value::Null)?;
            ensure!(answer.status == 401, "GET {path}: {answer:?}");
        }
        let rule = json!({"source": "appA", "destination": "appB", "action": "allow"});
        let writes = [
            ("POST", "rules", rule.clone()),
            ("POST", "changes", json!({"create": [rule], "delete": []})),
            ("DELETE", "rules/r1", Value::Null),
            ("POST", "nodes/n1/join", json!({"underlay": "192.0.2.1"})),
            ("POST", "bindings", json!({"app": "appA", "addresses": ["10.255.1.1"]})),
            ("DELETE", "bindings/10.255.1.1", Value::Null),
        ];
        for (method, path, body) in writes {
            let answer = ask(world, None, method, &format!("/v1/{path}"), &body)?;
            ensure!(answer.status == 401, "{method} {path}: {answer:?}");
        }
        Ok(())
    });
}

#[test]
fn a_node_speaks_for_no_other_node_and_writes_no_rule() {
    before_the_agents_start(&["n1", "n2"], |world| {
        let first = world.control.enrol(world.node("n1")?)?;
        let second = world.control.enrol(world.node("n2")?)?;
        let theirs = json!({"app": "appA", "addresses": ["10.255.2.9"]});
        let claimed = ask_as(world, &second, "POST", "/v1/bindings", &theirs)?;
        ensure!(claimed.status == 201, "{claimed:?}");

        let rule = json!({"source": "appA", "destination": "appB", "action": "allow"});
        let report = json!({"history": "h", "applied": 1, "ready": true, "rows_used": 0, "rows_capacity": 1});
        let lies = [
            ("joins as another", "POST", "nodes/n2/join", json!({"underlay": "192.0.2.1"})),
            ("reports for another", "POST", "nodes/n2/report", report),
            ("claims another's address", "POST", "bindings", json!({"app": "appA", "addresses": ["10.255.2.10"]})),
            ("frees another's address", "DELETE", "bindings/10.255.2.9", Value::Null),
            ("writes a rule", "POST", "rules", rule.clone()),
            ("writes rules", "POST", "changes", json!({"create": [rule], "delete": []})),
            ("deletes a rule", "DELETE", "rules/r1", Value::Null),
        ];
        for (lie, method, path, body) in lies {
            let answer = ask_as(world, &first, method, &format!("/v1/{path}"), &body)?;
            ensure!(answer.status == 403, "a node {lie}: {answer:?}");
        }
        Ok(())
    });
}
