//! API tokens: made and revoked, by their hashes alone.

use std::sync::Arc;

use super::Draft;
use crate::{
    model::{ApiToken, Change, Outcome, TokenAnswer, TokenName, TokenRevoked, TokenSpec},
    store::{Principal, Refusal, User},
};

impl Draft<'_> {
    /// Makes the token stand. One of the same name is never replaced: somebody has it.
    pub(super) fn create_token(&mut self, spec: &TokenSpec) -> Result<TokenAnswer, Refusal> {
        let name = &spec.name;
        self.permit_admin("name", &format!("create token {name}"))?;
        self.check_end(spec.expires_at, "expires_at".to_owned())?;
        for team in spec.grants.iter().filter_map(|grant| grant.team()) {
            self.known_team(team, "grants")?;
        }
        if let Some(standing) = self.state.replica().tokens.get(name) {
            if (&standing.grants, standing.hash, standing.expires_at)
                == (&spec.grants, Some(spec.hash), spec.expires_at)
            {
                return Ok(TokenAnswer { token: standing.without_hash(), outcome: Outcome::Unchanged, dry_run: false });
            }
            let remedy = "revoke it first, or use another name";
            return Err(Refusal::conflict("name", name, "is the name of a token that stands".to_owned(), remedy));
        }
        if self.state.token_with(&spec.hash).is_some() {
            let remedy = "make a new secret";
            return Err(Refusal::conflict("hash", "…", "is that of another token".to_owned(), remedy));
        }
        let token = ApiToken {
            name: name.clone(),
            grants: spec.grants.clone(),
            hash: Some(spec.hash),
            expires_at: spec.expires_at,
            created_at: self.now,
            created_by: self.by.clone(),
            revision: self.revision,
        };
        let told = token.without_hash();
        self.changes.push(Change::PutToken { token: Arc::new(token) });
        Ok(TokenAnswer { token: told, outcome: Outcome::Created, dry_run: false })
    }

    /// Ends a token, what its bearer asked for and nobody has answered, and the identity tokens that were made with it.
    pub(super) fn revoke_token(&mut self, name: &TokenName) -> Result<TokenRevoked, Refusal> {
        self.permit_admin("name", &format!("revoke token {name}"))?;
        let tokens = &self.state.replica().tokens;
        let known = tokens.keys().map(TokenName::as_str);
        let token = tokens.get(name).ok_or_else(|| Refusal::not_found("name", "a token", name.as_str(), known))?;
        let bearer = token.hash.map(|hash| Principal::User(User::Token(name.clone(), hash)).to_string());
        let asked =
            self.state.replica().requests.values().filter(|request| bearer.as_ref() == Some(&request.created_by));
        self.changes.extend(asked.map(|request| Change::DeleteRequest { id: request.id }));
        self.changes.push(Change::DeleteToken { name: name.clone() });
        self.revoke_made_with(token)?;
        Ok(TokenRevoked { revision: self.revision, token: token.without_hash(), dry_run: false })
    }
}
