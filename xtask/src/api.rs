//! `cargo xtask api`: a real policy API, asked all that its own description allows and much that it does not.
//!
//! schemathesis makes the requests from `/openapi.json`; any answer that the description does not have, a 5xx or a request
//! that is not answered in time fails. Only the watches are left out: their answers have no end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::progress::{self, Failure};
use crate::userland::{self, Artifacts, Profile};
use crate::{setup, workspace};

/// What is left of CI's two minutes once everything is built.
const SECONDS: &str = "75";
/// Longer than any answer takes on a busy machine, and what counts as none.
const PATIENCE_SECONDS: &str = "10";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
const REMEDY: &str = "the requests that fail stand above, each with a line that repeats it";

pub(crate) fn run() -> Result<(), Failure> {
    setup::run()?;
    let schemathesis = setup::schemathesis()?;
    userland::build(Profile::Debug, Artifacts::Binaries)?;
    let api = Api::start(&workspace::target().join("api"))?;
    progress::step("ask what the description allows", &mut api.ask(&schemathesis)?, REMEDY)?;
    api.stop()
}

/// A policy API with a store of its own.
struct Api {
    process: Child,
    url: String,
    directory: PathBuf,
}

impl Api {
    fn start(directory: &Path) -> Result<Self, Failure> {
        let failed = |what: &str| Failure::new("start netpol-api", what, "look at what it says above");
        if directory.exists() {
            fs::remove_dir_all(directory).map_err(|error| failed(&error.to_string()))?;
        }
        fs::create_dir_all(directory).map_err(|error| failed(&error.to_string()))?;
        let store = format!("sqlite://{}/policy.db", directory.display());
        let netpol_api = |verb: &str| {
            let mut command = workspace::command(&userland::binary(Profile::Debug, "netpol-api").to_string_lossy());
            command.args([verb, "--store", &store, "--dir"]).arg(directory.join("pki")).env("NETPOL_LOG", "warn");
            command
        };
        progress::step("init netpol-api", netpol_api("init").args(["--node", "n1"]), "its message stands above")?;
        let mut serve = netpol_api("serve");
        serve.args(["--listen", "127.0.0.1:0", "--requests-per-second", "1000000", "--cf-compat"]);
        let mut process = serve.stderr(Stdio::piped()).spawn().map_err(|error| failed(&error.to_string()))?;
        let url = process.stderr.take().and_then(listening).ok_or_else(|| failed("it ended without listening"))?;
        Ok(Self { process, url, directory: directory.to_owned() })
    }

    fn ask(&self, schemathesis: &Path) -> Result<Command, Failure> {
        let pki = self.directory.join("pki");
        let token = fs::read_to_string(pki.join("operator.token"));
        let token = token.map_err(|error| Failure::new("read the operator's token", error.to_string(), REMEDY))?;
        let mut command = workspace::command(&schemathesis.to_string_lossy());
        // Beside its store, where what it remembers of runs goes with it.
        command.current_dir(&self.directory);
        command.args(["run", &format!("{}/openapi.json", self.url), "--tls-verify"]).arg(pki.join("ca.pem"));
        // The token of a store that is gone in two minutes may be read by whoever may look at this process.
        command.args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
        command.args([
            "--exclude-path",
            "/v1/watch",
            "--exclude-path",
            "/v1/gate/watch",
            "--checks",
            CHECKS,
            "--continue-on-failure",
            "--warnings",
            "off",
        ]);
        // Who is refused before his body is read loses the connection: the next request is made on another one.
        command.args(["--max-time", SECONDS, "--request-timeout", PATIENCE_SECONDS, "--request-retries", "2"]);
        Ok(command)
    }

    /// What has ended by itself did not survive what it was asked.
    fn stop(mut self) -> Result<(), Failure> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::new("netpol-api", format!("it ended: {status}"), REMEDY)),
            Err(error) => Err(Failure::new("netpol-api", error.to_string(), REMEDY)),
        }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // It may be gone already, which `stop` has said then.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads where it listens; goes on reading, so that it never waits for a reader.
fn listening(stderr: ChildStderr) -> Option<String> {
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let url = lines.find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()));
    std::thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
    url
}
