//! `/healthz`, `/readyz`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use derms_proto::{Problem, ProblemCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Failure;
use crate::core::Core;

/// A headend that answers well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok` or `ready`.
    status: &'static str,
}

/// Whether the headend lives
#[utoipa::path(get, path = "/healthz", operation_id = "get_liveness", tag = "service", responses(
    (status = 200, description = "It does", body = Health),
))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the headend takes work: its store takes what it is given, and it is not shutting down
#[utoipa::path(get, path = "/readyz", operation_id = "get_readiness", tag = "service", responses(
    (status = 200, description = "It does", body = Health),
    (status = 503, description = "`store_unavailable`, `draining`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn readyz(State(core): State<Arc<Core>>) -> Result<Json<Health>, Failure> {
    if core.drain.is_cancelled() {
        return Err(Problem::new(ProblemCode::Draining, "the headend is shutting down").into());
    }
    core.store.ping().await?;
    if let Some(what) = core.ingest.failing() {
        let detail = format!("the store can be reached, but does not take {what}");
        return Err(Problem::new(ProblemCode::StoreUnavailable, detail).into());
    }
    Ok(Json(Health { status: "ready" }))
}
