//! What is taken, what is refused, and how a site's order is split.

use derms_proto::ReasonCode;

use super::*;

fn on(asset: AssetId, mw: f64) -> NewDispatch {
    NewDispatch::asset(asset, Power::from_mw(mw))
}

#[tokio::test(start_paused = true)]
async fn an_order_for_an_asset_that_is_offline_waits_and_is_not_called_sent() {
    let bench = Bench::new().await;
    let order = bench.order(BIG, 5.0).await;
    assert_eq!(order.status, DispatchStatus::Pending);
    assert_eq!(order.revision, Some(1));
    assert_eq!(order.expires_at, START.saturating_add(seconds(300)));
    let mut agent = bench.agent_of(BIG).await;
    let sent = agent.only_order();
    assert_eq!(
        (sent.dispatch_id, sent.power),
        (order.id, Power::from_mw(5.0))
    );
    assert_eq!(bench.status(order.id).await, DispatchStatus::Sent);
}

#[tokio::test(start_paused = true)]
async fn what_contradicts_itself_is_refused_and_nothing_is_stored() {
    let bench = Bench::new().await;
    let unknown = AssetId::new(Uuid::from_u128(99));
    let nowhere = SiteId::new(Uuid::from_u128(98));
    let with = |change: fn(&mut NewDispatch)| {
        let mut new = on(BIG, 5.0);
        change(&mut new);
        new
    };
    let invalid = [
        NewDispatch::default(),
        on(BIG, f64::NAN),
        on(BIG, f64::INFINITY),
        NewDispatch::site(SITE, Power::from_mw(f64::NEG_INFINITY)),
        with(|new| new.duration_s = Some(0.0)),
        with(|new| new.duration_s = Some(-1.0)),
        with(|new| new.duration_s = Some(1e-10)),
        with(|new| new.duration_s = Some(f64::NAN)),
        with(|new| new.duration_s = Some(f64::INFINITY)),
        with(|new| new.duration_s = Some(1e300)),
        with(|new| new.duration_s = Some(366.0 * 86_400.0 + 1.0)),
        with(|new| new.ttl_s = Some(0.0)),
        with(|new| new.ttl_s = Some(f64::NAN)),
        with(|new| new.ttl_s = Some(f64::MAX)),
        with(|new| new.site_id = Some(FAR_SITE)),
    ];
    for new in invalid {
        let error = bench.submit(&new).await.unwrap_err();
        assert!(
            matches!(error, DispatchError::Invalid(_)),
            "{new:?}: {error:?}"
        );
    }
    let error = bench.submit(&on(unknown, 1.0)).await.unwrap_err();
    assert!(
        matches!(error, DispatchError::UnknownAsset(id) if id == unknown),
        "{error:?}"
    );
    let error = bench
        .submit(&NewDispatch::site(nowhere, Power::ZERO))
        .await
        .unwrap_err();
    assert!(
        matches!(error, DispatchError::UnknownSite(id) if id == nowhere),
        "{error:?}"
    );
    let error = bench.submit(&on(LEFT, 20.1)).await.unwrap_err();
    let DispatchError::OutOfRange { limits, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((limits.min_mw.mw(), limits.max_mw.mw()), (-20.0, 20.0));
    assert_eq!(error.to_string(), "20.1 MW is outside -20 MW to 20 MW");

    let all = bench
        .dispatcher
        .dispatches(&DispatchQuery::default())
        .await
        .unwrap();
    assert_eq!(all.items, []);
    // What is just allowed is taken.
    bench
        .submit(&with(|new| new.duration_s = Some(366.0 * 86_400.0)))
        .await
        .unwrap();
    bench
        .submit(&with(|new| new.site_id = Some(SITE)))
        .await
        .unwrap();
    bench.submit(&on(LEFT, -20.0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unknown_asset_with_a_site_is_refused_and_the_site_is_left_alone() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let mut new = on(AssetId::new(Uuid::from_u128(99)), 12.0);
    new.site_id = Some(SITE);
    let error = bench.submit(&new).await.unwrap_err();
    assert!(matches!(error, DispatchError::UnknownAsset(_)), "{error:?}");
    assert_eq!(gateway.orders(), []);
    let all = bench
        .dispatcher
        .dispatches(&DispatchQuery::default())
        .await
        .unwrap();
    assert_eq!(all.items, []);
}

#[tokio::test(start_paused = true)]
async fn twelve_megawatts_are_7_2_and_2_4_and_2_4_and_the_meter_gets_none() {
    let bench = Bench::new().await;
    let mut gateway = bench.gateway().await;
    let new = NewDispatch::site(SITE, Power::from_mw(12.0)).lasting(seconds(900));
    let order = bench.submit(&new).await.unwrap();
    let shares = gateway.orders();
    let found: Vec<_> = shares
        .iter()
        .map(|share| (share.asset_id, share.power.mw()))
        .collect();
    assert_eq!(found, [(BIG, 7.2), (LEFT, 2.4), (RIGHT, 2.4)]);
    assert!(
        shares
            .iter()
            .all(|share| share.duration == Some(seconds(900)))
    );
    assert_eq!(order.status, DispatchStatus::Sent);
    assert_eq!(
        (order.asset_id, order.revision, order.children.len()),
        (None, None, 3)
    );
    let split = order.split.unwrap();
    assert_eq!((split.residual_mw, split.left_out), (Power::ZERO, vec![]));
    for child in order.children {
        assert_eq!((child.parent_id, child.revision), (Some(order.id), Some(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_site_order_goes_to_those_online_and_tells_who_was_left_out_and_what_was_left() {
    let bench = Bench::new().await;
    let (mut left, mut right) = (bench.agent_of(LEFT).await, bench.agent_of(RIGHT).await);
    let order = bench
        .submit(&NewDispatch::site(SITE, Power::from_mw(-50.0)))
        .await
        .unwrap();
    for agent in [&mut left, &mut right] {
        assert_eq!(agent.only_order().power, Power::from_mw(-20.0));
    }
    let split = order.split.unwrap();
    assert_eq!(
        (split.residual_mw, split.left_out),
        (Power::from_mw(-10.0), vec![BIG])
    );
}

#[tokio::test(start_paused = true)]
async fn a_site_without_an_asset_online_refuses() {
    let bench = Bench::new().await;
    let meter = Agent::new(METER.into()).connect(&bench, &[METER]).await;
    let error = bench
        .submit(&NewDispatch::site(SITE, Power::from_mw(1.0)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, DispatchError::SiteOffline(SITE)),
        "{error:?}"
    );
    // A session that has been silent for too long is none.
    let _silent = bench.agent_of(BIG).await;
    bench.pass(seconds(45)).await;
    let error = bench
        .submit(&NewDispatch::site(SITE, Power::from_mw(1.0)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, DispatchError::SiteOffline(SITE)),
        "{error:?}"
    );
    drop(meter);
}

#[tokio::test(start_paused = true)]
async fn the_newest_order_takes_the_place_of_one_that_waits_for_good() {
    let bench = Bench::new().await;
    let mut orders = Vec::new();
    for mw in 1..=5 {
        orders.push(bench.order(BIG, f64::from(mw)).await);
    }
    let newest = orders.pop().unwrap();
    for old in &orders {
        let old = bench.stored(old.id).await;
        assert_eq!(old.status, DispatchStatus::Superseded);
        assert_eq!(old.reason, Some(ReasonCode::NewerOrder));
    }
    let waiting = bench.store.open_orders(None).await.unwrap();
    assert_eq!(waiting.len(), 1, "one waits, no more");
    let mut agent = bench.agent_of(BIG).await;
    assert_eq!(agent.only_order().dispatch_id, newest.id);
    // Not even when the newest has ended.
    agent.says(&bench, &newest, SetpointPhase::Rejected).await;
    let mut agent = agent.disconnect(&bench).await.connect(&bench, &[BIG]).await;
    assert_eq!(agent.orders(), []);
    for old in &orders {
        assert_eq!(bench.status(old.id).await, DispatchStatus::Superseded);
    }
}

#[tokio::test(start_paused = true)]
async fn one_idempotency_key_is_one_dispatch() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let submit = async |new: &NewDispatch, who: Option<&Principal>, key| {
        bench.dispatcher.submit(new, who, Some(key), None).await
    };
    let first = submit(&on(BIG, 5.0), None, "k").await.unwrap();
    assert!(!first.repeated);
    let again = submit(&on(BIG, 5.0), None, "k").await.unwrap();
    assert!(again.repeated);
    assert_eq!(again.dispatch.id, first.dispatch.id);
    assert_eq!(agent.orders().len(), 1, "sent once");
    let error = submit(&on(BIG, 6.0), None, "k").await.unwrap_err();
    assert!(
        matches!(error, DispatchError::IdempotencyConflict),
        "{error:?}"
    );
    // Keys of others do not meet, however they are written.
    let (a, b) = (Principal::new("b k"), Principal::new("k"));
    let of_a = submit(&on(BIG, 7.0), Some(&a), "k").await.unwrap();
    let of_b = submit(&on(BIG, 8.0), Some(&b), "kb").await.unwrap();
    assert!(!of_a.repeated && !of_b.repeated);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_site_order_is_found_although_the_site_has_gone_offline_since() {
    let bench = Bench::new().await;
    let agent = bench.agent_of(BIG).await;
    let new = NewDispatch::site(SITE, Power::from_mw(4.0));
    let first = bench
        .dispatcher
        .submit(&new, None, Some("k"), None)
        .await
        .unwrap();
    agent.disconnect(&bench).await;
    let again = bench
        .dispatcher
        .submit(&new, None, Some("k"), None)
        .await
        .unwrap();
    assert!(again.repeated);
    assert_eq!(again.dispatch.id, first.dispatch.id);
    let error = bench
        .dispatcher
        .submit(&new, None, Some("other"), None)
        .await
        .unwrap_err();
    assert!(matches!(error, DispatchError::SiteOffline(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_is_refused_and_nothing_is_sent_then_or_later() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    // Whether or not the store has made it all the same.
    for fault in [Fault::CommitFails, Fault::CommitFailsAfter] {
        bench.store.set(fault);
        let error = bench.submit(&on(BIG, 5.0)).await.unwrap_err();
        assert!(matches!(error, DispatchError::Store(_)), "{error:?}");
        bench.store.set(Fault::None);
        bench.pass(seconds(1)).await;
        agent.replay(&bench, None).await.unwrap();
        assert_eq!(agent.orders(), []);
    }
    assert_eq!(bench.store.open_orders(None).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_can_be_asked_for_again_with_its_key() {
    let bench = Bench::new().await;
    bench.store.set(Fault::CommitFailsAfter);
    let new = on(BIG, 5.0).waiting_at_most(seconds(60));
    bench
        .dispatcher
        .submit(&new, None, Some("k"), None)
        .await
        .unwrap_err();
    bench.store.set(Fault::None);
    let again = bench
        .dispatcher
        .submit(&new, None, Some("k"), None)
        .await
        .unwrap();
    assert_eq!(again.dispatch.status, DispatchStatus::Pending);
    bench.pass(seconds(61)).await;
    assert_eq!(
        bench.status(again.dispatch.id).await,
        DispatchStatus::Expired
    );
}

#[tokio::test(start_paused = true)]
async fn an_order_that_may_be_in_force_keeps_its_part_of_the_minute_and_a_withdrawn_one_does_not() {
    let config = Config {
        power: PowerBounds {
            per_minute: Some(Power::from_mw(10.0)),
            ..PowerBounds::default()
        },
        ..Config::default()
    };
    let clock = Clock::new(|| START);
    let bench = Bench::on(FaultyStore::new(Fault::CommitFailsAfter), clock, config).await;
    let submit = async |key| {
        bench
            .dispatcher
            .submit(&on(BIG, 10.0), None, key, None)
            .await
    };
    let unsure = [
        submit(None).await,
        submit(Some("k")).await,
        submit(Some("other")).await,
    ];
    assert!(matches!(
        unsure,
        [
            Err(DispatchError::Store(_)),
            Err(DispatchError::Store(_)),
            Err(DispatchError::OverRate { .. })
        ]
    ));
    bench.store.set(Fault::None);
    assert!(submit(Some("k")).await.unwrap().repeated);
}
