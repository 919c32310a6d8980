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
const MAX_ERROR: Duration = Duration::from_secs(10);

/// The headend's clock as seen through the exchanges so far: of the last 8, and of at most 90 s,
/// the one with the shortest round trip.
#[derive(Debug, Default)]
pub(super) struct ServerClock {
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
    /// The headend said `server` between `sent` and `received`.
    pub(super) fn exchange(&mut self, sent: MonoTime, received: MonoTime, server: Timestamp) {
        let error = received.saturating_since(sent) / 2;
        let exchange = Exchange {
            received,
            offset: server.unix_micros().saturating_sub(micros(sent + error)),
            error,
        };
        if self.exchanges.len() == KEPT {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back(exchange);
        self.last_best = self.best(received);
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

    /// The headend's clock once there was any estimate, else the wall clock.
    pub(super) fn label(&self, now: Now) -> Timestamp {
        match self.best(now.mono).or(self.last_best) {
            Some(best) => best.at(now.mono),
            None => now.wall,
        }
    }
}

impl Exchange {
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

    fn now(millis: u64) -> Now {
        Now {
            mono: mono(millis),
            wall: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn without_an_exchange_the_wall_clock_is_the_label_and_nothing_is_decided() {
        let clock = ServerClock::default();
        assert_eq!(clock.label(now(5)), Timestamp::UNIX_EPOCH);
        assert!(!clock.is_sure(mono(5)));
        assert!(clock.may_be_past(Timestamp::MAX, mono(5)));
    }

    #[test]
    fn the_shortest_round_trip_of_the_last_eight_counts() {
        let mut clock = ServerClock::default();
        clock.exchange(mono(1_000), mono(1_010), server(1_005));
        for k in 1..8 {
            // Slow answers, each wrong by half a second.
            clock.exchange(
                mono(k * 2_000),
                mono(k * 2_000 + 1_000),
                server(k as i64 * 2_000),
            );
        }
        assert_eq!(clock.label(now(20_000)), server(20_000));
        clock.exchange(mono(20_000), mono(21_000), server(20_000));
        assert_eq!(
            clock.label(now(21_000)),
            server(20_500),
            "the best has left the window"
        );
    }

    #[test]
    fn an_estimate_decides_for_ninety_seconds_and_is_a_label_for_ever() {
        let mut clock = ServerClock::default();
        clock.exchange(mono(0), mono(20), server(10));
        assert!(clock.is_sure(mono(90_000)));
        assert!(!clock.is_sure(mono(90_021)));
        assert_eq!(clock.label(now(200_000)), server(200_000));
    }

    #[test]
    fn a_coarse_estimate_is_not_sure() {
        let mut clock = ServerClock::default();
        clock.exchange(mono(0), mono(20_002), server(0));
        assert!(!clock.is_sure(mono(20_002)));
    }

    #[test]
    fn half_the_round_trip_counts_against_the_order() {
        let mut clock = ServerClock::default();
        clock.exchange(mono(0), mono(2_000), server(1_000));
        assert!(!clock.may_be_past(server(6_000), mono(5_000)));
        assert!(clock.may_be_past(server(6_000), mono(5_001)));
    }
}
