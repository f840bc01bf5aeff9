//! Questions about who may do what on which resource, and the answers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    id::{ResourceId, RoleName},
    privilege::Privilege,
    subject::{Member, Subject},
};
use crate::model::{fields::Fields, history::Revision, invalid::InvalidField};

/// Whether somebody may do something on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanQuery {
    /// A subject, or a role: whoever is in it.
    pub who: Member,
    pub privilege: Privilege,
    pub resource: ResourceId,
}

/// Who may do something on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhoCanQuery {
    pub privilege: Privilege,
    pub resource: ResourceId,
}

/// Whether somebody may do something, and why, or what is nearest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CanAnswer {
    pub allowed: bool,
    pub who: Member,
    pub privilege: Privilege,
    pub resource: ResourceId,
    /// From who asks to the role that may, each in the next; the shortest of them. Empty where they may not.
    #[serde(default)]
    pub way: Vec<Member>,
    /// All that they may do there.
    #[serde(default)]
    pub privileges: BTreeSet<Privilege>,
    /// The roles that may do this there, by themselves.
    #[serde(default)]
    pub roles: BTreeSet<RoleName>,
    /// The revision that it was asked of.
    pub revision: Revision,
}

/// All who may do something on a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct WhoCanAnswer {
    pub privilege: Privilege,
    pub resource: ResourceId,
    pub subjects: Vec<WhoCan>,
    /// The roles that may do this there, by themselves; also where nobody is in them.
    pub roles: BTreeSet<RoleName>,
    /// The revision that it was asked of.
    pub revision: Revision,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct WhoCan {
    pub subject: Subject,
    /// From them to the role that may, each in the next; the shortest of them.
    pub way: Vec<Member>,
}

/// What a subject may do on a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct PermissionRow {
    pub resource: ResourceId,
    pub subject: Subject,
    pub privileges: BTreeSet<Privilege>,
    /// The roles that have these privileges there, by themselves, and that the subject is in.
    pub roles: BTreeSet<RoleName>,
}

impl CanQuery {
    /// Takes a query apart: one of `role` and `subject`, `privilege`, `resource`.
    pub fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        const ONE: &str = "name a `subject`, like `host:ci-1`, or a `role`";
        let role: Option<RoleName> = fields.parsed("role")?;
        let subject: Option<Subject> = fields.parsed("subject")?;
        let who = match (subject, role) {
            (Some(subject), None) => Member::Subject(subject),
            (None, Some(role)) => Member::Role(role),
            (None, None) => return Err(fields.missing("subject", ONE)),
            (Some(_), Some(_)) => {
                let invalid =
                    crate::model::Invalid::of("the field", "is one question and `subject` another", "ask one");
                return Err(invalid.in_field(fields.path("role")));
            }
        };
        let WhoCanQuery { privilege, resource } = WhoCanQuery::from_fields(fields)?;
        Ok(Self { who, privilege, resource })
    }
}

impl WhoCanQuery {
    /// Takes a query apart: `privilege`, `resource`.
    pub fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let privilege = fields.required("privilege", "name what would be done, like `create`")?;
        let resource = fields.required("resource", "name the resource, like `production/release-bot`")?;
        fields.finish()?;
        Ok(Self { privilege, resource })
    }
}
