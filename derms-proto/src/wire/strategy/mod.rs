//! Any link message that an honest peer may send, for property tests.

mod agent;
mod headend;
mod telemetry;

use std::time::Duration;

use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

pub(super) use agent::agent_message;
pub(super) use headend::headend_message;

use crate::link::{Close, LogKind};
use crate::{CloseReason, Power, Timestamp};

fn id<T: From<Uuid> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    any::<u128>().prop_map(|bits| Uuid::from_u128(bits).into())
}

fn number() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO
}

fn positive() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{NORMAL, POSITIVE, SUBNORMAL};
    POSITIVE | NORMAL | SUBNORMAL
}

fn power() -> impl Strategy<Value = Power> {
    number().prop_map(Power::from_mw)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (Timestamp::MIN.unix_micros()..=Timestamp::MAX.unix_micros())
        .prop_map(Timestamp::from_unix_micros)
}

fn duration() -> impl Strategy<Value = Duration> {
    (0..=315_576_000_000_u64, 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns))
}

/// At most 80 bytes: short enough for a name.
fn text() -> impl Strategy<Value = String> {
    ".{0,20}"
}

fn log_kind() -> impl Strategy<Value = LogKind> {
    select(vec![LogKind::Telemetry, LogKind::Report])
}

fn close() -> impl Strategy<Value = Close> {
    // Without `TransportLost`: nobody can say it.
    let reason = select(vec![
        CloseReason::Normal,
        CloseReason::Draining,
        CloseReason::Rebalance,
        CloseReason::TakenOver,
        CloseReason::DuplicateInstance,
        CloseReason::RegisterTimeout,
        CloseReason::LivenessTimeout,
        CloseReason::Internal,
        CloseReason::Overloaded,
        CloseReason::SlowConsumer,
        CloseReason::StoreUnavailable,
        CloseReason::ProtocolError,
        CloseReason::MessageTooLarge,
        CloseReason::Incompatible,
        CloseReason::Unauthenticated,
        CloseReason::Forbidden,
        CloseReason::Revoked,
        CloseReason::Unknown,
    ]);
    (reason, text(), of(duration())).prop_map(|(reason, text, retry_after)| Close {
        reason,
        text,
        retry_after,
    })
}
