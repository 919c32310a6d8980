//! What a call can fail with, by who must act.

use std::time::Duration;

use derms_proto::{Problem, ProblemCode};
use http::StatusCode;

/// A cause of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a call failed. The variant says who must act; the cause is in
/// [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller: the request can't be made as it was asked for, and was not sent.
    #[error("{reason}")]
    #[non_exhaustive]
    InvalidRequest {
        /// What is wrong and what to change.
        reason: String,
    },
    /// The network: no connection, so the headend never saw the request.
    #[error("can't connect to {base}; {}", what_to_check(base))]
    #[non_exhaustive]
    Connect {
        /// The base that the client was made with.
        base: String,
        /// Why.
        source: BoxError,
    },
    /// The network: the exchange broke off, and the headend may have acted on the request.
    #[error("the exchange with {base} broke off before the answer was complete")]
    #[non_exhaustive]
    Transport {
        /// The base that the client was made with.
        base: String,
        /// Whether the call may be made again without a second effect.
        repeatable: bool,
        /// Why.
        source: BoxError,
    },
    /// The network or the headend: no whole answer in time, and the headend may have acted on the
    /// request.
    #[error("no answer within {} s; the headend or the network is slow or stuck", limit.as_secs_f64())]
    #[non_exhaustive]
    Timeout {
        /// How long was waited.
        limit: Duration,
        /// Whether the call may be made again without a second effect.
        repeatable: bool,
    },
    /// The caller or the headend, as [`Problem::code`] tells: the headend answered with a problem.
    #[error("the headend answered {} ({}): {}", status.as_u16(), problem.title, problem.detail)]
    #[non_exhaustive]
    Api {
        /// The status of the answer.
        status: StatusCode,
        /// The body of the answer.
        problem: Box<Problem>,
        /// How long the headend asks to wait (`Retry-After`).
        retry_after: Option<Duration>,
        /// Whether the call may be made again without a second effect.
        repeatable: bool,
    },
    /// The peer: what answered does not speak as a headend does. Often a proxy, or a wrong base.
    #[error("the peer answered {} with {reason}; check that the base address is a headend", status.as_u16())]
    #[non_exhaustive]
    InvalidResponse {
        /// The status of the answer.
        status: StatusCode,
        /// What is wrong with it.
        reason: String,
        /// How long the peer asks to wait (`Retry-After`).
        retry_after: Option<Duration>,
        /// Whether the call may be made again without a second effect.
        repeatable: bool,
        /// Why it can't be read.
        source: Option<BoxError>,
    },
}

impl Error {
    pub(crate) fn invalid_request(reason: impl Into<String>) -> Self {
        Self::InvalidRequest {
            reason: reason.into(),
        }
    }

    /// The HTTP status, where there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Api { status, .. } | Self::InvalidResponse { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The stable code, where the headend answered with a problem.
    #[must_use]
    pub fn code(&self) -> Option<ProblemCode> {
        self.problem().map(|problem| problem.code)
    }

    /// The problem that the headend answered with.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Api { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// How long the answer asks to wait before another try (`Retry-After`, in seconds).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api { retry_after, .. } | Self::InvalidResponse { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Whether the same call may be made again, later, without a second effect.
    ///
    /// True for
    /// - [`Connect`](Self::Connect): nothing was sent;
    /// - a problem with status 429 or 503: the headend did nothing;
    /// - [`Transport`](Self::Transport), [`Timeout`](Self::Timeout) and an answer of any kind with
    ///   status 429, 502, 503 or 504, if the call was a read, or an order whose `Idempotency-Key`
    ///   the caller chose.
    ///
    /// False for all else, and so for an order under the key that
    /// [`Client::dispatch`](crate::Client::dispatch) made up, once its fate is unknown: another
    /// call has another key and would be another order. Look it up in
    /// [`dispatch_history`](crate::Client::dispatch_history), or choose the key with
    /// [`DispatchOptions::idempotency_key`](crate::DispatchOptions::idempotency_key).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Api { status, .. } if matches!(status.as_u16(), 429 | 503) => true,
            Self::Transport { repeatable, .. }
            | Self::Timeout { repeatable, .. }
            | Self::Api { repeatable, .. }
            | Self::InvalidResponse { repeatable, .. } => *repeatable && self.is_transient(),
            Self::InvalidRequest { .. } => false,
        }
    }

    /// Whether the same request may fare better a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Transport { .. } | Self::Timeout { .. } => true,
            Self::Api { status, .. } | Self::InvalidResponse { status, .. } => {
                matches!(status.as_u16(), 429 | 502 | 503 | 504)
            }
            Self::InvalidRequest { .. } => false,
        }
    }
}

/// A certificate that is not trusted ends a connection, too, and is told by the cause alone.
fn what_to_check(base: &str) -> &'static str {
    if base.starts_with("https:") {
        "check the address, that the headend runs, and the CA of its certificate; the cause says which"
    } else {
        "check the address and that the headend runs"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_https_a_failed_connection_may_be_the_certificate_and_says_so() {
        let text = |base: &str| {
            let source = BoxError::from("invalid peer certificate: UnknownIssuer");
            let base = base.to_owned();
            Error::Connect { base, source }.to_string()
        };
        assert!(text("https://headend.example").contains("certificate"));
        assert!(!text("http://headend.example").contains("certificate"));
    }
}
