use derms_proto::Fleet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::Clock;
use crate::events::run;
use crate::store::conformance::kit::{new_agent, new_asset};
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{EventQuery, Store as _};
use GapReason::{Corrupt, OutboxFull, TooOld, Unknown};

fn gap(first_seq: u64, last_seq: u64, reason: GapReason) -> Gap {
    Gap {
        first_seq,
        last_seq,
        reason,
    }
}

fn part(agent: AgentId, log: LogId, gaps: &[Gap], next_seq: u64) -> TelemetryAppend {
    TelemetryAppend {
        agent,
        log,
        samples: Vec::new(),
        gaps: gaps.to_vec(),
        next_seq,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros(seconds * 1_000_000)
}

/// What is said of these gaps, each in a part of its own.
fn said(gaps: &[(LogId, Gap)]) -> String {
    let mut losses = Losses::default();
    let agent = new_agent();
    for (log, gap) in gaps {
        losses.stored(&[part(agent, *log, &[*gap], gap.last_seq + 1)], at(0));
    }
    let told = losses.take(Instant::now(), QUIET, usize::MAX);
    told.iter().map(|(.., untold)| untold.to_string()).collect()
}

#[test]
fn what_is_lost_is_said_by_reason_with_numbers_and_log() {
    let (log, other) = (LogId::generate(), LogId::generate());
    let one = |gap| said(&[(log, gap)]);
    assert_eq!(
        one(gap(5, 1_204, OutboxFull)),
        format!(
            "1,200 measurements are lost: the agent's outbox was full (numbers 5 to 1204 of log {log})"
        )
    );
    assert_eq!(
        one(gap(7, 7, TooOld)),
        format!(
            "1 measurement is lost: older than the agent's outbox keeps (number 7 of log {log})"
        )
    );
    let corrupt = one(gap(1, 1_000_000, Corrupt));
    assert!(corrupt.starts_with("up to 1,000,000 measurements are lost: the agent crashed or"));
    assert!(
        corrupt.contains("some of these numbers may never have been given"),
        "{corrupt}"
    );
    assert!(one(gap(1, 999, Unknown)).starts_with("999 measurements are lost: why is not known ("));
    assert_eq!(
        said(&[
            (log, gap(1, 2, OutboxFull)),
            (log, gap(3, 3, TooOld)),
            (log, gap(8, 9, OutboxFull)),
            (other, gap(1, 1, TooOld)),
        ]),
        format!(
            "4 measurements are lost: the agent's outbox was full (2 gaps in numbers 1 to 9 of log {log}); \
             2 measurements are lost: older than the agent's outbox keeps (2 gaps in several logs)"
        )
    );
    // More than there can be.
    assert!(one(gap(0, u64::MAX - 1, Unknown)).starts_with("18,446,744,073,709,551,615 "));
}

#[test]
fn what_was_stored_before_is_not_told_again() {
    let mut losses = Losses::default();
    let (agent, log) = (new_agent(), LogId::generate());
    let lost = gap(5, 9, OutboxFull);
    let mut new = |agent, log, gaps: &[Gap], next_seq| {
        losses.stored(&[part(agent, log, gaps, next_seq)], at(0))
    };
    assert_eq!(new(agent, log, &[lost], 10), [lost]);
    assert_eq!(new(agent, log, &[lost], 10), []);
    // Its end alone is new, and not what was stored as measured meanwhile.
    assert_eq!(new(agent, log, &[], 15), []);
    let longer = gap(5, 20, TooOld);
    assert_eq!(new(agent, log, &[longer], 21), [gap(15, 20, TooOld)]);
    // Others have numbers of their own.
    assert_eq!(new(new_agent(), LogId::generate(), &[lost], 10), [lost]);
    assert_eq!(new(agent, LogId::generate(), &[lost], 10), [lost]);
    // Two parts of one call.
    let twice = [part(agent, log, &[lost], 10), part(agent, log, &[lost], 10)];
    assert_eq!(losses.stored(&twice, at(0)), [lost]);
}

#[tokio::test(start_paused = true)]
async fn no_more_agents_are_told_of_than_there_is_room_for_and_the_others_later() {
    let mut losses = Losses::default();
    for _ in 0..5 {
        let lost = part(new_agent(), LogId::generate(), &[gap(1, 2, TooOld)], 3);
        losses.stored(&[lost], at(0));
    }
    let mut told = || losses.take(Instant::now(), QUIET, 2).len();
    assert_eq!([told(), told(), told(), told()], [2, 2, 1, 0]);
}

struct Rig {
    events: Arc<Events>,
    store: FaultyStore,
    tasks: TaskTracker,
    stop: CancellationToken,
    log: LogId,
    next_seq: u64,
}

impl Rig {
    /// The writer of events, and one of telemetry that ends when it is told to.
    fn new() -> Self {
        let store = FaultyStore::new(Fault::None);
        let fleet = Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap();
        let start = Instant::now();
        let clock = Clock::new(move || at(start.elapsed().as_secs() as i64));
        let events = Arc::new(Events::new(Arc::new(fleet), clock, crate::live::quiet()));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let shared = Arc::new(store.clone());
        tasks.spawn(run(Arc::clone(&events), shared, events.end()));
        let storing = stop.clone().cancelled_owned();
        tasks.spawn(tell_losses(Arc::clone(&events), storing));
        Self {
            events,
            store,
            tasks,
            stop,
            log: LogId::generate(),
            next_seq: 1,
        }
    }

    /// So many numbers more are lost.
    fn lose(&mut self, agent: AgentId, numbers: u64) {
        let lost = gap(self.next_seq, self.next_seq + numbers - 1, OutboxFull);
        self.next_seq += numbers;
        let part = part(agent, self.log, &[lost], self.next_seq);
        assert_eq!(self.events.stored(&[part]), [lost]);
    }

    /// Newest first.
    async fn told(&self) -> Vec<Event> {
        let query = EventQuery::default();
        self.store.events(&query).await.unwrap().items
    }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_loses_something_with_each_batch_is_told_of_at_once_and_then_every_ten_minutes()
 {
    let mut rig = Rig::new();
    let (agent, asset) = (new_agent(), new_asset());
    rig.events.declared(agent, &[asset]);
    // For 25 minutes, a batch a second.
    let mut first = None;
    for _ in 0..1_500 {
        rig.lose(agent, 2);
        seconds(1).await;
        if first.is_none() {
            first = rig.told().await.pop();
        }
    }
    let told = rig.told().await;
    assert_eq!(told.len(), 3, "{told:#?}");
    let first = first.unwrap();
    assert!(first.at <= at(6), "{}", first.at);
    assert_eq!(
        (&*first.code, first.severity, first.agent_id, first.asset_id),
        (
            "telemetry_lost",
            Severity::Warning,
            Some(agent),
            Some(asset)
        )
    );
    // It falls silent, and what it had lost by then comes out all the same.
    seconds(600).await;
    let told = rig.told().await;
    assert_eq!(told.len(), 4, "{told:#?}");
    let numbers = told.iter().map(|event| {
        let number = event.text.split(' ').next().unwrap();
        number.replace(',', "").parse::<u64>().unwrap()
    });
    assert_eq!(numbers.sum::<u64>(), 3_000);
    // When it was stored, and not when it was told.
    assert_eq!(told[0].at, at(1_499));
    assert!(told[0].received_at > at(1_500), "{}", told[0].received_at);
    seconds(3_600).await;
    assert_eq!(rig.told().await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_told_yet_is_told_and_stored_at_the_end() {
    let mut rig = Rig::new();
    let agent = new_agent();
    for numbers in [1, 2] {
        rig.lose(agent, numbers);
        seconds(10).await;
    }
    assert_eq!(rig.told().await.len(), 1);
    rig.lose(new_agent(), 4);
    rig.stop.cancel();
    rig.tasks.close();
    rig.tasks.wait().await;
    let mut told: Vec<_> = rig.told().await.into_iter().map(|it| it.text).collect();
    told.sort();
    assert_eq!(told.len(), 3, "{told:#?}");
    for (text, number) in told.iter().zip(["1 ", "2 ", "4 "]) {
        assert!(text.starts_with(number), "{text}");
    }
}

fn bare() -> Events {
    let fleet = Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap();
    Events::new(Arc::new(fleet), Clock::new(|| at(0)), crate::live::quiet())
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_by_an_agent_that_served_others_is_told_of_the_agent_alone() {
    let events = bare();
    let (agent, asset, other) = (new_agent(), new_asset(), new_asset());
    let told = |numbers: u64| {
        let part = part(
            agent,
            LogId::generate(),
            &[gap(1, numbers, TooOld)],
            numbers + 1,
        );
        events.stored(&[part]);
    };
    let about = || {
        events.tell_losses(Duration::ZERO, usize::MAX);
        let event = events.backlog.waiting().pop().unwrap();
        (event.agent_id, event.asset_id)
    };
    events.declared(agent, &[asset]);
    told(1);
    events.declared(agent, &[other]);
    told(2);
    assert_eq!(about(), (Some(agent), None));
    events.declared(agent, &[other]);
    told(3);
    assert_eq!(about(), (Some(agent), Some(other)));
}

#[tokio::test(start_paused = true)]
async fn losses_of_a_whole_fleet_leave_room_for_other_events_and_all_are_told_in_the_end() {
    let events = bare();
    let fleet = 2 * MOST_BELOW_ALARM;
    for _ in 0..fleet {
        let part = part(new_agent(), LogId::generate(), &[gap(1, 2, OutboxFull)], 3);
        events.stored(&[part]);
    }
    for _ in 0..2 {
        events.tell_losses(QUIET, MOST_WAITING);
        assert_eq!(events.backlog.levels(), (MOST_WAITING, 0));
    }
    events.tell_losses(Duration::ZERO, usize::MAX);
    assert_eq!(events.backlog.levels(), (fleet, 0));
}
