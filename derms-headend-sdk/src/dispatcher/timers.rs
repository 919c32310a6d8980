//! Timers of orders: hints to look, never proof of anything.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::DispatchId;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;

use super::Dispatcher;

/// Repeats a look that the store did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// `DelayQueue` holds about two years; whoever waits longer looks again.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The time to live of a waiting order is over.
    Expire(DispatchId),
    /// A session of this epoch has not answered an order.
    Unanswered(DispatchId, u64),
    /// An order that was sent has been quiet for very long.
    GiveUp(DispatchId),
}

/// Sets timers; waits while 1,024 of them have not been taken up.
#[derive(Debug)]
pub(crate) struct Timers(mpsc::Sender<(Timer, Duration)>);

#[derive(Debug)]
pub(crate) struct Queue(mpsc::Receiver<(Timer, Duration)>);

pub(crate) fn channel() -> (Timers, Queue) {
    let (sender, receiver) = mpsc::channel(1_024);
    (Timers(sender), Queue(receiver))
}

impl Timers {
    pub(crate) async fn set(&self, timer: Timer, after: Duration) {
        // Fails only when the headend has stopped; then nothing is due any more.
        let _ = self.0.send((timer, after)).await;
    }
}

impl Queue {
    /// Runs timers until `stop`.
    pub(crate) async fn run(mut self, dispatcher: Arc<Dispatcher>, stop: CancellationToken) {
        let mut delays = DelayQueue::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some((timer, after)) = self.0.recv() => {
                    delays.insert(timer, after.min(LONGEST));
                }
                Some(expired) = delays.next() => {
                    let timer = expired.into_inner();
                    let look = dispatcher.due(timer);
                    tokio::pin!(look);
                    // Timers are taken meanwhile: a look may set some, and must not wait for itself.
                    let result = loop {
                        tokio::select! {
                            result = &mut look => break result,
                            Some((timer, after)) = self.0.recv() => {
                                delays.insert(timer, after.min(LONGEST));
                            }
                            () = stop.cancelled() => return,
                        }
                    };
                    if let Err(error) = result {
                        tracing::warn!(%error, "can't look after a dispatch; trying again");
                        delays.insert(timer, RETRY);
                    }
                }
            }
        }
    }
}
