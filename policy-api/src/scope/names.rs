//! Numbers that stand for names and addresses, so that scopes hold words instead of texts, and find by a step what they would have
//! to look for. Each keeps its number as long as we run.

use std::hash::Hash;

use super::HashMap;

macro_rules! numbers {
    ($($(#[doc = $doc:literal])+ $name:ident)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(super) struct $name(u32);

        impl Number for $name {
            fn of(place: u32) -> Self {
                Self(place)
            }

            fn place(self) -> usize {
                self.0 as usize
            }
        }
    )+};
}

numbers! {
    /// Of an app's name.
    AppNumber
    /// Of a group's name.
    GroupNumber
    /// Of a node's name.
    NodeNumber
    /// Of an address.
    AddressNumber
}

/// A place in a [`Book`].
pub(super) trait Number: Copy {
    fn of(place: u32) -> Self;
    fn place(self) -> usize;
}

/// What is known under each name, whether or not an item of that name stands.
#[derive(Debug)]
pub(super) struct Book<Name, Page> {
    numbers: HashMap<Name, u32>,
    pages: Vec<(Name, Page)>,
}

impl<Name, Page> Default for Book<Name, Page> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), pages: Vec::new() }
    }
}

impl<Name: Hash + Eq + Clone, Page: Default> Book<Name, Page> {
    pub(super) fn number<N: Number>(&mut self, name: &Name) -> N {
        if let Some(place) = self.numbers.get(name) {
            return N::of(*place);
        }
        let place = u32::try_from(self.pages.len()).expect("fewer names than 32 bits count");
        self.numbers.insert(name.clone(), place);
        self.pages.push((name.clone(), Page::default()));
        N::of(place)
    }

    pub(super) fn name<N: Number>(&self, number: N) -> Option<&Name> {
        self.pages.get(number.place()).map(|(name, _)| name)
    }

    pub(super) fn page<N: Number>(&self, number: N) -> Option<&Page> {
        self.pages.get(number.place()).map(|(_, page)| page)
    }

    pub(super) fn page_mut<N: Number>(&mut self, number: N) -> Option<&mut Page> {
        self.pages.get_mut(number.place()).map(|(_, page)| page)
    }

    pub(super) fn all<N: Number>(&self) -> impl Iterator<Item = (N, &Page)> {
        (0..).zip(&self.pages).map(|(place, (_, page))| (N::of(place), page))
    }
}
