//! Ids, times, durations, numbers and texts.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use uuid::Uuid;

use super::MAX_ITEMS;
use crate::link::{MAX_SEQ, Refusal, WireError};
use crate::{InvalidId, Power, Timestamp};

/// The longest duration of the protobuf type, about 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;

/// A field that can't be read; what that costs is for the caller to say.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) field: &'static str,
    pub(super) problem: String,
}

impl Fault {
    pub(super) fn new(field: &'static str, problem: impl Display) -> Self {
        Self {
            field,
            problem: problem.to_string(),
        }
    }

    pub(super) fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }

    pub(super) fn of(self, message: &'static str) -> WireError {
        WireError {
            message,
            field: self.field,
            problem: self.problem,
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self {
            field: fault.field.to_owned(),
            problem: fault.problem,
        }
    }
}

pub(super) fn id<T: FromStr<Err = InvalidId>>(field: &'static str, text: &str) -> Result<T, Fault> {
    text.parse().map_err(|error| Fault::new(field, error))
}

pub(super) fn id_text(uuid: Uuid) -> String {
    uuid.hyphenated()
        .encode_lower(&mut Uuid::encode_buffer())
        .to_owned()
}

pub(super) fn finite(field: &'static str, value: f64) -> Result<f64, Fault> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(Fault::new(
            field,
            format_args!("is {value}; send a finite number"),
        ))
    }
}

pub(super) fn power(field: &'static str, mw: f64) -> Result<Power, Fault> {
    finite(field, mw).map(Power::from_mw)
}

pub(super) fn optional_power(field: &'static str, mw: Option<f64>) -> Result<Option<Power>, Fault> {
    mw.map(|mw| power(field, mw)).transpose()
}

/// A number above 0.
pub(super) fn positive(field: &'static str, value: f64) -> Result<f64, Fault> {
    if finite(field, value)? > 0.0 {
        Ok(value)
    } else {
        Err(Fault::new(
            field,
            format_args!("is {value}; send more than 0"),
        ))
    }
}

/// A counter that starts at 1.
pub(super) fn from_one(field: &'static str, number: u64) -> Result<u64, Fault> {
    if number == 0 {
        Err(Fault::new(field, "is 0; numbers begin at 1"))
    } else {
        Ok(number)
    }
}

/// A number in a log, or the next one.
pub(super) fn seq(field: &'static str, number: u64) -> Result<u64, Fault> {
    let number = from_one(field, number)?;
    if number > MAX_SEQ {
        Err(Fault::new(
            field,
            format_args!("is {number}, above {MAX_SEQ}; no log gets that long"),
        ))
    } else {
        Ok(number)
    }
}

/// The numbers of a batch: `first`, and room for `len` of them.
pub(super) fn first_seq(first: u64, len: usize) -> Result<u64, Fault> {
    let first = seq("first_seq", first)?;
    // No overflow: both are far below 2^63.
    seq("first_seq", first + len as u64).map(|_| first)
}

pub(super) fn timestamp(
    field: &'static str,
    time: Option<prost_types::Timestamp>,
) -> Result<Timestamp, Fault> {
    let time = time.ok_or_else(|| Fault::missing(field))?;
    let out_of_range = || {
        Fault::new(
            field,
            format_args!(
                "{} s and {} ns is no time in the years 1 to 9999",
                time.seconds, time.nanos
            ),
        )
    };
    if !(0..1_000_000_000).contains(&time.nanos) {
        return Err(out_of_range());
    }
    let micros = time
        .seconds
        .checked_mul(1_000_000)
        .and_then(|micros| micros.checked_add(i64::from(time.nanos / 1_000)))
        .ok_or_else(out_of_range)?;
    let timestamp = Timestamp::from_unix_micros(micros);
    if timestamp.unix_micros() == micros {
        Ok(timestamp)
    } else {
        Err(out_of_range())
    }
}

/// A time that is only a label: one that can't be read is none.
pub(super) fn label(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    timestamp("", time).ok()
}

pub(super) fn timestamp_out(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.unix_micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // Below 1,000,000,000, so it fits.
        nanos: (micros.rem_euclid(1_000_000) * 1_000) as i32,
    }
}

pub(super) fn optional_duration(
    field: &'static str,
    duration: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Fault> {
    let Some(duration) = duration else {
        return Ok(None);
    };
    let seconds = u64::try_from(duration.seconds)
        .ok()
        .filter(|s| *s <= MAX_SECONDS);
    let nanos = u32::try_from(duration.nanos)
        .ok()
        .filter(|n| *n < 1_000_000_000);
    match (seconds, nanos) {
        (Some(seconds), Some(nanos)) => Ok(Some(Duration::new(seconds, nanos))),
        _ => Err(Fault::new(
            field,
            format_args!(
                "{} s and {} ns is no duration from 0 to {MAX_SECONDS} s",
                duration.seconds, duration.nanos
            ),
        )),
    }
}

pub(super) fn duration(
    field: &'static str,
    duration: Option<prost_types::Duration>,
) -> Result<Duration, Fault> {
    optional_duration(field, duration)?.ok_or_else(|| Fault::missing(field))
}

/// A duration above 0: a timer of 0 would never rest.
pub(super) fn interval(
    field: &'static str,
    value: Option<prost_types::Duration>,
) -> Result<Duration, Fault> {
    let value = duration(field, value)?;
    if value.is_zero() {
        Err(Fault::new(field, "is 0; send more than 0"))
    } else {
        Ok(value)
    }
}

pub(super) fn duration_out(duration: Duration) -> prost_types::Duration {
    // Both fit: the first is bounded here, the second by its type.
    prost_types::Duration {
        seconds: duration.as_secs().min(MAX_SECONDS) as i64,
        nanos: duration.subsec_nanos() as i32,
    }
}

pub(super) fn nanos_out(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Cuts a text to `max` bytes, at a character.
pub(super) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.shrink_to_fit();
    }
    text
}

/// Refuses lists that are longer than any honest peer sends.
pub(super) fn bounded<T>(field: &'static str, items: Vec<T>) -> Result<Vec<T>, Fault> {
    if items.len() > MAX_ITEMS {
        Err(Fault::new(
            field,
            format_args!("has {} items, more than {MAX_ITEMS}", items.len()),
        ))
    } else {
        Ok(items)
    }
}
