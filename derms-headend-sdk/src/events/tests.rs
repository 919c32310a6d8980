use std::time::Duration;

use derms_proto::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::store::EventQuery;
use crate::store::conformance::kit::new_agent;
use crate::store::faulty::{Fault, FaultyStore};

struct Rig {
    events: Arc<Events>,
    store: FaultyStore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn rig(fault: Fault) -> Rig {
    let store = FaultyStore::new(fault);
    let fleet = Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap();
    let clock = Clock::new(|| Timestamp::from_unix_micros(5));
    let events = Arc::new(Events::new(Arc::new(fleet), clock));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let shared = Arc::new(store.clone());
    tasks.spawn(run(Arc::clone(&events), shared, stop.clone()));
    Rig {
        events,
        store,
        tasks,
        stop,
    }
}

impl Rig {
    fn raise(&self, severity: Severity, code: &'static str) {
        let about = About::agent(new_agent(), &[], &self.events.fleet);
        self.events.raise(severity, code, "for a test", about);
    }

    async fn end(self) -> Vec<Event> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let mut query = EventQuery::default();
        query.page.limit = usize::MAX;
        self.store.events(&query).await.unwrap().items
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_the_headend_waits_for_a_store_that_is_away() {
    let rig = rig(Fault::EventsFail);
    rig.raise(Severity::Alarm, "mismatch");
    tokio::time::sleep(Duration::from_secs(60)).await;
    rig.store.set(Fault::None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stored = rig.end().await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].source, EventSource::Headend);
    assert_eq!(stored[0].code, "mismatch");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_alarm_leaves_room_for_alarms_and_what_finds_none_is_told() {
    let rig = rig(Fault::EventsFail);
    for _ in 0..MOST_BELOW_ALARM + 7 {
        rig.raise(Severity::Warning, "agent_lost");
    }
    rig.raise(Severity::Alarm, "mismatch");
    rig.store.set(Fault::None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stored = rig.end().await;
    let of = |code: &str| {
        stored
            .iter()
            .filter(|it| it.code == code)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("agent_lost").len(), MOST_BELOW_ALARM);
    assert_eq!(of("mismatch").len(), 1);
    let lost = of("events_lost");
    assert_eq!(lost.len(), 1);
    assert!(lost[0].text.starts_with("7 events"), "{}", lost[0].text);
}
