//! The numbers a headend runs by.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::Timestamp;
use derms_proto::link::Limits;

use crate::auth::Authentication;
use crate::dispatcher::PowerBounds;
use crate::following::Rules;
use crate::ingest::Bounds;
use crate::live;
use crate::store::Retention;

/// Where the time comes from: the machine's wall clock, or a test's.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    pub(crate) fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) telemetry_interval: Duration,
    pub(crate) heartbeat_interval: Duration,
    /// 1.5 heartbeats.
    pub(crate) liveness_timeout: Duration,
    pub(crate) register_timeout: Duration,
    /// Three telemetry intervals.
    pub(crate) stale_after: Duration,
    /// A sent order without a word for this long makes its agent suspect.
    pub(crate) ping_after: Duration,
    pub(crate) ping_timeout: Duration,
    /// A sent order must start within this.
    pub(crate) start_window: Duration,
    /// A sent order without a report for this long is given up.
    pub(crate) report_timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) max_sessions: usize,
    /// Open at one time, trusted proxies aside.
    pub(crate) max_connections_per_address: usize,
    pub(crate) outbound_queue: usize,
    pub(crate) slow_consumer_after: Duration,
    /// What may wait for the store, all agents together.
    pub(crate) ingest: Bounds,
    pub(crate) drain_spread: Duration,
    pub(crate) drain_limit: Duration,
    pub(crate) retention: Retention,
    /// How often certificates, CRLs and tokens are looked at.
    pub(crate) reload_interval: Duration,
    pub(crate) following: Rules,
    pub(crate) authentication: Authentication,
    /// Everyone may read the API's own description.
    pub(crate) public_docs: bool,
    pub(crate) power: PowerBounds,
    pub(crate) rates: Rates,
    /// What is remembered for readers of the live stream.
    pub(crate) live: live::Bounds,
    /// Origins of pages that may call REST from a browser.
    pub(crate) cors_origins: Vec<String>,
}

/// How many calls of REST are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// Of one principal, in a second, for a while.
    pub(crate) per_second: u32,
    /// At once, after a pause.
    pub(crate) burst: u32,
    /// In hand at one time, of all callers.
    pub(crate) in_hand: usize,
    /// Live streams at one time, of all callers.
    pub(crate) streams: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            telemetry_interval: Duration::from_secs(4),
            heartbeat_interval: Duration::from_secs(30),
            liveness_timeout: Duration::from_secs(45),
            register_timeout: Duration::from_secs(10),
            stale_after: Duration::from_secs(12),
            ping_after: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            start_window: Duration::from_secs(30),
            report_timeout: Duration::from_secs(7 * 24 * 3600),
            limits: Limits::default(),
            max_sessions: 20_000,
            max_connections_per_address: 9_500,
            outbound_queue: 256,
            slow_consumer_after: Duration::from_secs(10),
            ingest: Bounds {
                batches: 1 << 18,
                bytes: 64 << 20,
            },
            drain_spread: Duration::from_secs(5),
            drain_limit: Duration::from_secs(10),
            retention: Retention::default(),
            reload_interval: Duration::from_secs(10),
            following: Rules::default(),
            authentication: Authentication::default(),
            public_docs: false,
            power: PowerBounds::default(),
            rates: Rates {
                per_second: 100,
                burst: 200,
                in_hand: 1_024,
                streams: 256,
            },
            live: live::Bounds {
                items: 16_384,
                bytes: 16 << 20,
            },
            cors_origins: Vec::new(),
        }
    }
}
