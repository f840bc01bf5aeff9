//! `status`: how the API is, and how this node's agent is if there is one.

use policy_api::client::Client;
use policy_api::model::Status;
use serde::Serialize;

use super::connect;
use super::follow::once_or_always;
use crate::agent::{Agent, AgentStatus};
use crate::args::WatchArgs;
use crate::failure::{Exit, Failure};
use crate::output::table::{Field, Grid, Tone};
use crate::output::{Answer, Detail, phrase};
use crate::settings::Settings;
use crate::terminal::Look;

/// Shows both. Without the API the agent is still shown, and the exit code says that the API is missing.
pub(crate) async fn status(watch: WatchArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = match connect::client(settings) {
        Ok(client) => client,
        Err(failure) => return without_api(settings, failure).await,
    };
    let shown = once_or_always(&client, watch, settings.printer, async || {
        let api = api(&client).await?;
        settings.printer.shot_of(&Both { api: Some(api), agent: agent(settings).await })
    })
    .await;
    match shown {
        Err(failure) if failure.exit() == Exit::Unreachable => without_api(settings, failure).await,
        shown => shown,
    }
}

async fn api(client: &Client) -> Result<ApiStatus, Failure> {
    Ok(ApiStatus { status: client.status().await?, api: client.api_in_use() })
}

async fn agent(settings: &Settings) -> Option<AgentStatus> {
    // Most machines are no nodes, so an agent that cannot be asked is no failure; one that should be there is mentioned.
    if !settings.socket.exists() {
        return None;
    }
    match Agent::at(&settings.socket).status().await {
        Ok(status) => Some(status),
        Err(failure) => {
            settings.printer.say(&format!("note: {}", failure.brief()));
            None
        }
    }
}

async fn without_api(settings: &Settings, failure: Failure) -> Result<Exit, Failure> {
    if let Some(agent) = agent(settings).await {
        settings.printer.answer(&Both { api: None, agent: Some(agent) })?;
    }
    Err(failure)
}

#[derive(Debug, Serialize)]
struct ApiStatus {
    api: String,
    #[serde(flatten)]
    status: Status,
}

#[derive(Debug, Serialize)]
struct Both {
    #[serde(flatten)]
    api: Option<ApiStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<AgentStatus>,
}

impl Answer for Both {
    fn text(&self, look: &Look, detail: Detail) -> String {
        let api = self.api.iter().flat_map(|api| api_rows(api, detail));
        let agent = self.agent.iter().map(agent_row);
        Grid { headers: Vec::new(), rows: api.chain(agent).collect() }.render(look)
    }

    fn name(&self) -> String {
        let node = self.agent.as_ref().map(|agent| agent.node.clone());
        self.api.as_ref().map(|api| api.api.clone()).or(node).unwrap_or_default()
    }
}

fn api_rows(api: &ApiStatus, detail: Detail) -> Vec<Vec<Field>> {
    let Status { version, history, revision, overlay, apps, rules, rows, rows_capacity, instances, .. } = &api.status;
    let room = match rows_capacity {
        Some(capacity) => format!("{rules} ({rows} of {capacity} rows)"),
        None => format!("{rules} ({rows} rows)"),
    };
    let store = match api.status.store_healthy {
        true => Field::toned("healthy", Tone::Good),
        false => Field::toned("cannot be written", Tone::Bad),
    };
    let line = |name: &str, value: Field| vec![Field::new(name), value];
    let mut lines = vec![
        line("API", Field::new(format!("{} (version {version})", api.api))),
        line("Store", store),
        line("Revision", Field::new(revision)),
        line("Rules", Field::new(room)),
        line("Apps", Field::new(format!("{apps}{}", identities(&api.status)))),
        line("Instances", Field::new(instances)),
        line("Nodes", nodes(&api.status)),
    ];
    if detail == Detail::Wide {
        lines.push(line("History", Field::new(history)));
        lines.push(line("Overlay", Field::new(format!("{}, {}", overlay.v4, overlay.v6))));
    }
    lines
}

/// How many identities have been given out, once that is something to think about.
fn identities(status: &Status) -> String {
    let Status { identities_given: given, identities_capacity: capacity, .. } = *status;
    let percent = (u64::from(given) * 100).checked_div(capacity.into()).unwrap_or(0);
    if percent < 50 { String::new() } else { format!(" ({given} of {capacity} identities were given out)") }
}

fn nodes(status: &Status) -> Field {
    let Status { nodes, nodes_connected, nodes_ready, .. } = status;
    if *nodes == 0 {
        return Field::new("none has joined yet");
    }
    let tone = if nodes == nodes_ready { Tone::Good } else { Tone::Bad };
    Field::toned(format!("{nodes}, {nodes_connected} connected, {nodes_ready} ready"), tone)
}

fn agent_row(agent: &AgentStatus) -> Vec<Field> {
    let (ready, tone) = match (agent.ready, agent.connected) {
        (true, true) => ("ready", Tone::Good),
        (true, false) => ("ready, enforcing the last known state without the API", Tone::Bad),
        (false, _) => ("not ready", Tone::Bad),
    };
    let revision = agent.revision.map_or_else(|| "no revision yet".to_owned(), |number| format!("revision {number}"));
    let endpoints = phrase::count(agent.endpoints.len(), "endpoint");
    vec![Field::new("Agent"), Field::toned(format!("{}: {ready}, {revision}, {endpoints}", agent.node), tone)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::rule::tests::PIPE;
    use crate::output::{Format, render_answer};

    fn both() -> Both {
        let status = json!({
            "version": "0.1.0", "now": "2026-01-31T12:00:00.000Z", "history": "00ff00ff00ff00ff", "revision": 7, "apps": 2, "rules": 1, "rows": 3,
            "rows_capacity": 1000, "instances": 4, "nodes": 2, "nodes_connected": 2, "nodes_ready": 1,
            "overlay": {"v4": "10.255.0.0/16", "v6": "fd00::/48"}, "store_healthy": true,
        });
        let agent =
            json!({"node": "n1", "revision": 7, "ready": true, "connected": true, "endpoints": [{}], "epoch": 4});
        Both {
            api: Some(ApiStatus {
                api: "https://127.0.0.1:7443".into(),
                status: serde_json::from_value(status).expect("a status"),
            }),
            agent: Some(serde_json::from_value(agent).expect("an agent")),
        }
    }

    #[test]
    fn status_is_a_line_per_thing() {
        let expected = "\
API        https://127.0.0.1:7443 (version 0.1.0)
Store      healthy
Revision   7
Rules      1 (3 of 1000 rows)
Apps       2
Instances  4
Nodes      2, 2 connected, 1 ready
Agent      n1: ready, revision 7, 1 endpoint
";
        assert_eq!(render_answer(&both(), Format::Table, &PIPE).expect("text"), expected);
    }

    #[test]
    fn an_agent_that_has_lost_the_api_says_that_it_enforces_nevertheless() {
        let row = |agent: serde_json::Value| {
            let agent = serde_json::from_value(agent).expect("an agent");
            render_answer(&Both { api: None, agent: Some(agent) }, Format::Table, &PIPE).expect("text")
        };
        let lost = row(json!({"node": "n1", "revision": 7, "ready": true, "connected": false}));
        assert_eq!(lost, "Agent  n1: ready, enforcing the last known state without the API, revision 7, 0 endpoints\n");
        let fresh = row(json!({"node": "n1", "revision": null, "ready": false, "connected": true}));
        assert_eq!(fresh, "Agent  n1: not ready, no revision yet, 0 endpoints\n");
    }

    #[test]
    fn json_has_the_api_at_the_top_and_the_agent_apart() {
        let text = render_answer(&both(), Format::Json, &PIPE).expect("text");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&json["apiVersion"], &json["revision"]), (&json!("netpol/v1"), &json!(7)));
        assert_eq!((&json["agent"]["node"], &json["agent"]["epoch"]), (&json!("n1"), &json!(4)));
    }
}
