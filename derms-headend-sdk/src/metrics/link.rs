//! What is counted of the agent link.

use derms_proto::link::{Gap, GapReason, Grant, GrantStatus, LogKind};
use derms_proto::{CloseReason, Timestamp};
use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::{Make, word};

/// Upper bounds of the lag, seconds: a live sample, an interval of 4 s, and what was kept over an
/// outage.
const LAG: [f64; 11] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0,
];

/// Ends that are shown from the start, so that the first one of each is seen as an increase.
const ENDS: [CloseReason; 17] = {
    use CloseReason as C;
    [
        C::Normal,
        C::Draining,
        C::Rebalance,
        C::TakenOver,
        C::DuplicateInstance,
        C::RegisterTimeout,
        C::LivenessTimeout,
        C::Internal,
        C::Overloaded,
        C::SlowConsumer,
        C::StoreUnavailable,
        C::ProtocolError,
        C::MessageTooLarge,
        C::Incompatible,
        C::Forbidden,
        C::Revoked,
        C::TransportLost,
    ]
};

const ANSWERS: [GrantStatus; 6] = {
    use GrantStatus as G;
    [
        G::Granted,
        G::UnknownAsset,
        G::Forbidden,
        G::ServedElsewhere,
        G::Invalid,
        G::TooMany,
    ]
};

const GAPS: [GapReason; 4] = [
    GapReason::Unknown,
    GapReason::OutboxFull,
    GapReason::TooOld,
    GapReason::Corrupt,
];

#[derive(Debug)]
pub(crate) struct LinkMetrics {
    pub(crate) connects: IntCounter,
    disconnects: IntCounterVec,
    turned_away: IntCounterVec,
    claims: IntCounterVec,
    pub(crate) telemetry: LogMetrics,
    pub(crate) reports: LogMetrics,
    pub(crate) live_samples: IntCounter,
    lag: Histogram,
    gaps: IntCounterVec,
    missing: IntCounterVec,
    pub(crate) heartbeats_dropped: IntCounter,
}

/// Of one kind of log; all in entries unless it says otherwise.
#[derive(Debug, Clone)]
pub(crate) struct LogMetrics {
    /// New and readable.
    pub(crate) received: IntCounter,
    /// Numbers that came before.
    pub(crate) duplicates: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) stored: IntCounter,
    /// Parts of logs that were stored and are told to be so.
    pub(crate) acks: IntCounter,
    /// Batches that found no room or could not be stored.
    pub(crate) not_kept: IntCounter,
}

impl LinkMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        let log = ["log"];
        let received = make.counters(
            "derms_log_entries_received_total",
            "Entries of agents' logs that were new and readable.",
            &log,
        )?;
        let duplicates = make.counters(
            "derms_log_entries_duplicate_total",
            "Entries of agents' logs that had come before and were left out.",
            &log,
        )?;
        let refused = make.counters(
            "derms_log_entries_refused_total",
            "Entries of agents' logs that were refused for good.",
            &log,
        )?;
        let stored = make.counters(
            "derms_log_entries_stored_total",
            "Entries of agents' logs that the store has taken.",
            &log,
        )?;
        let acks = make.counters(
            "derms_log_acks_total",
            "Batches of agents' logs that were stored and acknowledged.",
            &log,
        )?;
        let not_kept = make.counters(
            "derms_log_batches_not_kept_total",
            "Batches that found no room or were not stored; their agents send them again.",
            &log,
        )?;
        let of = |log: &str| {
            let log = &[log];
            LogMetrics {
                received: received.with_label_values(log),
                duplicates: duplicates.with_label_values(log),
                refused: refused.with_label_values(log),
                stored: stored.with_label_values(log),
                acks: acks.with_label_values(log),
                not_kept: not_kept.with_label_values(log),
            }
        };
        let metrics = Self {
            connects: make.counter("derms_connects_total", "Sessions that began.")?,
            disconnects: make.counters(
                "derms_disconnects_total",
                "Sessions that ended, by cause.",
                &["cause"],
            )?,
            turned_away: make.counters(
                "derms_registrations_refused_total",
                "Streams that ended before a session began, by reason.",
                &["reason"],
            )?,
            claims: make.counters(
                "derms_claims_total",
                "Claims of assets by agents, by answer.",
                &["answer"],
            )?,
            telemetry: of("telemetry"),
            reports: of("report"),
            live_samples: make.counter(
                "derms_live_samples_total",
                "Samples that came ahead of their log, for the newest values alone.",
            )?,
            lag: make.histogram(
                "derms_telemetry_lag_seconds",
                "From the measurement of a sample to its receipt.",
                &LAG,
            )?,
            gaps: make.counters(
                "derms_telemetry_gaps_total",
                "Gaps that agents declared in their telemetry, by reason.",
                &["reason"],
            )?,
            missing: make.counters(
                "derms_telemetry_lost_samples_total",
                "Numbers of samples inside declared gaps, by reason.",
                &["reason"],
            )?,
            heartbeats_dropped: make.counter(
                "derms_heartbeats_dropped_total",
                "Heartbeats that found no room on their way to the history.",
            )?,
        };
        for end in ENDS {
            metrics.disconnects.with_label_values(&[&word(end)]);
            metrics.turned_away.with_label_values(&[&word(end)]);
        }
        for answer in ANSWERS {
            metrics.claims.with_label_values(&[answered(answer)]);
        }
        for reason in GAPS {
            metrics.gaps.with_label_values(&[lost(reason)]);
            metrics.missing.with_label_values(&[lost(reason)]);
        }
        Ok(metrics)
    }

    pub(crate) fn log(&self, kind: LogKind) -> &LogMetrics {
        match kind {
            LogKind::Telemetry => &self.telemetry,
            _ => &self.reports,
        }
    }

    /// A session ended, or a stream before a session began.
    pub(crate) fn ended(&self, cause: CloseReason, had_session: bool) {
        let ends = if had_session {
            &self.disconnects
        } else {
            &self.turned_away
        };
        ends.with_label_values(&[&word(cause)]).inc();
    }

    pub(crate) fn claimed(&self, grants: &[Grant]) {
        for grant in grants {
            let answer = answered(grant.status);
            self.claims.with_label_values(&[answer]).inc();
        }
    }

    pub(crate) fn sample(&self, measured_at: Timestamp, received_at: Timestamp) {
        let lag = received_at.saturating_since(measured_at);
        self.lag.observe(lag.as_secs_f64());
    }

    pub(crate) fn gaps(&self, gaps: &[Gap]) {
        for gap in gaps {
            let numbers = gap.last_seq.saturating_sub(gap.first_seq).saturating_add(1);
            let reason = lost(gap.reason);
            self.gaps.with_label_values(&[reason]).inc();
            self.missing.with_label_values(&[reason]).inc_by(numbers);
        }
    }
}

fn answered(status: GrantStatus) -> &'static str {
    match status {
        GrantStatus::Granted => "granted",
        GrantStatus::UnknownAsset => "unknown_asset",
        GrantStatus::Forbidden => "forbidden",
        GrantStatus::ServedElsewhere => "served_elsewhere",
        GrantStatus::Invalid => "invalid",
        GrantStatus::TooMany => "too_many",
        _ => "unknown",
    }
}

fn lost(reason: GapReason) -> &'static str {
    match reason {
        GapReason::OutboxFull => "outbox_full",
        GapReason::TooOld => "too_old",
        GapReason::Corrupt => "corrupt",
        _ => "unknown",
    }
}
