//! Site orders that are shared anew when an asset drops out.

use derms_proto::{ReasonCode, SplitPolicy};

use super::*;

const ALL: [AssetId; 4] = [BIG, LEFT, RIGHT, METER];

impl Bench {
    /// 12 MW for the site: 7.2 MW that are sent, 2.4 and 2.4 MW that are in force.
    async fn rebalanced(&self, gateway: &mut Agent, lease: Option<Duration>) -> Dispatch {
        let new = NewDispatch::site(SITE, Power::from_mw(12.0)).rebalanced();
        let new = lease.map_or(new.clone(), |lease| new.lasting(lease));
        let order = self.submit(&new).await.unwrap();
        gateway.messages();
        for share in &order.children[1..] {
            gateway.says(self, share, SetpointPhase::Started).await;
        }
        order
    }

    /// The agent says that the device of an asset has accepted its default.
    fn at_default(&self, agent: &Agent, asset: AssetId) {
        let control = Control {
            power: Some(Power::ZERO),
            ..Control::default()
        };
        let limits = &self.dispatcher.limits;
        limits.said(agent.session(), asset, 0, &control);
    }

    fn hears(&self, agent: &Agent) {
        agent.session().seen(self.clock.now());
    }

    async fn shares_of(&self, id: DispatchId) -> Vec<(AssetId, f64, DispatchStatus)> {
        let order = self.stored(id).await;
        let shares = order.children.iter();
        shares
            .map(|share| (share.asset_id.unwrap(), share.mw.mw(), share.status))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_asset_did_is_shared_over_the_others_and_recorded() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    let failed = &order.children[0];
    gateway.says(&bench, failed, SetpointPhase::Failed).await;
    bench.pass(seconds(22)).await;
    bench.hears(&gateway);
    assert_eq!(gateway.orders(), [], "its device has accepted nothing else");
    bench.at_default(&gateway, BIG);
    bench.pass(seconds(5)).await;
    let orders = gateway.orders();
    let sent: Vec<_> = orders
        .iter()
        .map(|o| (o.asset_id, o.power.mw(), o.revision))
        .collect();
    assert_eq!(sent, [(LEFT, 6.0, 2), (RIGHT, 6.0, 2)]);
    // For the rest of the time of the order, and never begun late.
    assert_eq!(orders[0].duration, Some(seconds(575)));
    let latest = order.created_at.saturating_add(seconds(25 + 30));
    assert_eq!(orders[0].start_deadline, latest);

    let site = bench.stored(order.id).await;
    let split = site.split.unwrap();
    let record = &split.resplits[0];
    assert_eq!((record.policy, record.version), (SplitPolicy::Capacity, 1));
    assert_eq!(record.stands_in_for, [failed.id]);
    let new: Vec<_> = orders.iter().map(|order| order.dispatch_id).collect();
    assert_eq!(record.shares, new);
    assert_eq!(
        (record.missing_mw.mw(), split.residual_mw),
        (7.2, Power::ZERO)
    );
    assert_eq!(site.status, DispatchStatus::Sent);

    for (old, new) in [(1, LEFT), (2, RIGHT)] {
        let old = &order.children[old];
        gateway.says(&bench, old, SetpointPhase::Superseded).await;
        let shares = bench.stored(order.id).await.children;
        let new = shares
            .iter()
            .rfind(|share| share.asset_id == Some(new))
            .unwrap();
        assert_eq!(new.parent_id, Some(order.id));
        gateway.says(&bench, new, SetpointPhase::Started).await;
    }
    assert_eq!(bench.status(order.id).await, DispatchStatus::Active);
    for _ in 0..20 {
        bench.pass(seconds(10)).await;
        bench.hears(&gateway);
    }
    assert_eq!(gateway.messages().len(), 0, "it is shared once");
    for share in bench
        .stored(order.id)
        .await
        .children
        .iter()
        .filter(|s| s.revision == Some(2))
    {
        gateway.says(&bench, share, SetpointPhase::Completed).await;
    }
    assert_eq!(bench.status(order.id).await, DispatchStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn without_rebalance_what_is_missing_stays_missing() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let new = NewDispatch::site(SITE, Power::from_mw(12.0));
    let order = bench.submit(&new).await.unwrap();
    gateway.messages();
    for share in &order.children[1..] {
        gateway.says(&bench, share, SetpointPhase::Started).await;
    }
    gateway
        .says(&bench, &order.children[0], SetpointPhase::Rejected)
        .await;
    bench.pass(seconds(30)).await;
    assert_eq!(gateway.messages().len(), 0);
    let asset = NewDispatch::asset(BIG, Power::from_mw(1.0)).rebalanced();
    let error = bench.submit(&asset).await.unwrap_err();
    assert!(error.to_string().starts_with("rebalance is for"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_lost_asset_runs_on_and_is_not_doubled() {
    let bench = Bench::new().await;
    let mut left = bench.agent_of(LEFT).await;
    let mut right = bench.agent_of(RIGHT).await;
    let new = NewDispatch::site(SITE, Power::from_mw(12.0)).rebalanced();
    let order = bench
        .submit(&new.clone().lasting(seconds(3_600)))
        .await
        .unwrap();
    left.says(&bench, &order.children[0], SetpointPhase::Started)
        .await;
    right
        .says(&bench, &order.children[1], SetpointPhase::Started)
        .await;
    right.messages();
    let left = left.disconnect(&bench).await;
    for _ in 0..100 {
        bench.pass(seconds(30)).await;
        bench.hears(&right);
    }
    assert_eq!(right.messages().len(), 0);
    drop(left);

    // Without a lease its failsafe takes its place.
    let mut left = bench.agent_of(LEFT).await;
    right
        .says(&bench, &order.children[1], SetpointPhase::Superseded)
        .await;
    let order = bench.submit(&new).await.unwrap();
    left.says(&bench, &order.children[0], SetpointPhase::Started)
        .await;
    right
        .says(&bench, &order.children[1], SetpointPhase::Started)
        .await;
    left.messages();
    right.messages();
    let left = left.disconnect(&bench).await;
    for _ in 0..12 {
        bench.pass(seconds(10)).await;
        bench.hears(&right);
    }
    assert_eq!(
        right.messages().len(),
        0,
        "its failsafe may not have acted yet"
    );
    bench.pass(seconds(20)).await;
    let share = right.only_order();
    assert_eq!(
        (share.asset_id, share.power.mw(), share.duration),
        (RIGHT, 12.0, None)
    );
    // It does not come back to what others do now.
    let mut left = left.connect(&bench, &[LEFT]).await;
    let Command::Release(released, _) = left.commands()[0] else {
        panic!("no release");
    };
    assert_eq!(released, order.children[0].id);
}

#[tokio::test(start_paused = true)]
async fn an_asset_in_local_mode_is_released_before_others_stand_in_for_it() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    let big = &order.children[0];
    gateway.says(&bench, big, SetpointPhase::Started).await;
    bench.beats(&gateway, BIG, Availability::ReadOnly);
    bench.pass(seconds(30)).await;
    bench.hears(&gateway);
    assert_eq!(gateway.messages().len(), 0, "it may be back soon");
    bench.pass(seconds(10)).await;
    assert_eq!(gateway.commands(), [Command::Release(big.id, 2)]);
    let asked = bench.stored(big.id).await;
    assert_eq!(asked.cancelled_by.as_deref(), Some("rebalance"));
    assert_eq!(bench.stored(order.id).await.cancel_requested_at, None);
    bench.pass(seconds(10)).await;
    bench.hears(&gateway);
    assert_eq!(gateway.messages().len(), 0, "its device may go on");
    gateway.says(&bench, big, SetpointPhase::Released).await;
    bench.pass(seconds(5)).await;
    assert_eq!(gateway.orders().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_given_meanwhile_is_not_superseded_by_it() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    // For later: a new share of this asset would have kept it from starting.
    let later = bench.clock.now().saturating_add(seconds(300));
    let new = NewDispatch::asset(LEFT, Power::from_mw(1.0)).starting_at(later);
    let later = bench.submit(&new).await.unwrap();
    gateway.messages();
    gateway
        .says(&bench, &order.children[0], SetpointPhase::Rejected)
        .await;
    bench.pass(seconds(6)).await;
    let share = gateway.only_order();
    assert_eq!((share.asset_id, share.power.mw()), (RIGHT, 9.6));
    assert_eq!(bench.status(later.id).await, DispatchStatus::Sent);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_of_the_site_order_ends_the_shares_that_were_added_too() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    gateway
        .says(&bench, &order.children[0], SetpointPhase::Rejected)
        .await;
    bench.pass(seconds(6)).await;
    let new = gateway.orders();
    assert_eq!(new.len(), 2);
    bench.store.set(Fault::Away);
    let cancelled = bench.cancel(order.id).await;
    assert!(cancelled.cancel_requested_at.is_some());
    let released: Vec<_> = gateway
        .commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::Release(id, _) => Some(id),
            Command::Set(..) => None,
        })
        .collect();
    for share in new {
        assert!(released.contains(&share.dispatch_id), "{released:?}");
    }
    bench.store.set(Fault::None);
    bench.pass(seconds(30)).await;
    assert_eq!(gateway.orders().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn shares_that_may_have_been_added_while_the_store_failed_never_come_into_force() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    gateway
        .says(&bench, &order.children[0], SetpointPhase::Rejected)
        .await;
    bench.store.set(Fault::CommitFailsAfter);
    bench.pass(seconds(6)).await;
    bench.store.set(Fault::None);
    bench.pass(seconds(3)).await;
    let shares = bench.shares_of(order.id).await;
    assert_eq!(shares.len(), 5);
    let taken_back = |(_, _, status): &&(_, _, _)| *status == DispatchStatus::Cancelled;
    assert_eq!(shares.iter().filter(taken_back).count(), 2);
    bench.pass(seconds(10)).await;
    let sent: Vec<_> = gateway
        .orders()
        .iter()
        .map(|order| order.power.mw())
        .collect();
    assert_eq!(sent, [6.0, 6.0], "and then it is done once more");
}

#[tokio::test(start_paused = true)]
async fn a_headend_that_starts_anew_goes_on_looking_after_it() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    gateway.in_force = order
        .children
        .iter()
        .map(|share| (share.asset_id.unwrap(), share.id))
        .collect();
    let gateway = gateway.disconnect(&bench).await;
    let bench = bench.restarted().await;
    let mut gateway = gateway.connect(&bench, &ALL).await;
    gateway.messages();
    let report = SetpointReport {
        dispatch_id: order.children[0].id,
        revision: 1,
        phase: SetpointPhase::Failed,
        reason: Some(ReasonCode::DeviceError),
        text: None,
        applied: None,
    };
    gateway.reports(&bench, &order.children[0], report).await;
    bench.pass(seconds(1)).await;
    bench.at_default(&gateway, BIG);
    bench.pass(seconds(6)).await;
    assert_eq!(gateway.orders().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_order_that_has_ended_keeps_nobody_from_taking_over() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    let later = bench.clock.now().saturating_add(seconds(300));
    let new = NewDispatch::asset(LEFT, Power::from_mw(1.0)).starting_at(later);
    let later = bench.submit(&new).await.unwrap();
    bench.cancel(later.id).await;
    gateway.says(&bench, &later, SetpointPhase::Released).await;
    assert!(bench.status(later.id).await.is_terminal());
    gateway.messages();
    gateway
        .says(&bench, &order.children[0], SetpointPhase::Rejected)
        .await;
    bench.pass(seconds(6)).await;
    let orders = gateway.orders();
    let sent: Vec<_> = orders.iter().map(|o| (o.asset_id, o.power.mw())).collect();
    assert_eq!(sent, [(LEFT, 6.0), (RIGHT, 6.0)]);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_the_store_does_not_know_of_yet_is_heeded() {
    for site in [true, false] {
        let bench = Bench::new().await;
        let mut gateway = bench.gateway().await;
        let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
        gateway
            .says(&bench, &order.children[0], SetpointPhase::Rejected)
            .await;
        bench.pass(Duration::from_millis(4_400)).await;
        bench.store.set(Fault::Away);
        let ended = if site { order.id } else { order.children[1].id };
        bench.cancel(ended).await;
        bench.store.set(Fault::None);
        bench.pass(Duration::from_millis(800)).await;
        assert_eq!(bench.stored(ended).await.cancel_requested_at, None);
        assert_eq!(bench.shares_of(order.id).await.len(), 3);
        bench.pass(seconds(30)).await;
        assert!(bench.stored(ended).await.cancel_requested_at.is_some());
        // What an operator took out is not shared, what was refused is.
        let added = bench.stored(order.id).await.children;
        let added: Vec<_> = added
            .iter()
            .filter(|share| share.revision == Some(2))
            .collect();
        let sent: Vec<_> = added.iter().map(|s| (s.asset_id, s.mw.mw())).collect();
        let wanted = if site {
            vec![]
        } else {
            vec![(Some(RIGHT), 9.6)]
        };
        assert_eq!(sent, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn shares_that_are_added_while_their_order_is_cancelled_are_not_sent() {
    for (away, whole) in [(true, true), (false, true), (true, false)] {
        let bench = Bench::new().await;
        let mut gateway = bench.gateway().await;
        let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
        gateway
            .says(&bench, &order.children[0], SetpointPhase::Rejected)
            .await;
        bench.store.set(Fault::SharesSlow);
        bench.pass(Duration::from_millis(5_500)).await;
        assert_eq!(bench.shares_of(order.id).await.len(), 5);
        if away {
            bench.store.set(Fault::Away);
        }
        let (ended, shares) = match whole {
            true => (order.id, &order.children[1..]),
            false => (order.children[1].id, &order.children[1..2]),
        };
        bench.cancel(ended).await;
        bench.store.set(Fault::None);
        for share in shares {
            gateway.says(&bench, share, SetpointPhase::Released).await;
        }
        bench.pass(seconds(3)).await;
        gateway.replay(&bench, None).await.unwrap();
        bench.pass(seconds(27)).await;
        let set = |command: &Command| matches!(command, Command::Set(..));
        assert_eq!(gateway.commands().iter().filter(|c| set(c)).count(), 0);
        let goes_on = bench.shares_of(order.id).await;
        let goes_on = goes_on
            .iter()
            .filter(|(_, _, status)| !status.is_terminal());
        assert_eq!(goes_on.count(), usize::from(!whole), "the other one does");
        if !whole {
            continue;
        }
        // Nothing of it is kept.
        assert_eq!(bench.dispatcher.known.lock().sizes(), [0; 4]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_whose_answer_was_lost_is_released_all_the_same() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    let big = &order.children[0];
    gateway.says(&bench, big, SetpointPhase::Started).await;
    bench.beats(&gateway, BIG, Availability::ReadOnly);
    bench.store.set(Fault::CancelFailsAfter);
    bench.pass(seconds(30)).await;
    bench.hears(&gateway);
    bench.pass(Duration::from_millis(5_500)).await;
    bench.store.set(Fault::None);
    assert!(bench.stored(big.id).await.cancel_requested_at.is_some());
    assert_eq!(gateway.commands(), []);
    gateway.session().mailbox.take();
    bench.pass(seconds(6)).await;
    assert!(gateway.session().mailbox.take().starved);
    gateway.replay(&bench, None).await.unwrap();
    assert_eq!(gateway.commands(), [Command::Release(big.id, 2)]);
    bench.pass(seconds(6)).await;
    assert!(!gateway.session().mailbox.take().starved, "it was given");
}

#[tokio::test(start_paused = true)]
async fn a_site_order_whose_commit_seemed_to_fail_is_looked_after() {
    for repeats in [true, false] {
        let bench = Bench::new().await;
        let mut gateway = bench.gateway().await;
        let new = NewDispatch::site(SITE, Power::from_mw(12.0))
            .rebalanced()
            .lasting(seconds(600));
        bench.store.set(Fault::CommitFailsAfter);
        let failed = bench.dispatcher.submit(&new, None, Some("k"), None).await;
        failed.unwrap_err();
        bench.store.set(Fault::None);
        if repeats {
            let again = bench.dispatcher.submit(&new, None, Some("k"), None).await;
            assert!(again.unwrap().repeated);
        }
        gateway.replay(&bench, None).await.unwrap();
        assert_eq!(gateway.orders().len(), 3);
        let query = DispatchQuery::default();
        let all = bench.dispatcher.dispatches(&query).await.unwrap().items;
        let order = &all[0];
        for share in &order.children[1..] {
            gateway.says(&bench, share, SetpointPhase::Started).await;
        }
        gateway
            .says(&bench, &order.children[0], SetpointPhase::Rejected)
            .await;
        bench.pass(seconds(11)).await;
        assert_eq!(gateway.orders().len(), 2);
        bench.pass(seconds(6)).await;
        assert_eq!(gateway.orders().len(), 0, "once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_site_order_that_was_shared_anew_is_told() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    gateway
        .says(&bench, &order.children[0], SetpointPhase::Rejected)
        .await;
    let mut changes = bench.dispatcher.changes();
    bench.pass(seconds(6)).await;
    let told = std::iter::from_fn(|| changes.try_recv().ok());
    let site = told.filter(|told| told.id == order.id).last().unwrap();
    assert_eq!(site.split.as_ref().unwrap().resplits.len(), 1);
    let marks: Vec<_> = site.children.iter().map(|share| share.replaced).collect();
    assert_eq!(marks, [true, false, false, false, false]);
    let known = bench.dispatcher.known.lock().whole(order.id).unwrap();
    assert_eq!(known.children, bench.stored(order.id).await.children);
}

#[tokio::test(start_paused = true)]
async fn other_timers_do_not_wait_for_a_look() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    let waits = NewDispatch::asset(FAR, Power::from_mw(1.0));
    let waits = waits.waiting_at_most(Duration::from_millis(5_300));
    let waits = bench.submit(&waits).await.unwrap();
    gateway
        .says(&bench, &order.children[0], SetpointPhase::Rejected)
        .await;
    bench.store.set(Fault::SharesSlow);
    bench.pass(Duration::from_millis(5_600)).await;
    assert_eq!(gateway.orders().len(), 0, "the look goes on");
    assert_eq!(bench.status(waits.id).await, DispatchStatus::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_session_between_two_looks_begins_the_failsafe_of_a_lost_asset_anew() {
    let bench = Bench::new().await;
    let mut left = bench.agent_of(LEFT).await;
    let mut right = bench.agent_of(RIGHT).await;
    let new = NewDispatch::site(SITE, Power::from_mw(12.0)).rebalanced();
    let order = bench.submit(&new).await.unwrap();
    left.says(&bench, &order.children[0], SetpointPhase::Started)
        .await;
    right
        .says(&bench, &order.children[1], SetpointPhase::Started)
        .await;
    right.messages();
    let left = left.disconnect(&bench).await;
    for _ in 0..8 {
        bench.pass(Duration::from_millis(10_200)).await;
        bench.hears(&right);
    }
    let left = left.connect(&bench, &[LEFT]).await;
    let left = left.disconnect(&bench).await;
    for _ in 0..11 {
        bench.pass(seconds(10)).await;
        bench.hears(&right);
    }
    assert_eq!(right.messages().len(), 0, "its device may go on");
    bench.pass(seconds(25)).await;
    assert_eq!(right.only_order().power.mw(), 12.0);
    drop(left);
}

#[tokio::test(start_paused = true)]
async fn while_all_are_at_work_the_store_is_not_asked() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let order = bench.rebalanced(&mut gateway, Some(seconds(600))).await;
    bench.store.set(Fault::Away);
    bench.pass(Duration::from_millis(5_200)).await;
    bench.store.set(Fault::None);
    gateway
        .says(&bench, &order.children[0], SetpointPhase::Rejected)
        .await;
    bench.pass(seconds(3)).await;
    assert_eq!(gateway.orders().len(), 0, "a look that failed is repeated");
    bench.pass(seconds(3)).await;
    assert_eq!(gateway.orders().len(), 2);
}
