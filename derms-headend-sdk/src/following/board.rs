//! The orders in force, each with its watch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use derms_proto::{
    AssetId, Dispatch, DispatchId, DispatchStatus, Fleet, Severity, Telemetry, Timestamp,
};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::watch::{Rules, Watch};
use crate::events::{About, Events};
use crate::limits::Limits;
use crate::store::{Store, StoreError};

/// One slot per configured asset: an asset has one order in force at most.
#[derive(Debug)]
pub(crate) struct Following {
    fleet: Arc<Fleet>,
    limits: Arc<Limits>,
    events: Arc<Events>,
    rules: Rules,
    slots: HashMap<AssetId, Mutex<Option<Watched>>>,
}

#[derive(Debug)]
struct Watched {
    dispatch: DispatchId,
    watch: Watch,
}

impl Following {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        limits: Arc<Limits>,
        events: Arc<Events>,
        rules: Rules,
    ) -> Self {
        let slots = fleet.assets().iter();
        Self {
            slots: slots.map(|asset| (asset.id, Mutex::default())).collect(),
            fleet,
            limits,
            events,
            rules,
        }
    }

    /// An order has moved: watched from `active` on, until its end.
    pub(crate) fn changed(&self, dispatch: &Dispatch) {
        for dispatch in dispatch.children.iter().chain([dispatch]) {
            let asset = dispatch.asset_id.and_then(|id| self.fleet.asset(id));
            let Some((asset, slot)) = asset.and_then(|a| Some((a, self.slots.get(&a.id)?))) else {
                continue;
            };
            let mut slot = slot.lock();
            let watched = slot
                .as_ref()
                .is_some_and(|held| held.dispatch == dispatch.id);
            if dispatch.status != DispatchStatus::Active {
                if watched {
                    *slot = None;
                }
            } else if !watched {
                let watch = Watch::new(asset, dispatch.mw, started(dispatch), &self.rules);
                let watch = watch.map(|watch| {
                    let ramp = dispatch.ramp_mw_per_min;
                    watch.ramping(ramp).saying(dispatch.applied_mw)
                });
                let dispatch = dispatch.id;
                *slot = watch.map(|watch| Watched { dispatch, watch });
            }
        }
    }

    /// Only these are open.
    fn forget_others(&self, open: &HashSet<DispatchId>) {
        for slot in self.slots.values() {
            let mut slot = slot.lock();
            if slot
                .as_ref()
                .is_some_and(|held| !open.contains(&held.dispatch))
            {
                *slot = None;
            }
        }
    }

    /// An asset was measured.
    pub(crate) fn measured(&self, telemetry: &Telemetry) {
        let Some(slot) = self.slots.get(&telemetry.asset_id) else {
            return;
        };
        let mut slot = slot.lock();
        let Some(Watched { dispatch, watch }) = slot.as_mut() else {
            return;
        };
        watch.limited(self.limits.range(telemetry.asset_id));
        // A wrong clock at the edge must not put an order into the future.
        let at = telemetry.measured_at.min(telemetry.received_at);
        let Some(follows) = watch.measured(at, &telemetry.measurements) else {
            return;
        };
        let mw = telemetry.measurements.mw;
        let mw = mw.map_or("nothing".to_owned(), |mw| mw.to_string());
        let tolerance = watch.tolerance();
        let (severity, code, text) = if follows {
            let text = format!("the asset does what dispatch {dispatch} says: {mw} is measured");
            (Severity::Info, "following", text)
        } else {
            let text = format!(
                "the asset does not do what dispatch {dispatch} says: {mw} is measured, the tolerance \
                 is {tolerance}"
            );
            (Severity::Warning, "not_following", text)
        };
        self.events
            .raise(severity, code, text, About::asset(telemetry.asset_id));
    }

    /// Marks an order, and the shares of a site order.
    pub(crate) fn mark(&self, dispatch: &mut Dispatch) {
        dispatch.following = dispatch.asset_id.and_then(|asset| {
            let slot = self.slots.get(&asset)?.lock();
            let held = slot.as_ref().filter(|held| held.dispatch == dispatch.id)?;
            held.watch.following()
        });
        for child in &mut dispatch.children {
            self.mark(child);
        }
        if dispatch.asset_id.is_none() {
            let shares = dispatch.children.iter();
            let counting = shares.filter(|share| share.counts_among(&dispatch.children));
            let marks = counting.map(|share| share.following);
            dispatch.following = summary(marks);
        }
    }
}

/// A site follows when all of its shares do, and does not when one does not.
fn summary(marks: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    let mut some = false;
    for mark in marks {
        some = true;
        match mark {
            Some(false) => return Some(false),
            Some(true) => {}
            None => all = None,
        }
    }
    all.filter(|_| some)
}

/// When the device's yes was recorded. What was measured before may be of the time before it; and an
/// agent whose clock is wrong must not put the yes into the future.
fn started(dispatch: &Dispatch) -> Timestamp {
    let mut steps = dispatch.transitions.iter().rev();
    let active = steps.find(|step| step.status == DispatchStatus::Active);
    active.map_or(dispatch.created_at, |step| step.at)
}

/// Takes up the orders that are in force, and then every change, until `stop`.
pub(crate) async fn run(
    following: Arc<Following>,
    mut changes: broadcast::Receiver<Arc<Dispatch>>,
    store: Arc<dyn Store>,
    stop: CancellationToken,
) {
    let mut behind = true;
    loop {
        if std::mem::take(&mut behind) {
            let taken_up = tokio::select! {
                taken_up = take_up(&following, &*store) => taken_up,
                () = stop.cancelled() => return,
            };
            if let Err(error) = taken_up {
                tracing::warn!(error = %error.in_full(), "can't look up the orders in force; those that change are watched");
            }
        }
        tokio::select! {
            change = changes.recv() => match change {
                Ok(dispatch) => following.changed(&dispatch),
                Err(RecvError::Lagged(_)) => behind = true,
                Err(RecvError::Closed) => return,
            },
            () = stop.cancelled() => return,
        }
    }
}

async fn take_up(following: &Following, store: &dyn Store) -> Result<(), StoreError> {
    let orders = store.open_orders(None).await?;
    following.forget_others(&orders.iter().map(|order| order.dispatch.id).collect());
    for order in &orders {
        following.changed(&order.dispatch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn a_site_follows_when_all_of_it_does_and_not_when_one_share_does_not() {
        let of = |marks: &[Option<bool>]| summary(marks.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Some(true), Some(true)]), Some(true));
        assert_eq!(of(&[Some(true), None]), None);
        assert_eq!(of(&[None, Some(false), Some(true)]), Some(false));
    }
}
