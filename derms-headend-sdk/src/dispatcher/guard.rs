//! How much power may be ordered: by one order, and by one principal in a minute. It bounds what a
//! slip of the keyboard, a runaway program or a stolen token can do.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use derms_proto::{FollowUp, NewDispatch, NewLimit, Power};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{DispatchError, Dispatcher};
use crate::auth::Principal;
use crate::limits::LimitError;

const MINUTE: Duration = Duration::from_secs(60);

/// What is set; `None` = no such bound.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PowerBounds {
    /// Of one order, for an asset or a site, or of one limit, whatever its sign, MW.
    pub(crate) per_dispatch: Option<Power>,
    /// Of all orders and limits of a principal within a minute, whatever their sign, MW.
    pub(crate) per_minute: Option<Power>,
}

/// When, and how many MW without their sign; oldest first.
type Orders = VecDeque<(Instant, f64)>;

/// What was ordered of late.
#[derive(Debug, Default)]
pub(super) struct Guard {
    bounds: PowerBounds,
    /// Callers that nobody has proved are one.
    ordered: Mutex<HashMap<Option<String>, Orders>>,
}

/// Why a power is not taken.
#[derive(Debug)]
pub(super) enum Over {
    /// It is more than one may be.
    One { mw: Power, most: Power },
    /// With what was ordered before it is more than a minute's.
    Minute { most: Power, retry_after: Duration },
}

impl From<Over> for DispatchError {
    fn from(over: Over) -> Self {
        match over {
            Over::One { mw, most } => Self::OverGuard { mw, most },
            Over::Minute { most, retry_after } => Self::OverRate { most, retry_after },
        }
    }
}

impl From<Over> for LimitError {
    fn from(over: Over) -> Self {
        match over {
            Over::One { mw, most } => Self::OverGuard { mw, most },
            Over::Minute { most, retry_after } => Self::OverRate { most, retry_after },
        }
    }
}

/// The larger of the powers that an order asks for: its own, and the one that comes after it.
pub(super) fn asked(new: &NewDispatch) -> Power {
    match new.follow_up {
        Some(FollowUp::Value(after)) if after.mw().abs() > new.mw.mw().abs() => after,
        _ => new.mw,
    }
}

/// The power that a limit makes an asset give or take whatever was ordered; 0 if it only narrows.
fn forced(new: &NewLimit) -> Power {
    let export = new.min_mw.filter(|min| min.mw() > 0.0);
    let import = new.max_mw.filter(|max| max.mw() < 0.0);
    export.or(import).unwrap_or(Power::from_mw(0.0))
}

/// A part of a minute's power. It is given back if the order is not taken.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    guard: &'a Guard,
    who: Option<String>,
    at: Instant,
    mw: f64,
}

impl Guard {
    pub(super) fn new(bounds: PowerBounds) -> Self {
        Self {
            bounds,
            ordered: Mutex::default(),
        }
    }

    pub(super) fn check_one(&self, mw: Power) -> Result<(), Over> {
        match self.bounds.per_dispatch {
            Some(most) if mw.mw().abs() > most.mw() => Err(Over::One { mw, most }),
            _ => Ok(()),
        }
    }

    /// Takes the power of an order out of what is left of the minute; `None`: there is no bound.
    pub(super) fn reserve(
        &self,
        principal: Option<&Principal>,
        mw: Power,
    ) -> Result<Option<Reserved<'_>>, Over> {
        let Some(most) = self.bounds.per_minute else {
            return Ok(None);
        };
        let (now, mw) = (Instant::now(), mw.mw().abs());
        let who = principal.map(|principal| principal.name().to_owned());
        let mut all = self.ordered.lock();
        // Few principals order within a minute; the others are not kept.
        all.retain(|_, orders| {
            orders.retain(|(at, _)| now.duration_since(*at) < MINUTE);
            !orders.is_empty()
        });
        let orders = all.entry(who.clone()).or_default();
        let sum: f64 = orders.iter().map(|(_, mw)| mw).sum();
        if sum + mw > most.mw() {
            return Err(Over::Minute {
                most,
                retry_after: wait(orders, now, sum + mw - most.mw()),
            });
        }
        orders.push_back((now, mw));
        drop(all);
        Ok(Some(Reserved {
            guard: self,
            who,
            at: now,
            mw,
        }))
    }
}

impl Dispatcher {
    /// Takes the power that a limit forces out of what is left of the minute; `None`: none is taken.
    pub(crate) fn reserve_limit(
        &self,
        new: &NewLimit,
        principal: Option<&Principal>,
    ) -> Result<Option<Reserved<'_>>, LimitError> {
        let mw = forced(new);
        self.guard.check_one(mw)?;
        if mw.mw() == 0.0 {
            return Ok(None);
        }
        Ok(self.guard.reserve(principal, mw)?)
    }
}

/// When so much of it is older than a minute; a minute if it never fits.
fn wait(orders: &Orders, now: Instant, mut surplus: f64) -> Duration {
    for (at, mw) in orders {
        surplus -= mw;
        if surplus <= 0.0 {
            return (*at + MINUTE).saturating_duration_since(now);
        }
    }
    MINUTE
}

impl Reserved<'_> {
    /// The order was taken.
    pub(crate) fn keep(mut self) {
        self.mw = 0.0;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.mw == 0.0 {
            return;
        }
        let mut all = self.guard.ordered.lock();
        if let Some(orders) = all.get_mut(&self.who)
            && let Some(place) = orders.iter().position(|it| *it == (self.at, self.mw))
        {
            orders.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mw(mw: f64) -> Power {
        Power::from_mw(mw)
    }

    fn guard(per_minute: f64) -> Guard {
        Guard::new(PowerBounds {
            per_dispatch: Some(mw(10.0)),
            per_minute: Some(mw(per_minute)),
        })
    }

    #[test]
    fn one_order_is_bounded_in_both_directions() {
        let guard = guard(1.0);
        guard.check_one(mw(-10.0)).unwrap();
        for power in [10.1, -10.1] {
            assert!(guard.check_one(mw(power)).is_err(), "{power}");
        }
        Guard::default().check_one(mw(1e9)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_orders_of_a_minute_are_bounded_for_each_principal_alone() {
        let guard = guard(10.0);
        let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
        let order = |who, power| {
            let reserved = guard.reserve(who, mw(power));
            reserved.map(|reserved| reserved.unwrap().keep())
        };
        order(Some(&ann), 6.0).unwrap();
        tokio::time::advance(Duration::from_secs(20)).await;
        order(Some(&ann), -4.0).unwrap();
        order(Some(&ann), 0.0).unwrap();
        let retry = |result: Result<(), Over>| match result {
            Err(Over::Minute { retry_after, .. }) => retry_after.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            retry(order(Some(&ann), 1.0)),
            40,
            "when the first is a minute old"
        );
        assert_eq!(retry(order(Some(&ann), 7.0)), 60, "when both are");
        assert_eq!(retry(order(Some(&ann), 11.0)), 60, "never");
        order(Some(&bob), 10.0).unwrap();
        order(None, 10.0).unwrap();
        tokio::time::advance(Duration::from_secs(40)).await;
        order(Some(&ann), 6.0).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_taken_is_given_back() {
        let guard = guard(10.0);
        drop(guard.reserve(None, mw(8.0)).unwrap());
        guard.reserve(None, mw(10.0)).unwrap().unwrap().keep();
        assert!(guard.reserve(None, mw(0.1)).is_err());
    }
}
