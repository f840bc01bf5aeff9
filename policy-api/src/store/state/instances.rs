//! Which instances are live. What else is known of one stands in the bindings of its addresses.

use std::{collections::BTreeSet, net::IpAddr, ops::Bound, sync::Arc};

use super::State;
use crate::model::{AppName, Binding, NodeName};

/// Addresses by app and instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    live: BTreeSet<Place>,
    /// How many instances that are.
    instances: usize,
}

/// An address of a live instance: app, number, address.
pub type Place = (AppName, u32, IpAddr);

/// A live instance: where it is and what addresses it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub node: NodeName,
    pub addresses: BTreeSet<IpAddr>,
}

/// No address sorts before it.
const LOWEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

impl State {
    pub fn instance(&self, app: &AppName, number: u32) -> Option<Instance> {
        let addresses: BTreeSet<IpAddr> = self.instances.of(app, number).collect();
        let node = self.binding(*addresses.first()?)?.node.clone();
        Some(Instance { node, addresses })
    }

    pub fn is_live(&self, app: &AppName, number: u32) -> bool {
        self.instances.of(app, number).next().is_some()
    }

    /// The numbers of an app's live instances, ascending.
    pub fn instances_of<'a>(&'a self, app: &'a AppName) -> impl Iterator<Item = u32> + 'a {
        let mut last = None;
        let numbers = self.instances.behind(Some(app), None).map(|(_, number, _)| *number);
        numbers.filter(move |number| last.replace(*number) != Some(*number))
    }

    /// The bindings of live instances behind `after`, by app, number and address; of one app, if one is named.
    pub fn live_bindings<'a>(
        &'a self,
        app: Option<&'a AppName>,
        after: Option<&Place>,
    ) -> impl Iterator<Item = &'a Arc<Binding>> {
        self.instances.behind(app, after).filter_map(|(_, _, address)| self.binding(*address))
    }

    /// The lowest number that no live instance of the app has.
    pub(in crate::store) fn free_instance(&self, app: &AppName) -> u32 {
        let taken = self.instances_of(app).zip(0..).take_while(|(number, expected)| number == expected);
        taken.map(|(number, _)| number + 1).last().unwrap_or(0)
    }

    pub fn live_instances(&self) -> usize {
        self.instances.instances
    }
}

impl Index {
    fn of(&self, app: &AppName, number: u32) -> impl Iterator<Item = IpAddr> {
        let addresses = self.live.range((app.clone(), number, LOWEST)..);
        let app = app.clone();
        addresses.take_while(move |place| (&place.0, place.1) == (&app, number)).map(|(_, _, address)| *address)
    }

    fn behind<'a>(&'a self, app: Option<&'a AppName>, after: Option<&Place>) -> impl Iterator<Item = &'a Place> {
        let first = app.map(|app| (app.clone(), 0, LOWEST));
        let start = match (first, after) {
            (Some(first), Some(after)) if *after < first => Bound::Included(first),
            (_, Some(after)) => Bound::Excluded(after.clone()),
            (Some(first), None) => Bound::Included(first),
            (None, None) => Bound::Unbounded,
        };
        let behind = self.live.range((start, Bound::Unbounded));
        behind.take_while(move |(name, ..)| app.is_none_or(|app| app == name))
    }

    pub(super) fn note(&mut self, binding: &Binding) {
        if self.of(&binding.app, binding.instance).next().is_none() {
            self.instances += 1;
        }
        self.live.insert((binding.app.clone(), binding.instance, binding.address));
    }

    pub(super) fn forget(&mut self, binding: &Binding) {
        let was = self.live.remove(&(binding.app.clone(), binding.instance, binding.address));
        if was && self.of(&binding.app, binding.instance).next().is_none() {
            self.instances -= 1;
        }
    }
}
