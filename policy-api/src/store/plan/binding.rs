//! Bindings: addresses claimed by a node for its instances, and freed again.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::Draft;
use crate::{
    model::{App, Binding, BindingState, Change, Claim, Claimed, NodeName, Released},
    store::{Instance, NodeGrant, Refusal},
};

impl Draft<'_> {
    /// Gives an instance its addresses. The same claim again finds them given.
    pub(super) fn claim(&mut self, grant: &NodeGrant, claim: &Claim) -> Result<Claimed, Refusal> {
        let registered = self.registered(&grant.name)?;
        let (node, draining) = (registered.name.clone(), registered.draining);
        if !grant.may_run(&claim.app) {
            let problem = format!("is not an app that node `{node}` may run");
            return Err(Refusal::forbidden("app", &claim.app, problem, "run it elsewhere, or change the node's token"));
        }
        self.check_slice(&node, &claim.addresses)?;
        let app = self.app(&claim.app, "app")?;
        let instance = claim.instance.or_else(|| self.repeated(&node, claim));
        let instance = instance.unwrap_or_else(|| self.state.free_instance(&claim.app));
        if draining && !self.state.is_live(&claim.app, instance) {
            let remedy = "run it elsewhere, or end the draining: `netpol node undrain NAME`";
            return Err(Refusal::conflict("node", &node, "takes no new instances: it is draining".to_owned(), remedy));
        }
        self.check_instance(&node, claim, instance)?;
        self.check_free(claim, instance)?;
        let revision = self.bind(&app, instance, &node, claim);
        Ok(Claimed {
            app: app.name.clone(),
            instance,
            identity: app.identity,
            node,
            addresses: claim.addresses.clone(),
            revision,
        })
    }

    fn check_slice(&self, name: &NodeName, addresses: &[IpAddr]) -> Result<(), Refusal> {
        let slices = self.registered(name)?.slices;
        match addresses.iter().enumerate().find(|(_, address)| !slices.contains(**address)) {
            Some((i, address)) => {
                let problem =
                    format!("is outside {} and {}, the slices of node `{name}`", slices.slice_v4, slices.slice_v6);
                Err(Refusal::forbidden(
                    format!("addresses[{i}]"),
                    address,
                    problem,
                    "claim addresses of the node's own",
                ))
            }
            None => Ok(()),
        }
    }

    /// The instance that has exactly these addresses already: the claim's first answer was lost on its way.
    fn repeated(&self, node: &NodeName, claim: &Claim) -> Option<u32> {
        let first = self.state.binding(*claim.addresses.first()?)?;
        let instance = self.state.instance(&claim.app, first.instance)?;
        (first.app == claim.app && has_exactly(&instance, node, claim)).then_some(first.instance)
    }

    /// An instance lives on one node, with one set of addresses.
    fn check_instance(&self, node: &NodeName, claim: &Claim, number: u32) -> Result<(), Refusal> {
        let Some(standing) = self.state.instance(&claim.app, number) else { return Ok(()) };
        if has_exactly(&standing, node, claim) {
            return Ok(());
        }
        let name = format!("{}/{number}", claim.app);
        let addresses: Vec<_> = standing.addresses.iter().map(ToString::to_string).collect();
        let problem = format!("lives on node `{}` with {}", standing.node, addresses.join(", "));
        Err(Refusal::conflict("instance", name, problem, "release those first, or claim for another instance"))
    }

    fn check_free(&self, claim: &Claim, number: u32) -> Result<(), Refusal> {
        for (i, address) in claim.addresses.iter().enumerate() {
            let Some(binding) = self.state.binding(*address).filter(|binding| binding.is_live()) else { continue };
            if binding.app != claim.app || binding.instance != number {
                let problem = format!("is the address of `{}`", binding.instance_name());
                return Err(Refusal::conflict(
                    format!("addresses[{i}]"),
                    address,
                    problem,
                    "claim an address that is free",
                ));
            }
        }
        Ok(())
    }

    /// Puts what is not in place already; returns the revision that put it there.
    fn bind(&mut self, app: &Arc<App>, instance: u32, node: &NodeName, claim: &Claim) -> crate::model::Revision {
        let mut since = crate::model::Revision::default();
        for address in &claim.addresses {
            let standing = self.state.binding(*address).filter(|binding| binding.is_live());
            if let Some(binding) = standing.filter(|binding| binding.labels == claim.labels) {
                since = since.max(binding.revision);
                continue;
            }
            since = self.revision;
            let binding = Binding {
                address: *address,
                app: app.name.clone(),
                identity: app.identity,
                instance,
                node: node.clone(),
                state: BindingState::Live,
                since: standing.map_or(self.now, |binding| binding.since),
                labels: claim.labels.clone(),
                revision: self.revision,
            };
            self.changes.push(Change::PutBinding { binding: Arc::new(binding) });
        }
        since
    }

    /// Frees an address. It stays published as freed, so that a restart without the API can take it again.
    pub(super) fn release(&mut self, node: &NodeName, address: IpAddr) -> Result<Released, Refusal> {
        let Some(binding) = self.state.binding(address) else {
            return Err(Refusal::not_found("address", "an address", &address.to_string(), []));
        };
        if binding.node != *node {
            let problem = format!("belongs to node `{}`", binding.node);
            return Err(Refusal::forbidden("address", address, problem, "release addresses of the node's own"));
        }
        if !binding.is_live() {
            return Ok(Released { revision: binding.revision });
        }
        let freed =
            Binding { state: BindingState::Freed, since: self.now, revision: self.revision, ..Binding::clone(binding) };
        self.changes.push(Change::PutBinding { binding: Arc::new(freed) });
        Ok(Released { revision: self.revision })
    }
}

fn has_exactly(instance: &Instance, node: &NodeName, claim: &Claim) -> bool {
    instance.node == *node && instance.addresses == claim.addresses.iter().copied().collect::<BTreeSet<_>>()
}
