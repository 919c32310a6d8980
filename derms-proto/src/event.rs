//! Alarms and changes of state.

use serde::{Deserialize, Serialize};

use crate::{AgentId, AssetId, EventId, SiteId, Timestamp};

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it some time.
    Warning,
    /// Look at it now.
    Alarm,
    /// Act now.
    Critical,
    /// Sent by a newer headend than this type knows; compares above the others, so that it is not
    /// overlooked. Never asked for.
    #[serde(other)]
    Unknown,
}

/// Who raised an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventSource {
    /// A device or its agent.
    Agent,
    /// The headend, of what it sees.
    Headend,
    /// Sent by a newer headend than this type knows. Never asked for.
    #[serde(other)]
    Unknown,
}

/// An alarm or a change of state, an item of `GET /events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Event {
    /// Its id (UUIDv7: sorts by time of receipt).
    pub id: EventId,
    /// When it happened, on the headend's clock as the agent estimates it; never after
    /// `received_at`.
    pub at: Timestamp,
    /// When the headend received it, or raised it.
    pub received_at: Timestamp,
    /// The asset it is about; `null`: none in particular.
    pub asset_id: Option<AssetId>,
    /// The site it is about; `null`: none in particular.
    pub site_id: Option<SiteId>,
    /// The agent that told it, or that it is about.
    pub agent_id: Option<AgentId>,
    /// How much it matters.
    pub severity: Severity,
    /// For programs: stable, lower case with underscores, at most 128 bytes.
    pub code: String,
    /// For people, at most 1,024 bytes.
    pub text: String,
    /// Who raised it.
    pub source: EventSource,
    /// Who has taken note of it first; `null`: nobody yet.
    pub acknowledged: Option<Acknowledgement>,
}

/// An operator has taken note of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Acknowledgement {
    /// When.
    pub at: Timestamp,
    /// By whom; `null` without authentication.
    pub by: Option<String>,
    /// What they had to say.
    pub note: Option<String>,
}

/// The body of `POST /events/{id}/ack`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewAcknowledgement {
    /// For people, at most 1,024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_length = 1024))]
    pub note: Option<String>,
}

impl Severity {
    /// All that are known, from the least.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warning, Self::Alarm, Self::Critical];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_in_the_order_of_how_much_they_matter() {
        assert!(Severity::ALL.is_sorted());
        assert!(Severity::ALL.iter().all(|it| *it < Severity::Unknown));
    }
}
