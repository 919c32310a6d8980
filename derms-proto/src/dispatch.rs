//! Orders and their life cycle.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lenient;
use crate::{
    AssetId, DispatchId, FollowUp, Power, PowerRange, SiteId, SplitPolicy, SplitSummary, Timestamp,
};

/// How long a dispatch waits for its agent unless told otherwise: 300 s.
pub const DEFAULT_TTL: Duration = Duration::from_secs(300);

/// The longest lease or time to live that is accepted: 366 days.
pub const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// A new order, the body of `POST /dispatch`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewDispatch {
    /// One asset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset_id: Option<AssetId>,
    /// All assets of a site that are online. With `asset_id`: the asset must belong to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_id: Option<SiteId>,
    /// The wanted power, MW, + = export.
    pub mw: Power,
    /// The lease in seconds, a microsecond to 366 days; absent = until superseded or cancelled.
    #[cfg_attr(feature = "schema", schema(minimum = 0.000_001, maximum = 31_622_400))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// How long it may wait for its agent in seconds, a microsecond to 366 days. Default 300.
    #[cfg_attr(feature = "schema", schema(minimum = 0.000_001, maximum = 31_622_400))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<f64>,
    /// By what an order for a site is shared; not for an order for one asset. Default `capacity`.
    #[cfg_attr(feature = "schema", schema(inline))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_policy: Option<SplitPolicy>,
    /// For a site: what an asset that drops out can't do any more is shared anew over the others, for
    /// the rest of the order's time. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebalance: bool,
    /// Not started earlier, at most 31 days ahead and 5 s ago; absent = at once. The time to live
    /// counts from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// Largest change of power, MW per minute, above 0; the agent keeps to the slower of this and
    /// the asset's own. Absent = the asset's own.
    #[cfg_attr(feature = "schema", schema(exclusive_minimum = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp_mw_per_min: Option<f64>,
    /// What follows when the lease ends; a value for one asset alone. Default: its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_up: Option<FollowUp>,
}

impl NewDispatch {
    /// An order for one asset.
    #[must_use]
    pub fn asset(asset: AssetId, power: Power) -> Self {
        Self {
            asset_id: Some(asset),
            mw: power,
            ..Self::default()
        }
    }

    /// An order for a site, split over its assets that are online.
    #[must_use]
    pub fn site(site: SiteId, power: Power) -> Self {
        Self {
            site_id: Some(site),
            mw: power,
            ..Self::default()
        }
    }

    /// With a lease: when it ends, the asset returns to its default by itself.
    #[must_use]
    pub fn lasting(mut self, lease: Duration) -> Self {
        self.duration_s = Some(lease.as_secs_f64());
        self
    }

    /// Shared by another policy than [`SplitPolicy::Capacity`]; for an order for a site.
    #[must_use]
    pub fn split_by(mut self, policy: SplitPolicy) -> Self {
        self.split_policy = Some(policy);
        self
    }

    /// For a site: what an asset that drops out can't do any more is shared anew over the others.
    /// Default: it is missing.
    #[must_use]
    pub const fn rebalanced(mut self) -> Self {
        self.rebalance = true;
        self
    }

    /// For later: not started before this time, on the headend's clock. The agent keeps it until
    /// then, also without a link.
    #[must_use]
    pub const fn starting_at(mut self, at: Timestamp) -> Self {
        self.start_at = Some(at);
        self
    }

    /// With a largest change of power, MW per minute. Default: the asset's own.
    #[must_use]
    pub const fn ramping(mut self, mw_per_min: f64) -> Self {
        self.ramp_mw_per_min = Some(mw_per_min);
        self
    }

    /// With what follows when the lease ends. Default: the asset's default.
    #[must_use]
    pub const fn followed_by(mut self, follow_up: FollowUp) -> Self {
        self.follow_up = Some(follow_up);
        self
    }

    /// With a limit on how long it may wait for its agent. Default 300 s.
    #[must_use]
    pub fn waiting_at_most(mut self, ttl: Duration) -> Self {
        self.ttl_s = Some(ttl.as_secs_f64());
        self
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DispatchStatus {
    /// Committed, not on any stream. Next: `sent`, `superseded`, `cancelled`, `expired`.
    Pending,
    /// Written to a session. Next: `received` and everything that an agent can report.
    Sent,
    /// The agent has it and will remember it. Next: `active` or an end.
    Received,
    /// In force at the device: the adapter said yes.
    Active,
    /// Terminal: the lease ran to its end and the device was told what follows.
    Completed,
    /// Terminal: a newer order took its place.
    Superseded,
    /// Terminal: ended by an operator.
    Cancelled,
    /// Terminal: the agent or the device refused it; it never started.
    Rejected,
    /// Terminal: its time had passed before it started; it never starts.
    Expired,
    /// Terminal: accepted, but the device failed or the order was interrupted.
    Failed,
    /// Terminal: sent, and its fate can't be known any more.
    Indeterminate,
    /// Sent by a newer headend than this type knows. Whether it has ended is not known either.
    #[serde(other)]
    Unknown,
}

/// Who says that an order moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// The headend: API, timers, sessions.
    Headend,
    /// The agent, by a report.
    Agent,
}

impl DispatchStatus {
    /// All of them, in order of life.
    pub const ALL: [Self; 11] = [
        Self::Pending,
        Self::Sent,
        Self::Received,
        Self::Active,
        Self::Completed,
        Self::Superseded,
        Self::Cancelled,
        Self::Rejected,
        Self::Expired,
        Self::Failed,
        Self::Indeterminate,
    ];

    /// Whether it can't change any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(
            self,
            Self::Pending | Self::Sent | Self::Received | Self::Active | Self::Unknown
        )
    }

    /// The life cycle: whether `actor` may move an order from this status to `next`.
    ///
    /// The only such table. **An order that was sent is never expired by the headend**: only the
    /// agent knows whether it started. Reports may skip states, for they may be lost with a
    /// session and come again later; a repeated one (`next == self`) is no move.
    #[must_use]
    pub const fn may_become(self, next: Self, actor: Actor) -> bool {
        use DispatchStatus as S;
        match (self, actor) {
            (S::Pending, Actor::Headend) => {
                matches!(next, S::Sent | S::Superseded | S::Cancelled | S::Expired)
            }
            (S::Sent, Actor::Headend) => matches!(next, S::Sent | S::Failed | S::Indeterminate),
            (S::Received | S::Active, Actor::Headend) => {
                matches!(next, S::Failed | S::Indeterminate)
            }
            (S::Sent, Actor::Agent) => matches!(
                next,
                S::Received
                    | S::Active
                    | S::Completed
                    | S::Superseded
                    | S::Cancelled
                    | S::Rejected
                    | S::Expired
                    | S::Failed
            ),
            (S::Received, Actor::Agent) => matches!(
                next,
                S::Active
                    | S::Completed
                    | S::Superseded
                    | S::Cancelled
                    | S::Rejected
                    | S::Expired
                    | S::Failed
            ),
            (S::Active, Actor::Agent) => {
                matches!(
                    next,
                    S::Completed | S::Superseded | S::Cancelled | S::Failed
                )
            }
            _ => false,
        }
    }

    /// One status for a site order, from those of its parts: the least advanced that is still
    /// open; when all have ended, `completed` if all did, else the worst of the others
    /// (`failed`, `indeterminate`, `rejected`, `expired`, `cancelled`, `superseded`, in this
    /// order). `None` for no parts.
    #[must_use]
    pub fn summary(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        const WORST: [DispatchStatus; 7] = [
            DispatchStatus::Failed,
            DispatchStatus::Indeterminate,
            DispatchStatus::Rejected,
            DispatchStatus::Expired,
            DispatchStatus::Cancelled,
            DispatchStatus::Superseded,
            DispatchStatus::Completed,
        ];
        let parts: Vec<Self> = parts.into_iter().collect();
        let open = parts.iter().copied().filter(|s| !s.is_terminal()).min();
        open.or_else(|| WORST.into_iter().find(|status| parts.contains(status)))
    }
}

/// Why an order ended as it did, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReasonCode {
    /// The start deadline had passed.
    DeadlinePassed,
    /// The asset is not granted to the agent's session.
    NotGranted,
    /// A newer revision was accepted before.
    StaleRevision,
    /// Outside the rating that the agent enforces.
    OutOfRange,
    /// The agent's estimate of the headend's clock is too old or too coarse.
    ClockUnsure,
    /// The agent's report log has no room.
    ReportLogFull,
    /// The device answered with an error.
    DeviceError,
    /// The device did not answer in time.
    DeviceTimeout,
    /// The device is in local or maintenance mode.
    DeviceUnavailable,
    /// The device does not support it.
    Unsupported,
    /// The agent restarted without durable state.
    Interrupted,
    /// A newer order took its place.
    NewerOrder,
    /// An operator cancelled it.
    CancelledByOperator,
    /// It waited longer than its time to live.
    TtlElapsed,
    /// The agent's report log was lost.
    ReportLogLost,
    /// No report came within the time limit.
    NoReport,
    /// The agent could not store it.
    StorageFailed,
    /// The link-loss failsafe took its place.
    Failsafe,
    /// An operator stopped the asset.
    Stopped,
    /// As many orders wait for their time as the agent keeps.
    TooManyWaiting,
    /// The agent could not read it.
    Malformed,
    /// Sent by a newer peer than this type knows.
    #[serde(other)]
    Unknown,
}

/// One step in the life of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Transition {
    /// The status from then on.
    pub status: DispatchStatus,
    /// When the headend recorded it.
    pub at: Timestamp,
    /// When it happened at the agent, on the headend's clock as the agent estimates it.
    pub reported_at: Option<Timestamp>,
    /// Why, for programs.
    pub reason: Option<ReasonCode>,
    /// Why, for people.
    pub text: Option<String>,
    /// What the device said it applied, MW, + = export.
    pub applied_mw: Option<Power>,
    /// With `sent`: the epoch of the session that carries it.
    pub epoch: Option<u64>,
}

/// An operator's order, as stored and served. A site order is a parent with one child per asset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Dispatch {
    /// Its id (UUIDv7: sorts by time of commit).
    pub id: DispatchId,
    /// The site order it is a share of.
    pub parent_id: Option<DispatchId>,
    /// The asset; `null` for a site order.
    pub asset_id: Option<AssetId>,
    /// The site.
    pub site_id: SiteId,
    /// The wanted power, MW, + = export.
    pub mw: Power,
    /// The lease in seconds; `null` = until superseded or cancelled.
    pub duration_s: Option<f64>,
    /// How long it may wait for its agent, seconds, from its start time on.
    pub ttl_s: f64,
    /// Not started earlier; `null` = at once. Until then it is `received`, once its agent has it.
    #[serde(default)]
    pub start_at: Option<Timestamp>,
    /// Largest change of power, MW per minute; `null` = the asset's own.
    #[serde(default)]
    pub ramp_mw_per_min: Option<f64>,
    /// What follows when the lease ends.
    #[serde(default, deserialize_with = "lenient::or_unknown")]
    pub follow_up: FollowUp,
    /// Its place in the one order of commands of its asset; `null` for a site order.
    pub revision: Option<u64>,
    /// Where it stands.
    pub status: DispatchStatus,
    /// The session that carried it ended, or its agent serves the asset no more, and nothing has
    /// been heard since.
    pub in_doubt: bool,
    /// Whether the asset is measured to do what it is told, while the order is in force; `null` before
    /// that is known, and where it is not looked at (in lists).
    #[serde(default)]
    pub following: Option<bool>,
    /// Why it stands there, for programs.
    pub reason: Option<ReasonCode>,
    /// Why it stands there, for people.
    pub text: Option<String>,
    /// What the device said it applied, MW, + = export.
    pub applied_mw: Option<Power>,
    /// When it was committed.
    pub created_at: Timestamp,
    /// Not started by then: never started.
    pub expires_at: Timestamp,
    /// Who ordered it; `null` without authentication.
    pub principal: Option<String>,
    /// When an operator asked for its end; `null`: nobody did. What was sent stays as it is until
    /// its agent has said that it ended.
    pub cancel_requested_at: Option<Timestamp>,
    /// Who asked for its end; `null` without authentication.
    pub cancelled_by: Option<String>,
    /// Every step so far, oldest first.
    pub transitions: Vec<Transition>,
    /// How a site order was split; `null` for an asset.
    pub split: Option<SplitSummary>,
    /// What limits leave of the power of its asset now, if that is not what was ordered: the agent
    /// keeps to the limits. Only while it has not ended; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_to: Option<PowerRange>,
    /// Of a share: later shares of the same site order have taken its place in full, so that the
    /// status of that does not depend on what became of it. Absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaced: bool,
    /// The shares of a site order. An asset has a second one if it took over from another.
    #[cfg_attr(feature = "schema", schema(no_recursion))]
    pub children: Vec<Dispatch>,
}

impl Dispatch {
    /// Whether a share counts for the status of its site order, which has `shares`: not if it has
    /// ended and its place was taken by others, or by a later one of its own asset.
    #[must_use]
    pub fn counts_among<'a>(&self, shares: impl IntoIterator<Item = &'a Self>) -> bool {
        let later =
            |other: &Self| other.asset_id == self.asset_id && other.revision > self.revision;
        let own = || self.status == DispatchStatus::Superseded && shares.into_iter().any(later);
        !(self.status.is_terminal() && (self.replaced || own()))
    }
}

#[cfg(test)]
mod tests {
    use super::DispatchStatus as S;
    use super::*;

    #[test]
    fn every_transition_is_legal_or_illegal_as_the_table_of_the_protocol_says() {
        let headend = [
            (
                S::Pending,
                vec![S::Sent, S::Superseded, S::Cancelled, S::Expired],
            ),
            (S::Sent, vec![S::Sent, S::Failed, S::Indeterminate]),
            (S::Received, vec![S::Failed, S::Indeterminate]),
            (S::Active, vec![S::Failed, S::Indeterminate]),
        ];
        let ends = [
            S::Completed,
            S::Superseded,
            S::Cancelled,
            S::Rejected,
            S::Expired,
            S::Failed,
        ];
        let agent = [
            (S::Sent, [&[S::Received, S::Active][..], &ends].concat()),
            (S::Received, [&[S::Active][..], &ends].concat()),
            (
                S::Active,
                vec![S::Completed, S::Superseded, S::Cancelled, S::Failed],
            ),
        ];
        for (actor, table) in [(Actor::Headend, &headend[..]), (Actor::Agent, &agent[..])] {
            for from in S::ALL {
                for to in S::ALL {
                    let legal = table
                        .iter()
                        .any(|(f, next)| *f == from && next.contains(&to));
                    assert_eq!(
                        from.may_become(to, actor),
                        legal,
                        "{actor:?}: {from:?} -> {to:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_sent_order_is_never_expired_by_the_headend() {
        assert!(!S::Sent.may_become(S::Expired, Actor::Headend));
        assert!(S::Sent.may_become(S::Expired, Actor::Agent));
    }

    #[test]
    fn a_site_order_is_as_far_as_its_slowest_part() {
        assert_eq!(S::summary([]), None);
        assert_eq!(
            S::summary([S::Active, S::Pending, S::Failed]),
            Some(S::Pending)
        );
        assert_eq!(S::summary([S::Completed, S::Completed]), Some(S::Completed));
        assert_eq!(
            S::summary([S::Completed, S::Superseded]),
            Some(S::Superseded)
        );
        assert_eq!(
            S::summary([S::Superseded, S::Rejected, S::Failed]),
            Some(S::Failed)
        );
        for status in S::ALL {
            assert_eq!(S::summary([status]), Some(status));
        }
    }

    #[test]
    fn an_unknown_key_in_an_order_is_an_error() {
        let body = r#"{"asset_id":"7ba7b810-9dad-11d1-80b4-00c04fd430c8","mw":5,"duration":9}"#;
        let error = serde_json::from_str::<NewDispatch>(body).unwrap_err();
        assert!(error.to_string().contains("unknown field `duration`"));
    }
}
