//! Apps: the units that policy speaks about.

use std::collections::BTreeSet;

use common::Identity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    fields::Fields,
    history::Revision,
    invalid::{Invalid, InvalidField},
    name::{AppName, GroupName},
    rule::Mode,
};

/// An app and the identity that stands for it in the datapath.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct App {
    pub name: AppName,
    #[serde(with = "identity_number")]
    #[cfg_attr(feature = "server", schema(value_type = u32))]
    pub identity: Identity,
    /// In [`Mode::Audit`], what its own end would deny passes there and is reported.
    #[serde(default)]
    pub mode: Mode,
    #[serde(default)]
    pub groups: BTreeSet<GroupName>,
    /// The revision that last changed it.
    pub revision: Revision,
}

impl App {
    /// How many groups an app can be in: each is a look-up more for a first packet.
    pub const MOST_GROUPS: usize = 8;

    /// An enforced app in no group.
    pub fn new(name: AppName, identity: Identity, revision: Revision) -> Self {
        Self { name, identity, mode: Mode::Enforce, groups: BTreeSet::new(), revision }
    }
}

/// What to change of an app; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AppSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    #[serde(flatten)]
    pub groups: GroupWish,
}

/// An app of a change set, and what to change of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppWish {
    pub name: AppName,
    #[serde(flatten)]
    pub settings: AppSettings,
}

/// Which groups an app shall be in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum GroupWish {
    /// These and no others.
    These { groups: BTreeSet<GroupName> },
    /// These more, and those no longer.
    Edit {
        #[serde(skip_serializing_if = "BTreeSet::is_empty")]
        add_groups: BTreeSet<GroupName>,
        #[serde(skip_serializing_if = "BTreeSet::is_empty")]
        remove_groups: BTreeSet<GroupName>,
    },
}

impl Default for GroupWish {
    fn default() -> Self {
        Self::Edit { add_groups: BTreeSet::new(), remove_groups: BTreeSet::new() }
    }
}

impl GroupWish {
    /// The member of the request that groups are added by.
    pub fn field(&self) -> &'static str {
        match self {
            Self::These { .. } => "groups",
            Self::Edit { .. } => "add_groups",
        }
    }

    /// The groups that an app in `standing` is in afterwards.
    pub fn applied_to(&self, standing: &BTreeSet<GroupName>) -> BTreeSet<GroupName> {
        match self {
            Self::These { groups } => groups.clone(),
            Self::Edit { add_groups, remove_groups } => {
                standing.union(add_groups).filter(|group| !remove_groups.contains(*group)).cloned().collect()
            }
        }
    }
}

impl AppSettings {
    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        Self::from_fields(Fields::of_body(value)?)
    }

    fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let mode = fields.parsed("mode")?;
        let groups = groups(&mut fields, "groups")?;
        let add_groups = groups_or_none(&mut fields, "add_groups")?;
        let remove_groups = groups_or_none(&mut fields, "remove_groups")?;
        let [all, removed] = ["groups", "remove_groups"].map(|name| fields.path(name));
        fields.finish()?;
        if let Some(group) = add_groups.intersection(&remove_groups).next() {
            let problem = "cannot be added and removed at once";
            return Err(Invalid::new(group, problem, "name it in one of the two lists").in_field(removed));
        }
        let groups = match groups {
            Some(_) if !add_groups.is_empty() || !remove_groups.is_empty() => {
                let remedy = "give either `groups`, or `add_groups` and `remove_groups`";
                return Err(Invalid::of("the list", "already says all groups", remedy).in_field(all));
            }
            Some(groups) => GroupWish::These { groups },
            None => GroupWish::Edit { add_groups, remove_groups },
        };
        Ok(Self { mode, groups })
    }
}

impl AppWish {
    /// Takes an app of a request apart.
    pub fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let name = fields.required("name", "name the app")?;
        Ok(Self { name, settings: AppSettings::from_fields(fields)? })
    }
}

fn groups_or_none(fields: &mut Fields, name: &'static str) -> Result<BTreeSet<GroupName>, InvalidField> {
    Ok(groups(fields, name)?.unwrap_or_default())
}

fn groups(fields: &mut Fields, name: &'static str) -> Result<Option<BTreeSet<GroupName>>, InvalidField> {
    let Some(texts) = fields.texts(name)? else { return Ok(None) };
    let path = fields.path(name);
    let parse =
        |(i, text): (usize, String)| text.parse().map_err(|invalid: Invalid| invalid.in_field(format!("{path}[{i}]")));
    texts.into_iter().enumerate().map(parse).collect::<Result<_, _>>().map(Some)
}

/// Identities on the wire: their number.
pub(super) mod identity_number {
    use common::Identity;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(in crate::model) fn serialize<S: Serializer>(identity: &Identity, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(identity.number())
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Identity, D::Error> {
        let number = u32::deserialize(deserializer)?;
        Identity::new(number)
            .filter(|identity| identity.is_app())
            .ok_or_else(|| D::Error::custom(format!("{number} is not an app's identity")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_said_stays() {
        let settings =
            AppSettings::from_json(json!({"add_groups": ["a", "b"], "remove_groups": ["c"]})).expect("valid");
        assert_eq!(settings.mode, None);
        let standing = ["b", "c", "d"].map(|name| name.parse().expect("name")).into();
        let names = |groups: BTreeSet<GroupName>| groups.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(settings.groups.applied_to(&standing)), ["a", "b", "d"]);
        let none = AppSettings::from_json(json!({"groups": []})).expect("valid");
        assert!(none.groups.applied_to(&standing).is_empty());
        for settings in [settings, none, AppSettings { mode: Some(Mode::Audit), ..AppSettings::default() }] {
            let sent = serde_json::to_value(&settings).expect("json");
            assert_eq!(AppSettings::from_json(sent), Ok(settings));
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_naming_the_field() {
        let cases = [
            (json!({"mode": "off"}), "mode"),
            (json!({"groups": "a"}), "groups"),
            (json!({"groups": ["a", "b c"]}), "groups[1]"),
            (json!({"groups": ["a"], "add_groups": ["b"]}), "groups"),
            (json!({"add_groups": ["a"], "remove_groups": ["a"]}), "remove_groups"),
            (json!({"identity": 300}), "identity"),
        ];
        for (request, field) in cases {
            assert_eq!(AppSettings::from_json(request).expect_err(field).field, field);
        }
    }
}
