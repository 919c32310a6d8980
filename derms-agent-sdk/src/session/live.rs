//! What belongs to one active session and ends with it.

use std::collections::VecDeque;
use std::time::Duration;

use derms_proto::link::{Limits, Registered};

use crate::clock::MonoTime;
use crate::outbox::Window;

/// Heartbeats whose answer is awaited; an older one tells nothing about the clock any more.
const STAMPS: usize = 8;
/// Batches in flight, whatever the headend allows.
const MAX_UNACKED: u32 = 12;
const MAX_BATCH: u32 = 256;
/// No message is made larger, whatever the headend allows.
const MAX_MESSAGE: u32 = 1 << 20;
/// A sample and a report fit into this with room to spare.
const MIN_MESSAGE: u32 = 32 << 10;
/// What a batch needs besides its entries.
const BATCH_OVERHEAD: usize = 2 << 10;
/// The estimate of the headend's clock counts for 90 s and lives on the answers to heartbeats.
const SELDOMEST_HEARTBEAT: Duration = secs(45);

/// The least between a heartbeat and one that is sent because an asset can't be reached, or can again.
const EXTRA_HEARTBEATS: Duration = secs(1);
/// The headend keeps a row of each asset of each heartbeat.
const EXTRA_PER_ASSET: Duration = Duration::from_millis(10);

/// One active session.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) epoch: u64,
    pub(super) liveness: Duration,
    pub(super) last_read: MonoTime,
    pub(super) heartbeat_every: Duration,
    pub(super) next_heartbeat: MonoTime,
    pub(super) last_heartbeat: Option<MonoTime>,
    /// Monotonic stamps of the heartbeats that are not answered.
    pub(super) stamps: VecDeque<Duration>,
    pub(super) max_samples: usize,
    pub(super) max_bytes: usize,
    pub(super) telemetry: Window,
    pub(super) reports: Window,
    pub(super) backfill_rate: u32,
    /// While the telemetry log is behind: when its next batch may be sent.
    pub(super) backfill: Option<MonoTime>,
    /// What is next waits for the disk; its answer is an input.
    pub(super) waits_for_disk: bool,
    pub(super) throttle: Option<Throttle>,
    pub(super) next_live: MonoTime,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Throttle {
    pub(super) batches_per_s: u32,
    pub(super) until: MonoTime,
}

impl Live {
    /// Numbers that make no sense are brought into a sane range: a headend can slow an agent down
    /// but not drive it into a tight loop.
    pub(super) fn new(
        registered: &Registered,
        telemetry_next: u64,
        reports_next: u64,
        now: MonoTime,
    ) -> Self {
        let limits = sane(registered.limits);
        let most = limits.max_unacked_batches as usize;
        Self {
            epoch: registered.epoch,
            liveness: registered.liveness_timeout.clamp(secs(1), secs(3_600)),
            last_read: now,
            heartbeat_every: registered
                .heartbeat_interval
                .clamp(secs(1), SELDOMEST_HEARTBEAT),
            next_heartbeat: now,
            last_heartbeat: None,
            stamps: VecDeque::new(),
            max_samples: limits.max_batch_samples as usize,
            max_bytes: limits.max_message_bytes as usize - BATCH_OVERHEAD,
            telemetry: Window::new(telemetry_next, most),
            reports: Window::new(reports_next, most),
            backfill_rate: limits.backfill_batches_per_s,
            backfill: None,
            waits_for_disk: false,
            throttle: None,
            next_live: now,
        }
    }

    /// When nothing read means that the link is dead.
    pub(super) fn gives_up_at(&self) -> MonoTime {
        self.last_read + self.liveness
    }

    /// Something is to be told before the next heartbeat is due; at most every second, and less often
    /// by an agent whose heartbeats tell of many assets.
    pub(super) fn heartbeat_soon(&mut self, assets: usize, now: MonoTime) {
        let assets = u32::try_from(assets).unwrap_or(u32::MAX);
        let gap = EXTRA_HEARTBEATS.max(EXTRA_PER_ASSET.saturating_mul(assets));
        let last = self.last_heartbeat;
        let soon = last.map_or(now, |last| (last + gap).max(now));
        self.next_heartbeat = self.next_heartbeat.min(soon);
    }

    pub(super) fn stamp(&mut self, monotonic: Duration) {
        if self.stamps.len() == STAMPS {
            self.stamps.pop_front();
        }
        self.stamps.push_back(monotonic);
    }

    /// Whether this is the stamp of a heartbeat of this session, not answered before.
    pub(super) fn take_stamp(&mut self, monotonic: Duration) -> bool {
        let position = self.stamps.iter().position(|stamp| *stamp == monotonic);
        position.is_some_and(|index| self.stamps.remove(index).is_some())
    }

    /// When the batch after one that is sent at `now` may follow, while backfilling.
    pub(super) fn after_backfill_batch(&self, now: MonoTime) -> MonoTime {
        let throttle = self.throttle.filter(|throttle| throttle.until > now);
        let rate = throttle.map_or(self.backfill_rate, |throttle| throttle.batches_per_s);
        match (rate, throttle) {
            (0, Some(throttle)) => throttle.until,
            (0, None) => now,
            (rate, _) => now + Duration::from_secs(1) / rate,
        }
    }
}

/// How often devices are read.
pub(super) fn read_interval(registered: &Registered) -> Duration {
    registered
        .telemetry_interval
        .clamp(Duration::from_millis(100), secs(3_600))
}

fn sane(limits: Limits) -> Limits {
    Limits {
        max_message_bytes: limits.max_message_bytes.clamp(MIN_MESSAGE, MAX_MESSAGE),
        max_batch_samples: limits.max_batch_samples.clamp(1, MAX_BATCH),
        max_unacked_batches: limits.max_unacked_batches.clamp(1, MAX_UNACKED),
        backfill_spread: limits.backfill_spread.min(secs(3_600)),
        ..limits
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
