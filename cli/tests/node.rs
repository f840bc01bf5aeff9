//! `attach`, `detach` and `run`: what they ask the agent for, and how they end.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

mod support;

use support::agent::{AgentSocket, Answers, willing};
use support::{Said, Shell, eventually, exists};

fn node(answers: Answers) -> (Shell, AgentSocket) {
    let mut shell = Shell::new();
    let socket = shell.path("agent.sock");
    let agent = AgentSocket::listen(&socket, answers);
    shell.set("NETPOL_SOCKET", &socket.to_string_lossy());
    (shell, agent)
}

fn busy(path: &str) -> (u16, serde_json::Value) {
    match path {
        "/v1/attach" => {
            (409, json!({"title": "Conflict", "status": 409, "detail": "appA/3 lives on n2", "field": "instance"}))
        }
        _ => (404, json!({"title": "Not found", "status": 404, "detail": "this namespace has no endpoint"})),
    }
}

fn slow(path: &str) -> (u16, serde_json::Value) {
    std::thread::sleep(std::time::Duration::from_millis(300));
    willing(path)
}

fn own_netns() -> String {
    fs::read_link("/proc/self/ns/net").expect("every process has one").to_string_lossy().into_owned()
}

#[test]
fn attach_hands_over_the_namespace_and_says_what_became_of_it() {
    let (shell, agent) = node(willing);
    shell
        .netpol("attach --app appA --instance 3 --netns /proc/self/ns/net --ifname eth1 --label a=b")
        .exits(0)
        .prints("attached appA/3 on n1: 10.255.1.2 on eth0")
        .tells("not yet known to n2")
        .tells("undo: netpol detach --netns /proc/self/ns/net");
    let [asked] = agent.asked().try_into().expect("one request");
    assert_eq!(asked.path, "/v1/attach");
    assert_eq!(asked.netns, Some(own_netns()));
    assert_eq!(
        (&asked.body["app"], &asked.body["instance"], &asked.body["ifname"], &asked.body["labels"]),
        (&json!("appA"), &json!(3), &json!("eth1"), &json!({"a": "b"}))
    );
}

#[test]
fn attach_in_json_is_the_agents_answer_with_the_undo_line() {
    let (shell, _agent) = node(willing);
    let said = shell.netpol("attach --app appA --netns /proc/self/ns/net -o json").exits(0);
    let json = said.json();
    assert_eq!((&json["node"], &json["instance"]), (&json!("n1"), &json!(3)));
    assert_eq!(json["undo"], "netpol detach --netns /proc/self/ns/net");
}

#[test]
fn detach_frees_the_addresses_and_a_refusal_has_its_exit_code() {
    let (shell, _agent) = node(willing);
    shell
        .netpol("detach --netns /proc/self/ns/net")
        .exits(0)
        .prints("detached appA/3: 10.255.1.2 free again")
        .tells("undo: netpol attach --app appA --instance 3");
    let (shell, _agent) = node(busy);
    shell.netpol("detach --netns /proc/self/ns/net").exits(1).tells("no endpoint");
    shell.netpol("attach --app appA --netns /proc/self/ns/net").exits(6).tells("instance: appA/3 lives on n2");
}

#[test]
fn what_is_no_namespace_is_refused_before_the_agent_hears_of_it() {
    let (shell, agent) = node(willing);
    shell.netpol("attach --app appA --netns /etc/hostname").exits(2).tells("/etc/hostname is not a network namespace");
    shell.netpol("attach --app appA --netns no-such").exits(2).tells("/run/netns/no-such");
    assert!(agent.asked().is_empty());
}

#[test]
fn without_an_agent_the_node_is_unreachable() {
    let shell = Shell::new();
    shell.netpol("attach --app appA --netns /proc/self/ns/net").exits(4).tells("nowhere.sock").tells("--socket");
    shell.netpol("run --app appA -- true").exits(125).tells("nowhere.sock");
}

#[test]
fn run_puts_the_command_into_a_fresh_attached_namespace_and_ends_with_its_code() {
    let (shell, agent) = node(willing);
    let script = "readlink /proc/self/ns/net; grep -c 127.0.0.1 /proc/net/fib_trie; exit 7";
    let said = shell.run(["run", "--app", "appA", "--", "sh", "-c", script]).exits(7).tells("running as appA/3 on n1");
    let mut lines = said.stdout.lines();
    let seen = lines.next().expect("a namespace").to_owned();
    let loopback: u32 = lines.next().and_then(|count| count.parse().ok()).expect("a count");
    assert_ne!(seen, own_netns());
    assert!(loopback > 0, "lo is not up");
    let asked = agent.asked();
    assert_eq!(agent.paths(), ["/v1/attach", "/v1/detach"]);
    assert!(asked.iter().all(|asked| asked.netns.as_ref() == Some(&seen)), "{asked:?}");
}

#[test]
fn run_says_apart_what_failed() {
    let (shell, agent) = node(willing);
    shell.netpol("run --app appA -- no-such-command").exits(127).tells("no-such-command");
    let plain = shell.path("plain");
    fs::write(&plain, "not a program").expect("a file");
    shell.netpol(&format!("run --app appA -- {}", plain.display())).exits(126).tells("plain");
    assert_eq!(agent.paths(), ["/v1/attach", "/v1/detach", "/v1/attach", "/v1/detach"]);
    let (shell, agent) = node(busy);
    shell.netpol("run --app appA -- true").exits(125).tells("lives on n2");
    assert_eq!(agent.paths(), ["/v1/attach"]);
}

#[test]
fn run_passes_signals_on_and_detaches_when_they_end_the_command() {
    let (shell, agent) = node(willing);
    let ready = shell.path("ready");
    let script = format!("trap 'exit 9' USR1; touch {}; while :; do sleep 0.01; done", ready.display());
    let child = start(&shell, &["run", "--app", "appA", "--", "sh", "-c", &script]);
    eventually("the command runs", || exists(&ready));
    signal(&child, Signal::SIGUSR1);
    end(child).exits(9);
    assert_eq!(agent.paths(), ["/v1/attach", "/v1/detach"]);
}

#[test]
fn a_command_that_a_signal_ends_is_worth_128_and_its_number() {
    let (shell, agent) = node(willing);
    let ready = shell.path("ready");
    let script = format!("touch {}; exec sleep 60", ready.display());
    let child = start(&shell, &["run", "--app", "appA", "--", "sh", "-c", &script]);
    eventually("the command runs", || exists(&ready));
    signal(&child, Signal::SIGTERM);
    end(child).exits(143);
    assert_eq!(agent.paths(), ["/v1/attach", "/v1/detach"]);
}

#[test]
fn a_signal_before_the_command_starts_leaves_no_endpoint_and_no_command() {
    let (shell, agent) = node(slow);
    let ran = shell.path("ran");
    let child = start(&shell, &["run", "--app", "appA", "--", "touch", &ran.to_string_lossy()]);
    agent.wait_for("/v1/attach");
    signal(&child, Signal::SIGINT);
    end(child).exits(130);
    assert_eq!(agent.paths(), ["/v1/attach", "/v1/detach"]);
    assert!(!exists(&ran), "the command ran after all");
}

fn start(shell: &Shell, arguments: &[&str]) -> Child {
    let mut command = shell.command();
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("netpol starts")
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a pid");
    kill(Pid::from_raw(pid), signal).expect("it runs");
}

fn end(child: Child) -> Said {
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.signal(), None, "a signal ended netpol itself");
    output.into()
}
