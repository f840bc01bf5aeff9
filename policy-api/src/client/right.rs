//! Who may: teams, tokens and requests, and what one may oneself. Secrets of tokens are made here and told to nobody.

use reqwest::Method;

use super::{Client, ClientError, WriteOptions};
use crate::model::{
    List, MayAnswer, RequestDeleted, RequestId, RuleAnswer, RuleRequest, RuleSpec, Team, TeamAnswer, TeamDeleted,
    TeamName, TeamSettings, TokenAnswer, TokenHash, TokenName, TokenRevoked, TokenSpec, TokenView, WhoAmI, hex::hex,
};

/// A new token, 256 random bits, and its hash.
pub fn new_secret() -> Result<(String, TokenHash), ClientError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| ClientError::Config(format!("no random numbers: {error}")))?;
    let secret = hex(&bytes);
    let hash = TokenHash::of(&secret);
    Ok((secret, hash))
}

impl Client {
    pub async fn who_am_i(&self) -> Result<WhoAmI, ClientError> {
        self.get("/v1/whoami", Vec::new()).await
    }

    /// Whether the asker may `allow`, `deny` or `revoke` a rule; its action says nothing for the last.
    pub async fn can_i(&self, verb: &str, rule: &RuleSpec) -> Result<MayAnswer, ClientError> {
        let (source, destination) = (rule.source.to_string(), rule.destination.to_string());
        let mut parameters = vec![
            ("verb", verb.to_owned()),
            ("source", source),
            ("destination", destination),
            ("protocol", rule.protocol.to_string()),
        ];
        parameters.extend((!rule.ports.is_all()).then(|| ("ports", rule.ports.to_string())));
        self.get("/v1/can-i", parameters).await
    }

    pub async fn teams(&self) -> Result<List<Team>, ClientError> {
        Ok(self.list("/v1/teams", Vec::new()).await?.0)
    }

    pub async fn set_team(
        &self,
        name: &TeamName,
        settings: &TeamSettings,
        options: &WriteOptions,
    ) -> Result<TeamAnswer, ClientError> {
        self.write(Method::PUT, &format!("/v1/teams/{name}"), Some(settings), options).await
    }

    pub async fn delete_team(&self, name: &TeamName, options: &WriteOptions) -> Result<TeamDeleted, ClientError> {
        self.write(Method::DELETE, &format!("/v1/teams/{name}"), None::<&()>, options).await
    }

    pub async fn tokens(&self) -> Result<List<TokenView>, ClientError> {
        Ok(self.list("/v1/tokens", Vec::new()).await?.0)
    }

    /// Makes a token good, of which the policy API is told the hash alone.
    pub async fn create_token(&self, spec: &TokenSpec, options: &WriteOptions) -> Result<TokenAnswer, ClientError> {
        self.write(Method::POST, "/v1/tokens", Some(spec), options).await
    }

    pub async fn revoke_token(&self, name: &TokenName, options: &WriteOptions) -> Result<TokenRevoked, ClientError> {
        self.write(Method::DELETE, &format!("/v1/tokens/{name}"), None::<&()>, options).await
    }

    pub async fn requests(&self) -> Result<List<RuleRequest>, ClientError> {
        Ok(self.list("/v1/requests", Vec::new()).await?.0)
    }

    pub async fn accept(&self, id: RequestId, options: &WriteOptions) -> Result<RuleAnswer, ClientError> {
        self.write(Method::POST, &format!("/v1/requests/{id}/accept"), None::<&()>, options).await
    }

    /// Rejects a request, or withdraws one's own.
    pub async fn reject(&self, id: RequestId, options: &WriteOptions) -> Result<RequestDeleted, ClientError> {
        self.write(Method::DELETE, &format!("/v1/requests/{id}"), None::<&()>, options).await
    }
}
