//! Enums. Each says what an unspecified (0) and an unknown (`Err`) value of the wire means.

use crate::link::{
    GapReason, GrantStatus, LimitPhase, LogKind, RefusalCode, SetpointPhase, Severity,
};
use crate::{
    AssetKind, Availability, CloseReason, ControlSource, DeviceStatus, Quality, ReasonCode, pb,
};

/// Both directions of one enum, for the values that both sides have.
macro_rules! word {
    (
        $word:ident { $($name:ident),* $(,)? }
        in $read:ident -> $read_as:ty { $some:path, unspecified: $zero:expr, unknown: $unknown:expr }
        out $write:ident { $($local:ident => $sent:ident),* $(,)? }
    ) => {
        pub(super) fn $read(value: i32) -> $read_as {
            match pb::$word::try_from(value) {
                $(Ok(pb::$word::$name) => $some($word::$name),)*
                Ok(pb::$word::Unspecified) => $zero,
                Err(_) => $unknown,
            }
        }

        pub(super) fn $write(word: $word) -> i32 {
            match word {
                $($word::$name => pb::$word::$name,)*
                $($word::$local => pb::$word::$sent,)*
            }
            .into()
        }
    };
}

use std::convert::identity as itself;

word! {
    AssetKind { Battery, Pv, Wind, EvCharger, Meter, Genset, Other }
    in asset_kind -> AssetKind {
        itself, unspecified: AssetKind::Other, unknown: AssetKind::Other
    }
    out asset_kind_out {}
}

word! {
    Availability { Available, ReadOnly, Unavailable }
    in availability -> Availability {
        itself, unspecified: Availability::Available, unknown: Availability::Available
    }
    out availability_out { Unknown => Unavailable }
}

word! {
    ControlSource { Default, Setpoint, FollowUp, Failsafe, Stop }
    in control_source -> Option<ControlSource> { Some, unspecified: None, unknown: None }
    out control_source_out { Unknown => Unspecified }
}

word! {
    Quality { Good, Uncertain, Estimated, Bad }
    in quality -> Quality {
        itself, unspecified: Quality::Good, unknown: Quality::Uncertain
    }
    out quality_out { Unknown => Uncertain }
}

word! {
    DeviceStatus { Off, Standby, Starting, Running, Curtailed, Stopping, Fault, Maintenance }
    in device_status -> Option<DeviceStatus> { Some, unspecified: None, unknown: None }
    out device_status_out { Unknown => Unspecified }
}

word! {
    Severity { Info, Warning, Alarm, Critical }
    in severity -> Severity {
        itself, unspecified: Severity::Info, unknown: Severity::Warning
    }
    out severity_out { Unknown => Warning }
}

word! {
    SetpointPhase {
        Received, Started, Completed, Superseded, Released, Rejected, Expired, Failed,
    }
    in setpoint_phase -> Option<SetpointPhase> { Some, unspecified: None, unknown: None }
    out setpoint_phase_out {}
}

word! {
    ReasonCode {
        DeadlinePassed, NotGranted, StaleRevision, OutOfRange, ClockUnsure, ReportLogFull,
        DeviceError, DeviceTimeout, DeviceUnavailable, Unsupported, Interrupted, NewerOrder,
        CancelledByOperator, TtlElapsed, ReportLogLost, NoReport, StorageFailed, Failsafe, Stopped,
        TooManyWaiting, Malformed,
    }
    in reason_code -> Option<ReasonCode> {
        Some, unspecified: None, unknown: Some(ReasonCode::Unknown)
    }
    out reason_code_out { Unknown => Unspecified }
}

word! {
    LimitPhase { InForce, Refused, NotObeyed }
    in limit_phase -> Option<LimitPhase> { Some, unspecified: None, unknown: None }
    out limit_phase_out {}
}

word! {
    GapReason { OutboxFull, TooOld, Corrupt }
    in gap_reason -> GapReason {
        itself, unspecified: GapReason::Unknown, unknown: GapReason::Unknown
    }
    out gap_reason_out { Unknown => Unspecified }
}

word! {
    GrantStatus { Granted, UnknownAsset, Forbidden, ServedElsewhere, Invalid, TooMany }
    in grant_status -> GrantStatus {
        itself, unspecified: GrantStatus::Unknown, unknown: GrantStatus::Unknown
    }
    out grant_status_out { Unknown => Unspecified }
}

word! {
    RefusalCode { NotGranted, Invalid }
    in refusal_code -> RefusalCode {
        itself, unspecified: RefusalCode::Unknown, unknown: RefusalCode::Unknown
    }
    out refusal_code_out { Unknown => Unspecified }
}

word! {
    CloseReason {
        Normal, Draining, Rebalance, TakenOver, DuplicateInstance, RegisterTimeout,
        LivenessTimeout, Internal, Overloaded, SlowConsumer, StoreUnavailable, ProtocolError,
        MessageTooLarge, Incompatible, Unauthenticated, Forbidden, Revoked,
    }
    in close_reason -> CloseReason {
        itself, unspecified: CloseReason::Unknown, unknown: CloseReason::Unknown
    }
    // A lost transport is what one side notes about the other; nobody can say it.
    out close_reason_out { TransportLost => Unspecified, Unknown => Unspecified }
}

/// The kind of a log, as far as this version knows it.
pub(super) enum LogKindRead {
    Known(LogKind),
    Unspecified,
    Unknown,
}

word! {
    LogKind { Telemetry, Report }
    in log_kind -> LogKindRead {
        LogKindRead::Known, unspecified: LogKindRead::Unspecified, unknown: LogKindRead::Unknown
    }
    out log_kind_out {}
}
