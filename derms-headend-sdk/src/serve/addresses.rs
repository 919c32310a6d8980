//! How many connections each address has open.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::api::rates::network;
use crate::link_auth::TrustedProxies;

/// The connections of all listeners, by the address of the peer; of IPv6 by its /64.
#[derive(Debug)]
pub(crate) struct Addresses {
    most: usize,
    /// Behind these are many callers.
    exempt: Option<TrustedProxies>,
    taken: Mutex<HashMap<IpAddr, Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    open: usize,
    /// The log has said that there are too many.
    told: bool,
}

/// A connection that counts as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    addresses: Arc<Addresses>,
    address: Option<IpAddr>,
}

impl Addresses {
    pub(crate) fn new(most: usize, exempt: Option<TrustedProxies>) -> Self {
        Self {
            most,
            exempt,
            taken: Mutex::default(),
        }
    }

    /// `None`: this address has as many as it may.
    pub(super) fn take(self: &Arc<Self>, peer: SocketAddr) -> Option<Place> {
        let exempt = self.exempt.as_ref();
        let address = match exempt.is_some_and(|proxies| proxies.trusts(peer.ip())) {
            true => None,
            false => Some(network(peer.ip())),
        };
        if let Some(address) = address {
            let mut taken = self.taken.lock();
            let taken = taken.entry(address).or_default();
            if taken.open >= self.most {
                if !std::mem::replace(&mut taken.told, true) {
                    tracing::warn!(%address, most = self.most,
                        "too many connections from one address; more are closed at once");
                }
                return None;
            }
            taken.open += 1;
        }
        Some(Place {
            addresses: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else {
            return;
        };
        let mut all = self.addresses.taken.lock();
        if let Some(taken) = all.get_mut(&address) {
            taken.open -= 1;
            if taken.open == 0 {
                all.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_has_no_more_than_its_share_until_one_of_them_ends() {
        let addresses = Arc::new(Addresses::new(2, None));
        let first = addresses.take(peer("192.0.2.1:1")).unwrap();
        let second = addresses.take(peer("192.0.2.1:2")).unwrap();
        assert!(addresses.take(peer("192.0.2.1:3")).is_none());
        assert!(addresses.take(peer("[::ffff:192.0.2.1]:3")).is_none());
        assert!(addresses.take(peer("192.0.2.2:1")).is_some());
        drop(first);
        let third = addresses.take(peer("192.0.2.1:3"));
        assert!(third.is_some());
        drop((second, third));
        assert!(addresses.taken.lock().is_empty(), "nothing is kept of them");
    }

    #[test]
    fn a_subscriber_of_ipv6_counts_as_one() {
        let addresses = Arc::new(Addresses::new(1, None));
        let _first = addresses.take(peer("[2001:db8::1]:1")).unwrap();
        assert!(addresses.take(peer("[2001:db8::2]:1")).is_none());
        assert!(addresses.take(peer("[2001:db8:0:1::1]:1")).is_some());
    }

    #[test]
    fn a_trusted_proxy_may_have_any_number() {
        let header = HeaderName::from_static("x");
        let proxies = TrustedProxies::new(["10.0.0.1"], header).unwrap();
        let addresses = Arc::new(Addresses::new(1, Some(proxies)));
        let _first = addresses.take(peer("10.0.0.1:1")).unwrap();
        assert!(addresses.take(peer("10.0.0.1:2")).is_some());
    }
}
