//! `/healthz`, `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use derms_proto::{Problem, ProblemCode};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::problem::Failure;
use crate::core::Core;
use crate::store::Store;

/// A headend that answers well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok` or `ready`.
    status: &'static str,
}

/// A probe is answered with what the store said at most this long ago.
const FRESH: Duration = Duration::from_secs(1);

/// What the store said last, with the time. Everyone may probe, and the store answers by a write:
/// it is asked by one at a time and once a second.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, Result<(), Failure>)>>);

impl Readiness {
    async fn check(&self, store: &dyn Store) -> Result<(), Failure> {
        let mut last = self.0.lock().await;
        if let Some((_, said)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return said.clone();
        }
        let said = store.ping().await.map_err(Failure::from);
        *last = Some((Instant::now(), said.clone()));
        said
    }
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
    core.readiness.check(&*core.store).await?;
    if let Some(what) = core.ingest.failing() {
        let detail = format!("the store can be reached, but does not take {what}");
        return Err(Problem::new(ProblemCode::StoreUnavailable, detail).into());
    }
    Ok(Json(Health { status: "ready" }))
}
