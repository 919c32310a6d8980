//! Who was turned away: logged, counted and in the audit trail, in one place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use derms_proto::{AgentId, AssetId};

use crate::audit::Audit;

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

/// The counters behind [`LinkRefusals`].
#[derive(Debug)]
pub(crate) struct Refusals {
    audit: Arc<Audit>,
    handshakes: AtomicU64,
    identities: AtomicU64,
    claims: AtomicU64,
    revoked: AtomicU64,
}

impl Refusals {
    pub(crate) fn new(audit: Arc<Audit>) -> Self {
        Self {
            audit,
            handshakes: AtomicU64::default(),
            identities: AtomicU64::default(),
            claims: AtomicU64::default(),
            revoked: AtomicU64::default(),
        }
    }

    /// Everyone who is turned away goes through here.
    pub(crate) fn record(&self, refusal: &Refusal<'_>) {
        let counter = match refusal {
            Refusal::Handshake { peer, text } => {
                tracing::warn!(%peer, reason = text, "certificate refused");
                self.tell(Some(&peer.to_string()), None, "a TLS handshake", text);
                &self.handshakes
            }
            Refusal::Identity { peer, agent, text } => {
                let shown = agent.map(tracing::field::display);
                tracing::warn!(peer, agent = shown, reason = text, "agent refused");
                self.tell(*peer, *agent, "a session", text);
                &self.identities
            }
            Refusal::Claim { peer, agent, asset } => {
                tracing::warn!(peer, %agent, %asset, "claim refused: not this agent's asset");
                let target = format!("asset {asset}");
                self.tell(*peer, Some(*agent), &target, "not this agent's asset");
                &self.claims
            }
            Refusal::Revoked { peer, agent, text } => {
                tracing::warn!(peer, %agent, reason = text, "session ended: no longer trusted");
                self.tell(*peer, Some(*agent), "a session", text);
                &self.revoked
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn tell(&self, peer: Option<&str>, agent: Option<AgentId>, target: &str, why: &str) {
        let agent = agent.map(|agent| format!("agent {agent}"));
        self.audit
            .refused_claim(agent.as_deref(), peer, target.to_owned(), why.to_owned());
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
