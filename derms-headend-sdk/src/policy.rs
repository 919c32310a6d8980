//! Which agent may serve which asset.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use derms_proto::{AgentId, Asset, Fleet};

/// Says which agent may serve which asset: the registry of an embedder in place of the fleet file.
///
/// It is asked at each claim and for each report; an answer should come from memory, and must not
/// wait. What it answers now counts: an asset that was granted stays so until the session ends.
/// Closures of `(agent, asset)` are policies.
///
/// The default is the rule of the fleet file: `agent_id` of the asset, or else the agent that has
/// the id of the asset or of its site ([`Asset::may_be_served_by`]).
pub trait AgentPolicy: Send + Sync + 'static {
    /// Whether this agent may serve this asset of the fleet.
    fn may_serve(&self, agent: AgentId, asset: &Asset) -> bool;
}

impl<F> AgentPolicy for F
where
    F: Fn(AgentId, &Asset) -> bool + Send + Sync + 'static,
{
    fn may_serve(&self, agent: AgentId, asset: &Asset) -> bool {
        self(agent, asset)
    }
}

/// The policy in force: the embedder's, or that of the fleet file.
#[derive(Clone)]
pub(crate) enum Policy {
    /// With everyone who may serve anything: all others are turned away before they cost anything.
    Fleet(Arc<HashSet<AgentId>>),
    Own(Arc<dyn AgentPolicy>),
}

impl Policy {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let known = fleet
            .assets()
            .iter()
            .flat_map(|asset| match asset.agent_id {
                Some(agent) => vec![agent],
                None => vec![asset.id.into(), asset.site_id.into()],
            });
        Self::Fleet(Arc::new(known.collect()))
    }

    pub(crate) fn may_serve(&self, agent: AgentId, asset: &Asset) -> bool {
        match self {
            Self::Fleet(_) => asset.may_be_served_by(agent),
            Self::Own(policy) => policy.may_serve(agent, asset),
        }
    }

    /// Whether this agent may serve any asset of the fleet.
    pub(crate) fn knows(&self, agent: AgentId, fleet: &Fleet) -> bool {
        match self {
            Self::Fleet(known) => known.contains(&agent),
            Self::Own(policy) => fleet.assets().iter().any(|a| policy.may_serve(agent, a)),
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fleet(_) => "Policy::Fleet",
            Self::Own(_) => "Policy::Own",
        })
    }
}
