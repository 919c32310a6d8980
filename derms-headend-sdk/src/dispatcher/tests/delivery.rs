//! What is sent, when, and in which session again.

use derms_proto::ReasonCode;

use super::*;
use crate::store::conformance::kit;

#[tokio::test(start_paused = true)]
async fn an_order_for_an_asset_that_is_online_is_sent_with_its_deadline() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let new = NewDispatch::asset(BIG, Power::from_mw(5.0)).lasting(seconds(900));
    let order = bench.submit(&new).await.unwrap();
    assert_eq!(order.status, DispatchStatus::Sent);
    let sent = agent.only_order();
    assert_eq!(sent.dispatch_id, order.id);
    assert_eq!((sent.revision, sent.epoch), (1, agent.session().epoch));
    assert_eq!(sent.duration, Some(seconds(900)));
    assert_eq!(sent.start_deadline, START.saturating_add(seconds(30)));
    let last = order.transitions.last().unwrap();
    assert_eq!(
        (last.status, last.epoch),
        (DispatchStatus::Sent, Some(agent.session().epoch))
    );

    let short = NewDispatch::asset(BIG, Power::from_mw(6.0)).waiting_at_most(seconds(7));
    bench.submit(&short).await.unwrap();
    assert_eq!(
        agent.only_order().start_deadline,
        START.saturating_add(seconds(7))
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_to_a_stream_before_it_is_stored_as_sent() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    bench.store.set(Fault::SentFails);
    let order = bench.order(BIG, 5.0).await;
    assert_eq!(order.status, DispatchStatus::Pending);
    assert_eq!(
        agent.orders(),
        [],
        "it was written, and its store does not know"
    );
    assert!(
        agent.session().mailbox.take().starved,
        "nobody would take it up again"
    );
    agent.replay(&bench, None).await.unwrap_err();
    assert_eq!(agent.orders(), []);
    bench.store.set(Fault::None);
    agent.replay(&bench, None).await.unwrap();
    assert_eq!(agent.only_order().dispatch_id, order.id);
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_as_sent_though_the_store_said_it_failed_is_written_once() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    bench.store.set(Fault::SentFailsAfter);
    let order = bench.order(BIG, 5.0).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Sent);
    assert_eq!(agent.orders(), []);
    bench.store.set(Fault::None);
    for _ in 0..3 {
        agent.replay(&bench, None).await.unwrap();
    }
    assert_eq!(agent.only_order().dispatch_id, order.id);
    assert!(bench.dispatcher.unsure.lock().is_empty());
    // Or its session ends before.
    bench.store.set(Fault::SentFailsAfter);
    let order = bench.order(BIG, 6.0).await;
    bench.store.set(Fault::None);
    let mut agent = agent.disconnect(&bench).await;
    assert!(bench.dispatcher.unsure.lock().is_empty());
    assert!(bench.stored(order.id).await.in_doubt);
    agent = agent.connect(&bench, &[BIG]).await;
    assert_eq!(agent.orders()[0].dispatch_id, order.id);
}

#[tokio::test(start_paused = true)]
async fn an_order_is_sent_once_in_a_session_however_often_that_is_looked_at() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    for _ in 0..3 {
        agent.replay(&bench, None).await.unwrap();
    }
    assert_eq!(agent.orders().len(), 1);
    assert_eq!(bench.stored(order.id).await.transitions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_finds_the_queue_full_waits_and_is_sent_when_there_is_room() {
    let bench = Bench::new().await;
    let mut agent = Agent::new(SITE.into());
    agent.queue_size = 2;
    let mut agent = agent.connect(&bench, &[BIG, LEFT, RIGHT]).await;
    let first = bench.order(BIG, 1.0).await;
    let second = bench.order(LEFT, 2.0).await;
    let third = bench.order(RIGHT, 3.0).await;
    assert_eq!(third.status, DispatchStatus::Pending);
    assert!(agent.session().mailbox.take().starved);
    let sent: Vec<_> = agent
        .orders()
        .iter()
        .map(|order| order.dispatch_id)
        .collect();
    assert_eq!(sent, [first.id, second.id]);
    agent.replay(&bench, None).await.unwrap();
    assert_eq!(agent.only_order().dispatch_id, third.id);
}

#[tokio::test(start_paused = true)]
async fn a_large_site_order_leaves_room_in_the_queue_while_the_store_takes_its_time() {
    // More than are recorded in one call, all on one stream.
    let assets: Vec<AssetId> = (0..200)
        .map(|n| AssetId::new(Uuid::from_u128(1_000 + n)))
        .collect();
    let bench = Bench::new().await;
    let mut agent = Agent::new(SITE.into()).connect(&bench, &[BIG]).await;
    let session = Arc::clone(agent.session());
    let mut served = Vec::new();
    for asset in assets {
        let order = kit::new_order(asset, SITE, 0);
        bench.store.commit(&order).await.unwrap();
        for order in bench.store.open_orders(Some(&[asset])).await.unwrap() {
            served.push((order, Arc::clone(&session)));
        }
    }
    bench.dispatcher.deliver(&served).await.unwrap();
    assert_eq!(agent.orders().len(), 200);
    assert!(
        bench.store.most_steps() <= 64,
        "{} places were held",
        bench.store.most_steps()
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_memory_gets_what_it_has_not_answered_again_and_nothing_else() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let unanswered = bench.order(BIG, 1.0).await;
    let received = bench.order(LEFT, 2.0).await;
    let active = bench.order(RIGHT, 3.0).await;
    gateway
        .says(&bench, &received, SetpointPhase::Received)
        .await;
    gateway.says(&bench, &active, SetpointPhase::Started).await;
    let before = gateway.orders()[0].clone();
    let first_epoch = gateway.session().epoch;
    // A restart of its process that keeps its logs is no other memory.
    gateway.instance = InstanceId::generate();
    let mut gateway = gateway
        .disconnect(&bench)
        .await
        .connect(&bench, &[BIG, LEFT, RIGHT])
        .await;
    let again = gateway.only_order();
    assert_eq!(
        (again.dispatch_id, again.revision),
        (unanswered.id, before.revision)
    );
    assert!(again.epoch > first_epoch);
    assert_eq!(bench.status(received.id).await, DispatchStatus::Received);
    assert_eq!(bench.status(active.id).await, DispatchStatus::Active);
}

#[tokio::test(start_paused = true)]
async fn a_lost_memory_ends_what_it_had_and_gets_none_of_it_again() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let sent = bench.order(BIG, 1.0).await;
    let received = bench.order(LEFT, 2.0).await;
    let active = bench.order(RIGHT, 3.0).await;
    gateway
        .says(&bench, &received, SetpointPhase::Received)
        .await;
    gateway.says(&bench, &active, SetpointPhase::Started).await;
    let gateway = gateway.disconnect(&bench).await.forgetful();
    let mut gateway = gateway.connect(&bench, &[BIG, LEFT, RIGHT]).await;
    assert_eq!(gateway.orders(), []);
    let cases = [
        (
            sent,
            DispatchStatus::Indeterminate,
            ReasonCode::ReportLogLost,
        ),
        (received, DispatchStatus::Failed, ReasonCode::Interrupted),
        (active, DispatchStatus::Failed, ReasonCode::Interrupted),
    ];
    for (order, status, reason) in cases {
        let order = bench.stored(order.id).await;
        assert_eq!(
            (order.status, order.reason, order.in_doubt),
            (status, Some(reason), false)
        );
    }
    let next = bench.order(BIG, 4.0).await;
    assert_eq!(
        gateway.only_order().dispatch_id,
        next.id,
        "what is new is sent"
    );
}

#[tokio::test(start_paused = true)]
async fn what_one_agent_has_is_not_given_to_another() {
    let bench = Bench::new().await;
    let agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 1.0).await;
    agent.disconnect(&bench).await;
    let mut gateway = bench.gateway().await;
    assert_eq!(gateway.orders(), []);
    let order = bench.stored(order.id).await;
    assert_eq!((order.status, order.in_doubt), (DispatchStatus::Sent, true));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_changes_nothing_of_what_the_newer_one_has() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let (old, mut old_queue) = agent.link.take().unwrap();
    let mut agent = agent.forgetful().connect(&bench, &[BIG]).await;
    let order = bench.order(BIG, 5.0).await;
    assert_eq!(agent.only_order().dispatch_id, order.id);
    // Its replay was held up by the store, and its end is recorded late.
    bench.dispatcher.replay(&old, &[BIG], None).await.unwrap();
    bench
        .dispatcher
        .session_ended(agent.id, old.epoch)
        .await
        .unwrap();
    let order = bench.stored(order.id).await;
    assert_eq!(
        (order.status, order.in_doubt),
        (DispatchStatus::Sent, false)
    );
    assert!(old_queue.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_stored_as_sent_for_a_session_just_over_goes_to_the_next() {
    let bench = Bench::new().await;
    let id = bench.order(BIG, 5.0).await.id;
    let waiting = bench.store.open_orders(None).await.unwrap().remove(0);
    let mut agent = Agent::new(BIG.into());
    agent.claim(&bench, &[BIG]).await;
    let (old, mut old_queue) = agent.link.take().unwrap();
    let session = agent.claim(&bench, &[BIG]).await;
    bench.dispatcher.deliver(&[(waiting, old)]).await.unwrap();
    assert!(
        old_queue.try_recv().is_err(),
        "an order on an older epoch after a newer claim"
    );
    assert_eq!(bench.status(id).await, DispatchStatus::Sent);
    agent.replay(&bench, None).await.unwrap();
    let sent = agent.only_order();
    assert_eq!((sent.dispatch_id, sent.epoch), (id, session.epoch));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_waited_too_long_is_not_sent_even_if_its_timer_is_late() {
    let bench = Bench::new().await;
    let order = bench.order(BIG, 5.0).await;
    bench.stop.cancel();
    bench.pass(seconds(301)).await;
    let mut agent = bench.agent_of(BIG).await;
    assert_eq!(agent.orders(), []);
    assert_eq!(bench.status(order.id).await, DispatchStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn orders_that_are_given_while_a_session_begins_are_sent_once_each() {
    let bench = Arc::new(Bench::new().await);
    for round in 0..50 {
        let mut agent = Agent::new(BIG.into());
        agent.claim(&bench, &[BIG]).await;
        let submit = {
            let bench = Arc::clone(&bench);
            bench
                .tasks
                .clone()
                .spawn(async move { bench.order(BIG, 5.0).await })
        };
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        agent.replay(&bench, None).await.unwrap();
        let order = submit.await.unwrap();
        assert_eq!(agent.only_order().dispatch_id, order.id);
        agent.says(&bench, &order, SetpointPhase::Rejected).await;
        agent.disconnect(&bench).await;
    }
}
