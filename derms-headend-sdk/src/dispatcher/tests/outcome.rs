//! What becomes of an order: by its agent, by its session's end, or by time.

use derms_proto::ReasonCode;
use tokio::task::JoinHandle;

use super::*;

#[tokio::test(start_paused = true)]
async fn an_order_that_waits_expires_with_its_time_to_live_and_is_never_sent() {
    let bench = Bench::new().await;
    let mut changes = bench.dispatcher.changes();
    let new = NewDispatch::asset(BIG, Power::from_mw(5.0)).waiting_at_most(seconds(5));
    let order = bench.submit(&new).await.unwrap();
    bench.pass(Duration::from_millis(4_900)).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Pending);
    bench.pass(Duration::from_millis(200)).await;
    let expired = bench.stored(order.id).await;
    assert_eq!(expired.status, DispatchStatus::Expired);
    assert_eq!(expired.reason, Some(ReasonCode::TtlElapsed));
    let mut told = Vec::new();
    while let Ok(change) = changes.try_recv() {
        told.push(change.status);
    }
    assert_eq!(told, [DispatchStatus::Pending, DispatchStatus::Expired]);
    let mut agent = bench.agent_of(BIG).await;
    assert_eq!(agent.orders(), []);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_was_sent_never_expires() {
    let bench = Bench::new().await;
    let agent = bench.agent_of(BIG).await;
    let new = NewDispatch::asset(BIG, Power::from_mw(5.0)).waiting_at_most(seconds(5));
    let order = bench.submit(&new).await.unwrap();
    agent.disconnect(&bench).await;
    bench.pass(seconds(3 * 3_600)).await;
    let order = bench.stored(order.id).await;
    assert_eq!((order.status, order.in_doubt), (DispatchStatus::Sent, true));
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_the_store_refuses_is_tried_again() {
    let bench = Bench::new().await;
    let new = NewDispatch::asset(BIG, Power::from_mw(5.0)).waiting_at_most(seconds(5));
    let order = bench.submit(&new).await.unwrap();
    bench.store.set(Fault::AdvanceFails);
    bench.pass(seconds(20)).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Pending);
    bench.store.set(Fault::None);
    bench.pass(seconds(2)).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Expired);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_casts_doubt_and_the_next_report_clears_it() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    agent.says(&bench, &order, SetpointPhase::Received).await;
    let agent = agent.disconnect(&bench).await;
    assert!(bench.stored(order.id).await.in_doubt);
    let mut agent = agent.connect(&bench, &[BIG]).await;
    assert!(
        bench.stored(order.id).await.in_doubt,
        "it has said nothing yet"
    );
    agent.says(&bench, &order, SetpointPhase::Started).await;
    let active = bench.stored(order.id).await;
    assert_eq!(
        (active.status, active.in_doubt),
        (DispatchStatus::Active, false)
    );
    // What it says is in force when it comes back is a word, too.
    let agent = agent.disconnect(&bench).await;
    assert!(bench.stored(order.id).await.in_doubt);
    let agent = agent.connect(&bench, &[BIG]).await;
    assert!(!bench.stored(order.id).await.in_doubt);
    agent.disconnect(&bench).await;
    assert!(
        bench.stored(order.id).await.in_doubt,
        "the link is gone again"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_clears_no_doubt_of_what_is_not_its_own() {
    let bench = Bench::new().await;
    let agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    agent.disconnect(&bench).await;
    let mut liar = Agent::new(LEFT.into());
    liar.in_force.push((LEFT, order.id));
    let mut liar = liar.connect(&bench, &[LEFT]).await;
    liar.says(&bench, &order, SetpointPhase::Completed).await;
    let order = bench.stored(order.id).await;
    assert_eq!((order.status, order.in_doubt), (DispatchStatus::Sent, true));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_contradicts_an_end_changes_nothing() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    agent.says(&bench, &order, SetpointPhase::Expired).await;
    let ended = bench.stored(order.id).await;
    for phase in [
        SetpointPhase::Started,
        SetpointPhase::Completed,
        SetpointPhase::Failed,
    ] {
        agent.says(&bench, &order, phase).await;
        assert_eq!(bench.stored(order.id).await, ended);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_for_five_seconds_is_asked_whether_it_lives() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    bench.pass(Duration::from_millis(4_900)).await;
    assert!(!agent.session().mailbox.take().probe);
    bench.pass(Duration::from_millis(200)).await;
    assert!(agent.session().mailbox.take().probe);
    assert_eq!(bench.status(order.id).await, DispatchStatus::Sent);

    let answered = bench.order(BIG, 6.0).await;
    agent.says(&bench, &answered, SetpointPhase::Received).await;
    bench.pass(seconds(6)).await;
    assert!(!agent.session().mailbox.take().probe, "it has answered");
}

#[tokio::test(start_paused = true)]
async fn a_sent_order_without_a_report_for_seven_days_is_given_up() {
    const WEEK: u64 = 7 * 24 * 3_600;
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let sent = bench.order(BIG, 1.0).await;
    let lease = NewDispatch::asset(LEFT, Power::from_mw(2.0)).lasting(seconds(WEEK));
    let leased = bench.submit(&lease).await.unwrap();
    let endless = bench.order(RIGHT, 3.0).await;
    for order in [&leased, &endless] {
        gateway.says(&bench, order, SetpointPhase::Started).await;
    }
    bench.pass(seconds(WEEK - 4_000)).await;
    assert_eq!(bench.status(sent.id).await, DispatchStatus::Sent);
    bench.pass(seconds(8_000)).await;
    let given_up = bench.stored(sent.id).await;
    assert_eq!(given_up.status, DispatchStatus::Indeterminate);
    assert_eq!(given_up.reason, Some(ReasonCode::NoReport));
    assert_eq!(
        bench.status(leased.id).await,
        DispatchStatus::Active,
        "its lease is running"
    );
    bench.pass(seconds(WEEK)).await;
    assert_eq!(bench.status(leased.id).await, DispatchStatus::Indeterminate);
    assert_eq!(
        bench.status(endless.id).await,
        DispatchStatus::Active,
        "it owes no report"
    );
}

#[tokio::test(start_paused = true)]
async fn orders_outlive_a_restart_of_the_headend_and_none_is_stuck() {
    let bench = Bench::new().await;
    let new = |asset| NewDispatch::asset(asset, Power::from_mw(5.0)).waiting_at_most(seconds(60));
    let mut agent = bench.agent_of(LEFT).await;
    let sent = bench.submit(&new(LEFT)).await.unwrap();
    let active = bench.submit(&new(LEFT)).await.unwrap();
    agent.says(&bench, &active, SetpointPhase::Started).await;
    let expiring = bench.submit(&new(BIG)).await.unwrap();
    let waiting = bench.submit(&new(RIGHT)).await.unwrap();
    let late = bench.submit(&new(FAR)).await.unwrap();

    let bench = bench.restarted().await;
    for id in [sent.id, active.id] {
        assert!(
            bench.stored(id).await.in_doubt,
            "the session that carried it is gone"
        );
    }
    let mut right = bench.agent_of(RIGHT).await;
    assert_eq!(right.only_order().dispatch_id, waiting.id);
    bench.pass(seconds(61)).await;
    assert_eq!(bench.status(expiring.id).await, DispatchStatus::Expired);
    assert_eq!(bench.status(waiting.id).await, DispatchStatus::Sent);
    // The agent comes back, too: what it has not answered it gets again.
    let mut agent = agent.connect(&bench, &[LEFT]).await;
    assert_eq!(agent.only_order().dispatch_id, sent.id);
    assert!(!bench.stored(active.id).await.in_doubt);
    assert_eq!(bench.status(late.id).await, DispatchStatus::Expired);
    let history = bench
        .store
        .inner
        .sessions(&Default::default())
        .await
        .unwrap()
        .items;
    let open = history
        .iter()
        .filter(|session| session.disconnected_at.is_none())
        .count();
    assert_eq!(
        (history.len(), open),
        (3, 2),
        "sessions of the earlier life have ended"
    );
}

#[tokio::test(start_paused = true)]
async fn what_expired_while_the_headend_was_away_expires_at_its_start() {
    let bench = Bench::new().await;
    let order = bench.order(BIG, 5.0).await;
    bench.stop.cancel();
    bench.pass(seconds(3_600)).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Pending);
    let bench = bench.restarted().await;
    bench.pass(seconds(1)).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Expired);
}

/// Waits for an order at most ten seconds; answers it and how long that took.
fn waiting(bench: &Bench, id: DispatchId) -> JoinHandle<(Dispatch, Duration)> {
    let dispatcher = Arc::clone(&bench.dispatcher);
    let (changes, began) = (dispatcher.changes(), Instant::now());
    bench.tasks.spawn(async move {
        let dispatch = dispatcher
            .wait(id, changes, began + seconds(10), is_answered)
            .await
            .unwrap()
            .unwrap();
        (dispatch, began.elapsed())
    })
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_the_order_is_active_or_has_ended_or_time_is_up() {
    for (phase, status) in [
        (SetpointPhase::Started, DispatchStatus::Active),
        (SetpointPhase::Rejected, DispatchStatus::Rejected),
    ] {
        let bench = Bench::new().await;
        let mut agent = bench.agent_of(BIG).await;
        let order = bench.order(BIG, 5.0).await;
        let wait = waiting(&bench, order.id);
        bench.pass(seconds(2)).await;
        agent.says(&bench, &order, SetpointPhase::Received).await;
        bench.order(LEFT, 1.0).await;
        bench.pass(seconds(1)).await;
        assert!(
            !wait.is_finished(),
            "received is no answer, nor is another order"
        );
        agent.says(&bench, &order, phase).await;
        let (answered, took) = wait.await.unwrap();
        assert_eq!((answered.status, took.as_secs()), (status, 3));
    }
    let bench = Bench::new().await;
    let order = bench.order(BIG, 5.0).await;
    let (answered, took) = waiting(&bench, order.id).await.unwrap();
    assert_eq!(
        (answered.status, took.as_secs()),
        (DispatchStatus::Pending, 10)
    );
    // What is answered already is not waited for.
    let mut agent = bench.agent_of(BIG).await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    let (answered, took) = waiting(&bench, order.id).await.unwrap();
    assert_eq!(
        (answered.status, took.as_secs()),
        (DispatchStatus::Active, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_site_order_is_answered_when_all_of_its_agents_have() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench
        .submit(&NewDispatch::site(SITE, Power::from_mw(12.0)))
        .await
        .unwrap();
    let wait = waiting(&bench, order.id);
    let phases = [
        SetpointPhase::Started,
        SetpointPhase::Rejected,
        SetpointPhase::Started,
    ];
    for (share, phase) in order.children.iter().zip(phases) {
        bench.pass(seconds(1)).await;
        assert!(!wait.is_finished());
        gateway.says(&bench, share, phase).await;
    }
    let (answered, took) = wait.await.unwrap();
    assert_eq!(took.as_secs(), 3);
    assert_eq!(answered.status, DispatchStatus::Active);
}

#[tokio::test(start_paused = true)]
async fn waiting_survives_more_changes_than_it_can_follow() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    let wait = waiting(&bench, order.id);
    tokio::task::yield_now().await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    for _ in 0..2 * CHANGES {
        bench.dispatcher.tell(bench.stored(order.id).await);
    }
    let (answered, _) = wait.await.unwrap();
    assert_eq!(answered.status, DispatchStatus::Active);
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_timers_than_orders_that_wait() {
    let (timers, queue) = timers::channel();
    let mut queue = queue;
    for _ in 0..1_000 {
        let id = DispatchId::generate();
        timers.set(Timer::Expire(id), seconds(3_600)).await;
        timers.set(Timer::Expire(id), seconds(7_200)).await;
        timers.clear(id).await;
        queue.take_up();
        assert_eq!(queue.len(), 0);
    }
    timers
        .set(Timer::Expire(DispatchId::generate()), Duration::MAX)
        .await;
    queue.take_up();
    assert_eq!(queue.len(), 1);
}
