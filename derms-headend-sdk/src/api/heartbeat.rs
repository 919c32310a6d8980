//! `/heartbeat`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use derms_proto::{AssetId, Heartbeat, Page, Problem, ProblemCode};

use super::caller::Caller;
use super::extract::{Id, NoParams, PageParams, Params};
use super::listing::Wanted;
use super::problem::Failure;
use crate::core::Core;

/// Columns as CSV.
const COLUMNS: &[&str] = &[
    "asset_id",
    "agent_id",
    "epoch",
    "received_at",
    "agent_time",
    "uptime_s",
    "outbox_depth",
    "dropped_samples",
    "availability",
    "control",
    "control_mw",
    "read_errors",
];

/// The last heartbeat of the agent that serves an asset
#[utoipa::path(get, path = "/heartbeat/{id}", operation_id = "get_heartbeat", tag = "telemetry",
    params(("id" = String, Path, format = "uuid", description = "The asset")),
    responses(
    (status = 200, description = "The heartbeat", body = Heartbeat),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_asset`, `no_heartbeat`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Id(id): Id<AssetId>,
    _: Params<NoParams>,
) -> Result<Json<Heartbeat>, Failure> {
    let asset = caller.asset(&core, id)?;
    let newest = core.heartbeats.read().get(&id).cloned();
    newest.map(Json).ok_or_else(|| {
        let text = format!(
            "no agent of asset `{}` has sent a heartbeat yet",
            asset.name
        );
        Problem::new(ProblemCode::NoHeartbeat, text).into()
    })
}

/// Heartbeats, newest first
#[utoipa::path(get, path = "/heartbeat/{id}/history", operation_id = "list_heartbeats", tag = "telemetry",
    params(("id" = String, Path, format = "uuid", description = "The asset"), PageParams),
    responses(
    (status = 200, description = "A page", content((Page<Heartbeat> = "application/json"), (String = "text/csv"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_asset`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn history(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Id(id): Id<AssetId>,
    Params(params): Params<PageParams>,
    wanted: Wanted,
) -> Result<Response, Failure> {
    caller.asset(&core, id)?;
    let page = core.store.heartbeats(id, &params.into_query()?).await?;
    wanted.page(page, COLUMNS)
}
