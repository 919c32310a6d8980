//! What the two logs have in common on their way to the store.

use std::pin::Pin;
use std::sync::atomic::AtomicBool;

use derms_proto::link::{LogKind, Report};
use derms_proto::{Detail, LogId, Telemetry};

use super::Failing;
use crate::store::{ReportAppend, ReportFate, Store, StoreError, StoredReport, TelemetryAppend};

/// Of a name and a value in a map, besides their text.
const MAP_ENTRY: usize = 96;

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
        let details = |telemetry: &Telemetry| -> usize {
            let details = telemetry.measurements.details.iter();
            details
                .map(|(name, value)| {
                    let text = match value {
                        Detail::Text(text) => text.len(),
                        _ => 0,
                    };
                    MAP_ENTRY + name.len() + text
                })
                .sum()
        };
        let details: usize = self.samples.iter().map(|(_, t)| details(t)).sum();
        size_of_val(self.samples.as_slice()) + size_of_val(self.gaps.as_slice()) + details
    }

    fn write<'a>(store: &'a dyn Store, appends: &'a [Self]) -> Writing<'a, ()> {
        store.append_telemetry(appends)
    }

    fn failing(failing: &Failing) -> &AtomicBool {
        &failing.telemetry
    }
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
