//! Layers, roles and resources: set and deleted together, and judged by what stands afterwards.

use std::sync::Arc;

use super::Draft;
use crate::{
    model::{
        Access, AccessAnswer, AccessChanges, AppName, Change, Invalid, Layer, LayerName, LayerSpec, Member, Outcome,
        Resource, ResourceId, ResourceSpec, Role, RoleName, RoleSpec, Subject,
    },
    store::Refusal,
};

/// How many of those that use something a refusal names.
const MOST_NAMED: usize = 5;

impl Draft<'_> {
    /// Deletes, then sets: what is set may name what is set with it, and what is deleted must be used by nobody afterwards.
    pub(super) fn change_access(&mut self, changes: &AccessChanges) -> Result<Vec<AccessAnswer>, Refusal> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut after = self.state.access().clone();
        self.delete_access(&mut after, changes)?;
        let mut answers = Vec::new();
        for (i, spec) in changes.layers.iter().enumerate() {
            answers.push(self.put_layer(&mut after, spec, &format!("layers[{i}]"))?);
        }
        for (i, spec) in changes.roles.iter().enumerate() {
            answers.push(self.put_role(&mut after, spec, &format!("roles[{i}]"))?);
        }
        for (i, spec) in changes.resources.iter().enumerate() {
            answers.push(self.put_resource(&mut after, spec, &format!("resources[{i}]"))?);
        }
        self.check_named(&after, changes)?;
        check_circles(&after, changes)?;
        check_unused(&after, changes)?;
        Ok(answers)
    }

    fn delete_access(&mut self, after: &mut Access, changes: &AccessChanges) -> Result<(), Refusal> {
        for (i, id) in changes.delete_resources.iter().enumerate() {
            let field = format!("delete_resources[{i}]");
            self.permit_access(id.as_str(), &field, &format!("delete resource {id}"))?;
            let known = self.state.access().resources().keys().map(ResourceId::as_str);
            after.remove_resource(id).ok_or_else(|| Refusal::not_found(&field, "a resource", id.as_str(), known))?;
            self.changes.push(Change::DeleteResource { id: id.clone() });
        }
        for (i, name) in changes.delete_roles.iter().enumerate() {
            let field = format!("delete_roles[{i}]");
            self.permit_access(name.as_str(), &field, &format!("delete role {name}"))?;
            let known = self.state.access().roles().keys().map(RoleName::as_str);
            after.remove_role(name).ok_or_else(|| Refusal::not_found(&field, "a role", name.as_str(), known))?;
            self.changes.push(Change::DeleteRole { name: name.clone() });
        }
        for (i, name) in changes.delete_layers.iter().enumerate() {
            let field = format!("delete_layers[{i}]");
            self.permit_access(name.as_str(), &field, &format!("delete layer {name}"))?;
            let known = self.state.access().layers().keys().map(LayerName::as_str);
            after.remove_layer(name).ok_or_else(|| Refusal::not_found(&field, "a layer", name.as_str(), known))?;
            self.changes.push(Change::DeleteLayer { name: name.clone() });
        }
        Ok(())
    }

    fn put_layer(&mut self, after: &mut Access, spec: &LayerSpec, path: &str) -> Result<AccessAnswer, Refusal> {
        let name = &spec.name;
        self.permit_access(name.as_str(), &format!("{path}.name"), &format!("set layer {name}"))?;
        let outcome = outcome(after.layers().get(name).map(|standing| standing.is_as(spec)));
        if outcome != Outcome::Unchanged {
            let members = spec.members.iter().cloned().collect();
            let layer = Arc::new(Layer { name: name.clone(), members, revision: self.revision });
            after.put_layer(layer.clone());
            self.changes.push(Change::PutLayer { layer });
        }
        Ok(AccessAnswer { item: format!("layer/{name}"), outcome })
    }

    fn put_role(&mut self, after: &mut Access, spec: &RoleSpec, path: &str) -> Result<AccessAnswer, Refusal> {
        let name = &spec.name;
        self.permit_access(name.as_str(), &format!("{path}.name"), &format!("set role {name}"))?;
        let outcome = outcome(after.roles().get(name).map(|standing| standing.is_as(spec)));
        if outcome != Outcome::Unchanged {
            let members = spec.members.iter().cloned().collect();
            let role = Arc::new(Role { name: name.clone(), members, revision: self.revision });
            after.put_role(role.clone());
            self.changes.push(Change::PutRole { role });
        }
        Ok(AccessAnswer { item: format!("role/{name}"), outcome })
    }

    fn put_resource(&mut self, after: &mut Access, spec: &ResourceSpec, path: &str) -> Result<AccessAnswer, Refusal> {
        let id = &spec.id;
        self.permit_access(id.as_str(), &format!("{path}.id"), &format!("set resource {id}"))?;
        let outcome = outcome(after.resources().get(id).map(|standing| standing.is_as(spec)));
        if outcome != Outcome::Unchanged {
            let permissions = spec.permissions.clone().into();
            let resource = Arc::new(Resource { id: id.clone(), permissions, revision: self.revision });
            after.put_resource(resource.clone());
            self.changes.push(Change::PutResource { resource });
        }
        Ok(AccessAnswer { item: format!("resource/{id}"), outcome })
    }

    /// Refuses names of nobody: a mistyped one would give nobody what somebody was to have.
    fn check_named(&self, after: &Access, changes: &AccessChanges) -> Result<(), Refusal> {
        for (i, spec) in changes.layers.iter().enumerate() {
            for (j, subject) in spec.members.iter().enumerate() {
                self.check_subject(subject, &format!("layers[{i}].members[{j}]"))?;
            }
        }
        for (i, spec) in changes.roles.iter().enumerate() {
            for (j, member) in spec.members.iter().enumerate() {
                self.check_member(after, member, &format!("roles[{i}].members[{j}]"))?;
            }
        }
        for (i, spec) in changes.resources.iter().enumerate() {
            for (j, permission) in spec.permissions.iter().enumerate() {
                check_role(after, &permission.role, &format!("resources[{i}].permissions[{j}].role"))?;
            }
        }
        Ok(())
    }

    fn check_member(&self, after: &Access, member: &Member, field: &str) -> Result<(), Refusal> {
        match member {
            Member::Subject(subject) => self.check_subject(subject, field),
            Member::Role(role) => check_role(after, role, field),
            Member::Layer(layer) if after.layers().contains_key(layer) => Ok(()),
            Member::Layer(layer) => {
                let known = after.layers().keys().map(LayerName::as_str);
                Err(Refusal::not_found(field, "a layer", layer.as_str(), known))
            }
        }
    }

    /// An app has to be known. Machines and people are whoever shows a token of that name, now or later: who revokes a token
    /// must not be held up by what its bearer may.
    fn check_subject(&self, subject: &Subject, field: &str) -> Result<(), Refusal> {
        match subject {
            Subject::App(app) if self.apps.get(&app.folded()).is_some_and(|planned| planned.name == *app) => Ok(()),
            Subject::App(app) => self.state.known_app(app, field).map(drop),
            Subject::Host(_) | Subject::User(_) => Ok(()),
        }
    }

    /// Refuses to take an app away that has a say somewhere: one that came back by this name would have it, too.
    pub(super) fn check_in_no_role(&self, app: &AppName) -> Result<(), Refusal> {
        let member = Member::Subject(Subject::App(app.clone()));
        let users: Vec<String> = self.state.access().holders(&member).map(ToString::to_string).collect();
        if users.is_empty() {
            return Ok(());
        }
        let problem = format!("is in {}", some_of(&users));
        Err(Refusal::conflict("name", app, problem, "take it out of there first"))
    }
}

fn outcome(stands_so: Option<bool>) -> Outcome {
    match stands_so {
        None => Outcome::Created,
        Some(true) => Outcome::Unchanged,
        Some(false) => Outcome::Updated,
    }
}

fn check_role(after: &Access, role: &RoleName, field: &str) -> Result<(), Refusal> {
    if after.roles().contains_key(role) {
        return Ok(());
    }
    Err(Refusal::not_found(field, "a role", role.as_str(), after.roles().keys().map(RoleName::as_str)))
}

/// Refuses a role that would be in itself.
fn check_circles(after: &Access, changes: &AccessChanges) -> Result<(), Refusal> {
    for (i, spec) in changes.roles.iter().enumerate() {
        let Some(circle) = after.circle(&spec.name) else { continue };
        let next = circle.get(1).cloned().map(Member::Role);
        let place = spec.members.iter().position(|member| Some(member) == next.as_ref()).unwrap_or_default();
        let words: Vec<String> = circle.iter().map(|role| format!("`{role}`")).collect();
        let problem = format!("would be in itself: {}", words.join(" has in it "));
        let invalid = Invalid::new(&spec.name, problem, "take one of them out");
        return Err(Refusal::Conflict(invalid.in_field(format!("roles[{i}].members[{place}]"))));
    }
    Ok(())
}

/// Refuses to delete what something else names.
fn check_unused(after: &Access, changes: &AccessChanges) -> Result<(), Refusal> {
    for (i, name) in changes.delete_layers.iter().enumerate() {
        let users = after.holders(&Member::Layer(name.clone())).map(ToString::to_string);
        refuse_used(name, &format!("delete_layers[{i}]"), users.collect())?;
    }
    for (i, name) in changes.delete_roles.iter().enumerate() {
        let roles = after.holders(&Member::Role(name.clone())).map(ToString::to_string);
        let resources = after.places(name).map(|id| format!("resource:{id}"));
        refuse_used(name, &format!("delete_roles[{i}]"), roles.chain(resources).collect())?;
    }
    Ok(())
}

fn refuse_used(name: &impl std::fmt::Display, field: &str, users: Vec<String>) -> Result<(), Refusal> {
    if users.is_empty() {
        return Ok(());
    }
    let problem = format!("is named by {}", some_of(&users));
    Err(Refusal::conflict(field, name, problem, "take it out of there in the same change, or before"))
}

fn some_of(users: &[String]) -> String {
    let named = users.get(..MOST_NAMED).unwrap_or(users).join(", ");
    if users.len() > MOST_NAMED { format!("{named} and {} more", users.len() - MOST_NAMED) } else { named }
}
