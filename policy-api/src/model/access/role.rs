//! Roles: who is spoken of together where permissions are given.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{id::RoleName, listed, subject::Member};
use crate::model::{fields::Fields, history::Revision, invalid::InvalidField};

/// A role. Whoever is in one that is in it is in it, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Role {
    pub name: RoleName,
    pub members: BTreeSet<Member>,
    /// The revision that last changed it.
    pub revision: Revision,
}

/// A role as it is to be, whatever it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoleSpec {
    pub name: RoleName,
    /// In the order of the request, each once.
    pub members: Vec<Member>,
}

impl Role {
    /// How many members a role can have.
    pub const MOST_MEMBERS: usize = 10_000;

    /// Whether it has just these members.
    pub fn is_as(&self, spec: &RoleSpec) -> bool {
        self.members == spec.members.iter().cloned().collect()
    }
}

impl RoleSpec {
    /// Takes a part of a request apart.
    pub fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let name = fields.required("name", "name the role")?;
        let members = listed(&mut fields, "members", Role::MOST_MEMBERS)?
            .ok_or_else(|| fields.missing("members", "list its members, like `layer:ci`; `[]` is nobody"))?;
        fields.finish()?;
        Ok(Self { name, members })
    }

    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        Self::from_fields(Fields::of_body(value)?)
    }
}

impl From<&Role> for RoleSpec {
    fn from(role: &Role) -> Self {
        Self { name: role.name.clone(), members: role.members.iter().cloned().collect() }
    }
}
