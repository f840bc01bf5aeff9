//! Endpoints about the API itself.

use axum::routing::get;

use super::{
    super::{health, metrics, openapi, read},
    Access, Endpoint,
};

pub(super) static ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "get",
        path: "/v1/status",
        access: Access::Known,
        summary: "The API in numbers",
        query: &[],
        body: &[],
        answers: &[(200, "The numbers")],
        handler: || get(read::status),
    },
    Endpoint {
        method: "get",
        path: "/healthz",
        access: Access::Open,
        summary: "Says that the process runs",
        query: &[],
        body: &[],
        answers: &[(200, "It does")],
        handler: || get(health::alive),
    },
    Endpoint {
        method: "get",
        path: "/readyz",
        access: Access::Open,
        summary: "Says whether writes can be stored",
        query: &[],
        body: &[],
        answers: &[(200, "They can")],
        handler: || get(health::ready),
    },
    Endpoint {
        method: "get",
        path: "/metrics",
        access: Access::Known,
        summary: "Prometheus text",
        query: &[],
        body: &[],
        answers: &[(200, "The metrics")],
        handler: || get(metrics::text),
    },
    Endpoint {
        method: "get",
        path: "/openapi.json",
        access: Access::Known,
        summary: "This description",
        query: &[],
        body: &[],
        answers: &[(200, "An OpenAPI document")],
        handler: || get(openapi::document),
    },
];
