//! Requests: a rule asked of whoever has its other end, accepted by them or not.

use std::{sync::Arc, time::Duration};

use super::Draft;
use crate::{
    model::{Change, Outcome, RequestAnswer, RequestDeleted, RequestId, RuleAnswer, RuleRequest, RuleSpec, TeamName},
    store::Refusal,
};

/// How long a request waits for an answer.
const WAITS: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How many requests of one team may wait at a time.
const MOST_WAITING: usize = 200;

impl Draft<'_> {
    /// Asks for a rule. Asking again for the same one renews the question.
    pub(super) fn ask(
        &mut self,
        spec: &RuleSpec,
        team: TeamName,
        of: Option<TeamName>,
    ) -> Result<RequestAnswer, Refusal> {
        self.check_end(spec.expires_at, "expires_at".to_owned())?;
        let standing = self.state.requests_of(&team).find(|request| request.rule.tuple() == spec.tuple());
        // As for a rule: to ask again must not lose why it was asked for.
        let reason = spec.reason.clone().or_else(|| standing.and_then(|request| request.rule.reason.clone()));
        let spec = &RuleSpec { reason, ..spec.clone() };
        let (id, outcome) = match standing {
            Some(request) if request.rule == *spec && request.of == of => {
                let request = RuleRequest::clone(request);
                return Ok(RequestAnswer { request, outcome: Outcome::Unchanged, dry_run: false });
            }
            Some(request) => (request.id, Outcome::Updated),
            None => (self.new_request_id(&team)?, Outcome::Created),
        };
        let request = RuleRequest {
            id,
            rule: spec.clone(),
            team,
            of,
            created_at: self.now,
            created_by: self.by.clone(),
            expires_at: self.now.after(WAITS).ok_or(Refusal::Exhausted("points in time"))?,
            revision: self.revision,
        };
        self.changes.push(Change::PutRequest { request: Arc::new(request.clone()) });
        Ok(RequestAnswer { request, outcome, dry_run: false })
    }

    fn new_request_id(&self, team: &TeamName) -> Result<RequestId, Refusal> {
        let waiting = self.state.requests_of(team).count();
        if waiting >= MOST_WAITING {
            let problem = format!("has {waiting} requests that wait for an answer");
            return Err(Refusal::conflict("team", team, problem, "withdraw some: `netpol reject ID`"));
        }
        let next = self.state.head().next_request;
        next.checked_add(1).map(|_| RequestId(next)).ok_or(Refusal::Exhausted("ids of requests"))
    }

    /// Makes the rule stand that was asked for: for the team that asked.
    pub(super) fn accept(&mut self, id: RequestId) -> Result<RuleAnswer, Refusal> {
        let request = self.known_request(id)?;
        self.permit_acceptance(&request)?;
        let RuleRequest { rule, team, created_by, .. } = RuleRequest::clone(&request);
        self.changes.push(Change::DeleteRequest { id });
        let accepted_by = std::mem::replace(&mut self.by, created_by);
        let answer = self.write_rule(&rule, Some(team), "");
        self.by = accepted_by;
        answer
    }

    /// Ends a request with nothing done.
    pub(super) fn reject(&mut self, id: RequestId) -> Result<RequestDeleted, Refusal> {
        let request = self.known_request(id)?;
        self.permit_rejection(&request)?;
        self.changes.push(Change::DeleteRequest { id });
        Ok(RequestDeleted { revision: self.revision, request: RuleRequest::clone(&request), dry_run: false })
    }

    fn known_request(&self, id: RequestId) -> Result<Arc<RuleRequest>, Refusal> {
        let request = self.state.replica().requests.get(&id).cloned();
        request.ok_or_else(|| Refusal::not_found("id", "a request that waits", &id.to_string(), []))
    }
}
