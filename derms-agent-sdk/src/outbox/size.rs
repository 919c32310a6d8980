//! Upper bounds of encoded sizes, without encoding.

use derms_proto::Detail;
use derms_proto::link::{Report, ReportEntry, Sample};

/// Tag and length of a field.
const FIELD: usize = 6;
/// A UUID in text form.
const ID: usize = 36 + FIELD;
/// A double with its tag.
const DOUBLE: usize = 8 + 2;
/// A timestamp message.
const TIME: usize = 18 + FIELD;

/// No sample takes more bytes on the wire; also what it counts in the outbox.
pub(super) fn of_sample(sample: &Sample) -> usize {
    let details: usize = sample
        .measurements
        .details
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Detail::Text(text) => text.len() + FIELD,
                _ => DOUBLE,
            };
            3 * FIELD + name.len() + value
        })
        .sum();
    // 12 doubles, quality and status, and the sample's own frame.
    FIELD + ID + TIME + 12 * DOUBLE + 2 * FIELD + details
}

/// No report takes more bytes on the wire.
pub(super) fn of_report(entry: &ReportEntry) -> usize {
    let body = match &entry.report {
        Report::Setpoint(setpoint) => {
            ID + 11 + 2 * FIELD + DOUBLE + FIELD + setpoint.text.as_ref().map_or(0, String::len)
        }
        Report::Event(event) => 3 * FIELD + event.code.len() + event.text.len(),
        _ => 0,
    };
    2 * FIELD + ID + TIME + body
}
