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
}
