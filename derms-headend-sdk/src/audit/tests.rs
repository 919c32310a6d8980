use std::sync::Arc;
use std::time::Duration;

use derms_proto::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::Clock;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{AuditQuery, HistoryQuery, Store};

struct Rig {
    audit: Arc<Audit>,
    store: FaultyStore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn rig(fault: Fault) -> Rig {
    let store = FaultyStore::new(fault);
    let audit = Arc::new(Audit::new(Clock::new(|| Timestamp::UNIX_EPOCH)));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(run(
        Arc::clone(&audit),
        Arc::new(store.clone()),
        stop.clone(),
    ));
    Rig {
        audit,
        store,
        tasks,
        stop,
    }
}

impl Rig {
    async fn end(self) -> Vec<AuditRecord> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let query = AuditQuery {
            page: HistoryQuery {
                limit: usize::MAX,
                ..HistoryQuery::default()
            },
            ..AuditQuery::default()
        };
        self.store.audit(&query).await.unwrap().items
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_store_that_is_away_does_not_take_is_stored_when_it_is_back() {
    let rig = rig(Fault::AuditFails);
    rig.audit.record(rig.audit.begin("stop"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    rig.store.set(Fault::None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.audit.record(rig.audit.begin("resume"));
    assert_eq!(rig.end().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_stored_before_the_headend_ends() {
    let rig = rig(Fault::None);
    for _ in 0..1_000 {
        rig.audit.record(rig.audit.begin("stop"));
    }
    assert_eq!(rig.end().await.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_well_does_not_hold_up_the_end() {
    let rig = rig(Fault::AuditFails);
    rig.audit.record(rig.audit.begin("stop"));
    assert_eq!(rig.end().await, []);
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_counted_and_told() {
    let rig = rig(Fault::AuditFails);
    for _ in 0..MOST + 7 {
        rig.audit.record(rig.audit.begin("stop"));
    }
    rig.store.set(Fault::None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stored = rig.end().await;
    let lost: Vec<_> = stored.iter().filter(|r| r.action == "audit_lost").collect();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].detail.as_ref().unwrap().starts_with("7 records"));
}

#[test]
fn what_was_refused_leaves_room_for_what_was_done() {
    let audit = Audit::new(Clock::default());
    for _ in 0..MOST + 7 {
        audit.refused_claim(None, None, "a session".to_owned(), "nobody".to_owned());
    }
    let refused = audit.waiting().len();
    assert!(refused < MOST, "{refused}");
    audit.record(audit.begin("stop"));
    assert_eq!(audit.waiting().last().unwrap().action, "stop");
}

#[test]
fn a_long_text_is_cut_at_a_whole_character() {
    let audit = Audit::new(Clock::default());
    audit.record(AuditRecord {
        detail: Some("ä".repeat(5_000)),
        ..audit.begin("stop")
    });
    assert_eq!(
        audit.waiting()[0].detail.as_ref().unwrap().chars().count(),
        1_000
    );
}
