//! Values that go into a statement, the same for every database.

use derms_proto::{
    AgentId, AssetId, AuditId, DispatchId, EventId, InstanceId, LimitId, LogId, Power, SiteId,
    StopId, Timestamp,
};
use uuid::Uuid;

/// An argument of a statement; `None` is null. Each variant is a type of column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Int(Option<i64>),
    Real(Option<f64>),
    Flag(bool),
    Text(Option<String>),
    Uuid(Option<Uuid>),
    /// For `= any(..)`.
    #[cfg(feature = "postgres")]
    Uuids(Vec<Uuid>),
    Time(Option<Timestamp>),
    Json(Option<serde_json::Value>),
}

/// A counter in a signed column. No honest one comes near the end of it; one that is made up must
/// not make a call fail, for that would hold up everybody.
pub(super) fn counter(value: u64) -> Value {
    Value::Int(Some(saturated(value)))
}

pub(super) fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

macro_rules! from {
    ($($type:ty => $variant:ident($value:ident) $with:expr,)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                Self::$variant(Some($with))
            }
        }

        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map(|$value| $with))
            }
        }
    )*};
}

from! {
    i64 => Int(value) value,
    f64 => Real(value) value,
    Power => Real(value) value.mw(),
    String => Text(value) value,
    &str => Text(value) value.to_owned(),
    Uuid => Uuid(value) value,
    AgentId => Uuid(value) value.uuid(),
    AssetId => Uuid(value) value.uuid(),
    AuditId => Uuid(value) value.uuid(),
    DispatchId => Uuid(value) value.uuid(),
    EventId => Uuid(value) value.uuid(),
    InstanceId => Uuid(value) value.uuid(),
    LimitId => Uuid(value) value.uuid(),
    LogId => Uuid(value) value.uuid(),
    SiteId => Uuid(value) value.uuid(),
    StopId => Uuid(value) value.uuid(),
    Timestamp => Time(value) value,
    serde_json::Value => Json(value) value,
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

/// The same text as PostgreSQL can keep it: it has no NUL, in JSON neither.
#[cfg(feature = "postgres")]
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_no_column_can_hold_stops_at_its_end() {
        assert_eq!(counter(7), Value::Int(Some(7)));
        assert_eq!(counter(u64::MAX), Value::Int(Some(i64::MAX)));
    }
}
