//! Access: who may do what on which resource. Subjects are in layers and roles, roles in roles, and roles have privileges
//! on resources.
//!
//! There is one sentence: a subject may do something on a resource if some role that has this privilege there has the
//! subject in it, by itself, by a layer, or by a role that is in it. Nothing denies; what no role gives, nobody has.
//! [`Access`] is what stands and answers; the rest are its words. Knows neither tokens nor rules of the packet filter.

mod answer;
mod change;
mod graph;
#[cfg(test)]
mod graph_tests;
mod id;
mod layer;
mod privilege;
mod resource;
mod role;
mod subject;

use std::{collections::BTreeSet, fmt::Display, str::FromStr};

pub use self::{
    answer::{CanAnswer, CanQuery, PermissionRow, WhoCan, WhoCanAnswer, WhoCanQuery},
    change::{AccessAnswer, AccessChanges},
    graph::{Access, Way},
    id::{LayerName, ResourceId, RoleName},
    layer::{Layer, LayerSpec},
    privilege::Privilege,
    resource::{Permission, Permissions, Resource, ResourceSpec},
    role::{Role, RoleSpec},
    subject::{Member, Subject, UserName},
};
use super::{
    fields::Fields,
    invalid::{Invalid, InvalidField},
};

/// A list of a request, in which each entry stands once; an entry that stands twice was meant to be another.
fn listed<T>(fields: &mut Fields, name: &'static str, most: usize) -> Result<Option<Vec<T>>, InvalidField>
where
    T: FromStr<Err = Invalid> + Clone + Ord + Display,
{
    let path = fields.path(name);
    let Some(texts) = fields.texts(name)? else { return Ok(None) };
    if texts.len() > most {
        return Err(Invalid::of("the list", "is too long", format!("use at most {most} entries")).in_field(path));
    }
    let mut seen = BTreeSet::new();
    let parse = |(i, text): (usize, String)| {
        let entry: T = text.parse().map_err(|invalid: Invalid| invalid.in_field(format!("{path}[{i}]")))?;
        if seen.insert(entry.clone()) {
            return Ok(entry);
        }
        Err(Invalid::new(entry, "is listed already", "list it once").in_field(format!("{path}[{i}]")))
    };
    texts.into_iter().enumerate().map(parse).collect::<Result<_, _>>().map(Some)
}
