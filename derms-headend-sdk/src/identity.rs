//! Which agent is calling, as proved to a layer in front of the service.

use derms_proto::AgentId;

/// What precedes the id in the URI name (SAN) of an agent's certificate.
pub(crate) const URN: &str = "urn:derms:agent:";

/// The agent that makes a request, as proved to the layer that put it there.
///
/// A host whose own server ends TLS, or that knows agents in another way, inserts it as a request
/// extension. An agent that registers under another id is then turned away. A headend that has
/// something to check of its own ([`HeadendBuilder::tls`](crate::HeadendBuilder::tls) with a client
/// CA, agent tokens, trusted proxies) wants what the host says and what it finds to name the same
/// agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AgentIdentity(AgentId);

impl AgentIdentity {
    /// This agent.
    #[must_use]
    pub const fn new(agent: AgentId) -> Self {
        Self(agent)
    }

    /// From the URI name of a certificate, `urn:derms:agent:<uuid>`; `None` if it is another name.
    /// The scheme and the id are compared without regard to case.
    #[must_use]
    pub fn from_urn(text: &str) -> Option<Self> {
        let (prefix, id) = text.split_at_checked(URN.len())?;
        // Other forms of a UUID (braces, no dashes) would let one agent have several names.
        let plain = id.len() == 36;
        let named = prefix.eq_ignore_ascii_case(URN) && plain;
        named.then(|| id.parse().ok().map(Self)).flatten()
    }

    /// The agent's id.
    #[must_use]
    pub const fn agent(self) -> AgentId {
        self.0
    }

    /// The URI name that the agent's certificate has.
    #[must_use]
    pub fn urn(self) -> String {
        format!("{URN}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";

    #[test]
    fn an_agent_is_known_by_its_urn_and_by_nothing_like_it() {
        let identity = AgentIdentity::new(ID.parse().unwrap());
        assert_eq!(identity.urn(), format!("urn:derms:agent:{ID}"));
        assert_eq!(AgentIdentity::from_urn(&identity.urn()), Some(identity));
        assert_eq!(
            AgentIdentity::from_urn(&identity.urn().to_uppercase()),
            Some(identity)
        );
        for text in [
            "",
            "urn:derms:agent:",
            "urn:derms:agent",
            ID,
            &format!("urn:derms:site:{ID}"),
            &format!("urn:derms:agent:{ID}x"),
            &format!("urn:derms:agent:{{{ID}}}"),
            &format!(" urn:derms:agent:{ID}"),
            "urn:derms:agentä",
        ] {
            assert_eq!(AgentIdentity::from_urn(text), None, "{text}");
        }
    }
}
