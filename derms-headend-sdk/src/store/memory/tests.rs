use std::sync::Arc;

use derms_proto::DispatchStatus;

use super::super::conformance::kit::*;
use super::*;

#[tokio::test]
async fn of_the_orders_that_have_ended_the_oldest_are_forgotten_with_their_keys() {
    let memory = Arc::new(MemoryStore::bounded(9, 4, 9));
    let store: Arc<dyn Store> = memory.clone();
    let (asset, site) = (new_asset(), new_site());
    let (open, _) = commit(&store, &new_order(new_asset(), site, 0))
        .await
        .unwrap();
    for n in 0..20 {
        let key = n.to_string();
        let order = if n % 2 == 0 {
            keyed(new_order(asset, site, n), &key, "")
        } else {
            keyed(site_order(site, &[asset, new_asset()], n), &key, "")
        };
        let (dispatch, _) = commit(&store, &order).await.unwrap();
        for leaf in dispatch.children.iter().chain([&dispatch]) {
            advance(&store, step(leaf.id, DispatchStatus::Cancelled))
                .await
                .unwrap();
        }
    }
    let all = store
        .dispatches(&DispatchQuery::default())
        .await
        .unwrap()
        .items;
    let leaves: usize = all
        .iter()
        .map(|dispatch| dispatch.children.len().max(1))
        .sum();
    // A site order of two goes as a whole.
    assert_eq!(
        leaves,
        3 + 1,
        "at most four that have ended, and one that has not"
    );
    assert_eq!(all.last().unwrap().id, open.id);
    let of_asset = DispatchQuery {
        asset: Some(asset),
        ..DispatchQuery::default()
    };
    assert_eq!(
        store.dispatches(&of_asset).await.unwrap().items.len(),
        all.len() - 1
    );
    for (n, free) in [(0, true), (15, true), (18, false), (19, false)] {
        let key = Idempotency {
            key: n.to_string(),
            fingerprint: String::new(),
        };
        assert_eq!(
            store.committed(&key).await.unwrap().is_none(),
            free,
            "key {n}"
        );
    }
    assert_eq!(store.revisions(&[asset]).await.unwrap(), [20]);
    // Two roots that have ended, one of them with two children, and the open one.
    assert_eq!(memory.orders.lock().sizes(), ([4, 1, 3, 4], [1, 0], [2, 2]));
}

#[tokio::test]
async fn of_the_sessions_that_have_ended_the_oldest_are_forgotten_and_none_that_lives() {
    let store = MemoryStore::bounded(9, 9, 3);
    let agent = new_agent();
    for n in 0..20 {
        let epoch = store.open_session(&record(agent, at(n)), 0).await.unwrap();
        if n >= 5 {
            store
                .close_session(agent, epoch, &end(100 + n, ""))
                .await
                .unwrap();
        }
    }
    let all = store
        .sessions(&HistoryQuery::default())
        .await
        .unwrap()
        .items;
    let epochs: Vec<u64> = all.iter().map(|record| record.epoch).collect();
    assert_eq!(epochs, [20, 19, 18, 5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn assets_share_the_room_for_measurements_and_each_keeps_its_newest() {
    let store = MemoryStore::bounded(100, 9, 9);
    let (agent, log) = (new_agent(), LogId::generate());
    let assets = [new_asset(), new_asset(), new_asset(), new_asset()];
    let mut seq = 1;
    for _ in 0..2 {
        for asset in assets {
            let append = samples(agent, log, asset, seq..seq + 90);
            seq += 90;
            store.append_telemetry(&[append]).await.unwrap();
        }
    }
    for (index, asset) in assets.into_iter().enumerate() {
        let query = TelemetryQuery::new(asset, HistoryQuery::default());
        let rows = store.telemetry(&query).await.unwrap().items;
        assert_eq!(rows.len(), 25);
        assert_eq!(rows[0].measured_at, at(360 + 90 * (index as u64 + 1)));
    }
}
