//! What must survive a restart of the agent, in words that know no disk.

use std::collections::VecDeque;
use std::time::Duration;

use derms_proto::link::{
    Gap, Limit, Refusal, ReleaseOrder, ReportEntry, Sample, SetpointOrder, SetpointReport,
};
use derms_proto::{AssetId, LogId, Power};

use crate::clock::MonoTime;

/// What is remembered of an asset; the newest record of an asset replaces the one before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) asset_id: AssetId,
    /// The highest revision that was decided upon.
    pub(crate) revision: u64,
    /// Accepted, and not known to have started: the device may have been told all the same.
    pub(crate) next: Option<SetpointOrder>,
    pub(crate) in_force: Option<Held>,
    pub(crate) releasing: Option<ReleaseOrder>,
    /// Has ended and is not reported yet; with the revision of the release behind it.
    pub(crate) ending: Option<(SetpointReport, Option<u64>)>,
    /// How the last orders ended, by their revisions.
    pub(crate) outcomes: Vec<(u64, SetpointReport)>,
    /// Accepted, and kept for their time.
    pub(crate) scheduled: Vec<SetpointOrder>,
    pub(crate) restraint: Restraint,
}

/// What an asset is held to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Restraint {
    /// The revision of these limits; 0 before the first.
    pub(crate) revision: u64,
    pub(crate) limits: Vec<Limit>,
    pub(crate) stop: bool,
    /// When it is stopped no more, it stays so for a random part of this.
    pub(crate) return_within: Duration,
    /// Stopped no more, but not back before this.
    pub(crate) returns_at: Option<MonoTime>,
}

/// An order that the device was told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) order: SetpointOrder,
    /// `None` until the device has said yes.
    pub(crate) started: Option<Started>,
}

/// The device's yes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Started {
    /// End of the lease.
    pub(crate) ends_at: Option<MonoTime>,
    pub(crate) applied: Option<Power>,
}

impl Started {
    /// What is left of the lease; `None` if it has none.
    pub(crate) fn left(&self, now: MonoTime) -> Option<Duration> {
        self.ends_at.map(|end| end.saturating_since(now))
    }
}

/// What is written in one go: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Commit {
    /// The assets that have changed.
    pub(crate) records: Vec<Record>,
    /// Reports that are new; the first has number `first_report`.
    pub(crate) reports: Vec<ReportEntry>,
    pub(crate) first_report: u64,
    /// Reports below are acknowledged.
    pub(crate) unacked_report: u64,
    pub(crate) last_epoch: u64,
    /// The logs go on under other ids.
    pub(crate) renamed: Renamed,
}

/// New identities of logs; their numbers start again at 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Renamed {
    /// What was number `n` is `n - by` from now on.
    pub(crate) telemetry: Option<(LogId, u64)>,
    /// The commit has all reports.
    pub(crate) reports: Option<LogId>,
}

/// Samples to be kept, and what is to be known of their log.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shelved {
    pub(crate) now: MonoTime,
    /// Numbers below are acknowledged.
    pub(crate) floor: u64,
    /// No higher number may have been sent when this process is found dead.
    pub(crate) mark: u64,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) mends: Vec<Mend>,
    /// The number of the first sample.
    pub(crate) first: u64,
    pub(crate) samples: Vec<Sample>,
}

/// Times that turned out to be wrong by a number of microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mend {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) micros: i64,
}

/// What became of [`Shelved`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Numbers that had to go for it, the oldest.
    pub(crate) dropped: Option<Gap>,
    /// The last number in the oldest file that could go when it is acknowledged.
    pub(crate) oldest: Option<u64>,
}

/// Samples that were asked for; what is missing before `until` is not there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fetched {
    pub(crate) samples: VecDeque<(u64, Result<Sample, Refusal>)>,
    pub(crate) until: u64,
}

/// What an earlier life of the agent has left behind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recovered {
    /// The machine has not started since: its clock goes on.
    pub(crate) same_boot: bool,
    /// What is remembered of orders is whole, and of this agent alone.
    pub(crate) trusted: bool,
    pub(crate) last_epoch: u64,
    pub(crate) records: Vec<Record>,
    pub(crate) report_log: LogId,
    pub(crate) first_report: u64,
    pub(crate) reports: Vec<ReportEntry>,
    pub(crate) telemetry_log: LogId,
    pub(crate) telemetry: RecoveredTelemetry,
}

/// What is left of the telemetry log.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RecoveredTelemetry {
    /// Numbers below are acknowledged.
    pub(crate) floor: u64,
    /// The next number to be given.
    pub(crate) next: u64,
    /// Higher numbers were never sent.
    pub(crate) mark: u64,
    /// What is missing between.
    pub(crate) gaps: Vec<Gap>,
    pub(crate) mends: Vec<Mend>,
    pub(crate) oldest: Option<u64>,
}
