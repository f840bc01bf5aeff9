//! How a store begins: what `netpol-api init` makes and registers, and the overlay that it is made with.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{
    Principal, State, Token,
    chain::{self, Line},
    delta::changes_json,
    engine::{Entry, Registry},
    error::DatabaseError,
    etcd,
    location::Location,
    plan, sqlite,
    state::Head,
    token,
};
use crate::model::{
    AppPattern, Change, History, HistoryEntry, NodeName, Origin, Overlay, Prefix, Rule, Timestamp, hex::hex,
};

/// What `netpol-api init` does to the store: makes it if there is none, and says who may ask.
pub struct Prepared(Box<dyn Registry>);

/// The overlay that somebody wishes for; what is absent is as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlayWish {
    pub v4: Option<Prefix>,
    pub v6: Option<Prefix>,
}

/// The longest prefix that an overlay can have: room for two slices, of which nodes get the second.
pub fn longest_overlay(is_v4: bool) -> u8 {
    if is_v4 { plan::SLICE_V4 - 1 } else { plan::SLICE_V6 - 1 }
}

/// Opens a store for `init`, made if it does not exist; safe while another process serves it.
pub fn prepare(location: &Location, wish: OverlayWish) -> Result<Prepared, DatabaseError> {
    let birth = birth(Timestamp::now())?;
    let registry = match location {
        Location::Sqlite(path) => sqlite::prepare(path, &birth, wish)?,
        Location::Etcd(cluster) => etcd::prepare(cluster, &birth, wish)?,
    };
    Ok(Prepared(registry))
}

/// What a new store is made with.
pub(super) struct Birth {
    pub(super) history: History,
    pub(super) overlay: Overlay,
    /// What it holds from the first moment on, as its first revision.
    pub(super) entry: Entry,
    pub(super) line: Line,
    pub(super) head: Head,
}

/// What a new store holds: one rule, which can be deleted like any other and does not come back then.
fn birth(now: Timestamp) -> Result<Birth, DatabaseError> {
    let (history, overlay) = (random_history()?, default_overlay()?);
    let changes = vec![Change::PutRule { rule: Arc::new(plan::built_in(now)) }];
    let mut state = State::empty(history.clone(), overlay);
    let (entry, mut tip) = (chain::revision(&state, &changes, Rule::BUILT_IN, &Origin::default(), now), state.tip());
    let (revision, json) = (entry.revision, changes_json(&changes)?);
    state.apply(revision, &changes);
    let line = tip.append(HistoryEntry { digest: Some(state.replica().digest()), ..entry })?;
    state.set_tip(tip);
    let entry = Entry { revision, time: now, changes, json };
    Ok(Birth { history, overlay, entry, line, head: state.head() })
}

/// What the overlay is to become, if it is to change: a wish is granted as long as no node has a slice of the present one.
pub(super) fn wanted_overlay(stored: Overlay, head: Head, wish: OverlayWish) -> Result<Option<Overlay>, DatabaseError> {
    let wanted = Overlay { v4: wish.v4.unwrap_or(stored.v4), v6: wish.v6.unwrap_or(stored.v6) };
    if wanted == stored {
        return Ok(None);
    }
    if head.next_slice != Head::first().next_slice {
        let show = |overlay: Overlay| format!("{} and {}", overlay.v4, overlay.v6);
        return Err(DatabaseError::Overlay { stored: show(stored), wanted: show(wanted) });
    }
    Ok(Some(wanted))
}

/// 10.255.0.0/16, and a /48 of the unique local addresses, random as RFC 4193 asks.
fn default_overlay() -> Result<Overlay, DatabaseError> {
    let [a, b, c, d, e] = random()?;
    let v6 = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let prefix =
        |address, length| Prefix::new(address, length).ok_or_else(|| DatabaseError::Damaged("overlay".to_owned()));
    Ok(Overlay { v4: prefix(Ipv4Addr::new(10, 255, 0, 0).into(), 16)?, v6: prefix(v6.into(), 48)? })
}

pub(super) fn random_history() -> Result<History, DatabaseError> {
    Ok(hex(&random::<8>()?).parse()?)
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], DatabaseError> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(DatabaseError::Random)?;
    Ok(bytes)
}

impl Prepared {
    pub fn has_token(&self, token: &Token, principal: &Principal) -> Result<bool, DatabaseError> {
        let kept = self.0.principal(&token.hash())?.map(|kept| token::bearer(token, kept));
        Ok(kept.as_ref() == Some(principal))
    }

    /// The apps that a node's token is good for, if it has one.
    pub fn apps_of(&self, node: &NodeName) -> Result<Option<Vec<AppPattern>>, DatabaseError> {
        self.0.apps_of(node)
    }

    /// Lets the bearer of this token in, and voids an earlier token for the same one.
    pub fn set_token(&self, token: &Token, principal: &Principal) -> Result<(), DatabaseError> {
        self.0.set_token(&token.hash(), principal)
    }

    /// Adds names and addresses to those that the server's certificate is made for.
    pub fn add_names(&self, names: &[String]) -> Result<(), DatabaseError> {
        let mut all = self.0.names()?;
        all.extend(names.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>());
        self.0.set_names(&all)
    }
}
