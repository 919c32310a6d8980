//! Who did what.

use serde::{Deserialize, Serialize};

use crate::{AuditId, ProblemCode, Timestamp};

/// A record of the audit trail, an item of `GET /audit`: one call that changes something, done or
/// refused, or one login or claim that was refused. It is written once and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// Its id (UUIDv7: sorts by time).
    pub id: AuditId,
    /// When, by the headend's clock.
    pub at: Timestamp,
    /// Who; `null` if nobody was proved.
    pub principal: Option<String>,
    /// The network address it came from, if it is known.
    pub peer: Option<String>,
    /// What: the `operationId` of a call of REST, `refused_claim` of an agent, `audit_lost` when
    /// records could not be kept.
    pub action: String,
    /// On what: `asset ID`, `site ID`, `dispatch ID`, `limit ID`, `stop ID`, `all` or `agent ID`.
    pub target: Option<String>,
    /// The HTTP status that it was answered with; `null` if its caller left before that, or where
    /// there is none.
    pub status: Option<u16>,
    /// The code of the problem that it was answered with; `null` if it was done.
    pub code: Option<ProblemCode>,
    /// More, for people: what was made, or why it was refused.
    pub detail: Option<String>,
}

impl AuditRecord {
    /// A record of this action, without anything else.
    #[must_use]
    pub fn new(at: Timestamp, action: impl Into<String>) -> Self {
        Self {
            id: AuditId::generate(),
            at,
            principal: None,
            peer: None,
            action: action.into(),
            target: None,
            status: None,
            code: None,
            detail: None,
        }
    }
}
