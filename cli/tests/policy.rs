//! The commands that speak about policy, against the real policy API.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

mod support;

use support::api::{Api, Conduct};

#[test]
fn allowing_twice_is_the_same_as_once_and_revoking_undoes_it() {
    let api = Api::start();
    let shell = &api.shell;
    shell
        .netpol("allow appA appB --port 8080")
        .exits(0)
        .prints("created r2  allow appA -> appB tcp/8080  revision")
        .tells("undo: netpol revoke r2");
    let revision = api.revision();
    shell.netpol("allow appA appB --port 8080").exits(0).prints("unchanged r2");
    assert_eq!(api.revision(), revision);
    shell.netpol("list").exits(0).prints("r2").prints("appA").prints("8080");
    shell
        .netpol("revoke appA appB --port 8080")
        .exits(0)
        .prints("revoked r2")
        .prints("nothing allows appA -> appB now")
        .tells("undo: netpol allow appA appB --port 8080");
    let said = shell.netpol("list").exits(0).tells("no rules");
    assert_eq!(said.stdout, "");
    shell.netpol("revoke r2").exits(1).tells("r2");
}

#[test]
fn a_reason_is_updated_in_place_and_the_undo_line_brings_the_old_one_back() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 80,443 --reason first").exits(0);
    shell
        .netpol("allow appA appB --port 443 --port 80 --reason second")
        .exits(0)
        .prints("updated r2")
        .tells("undo: netpol allow appA appB --port 80,443 --reason first");
    shell.netpol("allow appA appB --port 80,443").exits(0).prints("unchanged r2");
    shell.netpol("list -o json").exits(0).prints("second");
    shell.run(["allow", "appA", "appB", "--port", "80,443", "--reason", ""]).exits(0).prints("updated r2");
    let rules = shell.netpol("list -o json").exits(0).json();
    assert!(rules["items"][0].get("reason").is_none(), "{rules}");
}

#[test]
fn check_answers_in_words_and_in_its_exit_code() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 8080").exits(0);
    shell.netpol("check appA appB --port 8080").exits(0).prints("allowed").prints("by r2");
    shell
        .netpol("check appA appB --port 9090")
        .exits(1)
        .prints("denied")
        .prints("the nearest is r2")
        .tells("to allow it: netpol allow appA appB --port 9090");
    shell.netpol("check appB appA --port 8080").exits(1);
    shell.netpol("deny appA appB").exits(0).prints("created r3");
    shell.netpol("check appA appB --port 8080").exits(1).prints("by r3").tells("netpol revoke r3");
    let json = shell.netpol("check appA appB --port 8080 -o json").exits(1).json();
    assert_eq!((&json["verdict"], &json["cause"]), (&json!("deny"), &json!("deny-rule")));
    shell.netpol("check apA appB --port 8080").exits(1).tells("did you mean `appA`?");
}

#[test]
fn revoke_removes_exactly_what_is_named() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 8000-8010").exits(0);
    shell.netpol("revoke appA appB --port 8005").exits(1).tells("no such rule").tells("the nearest is r2");
    shell.netpol("revoke appB appA --port 8000-8010").exits(1).tells("r2");
    shell.netpol("revoke apA appB --port 8000-8010").exits(1).tells("did you mean `appA`?");
    shell.netpol("deny appA appB --port 8000-8010").exits(0).prints("r3");
    shell.netpol("revoke appA appB --port 8000-8010").exits(6).tells("r2").tells("r3");
    shell.netpol("list -o name").exits(0).prints("r2\nr3\n");
    shell
        .netpol("revoke appA appB --port 8000-8010 --action deny")
        .exits(0)
        .prints("revoked r3")
        .prints("still allowed by r2");
    shell.netpol("allow appA appB --protocol icmp").exits(0);
    shell.netpol("allow appB appA --port 1").exits(0);
    let json = shell.netpol("revoke appA appB --all -o json").exits(0).json();
    assert_eq!(json["revoked"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["still_allowed_by"], json!([]));
    assert_eq!(json["undo"].as_array().map(Vec::len), Some(2));
    shell.netpol("list -o name").exits(0).prints("r5\n");
    shell.netpol("revoke appA appB --all").exits(1).tells("no rule from appA to appB");
}

#[test]
fn bad_input_names_itself_and_changes_nothing() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 8080").exits(0);
    let (revision, rules) = (api.revision(), shell.netpol("list -o json").stdout);
    let long = "x".repeat(300);
    for (line, part) in [
        ("allow  appB --port 8080".to_owned(), "<DST>"),
        (format!("allow {long} appB"), "too long"),
        ("allow appA appB --port 70000".to_owned(), "70000"),
        ("allow appA appB --port 8010-8000".to_owned(), "8010-8000"),
        ("allow appA appB --protocol quic".to_owned(), "quic"),
        ("allow appA appB --mode dry".to_owned(), "dry"),
        ("allow appA world".to_owned(), "world"),
        ("allow host host".to_owned(), "destination"),
        ("lookup 10.255.1.300".to_owned(), "10.255.1.300"),
        ("allow APPA appB --port 8080 --ttl 0h".to_owned(), "--ttl"),
    ] {
        shell.netpol(&line).exits(2).tells(part);
    }
    shell.run(["allow", "", "appB"]).exits(2).tells("is empty");
    assert_eq!((api.revision(), shell.netpol("list -o json").stdout), (revision, rules));
}

#[test]
fn a_name_that_differs_by_case_only_is_refused_and_changes_nothing() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 8080").exits(0);
    let revision = api.revision();
    let said = shell.netpol("allow APPA appB --port 8080").tells("appA");
    assert!(said.code == 2 || said.code == 6, "{said:?}");
    assert_eq!(api.revision(), revision);
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let api = Api::start();
    let shell = &api.shell;
    let revision = api.revision();
    shell
        .netpol("allow appA appB --port 8080 --dry-run")
        .exits(0)
        .prints("would be created")
        .tells("nothing was changed");
    assert_eq!(api.revision(), revision);
    shell.netpol("list -o name").exits(0);
    shell.netpol("allow appA appB --port 8080").exits(0);
    shell.netpol("allow appA appB --port 8080 --dry-run").exits(0).prints("unchanged r2");
}

#[test]
fn lists_filter_and_refuse_unknown_names() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 1").exits(0);
    shell.netpol("allow appB appC --port 2").exits(0);
    shell.netpol("allow appC appA --port 3").exits(0);
    let names = |line: &str| shell.netpol(line).exits(0).stdout;
    assert_eq!(names("list --app appA -o name"), "r2\nr4\n");
    assert_eq!(names("list --source appB -o name"), "r3\n");
    assert_eq!(names("list --destination appB -o name"), "r2\n");
    assert_eq!(names("list --source host -o name"), "");
    assert_eq!(names("apps -o name"), "appA\nappB\nappC\n");
    shell.netpol("list --app apA").exits(1).tells("did you mean `appA`?");
    shell.netpol("instances apA").exits(1).tells("did you mean `appA`?");
    let lines = names("list -o jsonl");
    assert_eq!(lines.lines().count(), 3);
    assert!(!names("list --no-headers").contains("DESTINATION"));
}

#[test]
fn wait_says_on_how_many_nodes_and_names_who_is_missing() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 1 --wait").exits(0).prints("in force on 0 nodes after");
    let _n1 = api.node("n1", 1, Conduct::Prompt { runs: Some("appB") });
    let n2 = api.node("n2", 2, Conduct::Prompt { runs: None });
    shell.netpol("allow appA appB --port 8080 --wait").exits(0).prints("in force on 2 nodes after");
    let json = shell.netpol("allow appA appB --port 8081 --wait -o json").exits(0).json();
    assert_eq!(json["wait"]["in_force"], json!(["n1", "n2"]));
    shell.netpol("revoke appA appB --port 8080 --wait=3s").exits(0).prints("in force on 2 nodes after");
    drop(n2);
    support::eventually("n2 is seen to be gone", || shell.netpol("nodes").stdout.contains("disconnected"));
    shell
        .netpol("allow appA appB --port 8082 --wait=2s")
        .exits(0)
        .prints("in force on 1 node after")
        .prints("not connected: n2");
}

#[test]
fn a_node_that_does_not_report_is_named_and_the_rule_stands() {
    let api = Api::start();
    let shell = &api.shell;
    let _n1 = api.node("n1", 1, Conduct::Stuck { runs: "appA" });
    shell
        .netpol("allow appA appB --port 8080 --wait=300ms")
        .exits(5)
        .prints("created r2")
        .tells("undo: netpol revoke r2")
        .tells("missing: n1; the rule stands as r2");
    shell.netpol("list -o name").exits(0).prints("r2");
    let said = shell.netpol("allow appA appB --port 8080 --wait=300ms -o json").exits(5);
    assert_eq!(said.json()["wait"]["missing"], json!(["n1"]));
    shell.netpol("revoke r2 --wait=300ms").exits(5).prints("revoked r2").tells("missing: n1");
}

#[test]
fn lookup_names_app_instance_and_node() {
    let api = Api::start();
    let shell = &api.shell;
    let _n1 = api.node("n1", 1, Conduct::Prompt { runs: Some("appB") });
    support::eventually("the instance is there", || shell.netpol("instances -o name").stdout == "appB/0\n");
    let instances = shell.netpol("instances appB -o json").exits(0).json();
    let address = instances["items"][0]["address"].as_str().expect("an address").to_owned();
    shell.netpol(&format!("lookup {address}")).exits(0).prints("appB/0").prints("n1").prints("live");
    let json = shell.netpol(&format!("who {address}:8080 -o json")).exits(0).json();
    assert_eq!((&json["app"], &json["instance"], &json["node"]), (&json!("appB"), &json!(0), &json!("n1")));
    shell.netpol("lookup 10.255.77.77").exits(1).tells("10.255.77.77");
}

#[test]
fn cf_spellings_write_the_same_rules() {
    let api = Api::start();
    let shell = &api.shell;
    shell
        .netpol("add-network-policy appA --destination-app appB")
        .exits(0)
        .prints("created r2  allow appA -> appB tcp/8080");
    shell.netpol("add-network-policy appA appB --protocol tcp --port 8080").exits(0).prints("unchanged r2");
    shell.netpol("deny appA appB --port 8080").exits(0);
    shell.netpol("network-policies --source appA").exits(0).prints("r2").prints("r3");
    shell.netpol("remove-network-policy appA appB").exits(0).prints("revoked r2");
}

#[test]
fn a_wrong_token_is_exit_code_3_and_a_wrong_address_4() {
    let api = Api::start();
    let shell = &api.shell;
    let wrong = shell.path("wrong.token");
    std::fs::write(&wrong, "wrong").expect("a file");
    shell.netpol(&format!("list --token-file {}", wrong.display())).exits(3).tells("--token-file");
    shell.netpol("list --api https://127.0.0.1:1").exits(4).tells("https://127.0.0.1:1").tells("--api");
    shell.netpol(&format!("list --api https://127.0.0.1:1,{}", api.url)).exits(0);
    let other = Api::start();
    let wrong_ca = other.dir().join("ca.pem");
    shell.netpol(&format!("list --ca {}", wrong_ca.display())).exits(4).tells("--ca");
}

#[test]
fn a_watch_prints_again_on_change_and_ends_cleanly_on_ctrl_c() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 1").exits(0);
    let mut child =
        shell.command().args(["list", "-w", "-o", "name"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    assert_eq!(lines.next().as_deref(), Some("r2"));
    shell.netpol("allow appA appB --port 2").exits(0);
    assert_eq!(lines.next().as_deref(), Some("r2"));
    assert_eq!(lines.next().as_deref(), Some("r3"));
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGINT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn status_counts_what_there_is() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 1").exits(0);
    shell.netpol("status").exits(0).prints(&api.url).prints("Rules");
    let json = shell.netpol("status -o json").exits(0).json();
    assert_eq!((&json["rules"], &json["apps"]), (&json!(1), &json!(2)));
}
