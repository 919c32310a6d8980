//! States as small numbers, and names for programs as text.
//!
//! A number, once given, keeps its meaning. Statuses of orders are numbered so that the smallest
//! of its parts is the status of a site order ([`DispatchStatus::summary`]).

use derms_proto::link::{GapReason, LogKind};
use derms_proto::{
    Availability, ControlSource, DeviceStatus, DispatchStatus, EventSource, LimitStatus, Quality,
    Severity,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fault::Fault;

/// A state with a number.
pub(super) trait Code: Copy + PartialEq + Sized + 'static {
    const ALL: &'static [(Self, i64)];
    const NAME: &'static str;

    /// Its number; a state that this version has no number for is kept as the last one.
    fn code(self) -> i64 {
        let known = Self::ALL.iter().find(|(state, _)| *state == self);
        known.or(Self::ALL.last()).map_or(0, |(_, code)| *code)
    }

    fn of(code: i64) -> Result<Self, Fault> {
        let known = Self::ALL.iter().find(|(_, known)| *known == code);
        known
            .map(|(state, _)| *state)
            .ok_or_else(|| Fault::unreadable(format!("{} {code} is not known", Self::NAME)))
    }
}

macro_rules! codes {
    ($($type:ident: $name:literal => [$($state:ident = $code:literal,)*],)*) => {$(
        impl Code for $type {
            const NAME: &'static str = $name;
            const ALL: &'static [(Self, i64)] = &[$((Self::$state, $code),)*];
        }
    )*};
}

codes! {
    DispatchStatus: "the status of an order" => [
        Pending = 0,
        Sent = 1,
        Received = 2,
        Active = 3,
        Failed = 10,
        Indeterminate = 11,
        Rejected = 12,
        Expired = 13,
        Cancelled = 14,
        Superseded = 15,
        Completed = 16,
    ],
    LimitStatus: "the status of a limit" => [
        InForce = 1,
        NotObeyed = 2,
        Refused = 3,
        Expired = 10,
        Removed = 11,
        Pending = 0,
    ],
    Quality: "the quality" => [Good = 0, Estimated = 2, Bad = 3, Uncertain = 1,],
    DeviceStatus: "the status of a device" => [
        Off = 0,
        Standby = 1,
        Starting = 2,
        Running = 3,
        Curtailed = 4,
        Stopping = 5,
        Maintenance = 7,
        Fault = 6,
    ],
    Availability: "the availability" => [Available = 0, ReadOnly = 1, Unavailable = 2,],
    ControlSource: "the source of control" => [
        Default = 0,
        Setpoint = 1,
        FollowUp = 2,
        Failsafe = 3,
        Stop = 4,
    ],
    GapReason: "the reason of a gap" => [OutboxFull = 1, TooOld = 2, Corrupt = 3, Unknown = 0,],
    Severity: "the severity of an event" => [Info = 0, Warning = 1, Alarm = 2, Critical = 3,],
    EventSource: "the source of an event" => [Headend = 1, Agent = 0,],
    LogKind: "the kind of a log" => [Telemetry = 0, Report = 1,],
}

/// What serde calls it.
pub(super) fn name(value: &impl Serialize) -> Option<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => Some(name),
        _ => None,
    }
}

pub(super) fn named<T: DeserializeOwned>(name: Option<String>) -> Result<Option<T>, Fault> {
    let Some(name) = name else { return Ok(None) };
    let text = format!("`{name}` is not known");
    serde_json::from_value(serde_json::Value::String(name))
        .map(Some)
        .map_err(|_| Fault::Unreadable(text))
}

#[cfg(test)]
mod tests {
    use derms_proto::{CloseReason, ReasonCode};

    use super::*;

    #[test]
    fn every_status_has_a_number_and_the_smallest_of_its_parts_is_that_of_a_site_order() {
        for status in DispatchStatus::ALL {
            assert_eq!(DispatchStatus::of(status.code()).unwrap(), status);
            assert_eq!(status.code() >= 10, status.is_terminal());
            for other in DispatchStatus::ALL {
                let smallest = DispatchStatus::of(status.code().min(other.code())).unwrap();
                assert_eq!(DispatchStatus::summary([status, other]), Some(smallest));
            }
        }
        assert!(DispatchStatus::of(99).is_err());
    }

    #[test]
    fn numbers_are_given_once() {
        fn once<T: Code>() {
            let mut codes: Vec<i64> = T::ALL.iter().map(|(_, code)| *code).collect();
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), T::ALL.len(), "{}", T::NAME);
        }
        once::<DispatchStatus>();
        once::<LimitStatus>();
        once::<Quality>();
        once::<DeviceStatus>();
        once::<Availability>();
        once::<ControlSource>();
        once::<GapReason>();
        once::<LogKind>();
        once::<Severity>();
        once::<EventSource>();
    }

    #[test]
    fn names_are_those_of_the_api_and_a_newer_one_does_not_fail() {
        assert_eq!(
            name(&ReasonCode::NewerOrder).as_deref(),
            Some("newer_order")
        );
        let read: Option<CloseReason> = named(Some("transport_lost".to_owned())).unwrap();
        assert_eq!(read, Some(CloseReason::TransportLost));
        let newer: Option<ReasonCode> = named(Some("of_next_year".to_owned())).unwrap();
        assert_eq!(newer, Some(ReasonCode::Unknown));
        assert_eq!(named::<ReasonCode>(None).unwrap(), None);
    }
}
