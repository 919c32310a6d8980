use super::*;
use crate::store::MemoryStore;

/// Sessions of agents with one asset each.
const FLEET: u128 = 10_000;

/// What a stop may take until it is on its way to every agent.
const SOON: Duration = Duration::from_secs(2);

fn large_fleet() -> Arc<Fleet> {
    let site = Site {
        id: SITE,
        name: "S".to_owned(),
        location: String::new(),
    };
    let asset = |n: u128| {
        let id = AssetId::new(Uuid::from_u128(1_000_000 + n));
        let name = n.to_string();
        Asset::new(id, name, SITE, AssetKind::Battery, mw(-1.0), mw(1.0))
    };
    let assets = (0..FLEET).map(asset).collect();
    Arc::new(Fleet::new(vec![site], assets).unwrap())
}

/// Stops a fleet that is connected as a whole; how long that took on the clock of the machine.
async fn stop_everything(store: Arc<dyn Store>) -> Duration {
    let fleet = large_fleet();
    let registry = Arc::new(Registry::new(Arc::clone(&fleet), seconds(45), 256));
    let clock = Clock::new(|| START);
    let limits = Limits::new(
        Arc::clone(&fleet),
        store,
        Arc::clone(&registry),
        clock,
        TaskTracker::new(),
    );
    let mut queues = Vec::new();
    for (epoch, asset) in (1..).zip(fleet.assets()) {
        let (outbound, queue) = mpsc::channel(256);
        let session = Arc::new(Session::new(NewSession {
            agent_id: asset.id.into(),
            instance_id: InstanceId::generate(),
            epoch,
            peer: None,
            principal: None,
            credentials: None,
            software: Software::default(),
            capabilities: Capabilities::of(&[LIMITS.to_owned()]),
            durable: true,
            report_log: None,
            connected_at: START,
            mailbox: Arc::default(),
            outbound,
        }));
        registry.insert(&session, &[asset.id], |_| {}).unwrap();
        queues.push((asset.id, epoch, queue));
    }
    let begin = std::time::Instant::now();
    let stop = limits
        .stop(&NewStop::all(), None, None, None)
        .await
        .unwrap();
    let took = begin.elapsed();
    assert!(stop.stored);
    assert_eq!((stop.assets, stop.reached), (FLEET as u64, FLEET as u64));
    for (asset, epoch, mut queue) in queues {
        let message = HeadendMessage::try_from(*queue.try_recv().unwrap()).unwrap();
        let HeadendMessage::AssetLimits(told) = message else {
            panic!("{message:?}");
        };
        assert_eq!((told.asset_id, told.epoch, told.stop), (asset, epoch, true));
        assert!(queue.try_recv().is_err(), "told once");
    }
    took
}

#[tokio::test]
async fn a_stop_is_on_its_way_to_ten_thousand_agents_within_two_seconds() {
    let took = stop_everything(Arc::new(MemoryStore::new())).await;
    assert!(took < SOON, "{took:?}");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_stop_that_is_stored_on_a_disk_is_on_its_way_within_two_seconds_too() {
    let path = std::env::temp_dir().join(format!("derms-stop-{}.sqlite", Uuid::new_v4()));
    let store = crate::store::SqliteStore::open(&path).await.unwrap();
    let took = stop_everything(Arc::new(store)).await;
    for end in ["", "-wal", "-shm", ".lock"] {
        let mut file = path.clone().into_os_string();
        file.push(end);
        let _ = std::fs::remove_file(file);
    }
    assert!(took < SOON, "{took:?}");
}
