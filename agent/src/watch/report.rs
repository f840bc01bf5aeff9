//! Reports what is in force here. Latest wins; told again after each reconnection, because an API remembers no reports.

use std::{sync::Arc, time::Duration};

use policy_api::model::Report;
use tokio::{sync::watch, time::sleep};
use tracing::debug;

use super::{Api, limited};

const RETRY: Duration = Duration::from_millis(200);

/// Sends each new report, until the sender of reports is gone.
pub async fn send_reports(api: Arc<Api>, mut reports: watch::Receiver<Option<Report>>) {
    let mut connection = api.connection();
    loop {
        let report = reports.borrow_and_update().clone();
        let connected = *connection.borrow_and_update();
        if let Some(report) = report.filter(|_| connected)
            && let Err(error) = limited(api.client.report(&api.node, &report)).await
        {
            debug!(%error, "the report did not arrive");
            sleep(RETRY.max(error.retry_after().unwrap_or_default())).await;
            continue;
        }
        tokio::select! {
            changed = reports.changed() => if changed.is_err() { return },
            changed = connection.changed() => if changed.is_err() { return },
        }
    }
}
