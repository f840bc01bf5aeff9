//! What stood at some time, and what happened since: the same questions as about now.

use super::{Client, ClientError};
use crate::model::{App, AppName, At, Binding, CheckAnswer, CheckQuery, List, RuleFilter, RuleView};

/// Asks about one moment of the past.
pub struct Past<'a> {
    client: &'a Client,
    at: At,
}

impl Client {
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

    fn with(&self, mut parameters: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
        parameters.push(("at", self.at.to_string()));
        parameters
    }
}
