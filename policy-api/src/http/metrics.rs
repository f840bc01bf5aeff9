//! Counters of the API, as Prometheus text.

use std::{
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Context, endpoint::endpoints, read};

/// Answers by endpoint and class of status. One row per endpoint of the table, so labels cannot grow.
pub(super) struct Metrics {
    answers: Vec<[AtomicU64; CLASSES.len()]>,
}

const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

impl Default for Metrics {
    fn default() -> Self {
        Self { answers: endpoints().map(|_| Default::default()).collect() }
    }
}

impl Metrics {
    pub(super) fn count(&self, endpoint: usize, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(2).min(CLASSES.len() - 1);
        if let Some(counter) = self.answers.get(endpoint).map(|classes| &classes[class]) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "# HELP netpol_api_answers_total Answers by endpoint and class of status.")?;
        writeln!(out, "# TYPE netpol_api_answers_total counter")?;
        for (endpoint, classes) in endpoints().zip(&self.answers) {
            for (class, counter) in CLASSES.iter().zip(classes) {
                let count = counter.load(Ordering::Relaxed);
                if count > 0 {
                    let (method, path) = (endpoint.method, endpoint.path);
                    writeln!(
                        out,
                        r#"netpol_api_answers_total{{method="{method}",path="{path}",class="{class}"}} {count}"#
                    )?;
                }
            }
        }
        Ok(())
    }
}

pub(super) async fn text(State(context): State<Context>) -> Response {
    let mut out = String::new();
    match context.metrics.write(&mut out).and_then(|()| write_numbers(&context, &mut out)) {
        Ok(()) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], out).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn write_numbers(context: &Context, out: &mut String) -> fmt::Result {
    let status = read::numbers(context);
    let (commits, revisions) = context.store.commits();
    let mut one = |name: &str, kind: &str, help: &str, value: u64| {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
    };
    one("netpol_store_revision_number", "gauge", "The last committed revision.", status.revision.0)?;
    one("netpol_store_commits_total", "counter", "Transactions since the start.", commits)?;
    one("netpol_store_revisions_total", "counter", "Revisions committed since the start.", revisions)?;
    one(
        "netpol_store_healthy_bool",
        "gauge",
        "Whether the last write could be stored.",
        u64::from(status.store_healthy),
    )?;
    one("netpol_model_apps_count", "gauge", "Apps.", status.apps)?;
    one(
        "netpol_model_identities_given_count",
        "gauge",
        "Identities of apps that were given out, ever, up to as many as there are.",
        status.identities_given.into(),
    )?;
    one(
        "netpol_model_identities_capacity_count",
        "gauge",
        "Identities of apps that there are.",
        status.identities_capacity.into(),
    )?;
    one("netpol_model_rules_count", "gauge", "Rules that stand.", status.rules)?;
    one("netpol_model_rows_count", "gauge", "Rows that all rules together need on a node.", status.rows)?;
    one("netpol_model_instances_count", "gauge", "Live instances.", status.instances)?;
    one("netpol_model_nodes_count", "gauge", "Registered nodes.", status.nodes)?;
    one("netpol_watch_nodes_connected_count", "gauge", "Nodes with an open watch.", status.nodes_connected)?;
    one("netpol_watch_nodes_ready_count", "gauge", "Connected nodes that say they are ready.", status.nodes_ready)
}
