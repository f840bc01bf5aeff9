//! An operator's connection to the policy API, as a program would hold it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use policy_api::{
    client::{Client, ClientConfig, Credentials, WriteOptions},
    model::{Action, ChangeSet, Ports, Protocol, RuleSpec, Selector},
};

use super::progress;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(600);
/// Rules in one request.
const BATCH: usize = 10_000;

pub(super) struct Operator {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Operator {
    pub(super) fn new(world: &World) -> Result<Self> {
        let control = &world.control;
        let config = ClientConfig {
            api: vec![control.url()],
            credentials: Credentials::Token(std::fs::read_to_string(control.operator_token())?),
            ca_pem: std::fs::read(control.ca())?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, client: Client::new(config)? })
    }

    /// Runs a conversation with the API from the control host, where its sockets have to be opened.
    pub(super) fn converse<T: Send>(
        &self,
        world: &World,
        conversation: impl AsyncFnOnce(&Client) -> Result<T> + Send,
    ) -> Result<T> {
        world.control.namespace.inside(|| self.runtime.block_on(conversation(&self.client)))
    }

    /// Creates rules, returns when they are in force everywhere.
    pub(super) fn create(&self, world: &World, rules: &[RuleSpec]) -> Result<()> {
        self.converse(world, async |client| {
            let mut last = None;
            for (number, batch) in rules.chunks(BATCH).enumerate() {
                progress(format_args!("create rules: {} of {}", number * BATCH, rules.len()));
                let changes = ChangeSet::of_rules(batch.to_vec(), Vec::new());
                last = Some(client.change(&changes, &WriteOptions::default()).await?.revision);
            }
            if let Some(revision) = last {
                let state = client.wait_in_force(revision, PATIENCE).await?;
                ensure!(state.complete, "not in force everywhere: {state:?}");
            }
            Ok(())
        })
    }
}

/// Allows a port between two apps.
pub(super) fn rule(source: &str, destination: &str, protocol: Protocol, port: u16) -> Result<RuleSpec> {
    let app = |name: &str| -> Result<Selector> { name.parse().with_context(|| name.to_owned()) };
    let ports = Ports::from_entries("ports", &[port.to_string()]).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(RuleSpec::new(app(source)?, app(destination)?, protocol, ports, Action::Allow))
}
