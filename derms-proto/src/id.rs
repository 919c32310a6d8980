//! Stable identifiers. All are UUIDs, written in lower case.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is no UUID where an id was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a UUID; write it like 6ba7b810-9dad-11d1-80b4-00c04fd430c8")]
pub struct InvalidId {
    /// The offending text, cut to 64 characters.
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(#[cfg_attr(feature = "schema", schema(inline))] Uuid);

        impl $name {
            /// Wraps a UUID.
            #[must_use]
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::from_str(text).map(Self).map_err(|_| InvalidId {
                    text: text.chars().take(64).collect(),
                })
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }
    };
}

id! {
    /// A site: a place with one or more assets.
    SiteId
}
id! {
    /// An asset: one controllable or measured resource, the unit of addressing.
    AssetId
}
id! {
    /// An agent: one process at the edge that serves one asset or, as a gateway, many.
    AgentId
}
id! {
    /// One start of an agent's process; tells a restart from a clone.
    InstanceId
}
id! {
    /// A dispatch: one operator's order. UUIDv7, so ids sort by time of commit.
    DispatchId
}
id! {
    /// A limit on the power of assets. UUIDv7, so ids sort by time of commit.
    LimitId
}
id! {
    /// A stop of assets. UUIDv7, so ids sort by time.
    StopId
}
id! {
    /// A record of the audit trail. UUIDv7, so ids sort by time.
    AuditId
}
id! {
    /// An event. UUIDv7, so ids sort by time.
    EventId
}
id! {
    /// One life of a log at the agent; a wiped disk makes a new one.
    LogId
}

impl InstanceId {
    /// A new identity for this process (UUIDv7).
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl DispatchId {
    /// A new dispatch id (UUIDv7).
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl LimitId {
    /// A new limit id (UUIDv7).
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl AuditId {
    /// A new id of a record (UUIDv7).
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl EventId {
    /// A new event id (UUIDv7).
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl StopId {
    /// A new stop id (UUIDv7).
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl LogId {
    /// A new log id (random).
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

/// The agent of a single asset has, unless configured otherwise, the asset's id.
impl From<AssetId> for AgentId {
    fn from(asset: AssetId) -> Self {
        Self(asset.uuid())
    }
}

/// The gateway of a site has, unless configured otherwise, the site's id.
impl From<SiteId> for AgentId {
    fn from(site: SiteId) -> Self {
        Self(site.uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_printed_in_lower_case_and_read_in_any_case() {
        let id: AssetId = "7BA7B810-9DAD-11D1-80B4-00C04FD430C8".parse().unwrap();
        assert_eq!(id.to_string(), "7ba7b810-9dad-11d1-80b4-00c04fd430c8");
    }

    #[test]
    fn a_text_that_is_no_uuid_is_refused_with_an_example() {
        let error = "BESS-1".parse::<AssetId>().unwrap_err();
        assert!(error.to_string().contains("`BESS-1` is not a UUID"));
    }
}
