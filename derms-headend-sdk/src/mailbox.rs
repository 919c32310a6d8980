//! What others want from a session's task: coalesced, so that it never grows.

use derms_proto::link::{Close, LogKind, RefusedEntry};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// Wishes to a session, from ingest, dispatcher, a newer session, drain.
///
/// Acknowledgements are cumulative and the first close wins, so one place for each is enough.
#[derive(Debug)]
pub(crate) struct Mailbox {
    wishes: Mutex<Wishes>,
    wake: Notify,
    /// Counts answered pings.
    pongs: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Everything up to these numbers is stored.
    pub(crate) telemetry: Option<u64>,
    pub(crate) report: Option<u64>,
    pub(crate) refused: Vec<(LogKind, RefusedEntry)>,
    /// Batches that were stored since the last look.
    pub(crate) telemetry_batches: usize,
    pub(crate) report_batches: usize,
    pub(crate) probe: bool,
    /// An order waits for room in the outbound queue.
    pub(crate) starved: bool,
    pub(crate) close: Option<Close>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            wishes: Mutex::default(),
            wake: Notify::new(),
            pongs: watch::Sender::new(0),
        }
    }
}

impl Mailbox {
    /// Everything of this log up to `up_to_seq` is stored or refused for good.
    pub(crate) fn stored(&self, kind: LogKind, up_to_seq: u64, refused: Vec<RefusedEntry>) {
        let mut wishes = self.wishes.lock();
        let (place, batches) = match kind {
            LogKind::Telemetry => {
                let Wishes {
                    telemetry,
                    telemetry_batches,
                    ..
                } = &mut *wishes;
                (telemetry, telemetry_batches)
            }
            _ => {
                let Wishes {
                    report,
                    report_batches,
                    ..
                } = &mut *wishes;
                (report, report_batches)
            }
        };
        *place = (*place).max(Some(up_to_seq));
        *batches += 1;
        wishes
            .refused
            .extend(refused.into_iter().map(|entry| (kind, entry)));
        drop(wishes);
        self.wake.notify_one();
    }

    pub(crate) fn close(&self, close: Close) {
        self.wishes.lock().close.get_or_insert(close);
        self.wake.notify_one();
    }

    pub(crate) fn probe(&self) {
        self.wishes.lock().probe = true;
        self.wake.notify_one();
    }

    pub(crate) fn starve(&self) {
        self.wishes.lock().starved = true;
        self.wake.notify_one();
    }

    pub(crate) fn answered(&self) {
        self.pongs.send_modify(|count| *count += 1);
    }

    pub(crate) fn answers(&self) -> watch::Receiver<u64> {
        self.pongs.subscribe()
    }

    pub(crate) async fn wait(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn take(&self) -> Wishes {
        std::mem::take(&mut *self.wishes.lock())
    }
}
