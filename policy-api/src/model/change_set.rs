//! Change sets: what is done all or nothing, in one revision.

use serde::Serialize;
use serde_json::Value;

use super::{
    access::AccessChanges,
    app::AppWish,
    fields::Fields,
    invalid::{Invalid, InvalidField},
    name::GroupName,
    rule::{RuleId, RuleSpec},
};

/// Rules to delete, groups and apps to set, rules to create, layers, roles and resources to set and to delete: all or nothing,
/// in one revision and in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChangeSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<AppWish>,
    pub create: Vec<RuleSpec>,
    pub delete: Vec<RuleId>,
    #[serde(flatten)]
    pub access: AccessChanges,
}

impl ChangeSet {
    /// More than this is not one change but a migration; bounds the time that one commit takes.
    const MOST: usize = 100_000;

    /// Rules alone.
    pub fn of_rules(create: Vec<RuleSpec>, delete: Vec<RuleId>) -> Self {
        Self { create, delete, ..Self::default() }
    }

    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let groups = fields.texts("groups")?.unwrap_or_default();
        let apps = fields.list("apps")?.unwrap_or_default();
        let create = fields.list("create")?.unwrap_or_default();
        let delete = fields.texts("delete")?.unwrap_or_default();
        let access = AccessChanges::from_fields(&mut fields)?;
        fields.finish()?;
        let lengths =
            [("groups", groups.len()), ("apps", apps.len()), ("create", create.len()), ("delete", delete.len())];
        lengths.into_iter().try_for_each(|(name, length)| check_length(name, length))?;
        let app = |(i, value)| AppWish::from_fields(Fields::at(format!("apps[{i}]"), value)?);
        let rule = |(i, value)| RuleSpec::from_fields(Fields::at(format!("create[{i}]"), value)?);
        Ok(Self {
            groups: parse_all("groups", groups)?,
            apps: apps.into_iter().enumerate().map(app).collect::<Result<_, _>>()?,
            create: create.into_iter().enumerate().map(rule).collect::<Result<_, _>>()?,
            delete: parse_all("delete", delete)?,
            access,
        })
    }

    pub fn is_empty(&self) -> bool {
        let rules = self.create.is_empty() && self.delete.is_empty();
        rules && self.groups.is_empty() && self.apps.is_empty() && self.access.is_empty()
    }
}

fn check_length(name: &str, length: usize) -> Result<(), InvalidField> {
    if length <= ChangeSet::MOST {
        return Ok(());
    }
    let remedy = format!("use at most {} entries", ChangeSet::MOST);
    Err(Invalid::of("the list", "is too long", remedy).in_field(name))
}

fn parse_all<T: std::str::FromStr<Err = Invalid>>(name: &str, texts: Vec<String>) -> Result<Vec<T>, InvalidField> {
    let parse =
        |(i, text): (usize, String)| text.parse().map_err(|invalid: Invalid| invalid.in_field(format!("{name}[{i}]")));
    texts.into_iter().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_sent_reads_back() {
        let sent = json!({
            "groups": ["front"],
            "apps": [{"name": "web", "mode": "audit", "groups": ["front"]}, {"name": "db", "add_groups": ["back"]}],
            "create": [{"source": "web", "destination": "db", "action": "allow"}],
            "delete": ["r7"],
            "roles": [{"name": "publisher", "members": ["host:ci-1"]}],
            "delete_layers": ["ci"],
        });
        let set = ChangeSet::from_json(sent).expect("a change set");
        let again = serde_json::to_value(&set).expect("json");
        assert_eq!(ChangeSet::from_json(again), Ok(set));
        assert!(ChangeSet::from_json(json!({})).expect("a change set").is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let cases = [
            (json!({"groups": ["a", "b c"]}), "groups[1]"),
            (json!({"apps": [{"mode": "audit"}]}), "apps[0].name"),
            (json!({"apps": [{"name": "web", "mode": "off"}]}), "apps[0].mode"),
            (json!({"apps": [{"name": "web", "groups": ["a"], "add_groups": ["b"]}]}), "apps[0].groups"),
            (json!({"apps": [{"name": "web", "ports": []}]}), "apps[0].ports"),
            (json!({"create": [{"source": "web"}]}), "create[0].destination"),
            (
                json!({"create": [{"source": "a", "destination": "b", "action": "allow", "ports": ["1", "0"]}]}),
                "create[0].ports[1]",
            ),
            (json!({"create": [1]}), "create[0]"),
            (json!({"delete": ["r1", "12"]}), "delete[1]"),
            (json!({"delete": ["r0"]}), "delete[0]"),
            (json!({"remove": []}), "remove"),
        ];
        for (request, field) in cases {
            assert_eq!(ChangeSet::from_json(request).expect_err(field).field, field);
        }
    }
}
