//! Isolation: begun, updated in place, ended.

use std::sync::Arc;

use super::Draft;
use crate::{
    model::{Change, Isolation, IsolationAnswer, IsolationDeleted, IsolationSpec, Outcome, Target},
    store::Refusal,
};

impl Draft<'_> {
    /// Isolates an app or an instance. What does not exist is refused: a mistyped name would isolate nobody.
    pub(super) fn isolate(&mut self, spec: &IsolationSpec) -> Result<IsolationAnswer, Refusal> {
        self.permit_operator("app", &format!("isolate {}", spec.target()))?;
        self.state.known_app(&spec.app, "app")?;
        self.check_end(spec.expires_at, "expires_at".to_owned())?;
        let target = spec.target();
        match self.state.isolation(&target).cloned() {
            Some(standing) if standing.expires_at == spec.expires_at && standing.reason == spec.reason => {
                Ok(answer(&standing, Outcome::Unchanged))
            }
            Some(standing) => {
                let updated = Isolation {
                    expires_at: spec.expires_at,
                    reason: spec.reason.clone(),
                    revision: self.revision,
                    ..Isolation::clone(&standing)
                };
                Ok(answer(&self.put_isolation(updated), Outcome::Updated))
            }
            None => {
                self.check_live(&target)?;
                let isolation = self.new_isolation(spec);
                Ok(answer(&self.put_isolation(isolation), Outcome::Created))
            }
        }
    }

    fn check_live(&self, target: &Target) -> Result<(), Refusal> {
        match target.instance {
            Some(number) if !self.state.is_live(&target.app, number) => {
                let live = self.state.instances_of(&target.app).take(MOST_NAMED);
                let live: Vec<String> = live.map(|number| format!("{}/{number}", target.app)).collect();
                let known = live.iter().map(String::as_str);
                Err(Refusal::not_found("instance", "a live instance", &target.to_string(), known))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn new_isolation(&self, spec: &IsolationSpec) -> Isolation {
        Isolation {
            app: spec.app.clone(),
            instance: spec.instance,
            expires_at: spec.expires_at,
            reason: spec.reason.clone(),
            created_at: self.now,
            created_by: self.by.clone(),
            revision: self.revision,
        }
    }

    fn put_isolation(&mut self, isolation: Isolation) -> Arc<Isolation> {
        let isolation = Arc::new(isolation);
        self.changes.push(Change::PutIsolation { isolation: isolation.clone() });
        isolation
    }

    /// Ends exactly this isolation: an app's does not end those of its instances, nor the other way.
    pub(super) fn end_isolation(&mut self, target: &Target) -> Result<IsolationDeleted, Refusal> {
        self.permit_operator("target", &format!("release {target}"))?;
        let standing = self.state.isolation(target).cloned().ok_or_else(|| {
            let known: Vec<String> = self.state.replica().isolations.keys().map(ToString::to_string).collect();
            Refusal::not_found(
                "target",
                "an isolated app or instance",
                &target.to_string(),
                known.iter().map(String::as_str),
            )
        })?;
        self.changes.push(Change::DeleteIsolation { app: target.app.clone(), instance: target.instance });
        let others = self.state.isolations_of(&target.app).filter(|other| other.target() != *target);
        // That of another instance is about somebody else.
        let about_the_same = others.filter(|other| target.instance.is_none() || other.instance.is_none());
        Ok(IsolationDeleted {
            revision: self.revision,
            isolation: Isolation::clone(&standing),
            still_isolated_by: about_the_same.take(MOST_NAMED).map(|other| Isolation::clone(other)).collect(),
            dry_run: false,
        })
    }
}

/// How many isolations or instances an answer names.
const MOST_NAMED: usize = 20;

fn answer(isolation: &Isolation, outcome: Outcome) -> IsolationAnswer {
    IsolationAnswer { isolation: isolation.clone(), outcome, dry_run: false }
}
