//! `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use crate::core::Core;
use crate::metrics::CONTENT_TYPE;

/// What the headend counts, as Prometheus reads it
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "service", responses(
    (status = 200, description = "Text format 0.0.4, whatever is asked for; docs/metrics.md has every name", body = String, content_type = "text/plain"),
))]
pub(super) async fn metrics(State(core): State<Arc<Core>>) -> Response {
    let mut response = core.metrics.text(&core).await.into_response();
    let text = HeaderValue::from_static(CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
