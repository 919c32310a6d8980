//! What others want from a session's task: coalesced, so that it never grows.

use std::task::{Context, Poll, Waker};

use derms_proto::link::{Close, HeadendMessage, LogAck, LogKind, RefusedEntry};
use derms_proto::{LogId, pb};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc};

use crate::registry::Outbound;

/// Wishes to a session, from ingest, dispatcher, a newer session, drain.
///
/// Acknowledgements are cumulative and the first close wins, so one place for each is enough.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inside: Mutex<Inside>,
    ponged: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    wishes: Wishes,
    /// Something came that the session's task must see to.
    due: bool,
    task: Option<Waker>,
    /// Acknowledgements go out from here, so that the task need not be woken for each.
    outbound: Option<mpsc::Sender<Outbound>>,
}

#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) telemetry: Stored,
    pub(crate) report: Stored,
    pub(crate) probe: bool,
    /// An order waits for room in the outbound queue.
    pub(crate) starved: bool,
    pub(crate) close: Option<Close>,
}

/// What was stored of one log since the last look.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Everything up to this number.
    pub(crate) up_to: Option<u64>,
    pub(crate) batches: usize,
    /// The agent has not been told yet.
    pub(crate) unsaid: bool,
    pub(crate) refused: Vec<RefusedEntry>,
    /// Batches behind it that could not be stored.
    pub(crate) not_kept: usize,
}

impl Wishes {
    fn stored(&mut self, kind: LogKind) -> &mut Stored {
        match kind {
            LogKind::Telemetry => &mut self.telemetry,
            _ => &mut self.report,
        }
    }
}

impl Mailbox {
    pub(crate) fn new(outbound: mpsc::Sender<Outbound>) -> Self {
        let mailbox = Self::default();
        mailbox.inside.lock().outbound = Some(outbound);
        mailbox
    }

    /// Everything of this log up to `up_to_seq` is stored or refused for good. To be followed by
    /// [`acknowledge`](Self::acknowledge), once for all that is stored together.
    pub(crate) fn stored(&self, kind: LogKind, up_to_seq: u64, refused: Vec<RefusedEntry>) {
        let mut inside = self.inside.lock();
        let stored = inside.wishes.stored(kind);
        stored.up_to = stored.up_to.max(Some(up_to_seq));
        stored.batches += 1;
        stored.unsaid = true;
        stored.refused.extend(refused);
    }

    /// Tells the agent what was stored, unless it was told; without room in the outbound queue the
    /// session's task must see to it.
    pub(crate) fn acknowledge(&self, kind: LogKind, log: LogId) {
        let mut inside = self.inside.lock();
        let Inside {
            wishes, outbound, ..
        } = &mut *inside;
        let stored = wishes.stored(kind);
        let Some(up_to_seq) = stored.up_to.filter(|_| stored.unsaid) else {
            return;
        };
        if let Some(Ok(place)) = outbound.as_ref().map(mpsc::Sender::try_reserve) {
            stored.unsaid = false;
            let refused = std::mem::take(&mut stored.refused);
            let ack = HeadendMessage::LogAck(LogAck {
                kind,
                log_id: log,
                up_to_seq,
                refused,
                rewind: false,
            });
            place.send(Box::new(pb::HeadendMessage::from(ack)));
        } else {
            self.wake(inside);
        }
    }

    /// A batch of this log that was accepted can't be stored: the agent must send it again.
    pub(crate) fn not_kept(&self, kind: LogKind) {
        self.wish(|wishes| wishes.stored(kind).not_kept += 1);
    }

    /// What was stored and acknowledged since the last look.
    pub(crate) fn settled(&self) -> (Stored, Stored) {
        let mut inside = self.inside.lock();
        let Wishes {
            telemetry, report, ..
        } = &mut inside.wishes;
        let [telemetry, report] = [telemetry, report].map(|stored| {
            // What was not kept is behind what was stored, and the task was woken for it.
            if stored.unsaid || stored.not_kept > 0 {
                Stored::default()
            } else {
                std::mem::take(stored)
            }
        });
        (telemetry, report)
    }

    /// Nothing goes out from here any more.
    pub(crate) fn hang_up(&self) {
        self.inside.lock().outbound = None;
    }

    pub(crate) fn close(&self, close: Close) {
        self.wish(|wishes| {
            wishes.close.get_or_insert(close);
        });
    }

    pub(crate) fn probe(&self) {
        self.wish(|wishes| wishes.probe = true);
    }

    pub(crate) fn starve(&self) {
        self.wish(|wishes| wishes.starved = true);
    }

    fn wish(&self, wish: impl FnOnce(&mut Wishes)) {
        let mut inside = self.inside.lock();
        wish(&mut inside.wishes);
        self.wake(inside);
    }

    fn wake(&self, mut inside: MutexGuard<'_, Inside>) {
        inside.due = true;
        // One wake for all wishes until the task has looked.
        let task = inside.task.take();
        drop(inside);
        if let Some(task) = task {
            task.wake();
        }
    }

    pub(crate) fn answered(&self) {
        self.ponged.notify_waiters();
    }

    /// Asks whether the agent lives, and waits for its answer.
    pub(crate) async fn ask(&self) {
        let mut pong = std::pin::pin!(self.ponged.notified());
        pong.as_mut().enable();
        self.probe();
        pong.await;
    }

    /// The wishes, once there are any.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Wishes> {
        let mut inside = self.inside.lock();
        if std::mem::take(&mut inside.due) {
            return Poll::Ready(std::mem::take(&mut inside.wishes));
        }
        if !inside
            .task
            .as_ref()
            .is_some_and(|task| task.will_wake(cx.waker()))
        {
            inside.task = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    #[cfg(test)]
    pub(crate) fn take(&self) -> Wishes {
        std::mem::take(&mut self.inside.lock().wishes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use derms_proto::pb::headend_message::Body;
    use uuid::Uuid;

    use super::*;

    const LOG: LogId = LogId::new(Uuid::from_u128(7));

    fn mailbox(room: usize) -> (Mailbox, mpsc::Receiver<Outbound>) {
        let (outbound, queue) = mpsc::channel(room);
        (Mailbox::new(outbound), queue)
    }

    fn acks(queue: &mut mpsc::Receiver<Outbound>) -> Vec<u64> {
        let bodies = std::iter::from_fn(|| queue.try_recv().ok()?.body);
        let up_to = bodies.map(|body| match body {
            Body::LogAck(ack) => ack.up_to_seq,
            other => panic!("{other:?}"),
        });
        up_to.collect()
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// The wishes that a session's task would be woken for now.
    fn due(mailbox: &Mailbox) -> Option<Wishes> {
        match mailbox.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(wishes) => Some(wishes),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_is_stored_together_is_acknowledged_once_and_wakes_nobody() {
        let (mailbox, mut queue) = mailbox(4);
        for up_to in [3, 5, 9] {
            mailbox.stored(LogKind::Telemetry, up_to, Vec::new());
        }
        for _ in 0..3 {
            mailbox.acknowledge(LogKind::Telemetry, LOG);
        }
        assert_eq!(acks(&mut queue), [9]);
        assert!(due(&mailbox).is_none());
        let (telemetry, report) = mailbox.settled();
        assert_eq!((telemetry.up_to, telemetry.batches), (Some(9), 3));
        assert_eq!(report.up_to, None);
        assert_eq!(mailbox.settled().0.up_to, None, "it was taken over");
    }

    #[test]
    fn an_acknowledgement_without_room_is_left_to_the_session() {
        let (mailbox, mut queue) = mailbox(1);
        for up_to in [1, 2] {
            mailbox.stored(LogKind::Report, up_to, Vec::new());
            mailbox.acknowledge(LogKind::Report, LOG);
        }
        assert_eq!(acks(&mut queue), [1]);
        assert_eq!(
            mailbox.settled().1.up_to,
            None,
            "the agent has not been told"
        );
        let report = due(&mailbox).unwrap().report;
        assert_eq!(
            (report.up_to, report.batches, report.unsaid),
            (Some(2), 2, true)
        );
    }

    #[test]
    fn what_was_refused_is_told_with_the_next_acknowledgement_and_only_there() {
        let (mailbox, mut queue) = mailbox(4);
        let refused = RefusedEntry {
            seq: 2,
            code: derms_proto::link::RefusalCode::Invalid,
            text: None,
        };
        mailbox.stored(LogKind::Telemetry, 2, vec![refused]);
        mailbox.acknowledge(LogKind::Telemetry, LOG);
        mailbox.stored(LogKind::Telemetry, 3, Vec::new());
        mailbox.acknowledge(LogKind::Telemetry, LOG);
        let said = std::iter::from_fn(|| match queue.try_recv().ok()?.body {
            Some(Body::LogAck(ack)) => Some(ack.refused.len()),
            other => panic!("{other:?}"),
        });
        assert_eq!(said.collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn nothing_goes_out_after_hanging_up() {
        let (mailbox, mut queue) = mailbox(4);
        mailbox.hang_up();
        mailbox.stored(LogKind::Telemetry, 1, Vec::new());
        mailbox.acknowledge(LogKind::Telemetry, LOG);
        assert!(queue.try_recv().is_err());
    }

    #[test]
    fn many_wishes_are_one_wake() {
        let (mailbox, woken) = (Mailbox::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        assert!(mailbox.poll(&mut Context::from_waker(&waker)).is_pending());
        mailbox.probe();
        mailbox.starve();
        assert_eq!(
            Arc::strong_count(&woken),
            2,
            "the mailbox has let go of the waker"
        );
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        let wishes = due(&mailbox).unwrap();
        assert!(wishes.probe && wishes.starved);
    }
}
