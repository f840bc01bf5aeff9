//! Layers, roles and resources as files have them, and what of them stands otherwise.
//!
//! Of one that is named, all is said: members and permissions that are left out go. Of a kind of which no file speaks, not
//! even by an empty list, nothing is pruned: who keeps rules in files alone must not lose roles.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Prune;
use crate::model::{
    AccessChanges, Layer, LayerName, LayerSpec, Resource, ResourceId, ResourceSpec, Role, RoleName, RoleSpec,
};

/// What files say; nothing of a kind, if they do not speak of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessPolicy {
    pub layers: Option<BTreeMap<LayerName, LayerSpec>>,
    pub roles: Option<BTreeMap<RoleName, RoleSpec>>,
    pub resources: Option<BTreeMap<ResourceId, ResourceSpec>>,
}

/// What stands, as of one state.
#[derive(Clone, Debug, Default)]
pub struct StandingAccess {
    pub layers: Vec<Layer>,
    pub roles: Vec<Role>,
    pub resources: Vec<Resource>,
}

/// What making the policy stand would change, by kind and name.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AccessDifference {
    pub layers: Vec<Replaced<Layer, LayerSpec>>,
    pub roles: Vec<Replaced<Role, RoleSpec>>,
    pub resources: Vec<Replaced<Resource, ResourceSpec>>,
    pub deleted_layers: Vec<Layer>,
    pub deleted_roles: Vec<Role>,
    pub deleted_resources: Vec<Resource>,
}

/// What is set, and what stood before.
#[derive(Clone, Debug, Serialize)]
pub struct Replaced<T, S> {
    /// Absent where it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<T>,
    pub after: S,
}

impl StandingAccess {
    /// What an export writes: a kind of which nothing stands is left out.
    pub(super) fn policy(&self) -> AccessPolicy {
        AccessPolicy {
            layers: all(&self.layers, |layer| (layer.name.clone(), layer.into())),
            roles: all(&self.roles, |role| (role.name.clone(), role.into())),
            resources: all(&self.resources, |resource| (resource.id.clone(), resource.into())),
        }
    }
}

fn all<T, K: Ord, S>(items: &[T], of: fn(&T) -> (K, S)) -> Option<BTreeMap<K, S>> {
    (!items.is_empty()).then(|| items.iter().map(of).collect())
}

impl AccessDifference {
    pub(super) fn of(policy: &AccessPolicy, standing: &StandingAccess, prune: &Prune) -> Self {
        let (layers, deleted_layers) =
            compare(&policy.layers, &standing.layers, prune, |layer| &layer.name, Layer::is_as);
        let (roles, deleted_roles) = compare(&policy.roles, &standing.roles, prune, |role| &role.name, Role::is_as);
        let (resources, deleted_resources) =
            compare(&policy.resources, &standing.resources, prune, |resource| &resource.id, Resource::is_as);
        Self { layers, roles, resources, deleted_layers, deleted_roles, deleted_resources }
    }

    pub fn is_empty(&self) -> bool {
        self.set() + self.deleted() == 0
    }

    /// How many are created or updated.
    pub fn set(&self) -> usize {
        self.layers.len() + self.roles.len() + self.resources.len()
    }

    /// How many go.
    pub fn deleted(&self) -> usize {
        self.deleted_layers.len() + self.deleted_roles.len() + self.deleted_resources.len()
    }

    pub(super) fn changes(&self) -> AccessChanges {
        AccessChanges {
            layers: self.layers.iter().map(|replaced| replaced.after.clone()).collect(),
            roles: self.roles.iter().map(|replaced| replaced.after.clone()).collect(),
            resources: self.resources.iter().map(|replaced| replaced.after.clone()).collect(),
            delete_layers: self.deleted_layers.iter().map(|layer| layer.name.clone()).collect(),
            delete_roles: self.deleted_roles.iter().map(|role| role.name.clone()).collect(),
            delete_resources: self.deleted_resources.iter().map(|resource| resource.id.clone()).collect(),
        }
    }
}

/// What is to be set, and what goes.
fn compare<T: Clone, K: Ord, S: Clone>(
    wanted: &Option<BTreeMap<K, S>>,
    standing: &[T],
    prune: &Prune,
    key: fn(&T) -> &K,
    is_as: fn(&T, &S) -> bool,
) -> (Vec<Replaced<T, S>>, Vec<T>) {
    let Some(wanted) = wanted else { return (Vec::new(), Vec::new()) };
    let known: BTreeMap<&K, &T> = standing.iter().map(|item| (key(item), item)).collect();
    let differs = |(name, spec): (&K, &S)| {
        let before = known.get(name).copied();
        let same = before.is_some_and(|before| is_as(before, spec));
        (!same).then(|| Replaced { before: before.cloned(), after: spec.clone() })
    };
    let replaced = wanted.iter().filter_map(differs).collect();
    let gone = known.iter().filter(|(name, _)| prune.covers_access() && !wanted.contains_key(name));
    (replaced, gone.map(|(_, item)| T::clone(item)).collect())
}
