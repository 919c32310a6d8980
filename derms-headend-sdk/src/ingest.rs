//! From an agent's stream to the store, off the stream's task.
//!
//! Two bounded queues, one for telemetry and one for reports, each emptied by one writer that
//! stores what has gathered and only then tells the sessions. A store that is slow or away makes
//! the queues fill; then batches are not kept and their agents are told to send them again.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{LogKind, RefusedEntry};
use derms_proto::{Heartbeat, LogId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dispatcher::Dispatcher;
use crate::mailbox::Mailbox;
use crate::store::{ReportAppend, Store, StoreError, TelemetryAppend};

/// Most batches that are stored in one call.
const WRITE_BATCHES: usize = 512;

#[derive(Debug)]
pub(crate) struct Ingest {
    telemetry: mpsc::Sender<TelemetryItem>,
    reports: mpsc::Sender<ReportItem>,
    heartbeats: mpsc::Sender<Vec<Heartbeat>>,
}

/// Telemetry that a session accepted.
#[derive(Debug)]
pub(crate) struct TelemetryItem {
    pub(crate) append: TelemetryAppend,
    pub(crate) refused: Vec<RefusedEntry>,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// Reports that a session accepted.
#[derive(Debug)]
pub(crate) struct ReportItem {
    pub(crate) append: ReportAppend,
    pub(crate) refused: Vec<RefusedEntry>,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// The queue is full: the batch was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotKept;

impl Ingest {
    /// Starts the writers; they end when `stop` is cancelled and their queues are empty.
    pub(crate) fn start(
        store: &Arc<dyn Store>,
        dispatcher: &Arc<Dispatcher>,
        queue: usize,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (telemetry, telemetry_queue) = mpsc::channel(queue);
        let (reports, report_queue) = mpsc::channel(queue);
        let (heartbeats, heartbeat_queue) = mpsc::channel(queue);
        tasks.spawn(write_heartbeats(
            Arc::clone(store),
            heartbeat_queue,
            stop.clone(),
        ));
        tasks.spawn(write_telemetry(
            Arc::clone(store),
            telemetry_queue,
            stop.clone(),
        ));
        tasks.spawn(write_reports(
            Arc::clone(store),
            Arc::clone(dispatcher),
            report_queue,
            stop.clone(),
        ));
        Self {
            telemetry,
            reports,
            heartbeats,
        }
    }

    pub(crate) fn telemetry(&self, item: TelemetryItem) -> Result<(), NotKept> {
        self.telemetry.try_send(item).map_err(|_| NotKept)
    }

    pub(crate) fn reports(&self, item: ReportItem) -> Result<(), NotKept> {
        self.reports.try_send(item).map_err(|_| NotKept)
    }

    /// Heartbeats are not acknowledged: those that find the queue full are left out of history.
    pub(crate) fn heartbeats(&self, heartbeats: Vec<Heartbeat>) {
        let _ = self.heartbeats.try_send(heartbeats);
    }
}

async fn write_telemetry(
    store: Arc<dyn Store>,
    mut queue: mpsc::Receiver<TelemetryItem>,
    stop: CancellationToken,
) {
    let mut items = Vec::new();
    while next(&mut queue, &mut items, &stop).await {
        let mut acks = Vec::with_capacity(items.len());
        let mut appends = Vec::with_capacity(items.len());
        for item in items.drain(..) {
            acks.push((item.refused, item.mailbox));
            appends.push(item.append);
        }
        let stored = insist("telemetry", &stop, || store.append_telemetry(&appends)).await;
        if stored.is_none() {
            continue;
        }
        acknowledge(
            LogKind::Telemetry,
            acks,
            appends.iter().map(|a| (a.log, a.next_seq)),
        );
    }
}

async fn write_reports(
    store: Arc<dyn Store>,
    dispatcher: Arc<Dispatcher>,
    mut queue: mpsc::Receiver<ReportItem>,
    stop: CancellationToken,
) {
    let mut items = Vec::new();
    while next(&mut queue, &mut items, &stop).await {
        let mut acks = Vec::with_capacity(items.len());
        let mut appends = Vec::with_capacity(items.len());
        for item in items.drain(..) {
            acks.push((item.refused, item.mailbox));
            appends.push(item.append);
        }
        let fates = insist("reports", &stop, || store.append_reports(&appends)).await;
        let Some(fates) = fates else {
            continue;
        };
        acknowledge(
            LogKind::Report,
            acks,
            appends.iter().map(|a| (a.log, a.next_seq)),
        );
        for (append, fates) in appends.iter().zip(fates) {
            dispatcher.reported(append.agent, fates);
        }
    }
}

async fn write_heartbeats(
    store: Arc<dyn Store>,
    mut queue: mpsc::Receiver<Vec<Heartbeat>>,
    stop: CancellationToken,
) {
    let mut items = Vec::new();
    while next(&mut queue, &mut items, &stop).await {
        let heartbeats: Vec<Heartbeat> = items.drain(..).flatten().collect();
        insist("heartbeats", &stop, || store.append_heartbeats(&heartbeats)).await;
    }
}

/// Tells each session, once for all of its batches, what was stored and where its log continues.
fn acknowledge(
    kind: LogKind,
    acks: Vec<(Vec<RefusedEntry>, Arc<Mailbox>)>,
    logs: impl Iterator<Item = (LogId, u64)> + Clone,
) {
    let mut mailboxes = Vec::with_capacity(acks.len());
    for ((refused, mailbox), (_, next_seq)) in acks.into_iter().zip(logs.clone()) {
        mailbox.stored(kind, next_seq.saturating_sub(1), refused);
        mailboxes.push(mailbox);
    }
    for (mailbox, (log, _)) in mailboxes.iter().zip(logs) {
        mailbox.acknowledge(kind, log);
    }
}

/// Waits for items; `false` when the headend stops and none are left.
async fn next<T>(
    queue: &mut mpsc::Receiver<T>,
    items: &mut Vec<T>,
    stop: &CancellationToken,
) -> bool {
    tokio::select! {
        biased;
        count = queue.recv_many(items, WRITE_BATCHES) => count > 0,
        () = stop.cancelled() => false,
    }
}

/// Repeats a call of the store until it works, ever more slowly; `None` if it can't work, or when
/// the headend stops: what was not stored was not acknowledged, and its agent still has it.
async fn insist<T, F>(
    what: &'static str,
    stop: &CancellationToken,
    mut call: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut delay = Duration::from_millis(100);
    loop {
        match call().await {
            Ok(value) => return Some(value),
            Err(error @ StoreError::Unavailable { .. }) => {
                tracing::warn!(what, %error, retry_in = ?delay, "can't store; acknowledging nothing");
            }
            Err(error) => {
                tracing::error!(what, %error, "can't store; this will not mend by itself");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.cancelled() => return None,
        }
        delay = (delay * 2).min(Duration::from_secs(5));
    }
}
