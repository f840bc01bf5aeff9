//! The stream of lines that a watch is.

use std::time::Duration;

use reqwest::Response;

use super::{ClientError, lines::Lines};
use crate::model::WatchLine;

/// An open watch. It never ends by itself: when [`Watch::next`] fails, open another one and resume.
pub struct Watch(Lines);

/// Heartbeats come every 5 seconds or oftener; three of them missing means that nobody is there.
const SILENCE: Duration = Duration::from_secs(16);

impl Watch {
    pub(super) fn new(response: Response, api: String) -> Self {
        Self(Lines::new(response, api, SILENCE))
    }

    /// The URL of the API that this watch is open to.
    pub fn api(&self) -> &str {
        self.0.api()
    }

    /// Waits for the next line. Safe to drop and call again: nothing that arrived is lost.
    pub async fn next(&mut self) -> Result<WatchLine, ClientError> {
        self.0.next().await
    }
}
