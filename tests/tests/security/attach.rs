//! The agent's socket: who may speak to it, and what it refuses to take for an instance.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, setfsuid};
use serde_json::{Value, json};
use tests::world::namespace::Namespace;
use tests::world::{Plan, World, scenario};

const NOBODY: u32 = 65_534;

struct Answer {
    status: u16,
    body: Value,
}

/// Asks the agent for an endpoint around a descriptor of this process.
fn attach(socket: &Path, app: &str, descriptor: RawFd) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let body = json!({"app": app, "netns_fd": descriptor}).to_string();
    let head = "POST /v1/attach HTTP/1.0\r\nHost: agent\r\nContent-Type: application/json";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the agent's answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("the agent answered `{answer}`"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
    Ok(Answer { status, body: serde_json::from_str(body).with_context(|| format!("not JSON: `{body}`"))? })
}

fn endpoints(world: &World) -> Result<usize> {
    world.node("n1")?.status()?["endpoints"].as_array().map(Vec::len).context("the agent lists its endpoints")
}

#[test]
fn a_descriptor_that_is_no_network_namespace_is_refused_whatever_else_it_is() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let socket = world.node("n1")?.socket.clone();
        let (reader, _writer) = std::io::pipe().context("a pipe")?;
        let path_only = open("/proc/self/ns/net", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let opened = |path: &str| File::open(path).with_context(|| format!("open {path}"));
        let (file, directory) = (opened("/etc/hostname").or_else(|_| opened("/etc/passwd"))?, opened("/etc")?);
        let (mounts, processes) = (opened("/proc/self/ns/mnt")?, opened("/proc/self/ns/pid")?);
        let stranger = UnixStream::pair()?.0;
        let descriptors = [
            ("a file", file.as_raw_fd()),
            ("a directory", directory.as_raw_fd()),
            ("a pipe", reader.as_raw_fd()),
            ("a socket", stranger.as_raw_fd()),
            ("a mount namespace", mounts.as_raw_fd()),
            ("a process namespace", processes.as_raw_fd()),
            ("a path that was not opened", path_only.as_raw_fd()),
            ("a closed descriptor", 19_999),
            ("a negative number", -1),
        ];
        for (what, descriptor) in descriptors {
            let answer = attach(&socket, "appA", descriptor)?;
            ensure!(answer.status == 400, "{what}: status {}: {}", answer.status, answer.body);
            ensure!(answer.body["field"] == "netns_fd", "{what}: {}", answer.body);
        }
        ensure!(endpoints(world)? == 0, "an endpoint came of it");
        Ok(())
    });
}

#[test]
fn one_namespace_attached_twice_at_once_becomes_one_endpoint() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let node = world.node("n1")?;
        let namespace = Namespace::create(&format!("{}-contested", node.namespace.name()))?;
        let file = File::open(namespace.path())?;
        let answers = std::thread::scope(|scope| {
            let apps = ["appA", "appB", "appC", "appD"];
            let askers = apps.map(|app| {
                let (socket, file) = (&node.socket, &file);
                scope.spawn(move || attach(socket, app, file.as_raw_fd()))
            });
            askers.map(|asker| asker.join().expect("an asker returns its errors"))
        });
        let mut statuses = Vec::new();
        for answer in answers {
            statuses.push(answer?.status);
        }
        statuses.sort_unstable();
        ensure!(statuses == [201, 409, 409, 409], "the agent answered {statuses:?}");
        ensure!(endpoints(world)? == 1, "not one endpoint");
        Ok(())
    });
}

#[test]
fn nobody_but_root_can_speak_to_the_agent_even_where_its_directory_is_open() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let socket = &world.node("n1")?.socket;
        // By its descriptor it is reached past the directory, so only its own mode is left.
        let found = open(socket, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
        UnixStream::connect(&by_descriptor).context("root, the same way")?;

        let asked = std::thread::scope(|scope| {
            let asker = scope.spawn(|| {
                setfsuid(Uid::from_raw(NOBODY));
                UnixStream::connect(&by_descriptor)
            });
            asker.join().expect("the thread only connects")
        });
        let refused = asked.err().context("nobody was let in")?;
        ensure!(refused.kind() == std::io::ErrorKind::PermissionDenied, "refused otherwise: {refused}");
        Ok(())
    });
}
