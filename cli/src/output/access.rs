//! Who may do what on which resource: as a sentence, and as rows.

use std::collections::BTreeSet;

use policy_api::model::{CanAnswer, Member, PermissionRow, Permissions, WhoCan};
use policy_api::policy::{AccessDifference, Replaced};
use serde::Serialize;

use super::right::listed;
use super::table::{Column, Field, Tone, paint};
use super::{Answer, Detail, Row};
use crate::terminal::Look;

/// The answer of `can`.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Can<'a>(pub(crate) &'a CanAnswer);

impl Can<'_> {
    /// By which role, and how they come to it; or what is nearest.
    fn why(&self) -> String {
        let CanAnswer { allowed, way, privileges, roles, .. } = self.0;
        if *allowed {
            return match way.as_slice() {
                [alone] => format!("by {alone} itself"),
                way => format!("by {}", way_of(way)),
            };
        }
        let instead = if privileges.is_empty() {
            "may nothing there".to_owned()
        } else {
            format!("may only {} there", listed(privileges))
        };
        let who = match roles.len() {
            0 => "no role may".to_owned(),
            1 => format!("the role that may: {}", listed(roles)),
            _ => format!("roles that may: {}", listed(roles)),
        };
        format!("{instead}; {who}")
    }
}

impl Answer for Can<'_> {
    fn text(&self, look: &Look, _: Detail) -> String {
        let CanAnswer { allowed, who, privilege, resource, .. } = self.0;
        let verdict = if *allowed { paint("yes", Tone::Good, look) } else { paint("no", Tone::Bad, look) };
        format!("{verdict}  {who} {privilege} {resource}  {}", self.why())
    }

    fn name(&self) -> String {
        if self.0.allowed { "yes".to_owned() } else { "no".to_owned() }
    }
}

/// `layer:ci > role:publisher`: what they are in, each in the next, themselves left out.
fn way_of(way: &[Member]) -> String {
    way.iter().skip(1).map(ToString::to_string).collect::<Vec<_>>().join(" > ")
}

/// A row of `who-can`.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Way(pub(crate) WhoCan);

impl Row for Way {
    const COLUMNS: &'static [Column] = &[Column::always("SUBJECT"), Column::always("BY")];
    const PLURAL: &'static str = "subjects";

    fn fields(&self) -> Vec<Field> {
        vec![Field::new(&self.0.subject), Field::new(way_of(&self.0.way))]
    }

    fn name(&self) -> String {
        self.0.subject.to_string()
    }
}

impl Row for PermissionRow {
    const COLUMNS: &'static [Column] =
        &[Column::always("RESOURCE"), Column::always("SUBJECT"), Column::always("PRIVILEGES"), Column::wide("ROLES")];
    const PLURAL: &'static str = "permissions";

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new(&self.resource),
            Field::new(&self.subject),
            Field::new(listed(&self.privileges)),
            Field::new(listed(&self.roles)),
        ]
    }

    fn name(&self) -> String {
        format!("{} {}", self.resource, self.subject)
    }
}

/// What a change does to layers, roles and resources, a line for each.
pub(crate) fn difference(difference: &AccessDifference, look: &Look) -> Vec<String> {
    let members = |kind: &str, name: &dyn ToString, before: Option<BTreeSet<String>>, after: BTreeSet<String>| {
        line(&format!("{kind} {}", name.to_string()), before.as_ref(), &after, look)
    };
    let layers = difference.layers.iter().map(|Replaced { before, after }| {
        members("layer", &after.name, before.as_ref().map(|layer| words(&layer.members)), words(&after.members))
    });
    let roles = difference.roles.iter().map(|Replaced { before, after }| {
        members("role", &after.name, before.as_ref().map(|role| words(&role.members)), words(&after.members))
    });
    let resources = difference.resources.iter().map(|Replaced { before, after }| {
        let before = before.as_ref().map(|resource| permissions(&resource.permissions));
        members("resource", &after.id, before, permissions(&after.permissions.clone().into()))
    });
    let gone = |what: String| format!("{} {what}", paint("-", Tone::Bad, look));
    let no_layers = difference.deleted_layers.iter().map(|layer| gone(format!("layer {}", layer.name)));
    let no_roles = difference.deleted_roles.iter().map(|role| gone(format!("role {}", role.name)));
    let no_resources = difference.deleted_resources.iter().map(|resource| gone(format!("resource {}", resource.id)));
    layers.chain(roles).chain(resources).chain(no_layers).chain(no_roles).chain(no_resources).collect()
}

fn words<T: ToString>(members: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    members.into_iter().map(|member| member.to_string()).collect()
}

/// `publisher(create)` for each.
fn permissions(permissions: &Permissions) -> BTreeSet<String> {
    let each = permissions
        .iter()
        .flat_map(|(role, privileges)| privileges.iter().map(move |privilege| format!("{role}({privilege})")));
    each.collect()
}

/// `~ role publisher  +layer:ci, -user:bob`: who comes, and who goes.
fn line(what: &str, before: Option<&BTreeSet<String>>, after: &BTreeSet<String>, look: &Look) -> String {
    let (sign, tone) = if before.is_some() { ("~", Tone::Plain) } else { ("+", Tone::Good) };
    let none = BTreeSet::new();
    let before = before.unwrap_or(&none);
    let come = after.difference(before).map(|word| format!("+{word}"));
    let go = before.difference(after).map(|word| format!("-{word}"));
    let words: Vec<String> = come.chain(go).collect();
    format!("{} {what}  {}", paint(sign, tone, look), words.join(", ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::rule::tests::PIPE;
    use crate::output::{Format, render_answer};

    fn said(answer: serde_json::Value) -> String {
        let answer: CanAnswer = serde_json::from_value(answer).expect("an answer");
        render_answer(&Can(&answer), Format::Table, &PIPE).expect("text")
    }

    #[test]
    fn a_yes_says_by_which_role_and_way_and_a_no_what_is_nearest() {
        let answer = |more: serde_json::Value| {
            let mut answer = serde_json::json!({"allowed": false, "who": "host:ci-1", "privilege": "create", "resource": "bot", "revision": 7});
            answer.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
            said(answer)
        };
        let yes = answer(serde_json::json!({"allowed": true, "way": ["host:ci-1", "layer:ci", "role:publisher"]}));
        assert_eq!(yes, "yes  host:ci-1 create bot  by layer:ci > role:publisher");
        let itself = answer(serde_json::json!({"allowed": true, "who": "role:a", "way": ["role:a"]}));
        assert_eq!(itself, "yes  role:a create bot  by role:a itself");
        let no = answer(serde_json::json!({"privileges": ["read"], "roles": ["ops", "publisher"]}));
        assert_eq!(no, "no  host:ci-1 create bot  may only read there; roles that may: ops,publisher");
        let nobody = answer(serde_json::json!({}));
        assert_eq!(nobody, "no  host:ci-1 create bot  may nothing there; no role may");
    }
}
