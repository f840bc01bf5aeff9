//! Apps: their mode, their groups, and their end.

use std::collections::BTreeSet;

use super::{Draft, member};
use crate::{
    model::{App, AppAnswer, AppDeleted, AppName, AppSettings, Change, GroupName, Outcome},
    store::Refusal,
};

impl Draft<'_> {
    /// Gives the app, created if it is new, these settings; `path` is where the request speaks of it.
    pub(super) fn set_app(&mut self, name: &AppName, settings: &AppSettings, path: &str) -> Result<AppAnswer, Refusal> {
        let planned = self.apps.get(&name.folded()).filter(|app| app.name == *name);
        let standing = planned.or_else(|| self.state.app(name)).cloned();
        let (before, is_new) = match standing {
            Some(app) => (App::clone(&app), false),
            None => {
                self.check_case(name, path)?;
                (self.new_app(name)?, true)
            }
        };
        let groups = settings.groups.applied_to(&before.groups);
        let field = member(path, settings.groups.field());
        check_number(&groups, &field)?;
        let wanted = App { mode: settings.mode.unwrap_or(before.mode), groups, ..before.clone() };
        self.permit_app(&before, &wanted, path)?;
        for group in wanted.groups.difference(&before.groups) {
            self.group(group, &field)?;
        }
        if wanted == before && !is_new {
            return Ok(AppAnswer { app: before, outcome: Outcome::Unchanged, dry_run: false });
        }
        let app = self.put_app(App { revision: self.revision, ..wanted });
        let outcome = if is_new { Outcome::Created } else { Outcome::Updated };
        Ok(AppAnswer { app: App::clone(&app), outcome, dry_run: false })
    }

    fn check_case(&self, name: &AppName, path: &str) -> Result<(), Refusal> {
        match self.apps.get(&name.folded()).or_else(|| self.state.app_like(name)) {
            Some(app) => {
                let problem = format!("differs only by case from the app `{}`", app.name);
                Err(Refusal::conflict(member(path, "name"), name, problem, "use that name, or another one"))
            }
            None => Ok(()),
        }
    }

    /// Takes an app away that nobody runs and no rule names, with all that is left of it.
    pub(super) fn delete_app(&mut self, name: &AppName) -> Result<AppDeleted, Refusal> {
        let app = self.state.known_app(name, "name")?.clone();
        self.permit_app_removal(&app)?;
        self.check_unused(name)?;
        let freed = self.state.bindings_of(name).map(|binding| Change::DeleteBinding { address: binding.address });
        self.changes.extend(freed);
        let isolations = self.state.isolations_of(name);
        let ended =
            isolations.map(|isolation| Change::DeleteIsolation { app: name.clone(), instance: isolation.instance });
        self.changes.extend(ended);
        self.changes.push(Change::DeleteApp { name: name.clone() });
        Ok(AppDeleted { revision: self.revision, app: App::clone(&app), dry_run: false })
    }

    fn check_unused(&self, name: &AppName) -> Result<(), Refusal> {
        let live = self.state.instances_of(name).count();
        if live > 0 {
            let problem = format!("has {live} live {}", if live == 1 { "instance" } else { "instances" });
            return Err(Refusal::conflict("name", name, problem, "stop them first"));
        }
        self.check_in_no_role(name)?;
        let rules = self.state.rules_naming(name);
        match rules.len() {
            0 => Ok(()),
            number => {
                let named: Vec<String> = rules.iter().take(MOST_NAMED).map(ToString::to_string).collect();
                let more =
                    if number > named.len() { format!(" and {} more", number - named.len()) } else { String::new() };
                let problem = format!("is named by {}{more}", named.join(", "));
                Err(Refusal::conflict("name", name, problem, "delete those rules first"))
            }
        }
    }
}

/// How many rules a refusal names.
const MOST_NAMED: usize = 5;

fn check_number(groups: &BTreeSet<GroupName>, field: &str) -> Result<(), Refusal> {
    let number = groups.len();
    if number <= App::MOST_GROUPS {
        return Ok(());
    }
    let problem = format!("would be too many for one app, which can be in {}", App::MOST_GROUPS);
    let remedy = "take it out of another group first, or use fewer groups";
    Err(Refusal::conflict(field, format!("{number} groups"), problem, remedy))
}
