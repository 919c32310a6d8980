//! The trace of an order: taken from the caller, and told.

use axum::response::Response;
use derms_proto::Traceparent;
use http::{HeaderMap, HeaderValue};

/// What a call is a part of. Of several, none counts (W3C Trace Context, 3.2).
pub(super) fn of_caller(headers: &HeaderMap) -> Option<Traceparent> {
    let mut values = headers.get_all("traceparent").iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    Traceparent::parse(only.to_str().ok()?)
}

/// The answer with the trace of the order that it is about, so that it can be quoted:
/// `traceresponse` is the header for it in the W3C's draft of level 3; `traceparent` is for requests.
pub(super) fn told(mut response: Response, trace: Option<Traceparent>) -> Response {
    let value = trace.and_then(|trace| HeaderValue::try_from(trace.to_string()).ok());
    if let Some(value) = value {
        response.headers_mut().insert("traceresponse", value);
    }
    response
}
