//! Questions about who may do what on which resource.

use super::{Client, ClientError, past::Past};
use crate::model::{
    CanAnswer, CanQuery, Layer, List, Member, PermissionRow, Resource, ResourceId, Role, Subject, WhoCanAnswer,
    WhoCanQuery,
};

type Parameters = Vec<(&'static str, String)>;

impl Client {
    pub async fn layers(&self) -> Result<List<Layer>, ClientError> {
        Ok(self.list("/v1/layers", Vec::new()).await?.0)
    }

    pub async fn roles(&self) -> Result<List<Role>, ClientError> {
        Ok(self.list("/v1/roles", Vec::new()).await?.0)
    }

    pub async fn resources(&self) -> Result<List<Resource>, ClientError> {
        Ok(self.list("/v1/resources", Vec::new()).await?.0)
    }

    /// Whether somebody may do something on a resource, and by which way.
    pub async fn can(&self, query: &CanQuery) -> Result<CanAnswer, ClientError> {
        self.get("/v1/can", can(query)).await
    }

    /// All who may do something on a resource.
    pub async fn who_can(&self, query: &WhoCanQuery) -> Result<WhoCanAnswer, ClientError> {
        self.get("/v1/who-can", who_can(query)).await
    }

    /// What subjects may do on resources: of one resource, of one subject, or of all.
    pub async fn permissions(
        &self,
        resource: Option<&ResourceId>,
        subject: Option<&Subject>,
    ) -> Result<List<PermissionRow>, ClientError> {
        Ok(self.list("/v1/permissions", permissions(resource, subject)).await?.0)
    }
}

impl Past<'_> {
    pub async fn can(&self, query: &CanQuery) -> Result<CanAnswer, ClientError> {
        self.client.get("/v1/can", self.with(can(query))).await
    }

    pub async fn who_can(&self, query: &WhoCanQuery) -> Result<WhoCanAnswer, ClientError> {
        self.client.get("/v1/who-can", self.with(who_can(query))).await
    }

    pub async fn permissions(
        &self,
        resource: Option<&ResourceId>,
        subject: Option<&Subject>,
    ) -> Result<List<PermissionRow>, ClientError> {
        Ok(self.client.list("/v1/permissions", self.with(permissions(resource, subject))).await?.0)
    }
}

fn can(CanQuery { who, privilege, resource }: &CanQuery) -> Parameters {
    let who = match who {
        Member::Role(role) => ("role", role.to_string()),
        // The API refuses what is neither, by name.
        Member::Subject(_) | Member::Layer(_) => ("subject", who.to_string()),
    };
    vec![who, ("privilege", privilege.to_string()), ("resource", resource.to_string())]
}

fn who_can(WhoCanQuery { privilege, resource }: &WhoCanQuery) -> Parameters {
    vec![("privilege", privilege.to_string()), ("resource", resource.to_string())]
}

fn permissions(resource: Option<&ResourceId>, subject: Option<&Subject>) -> Parameters {
    let resource = resource.map(|id| ("resource", id.to_string()));
    let subject = subject.map(|subject| ("subject", subject.to_string()));
    resource.into_iter().chain(subject).collect()
}
