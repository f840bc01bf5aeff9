//! From what a gatekeeper is told to whom it asks: the authorities of its file, and the feed that the policy API pushes to, where one
//! of them judges by that.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use policy_api::{
    client::{Client, ClientConfig, Credentials},
    model::ResourceId,
};

use super::{AuthorityConfig, Feed, Place, Privilege, Resource, Stack, build};
use crate::report::Reports;

/// What a gatekeeper is told of whom to ask.
pub struct Told<'a> {
    pub app: &'a str,
    pub resource: &'a Resource,
    /// In the order in which they are asked; where nobody is named, our own broker.
    pub sections: &'a [AuthorityConfig],
    /// After so much silence of the feed nobody new is let in by it.
    pub silence: Duration,
    pub api: PolicyApi<'a>,
    /// Privileges of which each use is told to the history.
    pub recorded: Vec<Privilege>,
}

/// How the policy API is reached.
#[derive(Clone, Copy)]
pub struct PolicyApi<'a> {
    pub urls: &'a [String],
    pub ca: &'a Path,
    pub token_file: Option<&'a PathBuf>,
}

/// Whom a gatekeeper asks.
pub struct Asked {
    pub stack: Stack,
    /// What is pushed, if anybody judges by it.
    pub feed: Option<Arc<Feed>>,
    /// Where decisions are told, if there is a policy API that keeps a history.
    pub reports: Option<Reports>,
}

impl Told<'_> {
    /// Opens the authorities; the feed follows the policy API on this runtime from now on.
    ///
    /// # Errors
    ///
    /// A section that cannot be used, or a policy API that cannot be asked.
    pub fn open(self) -> Result<Asked> {
        let ours = [AuthorityConfig::broker()];
        let sections = if self.sections.is_empty() { &ours[..] } else { self.sections };
        let feed = sections.iter().any(AuthorityConfig::needs_feed).then(|| Feed::new(self.silence));
        let place = Place { app: self.app, resource: self.resource, feed: feed.clone() };
        let stack = build(sections, &place).context("--config")?;
        let resource: ResourceId = self.resource.as_str().parse().context("--resource")?;
        if let Some(feed) = &feed {
            let resource = resource.clone();
            let audience = self.app.parse().context("--app")?;
            tokio::spawn(feed.clone().follow(self.api.client()?, resource, audience));
        }
        let reports = match self.api.token_file {
            None => None,
            Some(_) => {
                let (reports, reporter) = Reports::new(self.api.client()?, resource, self.recorded);
                tokio::spawn(reporter.run());
                Some(reports)
            }
        };
        Ok(Asked { stack, feed, reports })
    }
}

impl PolicyApi<'_> {
    fn client(&self) -> Result<Client> {
        let token = self
            .token_file
            .context("--token-file: the policy API knows a gatekeeper by its token; name one of role `gate`")?;
        let token = fs::read_to_string(token).with_context(|| format!("--token-file: read {}", token.display()))?;
        let ca_pem = fs::read(self.ca).with_context(|| format!("--ca: read {}", self.ca.display()))?;
        let config = ClientConfig { api: self.urls.to_vec(), credentials: Credentials::Token(token), ca_pem };
        Client::new(config).context("--api")
    }
}
