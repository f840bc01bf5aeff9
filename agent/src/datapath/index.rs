//! The index of placements: an array that programs read while it is written. A place is written while it says that nothing is
//! in it, and says that something is only once all programs are gone that began before; it is written anew only once all are
//! gone that could have read it. Who finds his place taken waits for it, and is found by his hash.

use std::collections::{BTreeSet, HashMap};

use common::{
    Address,
    placement::{Indexed, Placement, index_place},
};

use super::Result;

/// Where the index lies.
pub(super) trait Places {
    fn set(&mut self, place: u32, indexed: &Indexed) -> Result<()>;
}

/// What is, and what is to be, at each place.
pub(super) struct Index<P> {
    places: P,
    held: HashMap<u32, Held>,
    /// Places that hold something nobody reads yet.
    unread: Vec<u32>,
    /// Emptied places that programs may still read.
    left: BTreeSet<u32>,
    /// Who is to have a place that is another's, or that was just left.
    waiting: HashMap<u32, Held>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    address: Address,
    placement: Placement,
    is_read: bool,
}

impl Held {
    /// Whether this is what it says of the address but for its standing, which is one byte and may change under a reader.
    fn is_but_for_standing(&self, address: &Address, placement: &Placement) -> bool {
        self.address == *address && self.placement.standing_as(placement.standing()) == *placement
    }
}

impl<P: Places> Index<P> {
    /// Over these places, of which programs read `left`, whatever they hold.
    pub(super) fn over(places: P, left: Vec<u32>) -> Result<Self> {
        let (held, unread, waiting) = (HashMap::new(), Vec::new(), HashMap::new());
        let mut index = Self { places, held, unread, left: BTreeSet::new(), waiting };
        left.into_iter().try_for_each(|place| index.empty(place))?;
        Ok(index)
    }

    /// Says no more of an address what is not true after this change. To be called before it.
    pub(super) fn leave(&mut self, address: &Address, placement: &Placement) -> Result<()> {
        let place = index_place(address);
        match self.held.get(&place) {
            Some(held) if held.address == *address && !held.is_but_for_standing(address, placement) => {
                self.empty(place)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Says where an address is, from the next [`Self::settle`] on if it was not known. To be called after the change.
    pub(super) fn put(&mut self, address: &Address, placement: &Placement) -> Result<()> {
        let place = index_place(address);
        let new = Held { address: *address, placement: *placement, is_read: false };
        match self.held.get(&place).copied() {
            Some(held) if held == Held { is_read: held.is_read, ..new } => Ok(()),
            Some(held) if held.is_but_for_standing(address, placement) => {
                self.write(place, Held { is_read: held.is_read, ..new })
            }
            Some(held) => {
                if held.address == *address {
                    self.empty(place)?;
                }
                self.waiting.insert(place, new);
                Ok(())
            }
            None if self.left.contains(&place) => {
                self.waiting.insert(place, new);
                Ok(())
            }
            None => {
                self.write(place, new)?;
                self.unread.push(place);
                Ok(())
            }
        }
    }

    /// Says nothing more of an address.
    pub(super) fn remove(&mut self, address: &Address) -> Result<()> {
        let place = index_place(address);
        if self.waiting.get(&place).is_some_and(|waiting| waiting.address == *address) {
            self.waiting.remove(&place);
        }
        match self.held.get(&place) {
            Some(held) if held.address == *address => self.empty(place),
            Some(_) | None => Ok(()),
        }
    }

    /// Has programs read what was written, and gives places that were left to who waits for them. `wait` returns when every
    /// program that runs now has ended.
    pub(super) fn settle(&mut self, wait: impl Fn() -> Result<()>) -> Result<()> {
        while !self.unread.is_empty() || !self.left.is_empty() {
            wait()?;
            while let Some(&place) = self.unread.last() {
                if let Some(held) = self.held.get(&place).copied() {
                    self.write(place, Held { is_read: true, ..held })?;
                }
                self.unread.pop();
            }
            while let Some(&place) = self.left.first() {
                if let Some(new) = self.waiting.get(&place).copied() {
                    self.write(place, new)?;
                    self.waiting.remove(&place);
                    self.unread.push(place);
                }
                self.left.remove(&place);
            }
        }
        Ok(())
    }

    fn write(&mut self, place: u32, held: Held) -> Result<()> {
        let indexed = Indexed::new(held.address, held.placement);
        self.places.set(place, &if held.is_read { indexed } else { indexed.unread() })?;
        self.held.insert(place, held);
        Ok(())
    }

    fn empty(&mut self, place: u32) -> Result<()> {
        self.places.set(place, &Indexed::EMPTY)?;
        self.held.remove(&place);
        self.left.insert(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::{Identity, placement::Standing};
    use std::{cell::RefCell, net::Ipv4Addr, rc::Rc};

    /// Places that know what programs could be reading. Every wait is a tick of their clock.
    #[derive(Clone, Default)]
    struct Watched(Rc<RefCell<(HashMap<u32, Written>, u32)>>);

    #[derive(Clone, Copy)]
    struct Written {
        indexed: Indexed,
        /// When it became what it is but for its standing.
        at: u32,
    }

    impl Watched {
        fn find(&self, address: &Address) -> Option<Placement> {
            self.0.borrow().0.get(&index_place(address))?.indexed.of(address).copied()
        }

        fn wait(&self) {
            self.0.borrow_mut().1 += 1;
        }
    }

    impl Places for Watched {
        fn set(&mut self, place: u32, new: &Indexed) -> Result<()> {
            let mut places = self.0.borrow_mut();
            let now = places.1;
            let old = places.0.get(&place).copied();
            let is_restood = old.is_some_and(|old| said(&old.indexed).is_some() && said(&old.indexed) == said(new));
            let is_old = old.is_none_or(|old| old.at < now);
            if *new != Indexed::EMPTY {
                let was_read = old.is_some_and(|old| old.indexed.is_read());
                assert!(is_restood || !new.is_read(), "what programs read was not written before");
                assert!(is_restood || !was_read, "programs read what is written over");
                assert!(is_old || is_restood && was_read == new.is_read(), "programs of that time may still run");
            }
            let at = if is_restood && (is_old || old.is_some_and(|old| old.indexed.is_read() == new.is_read())) {
                old.map_or(now, |old| old.at)
            } else {
                now
            };
            places.0.insert(place, Written { indexed: *new, at });
            Ok(())
        }
    }

    const IDENTITIES: [Identity; 2] = [Identity::FIRST_APP, Identity::LAST_APP];
    const STANDINGS: [Standing; 2] = [Standing::ORDINARY, Standing::ISOLATED];

    fn placement(identity: usize, standing: usize) -> Placement {
        Placement::remote(Address::from_v4([192, 0, 2, 1]), IDENTITIES[identity]).standing_as(STANDINGS[standing])
    }

    /// Three addresses for each of two places.
    fn addresses() -> Vec<Address> {
        let all = || (0..20_000_000_u32).map(|i| Address::from(Ipv4Addr::from(0x0a00_0000 + i)));
        let of = |place| all().filter(move |address| index_place(address) == place).take(3);
        [index_place(&Address::from_v4([10, 0, 0, 1])), index_place(&Address::from_v4([10, 0, 0, 2]))]
            .into_iter()
            .flat_map(of)
            .collect()
    }

    thread_local! {
        static ADDRESSES: Vec<Address> = addresses();
    }

    /// Which address and identity it is about.
    fn said(indexed: &Indexed) -> Option<(Address, usize)> {
        let is = |address: &Address, identity: usize, standing: usize| {
            let whole = Indexed::new(*address, placement(identity, standing));
            *indexed == whole || *indexed == whole.unread()
        };
        ADDRESSES.with(|all| {
            let known = all.iter().flat_map(|address| [0, 1].map(|identity| (*address, identity)));
            let mut known = known;
            known.find(|(address, identity)| [0, 1].iter().any(|standing| is(address, *identity, *standing)))
        })
    }

    #[test]
    fn whatever_happens_it_says_the_truth_or_nothing_and_is_never_changed_under_a_reader() {
        let all = ADDRESSES.with(Clone::clone);
        assert_eq!(all.len(), 6);
        let watched = Watched::default();
        let mut index = Index::over(watched.clone(), Vec::new()).expect("an index");
        let mut truth: HashMap<Address, Placement> = HashMap::new();
        let mut random = fastrand::Rng::with_seed(7);
        let mut settled = 0;
        for _ in 0..200_000 {
            let address = *random.choice(&all).expect("one of them");
            match random.u32(0..8) {
                0 => {
                    index
                        .settle(|| {
                            watched.wait();
                            Ok(())
                        })
                        .expect("settled");
                    let found = all.iter().filter(|address| watched.find(address).is_some()).count();
                    assert_eq!(found, index.held.len(), "all that is held is read");
                    assert!(index.unread.is_empty() && index.left.is_empty());
                    assert!(
                        index.waiting.keys().all(|place| index.held.contains_key(place)),
                        "who can have a place has it"
                    );
                    settled += found;
                }
                1 => watched.wait(),
                2 => {
                    index.remove(&address).expect("removed");
                    truth.remove(&address);
                }
                _ => {
                    let new = placement(random.usize(0..2), random.usize(0..2));
                    if random.bool() {
                        index.leave(&address, &new).expect("left");
                        let said = watched.find(&address);
                        assert!(said.is_none_or(|said| said.standing_as(new.standing()) == new));
                    }
                    truth.insert(address, new);
                    index.put(&address, &new).expect("put");
                }
            }
            for address in &all {
                let found = watched.find(address);
                assert!(found.is_none() || found == truth.get(address).copied(), "{address:?}: {found:?}");
            }
        }
        assert!(settled > 1_000);
    }

    #[test]
    fn what_an_earlier_agent_left_is_emptied_before_anything_is_put_there() {
        let address = Address::from_v4([10, 0, 0, 1]);
        let watched = Watched::default();
        let before = Written { indexed: Indexed::new(address, placement(0, 0)), at: 0 };
        watched.0.borrow_mut().0.insert(index_place(&address), before);
        let mut index = Index::over(watched.clone(), vec![index_place(&address)]).expect("an index");
        assert_eq!(watched.find(&address), None);
        index.put(&address, &placement(1, 0)).expect("put");
        assert_eq!(watched.find(&address), None);
        let wait = || {
            watched.wait();
            Ok(())
        };
        index.settle(wait).expect("settled");
        assert_eq!(watched.find(&address), Some(placement(1, 0)));
    }
}
