//! Takes records to the store.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::AuditRecord;
use tokio_util::sync::CancellationToken;

use super::Audit;
use crate::store::{Store, StoreError};

/// Records in one call.
const PORTION: usize = 256;
/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs until `stop`, and then until what waits is stored or the store says no.
pub(crate) async fn run(audit: Arc<Audit>, store: Arc<dyn Store>, stop: CancellationToken) {
    let mut failing = false;
    loop {
        let stopping = stop.is_cancelled();
        match write(&audit, &*store).await {
            Ok(true) => failing = false,
            Ok(false) if stopping => return,
            Ok(false) => {
                failing = false;
                tokio::select! {
                    () = audit.something.notified() => {}
                    () = stop.cancelled() => {}
                }
            }
            Err(error) if stopping => {
                let records = audit.waiting.lock().records.len();
                tracing::error!(%error, records, "records of the audit trail are in this log alone");
                return;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "can't store the audit trail; it waits");
                }
                failing = true;
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
}

/// Stores a part of what waits; `false` if nothing does.
async fn write(audit: &Audit, store: &dyn Store) -> Result<bool, StoreError> {
    let portion: Vec<AuditRecord> = {
        let waiting = audit.waiting.lock();
        waiting.records.iter().take(PORTION).cloned().collect()
    };
    if portion.is_empty() {
        return Ok(false);
    }
    // They stay here until they are stored; one that is there already is left as it is.
    store.append_audit(&portion).await?;
    let mut waiting = audit.waiting.lock();
    waiting.records.drain(..portion.len());
    let lost = std::mem::take(&mut waiting.lost);
    if lost > 0 {
        let text = format!("{lost} records before this one are in the log of the headend alone");
        waiting.records.push_back(AuditRecord {
            detail: Some(text),
            ..audit.begin("audit_lost")
        });
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use derms_proto::Timestamp;
    use tokio_util::task::TaskTracker;

    use super::super::MOST;
    use super::*;
    use crate::config::Clock;
    use crate::store::faulty::{Fault, FaultyStore};
    use crate::store::{AuditQuery, HistoryQuery};

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
        let waiting = audit.waiting.lock();
        assert_eq!(
            waiting.records[0].detail.as_ref().unwrap().chars().count(),
            1_000
        );
    }
}
