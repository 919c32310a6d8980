//! Time: a monotonic clock that counts through suspend, and the wall clock as a label.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use derms_proto::Timestamp;

/// A point on a clock that never goes back and counts through suspend; its origin means nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MonoTime(Duration);

/// The two clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// For everything that is decided.
    pub(crate) mono: MonoTime,
    /// A label.
    pub(crate) wall: Timestamp,
}

/// Where the runtime reads the time.
pub(crate) trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Reads both clocks.
    fn now(&self) -> Now;

    /// What tells one run of the monotonic clock from another; `None` if nothing does, or if it
    /// starts with the process.
    fn boot(&self) -> Option<String>;
}

impl MonoTime {
    /// From the time since the origin.
    pub(crate) const fn from_origin(since: Duration) -> Self {
        Self(since)
    }

    /// The time since the origin.
    pub(crate) const fn since_origin(self) -> Duration {
        self.0
    }

    /// How long `earlier` lies before this; zero if it does not.
    pub(crate) const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for MonoTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock {
    #[cfg(not(target_os = "linux"))]
    origin: std::time::Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(not(target_os = "linux"))]
            origin: std::time::Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn now(&self) -> Now {
        // CLOCK_MONOTONIC stands still while the machine sleeps; a lease must not.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Now {
            mono: MonoTime(Duration::new(seconds, nanos)),
            wall: Timestamp::now(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self) -> Now {
        Now {
            mono: MonoTime(self.origin.elapsed()),
            wall: Timestamp::now(),
        }
    }

    fn boot(&self) -> Option<String> {
        if cfg!(target_os = "linux") {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            Some(id.trim().to_owned()).filter(|id| !id.is_empty())
        } else {
            None
        }
    }
}

/// Tokio's clock, which tests pause and advance; the wall clock moves with it.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
pub(crate) struct TokioClock {
    origin: tokio::time::Instant,
    wall: Timestamp,
}

#[cfg(any(test, feature = "testing"))]
impl TokioClock {
    pub(crate) fn starting_at(wall: Timestamp) -> Self {
        Self {
            origin: tokio::time::Instant::now(),
            wall,
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Clock for TokioClock {
    fn now(&self) -> Now {
        let elapsed = self.origin.elapsed();
        Now {
            mono: MonoTime(elapsed),
            wall: self.wall.saturating_add(elapsed),
        }
    }

    fn boot(&self) -> Option<String> {
        Some("tokio".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = SystemClock::new();
        let readings: Vec<_> = (0..100).map(|_| clock.now().mono).collect();
        assert!(readings.is_sorted());
    }
}
