//! Words of REST as text: what a log line or a message says is what JSON says.

use std::fmt;

use serde::Serialize as _;

use crate::{
    CloseReason, DispatchStatus, EventSource, LimitStatus, ProblemCode, ReasonCode, Severity,
};

macro_rules! shown {
    ($($word:ident),*) => {$(
        /// As in JSON: lower case with underscores.
        impl fmt::Display for $word {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        }
    )*};
}

shown!(
    CloseReason,
    DispatchStatus,
    EventSource,
    LimitStatus,
    ProblemCode,
    ReasonCode,
    Severity
);

#[cfg(feature = "grpc")]
mod of_the_link {
    use super::fmt;
    use crate::link::{GrantStatus, LimitPhase, SetpointPhase};

    macro_rules! shown {
        ($($word:ident { $($name:ident => $text:literal),* })*) => {$(
            /// Lower case with underscores.
            impl fmt::Display for $word {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(match self { $($word::$name => $text),* })
                }
            }
        )*};
    }

    shown! {
        SetpointPhase {
            Received => "received", Started => "started", Completed => "completed",
            Superseded => "superseded", Released => "released", Rejected => "rejected",
            Expired => "expired", Failed => "failed"
        }
        LimitPhase { InForce => "in_force", Refused => "refused", NotObeyed => "not_obeyed" }
        GrantStatus {
            Granted => "granted", UnknownAsset => "unknown_asset", Forbidden => "forbidden",
            ServedElsewhere => "served_elsewhere", Invalid => "invalid", TooMany => "too_many",
            Unknown => "unknown"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_shown_as_json_has_it() {
        assert_eq!(CloseReason::TakenOver.to_string(), "taken_over");
        assert_eq!(DispatchStatus::Active.to_string(), "active");
        assert_eq!(ReasonCode::OutOfRange.to_string(), "out_of_range");
        assert_eq!(
            ProblemCode::StoreUnavailable.to_string(),
            "store_unavailable"
        );
    }
}
