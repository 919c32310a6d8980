//! How many calls are taken, and of whom.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{Problem, ProblemCode};
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
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

#[derive(Debug)]
pub(crate) struct Rates {
    calls: Keyed<String>,
    failed_logins: Keyed<IpAddr>,
    in_hand: Arc<Semaphore>,
}

impl Rates {
    pub(crate) fn new(rates: config::Rates) -> Self {
        // Both were checked to be above 0.
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let calls = Quota::per_second(number(rates.per_second)).allow_burst(number(rates.burst));
        Self {
            calls: RateLimiter::hashmap(calls),
            failed_logins: of_failures(),
            in_hand: Arc::new(Semaphore::new(rates.in_hand)),
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

    pub(super) fn take_in_hand(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = Arc::clone(&self.in_hand).try_acquire_owned();
        permit.map_err(|_| refusal("too many calls are in hand", Duration::from_secs(1)))
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
        Rates::new(config::Rates {
            per_second: 1,
            burst: 3,
            in_hand: 2,
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
        let first = rates.take_in_hand().unwrap();
        let _second = rates.take_in_hand().unwrap();
        rates.take_in_hand().unwrap_err();
        drop(first);
        assert!(rates.take_in_hand().is_ok());
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
