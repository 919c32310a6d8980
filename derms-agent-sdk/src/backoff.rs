//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Chooses the delay before the next attempt to connect.
///
/// # Flow
/// [`delay`](Self::delay) is called once after each attempt or session that has ended, and the next
/// attempt is made after what it answers.
///
/// # Guarantees
/// - It is called from one task, never twice at once.
/// - The agent waits at least 100 ms, whatever it answers. A headend that says when to come back wins
///   over it, and so do the 5 min to 1 h after a refusal that trying again can't mend.
///
/// # What you must ensure
/// - Delays of different agents differ: a fleet that lost its headend at one moment must not come
///   back at one moment.
/// - It grows with `failures`, up to a bound that people can wait for.
/// - It does not block.
///
/// # Cancellation
/// It is not async. A delay that is under way ends when the agent is told to stop.
///
/// # Errors
/// None. A delay that is too long to count is as good as no agent.
///
/// # Example
/// Implemented for closures.
/// ```
/// use std::time::Duration;
/// use derms_agent_sdk::Backoff;
///
/// let mut steady = |_failures: u32| Duration::from_secs(5);
/// assert_eq!(steady.delay(7), Duration::from_secs(5));
/// ```
pub trait Backoff: Send + 'static {
    /// The delay after `failures` attempts that failed before this one; 0 for the first.
    ///
    /// The count starts again after a session that was active for 60 s.
    fn delay(&mut self, failures: u32) -> Duration;
}

impl<F: FnMut(u32) -> Duration + Send + 'static> Backoff for F {
    fn delay(&mut self, failures: u32) -> Duration {
        self(failures)
    }
}

/// The default: uniform between 0.1 s and min(60 s, 1 s × 1.6ⁿ).
///
/// The whole range is random ("full jitter"), so that a fleet that lost its headend at one moment
/// does not come back at one moment.
#[derive(Debug, Clone)]
pub struct FullJitter {
    rng: fastrand::Rng,
}

const SHORTEST: f64 = 0.1;
const LONGEST: f64 = 60.0;
const FACTOR: f64 = 1.6;

impl FullJitter {
    /// With a random seed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rng: fastrand::Rng::new(),
        }
    }

    /// With this seed: the same delays every time, for tests.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
        }
    }
}

impl Default for FullJitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff for FullJitter {
    fn delay(&mut self, failures: u32) -> Duration {
        let curve = FACTOR.powi(i32::try_from(failures).unwrap_or(i32::MAX));
        let most = curve.min(LONGEST);
        Duration::from_secs_f64(SHORTEST + self.rng.f64() * (most - SHORTEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_fill_the_range_up_to_the_curve_and_never_leave_it() {
        let mut backoff = FullJitter::seeded(1);
        for (failures, most) in [(0, 1.0), (1, 1.6), (5, 10.486), (9, 60.0), (u32::MAX, 60.0)] {
            let delays: Vec<f64> = (0..2_000)
                .map(|_| backoff.delay(failures).as_secs_f64())
                .collect();
            let (low, high) = delays.iter().fold((f64::MAX, 0.0_f64), |(low, high), d| {
                (low.min(*d), high.max(*d))
            });
            assert!((0.1..0.1 + most * 0.01).contains(&low), "{failures}: {low}");
            assert!(high <= most && high > most * 0.99, "{failures}: {high}");
        }
    }

    #[test]
    fn two_agents_do_not_wait_the_same_time() {
        let delays = |seed| {
            let mut backoff = FullJitter::seeded(seed);
            (0..8).map(|n| backoff.delay(n)).collect::<Vec<_>>()
        };
        assert_ne!(delays(1), delays(2));
    }
}
