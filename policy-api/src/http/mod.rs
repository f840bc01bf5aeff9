//! The HTTP face of the policy API: wire to model, who may, model to wire. Decides nothing about policy.
//!
//! [`endpoint`] is the one table of what there is: the router, the access checks, the metrics and `/openapi.json` are made
//! from it.

mod access;
mod answer;
mod app;
mod asked;
mod cf;
mod endpoint;
mod failure;
mod gate;
mod gatekeeper;
mod health;
mod history;
mod identity_token;
mod limit;
mod lookup;
mod metrics;
mod moment;
mod node;
mod openapi;
mod read;
mod refused;
mod right;
mod rule;
mod used;
mod watch;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use axum::{Router, middleware};
use tokio::sync::{Semaphore, watch::Receiver};

pub use self::cf::Compat;
use self::{
    endpoint::endpoints, failure::Failure, gate::Gate, gatekeeper::AllowedBefore, limit::Limits, metrics::Metrics,
    used::LastUsed,
};
use crate::{
    broker::Broker,
    challenge::Challenger,
    model::Timestamp,
    oidc::Provider,
    store::Store,
    tls::Authority,
    watch::{Planner, Presence, Timing},
};

/// What all handlers share.
#[derive(Clone)]
pub struct Context {
    pub store: Arc<Store>,
    pub broker: Arc<Broker>,
    pub presence: Arc<Presence>,
    pub planner: Planner,
    pub timing: Timing,
    pub issuer: Arc<Issuer>,
    /// Becomes true when we stop: endless answers end then.
    pub stop: Receiver<bool>,
    provider: Option<Arc<Provider>>,
    metrics: Arc<Metrics>,
    last_used: Arc<LastUsed>,
    limits: Arc<Limits>,
    readers_of_the_past: Arc<Semaphore>,
    allowed_before: Arc<AllowedBefore>,
}

/// How many may read what is past at once; others wait.
const READERS_OF_THE_PAST: usize = 4;

impl Context {
    pub fn new(
        broker: Arc<Broker>,
        presence: Arc<Presence>,
        planner: Planner,
        timing: Timing,
        issuer: Issuer,
        requests_per_second: NonZeroU32,
        stop: Receiver<bool>,
    ) -> Self {
        Self {
            store: broker.store().clone(),
            broker,
            presence,
            planner,
            timing,
            issuer: Arc::new(issuer),
            stop,
            provider: None,
            metrics: Arc::default(),
            last_used: Arc::new(LastUsed::since(Timestamp::now())),
            limits: Arc::new(Limits::new(requests_per_second)),
            readers_of_the_past: Arc::new(Semaphore::new(READERS_OF_THE_PAST)),
            allowed_before: Arc::default(),
        }
    }
}

impl Context {
    /// The same, where this provider's word counts as much as our own tokens.
    pub fn believing(self, provider: Option<Provider>) -> Self {
        Self { provider: provider.map(Arc::new), ..self }
    }
}

/// Makes certificates for nodes that are where they say.
pub struct Issuer {
    pub authority: Authority,
    pub challenger: Challenger,
    pub lifetime: Duration,
}

/// All endpoints, each behind its gate; beside them Cloud Foundry's, if they are asked for.
pub fn router(context: Context, compat: Option<&Compat>) -> Router {
    let add = |router: Router<Context>, (index, endpoint): (usize, &'static endpoint::Endpoint)| {
        let gate = Gate { context: context.clone(), endpoint, index };
        // Ids of resources have slashes, which some clients escape and some do not.
        let path = endpoint.path.replace("{resource}", "{*resource}");
        router.route(&path, (endpoint.handler)().route_layer(middleware::from_fn_with_state(gate, gate::pass)))
    };
    let ours = endpoints()
        .enumerate()
        .fold(Router::new(), add)
        .fallback(|| async { Failure::no_such_path() })
        .method_not_allowed_fallback(|| async { Failure::no_such_method() });
    compat.map_or_else(Router::new, |compat| cf::router(compat, &context)).merge(ours).with_state(context)
}
