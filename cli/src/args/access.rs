//! Flags of the commands about who may do what on which resource: can, who-can, permissions.

use std::str::FromStr;

use clap::Args;
use policy_api::model::{Invalid, Member, Privilege, ResourceId, RoleName, Subject};

use super::history::AtArgs;

/// A subject, or a role, with or without `role:` before it: no name of a role has a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who(pub(crate) Member);

impl FromStr for Who {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once(':') {
            None => text.parse().map(|role: RoleName| Self(Member::Role(role))),
            Some(("role", role)) => role.parse().map(|role: RoleName| Self(Member::Role(role))),
            Some(_) => text.parse().map(|subject: Subject| Self(Member::Subject(subject))),
        }
    }
}

/// Flags of `can`.
#[derive(Args, Debug)]
pub(crate) struct CanArgs {
    /// A role, or app:NAME, host:NAME, user:NAME
    #[arg(value_name = "ROLE|SUBJECT")]
    pub(crate) who: Who,
    /// What they would do: read, create, update, delete, execute, or a word of the resource's own
    #[arg(value_name = "PRIVILEGE")]
    pub(crate) privilege: Privilege,
    /// On which resource
    #[arg(value_name = "RESOURCE")]
    pub(crate) resource: ResourceId,
    #[command(flatten)]
    pub(crate) past: AtArgs,
}

/// Flags of `who-can`.
#[derive(Args, Debug)]
pub(crate) struct WhoCanArgs {
    /// What they would do: read, create, update, delete, execute, or a word of the resource's own
    #[arg(value_name = "PRIVILEGE")]
    pub(crate) privilege: Privilege,
    /// On which resource
    #[arg(value_name = "RESOURCE")]
    pub(crate) resource: ResourceId,
    #[command(flatten)]
    pub(crate) past: AtArgs,
}

/// Flags of `permissions`.
#[derive(Args, Debug)]
pub(crate) struct PermissionsArgs {
    /// Only on this resource
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) resource: Option<ResourceId>,
    /// Only of this subject: app:NAME, host:NAME or user:NAME
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<Subject>,
    #[command(flatten)]
    pub(crate) past: AtArgs,
    #[command(flatten)]
    pub(crate) watch: super::WatchArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_a_role_by_its_name_alone_or_a_subject_by_its_kind() {
        let who = |text: &str| text.parse::<Who>().map(|who| who.0.to_string());
        assert_eq!(who("ci/publisher").as_deref(), Ok("role:ci/publisher"));
        assert_eq!(who("role:ci/publisher").as_deref(), Ok("role:ci/publisher"));
        assert_eq!(who("host:ci-1").as_deref(), Ok("host:ci-1"));
        for bad in ["", "layer:ci", "host:", "a//b", "nobody:x"] {
            assert!(who(bad).is_err(), "{bad} was taken");
        }
    }
}
