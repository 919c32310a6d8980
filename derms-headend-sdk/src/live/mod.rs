//! What happens now, for whoever watches.
//!
//! Everything is told once, to one ring, as the bytes that are sent; readers walk along it at their
//! own pace and hold nobody up. Who is slower than the ring falls out of it and is told so.

mod ring;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use derms_proto::{
    AssetId, Dispatch, Event, LiveItem, LiveKind, ResetReason, SessionRecord, Telemetry,
};
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use ring::{About, Bounds, Fallen, Item};
use ring::{Draft, Place, Ring};

/// For so long after the last reader has gone what happens is still remembered: it may come back.
const LINGER: Duration = Duration::from_secs(300);

/// Where everything is told that happens.
#[derive(Debug)]
pub(crate) struct Hub {
    instance: u64,
    ring: watch::Sender<Ring>,
    /// Whether anybody wants to know. Else nothing is written down.
    awake: AtomicBool,
    /// Since when nobody listens, as far as it was noticed.
    alone: Mutex<Option<Instant>>,
}

/// One reader's way along the ring.
#[derive(Debug)]
pub(crate) struct Subscription {
    ring: watch::Receiver<Ring>,
    place: Place,
}

impl Hub {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let (instance, _) = Uuid::new_v4().as_u64_pair();
        Self {
            instance,
            ring: watch::Sender::new(Ring::new(instance, bounds)),
            awake: AtomicBool::new(false),
            alone: Mutex::default(),
        }
    }

    /// A measurement that is the newest of its asset.
    pub(crate) fn telemetry(&self, telemetry: &Telemetry) {
        if self.is_awake() {
            let about = About::Telemetry(telemetry.asset_id);
            self.publish(about, &LiveItem::Telemetry(Box::new(telemetry.clone())));
        }
    }

    /// An order has moved; `complete` adds what is not part of it.
    fn dispatch(&self, dispatch: &Dispatch, complete: impl Fn(&mut Dispatch)) {
        if self.is_awake() {
            let mut told = Box::new(dispatch.clone());
            complete(&mut told);
            let about = About::Dispatch {
                asset: dispatch.asset_id,
                site: dispatch.site_id,
                ended: dispatch.status.is_terminal(),
            };
            self.publish(about, &LiveItem::Dispatch(told));
        }
    }

    /// A session has begun, ended, or serves other assets now; these it does not serve any more.
    pub(crate) fn session(&self, record: impl FnOnce() -> SessionRecord, left: &[AssetId]) {
        if self.is_awake() {
            let record = Box::new(record());
            let about = About::Session {
                record: record.clone(),
                left: left.to_vec(),
            };
            self.publish(about, &LiveItem::Session(record));
        }
    }

    /// An event has been raised.
    pub(crate) fn event(&self, event: &Event) {
        if self.is_awake() {
            let about = About::Event {
                asset: event.asset_id,
                site: event.site_id,
            };
            self.publish(about, &LiveItem::Event(Box::new(event.clone())));
        }
    }

    fn is_awake(&self) -> bool {
        self.awake.load(Ordering::Acquire)
    }

    fn publish(&self, about: About, item: &LiveItem) {
        match Draft::new(self.instance, item) {
            Ok(draft) => self.ring.send_modify(|ring| ring.push(about, draft)),
            Err(error) => {
                tracing::error!(%error, "can't tell what has happened; all who watch begin anew");
                self.ring.send_modify(Ring::forget);
            }
        }
        if self.ring.receiver_count() == 0 {
            self.sleep_if_alone();
        }
    }

    /// Something may be missing.
    fn missed(&self) {
        if self.is_awake() {
            self.ring.send_modify(Ring::forget);
        }
    }

    fn sleep_if_alone(&self) {
        let mut alone = self.alone.lock();
        // Under the lock: whoever comes takes it, too.
        if self.ring.receiver_count() > 0 {
            return;
        }
        if alone.get_or_insert_with(Instant::now).elapsed() >= LINGER {
            self.awake.store(false, Ordering::Release);
            self.ring.send_modify(Ring::forget);
        }
    }

    /// Watches these kinds from behind the event `last`, or from now on; with the reason if it does
    /// not go on there.
    pub(crate) fn subscribe(
        &self,
        last: Option<&str>,
        kinds: &[LiveKind],
    ) -> (Subscription, Option<ResetReason>) {
        let mut alone = self.alone.lock();
        let ring = self.ring.subscribe();
        *alone = None;
        self.awake.store(true, Ordering::Release);
        drop(alone);
        let (place, reset) = ring.borrow().place(last, kinds);
        (Subscription { ring, place }, reset)
    }
}

impl Subscription {
    /// What is there and was not taken, at most so much.
    pub(crate) fn take(&mut self, most: usize) -> Result<Vec<Arc<Item>>, Fallen> {
        self.ring.borrow_and_update().read(&mut self.place, most)
    }

    /// Waits until something has happened since the last [`take`](Self::take). May be dropped.
    pub(crate) async fn changed(&mut self) {
        if self.ring.changed().await.is_err() {
            // The hub lives as long as the headend, and that as long as its streams.
            std::future::pending::<()>().await;
        }
    }

    /// The id of the last event that was taken or passed over.
    pub(crate) fn id(&self) -> String {
        self.ring.borrow().id(self.place)
    }

    /// An event of its own for this reader, with the number of one that all get.
    pub(crate) fn rewritten(
        &self,
        item: &Item,
        told: &LiveItem,
    ) -> serde_json::Result<bytes::Bytes> {
        let draft = Draft::new(self.ring.borrow().instance(), told)?;
        Ok(draft.numbered(item.number()))
    }
}

/// Tells every change of an order, completed, until `stop`.
pub(crate) async fn run(
    hub: Arc<Hub>,
    mut changes: broadcast::Receiver<Arc<Dispatch>>,
    complete: impl Fn(&mut Dispatch),
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(dispatch) => hub.dispatch(&dispatch, &complete),
                Err(RecvError::Lagged(_)) => hub.missed(),
                Err(RecvError::Closed) => return,
            },
            () = stop.cancelled() => return,
        }
    }
}

/// One that nobody listens to.
#[cfg(test)]
pub(crate) fn quiet() -> Arc<Hub> {
    Arc::new(Hub::new(crate::config::Config::default().live))
}
