//! How long to wait before a request is sent again.

use std::time::Duration;

/// Ceiling of the first delay; each further one is twice as high.
const FIRST: Duration = Duration::from_millis(100);
/// Ceiling of every delay.
const LONGEST: Duration = Duration::from_secs(2);
/// What the headend may ask to wait before the answer is handed to the caller instead.
const PATIENCE: Duration = Duration::from_secs(10);

/// The delay before repeat number `repeat` (from 0), with full jitter so that clients that failed
/// together do not come back together. `None`: the headend asks for more patience than a call has.
pub(crate) fn delay(repeat: u32, retry_after: Option<Duration>) -> Option<Duration> {
    let ceiling = FIRST
        .saturating_mul(2_u32.saturating_pow(repeat))
        .min(LONGEST);
    let jitter = ceiling.mul_f64(fastrand::f64());
    match retry_after {
        Some(asked) if asked > PATIENCE => None,
        Some(asked) => Some(asked + jitter),
        None => Some(jitter),
    }
}

/// Ceiling of the first delay before a stream is opened again, and of every one.
const FIRST_RECONNECT: Duration = Duration::from_millis(500);
const LONGEST_RECONNECT: Duration = Duration::from_secs(30);

/// The delay before a stream is opened again for the `repeat`th time (from 0) since it was whole. It
/// is opened for as long as somebody wants it, so what the headend asks for is always waited.
pub(crate) fn reconnect(repeat: u32, retry_after: Option<Duration>) -> Duration {
    let ceiling = FIRST_RECONNECT
        .saturating_mul(2_u32.saturating_pow(repeat))
        .min(LONGEST_RECONNECT);
    let asked = retry_after.unwrap_or_default();
    asked.saturating_add(ceiling.mul_f64(fastrand::f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_jittered_under_a_ceiling_that_grows_to_its_limit() {
        for (repeat, ceiling) in [
            (0, 100),
            (1, 200),
            (4, 1_600),
            (5, 2_000),
            (u32::MAX, 2_000),
        ] {
            let delays: Vec<_> = (0..200).filter_map(|_| delay(repeat, None)).collect();
            assert_eq!(delays.len(), 200);
            let (min, max) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
            assert!(*max <= Duration::from_millis(ceiling), "{max:?}");
            assert!(*min < Duration::from_millis(ceiling) / 2, "{min:?}");
            assert!(min < max);
        }
    }

    #[test]
    fn what_the_headend_asks_for_is_waited_at_least_and_never_beyond_patience() {
        let asked = Duration::from_secs(3);
        assert!(delay(0, Some(asked)).unwrap() >= asked);
        assert_eq!(delay(0, Some(Duration::from_secs(11))), None);
    }

    #[test]
    fn a_stream_is_opened_again_ever_more_slowly_and_no_slower_than_every_half_minute() {
        for (repeat, ceiling) in [(0, 500), (3, 4_000), (u32::MAX, 30_000)] {
            let ceiling = Duration::from_millis(ceiling);
            let delays: Vec<_> = (0..200).map(|_| reconnect(repeat, None)).collect();
            assert!(delays.iter().all(|delay| *delay <= ceiling));
            assert!(delays.iter().any(|delay| *delay > ceiling / 2));
            assert!(delays.iter().any(|delay| *delay < ceiling / 2));
        }
        let asked = Duration::from_secs(60);
        assert!(reconnect(0, Some(asked)) >= asked);
    }
}
