//! Cancels while the store can't be reached.

use super::Command::{Release, Set};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_cancel_is_sent_and_says_that_it_is_not_stored_and_is_stored_when_that_can_be() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    bench.store.set(Fault::Away);
    let cancelled = bench.cancel(order.id).await;
    assert_eq!(cancelled.status, DispatchStatus::Active);
    assert_eq!(cancelled.cancelled_by.as_deref(), Some("ann"));
    assert!(cancelled.text.unwrap().contains("not stored"));
    assert_eq!(agent.commands(), [Set(order.id, 1), Release(order.id, 2)]);
    // Asked again, it says the same and sends nothing.
    assert!(bench.cancel(order.id).await.text.is_some());
    assert_eq!(agent.commands(), []);
    let new = NewDispatch::asset(BIG, Power::from_mw(6.0));
    let error = bench.submit(&new).await.unwrap_err();
    assert!(matches!(error, DispatchError::Store(_)), "{error:?}");
    bench.pass(seconds(20)).await;
    assert_eq!(bench.stored(order.id).await.cancel_requested_at, None);

    bench.store.set(Fault::None);
    bench.pass(seconds(2)).await;
    let stored = bench.stored(order.id).await;
    assert_eq!(stored.cancel_requested_at, Some(START));
    assert_eq!(stored.cancelled_by.as_deref(), Some("ann"));
    assert_eq!(stored.status, DispatchStatus::Active);
    assert_eq!(agent.commands(), [], "it has its release");
    assert!(bench.cancel(order.id).await.text.is_none());
    agent.says(&bench, &order, SetpointPhase::Released).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Cancelled);
    bench.order(BIG, 7.0).await;
    let revisions: Vec<_> = agent.orders().iter().map(|order| order.revision).collect();
    assert_eq!(revisions, [3]);
    assert_eq!(bench.dispatcher.known.lock().sizes(), [1, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_next_order_has_a_revision_above_a_release_that_is_not_stored_yet() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    bench.store.set(Fault::Away);
    bench.cancel(order.id).await;
    agent.messages();
    bench.store.set(Fault::None);
    // Before the cancel is stored, and whether or not its agent has spoken.
    agent.says(&bench, &order, SetpointPhase::Released).await;
    let next = bench.order(BIG, 6.0).await;
    let revision = next.revision.unwrap();
    assert!(revision > 2, "{revision} would be refused as stale");
    assert_eq!(agent.commands(), [Set(next.id, revision)]);
    bench.pass(seconds(2)).await;
    let ended = bench.stored(order.id).await;
    assert_eq!(ended.cancelled_by.as_deref(), Some("ann"), "for the record");
    assert_eq!(agent.commands(), []);
    assert_eq!(bench.status(next.id).await, DispatchStatus::Sent);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_was_stored_though_the_store_said_it_failed_is_one_cancel() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    bench.store.set(Fault::CancelFailsAfter);
    bench.cancel(order.id).await;
    assert_eq!(agent.commands(), [Set(order.id, 1), Release(order.id, 2)]);
    bench.store.set(Fault::None);
    bench.pass(seconds(2)).await;
    agent.replay(&bench, None).await.unwrap();
    assert_eq!(agent.commands(), []);
    assert_eq!(bench.store.revisions(&[BIG]).await.unwrap(), [2]);
    assert_eq!(
        bench.stored(order.id).await.cancel_requested_at,
        Some(START)
    );
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_held_back_until_its_cancel_is_stored() {
    let bench = Bench::new().await;
    let order = bench.order(BIG, 5.0).await;
    bench.store.set(Fault::Away);
    let cancelled = bench.cancel(order.id).await;
    assert_eq!(
        cancelled.status,
        DispatchStatus::Pending,
        "it is not stored"
    );
    bench.store.set(Fault::None);
    let mut agent = bench.agent_of(BIG).await;
    assert_eq!(agent.commands(), []);
    bench.pass(seconds(2)).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Cancelled);
    agent.replay(&bench, None).await.unwrap();
    assert_eq!(agent.commands(), []);
}

#[tokio::test(start_paused = true)]
async fn a_site_order_of_an_earlier_life_can_be_cancelled_and_what_is_not_known_is_a_failure() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let new = NewDispatch::site(SITE, Power::from_mw(12.0));
    let order = bench.submit(&new).await.unwrap();
    gateway
        .says(&bench, &order.children[1], SetpointPhase::Completed)
        .await;
    let gateway = gateway.disconnect(&bench).await;
    let bench = bench.restarted().await;
    let mut gateway = gateway.connect(&bench, &[BIG, LEFT, RIGHT]).await;
    gateway.messages();
    bench.store.set(Fault::Away);
    let cancelled = bench.cancel(order.id).await;
    assert_eq!(cancelled.children.len(), 3);
    assert_eq!(cancelled.children[1].status, DispatchStatus::Completed);
    let [big, right] = [0, 2].map(|n| order.children[n].id);
    assert_eq!(gateway.commands(), [Release(big, 2), Release(right, 2)]);
    let unknown = bench.dispatcher.cancel(DispatchId::generate(), None).await;
    unknown.unwrap_err();
    bench.store.set(Fault::None);
    bench.pass(seconds(2)).await;
    let stored = bench.stored(order.id).await;
    assert_eq!(stored.cancelled_by.as_deref(), Some("ann"));
    assert_eq!(stored.children[1].cancelled_by, None);
}

#[tokio::test(start_paused = true)]
async fn a_newer_order_that_was_sent_is_not_ended_by_the_cancel_of_an_older_one() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let old = bench.order(BIG, 1.0).await;
    let newer = bench.order(BIG, 2.0).await;
    bench.store.set(Fault::Away);
    bench.cancel(old.id).await;
    assert_eq!(agent.commands(), [Set(old.id, 1), Set(newer.id, 2)]);
    bench.store.set(Fault::None);
    bench.pass(seconds(2)).await;
    agent.says(&bench, &newer, SetpointPhase::Expired).await;
    agent.replay(&bench, None).await.unwrap();
    assert_eq!(agent.commands(), [Release(old.id, 3)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_an_asset_has_a_bound() {
    let bench = Bench::new().await;
    let mut agent = Agent::new(BIG.into());
    for _ in 0..40 {
        agent = agent.connect(&bench, &[BIG]).await;
        bench.order(BIG, 1.0).await;
        agent = agent.disconnect(&bench).await;
    }
    assert_eq!(bench.dispatcher.known.lock().sizes(), [16, 0, 16, 0]);
}
