//! `observe`: what it asks the agent for, what it prints of the answer, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

mod support;

use support::events::EventSource;
use support::{Said, Shell, eventually};

const DENIED: &str = r#"{"time":"2026-01-31T12:00:00.5Z","kind":"denied","reason":"no-rule","direction":"egress","protocol":"tcp","source":{"ip":"10.255.1.1","port":43818,"app":"appA","instance":"appA/0","node":"n1"},"destination":{"ip":"10.255.2.1","port":8080,"app":"appB","instance":"appB/0","node":"n2"},"later":"unknown"}"#;
const ALLOWED: &str = r#"{"time":"2026-01-31T12:00:01Z","kind":"start","direction":"egress","protocol":"tcp","source":{"ip":"10.255.1.1","port":43820,"app":"appA","instance":"appA/0","node":"n1"},"destination":{"ip":"10.255.2.1","port":8080,"app":"appB","instance":"appB/0","node":"n2"},"rule":"r12"}"#;
const LATER: &str = r#"{"kind":"something of a later version"}"#;
const LOST: &str = r#"{"kind":"lost","events":7}"#;

fn node(kept: &[&str]) -> (Shell, EventSource) {
    let mut shell = Shell::new();
    let socket = shell.path("agent.sock");
    let source = EventSource::listen(&socket, kept);
    shell.set("NETPOL_SOCKET", &socket.to_string_lossy());
    (shell, source)
}

#[test]
fn what_the_agent_has_kept_is_printed_in_its_order_and_that_is_all() {
    let (shell, source) = node(&[DENIED, LATER, ALLOWED]);
    let said = shell.netpol("observe").exits(0);
    let lines: Vec<&str> = said.stdout.lines().collect();
    let [header, denied, allowed] = lines[..] else { panic!("{said:?}") };
    assert!(header.starts_with("TIME ") && header.ends_with(" CARRIED"), "{header}");
    assert!(denied.contains("  denied       no-rule ") && denied.contains("  appA/0 10.255.1.1:43818  "), "{denied}");
    assert!(allowed.contains("  start        r12 ") && allowed.contains("  appB/0 10.255.2.1:8080  "), "{allowed}");
    assert!(!said.stdout.contains('\x1b') && said.stderr.is_empty(), "{said:?}");
    assert_eq!(source.paths(), ["/v1/events?follow=false"]);
    shell.netpol("observe --color always").exits(0).prints("\x1b[31mdenied\x1b[0m");
    shell.netpol("observe --no-headers --last 1").exits(0).prints("start");
}

#[test]
fn filters_choose_and_the_last_of_what_they_leave_is_counted() {
    let (shell, _source) = node(&[DENIED, DENIED, ALLOWED]);
    let lines = |flags: &str| shell.netpol(&format!("observe --no-headers {flags}")).exits(0).stdout.lines().count();
    assert_eq!(lines("--kind denied"), 2);
    assert_eq!(lines("--kind denied --last 1"), 1);
    assert_eq!(lines("--app appb --reason no-rule"), 2);
    let nothing = shell.netpol("observe --source appB").exits(0).tells("no events");
    assert_eq!(nothing.stdout, "");
}

#[test]
fn programs_get_a_document_or_lines() {
    let (shell, _source) = node(&[DENIED, ALLOWED]);
    let json = shell.netpol("observe -o json").exits(0).json();
    assert_eq!((&json["items"][0]["reason"], &json["items"][1]["rule"]), (&"no-rule".into(), &"r12".into()));
    assert_eq!(shell.netpol("observe -o json --app nobody").exits(0).json()["items"], Value::Array(Vec::new()));
    let lines = shell.netpol("observe -o jsonl").exits(0).stdout;
    let kinds: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .inspect(|event| assert_eq!(event["apiVersion"], "netpol/v1"))
        .map(|event| event["kind"].clone())
        .collect();
    assert_eq!(kinds, ["denied", "start"]);
}

#[test]
fn what_cannot_be_is_refused_before_the_agent_hears_of_it() {
    let (shell, source) = node(&[]);
    shell.netpol("observe -f -o json").exits(2).tells("--output").tells("jsonl");
    shell.netpol("observe -o name").exits(2).tells("--output").tells("`name`");
    shell.netpol("observe --reason no-rul").exits(2).tells("'no-rule'");
    shell.netpol("observe --kind start --reason no-rule").exits(2).tells("--reason");
    assert!(source.paths().is_empty());
}

#[test]
fn following_goes_on_until_ctrl_c_which_is_no_failure() {
    let (shell, source) = node(&[DENIED]);
    let (child, mut lines) = follow(&shell, "observe -f");
    assert!(next(&mut lines).starts_with("TIME "));
    assert!(next(&mut lines).contains("denied"));
    source.tell(ALLOWED);
    assert!(next(&mut lines).contains("start"));
    interrupt(&child);
    let said = end(child, lines).exits(0);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    assert_eq!(source.paths(), ["/v1/events?follow=true"]);
}

#[test]
fn the_last_of_the_past_is_followed_by_all_that_happens() {
    let (shell, source) = node(&[DENIED, ALLOWED]);
    let (child, mut lines) = follow(&shell, "observe -f --last 1 --no-headers");
    assert!(next(&mut lines).contains("start"));
    source.tell(DENIED);
    assert!(next(&mut lines).contains("denied"));
    interrupt(&child);
    end(child, lines).exits(0);
    assert_eq!(source.paths(), ["/v1/events?follow=true", "/v1/events?follow=false"]);
}

#[test]
fn lost_events_are_told_to_people_and_to_programs() {
    for (line, wanted) in [("observe -f -q --kind denied", None), ("observe -f -o jsonl", Some(7))] {
        let (shell, source) = node(&[]);
        let (child, mut lines) = follow(&shell, line);
        eventually("somebody follows", || !source.paths().is_empty());
        source.tell(LOST);
        source.tell(DENIED);
        let mut before = next(&mut lines);
        if wanted.is_none() {
            assert!(before.starts_with("TIME "), "{before}");
            before = next(&mut lines);
            assert!(before.contains("denied"), "{before}");
        } else {
            let told: Value = serde_json::from_str(&before).expect("JSON");
            assert_eq!((&told["kind"], told["events"].as_u64()), (&"lost".into(), wanted));
        }
        interrupt(&child);
        end(child, lines).exits(0).tells("note: 7 events lost");
    }
}

#[test]
fn an_agent_that_ends_or_is_not_there_is_unreachable() {
    let (shell, mut source) = node(&[DENIED]);
    let (child, mut lines) = follow(&shell, "observe -f");
    next(&mut lines);
    source.end();
    end(child, lines).exits(4).tells("has ended");
    Shell::new().netpol("observe").exits(4).tells("no agent at").tells("nowhere.sock").tells("--socket");
    Shell::new().netpol("observe -f").exits(4).tells("nowhere.sock");
}

#[test]
fn a_reader_that_has_seen_enough_ends_following() {
    let (shell, source) = node(&[DENIED]);
    let (mut child, mut lines) = follow(&shell, "observe -f");
    next(&mut lines);
    drop(lines);
    source.tell(ALLOWED);
    let status = child.wait().expect("it ends");
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

type Lines = BufReader<ChildStdout>;

fn follow(shell: &Shell, line: &str) -> (Child, Lines) {
    let mut command = shell.command();
    command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("netpol starts");
    let stdout = child.stdout.take().expect("a pipe");
    (child, BufReader::new(stdout))
}

#[track_caller]
fn next(lines: &mut Lines) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("text");
    assert!(line.ends_with('\n'), "it ended too early");
    line.trim_end().to_owned()
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id()).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
}

/// Waits for the end; what it says is what had not been read yet.
fn end(child: Child, mut lines: Lines) -> Said {
    let mut stdout = String::new();
    lines.read_to_string(&mut stdout).expect("text");
    let said = Said::from(child.wait_with_output().expect("it ends"));
    Said { stdout, ..said }
}
