//! Where everything is in etcd. What all APIs follow is below one prefix, so that one watch sees it in order.

use std::net::IpAddr;

use crate::model::{NodeName, RuleId};

/// The keys of one store.
#[derive(Clone, Debug)]
pub(super) struct Keys(String);

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self(format!("/{}", prefix.trim_matches('/')))
    }

    fn at(&self, rest: &str) -> String {
        format!("{}/{rest}", self.0)
    }

    /// Compared and put by every commit: whoever knows its last value may write.
    pub(super) fn head(&self) -> String {
        self.at("head")
    }

    /// What is watched.
    pub(super) fn followed(&self) -> String {
        self.at("followed/")
    }

    pub(super) fn logs(&self) -> String {
        self.at("followed/log/")
    }

    pub(super) fn log(&self, sequence: u64) -> String {
        self.at(&format!("followed/log/{sequence:020}"))
    }

    pub(super) fn snapshot(&self) -> String {
        self.at("followed/snapshot")
    }

    pub(super) fn tokens(&self) -> String {
        self.at("followed/token/")
    }

    pub(super) fn token(&self, hash: &str) -> String {
        self.at(&format!("followed/token/{hash}"))
    }

    /// Histories whose followers may go over to this one.
    pub(super) fn succeeds(&self) -> String {
        self.at("followed/succeeds")
    }

    pub(super) fn usages(&self) -> String {
        self.at("followed/usage/")
    }

    pub(super) fn usage_of(&self, rule: RuleId) -> String {
        self.at(&format!("followed/usage/{}/", rule.0))
    }

    pub(super) fn usage(&self, rule: RuleId, node: &NodeName) -> String {
        self.at(&format!("followed/usage/{}/{node}", rule.0))
    }

    /// Which nodes are where.
    pub(super) fn presence(&self) -> String {
        self.at("followed/present/")
    }

    pub(super) fn present(&self, node: &NodeName, process: &str) -> String {
        self.at(&format!("followed/present/{node}/{process}"))
    }

    /// Up to which revision a process knows what changes for whom.
    pub(super) fn planned(&self, process: &str) -> String {
        self.at(&format!("followed/present//{process}"))
    }

    /// The hash of the token that a principal has now.
    pub(super) fn token_of(&self, principal: &str) -> String {
        self.at(&format!("token-of/{principal}"))
    }

    pub(super) fn names(&self) -> String {
        self.at("names")
    }

    /// Everything.
    pub(super) fn all(&self) -> String {
        self.at("")
    }

    /// Histories that a restored store had before.
    pub(super) fn came_from(&self) -> String {
        self.at("came-from")
    }

    /// Parts of values that are too large for one key.
    pub(super) fn parts(&self) -> String {
        self.at("part/")
    }

    pub(super) fn parts_of(&self, id: &str) -> String {
        self.at(&format!("part/{id}/"))
    }

    pub(super) fn part(&self, id: &str, number: usize) -> String {
        self.at(&format!("part/{id}/{number:06}"))
    }

    /// What is kept of the journal beyond the log, by the number of the first line.
    pub(super) fn segments(&self) -> String {
        self.at("journal/")
    }

    pub(super) fn segment(&self, first: u64) -> String {
        self.at(&format!("journal/{first:020}"))
    }

    pub(super) fn segment_parts(&self, first: u64) -> String {
        self.at(&format!("journal-part/{first:020}/"))
    }

    pub(super) fn segment_parts_of(&self, first: u64, id: &str) -> String {
        format!("{}{id}/", self.segment_parts(first))
    }

    pub(super) fn segment_part(&self, first: u64, id: &str, number: usize) -> String {
        format!("{}{number:06}", self.segment_parts_of(first, id))
    }

    /// Where what is kept of the journal begins.
    pub(super) fn anchor(&self) -> String {
        self.at("journal-anchor")
    }

    pub(super) fn answer(&self, name: &str) -> String {
        self.at(&format!("answer/{name}"))
    }

    pub(super) fn answer_part(&self, id: &str, number: usize) -> String {
        self.at(&format!("answer-part/{id}/{number:06}"))
    }

    /// Intervals of ownership that go on.
    pub(super) fn open_owners(&self) -> String {
        self.at("owner/open/")
    }

    pub(super) fn open_owner(&self, address: IpAddr) -> String {
        self.at(&format!("owner/open/{address}"))
    }

    pub(super) fn all_ended_owners(&self) -> String {
        self.at("owner/ended/")
    }

    /// Below this, intervals that have ended, by when they began and the revision that began them.
    pub(super) fn ended_owners(&self, address: IpAddr) -> String {
        self.at(&format!("owner/ended/{address}/"))
    }

    pub(super) fn ended_owner(&self, address: IpAddr, start: i64, revision: u64) -> String {
        format!("{}{:020}/{revision:020}", self.ended_owners(address), start.max(0))
    }

    /// Below this, the keys of ended intervals by when they ended.
    pub(super) fn owner_ends(&self) -> String {
        self.at("owner/end/")
    }

    pub(super) fn owner_end(&self, until: i64, address: IpAddr, start: i64, revision: u64) -> String {
        format!("{}{:020}/{address}/{start:020}/{revision:020}", self.owner_ends(), until.max(0))
    }

    /// Before all keys of ends from this time on.
    pub(super) fn owner_ends_from(&self, until: i64) -> String {
        format!("{}{:020}", self.owner_ends(), until.max(0))
    }
}

/// The first key behind all that begin so.
pub(super) fn behind(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        // A prefix here ends with a printable character.
        *last += 1;
    }
    end
}
