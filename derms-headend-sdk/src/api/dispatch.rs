//! `/dispatch`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use derms_proto::{
    AssetId, Cursor, Dispatch, DispatchId, DispatchStatus, NewDispatch, Page, Problem, ProblemCode,
    SiteId, Timestamp,
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::caller::Caller;
use super::change::{made, refuse_while_draining};
use super::extract::{Body, Id, NoParams, Params, page};
use super::listing::Wanted;
use super::problem::Failure;
use super::rates::Turn;
use super::record::Note;
use super::trace;
use crate::core::Core;
use crate::dispatcher::is_answered;
use crate::store::DispatchQuery;

/// Longest wait for an answer.
const MAX_WAIT_S: f64 = 60.0;
const MAX_KEY: usize = 255;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SubmitParams {
    /// Answers when every agent has said yes or no, or after this many seconds. 0 to 60, default 0.
    #[param(minimum = 0, maximum = 60)]
    wait_s: Option<f64>,
}

/// Documented here, read in [`idempotency_key`].
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is only described")]
pub(super) struct SubmitHeaders {
    /// The same key and body give the same answer, another body a conflict. 1 to 255 visible
    /// ASCII characters; keys of different principals do not meet.
    #[param(rename = "Idempotency-Key", value_type = String, required = false, min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    idempotency_key: Option<String>,
}

/// Documented here, read in [`trace::of_caller`].
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is only described")]
pub(super) struct TraceHeaders {
    /// W3C Trace Context: what the call is a part of. One that can't be read counts as absent.
    #[param(value_type = String, required = false)]
    traceparent: Option<String>,
}

/// Order a power
///
/// The answer is `sent` or, for an asset that is offline, `pending`; with `wait_s` usually `active`
/// or how it ended. A site order is split over the site's assets that are online and available. An
/// order with `start_at` goes to the agent ahead and is `received` until its time.
#[utoipa::path(post, path = "/dispatch", operation_id = "submit_dispatch", tag = "dispatch",
    params(SubmitParams, SubmitHeaders, TraceHeaders),
    request_body = NewDispatch,
    responses(
    (status = 202, description = "Taken, or taken before with this key", body = Dispatch,
        headers(("Location" = String, description = "Path of the dispatch, the prefix of a mounted headend included"),
            ("traceresponse" = String, description = "The trace of the order, as in the logs of headend and agent: `00-<trace id>-<span id>-<flags>`"))),
    (status = 400, description = "`invalid_body`, `invalid_request`, `invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_asset`, `unknown_site`", body = Problem, content_type = "application/problem+json"),
    (status = 408, description = "`request_timeout`: the body did not arrive in time", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`site_offline`, `stopped`, `idempotency_conflict`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`out_of_range`, with the limits; `power_guard`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`power_rate`, `too_many_requests`; `Retry-After` tells when to try again", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`: not in force, but ask again with the same key to be sure; `draining`: nothing was done", body = Problem, content_type = "application/problem+json"),
))]
#[allow(clippy::too_many_arguments, reason = "each is a part of the request")]
pub(super) async fn submit(
    State(core): State<Arc<Core>>,
    caller: Caller,
    note: Note,
    turn: Turn,
    OriginalUri(uri): OriginalUri,
    Params(params): Params<SubmitParams>,
    headers: HeaderMap,
    Body(new): Body<NewDispatch>,
) -> Result<Response, Failure> {
    note.about_assets(new.asset_id, new.site_id);
    note.detail(new.mw.to_string());
    let wait = seconds_to_wait(params.wait_s)?;
    refuse_while_draining(&core)?;
    let key = idempotency_key(&headers)?;
    caller.check_order(&core, &new)?;
    let until = Instant::now() + wait;
    let changes = core.dispatcher.changes();
    let mut dispatch = core
        .submit(new, caller.0, key, trace::of_caller(&headers))
        .await?
        .dispatch;
    note.detail(format!("dispatch {}: {}", dispatch.id, dispatch.mw));
    if wait > Duration::ZERO {
        turn.end();
        let waited = tokio::select! {
            waited = core.dispatcher.wait(dispatch.id, changes, until, is_answered) => waited,
            () = core.drain.cancelled() => core.dispatcher.dispatch(dispatch.id).await,
        };
        // The order is taken whatever happens to the wait.
        if let Ok(Some(answered)) = waited {
            dispatch = answered;
        }
    }
    core.limits.annotate(&mut dispatch);
    let response = made(StatusCode::ACCEPTED, &uri, dispatch.id, &dispatch);
    Ok(trace::told(response, core.dispatcher.trace(&dispatch)))
}

/// The parameter `wait_s`.
pub(super) fn seconds_to_wait(wait_s: Option<f64>) -> Result<Duration, Failure> {
    let wait = wait_s.unwrap_or(0.0);
    if !(0.0..=MAX_WAIT_S).contains(&wait) {
        let text = format!("wait_s must be 0 to {MAX_WAIT_S}");
        return Err(Problem::new(ProblemCode::InvalidParameter, text).into());
    }
    Ok(Duration::from_secs_f64(wait))
}

pub(super) fn unknown(id: DispatchId) -> Failure {
    let text = format!("no dispatch {id}; see GET /dispatch/history");
    Problem::new(ProblemCode::UnknownDispatch, text).into()
}

/// The header `Idempotency-Key`.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let valid = |key: &&str| {
        (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let key = value
        .to_str()
        .ok()
        .filter(valid)
        .filter(|_| values.next().is_none());
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        let text = format!("send one idempotency-key of 1 to {MAX_KEY} visible ASCII characters");
        Problem::new(ProblemCode::InvalidParameter, text).into()
    })
}

/// One order with every step so far
#[utoipa::path(get, path = "/dispatch/{id}", operation_id = "get_dispatch", tag = "dispatch",
    params(("id" = String, Path, format = "uuid", description = "The dispatch")),
    responses(
    (status = 200, description = "The order", body = Dispatch),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_dispatch`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Id(id): Id<DispatchId>,
    _: Params<NoParams>,
) -> Result<Json<Dispatch>, Failure> {
    let dispatch = core.dispatcher.dispatch(id).await?;
    let mut dispatch = dispatch.filter(|it| caller.sees_dispatch(&core, it));
    if let Some(dispatch) = &mut dispatch {
        core.limits.annotate(dispatch);
        core.following.mark(dispatch);
    }
    dispatch.map(Json).ok_or_else(|| unknown(id))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryParams {
    /// Of this asset, its shares of site orders included.
    #[param(value_type = Option<String>, format = "uuid")]
    asset_id: Option<AssetId>,
    /// Of this site and its assets.
    #[param(value_type = Option<String>, format = "uuid")]
    site_id: Option<SiteId>,
    /// With this status.
    #[param(inline)]
    status: Option<DispatchStatus>,
    /// Not committed before this.
    from: Option<Timestamp>,
    /// Committed before this.
    to: Option<Timestamp>,
    /// Most items, 1 to 1000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Columns of orders as CSV; the shares of a site order are in its `children` in JSON alone.
const COLUMNS: &[&str] = &[
    "id",
    "asset_id",
    "site_id",
    "mw",
    "duration_s",
    "ttl_s",
    "revision",
    "status",
    "in_doubt",
    "reason",
    "text",
    "applied_mw",
    "created_at",
    "expires_at",
    "principal",
    "cancel_requested_at",
    "cancelled_by",
    "start_at",
    "ramp_mw_per_min",
    "follow_up",
];

/// Orders, newest first; the shares of a site order stand under it
#[utoipa::path(get, path = "/dispatch/history", operation_id = "list_dispatches", tag = "dispatch", params(HistoryParams), responses(
    (status = 200, description = "A page", content((Page<Dispatch> = "application/json"), (String = "text/csv"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn history(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Params(params): Params<HistoryParams>,
    wanted: Wanted,
) -> Result<Response, Failure> {
    if params.status == Some(DispatchStatus::Unknown) {
        let text = "status is none that an order can have; see the document of the API";
        return Err(Problem::new(ProblemCode::InvalidParameter, text).into());
    }
    let query = DispatchQuery {
        asset: params.asset_id,
        site: params.site_id,
        status: params.status,
        page: page(params.from, params.to, params.limit, params.cursor)?,
    };
    if !caller.sees_filter(&core, query.asset, query.site) {
        return wanted.page(Page::<Dispatch>::default(), COLUMNS);
    }
    let page = core.dispatcher.dispatches(&query).await?;
    let page = page.filter_map(|mut dispatch| {
        core.limits.annotate(&mut dispatch);
        caller.sees_dispatch(&core, &dispatch).then_some(dispatch)
    });
    wanted.page(page, COLUMNS)
}
