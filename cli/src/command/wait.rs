//! `--wait`: from sending a change to the last node's report that it is in force.

use std::time::{Duration, Instant};

use policy_api::client::Client;
use policy_api::model::{InForce, NodeName, Revision};

use crate::args::Patience;
use crate::failure::{Exit, Failure};
use crate::output::phrase;
use crate::output::rule::Waited;
use crate::signal;

/// One question to the API waits at most this long, so that a server's own limit never cuts it short.
const LONGEST_QUESTION: Duration = Duration::from_secs(20);

/// Waits until every connected node has the revision in force, or patience or the user ends it.
pub(crate) async fn until_in_force(
    client: &Client,
    revision: Revision,
    patience: Patience,
    sent: Instant,
) -> Result<Waited, Failure> {
    tokio::select! {
        waited = ask(client, revision, patience, sent) => waited,
        () = signal::interrupted() => Err(Failure::new(signal::INTERRUPTED, "interrupted while waiting")),
    }
}

async fn ask(client: &Client, revision: Revision, patience: Patience, sent: Instant) -> Result<Waited, Failure> {
    let deadline = sent + patience.0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = client.wait_in_force(revision, left.min(LONGEST_QUESTION)).await?;
        if answer.complete || Instant::now() >= deadline {
            return Ok(waited(answer, sent.elapsed()));
        }
    }
}

fn waited(answer: InForce, elapsed: Duration) -> Waited {
    let names = |nodes: Vec<NodeName>| nodes.iter().map(NodeName::to_string).collect();
    Waited {
        complete: answer.complete,
        in_force: names(answer.in_force),
        missing: names(answer.missing),
        disconnected: names(answer.disconnected),
        ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
    }
}

/// The line for the user, or the failure if not all nodes are there.
pub(crate) fn verdict(waited: &Waited, what_stands: &str) -> Result<String, Failure> {
    let nodes = phrase::count(waited.in_force.len(), "node");
    if !waited.complete {
        return Err(Failure::new(
            Exit::TimedOut,
            format!(
                "after {} ms in force on {nodes} only; missing: {}; {what_stands}",
                waited.ms,
                phrase::comma(&[waited.missing.as_slice(), waited.disconnected.as_slice()].concat())
            ),
        ));
    }
    let rest = match waited.disconnected.as_slice() {
        [] if waited.in_force.is_empty() => "; no node is connected".to_owned(),
        [] => String::new(),
        names => format!("; not connected: {}", phrase::comma(names)),
    };
    Ok(format!("in force on {nodes} after {} ms{rest}", waited.ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waited(complete: bool, in_force: &[&str], missing: &[&str], disconnected: &[&str]) -> Waited {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Waited {
            complete,
            in_force: names(in_force),
            missing: names(missing),
            disconnected: names(disconnected),
            ms: 14,
        }
    }

    #[test]
    fn it_says_on_how_many_nodes_and_after_how_long() {
        let line = |waited: &Waited| verdict(waited, "the rule stands").expect("complete");
        assert_eq!(line(&waited(true, &["n1", "n2"], &[], &[])), "in force on 2 nodes after 14 ms");
        assert_eq!(line(&waited(true, &["n1"], &[], &["n3"])), "in force on 1 node after 14 ms; not connected: n3");
        assert_eq!(line(&waited(true, &[], &[], &[])), "in force on 0 nodes after 14 ms; no node is connected");
    }

    #[test]
    fn running_out_of_time_is_exit_code_5_and_names_who_is_missing() {
        let failure = verdict(&waited(false, &["n1"], &["n2"], &["n3"]), "the rule stands").expect_err("missing");
        assert_eq!(failure.exit(), Exit::TimedOut);
        let text = failure.to_string();
        assert!(
            text.contains("in force on 1 node only") && text.contains("missing: n2, n3") && text.contains("stands"),
            "{text}"
        );
    }
}
