//! The live stream between client and headend, over a link that breaks.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::time::Duration;

use derms_client::proto::{DispatchId, DispatchStatus, LiveItem, LiveKind, ResetReason};
use derms_client::{Client, Live, LiveQuery};
use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::{Fleet, NewDispatch, Power};
use derms_tests::{Proxy, root, until};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(60);
const BREAKS: usize = 4;

type Told = (DispatchId, DispatchStatus);

async fn next(live: &mut Live) -> Told {
    match timeout(SOON, live.next()).await.expect("an item") {
        Some(Ok(LiveItem::Dispatch(dispatch))) => (dispatch.id, dispatch.status),
        other => panic!("no order but {other:?}"),
    }
}

async fn watching(address: impl std::fmt::Display) -> Live {
    let client = Client::new(format!("http://{address}").parse().unwrap()).unwrap();
    let mut live = client.live(LiveQuery::new().kind(LiveKind::Dispatch));
    let first = live.next().await.unwrap().unwrap();
    let began = LiveItem::Reset {
        reason: ResetReason::Began,
    };
    assert_eq!(first, began);
    live
}

#[tokio::test]
async fn over_a_link_that_breaks_at_random_nothing_is_missing_and_nothing_comes_twice() {
    let fleet = Fleet::load(root().join("assets.yaml")).unwrap();
    let asset = fleet.assets()[0].id;
    let headend = Headend::builder(fleet).build().await.unwrap();
    let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = headend.clone();
    let service = headend.rest_service();
    tokio::spawn(async move {
        serving
            .serve(vec![(listener, service)], std::future::pending())
            .await;
    });
    let link = Proxy::to(address).await;
    let mut whole = watching(address).await;
    let mut broken = watching(link.address()).await;

    let mut told = Vec::new();
    let mut given = 0;
    for _ in 0..BREAKS {
        // Some are read before the break, some are under way, and some come while it lasts.
        for _ in 0..fastrand::usize(1..12) {
            let order = NewDispatch::asset(asset, Power::from_mw(1.0));
            headend.dispatch(&order, None).await.unwrap();
            given += 1;
        }
        // Each is told as pending, and when the next takes its place.
        for _ in 0..fastrand::usize(..=2 * given - 1 - told.len()) {
            told.push(next(&mut broken).await);
        }
        link.cut();
        let order = NewDispatch::asset(asset, Power::from_mw(2.0));
        headend.dispatch(&order, None).await.unwrap();
        given += 1;
        until("the break to be noticed", SOON, async || {
            if let Ok(item) = timeout(Duration::from_millis(20), broken.next()).await {
                match item.unwrap().unwrap() {
                    LiveItem::Dispatch(dispatch) => told.push((dispatch.id, dispatch.status)),
                    other => panic!("{other:?}"),
                }
            }
            broken.trouble().map(drop)
        })
        .await;
        link.mend();
    }
    let mut all = Vec::new();
    while all.len() < 2 * given - 1 {
        all.push(next(&mut whole).await);
    }
    while told.len() < all.len() {
        told.push(next(&mut broken).await);
    }
    assert_eq!(told, all);
}
