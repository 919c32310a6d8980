//! Orders: committed, moved on, told of, listed.
//!
//! Whoever changes orders takes what he needs in this order, so that no two wait for each other:
//! a client's key or logs, agents, counters of assets, orders; of each kind in the order of ids.

mod cancel;
mod commit;
mod delete;
mod doubt;
mod held;
mod lists;
mod reports;
mod rows;
mod shares;
mod steps;

pub(super) use cancel::cancel;
pub(super) use commit::{commit, committed, raise_revision, revisions};
pub(super) use delete::delete;
pub(super) use doubt::{abandon, confirm, mark, mark_dropped};
pub(super) use lists::{dispatch, dispatches, open};
pub(super) use reports::append;
pub(super) use shares::add_shares;
pub(super) use steps::advance;
