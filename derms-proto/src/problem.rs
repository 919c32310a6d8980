//! Errors of the REST interface, RFC 9457.

use serde::{Deserialize, Serialize};

use crate::{AssetId, Power};

/// The body of every REST error, `application/problem+json`.
///
/// `code` is stable and for programs; `title` and `detail` are for people and may change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Always `about:blank`: `code` tells the kinds apart.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The kind of problem, the same for each occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time and what to do.
    pub detail: String,
    /// Stable and machine-readable.
    pub code: ProblemCode,
    /// The limits that were broken, with `out_of_range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ProblemLimits>,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

/// The range that a setpoint must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ProblemLimits {
    /// The asset whose limits they are.
    pub asset_id: AssetId,
    /// Lowest allowed, MW, + = export.
    pub min_mw: Power,
    /// Highest allowed, MW, + = export.
    pub max_mw: Power,
}

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemCode {
    /// 400: the body is not JSON, or not of this form.
    InvalidBody,
    /// 400: a path or query parameter cannot be read.
    InvalidParameter,
    /// 400: the request contradicts itself or lacks something.
    InvalidRequest,
    /// 400: the request is of consequence and does not say that it is meant.
    ConfirmationRequired,
    /// 401: no credentials, or wrong ones.
    Unauthenticated,
    /// 403: not allowed for this principal.
    Forbidden,
    /// 404: no such path.
    NotFound,
    /// 404: no such asset.
    UnknownAsset,
    /// 404: no such site.
    UnknownSite,
    /// 404: no such dispatch.
    UnknownDispatch,
    /// 404: no such limit.
    UnknownLimit,
    /// 404: no such stop.
    UnknownStop,
    /// 404: no such event.
    UnknownEvent,
    /// 404: the asset has never reported.
    NoTelemetry,
    /// 404: the asset's agent has never sent a heartbeat.
    NoHeartbeat,
    /// 405: the path does not know this method.
    MethodNotAllowed,
    /// 408: the request took too long to arrive.
    RequestTimeout,
    /// 409: no asset of the site is online, so there is nothing to split the order over.
    SiteOffline,
    /// 409: the same `Idempotency-Key` was used with another body.
    IdempotencyConflict,
    /// 409: the dispatch has ended and can't be cancelled.
    AlreadyEnded,
    /// 409: limits in force leave no power between them and the new one.
    LimitConflict,
    /// 409: as many limits are in force for the asset as it can have.
    TooManyLimits,
    /// 409: the asset is stopped and takes no order.
    Stopped,
    /// 413: the body is larger than 64 KiB.
    BodyTooLarge,
    /// 415: the content type is not `application/json`.
    UnsupportedMediaType,
    /// 422: outside the limits of the asset; `limits` tells them.
    OutOfRange,
    /// 422: more power than one order may ask for here.
    PowerGuard,
    /// 429: slow down.
    TooManyRequests,
    /// 429: more power than may be ordered in a minute here.
    PowerRate,
    /// 503: the store can't be reached; try again, an order with the same `Idempotency-Key`.
    StoreUnavailable,
    /// 503: the headend is shutting down.
    Draining,
    /// 500: a fault of the headend; its log tells more.
    Internal,
    /// Sent by a newer headend than this type knows.
    #[serde(other)]
    Unknown,
}

impl Problem {
    /// A problem with the status and title of its code.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let (status, title) = code.status_and_title();
        Self {
            kind: about_blank(),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            code,
            limits: None,
        }
    }

    /// Adds the limits that were broken.
    #[must_use]
    pub fn with_limits(mut self, limits: ProblemLimits) -> Self {
        self.limits = Some(limits);
        self
    }
}

impl ProblemCode {
    /// The HTTP status that goes with this code.
    #[must_use]
    pub fn status(self) -> u16 {
        self.status_and_title().0
    }

    fn status_and_title(self) -> (u16, &'static str) {
        match self {
            Self::InvalidBody => (400, "invalid body"),
            Self::InvalidParameter => (400, "invalid parameter"),
            Self::InvalidRequest => (400, "invalid request"),
            Self::ConfirmationRequired => (400, "confirmation required"),
            Self::Unauthenticated => (401, "unauthenticated"),
            Self::Forbidden => (403, "forbidden"),
            Self::NotFound => (404, "no such path"),
            Self::UnknownAsset => (404, "no such asset"),
            Self::UnknownSite => (404, "no such site"),
            Self::UnknownDispatch => (404, "no such dispatch"),
            Self::UnknownLimit => (404, "no such limit"),
            Self::UnknownStop => (404, "no such stop"),
            Self::UnknownEvent => (404, "no such event"),
            Self::NoTelemetry => (404, "no telemetry yet"),
            Self::NoHeartbeat => (404, "no heartbeat yet"),
            Self::MethodNotAllowed => (405, "method not allowed"),
            Self::RequestTimeout => (408, "request timeout"),
            Self::SiteOffline => (409, "site offline"),
            Self::IdempotencyConflict => (409, "idempotency conflict"),
            Self::AlreadyEnded => (409, "already ended"),
            Self::LimitConflict => (409, "limit conflict"),
            Self::TooManyLimits => (409, "too many limits"),
            Self::Stopped => (409, "stopped"),
            Self::BodyTooLarge => (413, "body too large"),
            Self::UnsupportedMediaType => (415, "unsupported media type"),
            Self::OutOfRange => (422, "out of range"),
            Self::PowerGuard => (422, "more power than one order may ask for"),
            Self::TooManyRequests => (429, "too many requests"),
            Self::PowerRate => (429, "more power than may be ordered in a minute"),
            Self::StoreUnavailable => (503, "store unavailable"),
            Self::Draining => (503, "draining"),
            Self::Internal | Self::Unknown => (500, "internal error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_back_as_it_was_written() {
        let problem = Problem::new(ProblemCode::UnknownAsset, "no asset x");
        let json = serde_json::to_string(&problem).unwrap();
        assert!(json.contains(r#""code":"unknown_asset""#));
        assert!(json.contains(r#""type":"about:blank""#));
        assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), problem);
    }

    #[test]
    fn a_code_of_a_newer_headend_is_unknown_and_no_error() {
        let json = r#"{"title":"t","status":418,"detail":"d","code":"teapot"}"#;
        let problem: Problem = serde_json::from_str(json).unwrap();
        assert_eq!(problem.code, ProblemCode::Unknown);
        assert_eq!(problem.status, 418);
    }
}
