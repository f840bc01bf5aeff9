//! The node: one task that owns the kernel's side and everything that must agree with it. All who want something of it
//! send a request; what the policy API wants arrives as the latest state.

mod handle;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use common::{
    Address, Identity,
    event::Charge,
    placement::{Placement, Standing},
    settings::Settings,
};
use policy_api::model::{Action, AppName, History, Mode, NodeName, Overlay, Replica, Report, Revision, Rule, RuleId};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{error, info, warn};

use crate::{
    clock::ApiClock,
    compile::{compile, governed, is_isolated},
    cut::{Receipts, end_in_background},
    datapath::{Attachment, Datapath, DatapathError, ENDPOINTS, Hook},
    endpoint::{Endpoint, Registry},
    link::{LinkError, Links},
    reconcile::Programmed,
    state::StateError,
    watch::State,
    ways::{Fit, tunnel},
};

pub use handle::{Counted, NodeHandle, Request, Status};

/// How often everything is looked at, whether or not something was heard.
const VERIFY_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("interface {ifindex} would be found in the place of {by}")]
    PlaceTaken { ifindex: u32, by: String },
    #[error("this node has as many endpoints as it can have, {}; detach some, or attach on another node", ENDPOINTS - 1)]
    Full,
    #[error("the agent is stopping")]
    Stopping,
}

/// The node's parts, ready to run.
pub struct Node {
    name: NodeName,
    datapath: Datapath,
    links: Links,
    programmed: Programmed,
    registry: Registry,
    /// What guards the overlay device and the uplink.
    fixed: Vec<Attachment>,
    overlay: Overlay,
    host_addresses: BTreeSet<IpAddr>,
    rows_capacity: u32,
    /// Of the overlay, where no way is narrower than the node's own link.
    mtu: u32,
    uplink: Option<u32>,
    applied: Option<(History, Revision)>,
    pending: Vec<String>,
    /// The state that was applied last, wholly or not.
    state: Option<State>,
    clock: watch::Receiver<Option<ApiClock>>,
    /// When the next allow expires.
    lapse: Option<Instant>,
    receipts: Receipts,
    unguarded: HashSet<Identity>,
    /// The apps whose rules are all known here.
    governed: HashSet<AppName>,
    /// How each endpoint is written, by ifindex.
    standings: HashMap<u32, Standing>,
    first: bool,
    /// Whether an agent of another layout guards the hooks still, until ours hold all that a verdict needs.
    taking_over: bool,
    unverified: Option<String>,
    repairs: u64,
    reports: watch::Sender<Option<Report>>,
}

/// What a node is made of.
pub struct NodeParts {
    pub name: NodeName,
    pub datapath: Datapath,
    pub links: Links,
    pub fixed: Vec<Attachment>,
    pub overlay: Overlay,
    /// The interface that programs may send to other nodes by themselves; none if they never shall.
    pub uplink: Option<u32>,
    pub rows_capacity: u32,
    pub clock: watch::Receiver<Option<ApiClock>>,
}

impl Node {
    /// Takes over what an earlier agent left: endpoints that are still here are guarded by this agent's programs from now
    /// on, and nothing of theirs is interrupted.
    pub async fn adopt(
        parts: NodeParts,
        directory: &Path,
    ) -> Result<(Self, watch::Receiver<Option<Report>>), NodeError> {
        let (reports, receiver) = watch::channel(None);
        let programmed = Programmed::adopt(&parts.datapath)?;
        let taking_over = parts.datapath.has_predecessor();
        let mtu = parts.datapath.settings()?.mtu;
        let mut node = Self {
            name: parts.name,
            datapath: parts.datapath,
            links: parts.links,
            programmed,
            registry: Registry::open(directory)?,
            fixed: parts.fixed,
            overlay: parts.overlay,
            host_addresses: BTreeSet::new(),
            rows_capacity: parts.rows_capacity,
            mtu,
            uplink: parts.uplink,
            applied: None,
            pending: Vec::new(),
            state: None,
            clock: parts.clock,
            lapse: None,
            receipts: Receipts::default(),
            unguarded: HashSet::new(),
            governed: HashSet::new(),
            standings: HashMap::new(),
            first: true,
            taking_over,
            unverified: None,
            repairs: 0,
            reports,
        };
        let attachments = if taking_over { Vec::new() } else { node.fixed.clone() };
        attachments.iter().try_for_each(|attachment| node.datapath.attach(attachment))?;
        node.refresh_host_addresses().await?;
        let interfaces = node.links.all().await?;
        let remembered: Vec<Endpoint> = node.registry.all().cloned().collect();
        for endpoint in remembered {
            match endpoint.is_on(&interfaces) {
                true if taking_over => node.write_endpoint(&endpoint)?,
                true => node.program(&endpoint)?,
                false => node.forget(&endpoint)?,
            }
        }
        Ok((node, receiver))
    }

    /// What runs until the last handle is gone.
    pub fn start(
        mut self,
        mut state: watch::Receiver<Option<State>>,
        mut link_news: mpsc::Receiver<()>,
    ) -> (NodeHandle, impl Future<Output = ()>) {
        let (sender, mut requests) = mpsc::channel(64);
        state.mark_changed();
        let run = async move {
            let mut verify = interval(VERIFY_EVERY);
            verify.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    changed = state.changed() => match changed {
                        Ok(()) => self.apply(&state),
                        Err(_) => return,
                    },
                    request = requests.recv() => match request {
                        Some(request) => self.answer(request, &state).await,
                        None => return,
                    },
                    () = until(self.lapse) => self.apply(&state),
                    Ok(()) = self.clock.changed() => self.look_at_the_clock(&state),
                    Some(()) = link_news.recv() => self.verify(&state).await,
                    _ = verify.tick() => {
                        self.verify(&state).await;
                        self.settle_placements();
                    }
                }
            }
        };
        (NodeHandle(sender), run)
    }

    /// Brings the maps to the latest state and says so.
    fn apply(&mut self, state: &watch::Receiver<Option<State>>) {
        let Some(state) = state.borrow().clone() else { return };
        let (history, replica) = &*state;
        self.state = Some(state.clone());
        self.governed = governed(replica, &self.name);
        let clock = self.clock.borrow().clone();
        self.lapse = next_lapse(replica, clock.as_ref());
        let mut desired = compile(replica, &self.name, &self.registry.apps(), |rule| is_lapsed(rule, clock.as_ref()));
        // A rule goes on being counted where the last instance that it was about has left.
        desired.rules.extend(self.programmed.rules().filter(|rule| replica.rules.contains_key(&RuleId(*rule))));
        let (mut failures, restood) = self.stand();
        let mut outcome = self.programmed.reconcile(&mut self.datapath, &desired, self.first || restood);
        self.first = !outcome.is_complete();
        failures.append(&mut outcome.failures);
        let unguarded = |app: &Identity| desired.parties(*app).iter().any(|party| outcome.unguarded.contains(party));
        self.unguarded = self.registry.apps().into_iter().filter(unguarded).collect();
        failures.extend(self.stand().0);
        failures.extend(self.take_over().err());
        if outcome.raised {
            failures.extend(self.review(replica.revision()).err());
        }
        // Behind the review, which has to know both ends of what it finds cut.
        failures.extend(self.programmed.retire(&mut self.datapath, &desired));
        if failures != self.pending {
            for failure in &failures {
                error!(failure, "policy is not wholly in force");
            }
        }
        self.pending = failures;
        // What cannot be verified is not acknowledged either.
        if self.pending.is_empty() && self.unverified.is_none() {
            self.applied = Some((history.clone(), replica.revision()));
        }
        self.report();
    }

    /// Counts the live flows that may not go on, and ends those that would not notice.
    fn review(&mut self, revision: Revision) -> Result<(), String> {
        let cut = self.datapath.review_flows().map_err(|error| format!("looking at live flows: {error}"))?;
        let before = self.applied.as_ref().map_or(Revision::default(), |(_, applied)| *applied);
        self.receipts.note(before, revision, &cut);
        end_in_background(&cut, self.registry.all());
        Ok(())
    }

    /// With another reading of the clock, what expires does so at another time.
    fn look_at_the_clock(&mut self, state: &watch::Receiver<Option<State>>) {
        let clock = self.clock.borrow().clone();
        let lapse = self.state.as_ref().and_then(|state| next_lapse(&state.1, clock.as_ref()));
        let moved = lapse.is_some() != self.lapse.is_some();
        self.lapse = lapse;
        if moved {
            self.apply(state);
        } else if self.reads_otherwise_than_reported() {
            self.report();
        }
    }

    fn reads_otherwise_than_reported(&self) -> bool {
        let reported = self.reports.borrow().as_ref().map(|report| report.clock);
        let read = self.clock.borrow().as_ref().map(ApiClock::reading);
        match (reported.flatten(), read) {
            (Some(reported), Some(read)) => read.differs_from(reported),
            (reported, read) => reported.is_some() != read.is_some(),
        }
    }

    /// Takes the hooks over from an agent of another layout, now that ours hold all that a verdict needs but flows.
    fn take_over(&mut self) -> Result<(), String> {
        if !self.taking_over {
            return Ok(());
        }
        let endpoints = self.registry.all().flat_map(Endpoint::attachments);
        let attachments: Vec<Attachment> = self.fixed.iter().cloned().chain(endpoints).collect();
        let taken = self.datapath.take_over(&attachments);
        let taken = taken.map_err(|error| format!("taking over from an agent of another layout: {error}"))?;
        info!(flows = taken.flows, late = taken.late, "took over from an agent of another layout");
        self.taking_over = false;
        Ok(())
    }

    /// Writes each endpoint as it stands now: closed where a deny did not fit or is not known yet, isolated, or in audit. Returns what could not
    /// be written, which is tried again with the next look, and whether anything was that verdicts read.
    fn stand(&mut self) -> (Vec<String>, bool) {
        let endpoints: Vec<Endpoint> = self.registry.all().cloned().collect();
        let changed = endpoints.iter().filter(|endpoint| {
            self.standings.get(&endpoint.ifindex).is_some_and(|written| *written != self.standing(endpoint))
        });
        let changed: Vec<&Endpoint> = changed.collect();
        let failed = |(endpoint, error): (&Endpoint, DatapathError)| format!("guarding {}: {error}", endpoint.name());
        let results = changed.iter().filter_map(|endpoint| Some((*endpoint, self.write_endpoint(endpoint).err()?)));
        (results.map(failed).collect(), !changed.is_empty())
    }

    /// How an endpoint is to be written. As long as nobody has said anything, as an earlier agent wrote it.
    fn standing(&self, endpoint: &Endpoint) -> Standing {
        let unguarded = self.unguarded.contains(&endpoint.identity());
        // Its own rules are under way. Of one that was attached without an API they are not, and `compile` knows that.
        let is_expected = endpoint.placed.is_some() && !self.governed.contains(&endpoint.app);
        let closed =
            if unguarded || self.state.is_some() && is_expected { Standing::CLOSED } else { Standing::ORDINARY };
        let Some(state) = &self.state else {
            let found = self.datapath.endpoints.get(endpoint.ifindex).ok().flatten();
            return closed.and(found.map_or(Standing::ORDINARY, |row| row.standing()));
        };
        let replica = &state.1;
        let isolated = is_isolated(replica, &endpoint.app, endpoint.instance);
        let audited = replica.apps.get(&endpoint.app).is_some_and(|app| app.mode == Mode::Audit);
        let isolated = if isolated { Standing::ISOLATED } else { Standing::ORDINARY };
        let audited = if audited { Standing::AUDITED } else { Standing::ORDINARY };
        closed.and(isolated).and(audited)
    }

    fn report(&self) {
        let Some((history, applied)) = &self.applied else { return };
        let detail = self.detail();
        let count = |rows: usize| u64::try_from(rows).unwrap_or(u64::MAX);
        self.reports.send_replace(Some(Report {
            history: history.clone(),
            applied: *applied,
            ready: detail.is_none(),
            rows_used: count(self.programmed.row_count()),
            rows_capacity: u64::from(self.rows_capacity),
            detail,
            clock: self.clock.borrow().as_ref().map(ApiClock::reading),
            cuts: self.receipts.list(),
        }));
    }

    /// What keeps the node from being ready, if anything does.
    fn detail(&self) -> Option<String> {
        let pending = || self.pending.first().cloned();
        let waiting = || self.applied.is_none().then(|| "waiting for the first state from the policy API".to_owned());
        self.unverified.clone().or_else(pending).or_else(waiting)
    }

    async fn answer(&mut self, request: Request, state: &watch::Receiver<Option<State>>) {
        // An answer that nobody waits for any more is dropped.
        match request {
            Request::Add(endpoint, reply) => {
                let result = self.add(*endpoint, state).await;
                let _ = reply.send(result);
            }
            Request::Placed(ifindex, revision) => {
                let found = self.registry.all().find(|endpoint| endpoint.ifindex == ifindex).cloned();
                if let Some(endpoint) = found
                    && let Err(error) = self.registry.put(Endpoint { placed: Some(revision), ..endpoint })
                {
                    warn!(%error, "an endpoint's placement is not remembered");
                }
            }
            Request::Remove(ifindex, reply) => {
                let result = self.remove(ifindex).await;
                let _ = reply.send(result);
            }
            Request::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Request::EventsLost(reply) => {
                let _ = reply.send(self.datapath.counters.lost().map(|lost| lost.total()));
            }
            Request::Usage(reply) => {
                let _ = reply.send(self.programmed.accounts(&self.datapath));
            }
            Request::Counters(reply) => {
                let _ = reply.send(self.counted());
            }
        }
    }

    fn counted(&self) -> Result<Counted, DatapathError> {
        let slots: BTreeSet<u32> = self.registry.all().map(|endpoint| endpoint.slot).chain([0]).collect();
        Ok(Counted { outcomes: self.datapath.counters.read(slots)?, lost: self.datapath.counters.lost()? })
    }

    fn status(&self) -> Status {
        let closed = |endpoint: &&Endpoint| self.unguarded.contains(&endpoint.identity());
        Status {
            node: self.name.clone(),
            revision: self.applied.as_ref().map(|(_, revision)| *revision),
            epoch: self.datapath.epoch.read().0,
            ready: self.detail().is_none(),
            detail: self.detail(),
            endpoints: self.registry.all().cloned().collect(),
            rows_used: self.programmed.row_count(),
            rows_capacity: self.rows_capacity,
            repairs: self.repairs,
            tunnel: tunnel(self.datapath.settings().map_or(0, |settings| settings.uplink_ifindex)),
            closed: self.registry.all().filter(closed).map(|endpoint| endpoint.address).collect(),
        }
    }

    async fn add(&mut self, endpoint: Endpoint, state: &watch::Receiver<Option<State>>) -> Result<(), NodeError> {
        let slot = self.registry.free_slot(ENDPOINTS).ok_or(NodeError::Full)?;
        if let Some(other) = self.registry.in_place_of(endpoint.ifindex) {
            return Err(NodeError::PlaceTaken { ifindex: endpoint.ifindex, by: other.name() });
        }
        self.datapath.counters.clear(slot)?;
        let endpoint = Endpoint { slot, ..endpoint };
        self.registry.put(endpoint.clone())?;
        let added = self.guard_and_open(&endpoint, state).await;
        if added.is_err() {
            self.forget(&endpoint)?;
        }
        added
    }

    /// Rules first, then the programs, then the link: nothing passes that was not judged.
    async fn guard_and_open(
        &mut self,
        endpoint: &Endpoint,
        state: &watch::Receiver<Option<State>>,
    ) -> Result<(), NodeError> {
        self.apply(state);
        self.program(endpoint)?;
        self.open(endpoint).await?;
        info!(endpoint = endpoint.name(), address = %endpoint.address, "attached");
        Ok(())
    }

    fn program(&mut self, endpoint: &Endpoint) -> Result<(), DatapathError> {
        self.write_endpoint(endpoint)?;
        for attachment in endpoint.attachments() {
            self.datapath.attach(&attachment)?;
        }
        Ok(())
    }

    fn write_endpoint(&mut self, endpoint: &Endpoint) -> Result<(), DatapathError> {
        let standing = self.standing(endpoint);
        let row = endpoint.row().standing_as(standing);
        self.datapath.endpoints.put(&row)?;
        for address in endpoint.addresses().into_iter().map(Address::from) {
            self.datapath.charges.put_new(&address, &Charge::default())?;
            self.datapath.placements.put(&address, row.placement())?;
        }
        self.standings.insert(endpoint.ifindex, standing);
        Ok(())
    }

    async fn remove(&mut self, ifindex: u32) -> Result<Option<Endpoint>, NodeError> {
        let Some(endpoint) = self.registry.all().find(|endpoint| endpoint.ifindex == ifindex).cloned() else {
            return Ok(None);
        };
        self.links.delete(ifindex).await?;
        self.forget(&endpoint)?;
        info!(endpoint = endpoint.name(), address = %endpoint.address, "detached");
        Ok(Some(endpoint))
    }

    /// Removes what the datapath and the registry hold of an endpoint whose interface is gone.
    fn forget(&mut self, endpoint: &Endpoint) -> Result<(), NodeError> {
        for attachment in endpoint.attachments() {
            self.datapath.detach(&attachment)?;
        }
        for address in endpoint.addresses().into_iter().map(Address::from) {
            let place = self.datapath.placements.get(&address)?;
            if place.is_some_and(|placement| placement.ifindex() == endpoint.ifindex) {
                self.datapath.placements.remove(&address)?;
            }
        }
        self.datapath.endpoints.remove(endpoint.ifindex)?;
        self.standings.remove(&endpoint.ifindex);
        self.registry.remove(endpoint.ifindex)?;
        Ok(())
    }

    /// Looks whether everything is where it should be, repairs what is not, and tries again what did not fit.
    async fn verify(&mut self, state: &watch::Receiver<Option<State>>) {
        let was = self.unverified.take();
        let verified = if self.taking_over { self.forget_gone().await } else { self.verify_all().await };
        let verified = match verified {
            Ok(()) => self.fit_to_ways(state).await,
            Err(error) => Err(error),
        };
        if let Err(error) = verified {
            error!(%error, "the node cannot be verified");
            self.unverified = Some(error.to_string());
        }
        let recovered = was.is_some() && self.unverified.is_none();
        if recovered || !self.pending.is_empty() {
            self.apply(state);
        } else if was != self.unverified {
            self.report();
        }
        self.close_accounts();
    }

    /// Now and then, not with each change: until then what is new is found by a slower way.
    fn settle_placements(&mut self) {
        if let Err(error) = self.datapath.placements.settle() {
            warn!(%error, "new placements stay where they are slower to find");
        }
    }

    async fn verify_all(&mut self) -> Result<(), NodeError> {
        self.refresh_host_addresses().await?;
        for attachment in self.fixed.clone() {
            if !self.datapath.is_attached(&attachment)? {
                warn!(interface = attachment.interface, hook = ?attachment.hook, "an attachment was missing");
                self.repair_fixed(&attachment).await?;
            }
        }
        self.forget_gone().await?;
        let endpoints: Vec<Endpoint> = self.registry.all().cloned().collect();
        for endpoint in &endpoints {
            self.verify_endpoint(endpoint).await?;
        }
        Ok(())
    }

    /// Fits what is sent into the overlay to the ways to the other nodes.
    async fn fit_to_ways(&mut self, state: &watch::Receiver<Option<State>>) -> Result<(), NodeError> {
        let Some(state) = state.borrow().clone() else { return Ok(()) };
        let others = state.1.nodes.values().filter(|node| node.name != self.name).map(|node| node.underlay);
        let Fit { mtu, uplink_ifindex } = Fit::to(&self.links, others, self.mtu, self.uplink).await?;
        let settings = self.datapath.settings()?;
        if settings.mtu != mtu {
            info!(mtu, "the overlay carries as much as the narrowest way to another node");
        }
        if settings.uplink_ifindex != uplink_ifindex {
            info!(tunnel = tunnel(uplink_ifindex), "who wraps what is sent to other nodes");
        }
        let fitted = Settings { mtu, uplink_ifindex, ..settings };
        if fitted != settings {
            self.datapath.set_settings(&fitted)?;
        }
        Ok(())
    }

    async fn forget_gone(&mut self) -> Result<(), NodeError> {
        let interfaces = self.links.all().await?;
        let gone: Vec<Endpoint> =
            self.registry.all().filter(|endpoint| !endpoint.is_on(&interfaces)).cloned().collect();
        for endpoint in &gone {
            info!(endpoint = endpoint.name(), "the endpoint's interface is gone");
            self.forget(endpoint)?;
        }
        Ok(())
    }

    /// Attaches anew rather than adopting: what stands may stand behind somebody else's program. The overlay device is down
    /// until then; the uplink stays up, as the node would lose the routes that go by it.
    async fn open(&self, endpoint: &Endpoint) -> Result<(), NodeError> {
        let mac = common::Mac(endpoint.mac);
        Ok(self.links.open_veth(endpoint.ifindex, &endpoint.addresses(), mac, self.mtu).await?)
    }

    async fn repair_fixed(&mut self, attachment: &Attachment) -> Result<(), NodeError> {
        let may_go_down = !matches!(attachment.hook, Hook::FromUnderlay | Hook::ToUnderlay);
        if may_go_down {
            self.links.set_down(attachment.ifindex).await?;
        }
        self.datapath.detach(attachment)?;
        self.datapath.attach(attachment)?;
        if may_go_down {
            self.links.set_up(attachment.ifindex).await?;
        }
        self.repairs += 1;
        Ok(())
    }

    async fn verify_endpoint(&mut self, endpoint: &Endpoint) -> Result<(), NodeError> {
        for attachment in endpoint.attachments() {
            if self.datapath.is_attached(&attachment)? {
                continue;
            }
            warn!(endpoint = endpoint.name(), hook = ?attachment.hook, "an attachment was missing; the endpoint is down until it is back");
            self.links.set_down(endpoint.ifindex).await?;
            self.datapath.detach(&attachment)?;
            self.program(endpoint)?;
            self.open(endpoint).await?;
            self.repairs += 1;
        }
        Ok(())
    }

    /// The node's own addresses are `host`; they change under us. One of the overlay is its instance's, whoever else has it.
    async fn refresh_host_addresses(&mut self) -> Result<(), NodeError> {
        let usable = |ip: &IpAddr| match ip {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        let addresses = self.links.addresses().await?.into_iter().map(|(_, address)| address);
        let found: BTreeSet<IpAddr> = addresses.filter(usable).filter(|ip| !self.overlay.contains(*ip)).collect();
        for new in found.difference(&self.host_addresses) {
            let address = Address::from(*new);
            self.datapath.charges.put_new(&address, &Charge::default())?;
            self.datapath.placements.put(&address, &Placement::HOST)?;
        }
        for gone in self.host_addresses.difference(&found) {
            self.datapath.placements.remove(&Address::from(*gone))?;
        }
        self.host_addresses = found;
        Ok(())
    }

    /// Closes charge accounts of addresses that nobody holds and whose last flow is gone.
    fn close_accounts(&mut self) {
        let Ok(charges) = self.datapath.charges.read() else { return };
        for (address, charge) in charges {
            let unused = charge == Charge::default();
            if unused && matches!(self.datapath.placements.get(&address), Ok(None)) {
                // Tried again at the next look.
                let _ = self.datapath.charges.remove(&address);
            }
        }
    }
}

/// Whether an allow's time is over, as far as this node can know: without the clock it has to be. A deny stands until the
/// policy API takes it away.
fn is_lapsed(rule: &Rule, clock: Option<&ApiClock>) -> bool {
    let over = |at| clock.is_none_or(|clock| clock.until(at).is_zero());
    rule.action == Action::Allow && rule.expires_at.is_some_and(over)
}

/// When the next allow that still stands expires.
fn next_lapse(replica: &Replica, clock: Option<&ApiClock>) -> Option<Instant> {
    let clock = clock?;
    let allows = replica.rules.values().filter(|rule| rule.action == Action::Allow);
    let left = allows.filter_map(|rule| Some(clock.until(rule.expires_at?))).filter(|left| !left.is_zero());
    left.min().map(|left| Instant::now() + left)
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Shared by whoever needs to know what the policy API wants.
pub type StateReceiver = watch::Receiver<Option<State>>;
/// A state, taken out of the channel.
pub fn current(state: &StateReceiver) -> Option<Arc<(History, Replica)>> {
    state.borrow().clone()
}
