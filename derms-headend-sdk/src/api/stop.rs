//! `/stop`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use derms_proto::{
    DEFAULT_RETURN_WITHIN, NewStop, Page, Problem, ProblemCode, Stop, StopId, StopScope,
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::Caller;
use super::change::{made, refuse_while_draining};
use super::dispatch::{SubmitHeaders, TraceHeaders, idempotency_key};
use super::extract::{Body, Id, NoParams, PageParams, Params};
use super::listing::Wanted;
use super::problem::Failure;
use super::record::Note;
use super::trace;
use crate::core::Core;
use crate::limits::{MAX_RETURN, StopError};

impl From<StopError> for Failure {
    fn from(error: StopError) -> Self {
        let text = error.to_string();
        let code = match error {
            StopError::Invalid(_) => ProblemCode::InvalidRequest,
            StopError::NotConfirmed => ProblemCode::ConfirmationRequired,
            StopError::UnknownAsset(_) => ProblemCode::UnknownAsset,
            StopError::UnknownSite(_) => ProblemCode::UnknownSite,
            StopError::Unknown(_) => ProblemCode::UnknownStop,
            StopError::IdempotencyConflict => ProblemCode::IdempotencyConflict,
            StopError::Store(error) => return error.into(),
        };
        Problem::new(code, text).into()
    }
}

/// Stop an asset, a site or everything
///
/// Needs `"confirm": "stop"`. A stopped asset ends what it has in hand, takes no order, and goes to
/// 0 MW or what its rating allows nearest to it. Agents that are connected are told at once, the
/// others first thing at their next session. It is carried out without the store, too: `stored`
/// says whether it is there by now. A store in memory forgets it with the headend.
#[utoipa::path(post, path = "/stop", operation_id = "stop", tag = "limits",
    params(SubmitHeaders, TraceHeaders),
    request_body = NewStop,
    responses(
    (status = 202, description = "In force, and told to all agents that are connected; or made before with this key", body = Stop,
        headers(("Location" = String, description = "Path of the stop, the prefix of a mounted headend included"))),
    (status = 400, description = "`confirmation_required`, `invalid_body`, `invalid_request`, `invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_asset`, `unknown_site`", body = Problem, content_type = "application/problem+json"),
    (status = 408, description = "`request_timeout`: the body did not arrive in time", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`idempotency_conflict`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn submit(
    State(core): State<Arc<Core>>,
    caller: Caller,
    note: Note,
    OriginalUri(uri): OriginalUri,
    _: Params<NoParams>,
    headers: HeaderMap,
    Body(new): Body<NewStop>,
) -> Result<Response, Failure> {
    note.about_assets(new.asset_id, new.site_id);
    caller.check_stop(&core, &new)?;
    let key = idempotency_key(&headers)?;
    let trace = trace::of_caller(&headers);
    let stop = core.stop_assets(new, caller.0, key, trace).await?;
    let reason = stop.reason.as_deref().unwrap_or("no reason given");
    note.detail(format!("stop {}: {reason}", stop.id));
    let response = made(StatusCode::ACCEPTED, &uri, stop.id, &stop);
    Ok(trace::told(response, core.limits.trace(stop.id.uuid())))
}

/// Stops that hold, newest first
#[utoipa::path(get, path = "/stop", operation_id = "list_stops", tag = "limits", responses(
    (status = 200, description = "One per stop", body = Vec<Stop>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(core): State<Arc<Core>>,
    caller: Caller,
    _: Params<NoParams>,
) -> Json<Vec<Stop>> {
    let mut stops = core.limits.stops();
    stops.retain(|stop| caller.sees_stop(&core, stop));
    Json(stops)
}

/// One stop
#[utoipa::path(get, path = "/stop/{id}", operation_id = "get_stop", tag = "limits",
    params(("id" = String, Path, format = "uuid", description = "The stop")),
    responses(
    (status = 200, description = "The stop", body = Stop),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_stop`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Id(id): Id<StopId>,
    _: Params<NoParams>,
) -> Result<Json<Stop>, Failure> {
    let stop = core.limits.get_stop(id).await?;
    let stop = stop.filter(|stop| caller.sees_stop(&core, stop));
    stop.map(Json).ok_or_else(|| StopError::Unknown(id).into())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ResumeParams {
    /// Each asset returns after a random part of this many seconds, 0 to 86400. Default 60.
    #[param(minimum = 0, maximum = 86_400)]
    return_within_s: Option<f64>,
}

/// End a stop
///
/// Each of its assets that no other stop holds returns to its default by itself, at a random time
/// within `return_within_s`, so that a fleet does not come back in step.
#[utoipa::path(delete, path = "/stop/{id}", operation_id = "resume", tag = "limits",
    params(("id" = String, Path, format = "uuid", description = "The stop"), ResumeParams),
    responses(
    (status = 202, description = "The stop as it stands; the same when repeated", body = Stop,
        headers(("traceresponse" = String, description = "The trace of the stop"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_stop`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`: it goes on holding", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn resume(
    State(core): State<Arc<Core>>,
    caller: Caller,
    note: Note,
    Id(id): Id<StopId>,
    Params(params): Params<ResumeParams>,
) -> Result<Response, Failure> {
    note.about("stop", id);
    refuse_while_draining(&core)?;
    let within = match params.return_within_s {
        None => DEFAULT_RETURN_WITHIN,
        // Before it is rounded to a duration, which would take a little more for a day.
        Some(seconds) if (0.0..=MAX_RETURN.as_secs_f64()).contains(&seconds) => {
            Duration::from_secs_f64(seconds)
        }
        Some(_) => {
            let text = format!("return_within_s must be 0 to {}", MAX_RETURN.as_secs());
            return Err(Problem::new(ProblemCode::InvalidParameter, text).into());
        }
    };
    if !caller.is_unlimited() {
        let stop = core.limits.get_stop(id).await?;
        let stop = stop.filter(|stop| caller.sees_stop(&core, stop));
        if stop.ok_or(StopError::Unknown(id))?.scope() == StopScope::All {
            return Err(Caller::needs_all());
        }
    }
    let stop = core.resume(id, within, caller.0).await?;
    let response = (StatusCode::ACCEPTED, Json(stop)).into_response();
    Ok(trace::told(response, core.limits.trace(id.uuid())))
}

/// Columns of stops as CSV.
const COLUMNS: &[&str] = &[
    "id",
    "asset_id",
    "site_id",
    "all",
    "reason",
    "principal",
    "created_at",
    "assets",
    "reached",
    "confirmed",
    "not_obeyed",
    "ended_at",
    "ended_by",
    "return_within_s",
];

/// All stops, newest first
///
/// One that is not in the store yet is in `GET /stop` alone.
#[utoipa::path(get, path = "/stop/history", operation_id = "list_stop_history", tag = "limits", params(PageParams), responses(
    (status = 200, description = "A page", content((Page<Stop> = "application/json"), (String = "text/csv"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn history(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Params(params): Params<PageParams>,
    wanted: Wanted,
) -> Result<Response, Failure> {
    let page = core.limits.stop_history(&params.into_query()?).await?;
    let page = page.filter_map(|stop| caller.sees_stop(&core, &stop).then_some(stop));
    wanted.page(page, COLUMNS)
}
