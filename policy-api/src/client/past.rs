//! What stood at some time, and what happened since: the same questions as about now.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};

use super::{Client, ClientError, read};
use crate::model::{
    App, AppName, At, Binding, CheckAnswer, CheckQuery, HistoryItem, HistoryQuery, KnownSeal, List, RuleFilter,
    RuleView, Verified,
};

/// Asks about one moment of the past.
pub struct Past<'a> {
    pub(super) client: &'a Client,
    at: At,
}

/// How long the API may take to walk over a whole history.
const WALK_TIMEOUT: Duration = Duration::from_secs(600);

impl Client {
    /// A page of the history: at most so many entries, behind the one with the number `behind`. Where the page has a `next`
    /// there may be more.
    pub async fn history(
        &self,
        query: &HistoryQuery,
        oldest_first: bool,
        behind: Option<u64>,
        limit: usize,
    ) -> Result<List<HistoryItem>, ClientError> {
        let mut parameters = query.parameters();
        parameters.push(("limit", limit.clamp(1, 1_000).to_string()));
        parameters.extend(oldest_first.then(|| ("order", "oldest".to_owned())));
        parameters.extend(behind.map(|behind| ("cursor", behind.to_string())));
        self.get("/v1/history", parameters).await
    }

    /// Has the API walk over the whole history, and compare it with a seal that is known.
    pub async fn verify_history(&self, known: Option<KnownSeal>) -> Result<Verified, ClientError> {
        let known: Vec<_> = known.into_iter().map(|known| ("known", known.to_string())).collect();
        let build = |request: RequestBuilder| request.query(&known).timeout(WALK_TIMEOUT);
        read(self.send(Method::GET, "/v1/history/verify", build).await?).await
    }

    /// Asks what stood then.
    pub fn at(&self, at: At) -> Past<'_> {
        Past { client: self, at }
    }
}

impl Past<'_> {
    /// The rules; what they were used for until then is not known.
    pub async fn rules(&self, filter: &RuleFilter) -> Result<List<RuleView>, ClientError> {
        Ok(self.client.list("/v1/rules", self.with(filter.parameters())).await?.0)
    }

    pub async fn check(&self, query: &CheckQuery) -> Result<CheckAnswer, ClientError> {
        self.client.get("/v1/check", self.with(query.parameters())).await
    }

    pub async fn apps(&self) -> Result<List<App>, ClientError> {
        Ok(self.client.list("/v1/apps", self.with(Vec::new())).await?.0)
    }

    /// Instances that were live, one item per address.
    pub async fn instances(&self, app: Option<&AppName>) -> Result<List<Binding>, ClientError> {
        let app = app.map(|app| ("app", app.to_string()));
        Ok(self.client.list("/v1/instances", self.with(app.into_iter().collect())).await?.0)
    }

    pub(super) fn with(&self, mut parameters: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
        parameters.push(("at", self.at.to_string()));
        parameters
    }
}
