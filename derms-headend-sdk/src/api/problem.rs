//! Failures as problem bodies, RFC 9457.

use axum::response::{IntoResponse, Response};
use derms_proto::{Problem, ProblemCode};
use http::{HeaderValue, StatusCode, header};

use crate::dispatcher::DispatchError;
use crate::store::StoreError;

/// A failure of a handler, on its way out. What a caller must not see has been logged.
#[derive(Debug)]
pub(crate) struct Failure(Box<Problem>);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InvalidCursor => {
                Problem::new(ProblemCode::InvalidParameter, error.to_string()).into()
            }
            StoreError::Unavailable { .. } => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a request found no store"
                );
                let text = "the store can't be reached now; try again, an order with the same idempotency-key";
                Problem::new(ProblemCode::StoreUnavailable, text).into()
            }
            StoreError::Corrupt { .. } => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a request found a broken store"
                );
                Problem::new(ProblemCode::Internal, "the log of the headend tells more").into()
            }
        }
    }
}

impl From<DispatchError> for Failure {
    fn from(error: DispatchError) -> Self {
        let text = error.to_string();
        let code = match error {
            DispatchError::Invalid(_) => ProblemCode::InvalidRequest,
            DispatchError::UnknownAsset(_) => ProblemCode::UnknownAsset,
            DispatchError::UnknownSite(_) => ProblemCode::UnknownSite,
            DispatchError::SiteOffline(_) => ProblemCode::SiteOffline,
            DispatchError::Stopped(_) | DispatchError::SiteStopped(_) => ProblemCode::Stopped,
            DispatchError::IdempotencyConflict => ProblemCode::IdempotencyConflict,
            DispatchError::OutOfRange { limits, .. } => {
                return Problem::new(ProblemCode::OutOfRange, text)
                    .with_limits(limits)
                    .into();
            }
            DispatchError::Store(error) => return error.into(),
        };
        Problem::new(code, text).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(*self.0)).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    }
}
