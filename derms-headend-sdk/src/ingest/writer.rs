//! Stores what waits in a queue, and tells the sessions.
//!
//! A call may be of thousands of parts, and in one go each loop over them would keep a thread, and the
//! streams that wait for it, for a millisecond. So loops give way by `consume_budget`, here and in the
//! stores.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use derms_proto::link::{LogKind, RefusedEntry};
use derms_proto::{Heartbeat, LogId};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{consume_budget, yield_now};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::append::{Append, Writing};
use super::{Failing, Item, Waiting};
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// Entries that are stored in one call, and a batch more.
pub(super) const WRITE_ENTRIES: usize = 2_048;
/// After a call, telemetry gathers for so many times as long as the call took: what comes alone
/// costs a database several times as much as what comes together, and orders find it free.
const PAUSE: u32 = 4;
/// A store that is faster than this gains nothing by a pause.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
/// Agents wait for their acknowledgements meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether a whole call has gathered.
const LOOK: Duration = Duration::from_millis(10);
/// Each wakes a connection: thousands at once would keep what was just received waiting.
const ACKS_AT_ONCE: usize = 8;
/// Until a store that can't be reached is asked again; doubles up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Who is told, and what besides.
type Ack = (Vec<RefusedEntry>, Arc<Mailbox>);

/// The writer of one kind of log.
#[derive(Debug)]
pub(super) struct Writer {
    store: Arc<dyn Store>,
    failing: Arc<Failing>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    /// Logs of which the store refused something, with the first number that it does not have:
    /// what comes behind it must not be stored before it.
    broken: HashMap<LogId, u64>,
}

#[derive(Debug)]
enum Written<T> {
    Yes(T),
    /// It can't be stored, now or later.
    Never,
    /// The headend stops: what was not stored was not acknowledged, and its agent still has it.
    Stopped,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn Store>,
        failing: Arc<Failing>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            failing,
            metrics,
            stop,
            broken: HashMap::new(),
        }
    }

    /// Stores what comes; `stored` learns what the store said of it.
    pub(super) async fn run<A: Append>(
        mut self,
        mut queue: mpsc::Receiver<Waiting<Item<A>>>,
        mut stored: impl FnMut(&[A], A::Answer) + Send,
    ) {
        let mut pause = Instant::now();
        while let Some(waiting) = gather(&mut queue, pause, &self.stop).await {
            let (mut appends, mut acks) = (Vec::new(), Vec::new());
            let mut firsts = Vec::new();
            // Freed with the next turn, when this one is stored.
            let mut room = Vec::with_capacity(waiting.len());
            for Waiting {
                what: item,
                room: held,
            } in waiting
            {
                if self.is_behind(item.append.log(), item.first_seq) {
                    self.not_kept::<A>(&item.mailbox);
                    continue;
                }
                firsts.push(item.first_seq);
                appends.push(item.append);
                acks.push((item.refused, item.mailbox));
                room.push(held);
                consume_budget().await;
            }
            let began = Instant::now();
            let written = self.insist(&appends).await;
            let pause_after = pause_after::<A>(began.elapsed());
            match written {
                Written::Yes(answer) => {
                    // Who has an acknowledgement finds what it is for.
                    stored(&appends, answer);
                    self.acknowledge(&appends, acks).await;
                    for append in appends {
                        drop(append);
                        consume_budget().await;
                    }
                }
                Written::Never => self.one_by_one(appends, &firsts, acks, &mut stored).await,
                Written::Stopped => {}
            }
            pause = Instant::now() + pause_after;
        }
    }

    /// Whether something is missing before this part of a log.
    fn is_behind(&mut self, log: LogId, first_seq: u64) -> bool {
        match self.broken.get(&log) {
            Some(missing) if first_seq > *missing => true,
            // Its agent has gone back.
            Some(_) => {
                self.broken.remove(&log);
                false
            }
            None => false,
        }
    }

    /// One part that can't be stored must not hold up all the others.
    async fn one_by_one<A: Append>(
        &mut self,
        appends: Vec<A>,
        firsts: &[u64],
        acks: Vec<Ack>,
        stored: &mut (impl FnMut(&[A], A::Answer) + Send),
    ) {
        let mut any = false;
        for ((append, first), ack) in appends.into_iter().zip(firsts).zip(acks) {
            let log = append.log();
            if self.broken.contains_key(&log) {
                self.not_kept::<A>(&ack.1);
                continue;
            }
            let one = [append];
            match self.insist(&one).await {
                Written::Yes(answer) => {
                    any = true;
                    stored(&one, answer);
                    self.acknowledge(&one, vec![ack]).await;
                }
                Written::Never => {
                    tracing::error!(what = A::NAME, log_id = %log, first_seq = *first,
                        "a batch can't be stored; its agent keeps it and sends it again");
                    self.broken.insert(log, *first);
                    self.not_kept::<A>(&ack.1);
                }
                Written::Stopped => return,
            }
        }
        if !any {
            // Nothing works: the next try can wait.
            A::failing(&self.failing).store(true, Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(LONGEST_DELAY) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn not_kept<A: Append>(&self, mailbox: &Mailbox) {
        self.metrics.link.log(A::KIND).not_kept.inc();
        mailbox.not_kept(A::KIND);
    }

    async fn acknowledge<A: Append>(&self, appends: &[A], acks: Vec<Ack>) {
        let log = self.metrics.link.log(A::KIND);
        let stored: usize = appends.iter().map(Append::numbers).sum();
        log.stored.inc_by(stored as u64);
        log.acks.inc_by(appends.len() as u64);
        acknowledge(appends, acks).await;
    }

    /// Repeats a call until it works, ever more slowly, unless it never will.
    async fn insist<A: Append>(&self, appends: &[A]) -> Written<A::Answer> {
        let failing = A::failing(&self.failing);
        let written = insist(
            A::NAME,
            &self.stop,
            || {
                let writing: Writing<'_, A::Answer> = A::write(&*self.store, appends);
                writing
            },
            |fails| failing.store(fails, Ordering::Relaxed),
        );
        written.await
    }
}

pub(super) async fn write_heartbeats(
    store: Arc<dyn Store>,
    mut queue: mpsc::Receiver<Waiting<Vec<Heartbeat>>>,
    stop: CancellationToken,
) {
    while let Some(waiting) = gather(&mut queue, Instant::now(), &stop).await {
        let (heartbeats, _room): (Vec<_>, Vec<_>) =
            waiting.into_iter().map(|w| (w.what, w.room)).unzip();
        let heartbeats = heartbeats.concat();
        // Those that can't be stored are left out of history.
        let _ = insist(
            "heartbeats",
            &stop,
            || store.append_heartbeats(&heartbeats),
            |_| {},
        )
        .await;
    }
}

/// Tells each session, once for all of its batches, what was stored and where its log continues.
async fn acknowledge<A: Append>(appends: &[A], acks: Vec<Ack>) {
    let mut mailboxes = Vec::with_capacity(acks.len());
    for (append, (refused, mailbox)) in appends.iter().zip(acks) {
        mailbox.stored(A::KIND, append.next_seq().saturating_sub(1), refused);
        mailboxes.push(mailbox);
        consume_budget().await;
    }
    // Then they go on, however much there is to do.
    let patience = Instant::now() + LONGEST_PAUSE;
    for (number, (append, mailbox)) in appends.iter().zip(mailboxes).enumerate() {
        mailbox.acknowledge(A::KIND, append.log());
        if number % ACKS_AT_ONCE == ACKS_AT_ONCE - 1 {
            let_others_go_first(patience).await;
        }
    }
}

/// Waits, at most so long, until no task is left in the queue that all threads of the runtime share.
///
/// A thread of tokio keeps 256 tasks at hand. What is beyond them waits in that queue, and of it a
/// busy thread takes a task in 0.2 ms: 128 streams would wait for 25 ms if there was always
/// something at hand.
pub(super) async fn let_others_go_first(patience: Instant) {
    let runtime = Handle::current().metrics();
    loop {
        yield_now().await;
        if runtime.global_queue_depth() == 0 || Instant::now() >= patience {
            return;
        }
    }
}

/// What a thing in a queue weighs in a transaction.
trait Entries {
    fn entries(&self) -> usize;
}

impl<A: Append> Entries for Waiting<Item<A>> {
    fn entries(&self) -> usize {
        self.what.append.entries()
    }
}

impl Entries for Waiting<Vec<Heartbeat>> {
    fn entries(&self) -> usize {
        self.what.len()
    }
}

/// How long to gather after a call that took so long.
fn pause_after<A: Append>(call: Duration) -> Duration {
    let pause = (call * PAUSE).min(LONGEST_PAUSE);
    // Somebody waits for a report.
    if A::KIND == LogKind::Report || pause < SHORTEST_PAUSE {
        return Duration::ZERO;
    }
    pause
}

/// What waits, once something does, but not before `pause` unless it fills a call; `None` when
/// the headend stops and nothing is left.
async fn gather<T: Entries>(
    queue: &mut mpsc::Receiver<T>,
    pause: Instant,
    stop: &CancellationToken,
) -> Option<Vec<T>> {
    let first = tokio::select! {
        biased;
        first = queue.recv() => first?,
        () = stop.cancelled() => return None,
    };
    let mut entries = first.entries();
    let mut items = vec![first];
    loop {
        while entries < WRITE_ENTRIES
            && let Ok(item) = queue.try_recv()
        {
            entries += item.entries();
            items.push(item);
            consume_budget().await;
        }
        let left = pause.saturating_duration_since(Instant::now());
        if entries >= WRITE_ENTRIES || left.is_zero() || stop.is_cancelled() {
            return Some(items);
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(LOOK)) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn insist<T, F>(
    what: &'static str,
    stop: &CancellationToken,
    mut call: impl FnMut() -> F,
    fails: impl Fn(bool),
) -> Written<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut delay = FIRST_DELAY;
    let mut since = None;
    loop {
        match call().await {
            Ok(value) => {
                fails(false);
                if let Some(since) = since {
                    let lasted_s = Instant::elapsed(&since).as_secs_f64();
                    tracing::info!(what, lasted_s, "stored again");
                }
                return Written::Yes(value);
            }
            // Said where it was found out.
            Err(StoreError::TakenOver) => return Written::Stopped,
            Err(error @ StoreError::Unavailable { .. }) => {
                tracing::warn!(what, error = %error.in_full(), retry_in_s = delay.as_secs_f64(), "can't store; acknowledging nothing");
            }
            Err(error) => {
                tracing::error!(what, error = %error.in_full(), "can't store; this will not mend by itself");
                return Written::Never;
            }
        }
        fails(true);
        since.get_or_insert_with(Instant::now);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.cancelled() => return Written::Stopped,
        }
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}
