//! Orders for later: checked, kept for those agents that can't, and sent in an order in which an
//! agent takes them all.

use std::time::Duration;

use derms_proto::{
    Dispatch, DispatchId, DispatchStatus, FollowUp, MAX_AHEAD, NewDispatch, Timestamp,
};

use super::check::invalid;
use super::{DispatchError, Dispatcher, Timer};
use crate::registry::Session;
use crate::store::{Order, StoreError};

/// A start that lies further back was not meant for now.
const LATE: Duration = Duration::from_secs(5);

/// The part of an order that says how it begins and ends.
pub(super) fn check(new: &NewDispatch, now: Timestamp) -> Result<(), DispatchError> {
    if let Some(at) = new.start_at {
        if now.saturating_since(at) > LATE {
            return Err(invalid(format!(
                "start_at {at} has passed, it is {now} here; leave it out to start at once"
            )));
        }
        if at.saturating_since(now) > MAX_AHEAD {
            return Err(invalid("start_at is more than 31 days ahead"));
        }
    }
    if new
        .ramp_mw_per_min
        .is_some_and(|ramp| !(ramp.is_finite() && ramp > 0.0))
    {
        return Err(invalid(
            "ramp_mw_per_min must be above 0; leave it out for the asset's own",
        ));
    }
    match new.follow_up {
        Some(FollowUp::Value(power)) if !power.is_finite() => {
            Err(invalid("the value of follow_up must be a finite number"))
        }
        Some(FollowUp::Unknown) => Err(invalid("follow_up must be default, hold or a value")),
        Some(FollowUp::Value(_)) if new.asset_id.is_none() => Err(invalid(
            "a value of follow_up is for one asset; order the assets of the site one by one",
        )),
        _ => Ok(()),
    }
}

/// When an order must have started, if it is sent now.
pub(super) fn start_deadline(dispatch: &Dispatch, now: Timestamp, window: Duration) -> Timestamp {
    let begins = dispatch.start_at.map_or(now, |at| at.max(now));
    dispatch.expires_at.min(begins.saturating_add(window))
}

/// Whether an order must wait here for its time, for the agent of this session can't keep it.
pub(super) fn is_early(dispatch: &Dispatch, session: &Session, now: Timestamp) -> bool {
    !session.capabilities.schedule && dispatch.start_at.is_some_and(|at| now < at)
}

/// Puts orders of open ones, newest first, into the order in which they are sent: an agent takes no
/// revision that is below one it has. Those that step back for none go first, oldest first. The
/// others come last: what such an agent never had it refuses as stale, and tells so.
pub(super) fn in_order<T>(newest_first: Vec<(Order, T)>) -> Vec<(Order, T)> {
    let steps_back: Vec<bool> = newest_first
        .iter()
        .enumerate()
        .map(|(index, (older, _))| {
            newest_first[..index].iter().any(|(newer, _)| {
                newer.dispatch.asset_id == older.dispatch.asset_id
                    && newer.dispatch.takes_the_place_of(&older.dispatch)
            })
        })
        .collect();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (order, steps_back) in newest_first.into_iter().zip(steps_back) {
        if steps_back {
            last.push(order);
        } else {
            first.push(order);
        }
    }
    first.reverse();
    first.append(&mut last);
    first
}

impl Dispatcher {
    /// The time of an order has come: its agent gets it now if it could not keep it.
    pub(super) async fn begin(&self, id: DispatchId) -> Result<(), StoreError> {
        let Some(dispatch) = self.store.dispatch(id).await? else {
            return Ok(());
        };
        let now = self.clock.now();
        if dispatch.status != DispatchStatus::Pending {
            return Ok(());
        }
        if let Some(at) = dispatch.start_at.filter(|at| now < *at) {
            // The clock was set back.
            self.timers
                .set(Timer::Begin(id), at.saturating_since(now))
                .await;
            return Ok(());
        }
        let session = dispatch
            .asset_id
            .and_then(|asset| self.registry.serving(asset));
        let (Some(session), Some(asset)) = (session, dispatch.asset_id) else {
            return Ok(());
        };
        // Others may have gone out since, and an agent takes no revision that is below one it has.
        let given = self.store.revisions(&[asset]).await?;
        let highest = given.first().copied().unwrap_or(0);
        if dispatch.revision.is_some_and(|revision| revision < highest) {
            self.store.raise_revision(asset, highest).await?;
        }
        let open = self.store.open_orders(Some(&[asset])).await?;
        let order = open.into_iter().find(|order| order.dispatch.id == id);
        let order = order.filter(|order| order.carrier.is_none());
        match order {
            Some(order) => self.deliver(&[(order, session)]).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::kit::{at, new_asset, new_order, new_site};

    #[test]
    fn orders_that_all_hold_go_out_oldest_first_and_those_that_step_back_last() {
        let (asset, site) = (new_asset(), new_site());
        // Revision, start, lease.
        let orders = [
            (4, Some(500), 50.0),
            (3, Some(900), 9.0),
            (2, Some(520), 9.0),
            (1, None, 9.0),
        ];
        let orders = orders.map(|(revision, start, lease)| {
            let mut dispatch = new_order(asset, site, revision).dispatch;
            dispatch.start_at = start.map(at);
            dispatch.duration_s = Some(lease);
            (Order::committed(dispatch, revision), ())
        });
        let sent = in_order(orders.to_vec());
        let sent: Vec<_> = sent
            .iter()
            .map(|(order, ())| order.dispatch.revision)
            .collect();
        assert_eq!(sent, [Some(1), Some(3), Some(4), Some(2)]);
    }
}
