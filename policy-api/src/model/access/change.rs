//! What a change set does to layers, roles and resources.

use std::{collections::HashSet, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    id::{LayerName, ResourceId, RoleName},
    layer::LayerSpec,
    resource::ResourceSpec,
    role::RoleSpec,
};
use crate::model::{
    answer::Outcome,
    fields::Fields,
    invalid::{Invalid, InvalidField},
};

/// What is to stand and what is to go. What is said of one is all of it: members and permissions that are left out go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccessChanges {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerSpec>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RoleSpec>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceSpec>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delete_layers: Vec<LayerName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delete_roles: Vec<RoleName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delete_resources: Vec<ResourceId>,
}

/// What came of one that was to stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct AccessAnswer {
    /// `layer/NAME`, `role/NAME` or `resource/ID`.
    pub item: String,
    pub outcome: Outcome,
}

impl AccessChanges {
    /// More than this of a kind is not one change but a migration.
    const MOST: usize = 100_000;

    /// Takes the members of a change set that are about access.
    pub(in crate::model) fn from_fields(fields: &mut Fields) -> Result<Self, InvalidField> {
        let changes = Self {
            layers: specs(fields, "layers", LayerSpec::from_fields)?,
            roles: specs(fields, "roles", RoleSpec::from_fields)?,
            resources: specs(fields, "resources", ResourceSpec::from_fields)?,
            delete_layers: names(fields, "delete_layers")?,
            delete_roles: names(fields, "delete_roles")?,
            delete_resources: names(fields, "delete_resources")?,
        };
        changes.check_each_once()?;
        Ok(changes)
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is said twice of one thing says two things of it.
    fn check_each_once(&self) -> Result<(), InvalidField> {
        let layers = self.layers.iter().enumerate().map(|(i, spec)| (&spec.name, format!("layers[{i}].name")));
        once(layers.chain(placed("delete_layers", &self.delete_layers)))?;
        let roles = self.roles.iter().enumerate().map(|(i, spec)| (&spec.name, format!("roles[{i}].name")));
        once(roles.chain(placed("delete_roles", &self.delete_roles)))?;
        let resources = self.resources.iter().enumerate().map(|(i, spec)| (&spec.id, format!("resources[{i}].id")));
        once(resources.chain(placed("delete_resources", &self.delete_resources)))
    }
}

fn specs<T>(
    fields: &mut Fields,
    name: &'static str,
    read: fn(Fields) -> Result<T, InvalidField>,
) -> Result<Vec<T>, InvalidField> {
    let items = fields.list(name)?.unwrap_or_default();
    check_length(name, items.len())?;
    let item = |(i, value)| read(Fields::at(format!("{name}[{i}]"), value)?);
    items.into_iter().enumerate().map(item).collect()
}

fn names<T: FromStr<Err = Invalid>>(fields: &mut Fields, name: &'static str) -> Result<Vec<T>, InvalidField> {
    let texts = fields.texts(name)?.unwrap_or_default();
    check_length(name, texts.len())?;
    let parse =
        |(i, text): (usize, String)| text.parse().map_err(|invalid: Invalid| invalid.in_field(format!("{name}[{i}]")));
    texts.into_iter().enumerate().map(parse).collect()
}

fn check_length(name: &str, length: usize) -> Result<(), InvalidField> {
    if length <= AccessChanges::MOST {
        return Ok(());
    }
    let remedy = format!("use at most {} entries", AccessChanges::MOST);
    Err(Invalid::of("the list", "is too long", remedy).in_field(name))
}

fn placed<'a, T>(name: &'a str, all: &'a [T]) -> impl Iterator<Item = (&'a T, String)> {
    all.iter().enumerate().map(move |(i, one)| (one, format!("{name}[{i}]")))
}

fn once<'a, T>(all: impl Iterator<Item = (&'a T, String)>) -> Result<(), InvalidField>
where
    T: Eq + std::hash::Hash + std::fmt::Display + 'a,
{
    let mut seen = HashSet::new();
    for (one, field) in all {
        if !seen.insert(one) {
            return Err(Invalid::new(one, "is spoken of twice", "say once what is to become of it").in_field(field));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Result<AccessChanges, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let changes = AccessChanges::from_fields(&mut fields)?;
        fields.finish()?;
        Ok(changes)
    }

    #[test]
    fn what_is_sent_reads_back() {
        let sent = json!({
            "layers": [{"name": "ci", "members": ["host:ci-1", "app:web"]}],
            "roles": [{"name": "bot/publisher", "members": ["layer:ci", "role:ops", "user:olga"]}],
            "resources": [{"id": "bot", "permissions": [{"role": "bot/publisher", "privileges": ["create"]}]}],
            "delete_layers": ["old"], "delete_roles": ["old"], "delete_resources": ["old"],
        });
        let changes = read(sent.clone()).expect("changes");
        assert_eq!(serde_json::to_value(&changes).expect("json"), sent);
        assert!(read(json!({})).expect("changes").is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let layer = |name: &str, members: &[&str]| json!({"name": name, "members": members});
        let cases = [
            (json!({"layers": [{"name": "ci"}]}), "layers[0].members"),
            (json!({"layers": [layer("ci", &["host:a", "host:a"])]}), "layers[0].members[1]"),
            (json!({"layers": [layer("ci", &["user:olga"])]}), "layers[0].members[0]"),
            (json!({"layers": [layer("ci", &["layer:x"])]}), "layers[0].members[0]"),
            (json!({"layers": [layer("ci", &[]), layer("ci", &[])]}), "layers[1].name"),
            (json!({"layers": [layer("ci", &[])], "delete_layers": ["ci"]}), "delete_layers[0]"),
            (json!({"roles": [layer("a", &["app:web", "web"])]}), "roles[0].members[1]"),
            (json!({"roles": [{"name": "a", "members": [], "owner": "x"}]}), "roles[0].owner"),
            (json!({"resources": [{"id": "a"}]}), "resources[0].permissions"),
            (json!({"delete_roles": ["a", "b//c"]}), "delete_roles[1]"),
            (json!({"delete_resources": ["a", "a"]}), "delete_resources[1]"),
        ];
        for (request, field) in cases {
            assert_eq!(read(request).expect_err(field).field, field);
        }
    }
}
