//! From an agent's stream to the store, off the stream's task.
//!
//! Two bounded queues, one for telemetry and one for reports, each emptied by one writer that
//! stores what has gathered and only then tells the sessions. A store that is slow or away makes
//! the queues fill; then batches are not kept and their agents are told to send them again.

mod append;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use derms_proto::Heartbeat;
use derms_proto::link::{LogKind, RefusedEntry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dispatcher::Dispatcher;
use crate::events::{self, Events};
use crate::mailbox::Mailbox;
use crate::metrics::{LogMetrics, Metrics};
use crate::store::{ReportAppend, Store, TelemetryAppend};
use append::Append;
pub(crate) use append::Writing;
use writer::Writer;

#[derive(Debug)]
pub(crate) struct Ingest {
    telemetry: Queue<Item<TelemetryAppend>>,
    reports: Queue<Item<ReportAppend>>,
    heartbeats: Queue<Vec<Heartbeat>>,
    metrics: Arc<Metrics>,
    /// Whether something waits because the store did not take it.
    failing: Arc<Failing>,
}

#[derive(Debug, Default)]
pub(crate) struct Failing {
    telemetry: AtomicBool,
    reports: AtomicBool,
}

/// A part of a log that a session accepted.
#[derive(Debug)]
pub(crate) struct Item<A> {
    pub(crate) append: A,
    /// The log continued here before.
    pub(crate) first_seq: u64,
    pub(crate) refused: Vec<RefusedEntry>,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// How much may wait for the store, all agents together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Batches in each queue.
    pub(crate) batches: usize,
    /// Bytes of memory in each queue.
    pub(crate) bytes: usize,
}

/// The queue is full: the batch was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotKept;

/// A bounded queue to a writer.
#[derive(Debug)]
struct Queue<T> {
    sender: mpsc::Sender<Waiting<T>>,
    room: Arc<Semaphore>,
    bytes: usize,
}

/// How full a queue is, and how full it may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    pub(crate) batches: usize,
    pub(crate) batches_limit: usize,
    /// What is being stored counts.
    pub(crate) bytes: usize,
    pub(crate) bytes_limit: usize,
}

/// What waits in a queue, and the room that it takes up until it is stored or dropped.
#[derive(Debug)]
struct Waiting<T> {
    what: T,
    room: OwnedSemaphorePermit,
}

impl Ingest {
    /// Starts the writers; they end when `stop` is cancelled and their queues are empty.
    pub(crate) fn start(
        store: &Arc<dyn Store>,
        dispatcher: &Arc<Dispatcher>,
        events: &Arc<Events>,
        bounds: Bounds,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (telemetry, telemetry_queue) = Queue::new(bounds);
        let (reports, report_queue) = Queue::new(bounds);
        let (heartbeats, heartbeat_queue) = Queue::new(bounds);
        let failing = Arc::new(Failing::default());
        let (store, stop) = (Arc::clone(store), stop.clone());
        tasks.spawn(writer::write_heartbeats(
            Arc::clone(&store),
            heartbeat_queue,
            stop.clone(),
        ));
        let writer = Writer::new(
            Arc::clone(&store),
            Arc::clone(&failing),
            Arc::clone(metrics),
            stop.clone(),
        );
        let (lossy, counted) = (Arc::clone(events), Arc::clone(metrics));
        let storing = writer.run(telemetry_queue, move |appends: &[TelemetryAppend], ()| {
            counted.link.gaps(&lossy.stored(appends));
        });
        let dispatcher = Arc::clone(dispatcher);
        let writer = Writer::new(store, Arc::clone(&failing), Arc::clone(metrics), stop);
        let reporting = tasks.spawn(writer.run(
            report_queue,
            move |appends: &[ReportAppend], fates| {
                for (append, fates) in appends.iter().zip(fates) {
                    dispatcher.reported(append.agent, fates);
                }
            },
        ));
        let storing = async move {
            storing.await;
            let _ = reporting.await;
        };
        tasks.spawn(events::tell_losses(Arc::clone(events), storing));
        Self {
            telemetry,
            reports,
            heartbeats,
            metrics: Arc::clone(metrics),
            failing,
        }
    }

    pub(crate) fn telemetry(&self, item: Item<TelemetryAppend>) -> Result<(), NotKept> {
        let bytes = item.bytes();
        let kept = self.telemetry.put(item, bytes);
        count(kept, &self.metrics.link.telemetry)
    }

    pub(crate) fn reports(&self, item: Item<ReportAppend>) -> Result<(), NotKept> {
        let bytes = item.bytes();
        let kept = self.reports.put(item, bytes);
        count(kept, &self.metrics.link.reports)
    }

    /// Heartbeats are not acknowledged: those that find the queue full are left out of history.
    pub(crate) fn heartbeats(&self, heartbeats: Vec<Heartbeat>) {
        let bytes = size_of_val(heartbeats.as_slice());
        let number = heartbeats.len() as u64;
        if self.heartbeats.put(heartbeats, bytes).is_err() {
            self.metrics.link.heartbeats_dropped.inc_by(number);
        }
    }

    /// What can't be stored now, if anything.
    pub(crate) fn failing(&self) -> Option<LogKind> {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        if is(&self.failing.reports) {
            Some(LogKind::Report)
        } else if is(&self.failing.telemetry) {
            Some(LogKind::Telemetry)
        } else {
            None
        }
    }

    /// How full each queue is.
    pub(crate) fn levels(&self) -> [(&'static str, Level); 3] {
        [
            ("telemetry", self.telemetry.level()),
            ("report", self.reports.level()),
            ("heartbeat", self.heartbeats.level()),
        ]
    }
}

fn count(kept: Result<(), NotKept>, log: &LogMetrics) -> Result<(), NotKept> {
    if kept.is_err() {
        log.not_kept.inc();
    }
    kept
}

impl<A: Append> Item<A> {
    fn bytes(&self) -> usize {
        let text = |entry: &RefusedEntry| entry.text.as_ref().map_or(0, String::len);
        let refused: usize = self.refused.iter().map(text).sum();
        let refused = size_of_val(self.refused.as_slice()) + refused;
        size_of::<Self>() + refused + self.append.bytes()
    }
}

impl<T> Queue<T> {
    fn new(bounds: Bounds) -> (Self, mpsc::Receiver<Waiting<T>>) {
        let (sender, receiver) = mpsc::channel(bounds.batches);
        let bytes = bounds.bytes.min(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(bytes));
        let queue = Self {
            sender,
            room,
            bytes,
        };
        (queue, receiver)
    }

    fn level(&self) -> Level {
        let batches_limit = self.sender.max_capacity();
        Level {
            batches: batches_limit - self.sender.capacity(),
            batches_limit,
            bytes: self.bytes - self.room.available_permits(),
            bytes_limit: self.bytes,
        }
    }

    fn put(&self, what: T, bytes: usize) -> Result<(), NotKept> {
        // What is larger than all the room goes alone, or it would never go.
        let bytes = u32::try_from(bytes.min(self.bytes)).map_err(|_| NotKept)?;
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(bytes)
            .map_err(|_| NotKept)?;
        let waiting = Waiting { what, room };
        self.sender.try_send(waiting).map_err(|_| NotKept)
    }
}
