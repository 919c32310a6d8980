//! Ending orders: in the store where they were never sent, at their agents else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{HeadendMessage, ReleaseOrder};
use derms_proto::wire::TraceContext as _;
use derms_proto::{AssetId, Dispatch, DispatchId, pb};

use super::{Dispatcher, Timer, leaves};
use crate::auth::Principal;
use crate::registry::Session;
use crate::store::{Cancel, Order, StoreError};

/// A cancel waits no longer than this for the store: the order must end.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon a cancel that is not stored is tried again.
const AGAIN: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Ends an order, or each share of a site order, that has not ended. Answers it as it stands;
    /// `None`: it is not known.
    ///
    /// What was sent ends when its agent says so. A store that is away stops no release: it is sent
    /// and kept here, and stored as soon as the store answers; the text of the answer says so.
    ///
    /// Once it was begun it is carried out even if the caller goes away: call this in a task of its
    /// own.
    pub(crate) async fn cancel(
        &self,
        id: DispatchId,
        principal: Option<&Principal>,
    ) -> Result<Option<Dispatch>, StoreError> {
        let cancel = Cancel {
            id,
            at: self.clock.now(),
            principal: principal.map(|p| p.name().to_owned()),
            above: 0,
        };
        let error = match self.store_cancels(std::slice::from_ref(&cancel)).await {
            Ok(changed) => {
                let last_known = self.known.lock().whole(id);
                let found = self.store.dispatch(id).await;
                // Done: that it can't be read now is no failure.
                return match (found, last_known) {
                    (Err(_), Some(dispatch)) if changed => Ok(Some(dispatch)),
                    (found, _) => found,
                };
            }
            Err(error) => error,
        };
        let (new, whole) = {
            let mut known = self.known.lock();
            (known.cancel(&cancel), known.whole(id))
        };
        let Some(mut dispatch) = whole.filter(|whole| whole.cancel_requested_at.is_some()) else {
            return Err(error);
        };
        if leaves(&dispatch).all(|leaf| self.known.lock().unstored(leaf.id).is_none()) {
            // Asked for before, and stored then.
            return Ok(Some(dispatch));
        }
        tracing::error!(dispatch_id = %id, error = %error.in_full(), orders = new.len(),
            "can't store a cancel; it is carried out, and kept until the store answers");
        let assets: BTreeSet<AssetId> =
            leaves(&dispatch).filter_map(|leaf| leaf.asset_id).collect();
        for asset in assets {
            self.release_of(asset).await;
        }
        for id in new {
            self.timers.set(Timer::Store(id), AGAIN).await;
        }
        dispatch.text = Some(
            "the cancel is carried out but not stored: the store can't be reached; it is stored \
             as soon as that answers, and forgotten if the headend ends before"
                .to_owned(),
        );
        Ok(Some(dispatch))
    }

    /// Stores cancels and carries out what they changed. `true`: that was something.
    pub(super) async fn store_cancels(&self, cancels: &[Cancel]) -> Result<bool, StoreError> {
        let stored = tokio::time::timeout(PATIENCE, self.store.cancel(cancels)).await;
        let changed = stored.unwrap_or_else(|_| {
            Err(StoreError::Unavailable {
                context: "a cancel took too long".to_owned(),
                source: None,
            })
        })?;
        let mut assets = BTreeSet::new();
        for order in &changed {
            let dispatch = &order.dispatch;
            tracing::info!(
                dispatch_id = %dispatch.id, asset_id = dispatch.asset_id.map(tracing::field::display),
                status = %dispatch.status, release = order.release,
                principal = dispatch.cancelled_by, trace_id = self.trace_id(dispatch), "cancel taken"
            );
            self.moved(order.clone()).await;
            assets.extend(dispatch.asset_id.filter(|_| order.release.is_some()));
        }
        for asset in assets {
            self.release_of(asset).await;
        }
        Ok(!changed.is_empty())
    }

    /// Gives the session that serves an asset now the releases that are due.
    async fn release_of(&self, asset: AssetId) {
        if let Some(session) = self.registry.serving(asset) {
            self.release(&session, &[asset]).await;
        }
    }

    /// Gives a session the releases of these assets that are due, each once. `false`: there was no
    /// room for all of them, and nothing newer may go out before.
    pub(super) async fn release(&self, session: &Arc<Session>, assets: &[AssetId]) -> bool {
        if !self.registry.is_current(session) {
            // The replay of the new session gives it them.
            return true;
        }
        let (written, all) = self.write_releases(session, assets);
        for dispatch in written {
            tracing::info!(dispatch_id = %dispatch.id, asset_id = dispatch.asset_id.map(tracing::field::display),
                agent_id = %session.agent_id, trace_id = self.trace_id(&dispatch), "release sent");
            let timer = Timer::Unanswered(dispatch.id, session.epoch);
            self.timers.set(timer, self.config.ping_after).await;
        }
        if !all {
            session.mailbox.starve();
        }
        all
    }

    /// Under the lock, so that of two at the same time one writes it, and no setpoint of a
    /// cancelled order follows.
    fn write_releases(&self, session: &Session, assets: &[AssetId]) -> (Vec<Dispatch>, bool) {
        let mut written = Vec::new();
        let mut known = self.known.lock();
        for due in known.due(session, assets) {
            let Ok(place) = session.outbound.try_reserve() else {
                return (written, false);
            };
            let message = HeadendMessage::Release(ReleaseOrder {
                asset_id: due.asset,
                dispatch_id: due.id,
                revision: due.revision,
                epoch: session.epoch,
            });
            let order = known.order(due.id).cloned();
            let trace = order.as_ref().and_then(|order| self.trace(order));
            let mut message = pb::HeadendMessage::from(message);
            message.set_trace_context(trace.map(|trace| trace.to_string()));
            place.send(Box::new(message));
            known.written(due, session.epoch);
            written.extend(order);
        }
        (written, true)
    }

    /// Asks again for the releases that could not be given or came too late, as far as nothing is
    /// in their way any more.
    pub(super) async fn renew_releases(
        &self,
        session: &Session,
        assets: &[AssetId],
    ) -> Result<(), StoreError> {
        let cancels = self.known.lock().without_release(session, assets);
        if !cancels.is_empty() {
            self.store_cancels(&cancels).await?;
        }
        Ok(())
    }

    /// An order of this asset has ended, or a release of it was refused: the session that serves it
    /// sees to the releases that waited for that.
    pub(super) fn look_at_releases(&self, asset: Option<AssetId>) {
        let Some(asset) = asset else { return };
        let Some(session) = self.registry.serving(asset) else {
            return;
        };
        let wanting = self.known.lock().without_release(&session, &[asset]);
        if !wanting.is_empty() {
            session.mailbox.starve();
        }
    }

    /// Stores a cancel that was carried out while the store was away.
    pub(super) async fn store_late(&self, id: DispatchId) -> Result<(), StoreError> {
        let unstored = self.known.lock().unstored(id);
        let Some(unstored) = unstored else {
            return Ok(());
        };
        let mut cancels = vec![Cancel {
            // Its release is at the agent: a lower one would be stale.
            above: unstored.release.map_or(0, |release| release - 1),
            ..unstored.cancel.clone()
        }];
        if unstored.root != id {
            cancels.push(Cancel {
                id: unstored.root,
                ..unstored.cancel
            });
        }
        self.store_cancels(&cancels).await?;
        if let Some(asset) = unstored.asset {
            self.raise_unstored(&[asset]).await?;
        }
        self.known.lock().stored(id);
        tracing::info!(dispatch_id = %id, "a cancel is stored that was carried out before");
        Ok(())
    }

    /// The store counts on from above the revisions that were used while it was away.
    pub(super) async fn raise_unstored(&self, assets: &[AssetId]) -> Result<(), StoreError> {
        for asset in assets {
            let used = self.known.lock().unstored_revision(*asset);
            if let Some(used) = used {
                self.store.raise_revision(*asset, used).await?;
                self.known.lock().stored_revision(*asset, used);
            }
        }
        Ok(())
    }
}

impl Dispatcher {
    /// An order has moved on: what waits for that is told.
    pub(super) async fn moved(&self, order: Order) {
        self.timers.clear(order.dispatch.id).await;
        self.note(&order);
        self.tell(order.dispatch);
    }

    /// Keeps what is known of an order true.
    pub(super) fn note(&self, order: &Order) {
        self.known.lock().note(order);
        if order.dispatch.status.is_terminal() {
            self.look_at_releases(order.dispatch.asset_id);
        }
    }
}
