//! How long what is stored is kept.

use std::ops::Add;
use std::time::Duration;

use derms_proto::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long each kind of history is kept; `None` = for ever.
///
/// Whatever it says, these are never forgotten: orders that have not ended, limits and stops that hold, epochs,
/// revisions, and
/// where the logs of agents continue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Measurements by the time they are placed by, and declared gaps. Default 30 days.
    pub telemetry: Option<Duration>,
    /// Heartbeats by time of receipt. Default 7 days.
    pub heartbeats: Option<Duration>,
    /// Sessions that have ended, by their end. Default 365 days.
    pub sessions: Option<Duration>,
    /// Events, acknowledged or not, by their time. Default 365 days.
    pub events: Option<Duration>,
    /// Reports that moved no order, by time of receipt. Default 365 days.
    pub reports: Option<Duration>,
    /// Orders that have ended, by their end, with every step and their idempotency key; a site
    /// order when the last of its shares has. Default 1,825 days (five years).
    pub dispatches: Option<Duration>,
    /// Limits and stops that have ended, by their end. Default 1,825 days (five years).
    pub limits: Option<Duration>,
    /// Records of the audit trail, by their time. Default 1,825 days (five years).
    pub audit: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            telemetry: Some(30 * DAY),
            heartbeats: Some(7 * DAY),
            sessions: Some(365 * DAY),
            events: Some(365 * DAY),
            reports: Some(365 * DAY),
            dispatches: Some(1_825 * DAY),
            limits: Some(1_825 * DAY),
            audit: Some(1_825 * DAY),
        }
    }
}

impl Retention {
    /// Keeps everything for ever.
    #[must_use]
    pub const fn forever() -> Self {
        Self {
            telemetry: None,
            heartbeats: None,
            sessions: None,
            events: None,
            reports: None,
            dispatches: None,
            limits: None,
            audit: None,
        }
    }
}

/// Before this nothing is kept; `None`: everything is.
pub(super) fn horizon(kept: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
    kept.map(|kept| now.saturating_sub(kept))
}

/// How much was forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Measurements; of whole days that a database dropped at once, as many as it estimates.
    pub telemetry: u64,
    /// Declared gaps.
    pub gaps: u64,
    /// Heartbeats; of whole days, as many as the database estimates.
    pub heartbeats: u64,
    /// Sessions.
    pub sessions: u64,
    /// Events.
    pub events: u64,
    /// Reports that moved no order.
    pub reports: u64,
    /// Orders, each share of a site order and the site order itself counted.
    pub dispatches: u64,
    /// Limits and stops.
    pub limits: u64,
    /// Records of the audit trail.
    pub audit: u64,
    /// More is to be forgotten: call again.
    pub more: bool,
}

impl Pruned {
    /// Of all kinds together.
    #[must_use]
    pub fn total(&self) -> u64 {
        [
            self.telemetry,
            self.gaps,
            self.heartbeats,
            self.sessions,
            self.events,
            self.reports,
            self.dispatches,
            self.limits,
            self.audit,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

impl Add for Pruned {
    type Output = Self;

    /// Both together; there is more if either has more.
    fn add(self, other: Self) -> Self {
        Self {
            telemetry: self.telemetry.saturating_add(other.telemetry),
            gaps: self.gaps.saturating_add(other.gaps),
            heartbeats: self.heartbeats.saturating_add(other.heartbeats),
            sessions: self.sessions.saturating_add(other.sessions),
            events: self.events.saturating_add(other.events),
            reports: self.reports.saturating_add(other.reports),
            dispatches: self.dispatches.saturating_add(other.dispatches),
            limits: self.limits.saturating_add(other.limits),
            audit: self.audit.saturating_add(other.audit),
            more: self.more || other.more,
        }
    }
}
