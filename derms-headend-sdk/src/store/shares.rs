//! Shares that are added to a site order while it is in force.

use derms_proto::{Dispatch, DispatchId, SplitSummary};

/// What is missing of a site order, shared anew: further shares of it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewShares {
    /// The site order.
    pub parent: DispatchId,
    /// How it is split from then on.
    pub split: SplitSummary,
    /// The new shares, `pending`, in the order of their assets' ids, one per asset. None: the
    /// [`split`](Self::split) alone changes.
    pub shares: Vec<Dispatch>,
    /// The highest revision of the asset of each new share ([`revisions`](super::Store::revisions))
    /// before anything was read of what this was decided by.
    pub seen: Vec<u64>,
    /// All shares of the site order whose place is taken in full from then on:
    /// [`Dispatch::replaced`]. A mark on any other is taken off.
    pub replaced: Vec<DispatchId>,
}

/// Shares that were added.
#[derive(Debug, Clone, PartialEq)]
pub struct AddedShares {
    /// With their revisions.
    pub shares: Vec<Dispatch>,
    /// The orders they took the place of.
    pub superseded: Vec<Dispatch>,
}
