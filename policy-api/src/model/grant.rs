//! Roles: what somebody may do, everywhere or for one team.

use std::{collections::BTreeSet, fmt, str::FromStr};

use super::{
    invalid::{Invalid, InvalidField, text_serde},
    name::TeamName,
};

/// One role that somebody has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// Everything: tokens and teams too.
    Admin,
    /// All of policy and the nodes, but neither tokens nor teams.
    Operator,
    /// Reads everything and writes nothing.
    Auditor,
    /// Writes rules of a team's apps.
    Writer(TeamName),
    /// The same, and rules between the team's own and `any`, `host` or groups.
    Wide(TeamName),
    /// A machine outside: asks for identity tokens of its own, and neither reads nor writes anything.
    Machine,
    /// A gatekeeper outside: is told what it has to know, reports what it decided, and does nothing else.
    Gate,
}

/// Everything that somebody may do.
pub type Grants = BTreeSet<Grant>;

const REMEDY: &str = "use `admin`, `operator`, `auditor`, `writer:TEAM`, `wide:TEAM`, `machine` or `gate`";

impl Grant {
    /// The team that it is for, if it is for one.
    pub fn team(&self) -> Option<&TeamName> {
        match self {
            Self::Writer(team) | Self::Wide(team) => Some(team),
            Self::Admin | Self::Operator | Self::Auditor | Self::Machine | Self::Gate => None,
        }
    }

    /// Whether it is for one purpose alone: who has it has no other, and may not even read.
    pub fn stands_alone(&self) -> bool {
        match self {
            Self::Machine | Self::Gate => true,
            Self::Admin | Self::Operator | Self::Auditor | Self::Writer(_) | Self::Wide(_) => false,
        }
    }

    /// Takes a request's list apart; an empty one would be somebody who may nothing.
    pub(super) fn list(path: &str, texts: &[String]) -> Result<Grants, InvalidField> {
        if texts.is_empty() {
            return Err(Invalid::of("the list", "is empty", REMEDY).in_field(path));
        }
        let parse =
            |(i, text): (usize, &String)| text.parse().map_err(|bad: Invalid| bad.in_field(format!("{path}[{i}]")));
        let grants: Grants = texts.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        Self::check_alone(&grants).map_err(|invalid| invalid.in_field(path))?;
        Ok(grants)
    }

    /// Refuses a role that stands alone beside another one.
    pub(crate) fn check_alone(grants: &Grants) -> Result<(), Invalid> {
        match grants.iter().find(|grant| grant.stands_alone()) {
            Some(alone) if grants.len() > 1 => {
                Err(Invalid::new(alone, "cannot be beside another role", "make a token of its own for it"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl FromStr for Grant {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once(':') {
            None if text == "admin" => Ok(Self::Admin),
            None if text == "operator" => Ok(Self::Operator),
            None if text == "auditor" => Ok(Self::Auditor),
            None if text == "machine" => Ok(Self::Machine),
            None if text == "gate" => Ok(Self::Gate),
            Some(("writer", team)) => team.parse().map(Self::Writer),
            Some(("wide", team)) => team.parse().map(Self::Wide),
            None | Some(_) => Err(Invalid::new(text, "is not a role", REMEDY)),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.pad("admin"),
            Self::Operator => f.pad("operator"),
            Self::Auditor => f.pad("auditor"),
            Self::Writer(team) => f.pad(&format!("writer:{team}")),
            Self::Wide(team) => f.pad(&format!("wide:{team}")),
            Self::Machine => f.pad("machine"),
            Self::Gate => f.pad("gate"),
        }
    }
}

text_serde!(Grant);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_written_as_they_are_read_and_nothing_else_is_one() {
        for text in ["admin", "operator", "auditor", "writer:shop", "wide:shop", "machine", "gate"] {
            assert_eq!(text.parse::<Grant>().map(|grant| grant.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "Admin", "root", "writer", "writer:", "admin:shop", "writer:a b", "wide", "gate:shop"] {
            assert!(text.parse::<Grant>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn what_is_for_one_purpose_has_no_other_role_beside_it() {
        let list = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            Grant::list("grants", &texts).map_err(|invalid| invalid.field)
        };
        assert_eq!(list(&["machine"]), Ok([Grant::Machine].into()));
        assert_eq!(list(&["auditor", "writer:shop"]).map(|grants| grants.len()), Ok(2));
        for texts in [["machine", "auditor"], ["gate", "machine"], ["admin", "gate"]] {
            assert_eq!(list(&texts), Err("grants".to_owned()), "{texts:?}");
        }
    }
}
