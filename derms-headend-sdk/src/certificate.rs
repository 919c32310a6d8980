//! The certificate of a caller, as far as it is of use when the handshake is over.

use derms_proto::{AgentId, Timestamp};

/// A certificate that was good at the handshake.
#[derive(Debug)]
pub(crate) struct PeerCertificate {
    /// DER, the caller's own first.
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "without TLS there is no certificate")
    )]
    pub(crate) chain: Vec<Vec<u8>>,
    /// Whom it names.
    pub(crate) agent: Result<AgentId, &'static str>,
    /// The end of its validity, or of that of a CA above it if that is earlier.
    pub(crate) not_after: Timestamp,
}

impl PeerCertificate {
    pub(crate) fn agent(&self) -> Result<AgentId, &'static str> {
        self.agent
    }

    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        now > self.not_after
    }
}
