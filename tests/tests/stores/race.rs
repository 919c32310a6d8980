//! Many at once, through one store and through two on one server.

use std::collections::BTreeMap;
use std::sync::Arc;

use derms_headend_sdk::store::{Advance, Cancel, Commit, NewShares, Store, TelemetryQuery};
use derms_proto::link::SetpointPhase;
use derms_proto::{AgentId, AssetId, Dispatch, DispatchId, DispatchStatus, LogId};
use tokio::task::JoinSet;

use crate::facts::*;
use crate::place::places;

/// What a commit gave, in the order in which it was answered.
type Given = Vec<(AssetId, u64, DispatchId)>;

async fn commit_some(store: Arc<dyn Store>, assets: Vec<AssetId>, orders: usize) -> Given {
    let mut given = Vec::new();
    for n in 0..orders {
        let order = match n % 3 {
            0 => site_order(&assets),
            other => order(assets[other % assets.len()]),
        };
        let Commit::New { dispatch, .. } = store.commit(&order).await.unwrap() else {
            panic!("a new order is known");
        };
        let leaves = match dispatch.asset_id {
            Some(_) => vec![*dispatch],
            None => dispatch.children,
        };
        for leaf in leaves {
            given.push((leaf.asset_id.unwrap(), leaf.revision.unwrap(), leaf.id));
        }
    }
    given
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn revisions_are_unique_and_increase_whoever_commits_sends_and_raises_at_once() {
    for place in places() {
        let store = place.open().await;
        let other = place.open_again(&store).await;
        let assets = [asset(), asset(), asset()];
        let mut tasks = JoinSet::new();
        for n in 0..12 {
            let store = if n % 2 == 0 { &store } else { &other };
            let store = Arc::clone(store);
            tasks.spawn(commit_some(store, assets.to_vec(), 12));
        }
        let mut background = JoinSet::new();
        for asset in assets {
            let store = Arc::clone(&store);
            background.spawn(async move {
                let carrier = carrier(&*store, asset.into()).await;
                for _ in 0..8 {
                    for order in store.open_orders(Some(&[asset])).await.unwrap() {
                        let step = Advance {
                            id: order.dispatch.id,
                            status: DispatchStatus::Sent,
                            at: at(1),
                            reason: None,
                            text: None,
                            carrier: Some(carrier),
                        };
                        store.advance(&[step]).await.unwrap();
                    }
                    let known = store.revisions(&[asset]).await.unwrap()[0];
                    store.raise_revision(asset, known + 1).await.unwrap();
                    store
                        .mark_in_doubt(asset.into(), carrier.epoch)
                        .await
                        .unwrap();
                }
            });
        }
        let mut all: BTreeMap<(AssetId, u64), DispatchId> = BTreeMap::new();
        while let Some(given) = tasks.join_next().await {
            let mut last: BTreeMap<AssetId, u64> = BTreeMap::new();
            for (asset, revision, id) in given.unwrap() {
                let before = last.insert(asset, revision);
                assert!(before.is_none_or(|before| before < revision));
                assert_eq!(all.insert((asset, revision), id), None, "given twice");
            }
        }
        while let Some(done) = background.join_next().await {
            done.unwrap();
        }
        // One waits for each asset at most; what was sent is in doubt.
        for asset in assets {
            let open = store.open_orders(Some(&[asset])).await.unwrap();
            let waits = open.iter().filter(|order| order.carrier.is_none());
            assert!(waits.count() <= 1);
            let lost = open
                .iter()
                .filter(|order| order.carrier.is_some() && !order.dispatch.in_doubt);
            assert_eq!(
                lost.count(),
                0,
                "an order of a session that is over is not in doubt"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sample_that_comes_ten_times_at_once_is_stored_once() {
    for place in places() {
        let store = place.open().await;
        let agents: Vec<(AgentId, LogId, AssetId)> = (0..20)
            .map(|_| {
                let asset = asset();
                (asset.into(), LogId::generate(), asset)
            })
            .collect();
        let mut tasks = JoinSet::new();
        for n in 0..10_usize {
            let (store, mut agents) = (Arc::clone(&store), agents.clone());
            // Each takes the logs in another order.
            agents.rotate_left(n * 2);
            tasks.spawn(async move {
                for first in [1, 3, 5] {
                    let parts: Vec<_> = agents
                        .iter()
                        .map(|(agent, log, asset)| {
                            let rows = (first..first + 4).map(|n| bare(*asset, at(n)));
                            part(*agent, *log, first, rows.collect())
                        })
                        .collect();
                    store.append_telemetry(&parts).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        for (_, _, asset) in agents {
            let query = TelemetryQuery::new(asset, Default::default());
            let rows = store.telemetry(&query).await.unwrap().items;
            let times: Vec<_> = rows.iter().rev().map(|row| row.measured_at).collect();
            assert_eq!(times, (1..9).map(at).collect::<Vec<_>>());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reports_and_the_ends_of_sessions_do_not_wait_for_each_other() {
    for place in places() {
        let store = place.open().await;
        let assets = [asset(), asset(), asset(), asset()];
        let mut tasks = JoinSet::new();
        for asset in assets {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                for _ in 0..10 {
                    let carrier = carrier(&*store, asset.into()).await;
                    let sent = commit(&*store, &order(asset)).await;
                    let step = Advance {
                        id: sent.id,
                        status: DispatchStatus::Sent,
                        at: at(1),
                        reason: None,
                        text: None,
                        carrier: Some(carrier),
                    };
                    store.advance(&[step]).await.unwrap();
                    let report = [told(carrier, &sent, SetpointPhase::Received)];
                    let (told, ended) = tokio::join!(
                        store.append_reports(&report),
                        store.mark_in_doubt(carrier.agent, carrier.epoch)
                    );
                    told.unwrap();
                    ended.unwrap();
                    let order = store.dispatch(sent.id).await.unwrap().unwrap();
                    assert!(order.in_doubt, "{order:?}");
                    assert_eq!(order.status, DispatchStatus::Received);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancel_of_a_site_order_misses_no_share_that_is_added_at_the_same_moment() {
    for place in places() {
        let store = place.open().await;
        let other = place.open_again(&store).await;
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (store, other) = (Arc::clone(&store), Arc::clone(&other));
            tasks.spawn(async move {
                for _ in 0..25 {
                    let site = commit(&*store, &site_order(&[asset(), asset()])).await;
                    let old = &site.children[0];
                    let share = Dispatch {
                        id: DispatchId::generate(),
                        start_at: None,
                        transitions: Vec::new(),
                        ..old.clone()
                    };
                    let shares = NewShares {
                        parent: site.id,
                        split: site.split.clone().unwrap(),
                        seen: old.revision.into_iter().collect(),
                        shares: vec![share],
                        replaced: Vec::new(),
                    };
                    let cancel = [Cancel {
                        id: site.id,
                        at: at(2),
                        principal: None,
                        above: 0,
                    }];
                    let (added, cancelled) =
                        tokio::join!(store.add_shares(&shares), other.cancel(&cancel));
                    added.unwrap();
                    cancelled.unwrap();
                    let site = store.dispatch(site.id).await.unwrap().unwrap();
                    assert!(site.cancel_requested_at.is_some());
                    for share in site.children {
                        assert!(share.status.is_terminal(), "it goes on: {share:?}");
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
}
