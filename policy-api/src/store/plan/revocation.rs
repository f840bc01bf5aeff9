//! Revocations of identity tokens: by id, of all that a subject has, and of all that an API token or a node made.

use std::{sync::Arc, time::Duration};

use super::Draft;
use crate::{
    model::{
        ApiToken, Change, Grant, LONGEST_LIFETIME, NodeName, Revocation, RevocationAnswer, Revoked, Subject, UserName,
    },
    store::{Principal, Refusal},
};

/// So many stand at most: all gatekeepers hold them all.
const MOST: usize = 10_000;
/// How far clocks of those who check may be behind.
const LEEWAY: Duration = Duration::from_secs(60);

impl Draft<'_> {
    /// Revokes one token, or all that a subject has by now. Operators may; others may revoke their own.
    pub(super) fn revoke(&mut self, by: &Principal, what: &Revoked) -> Result<RevocationAnswer, Refusal> {
        self.permit_revocation(by, what)?;
        let standing = &self.state.replica().revocations;
        if standing.len() >= MOST && !standing.contains_key(what) {
            let problem = format!("is one too many: {MOST} revocations stand");
            let remedy = "revoke all tokens of the subject at once, or wait until some have ended";
            return Err(Refusal::conflict("subject", what, problem, remedy));
        }
        let revocation = self.put_revocation(what.clone())?;
        Ok(RevocationAnswer { revocation, dry_run: false })
    }

    /// Revokes what was made with an API token that is good no longer, however many stand.
    pub(super) fn revoke_made_with(&mut self, token: &ApiToken) -> Result<(), Refusal> {
        let made = match token.grants.first() {
            Some(Grant::Machine) => Subject::Host(token.name.clone()),
            // It makes none.
            Some(Grant::Gate) => return Ok(()),
            Some(_) | None => Subject::User(UserName::of_token(&token.name)),
        };
        self.put_revocation(Revoked::Subject(made)).map(drop)
    }

    /// Revokes what a node asked for that is one no longer: whoever has the machine has its instances' tokens.
    pub(super) fn revoke_asked_for_by(&mut self, node: &NodeName) -> Result<(), Refusal> {
        self.put_revocation(Revoked::Node(node.clone())).map(drop)
    }

    fn put_revocation(&mut self, of: Revoked) -> Result<Revocation, Refusal> {
        let standing = self.state.replica().revocations.get(&of);
        // Another API's clock may be ahead: what was revoked stays revoked.
        let issued_before = standing.map_or(self.now, |standing| standing.issued_before.max(self.now));
        let revocation = Revocation {
            of,
            issued_before,
            expires_at: issued_before.after(LONGEST_LIFETIME + LEEWAY).ok_or(Refusal::Exhausted("points in time"))?,
            created_by: self.by.clone(),
            revision: self.revision,
        };
        self.changes.push(Change::PutRevocation { revocation: Arc::new(revocation.clone()) });
        Ok(revocation)
    }

    fn permit_revocation(&self, by: &Principal, what: &Revoked) -> Result<(), Refusal> {
        let is_own = |subject: &Subject| by.subject(&self.rights).is_ok_and(|own| own == *subject);
        match what {
            _ if self.rights.is_operator() => Ok(()),
            Revoked::Subject(subject) if is_own(subject) => Ok(()),
            Revoked::Subject(subject) => {
                let why = "these are another's".to_owned();
                Err(self.denied("subject", format!("revoke identity tokens of {subject}"), why, "role `operator`"))
            }
            Revoked::Node(node) => {
                let why = "these are its instances'".to_owned();
                Err(self.denied("subject", format!("revoke identity tokens of node {node}"), why, "role `operator`"))
            }
            Revoked::Token(id) => {
                let why = "nobody but operators revokes single tokens; one's own go all at once".to_owned();
                Err(self.denied("id", format!("revoke identity token {id}"), why, "role `operator`"))
            }
        }
    }
}
