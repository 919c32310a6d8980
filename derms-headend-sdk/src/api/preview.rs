//! `POST /dispatch/preview`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use derms_proto::{DispatchPreview, NewDispatch, Problem};

use super::caller::Caller;
use super::extract::{Body, NoParams, Params};
use super::problem::Failure;
use crate::core::Core;

/// What an order would do
///
/// The same body, checks and split as ordering it; nothing is stored or sent. Another moment may
/// bring another answer: agents come and go.
#[utoipa::path(post, path = "/dispatch/preview", operation_id = "preview_dispatch", tag = "dispatch",
    request_body = NewDispatch,
    responses(
    (status = 200, description = "It would be taken", body = DispatchPreview),
    (status = 400, description = "`invalid_body`, `invalid_request`, `invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_asset`, `unknown_site`", body = Problem, content_type = "application/problem+json"),
    (status = 408, description = "`request_timeout`: the body did not arrive in time", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`site_offline`, `stopped`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`out_of_range`, with the limits; `power_guard`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn preview(
    State(core): State<Arc<Core>>,
    caller: Caller,
    _: Params<NoParams>,
    Body(new): Body<NewDispatch>,
) -> Result<Json<DispatchPreview>, Failure> {
    caller.check_order(&core, &new)?;
    Ok(Json(core.dispatcher.preview(&new).await?))
}
