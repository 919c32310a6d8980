//! Failures as problem bodies, RFC 9457.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use derms_proto::{Problem, ProblemCode};
use http::{HeaderValue, StatusCode, header};

use crate::dispatcher::DispatchError;
use crate::store::StoreError;

/// A failure of a handler, on its way out. What a caller must not see has been logged.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    problem: Box<Problem>,
    /// When the same may work, if that is known.
    retry_after: Option<Duration>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            problem: Box::new(problem),
            retry_after: None,
        }
    }
}

impl Failure {
    pub(super) fn retry_after(self, delay: Duration) -> Self {
        Self {
            retry_after: Some(delay),
            ..self
        }
    }
}

/// What a failure told its caller, for the audit trail, as an extension of the response.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) code: ProblemCode,
    pub(super) detail: String,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InvalidCursor => {
                Problem::new(ProblemCode::InvalidParameter, error.to_string()).into()
            }
            StoreError::TakenOver => {
                let text = "another headend has taken the store over; ask that one";
                Problem::new(ProblemCode::StoreUnavailable, text).into()
            }
            StoreError::Unavailable { .. } => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a request found no store"
                );
                let text = "the store can't be reached or takes nothing now; try again, an order with the same idempotency-key";
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
            DispatchError::OverGuard { .. } => ProblemCode::PowerGuard,
            DispatchError::OverRate { retry_after, .. } => {
                let problem = Problem::new(ProblemCode::PowerRate, text);
                return Failure::from(problem).retry_after(retry_after);
            }
            DispatchError::Store(error) => return error.into(),
        };
        Problem::new(code, text).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = *self.problem;
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let told = Told {
            code: problem.code,
            detail: problem.detail.clone(),
        };
        let mut response = (status, axum::Json(problem)).into_response();
        response.extensions_mut().insert(told);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(delay) = self.retry_after {
            // Whole seconds, and never too soon.
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
