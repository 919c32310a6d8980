//! Cancels: what is never sent, and what its agent is told to end.

use derms_proto::ReasonCode;

use super::Command::{Release, Set};
use super::*;

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_cancelled_at_once_and_never_sent() {
    let bench = Bench::new().await;
    let order = bench.order(BIG, 5.0).await;
    let cancelled = bench.cancel(order.id).await;
    assert_eq!(cancelled.status, DispatchStatus::Cancelled);
    assert_eq!(cancelled.reason, Some(ReasonCode::CancelledByOperator));
    assert_eq!(cancelled.cancelled_by.as_deref(), Some("ann"));
    assert_eq!(cancelled.cancel_requested_at, Some(START));
    let mut agent = bench.agent_of(BIG).await;
    assert_eq!(agent.commands(), []);
    bench.pass(seconds(301)).await;
    assert_eq!(bench.stored(order.id).await, cancelled);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_released_and_stays_as_it_is_until_its_agent_has_spoken() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    for (phases, status) in [
        (&[][..], DispatchStatus::Sent),
        (&[SetpointPhase::Received][..], DispatchStatus::Received),
        (&[SetpointPhase::Started][..], DispatchStatus::Active),
    ] {
        let order = bench.order(BIG, 5.0).await;
        let set = order.revision.unwrap();
        for phase in phases {
            agent.says(&bench, &order, *phase).await;
        }
        let cancelled = bench.cancel(order.id).await;
        assert_eq!(cancelled.status, status);
        assert_eq!(cancelled.cancelled_by.as_deref(), Some("ann"));
        assert_eq!(
            agent.commands(),
            [Set(order.id, set), Release(order.id, set + 1)]
        );
        agent.says(&bench, &order, SetpointPhase::Released).await;
        assert_eq!(bench.status(order.id).await, DispatchStatus::Cancelled);
    }
    assert_eq!(bench.dispatcher.known.lock().sizes(), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_second_cancel_does_nothing() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    let first = bench.cancel(order.id).await;
    bench.pass(seconds(1)).await;
    let bob = Principal::new("bob");
    let second = bench.dispatcher.cancel(order.id, Some(&bob)).await.unwrap();
    assert_eq!(second, Some(first));
    agent.replay(&bench, None).await.unwrap();
    assert_eq!(
        agent.commands(),
        [Set(order.id, 1), Release(order.id, 2)],
        "released twice"
    );
    agent.says(&bench, &order, SetpointPhase::Completed).await;
    let over = bench.stored(order.id).await;
    assert_eq!(bench.cancel(order.id).await, over);
    assert_eq!(over.status, DispatchStatus::Completed);
    let unknown = bench.dispatcher.cancel(DispatchId::generate(), None).await;
    assert_eq!(unknown.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_release_goes_out_in_every_session_until_the_order_has_ended_and_the_setpoint_in_none() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let unanswered = bench.order(BIG, 1.0).await;
    let active = bench.order(LEFT, 2.0).await;
    gateway.says(&bench, &active, SetpointPhase::Started).await;
    let mut gateway = gateway.disconnect(&bench).await;
    for id in [unanswered.id, active.id] {
        let cancelled = bench.cancel(id).await;
        assert!(cancelled.in_doubt && !cancelled.status.is_terminal());
    }
    for _ in 0..3 {
        gateway = gateway.connect(&bench, &[BIG, LEFT, RIGHT]).await;
        let mut commands = gateway.commands();
        commands.sort_by_key(|command| *command != Release(unanswered.id, 2));
        let releases = [Release(unanswered.id, 2), Release(active.id, 2)];
        assert_eq!(commands, releases);
        gateway = gateway.disconnect(&bench).await;
    }
    let mut gateway = gateway.connect(&bench, &[BIG, LEFT, RIGHT]).await;
    for order in [&unanswered, &active] {
        gateway.says(&bench, order, SetpointPhase::Released).await;
        assert_eq!(bench.status(order.id).await, DispatchStatus::Cancelled);
    }
    gateway.messages();
    let mut gateway = gateway
        .disconnect(&bench)
        .await
        .connect(&bench, &[BIG, LEFT, RIGHT])
        .await;
    assert_eq!(gateway.commands(), []);
}

#[tokio::test(start_paused = true)]
async fn a_release_survives_a_restart_of_the_headend() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 1.0).await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    let agent = agent.disconnect(&bench).await;
    bench.cancel(order.id).await;
    let bench = bench.restarted().await;
    let mut agent = agent.connect(&bench, &[BIG]).await;
    assert_eq!(agent.commands(), [Release(order.id, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_release_goes_before_what_waits_and_does_not_end_it() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let old = bench.order(BIG, 1.0).await;
    agent.says(&bench, &old, SetpointPhase::Started).await;
    let agent = agent.disconnect(&bench).await;
    let waiting = bench.order(BIG, 2.0).await;
    bench.cancel(old.id).await;
    let mut agent = agent.connect(&bench, &[BIG]).await;
    assert_eq!(
        agent.commands(),
        [Release(old.id, 3), Set(waiting.id, 4)],
        "a later number ends what has an earlier one"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_newer_goes_out_before_a_release_that_finds_no_room() {
    let bench = Bench::new().await;
    let mut agent = Agent::new(BIG.into());
    agent.queue_size = 1;
    let mut agent = agent.connect(&bench, &[BIG]).await;
    let old = bench.order(BIG, 1.0).await;
    bench.cancel(old.id).await;
    assert!(agent.session().mailbox.take().starved);
    assert_eq!(agent.commands(), [Set(old.id, 1)]);
    let new = bench.order(BIG, 2.0).await;
    assert_eq!(new.status, DispatchStatus::Pending);
    assert!(agent.session().mailbox.take().starved);
    agent.replay(&bench, None).await.unwrap();
    assert_eq!(agent.commands(), [Release(old.id, 2)]);
    agent.replay(&bench, None).await.unwrap();
    assert_eq!(agent.commands(), [Set(new.id, 3)]);
}

#[tokio::test(start_paused = true)]
async fn the_cancel_of_an_older_order_does_not_end_a_newer_one() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let old = bench.order(BIG, 1.0).await;
    agent.says(&bench, &old, SetpointPhase::Started).await;
    let newer = bench.order(BIG, 2.0).await;
    let cancelled = bench.cancel(old.id).await;
    assert!(cancelled.cancel_requested_at.is_some());
    assert_eq!(agent.commands(), [Set(old.id, 1), Set(newer.id, 2)]);
    // The newer one did not take its place: now it is to end.
    agent.says(&bench, &newer, SetpointPhase::Rejected).await;
    assert!(agent.session().mailbox.take().starved);
    agent.replay(&bench, None).await.unwrap();
    assert_eq!(agent.commands(), [Release(old.id, 3)]);
    agent.says(&bench, &old, SetpointPhase::Released).await;
    assert_eq!(bench.status(old.id).await, DispatchStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_came_too_late_is_given_anew_and_a_few_times_alone() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 1.0).await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    bench.cancel(order.id).await;
    assert_eq!(agent.commands(), [Set(order.id, 1), Release(order.id, 2)]);
    for revision in [2, 3] {
        agent.refuses(&bench, &order, revision).await;
        assert_eq!(bench.status(order.id).await, DispatchStatus::Active);
        agent.replay(&bench, None).await.unwrap();
        assert_eq!(agent.commands(), [Release(order.id, revision + 1)]);
    }
    // An agent that refuses everything must not keep its headend busy.
    assert!(agent.session().mailbox.take().starved);
    agent.refuses(&bench, &order, 4).await;
    agent.replay(&bench, None).await.unwrap();
    assert_eq!(agent.commands(), []);
    assert!(!agent.session().mailbox.take().starved);
    let mut agent = agent.disconnect(&bench).await.connect(&bench, &[BIG]).await;
    assert_eq!(
        agent.commands(),
        [Release(order.id, 5)],
        "another session, another try"
    );
}

#[tokio::test(start_paused = true)]
async fn a_release_goes_only_to_the_agent_that_has_the_order() {
    let bench = Bench::new().await;
    let agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 1.0).await;
    let agent = agent.disconnect(&bench).await;
    let mut gateway = bench.gateway().await;
    let other = bench.order(BIG, 2.0).await;
    bench.cancel(order.id).await;
    assert_eq!(
        gateway.commands(),
        [Set(other.id, 2)],
        "a release would end what the gateway does"
    );
    gateway.disconnect(&bench).await;
    // The gateway's order can't take its place there.
    let mut agent = agent.connect(&bench, &[BIG]).await;
    assert_eq!(agent.commands(), [Release(order.id, 3)]);
    // What its own agent has forgotten was interrupted, and is not released.
    let agent = agent.disconnect(&bench).await.forgetful();
    let mut agent = agent.connect(&bench, &[BIG]).await;
    assert_eq!(agent.commands(), []);
    assert_eq!(bench.status(order.id).await, DispatchStatus::Indeterminate);
}

#[tokio::test(start_paused = true)]
async fn a_site_order_ends_with_each_of_its_shares() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let new = NewDispatch::site(SITE, Power::from_mw(12.0));
    let order = bench.submit(&new).await.unwrap();
    let [big, left, right] = &order.children[..] else {
        panic!("{order:?}")
    };
    gateway.says(&bench, big, SetpointPhase::Started).await;
    gateway.says(&bench, left, SetpointPhase::Completed).await;
    gateway.messages();
    let cancelled = bench.cancel(order.id).await;
    assert_eq!(cancelled.status, DispatchStatus::Sent);
    assert_eq!(cancelled.cancelled_by.as_deref(), Some("ann"));
    assert_eq!(
        gateway.commands(),
        [Release(big.id, 2), Release(right.id, 2)]
    );
    gateway.says(&bench, right, SetpointPhase::Released).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Active);
    gateway.says(&bench, big, SetpointPhase::Released).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Cancelled);
    let over = bench.cancel(order.id).await;
    assert_eq!(over.children[1].status, DispatchStatus::Completed);
    assert_eq!(over.children[1].cancel_requested_at, None);
    assert_eq!(gateway.commands(), []);
    assert_eq!(bench.dispatcher.known.lock().sizes(), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_is_asked_whether_it_lives() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    bench.pass(seconds(6)).await;
    assert!(!agent.session().mailbox.take().probe);
    bench.cancel(order.id).await;
    bench.pass(seconds(6)).await;
    assert!(agent.session().mailbox.take().probe);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_order_without_a_lease_is_given_up_after_seven_days_without_a_word() {
    const WEEK: u64 = 7 * 24 * 3_600;
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    bench.pass(seconds(2 * WEEK)).await;
    bench.cancel(order.id).await;
    bench.pass(seconds(WEEK - 4_000)).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Active);
    bench.pass(seconds(8_000)).await;
    assert_eq!(bench.status(order.id).await, DispatchStatus::Indeterminate);
}

#[tokio::test(start_paused = true)]
async fn whatever_a_cancel_meets_no_setpoint_of_the_order_follows_its_end() {
    for round in 0..90 {
        let bench = Arc::new(Bench::new().await);
        let order = bench.order(BIG, 5.0).await;
        let mut agent = Agent::new(BIG.into());
        agent.claim(&bench, &[BIG]).await;
        let waiting = bench.store.open_orders(None).await.unwrap().remove(0);
        bench.store.set(Fault::AdvanceSlow);
        let deliver = {
            let (bench, session) = (Arc::clone(&bench), Arc::clone(agent.session()));
            let tasks = bench.tasks.clone();
            tasks.spawn(async move { bench.dispatcher.deliver(&[(waiting, session)]).await })
        };
        for _ in 0..round % 6 {
            tokio::task::yield_now().await;
        }
        let cancel = {
            let bench = Arc::clone(&bench);
            let tasks = bench.tasks.clone();
            tasks.spawn(async move { bench.cancel(order.id).await })
        };
        for _ in 0..round / 6 {
            tokio::task::yield_now().await;
        }
        // Its agent never had it, and says so at once.
        let early = agent.commands();
        if matches!(early[..], [Release(..)]) {
            agent.says(&bench, &order, SetpointPhase::Released).await;
        }
        agent.replay(&bench, None).await.unwrap();
        deliver.await.unwrap().unwrap();
        let cancelled = cancel.await.unwrap();
        agent.replay(&bench, None).await.unwrap();
        let commands = [early, agent.commands()].concat();
        let release = commands.iter().position(|c| matches!(c, Release(..)));
        let last_set = commands.iter().rposition(|c| matches!(c, Set(..)));
        match release {
            Some(release) => assert!(last_set < Some(release), "{commands:?}"),
            None => {
                assert_eq!(cancelled.status, DispatchStatus::Cancelled);
                assert_eq!(last_set, None, "cancelled before start, and sent");
            }
        }
        if bench.status(order.id).await.is_terminal() {
            assert_eq!(bench.dispatcher.known.lock().sizes(), [0; 4]);
        }
    }
}
