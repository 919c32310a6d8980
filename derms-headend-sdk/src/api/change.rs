//! What all calls that change something have in common.

use std::fmt::Display;

use axum::Json;
use axum::response::{IntoResponse, Response};
use derms_proto::{Problem, ProblemCode};
use http::{HeaderValue, StatusCode, Uri, header};
use serde::Serialize;

use super::problem::Failure;
use crate::core::Core;

pub(super) fn refuse_while_draining(core: &Core) -> Result<(), Failure> {
    if core.drain.is_cancelled() {
        let text = "the headend is shutting down; nothing was done";
        return Err(Problem::new(ProblemCode::Draining, text).into());
    }
    Ok(())
}

/// The answer to a call that has made something, with where it can be read.
pub(super) fn made(
    status: StatusCode,
    uri: &Uri,
    id: impl Display,
    it: &impl Serialize,
) -> Response {
    let mut response = (status, Json(it)).into_response();
    // As the caller wrote it: the service may be mounted under a prefix.
    if let Ok(location) = HeaderValue::try_from(format!("{}/{id}", uri.path())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
