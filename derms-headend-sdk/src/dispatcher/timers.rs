//! Timers of orders: hints to look, never proof of anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{AgentId, DispatchId};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::time::{DelayQueue, delay_queue};

use super::Dispatcher;
use crate::store::StoreError;

/// Repeats a look that the store did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// `DelayQueue` holds about two years; whoever waits longer looks again.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How often all open orders are looked at.
const SWEEP: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The time to live of a waiting order is over. Cleared when it waits no more, so that there
    /// are as many as orders that wait: one per asset and time.
    Expire(DispatchId),
    /// The time of an order for later has come.
    Begin(DispatchId),
    /// An order may have been committed although its caller was told that it failed.
    Withdraw(DispatchId),
    /// A site order is to be looked at that is shared anew when an asset drops out.
    Rebalance(DispatchId),
    /// A cancel was carried out while the store was away.
    Store(DispatchId),
    /// A session of this epoch said something else than what is known here.
    Agree(AgentId, u64),
    /// A session of this epoch has not answered an order.
    Unanswered(DispatchId, u64),
}

#[derive(Debug, Clone, Copy)]
enum Request {
    Set(Timer, Duration),
    Clear(DispatchId),
}

/// Sets timers; waits while 1,024 requests have not been taken up.
#[derive(Debug)]
pub(crate) struct Timers {
    orders: mpsc::Sender<Request>,
    looks: mpsc::Sender<Request>,
}

/// Timers that are run one at a time in two lanes: looks at site orders take long, and nothing else
/// waits for them.
#[derive(Debug)]
pub(crate) struct Queue {
    orders: Lane,
    looks: Lane,
}

#[derive(Debug)]
struct Lane {
    requests: mpsc::Receiver<Request>,
    running: Running,
}

#[derive(Debug, Default)]
struct Running {
    delays: DelayQueue<Timer>,
    expiries: HashMap<DispatchId, delay_queue::Key>,
}

pub(crate) fn channel() -> (Timers, Queue) {
    let ((orders, queue), (looks, looking)) = (lane(), lane());
    let queue = Queue {
        orders: queue,
        looks: looking,
    };
    (Timers { orders, looks }, queue)
}

fn lane() -> (mpsc::Sender<Request>, Lane) {
    let (sender, requests) = mpsc::channel(1_024);
    let running = Running::default();
    (sender, Lane { requests, running })
}

impl Timers {
    pub(crate) async fn set(&self, timer: Timer, after: Duration) {
        let lane = match timer {
            Timer::Rebalance(_) => &self.looks,
            _ => &self.orders,
        };
        // Fails only when the headend has stopped; then nothing is due any more.
        let _ = lane.send(Request::Set(timer, after)).await;
    }

    /// This order waits no more.
    pub(crate) async fn clear(&self, id: DispatchId) {
        let _ = self.orders.send(Request::Clear(id)).await;
    }
}

impl Running {
    fn take(&mut self, request: Request) {
        match request {
            Request::Set(timer, after) => self.set(timer, after),
            Request::Clear(id) => {
                if let Some(key) = self.expiries.remove(&id) {
                    self.delays.try_remove(&key);
                }
            }
        }
    }

    fn set(&mut self, timer: Timer, after: Duration) {
        if let Timer::Expire(id) = timer {
            self.take(Request::Clear(id));
        }
        let key = self.delays.insert(timer, after.min(LONGEST));
        if let Timer::Expire(id) = timer {
            self.expiries.insert(id, key);
        }
    }

    fn expired(&mut self, timer: Timer) {
        if let Timer::Expire(id) = timer {
            self.expiries.remove(&id);
        }
    }
}

impl Queue {
    /// Runs timers until `stop`.
    pub(crate) async fn run(self, dispatcher: Arc<Dispatcher>, stop: CancellationToken) {
        let orders = self.orders.run(&dispatcher, &stop, true);
        let looks = self.looks.run(&dispatcher, &stop, false);
        tokio::join!(orders, looks);
    }
}

impl Lane {
    /// With `sweep`, all open orders are looked at now and then, too.
    async fn run(mut self, dispatcher: &Dispatcher, stop: &CancellationToken, sweep: bool) {
        let mut sweeps = interval_at(Instant::now() + SWEEP, SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(request) = self.requests.recv() => self.running.take(request),
                Some(expired) = self.running.delays.next() => {
                    let timer = expired.into_inner();
                    self.running.expired(timer);
                    match self.look(dispatcher.due(timer), stop).await {
                        Some(Ok(())) => {}
                        Some(Err(error)) => {
                            tracing::warn!(error = %error.in_full(), "can't look after a dispatch; trying again");
                            self.running.set(timer, RETRY);
                        }
                        None => return,
                    }
                }
                _ = sweeps.tick(), if sweep => match self.look(dispatcher.sweep(), stop).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => tracing::warn!(error = %error.in_full(), "can't look after open dispatches; trying again in an hour"),
                    None => return,
                },
            }
        }
    }

    /// Takes requests meanwhile: a look makes some, and must not wait for itself. `None`: stopped.
    async fn look(
        &mut self,
        look: impl Future<Output = Result<(), StoreError>>,
        stop: &CancellationToken,
    ) -> Option<Result<(), StoreError>> {
        tokio::pin!(look);
        loop {
            tokio::select! {
                result = &mut look => return Some(result),
                Some(request) = self.requests.recv() => self.running.take(request),
                () = stop.cancelled() => return None,
            }
        }
    }
}

#[cfg(test)]
impl Queue {
    pub(crate) fn take_up(&mut self) {
        for lane in [&mut self.orders, &mut self.looks] {
            while let Ok(request) = lane.requests.try_recv() {
                lane.running.take(request);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        let orders = &self.orders.running;
        orders.delays.len().max(orders.expiries.len()) + self.looks.running.delays.len()
    }
}
