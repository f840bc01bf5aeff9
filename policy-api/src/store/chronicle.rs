//! The history, read: pages of entries, when their revisions were in force, and whether all of it is what was written.

mod spread;

use super::{
    chain::{self, Line, Tip},
    engine::{Journal, Order},
    error::DatabaseError,
    etcd,
    location::Location,
    sqlite,
};
use crate::model::{
    API_VERSION, At, HistoryEntry, HistoryItem, HistoryQuery, KnownSeal, Misfit, Revision, Seal, Verified,
};

/// Lines that one question looks at, at most: the rest is for the next page.
const MOST_LOOKED_AT: usize = 20_000;
/// Bytes of entries on a page of more than one.
const MOST_BYTES: usize = 16 << 20;
/// Lines that are read at once.
const PAGE: usize = 512;

/// In which order entries are listed, and behind which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    NewestFirst(Option<u64>),
    OldestFirst(Option<u64>),
}

/// A page of the history, and where the next one starts.
#[derive(Clone, Debug, Default)]
pub struct HistoryPage {
    pub items: Vec<HistoryItem>,
    /// The number of the last entry that was looked at, where there are more.
    pub next: Option<u64>,
}

/// An entry that was read, with its seal.
type Read = (HistoryEntry, Seal);

pub(super) fn page(
    journal: &dyn Journal,
    query: &HistoryQuery,
    listing: Listing,
    limit: usize,
) -> Result<HistoryPage, DatabaseError> {
    let (mut low, mut high, tip) = bounds(journal, query)?;
    let order = match listing {
        Listing::NewestFirst(before) => {
            high = before.map_or(high, |before| high.min(before.saturating_sub(1)));
            Order::NewestFirst
        }
        Listing::OldestFirst(behind) => {
            low = behind.map_or(low, |behind| low.max(behind.saturating_add(1)));
            Order::OldestFirst
        }
    };
    let (mut found, mut bytes): (Vec<Read>, usize) = (Vec::new(), 0);
    let (mut looked_at, mut next) = (0, None);
    'looking: while low <= high {
        let lines = journal.lines(low..=high, order, PAGE)?;
        if lines.is_empty() {
            break;
        }
        for line in lines {
            if found.len() == limit || bytes > MOST_BYTES || looked_at == MOST_LOOKED_AT {
                next = Some(if order == Order::NewestFirst { high + 1 } else { low - 1 });
                break 'looking;
            }
            match order {
                Order::NewestFirst => high = line.number - 1,
                Order::OldestFirst => low = line.number + 1,
            }
            looked_at += 1;
            let entry = line.entry()?;
            if query.fits(&entry) {
                bytes = bytes.saturating_add(line.text.len());
                found.push((entry, line.seal));
            }
        }
    }
    let spreads = spread::of(journal, &found, tip, query.nodes)?;
    let item = |(entry, seal): Read| {
        let (in_force_at, in_force_on) = (spreads.everywhere(&entry), spreads.on_nodes(&entry));
        HistoryItem { seal, in_force_at, in_force_on, what: entry.told(), entry: entry.without_secrets() }
    };
    Ok(HistoryPage { items: found.into_iter().map(item).collect(), next })
}

/// The numbers between which entries are asked for, and the end of all.
fn bounds(journal: &dyn Journal, query: &HistoryQuery) -> Result<(u64, u64, Tip), DatabaseError> {
    let (anchor, tip) = journal.bounds()?;
    let low = match query.since {
        None => Some(anchor.number + 1),
        Some(At::Time(time)) => number(journal.first(&|mark| mark.latest >= time)?),
        Some(At::Revision(revision)) => number(journal.first(&|mark| mark.revision >= revision)?),
    };
    let beyond = match query.until {
        None => None,
        Some(At::Time(time)) => number(journal.first(&|mark| mark.latest > time)?),
        Some(At::Revision(revision)) => number(journal.first(&|mark| mark.revision > revision)?),
    };
    let high = beyond.map_or(tip.number, |beyond| beyond - 1);
    Ok((low.unwrap_or(tip.number + 1), high, tip))
}

fn number(entry: Option<HistoryEntry>) -> Option<u64> {
    entry.map(|entry| entry.number)
}

/// Walks the whole history and looks whether it is what was written.
pub(super) fn verify(journal: &dyn Journal, known: Option<KnownSeal>) -> Result<Verified, DatabaseError> {
    loop {
        let (anchor, tip) = journal.bounds()?;
        let walked = Walk::new(anchor, known).to(journal, tip)?;
        // What was forgotten meanwhile is not missing.
        if walked.misfit.is_none() || journal.bounds()?.0 == anchor {
            return Ok(walked.verified(anchor));
        }
    }
}

/// How far a walk over the chain came.
struct Walk {
    tip: Tip,
    known: Option<KnownSeal>,
    misfit: Option<Misfit>,
}

impl Walk {
    fn new(anchor: Tip, known: Option<KnownSeal>) -> Self {
        let mut walk = Self { tip: anchor, known, misfit: None };
        if let Some(known) = known.filter(|known| known.number < anchor.number) {
            let problem = format!("entry {} is forgotten, so that its seal proves nothing", known.number);
            walk.misfit = Some(Misfit { number: known.number, revision: anchor.revision, problem });
        }
        walk.compare();
        walk
    }

    fn to(mut self, journal: &dyn Journal, end: Tip) -> Result<Self, DatabaseError> {
        while self.misfit.is_none() && self.tip.number < end.number {
            let lines = journal.lines(self.tip.number + 1..=end.number, Order::OldestFirst, PAGE)?;
            if lines.is_empty() {
                break;
            }
            for line in &lines {
                self.step(line);
                if self.misfit.is_some() {
                    return Ok(self);
                }
            }
        }
        if self.misfit.is_none()
            && let Err(misfit) = self.tip.check_end(&end)
        {
            self.blame(self.tip.number + 1, self.tip.revision.next(), misfit.to_string());
        }
        if let Some(known) = self.known.filter(|known| self.misfit.is_none() && known.number > end.number) {
            let problem = format!("there is no entry {}: the last one is {}", known.number, end.number);
            self.blame(known.number, end.revision.next(), problem);
        }
        Ok(self)
    }

    fn step(&mut self, line: &Line) {
        match self.tip.checked(line) {
            Ok(tip) => {
                self.tip = tip;
                self.compare();
            }
            Err(misfit) => {
                let revision = match (&misfit, line.entry()) {
                    (chain::Misfit::Missing(_), _) | (_, Err(_)) => self.tip.revision.next(),
                    (_, Ok(entry)) => entry.revision.min(self.tip.revision.next()),
                };
                self.blame(self.tip.number + 1, revision, misfit.to_string());
            }
        }
    }

    /// Looks whether the entry has the seal that somebody knows it by.
    fn compare(&mut self) {
        let Some(known) = self.known.filter(|known| known.number == self.tip.number) else { return };
        if known.seal != self.tip.seal {
            let problem = format!("entry {} has another seal than the one that is known", known.number);
            self.blame(known.number, self.tip.revision, problem);
        }
    }

    fn blame(&mut self, number: u64, revision: Revision, problem: String) {
        self.misfit = Some(Misfit { number, revision, problem });
    }

    fn verified(self, anchor: Tip) -> Verified {
        Verified {
            api_version: API_VERSION.to_owned(),
            first: anchor.number + 1,
            number: self.tip.number,
            seal: self.tip.seal,
            revision: self.tip.revision,
            bytes: self.tip.bytes - anchor.bytes,
            misfit: self.misfit,
        }
    }
}

/// The same for a store that is served by somebody else, or by nobody.
pub fn verify_store(location: &Location, known: Option<KnownSeal>) -> Result<Verified, DatabaseError> {
    let journal = match location {
        Location::Sqlite(path) => sqlite::journal(path)?,
        Location::Etcd(cluster) => etcd::journal(cluster)?,
    };
    verify(&*journal, known)
}
