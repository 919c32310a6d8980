//! Headers that tell browsers and caches what they may do.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

use crate::peer::Encrypted;

/// Of every answer, unless it says otherwise itself.
const ALWAYS: [(HeaderName, &str); 5] = [
    // What is true now may not be in a second: caches on the way must not keep it.
    (header::CACHE_CONTROL, "no-store"),
    // JSON and CSV are for programs: a browser that shows them runs nothing of them.
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// A year.
const TRANSPORT: &str = "max-age=31536000";

pub(super) async fn headers(request: Request, next: Next) -> Response {
    let encrypted = request.extensions().get::<Encrypted>().is_some();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if encrypted {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static(TRANSPORT),
        );
    }
    response
}

/// For pages from these origins; they were checked to be such.
pub(super) fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok())
        .collect();
    if origins.is_empty() {
        return None;
    }
    let sent = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::ACCEPT,
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("last-event-id"),
    ];
    let read = [
        header::LOCATION,
        header::LINK,
        header::RETRY_AFTER,
        header::WWW_AUTHENTICATE,
        HeaderName::from_static("traceresponse"),
    ];
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            .allow_headers(sent)
            .expose_headers(read)
            .max_age(Duration::from_secs(600)),
    )
}
