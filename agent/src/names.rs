//! What numbers and addresses of events are called: by the state that this node was told, and, for those of whom it was not
//! told, by the policy API, which is asked aside and remembered for a moment.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Identity, event::Event};
use policy_api::model::{AppName, Binding, NodeName, Overlay};
use tokio::sync::mpsc;
use tracing::debug;

use crate::{
    flow::{FlowEnd, FlowLog, Seen, Told},
    watch::{Api, State},
};

/// Events that may wait for names; what comes then is told without.
pub const MOST_WAITING: usize = 1_024;
/// How long an answer is taken for current.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// Addresses that are remembered at once.
const MOST_KEPT: usize = 4_096;
/// Questions in a second: more than anybody reads events, less than an API feels.
const MOST_ASKED: u32 = 100;

/// Whom an end belonged to; what is not known is absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Who {
    app: Option<AppName>,
    is_host: bool,
    instance: Option<(AppName, u32)>,
    node: Option<NodeName>,
    knowledge: Knowledge,
}

/// Where it is known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Knowledge {
    /// This node was told, or nobody is meant to know.
    #[default]
    Here,
    /// An address of the overlay of which this node was told nothing.
    Stranger,
    /// The policy API said so.
    Asked { is_live: bool },
}

impl Who {
    /// Whether the policy API may know more.
    pub(crate) fn is_stranger(&self) -> bool {
        self.knowledge == Knowledge::Stranger
    }

    /// Whether it is an instance of which this node was not told.
    pub(crate) fn is_live_elsewhere(&self) -> bool {
        self.knowledge == Knowledge::Asked { is_live: true }
    }

    /// Completes it by who has the address, unless the programs proved that it was somebody else.
    fn learn(&mut self, binding: &Binding) {
        if self.app.as_ref().is_some_and(|app| *app != binding.app) {
            return;
        }
        self.app = Some(binding.app.clone());
        self.instance = Some((binding.app.clone(), binding.instance));
        self.node = Some(binding.node.clone());
        self.knowledge = Knowledge::Asked { is_live: binding.is_live() };
    }

    pub(crate) fn describe(&self, ip: IpAddr, port: u16) -> FlowEnd {
        let app = self.app.as_ref().map(ToString::to_string);
        FlowEnd {
            ip,
            port,
            app: if self.is_host { Some("host".to_owned()) } else { app },
            instance: self.instance.as_ref().map(|(app, instance)| format!("{app}/{instance}")),
            node: self.node.as_ref().map(ToString::to_string),
        }
    }
}

/// What numbers are called, by what this node was told.
pub(crate) struct Names {
    overlay: Overlay,
    state: Option<State>,
    /// Also of apps that have nothing to do with this node any more: a number is one app's for ever.
    apps: HashMap<Identity, AppName>,
}

impl Names {
    pub(crate) fn new(overlay: Overlay) -> Self {
        Self { overlay, state: None, apps: HashMap::new() }
    }

    pub(crate) fn update(&mut self, state: Option<State>) {
        let same = match (&self.state, &state) {
            (Some(held), Some(new)) => Arc::ptr_eq(held, new),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            let is_another = self.state.as_ref().zip(state.as_ref()).is_some_and(|(held, new)| held.0 != new.0);
            if is_another {
                self.apps.clear();
            }
            let apps = state.iter().flat_map(|state| state.1.apps.values());
            self.apps.extend(apps.map(|app| (app.identity, app.name.clone())));
            self.state = state;
        }
    }

    pub(crate) fn see(&self, event: Event) -> Seen {
        let (source, destination) = event.identities();
        Seen {
            source: self.who(event.source.ip(), source),
            destination: self.who(event.destination.ip(), destination),
            event,
        }
    }

    /// An end by its proven identity; instance and node only where the address is placed with the same identity.
    fn who(&self, ip: IpAddr, identity: Identity) -> Who {
        let bound = self.state.as_deref().and_then(|(_, replica)| replica.bindings.get(&ip));
        let binding = bound.filter(|binding| binding.identity == identity || identity == Identity::UNKNOWN);
        let app = match identity {
            Identity::UNKNOWN => binding.map(|binding| binding.app.clone()),
            _ => self.apps.get(&identity).cloned(),
        };
        let is_stranger = bound.is_none() && self.overlay.contains(ip);
        Who {
            app,
            is_host: identity == Identity::HOST,
            instance: binding.map(|binding| (binding.app.clone(), binding.instance)),
            node: binding.map(|binding| binding.node.clone()),
            knowledge: if is_stranger { Knowledge::Stranger } else { Knowledge::Here },
        }
    }
}

/// Asks the policy API who strangers are, one after the other, and tells the events then.
pub async fn name_strangers(api: Arc<Api>, mut waiting: mpsc::Receiver<Seen>, log: FlowLog) {
    let mut strangers = Strangers::default();
    while let Some(mut seen) = waiting.recv().await {
        for (ip, who) in
            [(seen.event.source.ip(), &mut seen.source), (seen.event.destination.ip(), &mut seen.destination)]
        {
            if who.is_stranger()
                && let Some(binding) = strangers.who(&api, ip).await
            {
                who.learn(&binding);
            }
        }
        log.add(vec![Told::Event(Box::new(seen))]);
    }
}

/// What the policy API said lately.
#[derive(Default)]
struct Strangers {
    known: HashMap<IpAddr, (Instant, Option<Arc<Binding>>)>,
    /// Questions of this second.
    asked: Option<(Instant, u32)>,
    /// When it did not answer; events do not wait for it again and again.
    silent_since: Option<Instant>,
}

impl Strangers {
    async fn who(&mut self, api: &Api, ip: IpAddr) -> Option<Arc<Binding>> {
        let now = Instant::now();
        if let Some((at, answer)) = self.known.get(&ip)
            && now.duration_since(*at) < KEPT_FOR
        {
            return answer.clone();
        }
        let is_silent = self.silent_since.is_some_and(|since| now.duration_since(since) < KEPT_FOR);
        if is_silent || !api.is_connected() || !self.may_ask(now) {
            return None;
        }
        let answer = match api.lookup(ip).await {
            Ok(answer) => answer,
            Err(error) => {
                debug!(%error, %ip, "nobody says who has an address");
                self.silent_since = Some(now);
                return None;
            }
        };
        if self.known.len() >= MOST_KEPT {
            self.known.clear();
        }
        let answer = answer.map(Arc::new);
        self.known.insert(ip, (now, answer.clone()));
        answer
    }

    fn may_ask(&mut self, now: Instant) -> bool {
        let (since, asked) =
            self.asked.filter(|(since, _)| now.duration_since(*since) < Duration::from_secs(1)).unwrap_or((now, 0));
        self.asked = Some((since, asked + 1));
        asked < MOST_ASKED
    }
}
