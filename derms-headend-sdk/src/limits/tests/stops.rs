use derms_proto::{ControlSource, DispatchStatus, LeftOutReason, ReasonCode, StopId};

use super::*;

fn site_stop() -> NewStop {
    NewStop::site(SITE).because("smoke")
}

fn gateway() -> Agent {
    Agent::new(SITE.into(), &[BIG, LEFT, RIGHT])
}

const HELD: Control = Control {
    source: ControlSource::Stop,
    dispatch_id: None,
    revision: None,
    power: Some(Power::ZERO),
    remaining: None,
    limited: false,
};

fn counts(stop: &Stop) -> [u64; 5] {
    [
        stop.assets,
        stop.reached,
        stop.confirmed,
        stop.offline,
        stop.not_obeyed,
    ]
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_told_to_every_agent_of_its_assets_and_to_no_other() {
    let bench = Bench::new().await;
    let mut near = gateway().connect(&bench).await;
    let mut far = Agent::of(FAR).connect(&bench).await;
    let stop = bench.halt(site_stop()).await;
    assert_eq!(counts(&stop), [3, 3, 0, 0, 0]);
    assert!(stop.stored && stop.ended_at.is_none());
    let told = near.told();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|limits| limits.stop));
    assert_eq!(far.told(), []);
    for limits in &told[..2] {
        near.reports(
            &bench,
            limits.asset_id,
            limits.revision,
            LimitPhase::InForce,
        );
    }
    near.reports(
        &bench,
        told[2].asset_id,
        told[2].revision,
        LimitPhase::NotObeyed,
    );
    let stop = bench.limits.get_stop(stop.id).await.unwrap().unwrap();
    assert_eq!(counts(&stop), [3, 3, 2, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_agents_that_are_away_and_comes_before_any_order() {
    let bench = Bench::new().await;
    let waiting = bench
        .order(&NewDispatch::asset(BIG, mw(5.0)))
        .await
        .unwrap();
    let stop = bench.halt(site_stop()).await;
    assert_eq!(counts(&stop), [3, 0, 0, 3, 0]);
    let cancelled = bench
        .store
        .inner
        .dispatch(waiting.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(cancelled.status, DispatchStatus::Cancelled);
    assert_eq!(cancelled.reason, Some(ReasonCode::Stopped));
    let mut agent = gateway().connect(&bench).await;
    assert!(agent.told().iter().all(|limits| limits.stop));
    let stop = bench.limits.get_stop(stop.id).await.unwrap().unwrap();
    assert_eq!(counts(&stop), [3, 3, 0, 0, 0]);
    // In its heartbeats the device has taken it.
    agent.beats(&bench, BIG, HELD);
    let unsettled = Control {
        power: None,
        ..HELD
    };
    agent.beats(&bench, LEFT, unsettled);
    let stop = bench.limits.get_stop(stop.id).await.unwrap().unwrap();
    assert_eq!(stop.confirmed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_asset_takes_no_order_and_a_site_order_leaves_it_out() {
    let bench = Bench::new().await;
    let _agent = gateway().connect(&bench).await;
    bench.halt(NewStop::asset(BIG)).await;
    let order = bench.order(&NewDispatch::asset(BIG, mw(5.0))).await;
    assert!(matches!(order, Err(DispatchError::Stopped(BIG))));
    let order = bench
        .order(&NewDispatch::site(SITE, mw(5.0)))
        .await
        .unwrap();
    let split = order.split.unwrap();
    let stopped = split
        .excluded
        .iter()
        .filter(|left_out| left_out.reason == LeftOutReason::Stopped);
    let stopped: Vec<AssetId> = stopped.map(|left_out| left_out.asset_id).collect();
    assert_eq!((stopped, split.left_out), (vec![BIG], vec![BIG]));
    assert_eq!(order.children.len(), 2);
    bench.halt(NewStop::all()).await;
    let order = bench.order(&NewDispatch::site(SITE, mw(5.0))).await;
    assert!(matches!(order, Err(DispatchError::SiteStopped(SITE))));
}

#[tokio::test(start_paused = true)]
async fn an_asset_is_stopped_while_any_stop_holds_for_it() {
    let bench = Bench::new().await;
    let mut agent = gateway().connect(&bench).await;
    let one = bench.halt(NewStop::asset(BIG)).await;
    let all = bench.halt(NewStop::all()).await;
    agent.told();
    let ended = bench
        .limits
        .resume(all.id, seconds(30), None)
        .await
        .unwrap();
    assert_eq!(
        (ended.ended_at.is_some(), ended.return_within_s),
        (true, Some(30.0))
    );
    let told = agent.told();
    let back: Vec<_> = told
        .iter()
        .map(|t| (t.asset_id, t.stop, t.return_within))
        .collect();
    assert_eq!(
        back,
        [(LEFT, false, seconds(30)), (RIGHT, false, seconds(30))]
    );
    assert!(bench.limits.is_stopped(BIG) && !bench.limits.is_stopped(LEFT));
    bench
        .limits
        .resume(one.id, Duration::ZERO, None)
        .await
        .unwrap();
    assert!(!agent.only_told().stop);
    assert_eq!(bench.limits.stops(), []);
    let again = bench.limits.resume(all.id, seconds(5), None).await.unwrap();
    assert_eq!(again, ended, "it was ended before");
    let unknown = bench
        .limits
        .resume(StopId::generate(), seconds(5), None)
        .await;
    assert!(matches!(unknown, Err(StopError::Unknown(_))));
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_not_meant_or_for_nobody_is_not_carried_out() {
    let bench = Bench::new().await;
    let stop = async |new: NewStop| bench.limits.stop(&new, None, None, None).await.unwrap_err();
    let unsure = NewStop {
        confirm: None,
        ..NewStop::all()
    };
    assert!(matches!(stop(unsure).await, StopError::NotConfirmed));
    let vague = NewStop {
        confirm: Some("yes".into()),
        ..NewStop::all()
    };
    assert!(matches!(stop(vague).await, StopError::NotConfirmed));
    let nobody = NewStop {
        all: false,
        ..NewStop::all()
    };
    assert!(matches!(stop(nobody).await, StopError::Invalid(_)));
    let both = NewStop {
        site_id: Some(SITE),
        ..NewStop::all()
    };
    assert!(matches!(stop(both).await, StopError::Invalid(_)));
    let stranger = NewStop::asset(AssetId::new(Uuid::from_u128(99)));
    assert!(matches!(stop(stranger).await, StopError::UnknownAsset(_)));
    let nowhere = NewStop::site(SiteId::new(Uuid::from_u128(99)));
    assert!(matches!(stop(nowhere).await, StopError::UnknownSite(_)));
    assert_eq!(bench.limits.stopped(), []);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_a_stop_is_sent_all_the_same_and_stored_when_it_is_back() {
    let bench = Bench::new().await;
    let mut agent = gateway().connect(&bench).await;
    let waiting = bench
        .order(&NewDispatch::asset(FAR, mw(5.0)))
        .await
        .unwrap();
    bench.store.set(Fault::LimitsFail);
    let stop = bench
        .limits
        .stop(&NewStop::all(), None, None, None)
        .await
        .unwrap();
    assert!(!stop.stored);
    assert_eq!(agent.told().len(), 3);
    assert!(bench.limits.is_stopped(FAR));
    let resumed = bench.limits.resume(stop.id, seconds(1), None).await;
    assert!(
        matches!(resumed, Err(StopError::Store(_))),
        "it goes on holding"
    );
    assert_eq!(agent.told(), [], "nothing moves that nobody can vouch for");
    bench.store.set(Fault::None);
    bench.pass(seconds(3)).await;
    assert!(
        bench
            .limits
            .get_stop(stop.id)
            .await
            .unwrap()
            .unwrap()
            .stored
    );
    let cancelled = bench
        .store
        .inner
        .dispatch(waiting.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(cancelled.status, DispatchStatus::Cancelled);
    let bench = bench.restarted().await;
    assert!(bench.limits.is_stopped(FAR));
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_no_stop_and_counts_anew_who_is_stopped() {
    let bench = Bench::new().await;
    let mut agent = gateway().connect(&bench).await;
    let stop = bench.halt(site_stop()).await;
    for limits in agent.told() {
        agent.reports(
            &bench,
            limits.asset_id,
            limits.revision,
            LimitPhase::InForce,
        );
    }
    bench.pass(seconds(2)).await;
    let stored = bench.store.inner.stop(stop.id).await.unwrap().unwrap();
    assert_eq!(counts(&stored), [3, 3, 3, 0, 0]);
    let bench = bench.restarted().await;
    let shown = bench.limits.get_stop(stop.id).await.unwrap().unwrap();
    assert_eq!(shown.reason.as_deref(), Some("smoke"));
    assert_eq!(counts(&shown), [3, 0, 0, 3, 0]);
    agent.begin(&bench).await;
    assert_eq!(agent.told(), [], "it shows that it was told");
    let shown = bench.limits.get_stop(stop.id).await.unwrap().unwrap();
    assert_eq!(counts(&shown), [3, 3, 0, 0, 0]);
    let ended = bench
        .limits
        .resume(stop.id, seconds(60), None)
        .await
        .unwrap();
    assert_eq!(agent.told().len(), 3);
    assert_eq!(ended.ended_at, Some(bench.clock.now()));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_can_not_be_stopped_is_counted_as_such() {
    let bench = Bench::new().await;
    let mut agent = gateway();
    agent.capabilities = Capabilities::default();
    let mut agent = agent.connect(&bench).await;
    let stop = bench.halt(site_stop()).await;
    assert_eq!(agent.told(), []);
    assert_eq!((stop.reached, stop.offline, stop.unsupported), (0, 0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_with_more_assets_than_room_is_told_about_all_as_it_reads() {
    let bench = Bench::new().await;
    let mut agent = gateway();
    agent.queue_size = 1;
    let mut agent = agent.connect(&bench).await;
    let stop = bench.halt(site_stop()).await;
    assert_eq!(stop.reached, 1);
    let mut told = Vec::new();
    while told.len() < 3 {
        told.extend(agent.told());
        tokio::task::yield_now().await;
    }
    assert!(told.iter().all(|limits| limits.stop));
    let stop = bench.limits.get_stop(stop.id).await.unwrap().unwrap();
    assert_eq!(stop.reached, 3);
}

#[tokio::test(start_paused = true)]
async fn a_limit_set_before_a_stop_is_told_with_it_and_holds_after_it() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(FAR).connect(&bench).await;
    let limit = bench.limit(NewLimit::at_most(FAR, mw(5.0))).await;
    let stop = bench.halt(NewStop::asset(FAR)).await;
    let told = agent.told().pop().unwrap();
    assert!(told.stop && told.limits[0].id == limit.id);
    bench
        .limits
        .resume(stop.id, seconds(1), None)
        .await
        .unwrap();
    let told = agent.only_told();
    assert!(!told.stop && told.limits[0].id == limit.id);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_committed_while_its_asset_is_being_stopped_does_not_wait() {
    for online in [false, true] {
        let bench = Bench::new().await;
        let agent = Agent::of(FAR);
        let agent = if online {
            Some(agent.connect(&bench).await)
        } else {
            None
        };
        bench.store.set(Fault::CommitSlow);
        let wish = NewDispatch::asset(FAR, mw(5.0));
        let stop = async {
            bench.pass(seconds(1)).await;
            bench.halt(NewStop::all()).await;
        };
        let (order, ()) = tokio::join!(bench.order(&wish), stop);
        bench.pass(seconds(3)).await;
        let order = bench.store.inner.dispatch(order.unwrap().id).await.unwrap();
        assert_eq!(order.unwrap().status, DispatchStatus::Cancelled);
        if let Some(mut agent) = agent {
            assert!(agent.only_told().stop);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_makes_one_stop_also_of_calls_at_one_time_and_over_a_restart() {
    let bench = Bench::new().await;
    let ask = async |bench: &Bench| bench.limits.stop(&site_stop(), None, Some("k"), None).await;
    let (first, second) = tokio::join!(ask(&bench), ask(&bench));
    let first = first.unwrap();
    assert_eq!(second.unwrap().id, first.id);
    assert_eq!(bench.limits.stops().len(), 1);
    let all = bench
        .limits
        .stop(&NewStop::all(), None, Some("k"), None)
        .await;
    assert!(matches!(all, Err(StopError::IdempotencyConflict)));
    let bench = bench.restarted().await;
    assert_eq!(ask(&bench).await.unwrap().id, first.id);
    // It has ended: that is the answer, and nothing is stopped again.
    bench
        .limits
        .resume(first.id, seconds(1), None)
        .await
        .unwrap();
    assert!(ask(&bench).await.unwrap().ended_at.is_some());
    assert_eq!(bench.limits.stopped(), []);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_can_not_be_looked_up_keeps_no_stop_from_being_carried_out() {
    let bench = Bench::new().await;
    bench.store.set(Fault::LimitsFail);
    let stop = bench
        .limits
        .stop(&site_stop(), None, Some("k"), None)
        .await
        .unwrap();
    assert!(!stop.stored && bench.limits.is_stopped(BIG));
    let again = bench
        .limits
        .stop(&site_stop(), None, Some("k"), None)
        .await
        .unwrap();
    assert_eq!(again.id, stop.id);
    bench.store.set(Fault::None);
    bench.pass(seconds(3)).await;
    let bench = bench.restarted().await;
    let again = bench
        .limits
        .stop(&site_stop(), None, Some("k"), None)
        .await
        .unwrap();
    assert_eq!(again.id, stop.id);
}

#[tokio::test(start_paused = true)]
async fn what_is_found_stopped_stays_so_when_the_headend_has_lost_its_memory() {
    for limited_before_it_came in [false, true] {
        let bench = Bench::new().await;
        let mut agent = Agent::of(FAR).connect(&bench).await;
        bench.halt(NewStop::asset(FAR)).await;
        agent.only_told();
        agent.control = HELD;
        bench.pass(seconds(1)).await;
        let clock = bench.clock.clone();
        let bench = Bench::on(FaultyStore::new(Fault::None), clock).await;
        if limited_before_it_came {
            bench.limit(NewLimit::at_most(FAR, mw(3.0))).await;
        }
        let waiting = bench
            .order(&NewDispatch::asset(FAR, mw(5.0)))
            .await
            .unwrap();
        agent.begin(&bench).await;
        let told = agent.only_told();
        assert!(told.stop);
        assert_eq!(told.limits.len(), usize::from(limited_before_it_came));
        let stops = bench.limits.stops();
        assert_eq!(stops.len(), 1);
        assert_eq!(
            (stops[0].asset_id, stops[0].principal.as_ref()),
            (Some(FAR), None)
        );
        bench.pass(seconds(2)).await;
        let stored = bench.store.inner.stop(stops[0].id).await.unwrap();
        assert!(stored.is_some_and(|stop| stop.ended_at.is_none()));
        let waiting = bench.store.inner.dispatch(waiting.id).await.unwrap();
        assert_eq!(waiting.unwrap().status, DispatchStatus::Cancelled);
        // It is a stop as any other: once, counted, and ended by an operator.
        agent.beats(&bench, FAR, HELD);
        assert_eq!(counts(&bench.limits.stops()[0]), [1, 1, 1, 0, 0]);
        let ended = bench.limits.resume(stops[0].id, seconds(1), None).await;
        assert!(ended.unwrap().ended_at.is_some());
        assert!(!agent.only_told().stop);
        agent.beats(&bench, FAR, HELD);
        assert_eq!(bench.limits.stops(), [], "it has not returned yet");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_away_when_a_stop_was_ended_is_told_so_and_is_not_found_stopped() {
    for restarted in [false, true] {
        let bench = Bench::new().await;
        let mut agent = Agent::of(FAR).connect(&bench).await;
        let stop = bench.halt(NewStop::asset(FAR)).await;
        agent.only_told();
        agent.control = HELD;
        agent.disconnect(&bench);
        bench.pass(seconds(1)).await;
        let ended = bench.limits.resume(stop.id, seconds(1), None).await;
        assert!(ended.is_ok());
        let bench = if restarted {
            bench.restarted().await
        } else {
            bench
        };
        agent.begin(&bench).await;
        assert!(!agent.only_told().stop);
        assert_eq!(bench.limits.stops(), []);
    }
}
