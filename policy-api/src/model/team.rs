//! Teams: who owns which apps and groups, and how many rules they may have.

use std::{collections::BTreeSet, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    access::ResourceId,
    answer::Outcome,
    fields::Fields,
    history::Revision,
    invalid::{Invalid, InvalidField},
    name::{AppName, AppPattern, GroupName, TeamName},
};

/// A team. No app, no group and no resource is ever two teams'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Team {
    pub name: TeamName,
    /// Its apps, those to come among them.
    pub apps: BTreeSet<AppPattern>,
    /// Its groups: who may join them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<AppPattern>,
    /// Its resources, roles and layers: what is called this, and what is below it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resources: BTreeSet<ResourceId>,
    /// How many rules its writers may have stand; absent: as many as fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_rules: Option<u32>,
    /// How many apps its writers may have it grow to; absent: as many as there are numbers for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_apps: Option<u32>,
    /// The revision that last changed it.
    pub revision: Revision,
}

/// What a team is to be, whatever it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TeamSettings {
    pub apps: BTreeSet<AppPattern>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<AppPattern>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub resources: BTreeSet<ResourceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_rules: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_apps: Option<u32>,
}

/// The answer to settings of a team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamAnswer {
    #[serde(flatten)]
    pub team: Team,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "super::answer::is_false")]
    pub dry_run: bool,
}

/// The answer to the deletion of a team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamDeleted {
    /// The revision without the team.
    pub revision: Revision,
    pub team: Team,
    #[serde(default, skip_serializing_if = "super::answer::is_false")]
    pub dry_run: bool,
}

impl Team {
    pub fn owns_app(&self, app: &AppName) -> bool {
        self.apps.iter().any(|pattern| pattern.matches(app))
    }

    /// Whether a resource, a role or a layer of this id is its.
    pub fn owns_id(&self, id: &str) -> bool {
        self.resources.iter().any(|prefix| prefix.covers(id))
    }

    pub fn owns_group(&self, group: &GroupName) -> bool {
        self.groups.iter().any(|pattern| pattern.matches_group(group))
    }
}

impl TeamSettings {
    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let settings = Self {
            apps: patterns(&mut fields, "apps")?.ok_or_else(|| fields.missing("apps", "name apps, like `shop-*`"))?,
            groups: patterns(&mut fields, "groups")?.unwrap_or_default(),
            resources: patterns(&mut fields, "resources")?.unwrap_or_default(),
            most_rules: fields.number("most_rules", u32::MAX)?,
            most_apps: fields.number("most_apps", u32::MAX)?,
        };
        fields.finish()?;
        Ok(settings)
    }
}

fn patterns<T>(fields: &mut Fields, name: &'static str) -> Result<Option<BTreeSet<T>>, InvalidField>
where
    T: FromStr<Err = Invalid> + Ord,
{
    let path = fields.path(name);
    let parse = |(i, text): (usize, String)| {
        T::from_str(&text).map_err(|invalid: Invalid| invalid.in_field(format!("{path}[{i}]")))
    };
    fields.texts(name)?.map(|texts| texts.into_iter().enumerate().map(parse).collect()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_team_owns_what_its_patterns_match_and_nothing_else() {
        let settings =
            TeamSettings::from_json(json!({"apps": ["shop-*", "cart"], "groups": ["shop"], "resources": ["shop"]}))
                .expect("settings");
        let TeamSettings { apps, groups, resources, most_rules, most_apps } = settings;
        let (name, revision) = ("shop".parse().expect("name"), Revision(1));
        let team = Team { name, apps, groups, resources, most_rules, most_apps, revision };
        let owns = |app: &str| team.owns_app(&app.parse().expect("app"));
        assert!(owns("shop-web") && owns("SHOP-db") && owns("cart") && !owns("shop") && !owns("cart-2"));
        assert!(team.owns_id("shop") && team.owns_id("shop/bot") && !team.owns_id("shop-web/bot"));
        assert!(team.owns_group(&"shop".parse().expect("group")) && !team.owns_group(&"front".parse().expect("group")));
    }

    #[test]
    fn a_wish_that_makes_no_sense_is_refused_naming_the_field() {
        let cases = [
            (json!({}), "apps"),
            (json!({"apps": "shop-*"}), "apps"),
            (json!({"apps": ["a b"]}), "apps[0]"),
            (json!({"apps": [], "groups": ["x", ""]}), "groups[1]"),
            (json!({"apps": [], "most_rules": -1}), "most_rules"),
            (json!({"apps": [], "resources": ["a", "b/"]}), "resources[1]"),
            (json!({"apps": [], "quota": 1}), "quota"),
        ];
        for (request, field) in cases {
            assert_eq!(TeamSettings::from_json(request).expect_err(field).field, field);
        }
    }
}
