//! `/telemetry`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use derms_proto::{
    AssetId, Cursor, Page, Problem, ProblemCode, TelemetryHistoryItem, TelemetrySnapshot, Timestamp,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::Caller;
use super::extract::{Id, NoParams, Params, page};
use super::listing::Wanted;
use super::problem::Failure;
use crate::core::Core;
use crate::store::{TelemetryQuery, time_of};

/// Longest bucket, seconds.
const MAX_STEP_S: u64 = 366 * 24 * 3600;

/// Columns of measurements as CSV.
const MEASUREMENTS: &[&str] = &[
    "asset_id",
    "site_id",
    "measured_at",
    "received_at",
    "quality",
    "mw",
    "mvar",
    "voltage_v",
    "frequency_hz",
    "current_a",
    "soc_pct",
    "soh_pct",
    "energy_in_mwh",
    "energy_out_mwh",
    "available_charge_mw",
    "available_discharge_mw",
    "setpoint_mw",
    "status",
    "details",
];
/// Columns of buckets as CSV.
const BUCKETS: &[&str] = &[
    "asset_id",
    "from",
    "to",
    "count",
    "mw.min",
    "mw.mean",
    "mw.max",
    "soc_pct.min",
    "soc_pct.mean",
    "soc_pct.max",
];

/// The latest measurement of every asset that has one
#[utoipa::path(get, path = "/telemetry", operation_id = "list_telemetry", tag = "telemetry", responses(
    (status = 200, description = "One per asset that has reported", body = Vec<TelemetrySnapshot>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(core): State<Arc<Core>>,
    caller: Caller,
    _: Params<NoParams>,
) -> Json<Vec<TelemetrySnapshot>> {
    let now = core.clock.now();
    Json(
        caller
            .assets(&core)
            .filter_map(|asset| snapshot(&core, asset.id, now))
            .collect(),
    )
}

/// The latest measurement of an asset, by time of measurement
#[utoipa::path(get, path = "/telemetry/{id}", operation_id = "get_telemetry", tag = "telemetry",
    params(("id" = String, Path, format = "uuid", description = "The asset")),
    responses(
    (status = 200, description = "The measurement", body = TelemetrySnapshot),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_asset`, `no_telemetry`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Id(id): Id<AssetId>,
    _: Params<NoParams>,
) -> Result<Json<TelemetrySnapshot>, Failure> {
    let asset = caller.asset(&core, id)?;
    snapshot(&core, id, core.clock.now())
        .map(Json)
        .ok_or_else(|| {
            let text = format!("asset `{}` has never reported", asset.name);
            Problem::new(ProblemCode::NoTelemetry, text).into()
        })
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryParams {
    /// Not before this.
    from: Option<Timestamp>,
    /// Before this.
    to: Option<Timestamp>,
    /// Most items, 1 to 1000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// Width of a bucket in whole seconds: gives min, mean and max instead of measurements.
    #[param(minimum = 1, maximum = 31_622_400)]
    step: Option<u64>,
}

/// Measurements of an asset, newest first
#[utoipa::path(get, path = "/telemetry/{id}/history", operation_id = "list_telemetry_history", tag = "telemetry",
    params(("id" = String, Path, format = "uuid", description = "The asset"), HistoryParams),
    responses(
    (status = 200, description = "A page of measurements or, with `step`, of buckets",
        content((Page<TelemetryHistoryItem> = "application/json"), (String = "text/csv"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_asset`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn history(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Id(id): Id<AssetId>,
    Params(params): Params<HistoryParams>,
    wanted: Wanted,
) -> Result<Response, Failure> {
    caller.asset(&core, id)?;
    let page = page(params.from, params.to, params.limit, params.cursor)?;
    let query = TelemetryQuery::new(id, page);
    match params.step {
        None => wanted.page(core.store.telemetry(&query).await?, MEASUREMENTS),
        Some(step) if (1..=MAX_STEP_S).contains(&step) => {
            wanted.page(core.store.telemetry_buckets(&query, step).await?, BUCKETS)
        }
        Some(_) => {
            let text = format!("step must be 1 to {MAX_STEP_S} seconds");
            Err(Problem::new(ProblemCode::InvalidParameter, text).into())
        }
    }
}

/// The newest measurement of an asset as it looks now.
pub(super) fn snapshot(core: &Core, id: AssetId, now: Timestamp) -> Option<TelemetrySnapshot> {
    let telemetry = core.latest.get(id)?;
    // By an agent's clock that is ahead, a value would stay fresh until its time has come.
    let age = now.saturating_since(time_of(&telemetry));
    let connected = core.registry.serving(id).is_some();
    Some(TelemetrySnapshot {
        telemetry,
        age_s: age.as_secs_f64(),
        stale: !connected || age > core.config.stale_after,
    })
}
