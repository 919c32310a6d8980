//! `/limits`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use derms_proto::{
    AssetId, Cursor, LimitId, NewLimit, Page, Power, PowerLimit, Problem, ProblemCode, SiteId,
    Timestamp,
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::Caller;
use super::change::{made, refuse_while_draining};
use super::dispatch::{SubmitHeaders, TraceHeaders, idempotency_key};
use super::extract::{Body, Id, NoParams, Params, page};
use super::listing::Wanted;
use super::problem::Failure;
use super::record::Note;
use super::trace;
use crate::core::Core;
use crate::limits::LimitError;
use crate::store::LimitQuery;

impl From<LimitError> for Failure {
    fn from(error: LimitError) -> Self {
        let text = error.to_string();
        let code = match error {
            LimitError::Invalid(_) => ProblemCode::InvalidRequest,
            LimitError::UnknownAsset(_) => ProblemCode::UnknownAsset,
            LimitError::Unknown(_) => ProblemCode::UnknownLimit,
            LimitError::Conflict { .. } => ProblemCode::LimitConflict,
            LimitError::TooMany { .. } => ProblemCode::TooManyLimits,
            LimitError::OutOfRange { limits } => {
                return Problem::new(ProblemCode::OutOfRange, text)
                    .with_limits(limits)
                    .into();
            }
            LimitError::IdempotencyConflict => ProblemCode::IdempotencyConflict,
            LimitError::OverGuard { .. } => ProblemCode::PowerGuard,
            LimitError::OverRate { retry_after, .. } => {
                let problem = Problem::new(ProblemCode::PowerRate, text);
                return Failure::from(problem).retry_after(retry_after);
            }
            LimitError::Store(error) => return error.into(),
        };
        Problem::new(code, text).into()
    }
}

/// Limit the power of an asset
///
/// A limit holds over every setpoint, follow-up, default and failsafe of the asset, several all at
/// once. It is a state: repeated, the call sets one more of the same, unless it has the same key.
#[utoipa::path(post, path = "/limits", operation_id = "set_limit", tag = "limits",
    params(SubmitHeaders, TraceHeaders),
    request_body = NewLimit,
    responses(
    (status = 201, description = "Stored, and told to the agent if it is connected; or set before with this key", body = PowerLimit,
        headers(("Location" = String, description = "Path of the limit, the prefix of a mounted headend included"),
            ("traceresponse" = String, description = "The trace of the limit, as in the logs of headend and agent: `00-<trace id>-<span id>-<flags>`"))),
    (status = 400, description = "`invalid_body`, `invalid_request`, `invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_asset`", body = Problem, content_type = "application/problem+json"),
    (status = 408, description = "`request_timeout`: the body did not arrive in time", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`limit_conflict`: limits in force leave nothing of it; `too_many_limits`: 16 are in force; `idempotency_conflict`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`out_of_range`: it leaves nothing of the range of the asset, which stands in `limits`; `power_guard`: it forces more power than is allowed", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`power_rate`, `too_many_requests`; `Retry-After` tells when to try again", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`, `draining`: nothing was done", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn set(
    State(core): State<Arc<Core>>,
    caller: Caller,
    note: Note,
    OriginalUri(uri): OriginalUri,
    _: Params<NoParams>,
    headers: HeaderMap,
    Body(new): Body<NewLimit>,
) -> Result<Response, Failure> {
    note.about("asset", new.asset_id);
    refuse_while_draining(&core)?;
    if !caller.sees_asset(&core, new.asset_id) {
        return Err(LimitError::UnknownAsset(new.asset_id).into());
    }
    let key = idempotency_key(&headers)?;
    let limit = core
        .set_limit(new, caller.0, key, trace::of_caller(&headers))
        .await?;
    let bound = |power: Option<Power>| power.map_or("any".to_owned(), |it| it.to_string());
    let (min, max) = (bound(limit.min_mw), bound(limit.max_mw));
    note.detail(format!("limit {}: {min} to {max}", limit.id));
    let response = made(StatusCode::CREATED, &uri, limit.id, &limit);
    Ok(trace::told(response, core.limits.trace(limit.id.uuid())))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Of this asset.
    #[param(value_type = Option<String>, format = "uuid")]
    asset_id: Option<AssetId>,
    /// Of the assets of this site.
    #[param(value_type = Option<String>, format = "uuid")]
    site_id: Option<SiteId>,
}

/// Limits that hold, oldest first
#[utoipa::path(get, path = "/limits", operation_id = "list_limits", tag = "limits", params(ListParams), responses(
    (status = 200, description = "One per limit", body = Vec<PowerLimit>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Json<Vec<PowerLimit>> {
    let mut limits = core.limits.in_force(params.asset_id, params.site_id);
    limits.retain(|limit| caller.sees_limit(&core, limit));
    Json(limits)
}

/// One limit
#[utoipa::path(get, path = "/limits/{id}", operation_id = "get_limit", tag = "limits",
    params(("id" = String, Path, format = "uuid", description = "The limit")),
    responses(
    (status = 200, description = "The limit", body = PowerLimit),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_limit`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Id(id): Id<LimitId>,
    _: Params<NoParams>,
) -> Result<Json<PowerLimit>, Failure> {
    let limit = core.limits.get(id).await?;
    limit
        .filter(|limit| caller.sees_limit(&core, limit))
        .map(Json)
        .ok_or_else(|| LimitError::Unknown(id).into())
}

/// Remove a limit
///
/// One that has ended is left as it is. The answer is the limit as it stands; the agent has been
/// told if it is connected, else it is told as soon as it is.
#[utoipa::path(delete, path = "/limits/{id}", operation_id = "remove_limit", tag = "limits",
    params(("id" = String, Path, format = "uuid", description = "The limit")),
    responses(
    (status = 202, description = "The limit as it stands; the same when repeated", body = PowerLimit,
        headers(("traceresponse" = String, description = "The trace of the limit"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_limit`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`: it goes on holding", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn remove(
    State(core): State<Arc<Core>>,
    caller: Caller,
    note: Note,
    Id(id): Id<LimitId>,
    _: Params<NoParams>,
) -> Result<Response, Failure> {
    note.about("limit", id);
    refuse_while_draining(&core)?;
    if !caller.is_unlimited() {
        let limit = core.limits.get(id).await?;
        limit
            .filter(|limit| caller.sees_limit(&core, limit))
            .ok_or(LimitError::Unknown(id))?;
    }
    let limit = core.remove_limit(id, caller.0).await?;
    let trace = core.limits.trace(id.uuid());
    let response = (StatusCode::ACCEPTED, Json(limit)).into_response();
    Ok(trace::told(response, trace))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryParams {
    /// Of this asset.
    #[param(value_type = Option<String>, format = "uuid")]
    asset_id: Option<AssetId>,
    /// Of the assets of this site.
    #[param(value_type = Option<String>, format = "uuid")]
    site_id: Option<SiteId>,
    /// Not set before this.
    from: Option<Timestamp>,
    /// Set before this.
    to: Option<Timestamp>,
    /// Most items, 1 to 1000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Columns of limits as CSV.
const COLUMNS: &[&str] = &[
    "id",
    "asset_id",
    "site_id",
    "min_mw",
    "max_mw",
    "created_at",
    "expires_at",
    "principal",
    "status",
    "reason",
    "text",
    "confirmed_at",
    "removed_at",
    "removed_by",
    "revision",
];

/// All limits, newest first
#[utoipa::path(get, path = "/limits/history", operation_id = "list_limit_history", tag = "limits", params(HistoryParams), responses(
    (status = 200, description = "A page", content((Page<PowerLimit> = "application/json"), (String = "text/csv"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn history(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Params(params): Params<HistoryParams>,
    wanted: Wanted,
) -> Result<Response, Failure> {
    let query = LimitQuery {
        asset: params.asset_id,
        site: params.site_id,
        page: page(params.from, params.to, params.limit, params.cursor)?,
    };
    if !caller.sees_filter(&core, query.asset, query.site) {
        return wanted.page(Page::<PowerLimit>::default(), COLUMNS);
    }
    let page = core.limits.history(&query).await?;
    let page = page.filter_map(|limit| caller.sees_limit(&core, &limit).then_some(limit));
    wanted.page(page, COLUMNS)
}
