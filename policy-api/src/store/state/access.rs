//! Questions about who may do what on which resource, as of this state. A name that nobody knows is refused: to say "no" of a
//! mistyped one would hide the mistake.

use std::collections::{BTreeMap, BTreeSet};

use super::State;
use crate::{
    model::{
        CanAnswer, CanQuery, Grant, Layer, LayerName, Member, PermissionRow, Permissions, Resource, ResourceId, Role,
        RoleName, Subject, TokenName, UserName, WhoCan, WhoCanAnswer, WhoCanQuery,
    },
    store::Refusal,
};

impl State {
    /// The resource, which must exist; `field` is where the request names it.
    pub fn known_resource(&self, id: &ResourceId, field: &str) -> Result<&Resource, Refusal> {
        let resources = self.access().resources();
        let known = resources.keys().map(ResourceId::as_str);
        resources.get(id).map(AsRef::as_ref).ok_or_else(|| Refusal::not_found(field, "a resource", id.as_str(), known))
    }

    /// The role, which must exist; `field` is where the request names it.
    pub fn known_role(&self, name: &RoleName, field: &str) -> Result<&Role, Refusal> {
        let roles = self.access().roles();
        let known = roles.keys().map(RoleName::as_str);
        roles.get(name).map(AsRef::as_ref).ok_or_else(|| Refusal::not_found(field, "a role", name.as_str(), known))
    }

    /// The layer, which must exist; `field` is where the request names it.
    pub fn known_layer(&self, name: &LayerName, field: &str) -> Result<&Layer, Refusal> {
        let layers = self.access().layers();
        let known = layers.keys().map(LayerName::as_str);
        layers.get(name).map(AsRef::as_ref).ok_or_else(|| Refusal::not_found(field, "a layer", name.as_str(), known))
    }

    /// Refuses a subject that is in nothing and that nothing else knows; `field` is where the request names it.
    pub fn check_subject(&self, subject: &Subject, field: &str) -> Result<(), Refusal> {
        let is_somewhere = self.access().holders(&Member::Subject(subject.clone())).next().is_some();
        if is_somewhere || self.could_be(subject) {
            return Ok(());
        }
        let known: Vec<String> = self.subjects().iter().map(ToString::to_string).collect();
        let known = known.iter().map(String::as_str);
        Err(Refusal::not_found(field, "a subject", &subject.to_string(), known))
    }

    /// Whether there is somebody of this name. Whom a provider vouches for, nobody here knows before he comes.
    fn could_be(&self, subject: &Subject) -> bool {
        let is_token = |name: &TokenName, is_machine: bool| {
            let token = self.replica.tokens.get(name);
            token.is_some_and(|token| token.grants.contains(&Grant::Machine) == is_machine)
        };
        match subject {
            Subject::App(app) => self.app(app).is_some(),
            Subject::Host(name) => is_token(name, true),
            Subject::User(name) => name.as_str().parse().map_or(true, |name: TokenName| is_token(&name, false)),
        }
    }

    /// All subjects that are somewhere, or could be.
    fn subjects(&self) -> BTreeSet<Subject> {
        let named = self.access().subjects_named().cloned();
        let apps = self.replica.apps.keys().cloned().map(Subject::App);
        let tokens = self.replica.tokens.values().map(|token| {
            let name = &token.name;
            let is_machine = token.grants.contains(&Grant::Machine);
            if is_machine { Subject::Host(name.clone()) } else { Subject::User(UserName::of_token(name)) }
        });
        named.chain(apps).chain(tokens).collect()
    }

    /// Whether somebody may do something, by which way, or what is nearest.
    pub fn can(&self, query: &CanQuery) -> Result<CanAnswer, Refusal> {
        let CanQuery { who, privilege, resource } = query;
        let permissions = &self.known_resource(resource, "resource")?.permissions;
        match who {
            Member::Subject(subject) => self.check_subject(subject, "subject")?,
            Member::Role(role) => drop(self.known_role(role, "role")?),
            Member::Layer(layer) => drop(self.known_layer(layer, "layer")?),
        }
        let way = self.access().can(who, privilege, resource);
        Ok(CanAnswer {
            allowed: way.is_some(),
            who: who.clone(),
            privilege: privilege.clone(),
            resource: resource.clone(),
            way: way.unwrap_or_default(),
            privileges: self.access().privileges(who, resource),
            roles: permissions.roles_with(privilege).cloned().collect(),
            revision: self.revision(),
        })
    }

    /// All who may do something.
    pub fn who_can(&self, query: &WhoCanQuery) -> Result<WhoCanAnswer, Refusal> {
        let WhoCanQuery { privilege, resource } = query;
        let permissions = &self.known_resource(resource, "resource")?.permissions;
        let subjects = self.access().who_can(privilege, resource);
        Ok(WhoCanAnswer {
            privilege: privilege.clone(),
            resource: resource.clone(),
            subjects: subjects.into_iter().map(|(subject, way)| WhoCan { subject, way }).collect(),
            roles: permissions.roles_with(privilege).cloned().collect(),
            revision: self.revision(),
        })
    }

    /// What subjects may do on resources: of one resource, of one subject, or of all; by resource and subject, behind `after`.
    pub fn permissions<'a>(
        &'a self,
        resource: Option<&'a ResourceId>,
        subject: Option<&'a Subject>,
        after: Option<&'a (ResourceId, Subject)>,
    ) -> Result<impl Iterator<Item = PermissionRow> + 'a, Refusal> {
        resource.map(|id| self.known_resource(id, "resource")).transpose()?;
        subject.map(|subject| self.check_subject(subject, "subject")).transpose()?;
        let roles = subject.map(|subject| self.access().roles_of(&Member::Subject(subject.clone())));
        let is_wanted = move |id: &ResourceId| {
            resource.is_none_or(|wanted| wanted == id) && after.is_none_or(|(last, _)| last <= id)
        };
        let resources = self.access().resources().values().filter(move |resource| is_wanted(&resource.id));
        let rows = resources.flat_map(move |resource| match (subject, &roles) {
            (Some(subject), Some(roles)) => {
                row_of(&resource.id, &resource.permissions, subject, roles).into_iter().collect()
            }
            (_, _) => self.rows_of(resource),
        });
        Ok(rows.filter(move |row| after.is_none_or(|(id, last)| (&row.resource, &row.subject) > (id, last))))
    }

    fn rows_of(&self, resource: &Resource) -> Vec<PermissionRow> {
        let mut rows = BTreeMap::<Subject, PermissionRow>::new();
        for (role, privileges) in resource.permissions.iter() {
            for subject in self.access().subjects_of(&Member::Role(role.clone())) {
                let row = rows.entry(subject).or_insert_with_key(|subject| row(&resource.id, subject));
                row.privileges.extend(privileges.iter().cloned());
                row.roles.insert(role.clone());
            }
        }
        rows.into_values().collect()
    }
}

fn row(resource: &ResourceId, subject: &Subject) -> PermissionRow {
    PermissionRow {
        resource: resource.clone(),
        subject: subject.clone(),
        privileges: BTreeSet::new(),
        roles: BTreeSet::new(),
    }
}

/// What somebody in these roles may do there; nothing, if that is nothing.
fn row_of(
    id: &ResourceId,
    permissions: &Permissions,
    subject: &Subject,
    roles: &BTreeSet<RoleName>,
) -> Option<PermissionRow> {
    let mut row = row(id, subject);
    for (role, privileges) in permissions.iter().filter(|(role, _)| roles.contains(*role)) {
        row.privileges.extend(privileges.iter().cloned());
        row.roles.insert(role.clone());
    }
    (!row.roles.is_empty()).then_some(row)
}
