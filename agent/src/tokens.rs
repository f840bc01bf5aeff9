//! Tokens for instances: a listener in each instance's own namespace, so that who can connect is the identity and no secret
//! exists. Opened when an instance is attached and again by each agent, closed when it is detached or when nobody is in its
//! namespace any more. What is answered is `admin`'s to know; how to get into a namespace, `link`'s.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use policy_api::model::{Audience, IdentityToken, Target};
use tokio::{sync::watch, task::JoinHandle, time::interval};
use tracing::{info, warn};

use crate::{
    admin::instance,
    endpoint::Endpoint,
    link::{
        LinkError,
        listener::{self, Opened},
        netns::{Netns, NetnsId},
    },
    node::{NodeHandle, StateReceiver, current},
    watch::{Api, ApiError},
};

/// The abstract name at which an instance finds its node's agent.
pub const LISTENER: &str = "netpol";
/// How often listeners are compared with endpoints, and namespaces looked at.
const TEND_EVERY: Duration = Duration::from_secs(2);
/// Requests that an instance may have answered by the policy API: so many at once, and this many a second.
const BURST: u32 = 20;
const PER_SECOND: u32 = 5;

/// All listeners of this node.
pub struct Listeners {
    api: Arc<Api>,
    state: StateReceiver,
    open: Mutex<Open>,
    /// Held while one is opened or closed: who finds the name taken must not have taken it by himself.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Open {
    serving: HashMap<NetnsId, Serving>,
    /// Instances in whose namespace somebody else has the name.
    taken: BTreeSet<String>,
    /// How often that was found anew.
    taken_total: u64,
}

struct Serving {
    ifindex: u32,
    task: JoinHandle<()>,
    /// Ends the task, and connections that are open: whoever has one must not go on being this instance.
    closed: watch::Sender<bool>,
}

/// What is told of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub open: usize,
    pub taken: Vec<String>,
    pub taken_total: u64,
}

/// An instance, as its listener answers for it.
pub struct Instance {
    target: Target,
    api: Arc<Api>,
    state: StateReceiver,
    closed: watch::Receiver<bool>,
    budget: Mutex<Budget>,
}

struct Budget {
    left: u32,
    filled: Instant,
}

/// Why an instance gets no token.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    #[error("this is no instance any more")]
    Closed,
    #[error("this instance asks too often; tokens are good for minutes, and are meant to be kept that long")]
    TooOften,
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl Listeners {
    pub fn new(api: Arc<Api>, state: StateReceiver) -> Arc<Self> {
        Arc::new(Self { api, state, open: Mutex::default(), turn: tokio::sync::Mutex::default() })
    }

    /// Listens for an instance that is attached. Without it the instance has everything but tokens.
    pub async fn open(&self, endpoint: &Endpoint, netns: &Netns) {
        let _turn = self.turn.lock().await;
        if self.serves(endpoint) {
            return;
        }
        self.end(endpoint.netns).await;
        match listener::listen(netns, LISTENER).await {
            Ok(Opened::Listening(listener)) => self.serve(endpoint, listener),
            Ok(Opened::Taken) => self.note_taken(endpoint),
            Err(error) => warn!(endpoint = endpoint.name(), %error, "no tokens for an instance; trying again"),
        }
    }

    pub async fn close(&self, netns: NetnsId) {
        let _turn = self.turn.lock().await;
        self.end(netns).await;
    }

    async fn end(&self, netns: NetnsId) {
        let Some(serving) = self.lock().serving.remove(&netns) else { return };
        serving.closed.send_replace(true);
        // The listener is gone at once; what is being answered may take as long as the policy API.
        let _ended = tokio::time::timeout(Duration::from_secs(1), serving.task).await;
    }

    fn serves(&self, endpoint: &Endpoint) -> bool {
        let open = self.lock();
        let serving = open.serving.get(&endpoint.netns);
        serving.is_some_and(|serving| serving.ifindex == endpoint.ifindex && !serving.task.is_finished())
    }

    pub fn told(&self) -> Told {
        let open = self.lock();
        Told { open: open.serving.len(), taken: open.taken.iter().cloned().collect(), taken_total: open.taken_total }
    }

    /// Compares listeners with endpoints for ever.
    pub async fn tend_for_ever(self: Arc<Self>, node: NodeHandle) {
        let mut tick = interval(TEND_EVERY);
        loop {
            tick.tick().await;
            // Ahead of the endpoints: what is opened meanwhile is none of those that may have to go.
            let open: Vec<(NetnsId, u32)> =
                self.lock().serving.iter().map(|(netns, serving)| (*netns, serving.ifindex)).collect();
            let Ok(status) = node.status().await else { return };
            self.tend(&open, &status.endpoints).await;
        }
    }

    async fn tend(&self, open: &[(NetnsId, u32)], endpoints: &[Endpoint]) {
        let names: HashSet<String> = endpoints.iter().map(Endpoint::name).collect();
        self.lock().taken.retain(|taken| names.contains(taken));
        let used = if endpoints.is_empty() { HashSet::new() } else { in_use().await };
        for (netns, ifindex) in open {
            let is_here = endpoints.iter().any(|one| one.netns == *netns && one.ifindex == *ifindex);
            let is_as_it_was = self.lock().serving.get(netns).is_some_and(|serving| serving.ifindex == *ifindex);
            if is_as_it_was && !(is_here && used.contains(netns)) {
                self.close(*netns).await;
            }
        }
        for endpoint in endpoints.iter().filter(|endpoint| used.contains(&endpoint.netns) && !self.serves(endpoint)) {
            if let Err(error) = self.reopen(endpoint).await {
                warn!(endpoint = endpoint.name(), %error, "no tokens for an instance; trying again");
            }
        }
    }

    /// Listens for an instance that an earlier agent attached, or whose name was taken. A namespace is found by its number, and
    /// numbers come again: so it has to have the other end of the instance's veth.
    async fn reopen(&self, endpoint: &Endpoint) -> Result<(), LinkError> {
        let Some(netns) = Netns::found(endpoint.netns).await? else { return Ok(()) };
        if listener::holds_peer(&netns, endpoint.ifindex, &endpoint.mac).await? {
            self.open(endpoint, &netns).await;
        }
        Ok(())
    }

    fn serve(&self, endpoint: &Endpoint, listener: std::os::unix::net::UnixListener) {
        let (closed, closing) = watch::channel(false);
        let instance = Arc::new(Instance {
            target: Target { app: endpoint.app.clone(), instance: Some(endpoint.instance) },
            api: self.api.clone(),
            state: self.state.clone(),
            closed: closing,
            budget: Mutex::new(Budget { left: BURST, filled: Instant::now() }),
        });
        let name = endpoint.name();
        let task = tokio::spawn(async move {
            if let Err(error) = instance::serve(listener, instance).await {
                warn!(endpoint = name, %error, "an instance's listener ended");
            }
        });
        let mut open = self.lock();
        open.taken.remove(&endpoint.name());
        open.serving.insert(endpoint.netns, Serving { ifindex: endpoint.ifindex, task, closed });
    }

    fn note_taken(&self, endpoint: &Endpoint) {
        let mut open = self.lock();
        if open.taken.insert(endpoint.name()) {
            open.taken_total += 1;
            info!(endpoint = endpoint.name(), "somebody inside listens at @{LISTENER} already: no tokens for it");
        }
    }

    /// Held for a look only.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn in_use() -> HashSet<NetnsId> {
    tokio::task::spawn_blocking(listener::in_use).await.unwrap_or_default()
}

impl Instance {
    /// A token that says which instance this is.
    pub async fn token(&self, audience: &Audience) -> Result<IdentityToken, NoToken> {
        self.spend()?;
        let token = self.api.identity_token(&self.target, audience).await?;
        // Detached meanwhile: what stands at its name by now is another.
        if *self.closed.borrow() { Err(NoToken::Closed) } else { Ok(token) }
    }

    /// Returns when it is detached.
    pub async fn closed(&self) {
        // The sender goes only after it has said so.
        let _closed = self.closed.clone().wait_for(|closed| *closed).await.is_err();
    }

    /// Whether an address is placed as this app: as the node knows it, else as the policy API does. Not who else has it.
    pub async fn is_placed(&self, address: IpAddr, app: &str) -> Result<bool, NoToken> {
        let known = current(&self.state).and_then(|state| {
            let binding = state.1.bindings.get(&address)?;
            Some(binding.is_live() && binding.app.as_str() == app)
        });
        if let Some(known) = known {
            return Ok(known);
        }
        self.spend()?;
        let found = self.api.lookup(address).await?;
        Ok(found.is_some_and(|binding| binding.is_live() && binding.app.as_str() == app))
    }

    /// What each instance asks the policy API counts as its node's, so none may ask for all.
    fn spend(&self) -> Result<(), NoToken> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        if budget.spend(Instant::now()) { Ok(()) } else { Err(NoToken::TooOften) }
    }
}

impl Budget {
    fn spend(&mut self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / PER_SECOND;
        let due = u32::try_from(now.duration_since(self.filled).as_nanos() / each.as_nanos()).unwrap_or(BURST);
        if due > 0 {
            self.left = self.left.saturating_add(due).min(BURST);
            self.filled = now;
        }
        let has_some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_may_ask_at_once_and_then_now_and_then() {
        let start = Instant::now();
        let mut budget = Budget { left: BURST, filled: start };
        assert!((0..BURST).all(|_| budget.spend(start)));
        assert!(!budget.spend(start + Duration::from_millis(100)));
        assert!(budget.spend(start + Duration::from_millis(300)));
        assert!(!budget.spend(start + Duration::from_millis(350)));
        let later = start + Duration::from_secs(3_600);
        assert_eq!((0..2 * BURST).filter(|_| budget.spend(later)).count(), usize::try_from(BURST).expect("few"));
    }
}
