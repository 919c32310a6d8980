//! What the two logs have in common on their way to the store.

use std::pin::Pin;
use std::sync::atomic::AtomicBool;

use derms_proto::link::{LogKind, Report};
use derms_proto::{Detail, LogId, Measurements};

use super::Failing;
use crate::store::{ReportAppend, ReportFate, Store, StoreError, StoredReport, TelemetryAppend};

/// What a node of a `BTreeMap` has room for, also if it holds one entry.
const IN_A_NODE: usize = 11;
/// Such a node, with a few numbers.
const NODE: usize = IN_A_NODE * size_of::<(String, Detail)>() + 16;
/// What an allocator takes besides.
const ALLOCATION: usize = 16;

pub(crate) type Writing<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A part of a log.
pub(crate) trait Append: Send + Sync + Sized + 'static {
    /// What the store says of several.
    type Answer: Send;

    const KIND: LogKind;
    /// For people.
    const NAME: &'static str;

    fn log(&self) -> LogId;
    fn next_seq(&self) -> u64;
    /// Entries that are to be stored.
    fn numbers(&self) -> usize;
    /// The same, at least 1: what it weighs in a transaction.
    fn entries(&self) -> usize {
        self.numbers().max(1)
    }
    /// What it takes in memory, about, besides its own size.
    fn bytes(&self) -> usize;
    fn write<'a>(store: &'a dyn Store, appends: &'a [Self]) -> Writing<'a, Self::Answer>;
    fn failing(failing: &Failing) -> &AtomicBool;
}

impl Append for TelemetryAppend {
    type Answer = ();

    const KIND: LogKind = LogKind::Telemetry;
    const NAME: &'static str = "telemetry";

    fn log(&self) -> LogId {
        self.log
    }

    fn next_seq(&self) -> u64 {
        self.next_seq
    }

    fn numbers(&self) -> usize {
        self.samples.len()
    }

    fn bytes(&self) -> usize {
        let details: usize = self
            .samples
            .iter()
            .map(|(_, sample)| details(&sample.measurements))
            .sum();
        let samples = size_of_val(self.samples.as_slice()) + ALLOCATION;
        samples + size_of_val(self.gaps.as_slice()) + details
    }

    fn write<'a>(store: &'a dyn Store, appends: &'a [Self]) -> Writing<'a, ()> {
        store.append_telemetry(appends)
    }

    fn failing(failing: &Failing) -> &AtomicBool {
        &failing.telemetry
    }
}

/// What the details of a measurement take in memory.
fn details(measurements: &Measurements) -> usize {
    let details = &measurements.details;
    let texts: usize = details
        .iter()
        .map(|(name, value)| {
            let text = match value {
                Detail::Text(text) => text.len() + ALLOCATION,
                _ => 0,
            };
            name.len() + ALLOCATION + text
        })
        .sum();
    // Made of all at once: leaves are full, with an entry between two of them in the node above.
    let nodes = match details.len() {
        count @ ..=IN_A_NODE => count.min(1),
        count => count / (IN_A_NODE + 1) + 2,
    };
    nodes * (NODE + ALLOCATION) + texts
}

impl Append for ReportAppend {
    type Answer = Vec<Vec<ReportFate>>;

    const KIND: LogKind = LogKind::Report;
    const NAME: &'static str = "reports";

    fn log(&self) -> LogId {
        self.log
    }

    fn next_seq(&self) -> u64 {
        self.next_seq
    }

    fn numbers(&self) -> usize {
        self.entries.len()
    }

    fn bytes(&self) -> usize {
        let texts = |stored: &StoredReport| match &stored.entry.report {
            Report::Setpoint(report) => report.text.as_ref().map_or(0, String::len),
            // Once as it came, and once as it is stored.
            Report::Event(event) => {
                2 * (event.code.len() + event.text.len()) + size_of::<derms_proto::Event>()
            }
            _ => 0,
        };
        let texts: usize = self.entries.iter().map(texts).sum();
        size_of_val(self.entries.as_slice()) + texts
    }

    fn write<'a>(store: &'a dyn Store, appends: &'a [Self]) -> Writing<'a, Self::Answer> {
        store.append_reports(appends)
    }

    fn failing(failing: &Failing) -> &AtomicBool {
        &failing.reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_count_as_the_nodes_of_a_map_that_they_take() {
        let with = |count: usize| {
            let mut measurements = Measurements::default();
            let names = (0..count).map(|number| (format!("{number:02}"), Detail::Flag(true)));
            measurements.details = names.collect();
            details(&measurements) - count * (2 + ALLOCATION)
        };
        // 24 bytes of a name and 24 of a value, eleven times.
        assert!((528..600).contains(&with(1)), "{}", with(1));
        let nodes = [0, 1, 11, 12, 64].map(|count| with(count) / with(1));
        assert_eq!(nodes, [0, 1, 1, 3, 7]);
    }
}
