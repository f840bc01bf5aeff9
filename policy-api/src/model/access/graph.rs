//! What stands of layers, roles and resources, and the answers that it gives. Pure; cheap to clone, as items are shared.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::{
    id::{LayerName, ResourceId, RoleName},
    layer::Layer,
    privilege::Privilege,
    resource::Resource,
    role::Role,
    subject::{Member, Subject},
};

/// Everything that stands, with the indexes that answers need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    layers: BTreeMap<LayerName, Arc<Layer>>,
    roles: BTreeMap<RoleName, Arc<Role>>,
    resources: BTreeMap<ResourceId, Arc<Resource>>,
    /// The layers and roles that name a member.
    holders: HashMap<Member, BTreeSet<Member>>,
    /// The resources on which a role may do something.
    places: HashMap<RoleName, BTreeSet<ResourceId>>,
}

/// How somebody comes to a role: themselves first, then what they are in, each in the next, and the role last.
pub type Way = Vec<Member>;

impl Access {
    pub fn layers(&self) -> &BTreeMap<LayerName, Arc<Layer>> {
        &self.layers
    }

    pub fn roles(&self) -> &BTreeMap<RoleName, Arc<Role>> {
        &self.roles
    }

    pub fn resources(&self) -> &BTreeMap<ResourceId, Arc<Resource>> {
        &self.resources
    }

    /// How many items there are.
    pub fn count(&self) -> usize {
        self.layers.len() + self.roles.len() + self.resources.len()
    }

    /// Whether there is such a layer or role; whether there is such a subject, nothing here knows.
    pub fn knows(&self, member: &Member) -> bool {
        match member {
            Member::Subject(_) => true,
            Member::Layer(layer) => self.layers.contains_key(layer),
            Member::Role(role) => self.roles.contains_key(role),
        }
    }

    /// The shortest way by which a subject, or whoever is in a layer or a role, may do this.
    pub fn can(&self, who: &Member, privilege: &Privilege, resource: &ResourceId) -> Option<Way> {
        let permissions = &self.resources.get(resource)?.permissions;
        let may = |member: &Member| match member {
            Member::Role(role) => permissions.of(role).is_some_and(|privileges| privileges.contains(privilege)),
            Member::Subject(_) | Member::Layer(_) => false,
        };
        let mut walk = Walk::from([who.clone()]);
        while let Some(member) = walk.next() {
            if may(&member) {
                let mut way = walk.way(member);
                way.reverse();
                return Some(way);
            }
            walk.meet(&member, self.holders(&member).cloned());
        }
        None
    }

    /// All that a subject, or whoever is in a layer or a role, may do on a resource.
    pub fn privileges(&self, who: &Member, resource: &ResourceId) -> BTreeSet<Privilege> {
        let Some(resource) = self.resources.get(resource) else { return BTreeSet::new() };
        let of = |role: &RoleName| resource.permissions.of(role).into_iter().flatten().cloned();
        self.roles_of(who).iter().flat_map(of).collect()
    }

    /// The roles that a subject, a layer or a role is in, however far; a role is in itself.
    pub fn roles_of(&self, who: &Member) -> BTreeSet<RoleName> {
        let mut roles = BTreeSet::new();
        let mut walk = Walk::from([who.clone()]);
        while let Some(member) = walk.next() {
            walk.meet(&member, self.holders(&member).cloned());
            if let Member::Role(role) = member {
                roles.insert(role);
            }
        }
        roles
    }

    /// Who may do what on a resource: what a gatekeeper has to know. Empty where there is no such resource.
    pub fn subjects(&self, resource: &ResourceId) -> BTreeMap<Subject, BTreeSet<Privilege>> {
        let mut subjects = BTreeMap::<Subject, BTreeSet<Privilege>>::new();
        let permissions = self.resources.get(resource).map(|resource| &resource.permissions);
        for (role, privileges) in permissions.into_iter().flat_map(|permissions| permissions.iter()) {
            for subject in self.subjects_of(&Member::Role(role.clone())) {
                subjects.entry(subject).or_default().extend(privileges.iter().cloned());
            }
        }
        subjects
    }

    /// Who may do this, each by the shortest way.
    pub fn who_can(&self, privilege: &Privilege, resource: &ResourceId) -> BTreeMap<Subject, Way> {
        let Some(resource) = self.resources.get(resource) else { return BTreeMap::new() };
        let mut ways = BTreeMap::new();
        let mut walk = Walk::from(resource.permissions.roles_with(privilege).cloned().map(Member::Role));
        while let Some(member) = walk.next() {
            walk.meet(&member, self.members(&member));
            if let Member::Subject(subject) = &member {
                ways.insert(subject.clone(), walk.way(member));
            }
        }
        ways
    }

    /// The subjects that are in a layer or a role, however far.
    pub fn subjects_of(&self, whole: &Member) -> BTreeSet<Subject> {
        let mut subjects = BTreeSet::new();
        let mut walk = Walk::from([whole.clone()]);
        while let Some(member) = walk.next() {
            walk.meet(&member, self.members(&member));
            if let Member::Subject(subject) = member {
                subjects.insert(subject);
            }
        }
        subjects
    }

    /// What is in a layer or a role, as it was written.
    fn members(&self, whole: &Member) -> Vec<Member> {
        match whole {
            Member::Subject(_) => Vec::new(),
            Member::Layer(layer) => {
                let members = self.layers.get(layer).into_iter().flat_map(|layer| &layer.members);
                members.cloned().map(Member::Subject).collect()
            }
            Member::Role(role) => self.roles.get(role).into_iter().flat_map(|role| &role.members).cloned().collect(),
        }
    }

    /// The layers and roles that name this one.
    pub fn holders(&self, member: &Member) -> impl Iterator<Item = &Member> + use<'_> {
        self.holders.get(member).into_iter().flatten()
    }

    /// All subjects that are in something.
    pub fn subjects_named(&self) -> impl Iterator<Item = &Subject> {
        self.holders.keys().filter_map(|member| match member {
            Member::Subject(subject) => Some(subject),
            Member::Layer(_) | Member::Role(_) => None,
        })
    }

    /// The resources on which a role itself may do something.
    pub fn places(&self, role: &RoleName) -> impl Iterator<Item = &ResourceId> + use<'_> {
        self.places.get(role).into_iter().flatten()
    }

    /// The way from a role back to itself, if it is in itself by others; it begins and ends with it.
    pub fn circle(&self, role: &RoleName) -> Option<Vec<RoleName>> {
        let first = Member::Role(role.clone());
        let mut walk = Walk::from([first.clone()]);
        while let Some(member) = walk.next() {
            let inside = self.members(&member);
            if inside.contains(&first) {
                let mut circle = walk.way(member);
                circle.reverse();
                circle.push(first);
                return Some(circle.into_iter().filter_map(Member::into_role).collect());
            }
            walk.meet(&member, inside.into_iter().filter(|member| matches!(member, Member::Role(_))));
        }
        None
    }

    /// Makes the layer stand; says which one it replaces.
    pub fn put_layer(&mut self, layer: Arc<Layer>) -> Option<Arc<Layer>> {
        let before = self.remove_layer(&layer.name);
        for subject in &layer.members {
            self.hold(subject.clone().into(), Member::Layer(layer.name.clone()));
        }
        self.layers.insert(layer.name.clone(), layer);
        before
    }

    pub fn remove_layer(&mut self, name: &LayerName) -> Option<Arc<Layer>> {
        let layer = self.layers.remove(name)?;
        for subject in &layer.members {
            self.let_go(&subject.clone().into(), &Member::Layer(name.clone()));
        }
        Some(layer)
    }

    /// Makes the role stand; says which one it replaces.
    pub fn put_role(&mut self, role: Arc<Role>) -> Option<Arc<Role>> {
        let before = self.remove_role(&role.name);
        for member in &role.members {
            self.hold(member.clone(), Member::Role(role.name.clone()));
        }
        self.roles.insert(role.name.clone(), role);
        before
    }

    pub fn remove_role(&mut self, name: &RoleName) -> Option<Arc<Role>> {
        let role = self.roles.remove(name)?;
        for member in &role.members {
            self.let_go(member, &Member::Role(name.clone()));
        }
        Some(role)
    }

    /// Makes the resource stand; says which one it replaces.
    pub fn put_resource(&mut self, resource: Arc<Resource>) -> Option<Arc<Resource>> {
        let before = self.remove_resource(&resource.id);
        for (role, _) in resource.permissions.iter() {
            self.places.entry(role.clone()).or_default().insert(resource.id.clone());
        }
        self.resources.insert(resource.id.clone(), resource);
        before
    }

    pub fn remove_resource(&mut self, id: &ResourceId) -> Option<Arc<Resource>> {
        let resource = self.resources.remove(id)?;
        for (role, _) in resource.permissions.iter() {
            let Some(places) = self.places.get_mut(role) else { continue };
            places.remove(id);
            if places.is_empty() {
                self.places.remove(role);
            }
        }
        Some(resource)
    }

    fn hold(&mut self, member: Member, holder: Member) {
        self.holders.entry(member).or_default().insert(holder);
    }

    fn let_go(&mut self, member: &Member, holder: &Member) {
        let Some(holders) = self.holders.get_mut(member) else { return };
        holders.remove(holder);
        if holders.is_empty() {
            self.holders.remove(member);
        }
    }
}

/// From some members on, along what they are in or what is in them: each once, the nearest first.
struct Walk {
    queue: VecDeque<Member>,
    /// All that were met, and whence.
    met: HashMap<Member, Option<Member>>,
}

impl Walk {
    fn from(members: impl IntoIterator<Item = Member>) -> Self {
        let queue: VecDeque<Member> = members.into_iter().collect();
        let met = queue.iter().map(|member| (member.clone(), None)).collect();
        Self { queue, met }
    }

    fn next(&mut self) -> Option<Member> {
        self.queue.pop_front()
    }

    fn meet(&mut self, from: &Member, members: impl IntoIterator<Item = Member>) {
        for member in members {
            if !self.met.contains_key(&member) {
                self.met.insert(member.clone(), Some(from.clone()));
                self.queue.push_back(member);
            }
        }
    }

    /// From a member that was met back to where the walk began.
    fn way(&self, member: Member) -> Way {
        let mut way = vec![member];
        while let Some(Some(from)) = way.last().and_then(|last| self.met.get(last)) {
            way.push(from.clone());
        }
        way
    }
}
