//! When to connect, and what each end of a session leads to.

use std::fmt;
use std::time::Duration;

use derms_proto::CloseReason;
use derms_proto::link::Close;

use crate::Backoff;
use crate::clock::MonoTime;

/// A session this long is healthy: the count of failures starts again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// No delay is shorter, whatever a custom backoff says.
const SHORTEST: Duration = Duration::from_millis(100);
/// What a headend may ask for at most.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Wait of a duplicate whose headend did not say how long.
const DUPLICATE_WAIT: Duration = Duration::from_secs(300);
const HALTED_SHORTEST: Duration = Duration::from_secs(300);
const HALTED_LONGEST: Duration = Duration::from_secs(3600);
/// This many sessions in a row that ended over the protocol: trying again won't mend it.
const PROTOCOL_ERRORS: u32 = 3;

/// Where the link stands. `Backoff → Connecting → Registering → Active → Draining`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Waiting. Next: `Connecting`.
    Backoff { until: MonoTime },
    /// Dialling, within the connector's time limits. Next: `Registering`, `Backoff`, `Halted`.
    Connecting,
    /// Register is sent. Next: `Active`, `Backoff`, `Halted`.
    Registering { sent: MonoTime, until: MonoTime },
    /// In session. Next: `Draining`, `Backoff`, `Halted`.
    Active { since: MonoTime, epoch: u64 },
    /// Refused for good; tried again seldom. Next: `Connecting`.
    Halted { until: MonoTime },
    /// The end.
    Stopped,
}

/// How an attempt or a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// No session came about; trying again may help.
    Unreachable { text: String },
    /// No session came about; trying again won't help.
    Refused { reason: CloseReason, text: String },
    /// The stream ended without `Close`.
    Lost { text: String },
    /// The headend closed it.
    Closed(Close),
    /// This side gave it up.
    GaveUp { reason: CloseReason, text: String },
}

/// What follows the end of an attempt or a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Retry { retry_in: Duration },
    Halt { retry_in: Duration },
    Stop,
}

/// The one action of each close reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Stop,
    /// Come back without counting it as a failure.
    ComeBack,
    Backoff,
    /// Backoff; halted after three in a row.
    Protocol,
    /// Wait as told, raise an alarm.
    Duplicate,
    Halt,
}

const fn action(reason: CloseReason) -> Action {
    match reason {
        CloseReason::Normal => Action::Stop,
        CloseReason::Draining | CloseReason::Rebalance => Action::ComeBack,
        CloseReason::DuplicateInstance => Action::Duplicate,
        CloseReason::ProtocolError | CloseReason::MessageTooLarge => Action::Protocol,
        CloseReason::Incompatible
        | CloseReason::Unauthenticated
        | CloseReason::Forbidden
        | CloseReason::Revoked => Action::Halt,
        // A message of a stream that this agent has given up never gets here, so a take-over is
        // always one by somebody else.
        CloseReason::TakenOver => Action::Backoff,
        _ => Action::Backoff,
    }
}

/// The link's state, and what it remembers from one attempt to the next.
pub(super) struct Link {
    pub(super) state: State,
    backoff: Box<dyn Backoff>,
    rng: fastrand::Rng,
    failures: u32,
    protocol_errors: u32,
    halts: u32,
}

impl Link {
    pub(super) fn new(backoff: Box<dyn Backoff>, rng: fastrand::Rng, now: MonoTime) -> Self {
        Self {
            state: State::Backoff { until: now },
            backoff,
            rng,
            failures: 0,
            protocol_errors: 0,
            halts: 0,
        }
    }

    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) const fn epoch(&self) -> Option<u64> {
        match self.state {
            State::Active { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    pub(super) const fn is_active(&self) -> bool {
        self.epoch().is_some()
    }

    /// Whether there is a stream, or will soon be one.
    pub(super) const fn has_stream(&self) -> bool {
        matches!(self.state, State::Registering { .. } | State::Active { .. })
    }

    /// Whether it is time to dial.
    pub(super) fn is_due(&self, now: MonoTime) -> bool {
        matches!(self.state, State::Backoff { until } | State::Halted { until } if until <= now)
    }

    /// Moves on after an end, and says how.
    pub(super) fn end(&mut self, end: &End, now: MonoTime) -> Next {
        if let State::Active { since, .. } = self.state
            && now.saturating_since(since) >= HEALTHY_AFTER
        {
            self.failures = 0;
            self.halts = 0;
        }
        let (reason, retry_after) = end.reason();
        let action = match end {
            End::Unreachable { .. } => Action::Backoff,
            End::Refused { .. } => Action::Halt,
            _ => action(reason),
        };
        match (action, end) {
            (Action::Protocol, _) => self.protocol_errors += 1,
            // An attempt that never became a session says nothing about the protocol.
            (_, End::Unreachable { .. }) => {}
            _ => self.protocol_errors = 0,
        }
        let next = match action {
            Action::Stop => Next::Stop,
            Action::Halt => self.halt(retry_after),
            Action::Protocol if self.protocol_errors >= PROTOCOL_ERRORS => self.halt(retry_after),
            Action::ComeBack => {
                let failures = self.failures;
                self.retry(failures, retry_after)
            }
            Action::Duplicate => {
                let failures = self.grow();
                self.retry(failures, Some(retry_after.unwrap_or(DUPLICATE_WAIT)))
            }
            Action::Backoff | Action::Protocol => {
                let failures = self.grow();
                self.retry(failures, retry_after)
            }
        };
        self.state = match next {
            Next::Retry { retry_in } => State::Backoff {
                until: now + retry_in,
            },
            Next::Halt { retry_in } => State::Halted {
                until: now + retry_in,
            },
            Next::Stop => State::Stopped,
        };
        next
    }

    /// Counts a failure and gives the count before it.
    const fn grow(&mut self) -> u32 {
        let failures = self.failures;
        self.failures = self.failures.saturating_add(1);
        failures
    }

    fn retry(&mut self, failures: u32, retry_after: Option<Duration>) -> Next {
        // Zero says nothing: a fleet that all comes back at once would be turned away again.
        let retry_in = match retry_after.filter(|asked| !asked.is_zero()) {
            Some(asked) => self.stretched(asked),
            None => self.backoff.delay(failures),
        };
        Next::Retry {
            retry_in: retry_in.max(SHORTEST),
        }
    }

    fn halt(&mut self, retry_after: Option<Duration>) -> Next {
        let most = HALTED_SHORTEST * 2_u32.saturating_pow(self.halts.min(8) + 1);
        let spread = most.min(HALTED_LONGEST) - HALTED_SHORTEST;
        self.halts = self.halts.saturating_add(1);
        let curve = HALTED_SHORTEST + spread.mul_f64(self.rng.f64());
        let asked = retry_after.map_or(Duration::ZERO, |asked| self.stretched(asked));
        Next::Halt {
            retry_in: curve.max(asked),
        }
    }

    /// As long as was asked for, plus up to half of it, so that a fleet does not come back at once.
    fn stretched(&mut self, asked: Duration) -> Duration {
        let asked = asked.min(LONGEST_RETRY_AFTER);
        asked + asked.mul_f64(self.rng.f64() / 2.0)
    }
}

impl End {
    /// The reason, as it would stand in a `Close`, and when to come back.
    pub(super) fn reason(&self) -> (CloseReason, Option<Duration>) {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => (CloseReason::TransportLost, None),
            Self::Refused { reason, .. } | Self::GaveUp { reason, .. } => (*reason, None),
            Self::Closed(close) => (close.reason, close.retry_after),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Unreachable { text }
            | Self::Refused { text, .. }
            | Self::Lost { text }
            | Self::GaveUp { text, .. } => text,
            Self::Closed(close) => &close.text,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("state", &self.state)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use CloseReason as R;

    use super::*;

    const T0: MonoTime = MonoTime::from_origin(Duration::from_secs(1_000));

    /// A link whose curve is 1 s, 2 s, 3 s …, so that the count can be read off the delay.
    fn link() -> Link {
        let backoff = |failures: u32| Duration::from_secs(u64::from(failures) + 1);
        Link::new(Box::new(backoff), fastrand::Rng::with_seed(7), T0)
    }

    fn active(link: &mut Link, since: MonoTime) {
        link.state = State::Active { since, epoch: 1 };
    }

    fn closed(reason: R, retry_after: Option<u64>) -> End {
        let mut close = Close::new(reason, "");
        close.retry_after = retry_after.map(Duration::from_secs);
        End::Closed(close)
    }

    fn seconds(next: Next) -> f64 {
        match next {
            Next::Retry { retry_in } | Next::Halt { retry_in } => retry_in.as_secs_f64(),
            Next::Stop => panic!("stopped"),
        }
    }

    #[derive(Debug, PartialEq)]
    enum Kind {
        Stop,
        Retry { grows: bool },
        Halt,
    }

    #[test]
    fn each_close_reason_has_its_one_action() {
        let grows = Kind::Retry { grows: true };
        let table = [
            (R::Normal, Kind::Stop),
            (R::Draining, Kind::Retry { grows: false }),
            (R::Rebalance, Kind::Retry { grows: false }),
            (R::TakenOver, grows),
            (R::DuplicateInstance, Kind::Retry { grows: true }),
            (R::RegisterTimeout, Kind::Retry { grows: true }),
            (R::LivenessTimeout, Kind::Retry { grows: true }),
            (R::Internal, Kind::Retry { grows: true }),
            (R::Overloaded, Kind::Retry { grows: true }),
            (R::SlowConsumer, Kind::Retry { grows: true }),
            (R::StoreUnavailable, Kind::Retry { grows: true }),
            (R::ProtocolError, Kind::Retry { grows: true }),
            (R::MessageTooLarge, Kind::Retry { grows: true }),
            (R::Incompatible, Kind::Halt),
            (R::Unauthenticated, Kind::Halt),
            (R::Forbidden, Kind::Halt),
            (R::Revoked, Kind::Halt),
            (R::TransportLost, Kind::Retry { grows: true }),
            (R::Unknown, Kind::Retry { grows: true }),
        ];
        for (reason, expected) in table {
            let mut link = link();
            active(&mut link, T0);
            let next = link.end(&closed(reason, None), T0);
            let kind = match next {
                Next::Stop => Kind::Stop,
                Next::Halt { retry_in } => {
                    assert!(retry_in >= HALTED_SHORTEST && retry_in <= HALTED_SHORTEST * 2);
                    Kind::Halt
                }
                Next::Retry { .. } => Kind::Retry {
                    grows: link.failures == 1,
                },
            };
            assert_eq!(kind, expected, "{reason:?}");
        }
    }

    #[test]
    fn a_time_to_come_back_is_obeyed_with_up_to_half_of_it_more() {
        for reason in [
            R::Draining,
            R::Overloaded,
            R::TakenOver,
            R::DuplicateInstance,
        ] {
            let mut link = link();
            let delays: Vec<f64> = (0..200)
                .map(|_| seconds(link.end(&closed(reason, Some(40)), T0)))
                .collect();
            assert!(
                delays.iter().all(|d| (40.0..=60.0).contains(d)),
                "{reason:?}"
            );
            assert!(delays.iter().any(|d| *d > 55.0) && delays.iter().any(|d| *d < 45.0));
        }
    }

    #[test]
    fn a_time_of_zero_to_come_back_leaves_it_to_the_curve() {
        let mut link = link();
        assert_eq!(seconds(link.end(&closed(R::Overloaded, Some(0)), T0)), 1.0);
        assert_eq!(seconds(link.end(&closed(R::Overloaded, Some(0)), T0)), 2.0);
    }

    #[test]
    fn a_duplicate_that_is_not_told_how_long_waits_five_minutes() {
        let mut link = link();
        assert!(seconds(link.end(&closed(R::DuplicateInstance, None), T0)) >= 300.0);
    }

    #[test]
    fn the_count_of_failures_starts_again_only_after_sixty_seconds_in_session() {
        let mut link = link();
        let lost = End::Lost {
            text: String::new(),
        };
        for expected in [1.0, 2.0, 3.0] {
            active(&mut link, T0);
            assert_eq!(
                seconds(link.end(&lost, T0 + Duration::from_secs(59))),
                expected
            );
        }
        active(&mut link, T0);
        assert_eq!(seconds(link.end(&lost, T0 + Duration::from_secs(60))), 1.0);
    }

    #[test]
    fn three_protocol_errors_in_a_row_halt_and_any_other_end_breaks_the_row() {
        let mut link = link();
        let error = closed(R::ProtocolError, None);
        let too_large = closed(R::MessageTooLarge, None);
        assert!(matches!(link.end(&error, T0), Next::Retry { .. }));
        assert!(matches!(link.end(&too_large, T0), Next::Retry { .. }));
        assert!(matches!(
            link.end(&closed(R::Internal, None), T0),
            Next::Retry { .. }
        ));
        assert!(matches!(link.end(&error, T0), Next::Retry { .. }));
        assert!(matches!(link.end(&error, T0), Next::Retry { .. }));
        let unreachable = End::Unreachable {
            text: String::new(),
        };
        assert!(matches!(link.end(&unreachable, T0), Next::Retry { .. }));
        assert!(matches!(link.end(&error, T0), Next::Halt { .. }));
        assert!(matches!(link.end(&error, T0), Next::Halt { .. }));
    }

    #[test]
    fn a_halted_agent_tries_again_between_five_minutes_and_one_hour() {
        let mut link = link();
        let refused = End::Refused {
            reason: R::Unauthenticated,
            text: String::new(),
        };
        let delays: Vec<f64> = (0..40).map(|_| seconds(link.end(&refused, T0))).collect();
        assert!(delays.iter().all(|d| (300.0..=3_600.0).contains(d)));
        assert!(delays[0] <= 600.0);
        assert!(delays[5..].iter().any(|d| *d > 1_800.0));
    }

    #[test]
    fn a_custom_backoff_can_not_make_a_tight_loop() {
        let zero = |_: u32| Duration::ZERO;
        let mut link = Link::new(Box::new(zero), fastrand::Rng::with_seed(7), T0);
        let unreachable = End::Unreachable {
            text: String::new(),
        };
        assert_eq!(seconds(link.end(&unreachable, T0)), 0.1);
        assert_eq!(seconds(link.end(&closed(R::Draining, Some(0)), T0)), 0.1);
    }
}
