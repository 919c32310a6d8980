//! What is counted of REST.

use std::time::Duration;

use ::http::{Method, StatusCode};
use prometheus::{HistogramVec, IntCounterVec};

use super::Make;

/// Upper bounds, seconds; a caller may ask to wait a minute (`wait_s`).
const TIMES: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// The route of a path that is not there.
pub(crate) const NO_ROUTE: &str = "none";

#[derive(Debug)]
pub(crate) struct HttpMetrics {
    requests: IntCounterVec,
    times: HistogramVec,
}

impl HttpMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        Ok(Self {
            requests: make.counters(
                "derms_http_requests_total",
                "REST requests that were answered, by method, route and status.",
                &["method", "route", "code"],
            )?,
            times: make.histograms(
                "derms_http_request_duration_seconds",
                "From the head of a REST request to the head of its answer.",
                &["route"],
                &TIMES,
            )?,
        })
    }

    /// A request was answered. `route` is a template, never what the caller wrote.
    pub(crate) fn answered(&self, method: &Method, route: &str, code: StatusCode, took: Duration) {
        let labels = [known(method), route, code.as_str()];
        self.requests.with_label_values(&labels).inc();
        let times = self.times.with_label_values(&[route]);
        times.observe(took.as_secs_f64());
    }
}

/// A caller may send any word as a method: those would be as many series.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
