//! `DELETE /dispatch/{id}`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use derms_proto::{Dispatch, DispatchId, DispatchStatus, Problem};
use http::StatusCode;
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::caller::Caller;
use super::change::refuse_while_draining;
use super::dispatch::{seconds_to_wait, unknown};
use super::extract::{Id, Params};
use super::problem::Failure;
use super::rates::Turn;
use super::record::Note;
use super::trace;
use crate::core::Core;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CancelParams {
    /// Answers when every agent has said that it ended, or after this many seconds. 0 to 60,
    /// default 0.
    #[param(minimum = 0, maximum = 60)]
    wait_s: Option<f64>,
}

/// End an order
///
/// What was never sent is `cancelled` at once and never sent. What was sent is ended by its agent:
/// the asset goes to its default, and the status changes when the agent has said so; an agent that
/// is offline is told as soon as it is back. Until then `cancel_requested_at` shows that it was asked
/// for. A site order ends with each of its shares. Asked again, or of what has ended, it does
/// nothing.
///
/// While the store can't be reached, what is on its way or in force is ended all the same; `text`
/// then says that this is not stored yet.
#[utoipa::path(delete, path = "/dispatch/{id}", operation_id = "cancel_dispatch", tag = "dispatch",
    params(("id" = String, Path, format = "uuid", description = "The dispatch"), CancelParams),
    responses(
    (status = 200, description = "It has ended", body = Dispatch),
    (status = 202, description = "Its agent is asked to end it", body = Dispatch),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_dispatch`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`: nothing was sent, ask again; `draining`: nothing was done", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn cancel(
    State(core): State<Arc<Core>>,
    caller: Caller,
    note: Note,
    turn: Turn,
    Id(id): Id<DispatchId>,
    Params(params): Params<CancelParams>,
) -> Result<Response, Failure> {
    note.about("dispatch", id);
    let wait = seconds_to_wait(params.wait_s)?;
    refuse_while_draining(&core)?;
    let until = Instant::now() + wait;
    let changes = core.dispatcher.changes();
    if !caller.is_unlimited() {
        let order = core.dispatcher.newest(id).await?;
        order
            .filter(|order| caller.sees_dispatch(&core, order))
            .ok_or_else(|| unknown(id))?;
    }
    let cancelled = core.cancel(id, caller.0).await?;
    let mut dispatch = cancelled.ok_or_else(|| unknown(id))?;
    if wait > Duration::ZERO && !dispatch.status.is_terminal() {
        turn.end();
        let ended = DispatchStatus::is_terminal;
        let waited = tokio::select! {
            waited = core.dispatcher.wait(id, changes, until, ended) => waited,
            () = core.drain.cancelled() => core.dispatcher.dispatch(id).await,
        };
        // It is asked for whatever happens to the wait.
        if let Ok(Some(now)) = waited {
            dispatch = now;
        }
    }
    let status = if dispatch.status.is_terminal() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let order = core.dispatcher.trace(&dispatch);
    Ok(trace::told((status, Json(dispatch)).into_response(), order))
}
