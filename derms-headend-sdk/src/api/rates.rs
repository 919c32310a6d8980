//! How many calls are taken, and of whom.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use derms_proto::{Problem, ProblemCode};
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http::request::Parts;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Failure;
use crate::auth::Principal;
use crate::config;

pub(crate) type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// Logins of one address that may fail at once, and then one in so many seconds.
const FAILED_LOGINS: u32 = 20;
const FAILED_LOGIN_EVERY: Duration = Duration::from_secs(3);
/// Those who called of late; more are looked through for those that can be forgotten.
const MOST_KEYS: usize = 10_000;
/// This part of the calls in hand is kept for those that change something; and no principal has a
/// larger one.
const SHARE: usize = 8;
/// A live stream that had no room may come back after this.
const STREAM_RETRY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Rates {
    calls: Keyed<String>,
    failed_logins: Keyed<IpAddr>,
    in_hand: Arc<Semaphore>,
    kept_for_changes: Arc<Semaphore>,
    of_principals: Arc<Counts>,
    most_of_one: usize,
    streams: Arc<Semaphore>,
    streams_of_principals: Arc<Counts>,
    most_streams_of_one: usize,
}

/// Calls in hand of each principal that has some.
#[derive(Debug, Default)]
struct Counts(Mutex<HashMap<String, usize>>);

/// A call is in hand until this is dropped.
#[derive(Debug)]
pub(super) struct InHand {
    _permit: OwnedSemaphorePermit,
    _counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    counts: Arc<Counts>,
    who: String,
}

impl Counts {
    fn take(self: &Arc<Self>, who: &str, most: usize) -> Option<Counted> {
        let mut counts = self.0.lock();
        let count = counts.entry(who.to_owned()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted {
            counts: Arc::clone(self),
            who: who.to_owned(),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock();
        if let Some(count) = counts.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.who);
            }
        }
    }
}

/// The place among the calls in hand of the call that is handled. All clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn(Arc<Mutex<Option<InHand>>>);

impl Turn {
    pub(super) fn new(in_hand: InHand) -> Self {
        Self(Arc::new(Mutex::new(Some(in_hand))))
    }

    /// What comes now is only a wait, and holds nobody up.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Turn {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

impl Rates {
    pub(crate) fn new(rates: config::Rates) -> Self {
        // Both were checked to be above 0.
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let calls = Quota::per_second(number(rates.per_second)).allow_burst(number(rates.burst));
        Self {
            calls: RateLimiter::hashmap(calls),
            failed_logins: of_failures(),
            in_hand: Arc::new(Semaphore::new(rates.in_hand - rates.in_hand / SHARE)),
            kept_for_changes: Arc::new(Semaphore::new(rates.in_hand / SHARE)),
            of_principals: Arc::default(),
            most_of_one: rates.in_hand.div_ceil(SHARE),
            streams: Arc::new(Semaphore::new(rates.streams)),
            streams_of_principals: Arc::default(),
            most_streams_of_one: rates.streams.div_ceil(SHARE),
        }
    }

    pub(super) fn call(&self, principal: &Principal) -> Result<(), Failure> {
        check(
            &self.calls,
            &principal.name().to_owned(),
            "you call too often",
        )
    }

    /// What comes after a login that failed; `Err`: too many have, and this one is not worth a
    /// record. A good login is never held up: whoever fails from the same address can't keep it out.
    pub(super) fn failed_login(&self, peer: Option<IpAddr>) -> Result<(), Failure> {
        let unknown = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let key = peer.map_or(unknown, network);
        check(
            &self.failed_logins,
            &key,
            "too many logins from your address have failed",
        )
    }

    /// Takes a call in hand, if there is room for it, and room for one more of this principal.
    pub(super) fn take_in_hand(
        &self,
        principal: Option<&Principal>,
        changes: bool,
    ) -> Result<InHand, Failure> {
        let refused = |what| refusal(what, Duration::from_secs(1));
        let counted = principal.map(|principal| {
            let counted = self.of_principals.take(principal.name(), self.most_of_one);
            counted.ok_or_else(|| refused("too many of your calls are in hand"))
        });
        let counted = counted.transpose()?;
        let take = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned().ok();
        let of_changes = || changes.then_some(&self.kept_for_changes).and_then(take);
        let permit = take(&self.in_hand).or_else(of_changes);
        Ok(InHand {
            _permit: permit.ok_or_else(|| refused("too many calls are in hand"))?,
            _counted: counted,
        })
    }

    /// Takes a live stream in hand, which lasts: they are counted apart, so that they leave the calls
    /// their room.
    pub(super) fn take_stream(&self, principal: Option<&Principal>) -> Result<InHand, Failure> {
        let refused = |what| refusal(what, STREAM_RETRY);
        let counted = principal.map(|principal| {
            let of = &self.streams_of_principals;
            let counted = of.take(principal.name(), self.most_streams_of_one);
            counted.ok_or_else(|| refused("too many live streams of yours are open"))
        });
        let counted = counted.transpose()?;
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        Ok(InHand {
            _permit: permit.map_err(|_| refused("too many live streams are open"))?,
            _counted: counted,
        })
    }
}

/// So many failures of one caller are worth a record.
pub(crate) fn of_failures<K: Clone + Eq + Hash>() -> Keyed<K> {
    let failures = Quota::with_period(FAILED_LOGIN_EVERY)
        .unwrap_or(Quota::per_minute(NonZeroU32::MIN))
        .allow_burst(NonZeroU32::new(FAILED_LOGINS).unwrap_or(NonZeroU32::MIN));
    RateLimiter::hashmap(failures)
}

/// `Err`: it is too much, for so long.
pub(crate) fn take<K: Clone + Eq + Hash>(limiter: &Keyed<K>, key: &K) -> Result<(), Duration> {
    if limiter.len() > MOST_KEYS {
        limiter.retain_recent();
    }
    let taken = limiter.check_key(key);
    taken.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
}

fn check<K: Clone + Eq + Hash>(limiter: &Keyed<K>, key: &K, what: &str) -> Result<(), Failure> {
    take(limiter, key).map_err(|wait| refusal(what, wait))
}

fn refusal(what: &str, wait: Duration) -> Failure {
    let text = format!("{what}; try again as the header retry-after says");
    // At least a second, for that is what the header can say.
    let wait = wait.max(Duration::from_secs(1));
    Failure::from(Problem::new(ProblemCode::TooManyRequests, text)).retry_after(wait)
}

/// One subscriber has 2⁶⁴ addresses of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Rates {
        of_in_hand(2)
    }

    fn of_in_hand(in_hand: usize) -> Rates {
        Rates::new(config::Rates {
            per_second: 1,
            burst: 3,
            in_hand,
            streams: 16,
        })
    }

    #[test]
    fn each_principal_has_a_rate_of_its_own() {
        let rates = rates();
        let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
        for _ in 0..3 {
            rates.call(&ann).unwrap();
        }
        rates.call(&ann).unwrap_err();
        rates.call(&bob).unwrap();
    }

    #[test]
    fn so_many_are_in_hand_and_no_more() {
        let rates = rates();
        let first = rates.take_in_hand(None, false).unwrap();
        let _second = rates.take_in_hand(None, false).unwrap();
        rates.take_in_hand(None, true).unwrap_err();
        drop(first);
        assert!(rates.take_in_hand(None, false).is_ok());
    }

    #[test]
    fn one_principal_has_no_more_than_its_share_in_hand() {
        let rates = of_in_hand(16);
        let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
        let first = rates.take_in_hand(Some(&ann), true).unwrap();
        let turn = Turn::new(rates.take_in_hand(Some(&ann), false).unwrap());
        rates.take_in_hand(Some(&ann), true).unwrap_err();
        rates.take_in_hand(Some(&bob), true).unwrap();
        turn.clone().end();
        let _next = rates.take_in_hand(Some(&ann), true).unwrap();
        drop(first);
        rates.take_in_hand(Some(&ann), true).unwrap();
    }

    #[test]
    fn live_streams_are_bounded_by_themselves_and_for_each_principal() {
        let rates = of_in_hand(2);
        let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
        let first = rates.take_stream(Some(&ann)).unwrap();
        let _second = rates.take_stream(Some(&ann)).unwrap();
        rates.take_stream(Some(&ann)).unwrap_err();
        let of_bob = rates.take_stream(Some(&bob)).unwrap();
        let others: Vec<InHand> = (0..13).map(|_| rates.take_stream(None).unwrap()).collect();
        rates.take_stream(None).unwrap_err();
        let _calls = [(); 2].map(|()| rates.take_in_hand(None, true).unwrap());
        drop((first, of_bob, others));
        rates.take_stream(Some(&ann)).unwrap();
    }

    #[test]
    fn calls_that_only_read_leave_room_for_those_that_change_something() {
        let rates = of_in_hand(16);
        let take = |changes| rates.take_in_hand(None, changes);
        let reads: Vec<InHand> = (0..14).map(|_| take(false).unwrap()).collect();
        take(false).unwrap_err();
        let _changes = [take(true).unwrap(), take(true).unwrap()];
        take(true).unwrap_err();
        drop(reads);
        take(false).unwrap();
    }

    #[test]
    fn failed_logins_are_counted_by_address_and_those_of_ipv6_by_network() {
        let rates = rates();
        let address = |text: &str| Some(text.parse().unwrap());
        for n in 0..FAILED_LOGINS {
            let one = format!("2001:db8::{n:x}");
            rates.failed_login(address(&one)).unwrap();
        }
        rates.failed_login(address("2001:db8::ffff")).unwrap_err();
        rates.failed_login(address("2001:db8:0:1::1")).unwrap();
        rates.failed_login(address("192.0.2.1")).unwrap();
        rates.failed_login(None).unwrap();
    }
}
