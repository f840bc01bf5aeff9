//! Resources: what gatekeepers stand before, and which roles may do what on them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    id::{ResourceId, RoleName},
    listed,
    privilege::Privilege,
};
use crate::model::{
    fields::Fields,
    history::Revision,
    invalid::{Invalid, InvalidField},
};

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Resource {
    pub id: ResourceId,
    /// By role, each once.
    pub permissions: Permissions,
    /// The revision that last changed it.
    pub revision: Revision,
}

/// What each role may do on one resource; on the wire a list of [`Permission`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Permission>", into = "Vec<Permission>")]
pub struct Permissions(BTreeMap<RoleName, BTreeSet<Privilege>>);

/// What a role may do on a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Permission {
    pub role: RoleName,
    pub privileges: BTreeSet<Privilege>,
}

/// A resource as it is to be, whatever it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResourceSpec {
    pub id: ResourceId,
    /// In the order of the request, each role once.
    pub permissions: Vec<Permission>,
}

impl Permissions {
    /// What the role may do.
    pub fn of(&self, role: &RoleName) -> Option<&BTreeSet<Privilege>> {
        self.0.get(role)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&RoleName, &BTreeSet<Privilege>)> {
        self.0.iter()
    }

    /// The roles that may do this.
    pub fn roles_with<'a>(&'a self, privilege: &'a Privilege) -> impl Iterator<Item = &'a RoleName> {
        self.0.iter().filter(move |(_, privileges)| privileges.contains(privilege)).map(|(role, _)| role)
    }
}

impl From<Vec<Permission>> for Permissions {
    fn from(list: Vec<Permission>) -> Self {
        let mut permissions = BTreeMap::<_, BTreeSet<Privilege>>::new();
        for Permission { role, privileges } in list {
            permissions.entry(role).or_default().extend(privileges);
        }
        Self(permissions)
    }
}

impl From<Permissions> for Vec<Permission> {
    fn from(Permissions(permissions): Permissions) -> Self {
        permissions.into_iter().map(|(role, privileges)| Permission { role, privileges }).collect()
    }
}

#[cfg(feature = "server")]
impl utoipa::PartialSchema for Permissions {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        <Vec<Permission> as utoipa::PartialSchema>::schema()
    }
}

#[cfg(feature = "server")]
impl utoipa::ToSchema for Permissions {
    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        use utoipa::{PartialSchema, ToSchema};
        schemas.push((<Permission as ToSchema>::name().into_owned(), <Permission as PartialSchema>::schema()));
        <Permission as ToSchema>::schemas(schemas);
    }
}

impl Resource {
    /// How many roles may be given something on one resource.
    pub const MOST_PERMISSIONS: usize = 1_000;
    /// How many privileges one role may be given on it.
    const MOST_PRIVILEGES: usize = 100;

    /// Whether it has just these permissions.
    pub fn is_as(&self, spec: &ResourceSpec) -> bool {
        self.permissions == Permissions::from(spec.permissions.clone())
    }
}

impl ResourceSpec {
    /// Takes a part of a request apart.
    pub fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let id = fields.required("id", "name the resource, like `production/release-bot`")?;
        let path = fields.path("permissions");
        let items = fields
            .list("permissions")?
            .ok_or_else(|| fields.missing("permissions", "say which roles may do what; `[]` is nobody"))?;
        fields.finish()?;
        if items.len() > Resource::MOST_PERMISSIONS {
            let remedy = format!("use at most {} entries", Resource::MOST_PERMISSIONS);
            return Err(Invalid::of("the list", "is too long", remedy).in_field(path));
        }
        let mut roles = BTreeSet::new();
        let mut permissions = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            let permission = Permission::from_fields(Fields::at(format!("{path}[{i}]"), item)?)?;
            if !roles.insert(permission.role.clone()) {
                let problem = "is said already what it may do";
                let invalid = Invalid::new(&permission.role, problem, "name all its privileges in one place");
                return Err(invalid.in_field(format!("{path}[{i}].role")));
            }
            permissions.push(permission);
        }
        Ok(Self { id, permissions })
    }

    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        Self::from_fields(Fields::of_body(value)?)
    }
}

impl Permission {
    fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let role = fields.required("role", "name the role")?;
        let privileges = listed(&mut fields, "privileges", Resource::MOST_PRIVILEGES)?
            .filter(|privileges| !privileges.is_empty())
            .ok_or_else(|| fields.missing("privileges", "name what it may do, like `read`"))?;
        fields.finish()?;
        Ok(Self { role, privileges: privileges.into_iter().collect() })
    }
}

impl From<&Resource> for ResourceSpec {
    fn from(resource: &Resource) -> Self {
        Self { id: resource.id.clone(), permissions: resource.permissions.clone().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_resource_reads_back_as_it_is_written() {
        let json = json!({"id": "production/release-bot", "permissions": [
            {"role": "ops", "privileges": ["delete"]}, {"role": "publisher", "privileges": ["create", "read"]},
        ], "revision": 7});
        let resource: Resource = serde_json::from_value(json.clone()).expect("a resource");
        assert_eq!(serde_json::to_value(&resource).expect("json"), json);
        let spec = ResourceSpec::from(&resource);
        let again = serde_json::to_value(&spec).expect("json");
        assert_eq!(ResourceSpec::from_json(again), Ok(spec.clone()));
        assert!(resource.is_as(&spec));
    }

    #[test]
    fn a_wish_that_makes_no_sense_is_refused_naming_the_field() {
        let of = |permissions: Value| json!({"id": "a", "permissions": permissions});
        let cases = [
            (json!({"permissions": []}), "id"),
            (json!({"id": "a//b", "permissions": []}), "id"),
            (json!({"id": "a"}), "permissions"),
            (json!({"id": "a", "permissions": [], "owner": "x"}), "owner"),
            (of(json!([{"privileges": ["read"]}])), "permissions[0].role"),
            (of(json!([{"role": "a"}])), "permissions[0].privileges"),
            (of(json!([{"role": "a", "privileges": []}])), "permissions[0].privileges"),
            (of(json!([{"role": "a", "privileges": ["read", "Read"]}])), "permissions[0].privileges[1]"),
            (of(json!([{"role": "a", "privileges": ["read", "read"]}])), "permissions[0].privileges[1]"),
            (of(json!([{"role": "a", "privileges": ["read"], "deny": true}])), "permissions[0].deny"),
            (
                of(json!([{"role": "a", "privileges": ["read"]}, {"role": "a", "privileges": ["update"]}])),
                "permissions[1].role",
            ),
        ];
        for (request, field) in cases {
            assert_eq!(ResourceSpec::from_json(request).expect_err(field).field, field);
        }
    }
}
