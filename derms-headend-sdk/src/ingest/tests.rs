use std::time::Duration;

use derms_proto::link::{Gap, GapReason, LogKind};
use derms_proto::pb::{self, headend_message::Body};
use derms_proto::{Fleet, LogId};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::writer::{WRITE_ENTRIES, let_others_go_first};
use super::*;
use crate::backlog::Source as _;
use crate::config::{Clock, Config};
use crate::limits::Limits;
use crate::registry::{Outbound, Registry};
use crate::store::conformance::kit::new_agent;
use crate::store::faulty::{Fault, FaultyStore};

/// Writers on a store with faults.
struct Setup {
    ingest: Ingest,
    events: Arc<Events>,
    store: FaultyStore,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Setup {
    fn new(fault: Fault, bounds: Bounds) -> Self {
        let store = FaultyStore::new(fault);
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let fleet = Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap();
        let fleet = Arc::new(fleet);
        let config = Arc::new(Config::default());
        let registry = Registry::new(Arc::clone(&fleet), Duration::from_secs(45), 1);
        let registry = Arc::new(registry);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let events = Arc::new(Events::new(
            Arc::clone(&fleet),
            Clock::default(),
            crate::live::quiet(),
        ));
        let limits = Limits::new(
            Arc::clone(&fleet),
            Arc::clone(&shared),
            Arc::clone(&registry),
            Clock::default(),
            tasks.clone(),
        );
        let (dispatcher, _) = Dispatcher::new(
            Arc::clone(&fleet),
            Arc::clone(&shared),
            registry,
            crate::dispatcher::Present {
                latest: Arc::new(crate::latest::Latest::new(&fleet)),
                heartbeats: Arc::default(),
            },
            Arc::clone(&events),
            config,
            Arc::new(limits),
        );
        let metrics = Arc::new(Metrics::new().unwrap());
        Self {
            ingest: Ingest::start(
                &shared,
                &dispatcher,
                &events,
                bounds,
                &tasks,
                &stop,
                &metrics,
            ),
            events,
            store,
            stop,
            tasks,
        }
    }

    async fn cursor(&self, log: &Log) -> Option<u64> {
        let cursor = self
            .store
            .log_cursor(log.agent, LogKind::Telemetry, log.id)
            .await;
        cursor.unwrap()
    }
}

const ROOMY: Bounds = Bounds {
    batches: 1_024,
    bytes: 1 << 20,
};

/// An agent's log, and what the agent is told of it.
struct Log {
    agent: derms_proto::AgentId,
    id: LogId,
    mailbox: Arc<Mailbox>,
    told: Receiver<Outbound>,
}

impl Log {
    fn new() -> Self {
        let (outbound, told) = mpsc::channel(64);
        Self {
            agent: new_agent(),
            id: LogId::generate(),
            mailbox: Arc::new(Mailbox::new(outbound)),
            told,
        }
    }

    /// A part of the log in which every number is lost: a gap weighs as an entry does.
    fn part(&self, first_seq: u64, next_seq: u64) -> Item<TelemetryAppend> {
        Item {
            append: TelemetryAppend {
                agent: self.agent,
                log: self.id,
                samples: Vec::new(),
                gaps: vec![Gap {
                    first_seq,
                    last_seq: next_seq - 1,
                    reason: GapReason::TooOld,
                }],
                next_seq,
            },
            first_seq,
            refused: Vec::new(),
            mailbox: Arc::clone(&self.mailbox),
        }
    }

    async fn acked(&mut self) -> u64 {
        let message: Box<pb::HeadendMessage> = soon(self.told.recv()).await.unwrap();
        match message.body {
            Some(Body::LogAck(ack)) => ack.up_to_seq,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the session is told that a batch was not kept; so many were not.
    async fn not_kept(&self) -> usize {
        let wishes = soon(std::future::poll_fn(|cx| self.mailbox.poll(cx))).await;
        wishes.telemetry.not_kept
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(3_600);
    tokio::time::timeout(limit, what).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_delays_acknowledgements_and_loses_nothing() {
    let setup = Setup::new(Fault::AppendFails, ROOMY);
    let mut log = Log::new();
    setup.ingest.telemetry(log.part(1, 5)).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(setup.ingest.failing(), Some(LogKind::Telemetry));
    assert!(
        log.told.try_recv().is_err(),
        "acknowledged before it was stored"
    );
    setup.store.set(Fault::None);
    assert_eq!(log.acked().await, 4);
    assert_eq!(setup.cursor(&log).await, Some(5));
    assert_eq!(setup.ingest.failing(), None);
}

#[tokio::test(start_paused = true)]
async fn a_queue_takes_what_its_bounds_allow_and_gives_the_room_back() {
    let mut log = Log::new();
    let size = log.part(1, 2).bytes();
    for bounds in [
        Bounds {
            batches: 3,
            bytes: 1 << 20,
        },
        Bounds {
            batches: 1_024,
            bytes: 3 * size,
        },
    ] {
        let setup = Setup::new(Fault::AppendFails, bounds);
        let kept = (1..100).take_while(|n| setup.ingest.telemetry(log.part(*n, n + 1)).is_ok());
        assert_eq!(kept.count(), 3);
        setup.store.set(Fault::None);
        while log.acked().await < 3 {}
        setup.ingest.telemetry(log.part(4, 5)).unwrap();
        assert_eq!(log.acked().await, 4);
        log = Log::new();
    }
}

#[tokio::test(start_paused = true)]
async fn one_batch_that_can_never_be_stored_holds_up_its_own_agent_alone() {
    let (bad, mut good) = (Log::new(), Log::new());
    let setup = Setup::new(Fault::Poison(bad.id, 3), ROOMY);
    setup.ingest.telemetry(bad.part(1, 3)).unwrap();
    setup.ingest.telemetry(good.part(1, 2)).unwrap();
    setup.ingest.telemetry(bad.part(3, 4)).unwrap();
    assert_eq!(good.acked().await, 1);
    assert_eq!(bad.not_kept().await, 2);
    assert_eq!(
        setup.cursor(&bad).await,
        None,
        "what came behind it is not stored either"
    );
    assert_eq!(setup.ingest.failing(), None, "the store takes all else");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_stored_behind_a_batch_that_was_not_kept() {
    let mut log = Log::new();
    let setup = Setup::new(Fault::Poison(log.id, 3), ROOMY);
    setup.ingest.telemetry(log.part(1, 3)).unwrap();
    assert_eq!(log.not_kept().await, 1);
    setup.store.set(Fault::None);
    // Accepted before the session heard that the one before was not kept.
    setup.ingest.telemetry(log.part(3, 4)).unwrap();
    assert_eq!(log.not_kept().await, 1);
    assert_eq!(setup.cursor(&log).await, None);
    // The agent has gone back.
    setup.ingest.telemetry(log.part(1, 4)).unwrap();
    assert_eq!(log.acked().await, 3);
    assert_eq!(setup.cursor(&log).await, Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_told_when_it_is_stored_and_once_however_often_it_comes() {
    let mut log = Log::new();
    let setup = Setup::new(Fault::Poison(log.id, 5), ROOMY);
    setup.ingest.telemetry(log.part(1, 5)).unwrap();
    assert_eq!(log.not_kept().await, 1);
    let told = || setup.events.backlog().waiting();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(told(), []);
    setup.store.set(Fault::None);
    // Two sessions of one log: the later one began before the store had what the earlier one took.
    for _ in 0..2 {
        setup.ingest.telemetry(log.part(1, 5)).unwrap();
        assert_eq!(log.acked().await, 4);
    }
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let told = told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].text.starts_with("4 measurements are lost: older"));
    let gaps = setup.store.gaps(log.agent).await.unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_in_which_nothing_works_is_said_and_left_alone_for_a_while() {
    let log = Log::new();
    let setup = Setup::new(Fault::AppendNever, ROOMY);
    setup.ingest.telemetry(log.part(1, 2)).unwrap();
    log.not_kept().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.ingest.failing(), Some(LogKind::Telemetry));
}

#[tokio::test(start_paused = true)]
async fn after_a_slow_call_telemetry_gathers_until_a_call_is_full() {
    let bounds = Bounds {
        batches: 2 * WRITE_ENTRIES,
        bytes: 1 << 24,
    };
    let setup = Setup::new(Fault::AppendSlow, bounds);
    let mut log = Log::new();
    let start = tokio::time::Instant::now();
    setup.ingest.telemetry(log.part(1, 2)).unwrap();
    assert_eq!(log.acked().await, 1);
    assert_eq!(
        start.elapsed().as_millis(),
        20,
        "the first one waits for nobody"
    );
    setup.ingest.telemetry(log.part(2, 3)).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    setup.ingest.telemetry(log.part(3, 4)).unwrap();
    assert_eq!(log.acked().await, 3, "both in one call");
    assert_eq!(start.elapsed().as_millis(), 20 + 4 * 20 + 20);
    let start = tokio::time::Instant::now();
    for seq in 4..4 + WRITE_ENTRIES as u64 {
        setup.ingest.telemetry(log.part(seq, seq + 1)).unwrap();
    }
    while log.acked().await < 3 + WRITE_ENTRIES as u64 {}
    let took = start.elapsed().as_millis();
    assert!(took < 4 * 20, "{took} ms: a full call must not wait");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_headend_does_not_wait_for_a_store_that_is_away() {
    let setup = Setup::new(Fault::AppendFails, ROOMY);
    let mut log = Log::new();
    setup.ingest.telemetry(log.part(1, 2)).unwrap();
    tokio::task::yield_now().await;
    setup.stop.cancel();
    setup.tasks.close();
    setup.tasks.wait().await;
    assert!(log.told.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_was_received_is_stored_before_the_end() {
    let setup = Setup::new(Fault::None, ROOMY);
    let mut log = Log::new();
    setup.ingest.telemetry(log.part(1, 2)).unwrap();
    setup.stop.cancel();
    setup.tasks.close();
    setup.tasks.wait().await;
    assert_eq!(log.acked().await, 1);
}

/// How many tasks are left in the shared queue after an acknowledgement gave way.
async fn left_in_the_shared_queue(patience: Duration) -> usize {
    let tasks = TaskTracker::new();
    let began = tasks.clone();
    // On the one thread, which has room for 256 tasks.
    let left = tasks.spawn(async move {
        for _ in 0..1_000 {
            began.spawn(std::future::ready(()));
        }
        let_others_go_first(Instant::now() + patience).await;
        Handle::current().metrics().global_queue_depth()
    });
    left.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn acknowledgements_give_way_to_streams_for_which_a_thread_has_no_room_at_hand() {
    let patience = Duration::from_secs(60);
    assert_eq!(left_in_the_shared_queue(patience).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn acknowledgements_go_out_in_time_however_much_there_is_to_do() {
    assert_ne!(left_in_the_shared_queue(Duration::ZERO).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_larger_than_the_queue_is_kept_alone() {
    let mut log = Log::new();
    let bytes = log.part(1, 2).bytes() - 1;
    let setup = Setup::new(Fault::AppendFails, Bounds { bytes, ..ROOMY });
    setup.ingest.telemetry(log.part(1, 2)).unwrap();
    assert_eq!(setup.ingest.telemetry(log.part(2, 3)), Err(NotKept));
    setup.store.set(Fault::None);
    assert_eq!(log.acked().await, 1);
}
