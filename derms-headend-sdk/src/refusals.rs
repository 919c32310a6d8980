//! Who was turned away: logged, counted and in the audit trail, in one place.
//!
//! All are counted. Anyone who reaches the listener can be turned away as often as he likes, so only
//! some of them are logged and recorded: so many of each caller, and of all callers together. A
//! record tells how many before it were left out.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use derms_proto::{AgentId, AssetId};
use governor::{Quota, RateLimiter};

use crate::api::rates::{Keyed, network, of_failures, take};
use crate::audit::Audit;

/// Of all callers together so many a second are recorded, after a pause so many at once.
const ALL_PER_SECOND: u32 = 1;
const ALL_AT_ONCE: u32 = 200;

/// How often callers of the agent link were turned away since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkRefusals {
    /// TLS handshakes that ended because of the caller's certificate.
    pub handshakes: u64,
    /// Streams without a proof of who is calling, with a false one, or that registered as someone
    /// else; and agents that may serve nothing.
    pub identities: u64,
    /// Claims of an asset that the agent may not serve; each asset counts.
    pub claims: u64,
    /// Sessions that were ended because their certificate or token counts no longer.
    pub revoked: u64,
}

/// One time that someone was turned away.
#[derive(Debug)]
pub(crate) enum Refusal<'a> {
    Handshake {
        peer: SocketAddr,
        text: &'a str,
    },
    Identity {
        peer: Option<&'a str>,
        /// Whom it said it is, or proved to be.
        agent: Option<AgentId>,
        text: &'a str,
    },
    Claim {
        peer: Option<&'a str>,
        agent: AgentId,
        asset: AssetId,
    },
    Revoked {
        peer: Option<&'a str>,
        agent: AgentId,
        text: &'a str,
    },
}

/// Who is told apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Caller {
    /// Who has not proved to be anyone.
    At(IpAddr),
    /// With a session.
    Agent(AgentId),
}

impl Refusal<'_> {
    fn caller(&self) -> Caller {
        let at = |peer: Option<SocketAddr>| {
            let unknown = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            Caller::At(peer.map_or(unknown, |peer| network(peer.ip())))
        };
        match self {
            Self::Handshake { peer, .. } => at(Some(*peer)),
            Self::Identity { peer, .. } => at(peer.and_then(|peer| peer.parse().ok())),
            Self::Claim { agent, .. } | Self::Revoked { agent, .. } => Caller::Agent(*agent),
        }
    }
}

/// The counters behind [`LinkRefusals`].
#[derive(Debug)]
pub(crate) struct Refusals {
    audit: Arc<Audit>,
    each: Keyed<Caller>,
    all: Keyed<()>,
    /// Since the last that was recorded.
    left_out: AtomicU64,
    handshakes: AtomicU64,
    identities: AtomicU64,
    claims: AtomicU64,
    revoked: AtomicU64,
}

impl Refusals {
    pub(crate) fn new(audit: Arc<Audit>) -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let all = Quota::per_second(number(ALL_PER_SECOND)).allow_burst(number(ALL_AT_ONCE));
        Self {
            audit,
            each: of_failures(),
            all: RateLimiter::hashmap(all),
            left_out: AtomicU64::default(),
            handshakes: AtomicU64::default(),
            identities: AtomicU64::default(),
            claims: AtomicU64::default(),
            revoked: AtomicU64::default(),
        }
    }

    /// Everyone who is turned away goes through here.
    pub(crate) fn record(&self, refusal: &Refusal<'_>) {
        let counter = match refusal {
            Refusal::Handshake { .. } => &self.handshakes,
            Refusal::Identity { .. } => &self.identities,
            Refusal::Claim { .. } => &self.claims,
            Refusal::Revoked { .. } => &self.revoked,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        // That of the caller first: one who is over it takes nothing from the others.
        if take(&self.each, &refusal.caller()).is_err() || take(&self.all, &()).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            tracing::warn!(left_out, "more were turned away than are logged one by one");
        }
        let more = if left_out > 0 {
            format!("; before this, {left_out} refusals were left out of the trail")
        } else {
            String::new()
        };
        match refusal {
            Refusal::Handshake { peer, text } => {
                tracing::warn!(%peer, reason = text, "certificate refused");
                let why = format!("{text}{more}");
                self.tell(Some(&peer.to_string()), None, "a TLS handshake", why);
            }
            Refusal::Identity { peer, agent, text } => {
                let shown = agent.map(tracing::field::display);
                tracing::warn!(peer, agent_id = shown, reason = text, "agent refused");
                self.tell(*peer, *agent, "a session", format!("{text}{more}"));
            }
            Refusal::Claim { peer, agent, asset } => {
                tracing::warn!(peer, agent_id = %agent, asset_id = %asset, "claim refused: not this agent's asset");
                let why = format!("not this agent's asset{more}");
                self.tell(*peer, Some(*agent), &format!("asset {asset}"), why);
            }
            Refusal::Revoked { peer, agent, text } => {
                tracing::warn!(peer, agent_id = %agent, reason = text, "session ended: no longer trusted");
                self.tell(*peer, Some(*agent), "a session", format!("{text}{more}"));
            }
        }
    }

    fn tell(&self, peer: Option<&str>, agent: Option<AgentId>, target: &str, why: String) {
        let agent = agent.map(|agent| format!("agent {agent}"));
        self.audit
            .refused_claim(agent.as_deref(), peer, target.to_owned(), why);
    }

    pub(crate) fn snapshot(&self) -> LinkRefusals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkRefusals {
            handshakes: read(&self.handshakes),
            identities: read(&self.identities),
            claims: read(&self.claims),
            revoked: read(&self.revoked),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::config::Clock;

    fn refusals() -> (Refusals, Arc<Audit>) {
        let audit = Arc::new(Audit::new(Clock::default()));
        (Refusals::new(Arc::clone(&audit)), audit)
    }

    fn handshake(refusals: &Refusals, peer: &str) {
        refusals.record(&Refusal::Handshake {
            peer: peer.parse().unwrap(),
            text: "revoked",
        });
    }

    fn claim(refusals: &Refusals, agent: u128) {
        refusals.record(&Refusal::Claim {
            peer: None,
            agent: AgentId::new(Uuid::from_u128(agent)),
            asset: AssetId::new(Uuid::from_u128(1)),
        });
    }

    #[test]
    fn who_is_turned_away_over_and_over_is_counted_and_no_longer_recorded() {
        let (refusals, audit) = refusals();
        for port in 1..=1_000 {
            handshake(&refusals, &format!("192.0.2.1:{port}"));
        }
        // Loosely: time goes on.
        let recorded = audit.waiting().len();
        assert!((20..100).contains(&recorded), "{recorded}");
        assert_eq!(refusals.snapshot().handshakes, 1_000);
    }

    #[test]
    fn the_next_record_of_another_tells_how_many_were_left_out() {
        let (refusals, audit) = refusals();
        for port in 1..=1_000 {
            handshake(&refusals, &format!("192.0.2.1:{port}"));
        }
        let recorded = audit.waiting().len();
        handshake(&refusals, "192.0.2.2:1");
        let trail = audit.waiting();
        assert_eq!(trail.len(), recorded + 1, "it has a share of its own");
        let told: usize = trail
            .iter()
            .filter_map(|record| {
                record
                    .detail
                    .as_ref()?
                    .split(' ')
                    .nth(3)?
                    .parse::<usize>()
                    .ok()
            })
            .sum();
        assert_eq!(told + recorded, 1_000);
        handshake(&refusals, "192.0.2.3:1");
        let last = audit.waiting().pop().unwrap();
        assert_eq!(last.detail.as_deref(), Some("revoked"));
    }

    #[test]
    fn agents_are_told_apart_and_all_together_have_a_bound_too() {
        let (refusals, audit) = refusals();
        for _ in 0..50 {
            claim(&refusals, 1);
        }
        let of_one = audit.waiting().len();
        assert!(of_one < 50, "{of_one}");
        for agent in 2..=2_000 {
            claim(&refusals, agent);
        }
        let recorded = audit.waiting().len();
        assert!((200..300).contains(&recorded), "{recorded}");
        assert_eq!(refusals.snapshot().claims, 50 + 1_999);
    }
}
