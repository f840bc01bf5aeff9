//! Which addresses a new endpoint gets. Pure: from what the policy API last said and what is in use here.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use policy_api::model::{AppName, Binding, NodeName, Replica, Revision, Slices};

/// The addresses of one instance: the same host of the node's two slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPair {
    pub v4: Ipv4Addr,
    pub v6: Option<Ipv6Addr>,
}

impl AddressPair {
    pub fn addresses(self) -> Vec<IpAddr> {
        std::iter::once(self.v4.into()).chain(self.v6.map(IpAddr::from)).collect()
    }

    #[must_use]
    pub fn without_v6(self) -> Self {
        Self { v6: None, ..self }
    }
}

/// What the policy API last said of this node's addresses, and what is in use whatever it said.
pub struct Pool<'a> {
    pub replica: &'a Replica,
    pub node: &'a NodeName,
    pub slices: Slices,
    /// IPv4 addresses of endpoints; the IPv6 ones beside them are in use with them.
    pub taken: HashSet<Ipv4Addr>,
}

/// What is known of a pair that no endpoint has.
enum Standing<'a> {
    Unbound,
    /// This app's were the last on this node that had what is bound of the pair.
    Had {
        app: &'a AppName,
        freed: Option<Revision>,
    },
    Others,
}

impl Pool<'_> {
    /// The addresses that a new endpoint of `app` gets: those that the node has published for the app already, so that the
    /// other nodes know them; else fresh ones; else those that have been free for longest. None if the slices are full.
    pub fn choose(&self, app: &AppName) -> Option<AddressPair> {
        let mut freed: Vec<(Revision, &AppName, AddressPair)> = Vec::new();
        let mut fresh = None;
        for pair in self.free() {
            match self.standing(pair) {
                Standing::Unbound => fresh = fresh.or(Some(pair)),
                Standing::Had { app, freed: Some(revision) } => freed.push((revision, app, pair)),
                Standing::Had { freed: None, .. } | Standing::Others => {}
            }
        }
        freed.sort_by_key(|(revision, ..)| *revision);
        let published = freed.iter().find(|(_, last, _)| *last == app);
        published.map(|(.., pair)| *pair).or(fresh).or_else(|| freed.first().map(|(.., pair)| *pair))
    }

    /// The addresses of `app` on this node that the other nodes already know, if some are free.
    pub fn published(&self, app: &AppName) -> Option<AddressPair> {
        let known = |pair: &AddressPair| matches!(self.standing(*pair), Standing::Had { app: last, .. } if last == app);
        self.free().find(known)
    }

    fn free(&self) -> impl Iterator<Item = AddressPair> {
        pairs(self.slices).filter(|pair| !self.taken.contains(&pair.v4))
    }

    fn standing(&self, pair: AddressPair) -> Standing<'_> {
        let bindings = pair.addresses().into_iter().filter_map(|address| self.replica.bindings.get(&address));
        let mut bound = bindings.map(AsRef::as_ref);
        let Some(first) = bound.next() else { return Standing::Unbound };
        let freed = |binding: &Binding| (!binding.is_live()).then_some(binding.revision);
        let Some(second) = bound.next() else { return self.had(first, freed(first)) };
        match first.app == second.app && second.node == *self.node {
            true => self.had(first, freed(first).zip(freed(second)).map(|(a, b)| a.max(b))),
            false => Standing::Others,
        }
    }

    fn had<'a>(&self, binding: &'a Binding, freed: Option<Revision>) -> Standing<'a> {
        if binding.node == *self.node { Standing::Had { app: &binding.app, freed } } else { Standing::Others }
    }
}

/// The pairs of addresses that instances may have: neither the networks' own, nor the broadcast one. Without IPv6 where its
/// slice has no such host.
fn pairs(slices: Slices) -> impl Iterator<Item = AddressPair> {
    let (first, hosts) = match slices.slice_v4.address() {
        IpAddr::V4(v4) => {
            (u32::from(v4), 1_u32.checked_shl(32 - u32::from(slices.slice_v4.length())).unwrap_or(u32::MAX))
        }
        IpAddr::V6(_) => (0, 0),
    };
    let v6_of = move |host: u32| {
        let address = slices.slice_v6.subnet(128, host)?.address();
        if let IpAddr::V6(v6) = address { Some(v6) } else { None }
    };
    (1..hosts.saturating_sub(1)).map(move |host| AddressPair { v4: Ipv4Addr::from(first + host), v6: v6_of(host) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use common::Identity;
    use policy_api::model::{BindingState, Change, Timestamp};

    use super::*;

    const SLICES: (&str, &str) = ("10.255.1.0/29", "fd6e:6574:706f:1::/64");

    struct Known {
        replica: Replica,
        node: NodeName,
        slices: Slices,
    }

    impl Known {
        fn nothing() -> Self {
            let slices =
                Slices { slice_v4: SLICES.0.parse().expect("prefix"), slice_v6: SLICES.1.parse().expect("prefix") };
            Self { replica: Replica::default(), node: name("n1"), slices }
        }

        fn binding(&mut self, host: u32, app: &str, node: &str, state: BindingState, revision: u64) {
            let pair = pairs(self.slices).nth(host as usize - 1).expect("a host of the slice");
            for address in pair.addresses() {
                let binding = Binding {
                    address,
                    app: self::app(app),
                    identity: Identity::FIRST_APP,
                    instance: 0,
                    node: name(node),
                    state,
                    since: Timestamp::now(),
                    labels: Default::default(),
                    revision: Revision(revision),
                };
                self.replica.put(&Change::PutBinding { binding: Arc::new(binding) });
            }
        }

        fn pool(&self, taken: &[u8]) -> Pool<'_> {
            let taken = taken.iter().map(|host| Ipv4Addr::new(10, 255, 1, *host)).collect();
            Pool { replica: &self.replica, node: &self.node, slices: self.slices, taken }
        }
    }

    fn name(text: &str) -> NodeName {
        text.parse().expect("a node's name")
    }

    fn app(text: &str) -> AppName {
        text.parse().expect("an app's name")
    }

    fn host(pair: Option<AddressPair>) -> Option<u8> {
        pair.map(|pair| pair.v4.octets()[3])
    }

    #[test]
    fn both_addresses_of_an_instance_are_the_same_host_of_their_slices() {
        let known = Known::nothing();
        let pair = known.pool(&[1, 2]).choose(&app("web")).expect("free");
        assert_eq!(pair.v4.to_string(), "10.255.1.3");
        assert_eq!(pair.v6.expect("both families").to_string(), "fd6e:6574:706f:1::3");
    }

    #[test]
    fn a_restart_gets_what_its_app_had_a_stranger_what_nobody_had_and_else_what_is_free_longest() {
        let mut known = Known::nothing();
        known.binding(1, "db", "n1", BindingState::Freed, 7);
        known.binding(2, "web", "n1", BindingState::Freed, 9);
        known.binding(3, "db", "n1", BindingState::Live, 5);
        known.binding(4, "web", "n2", BindingState::Freed, 1);
        assert_eq!(host(known.pool(&[]).choose(&app("web"))), Some(2));
        assert_eq!(host(known.pool(&[]).choose(&app("new"))), Some(5));
        assert_eq!(host(known.pool(&[5, 6]).choose(&app("new"))), Some(1));
        assert_eq!(host(known.pool(&[1, 2, 5, 6]).choose(&app("new"))), None);
    }

    #[test]
    fn only_what_an_app_had_on_this_node_is_published_for_it() {
        let mut known = Known::nothing();
        known.binding(1, "web", "n2", BindingState::Freed, 1);
        known.binding(2, "web", "n1", BindingState::Freed, 2);
        assert_eq!(host(known.pool(&[]).published(&app("web"))), Some(2));
        assert_eq!(host(known.pool(&[2]).published(&app("web"))), None);
        assert_eq!(host(known.pool(&[]).published(&app("db"))), None);
    }

    #[test]
    fn a_pair_of_which_another_app_had_a_part_is_nobodys() {
        let mut known = Known::nothing();
        for host in 1..=6 {
            known.binding(host, "web", "n1", BindingState::Live, 1);
        }
        known.binding(2, "web", "n1", BindingState::Freed, 2);
        let second = known.slices.slice_v6.subnet(128, 2).expect("an address").address();
        let mut other = Binding::clone(&known.replica.bindings[&second]);
        other.app = app("db");
        known.replica.put(&Change::PutBinding { binding: Arc::new(other) });
        assert_eq!(known.pool(&[]).choose(&app("web")), None);
    }
}
