//! An estimate of the headend's clock.

use std::collections::VecDeque;
use std::time::Duration;

use derms_proto::Timestamp;

use crate::clock::{MonoTime, Now};

/// How many exchanges are kept.
const KEPT: usize = 8;
/// How long an exchange counts.
const MAX_AGE: Duration = Duration::from_secs(90);
/// A coarser estimate decides nothing: start deadlines are 30 s.
pub(crate) const MAX_ERROR: Duration = Duration::from_secs(10);
/// Honest clocks drift apart by less than one part in this many.
const DRIFT: u32 = 2_000;

/// The headend's clock as seen through the exchanges so far: of the last 8, and of at most 90 s,
/// the one with the shortest round trip.
///
/// An exchange that can't be true together with earlier ones ends them: the headend's clock was
/// set, another headend answers, or this machine stood still without its clock counting.
#[derive(Debug)]
pub(super) struct ServerClock {
    /// The wall clock at the start, as an offset: the label before the first exchange. The wall
    /// clock itself may be set in between; so labels can all be mended by one number.
    wall: i64,
    exchanges: VecDeque<Exchange>,
    /// The best at the time of the last exchange: a label lives longer than a decision.
    last_best: Option<Exchange>,
}

#[derive(Debug, Clone, Copy)]
struct Exchange {
    received: MonoTime,
    /// Server time minus monotonic time, microseconds.
    offset: i64,
    /// Half the round trip.
    error: Duration,
}

impl ServerClock {
    pub(super) fn new(now: Now) -> Self {
        Self {
            wall: now.wall.unix_micros().saturating_sub(micros(now.mono)),
            exchanges: VecDeque::new(),
            last_best: None,
        }
    }

    /// The headend said `server` between `sent` and `received`.
    ///
    /// The first exchange gives the microseconds by which every label until now was too early.
    pub(super) fn exchange(
        &mut self,
        sent: MonoTime,
        received: MonoTime,
        server: Timestamp,
    ) -> Option<i64> {
        let error = received.saturating_since(sent) / 2;
        let exchange = Exchange {
            received,
            offset: server.unix_micros().saturating_sub(micros(sent + error)),
            error,
        };
        let first = self.last_best.is_none();
        self.exchanges.retain(|old| exchange.agrees_with(old));
        if self.exchanges.len() == KEPT {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back(exchange);
        self.last_best = self.best(received);
        first.then(|| exchange.offset.saturating_sub(self.wall))
    }

    fn best(&self, now: MonoTime) -> Option<Exchange> {
        self.exchanges
            .iter()
            .filter(|exchange| now.saturating_since(exchange.received) <= MAX_AGE)
            .min_by_key(|exchange| exchange.error)
            .copied()
    }

    /// Whether the estimate is fresh and fine enough to accept an order by it.
    pub(super) fn is_sure(&self, now: MonoTime) -> bool {
        self.best(now).is_some_and(|best| best.error <= MAX_ERROR)
    }

    /// Whether the headend's clock may already show more than `deadline`. Without any estimate:
    /// yes. The error counts against the order: it is never started late.
    pub(super) fn may_be_past(&self, deadline: Timestamp, now: MonoTime) -> bool {
        let Some(best) = self.best(now).or(self.last_best) else {
            return true;
        };
        best.at(now).saturating_add(best.error) > deadline
    }

    /// Whether the headend's clock shows `time` or more by the best estimate there ever was: without
    /// a link it runs on. Without any estimate: no.
    pub(super) fn is_past(&self, time: Timestamp, now: MonoTime) -> bool {
        self.last_best.is_some() && self.label(now) >= time
    }

    /// When the headend's clock shows `time`, by the estimate of `now`.
    pub(super) fn when(&self, time: Timestamp, now: MonoTime) -> Option<MonoTime> {
        let best = self.best(now).or(self.last_best)?;
        let micros = time.unix_micros().saturating_sub(best.offset);
        let since = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        Some(MonoTime::from_origin(since))
    }

    /// By how much the headend's clock is ahead of the wall clock, seconds; `None` without any estimate.
    pub(super) fn offset(&self, now: Now) -> Option<f64> {
        self.last_best?;
        let label = self.label(now.mono).unix_micros();
        let ahead = label.saturating_sub(now.wall.unix_micros());
        Some(ahead as f64 / 1e6)
    }

    /// The headend's clock once there was any estimate, else the wall clock.
    pub(super) fn label(&self, at: MonoTime) -> Timestamp {
        match self.best(at).or(self.last_best) {
            Some(best) => best.at(at),
            None => Timestamp::from_unix_micros(self.wall.saturating_add(micros(at))),
        }
    }
}

impl Exchange {
    /// Whether one clock can have given both answers.
    fn agrees_with(&self, older: &Self) -> bool {
        let drift = self.received.saturating_since(older.received) / DRIFT;
        let apart = Duration::from_micros(self.offset.abs_diff(older.offset));
        apart <= self.error + older.error + drift
    }

    fn at(&self, now: MonoTime) -> Timestamp {
        Timestamp::from_unix_micros(self.offset.saturating_add(micros(now)))
    }
}

fn micros(time: MonoTime) -> i64 {
    i64::try_from(time.since_origin().as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mono(millis: u64) -> MonoTime {
        MonoTime::from_origin(Duration::from_millis(millis))
    }

    fn server(millis: i64) -> Timestamp {
        Timestamp::from_unix_micros(1_700_000_000_000_000 + millis * 1_000)
    }

    /// The wall clock shows 1970 at 2 s.
    fn new() -> ServerClock {
        ServerClock::new(Now {
            mono: mono(2_000),
            wall: Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn without_an_exchange_the_wall_clock_is_the_label_and_nothing_is_decided() {
        let clock = new();
        let five = Timestamp::from_unix_micros(5_000_000);
        assert_eq!(clock.label(mono(7_000)), five);
        assert!(!clock.is_sure(mono(7_000)));
        assert!(clock.may_be_past(Timestamp::MAX, mono(7_000)));
    }

    #[test]
    fn the_shortest_round_trip_of_the_last_eight_counts() {
        let mut clock = new();
        clock.exchange(mono(1_000), mono(1_010), server(1_005));
        for k in 1..8 {
            // Slow answers, each wrong by half a second.
            clock.exchange(
                mono(k * 2_000),
                mono(k * 2_000 + 1_000),
                server(k as i64 * 2_000),
            );
        }
        assert_eq!(clock.label(mono(20_000)), server(20_000));
        clock.exchange(mono(20_000), mono(21_000), server(20_000));
        assert_eq!(
            clock.label(mono(21_000)),
            server(20_500),
            "the best has left the window"
        );
    }

    #[test]
    fn an_estimate_decides_for_ninety_seconds_and_is_a_label_for_ever() {
        let mut clock = new();
        clock.exchange(mono(0), mono(20), server(10));
        assert!(clock.is_sure(mono(90_000)));
        assert!(!clock.is_sure(mono(90_021)));
        assert_eq!(clock.label(mono(200_000)), server(200_000));
    }

    #[test]
    fn a_coarse_estimate_is_not_sure() {
        let mut clock = new();
        clock.exchange(mono(0), mono(20_002), server(0));
        assert!(!clock.is_sure(mono(20_002)));
    }

    #[test]
    fn half_the_round_trip_counts_against_the_order() {
        let mut clock = new();
        clock.exchange(mono(0), mono(2_000), server(1_000));
        assert!(!clock.may_be_past(server(6_000), mono(5_000)));
        assert!(clock.may_be_past(server(6_000), mono(5_001)));
    }

    #[test]
    fn an_exchange_that_contradicts_the_others_ends_them() {
        // The headend's clock was set by a minute, or this machine stood still that long.
        for shift in [60_000, -60_000] {
            let mut clock = new();
            clock.exchange(mono(70_000), mono(70_020), server(70_010));
            clock.exchange(mono(72_000), mono(73_000), server(72_500 + shift));
            assert_eq!(clock.label(mono(73_000)), server(73_000 + shift));
        }
    }

    #[test]
    fn clocks_that_drift_apart_do_not_contradict_each_other() {
        let mut clock = new();
        clock.exchange(mono(0), mono(2), server(1));
        // 100 ppm in 80 s, more than both errors.
        clock.exchange(mono(80_000), mono(80_006), server(80_011));
        assert_eq!(clock.label(mono(80_006)), server(80_006), "the finer one");
    }
}
