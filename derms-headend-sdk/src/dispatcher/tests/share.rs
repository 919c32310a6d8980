//! Who takes part in a site's order, and by what it is shared.

use derms_proto::{
    Heartbeat, LeftOutReason, Measurements, Quality, SPLIT_VERSION, SplitPolicy, Telemetry,
};

use super::*;

impl Bench {
    pub(super) fn measures(&self, asset: AssetId, mw: f64, soc: Option<f64>) {
        let at = self.clock.now();
        self.present.latest.offer(&Telemetry {
            asset_id: asset,
            site_id: SITE,
            measured_at: at,
            received_at: at,
            measurements: Measurements {
                mw: Some(Power::from_mw(mw)),
                soc_pct: soc,
                ..Measurements::default()
            },
        });
    }

    /// What the session of this agent says of an asset.
    pub(super) fn beats(&self, agent: &Agent, asset: AssetId, availability: Availability) {
        let heartbeat = Heartbeat {
            asset_id: asset,
            agent_id: agent.id,
            epoch: agent.session().epoch,
            received_at: self.clock.now(),
            agent_time: None,
            uptime_s: None,
            outbox_depth: 0,
            dropped_samples: 0,
            availability,
            control: ControlSource::Default,
            control_mw: None,
            read_errors: 0,
        };
        self.present.heartbeats.write().insert(asset, heartbeat);
    }

    async fn shares(&self, mw: f64, policy: SplitPolicy) -> Vec<f64> {
        let new = NewDispatch::site(SITE, Power::from_mw(mw)).split_by(policy);
        let order = self.submit(&new).await.unwrap();
        let split = order.split.unwrap();
        assert_eq!((split.policy, split.version), (policy, SPLIT_VERSION));
        order.children.iter().map(|child| child.mw.mw()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn each_policy_shares_by_what_was_measured() {
    let bench = Bench::new().await;
    let _gateway = bench.gateway().await;
    let measure = || {
        bench.measures(BIG, 50.0, Some(50.0));
        bench.measures(LEFT, 10.0, Some(100.0));
        bench.measures(RIGHT, 20.0, Some(50.0));
    };
    measure();
    assert_eq!(
        bench.shares(12.0, SplitPolicy::Capacity).await,
        [7.2, 2.4, 2.4]
    );
    assert_eq!(
        bench.shares(12.0, SplitPolicy::Equal).await,
        [4.0, 4.0, 4.0]
    );
    assert_eq!(
        bench.shares(12.0, SplitPolicy::Headroom).await,
        [6.0, 6.0, 0.0]
    );
    // 60, 40 and 20 MWh.
    assert_eq!(bench.shares(12.0, SplitPolicy::Soc).await, [6.0, 4.0, 2.0]);
    // What is old is not the present: as if all were at their default, their charge not known.
    bench.pass(seconds(40)).await;
    bench.measures(LEFT, 10.0, None);
    bench.pass(seconds(4)).await;
    assert_eq!(bench.shares(12.0, SplitPolicy::Soc).await[1], 2.4);
    let _gateway = bench.gateway().await;
    bench.pass(seconds(20)).await;
    assert_eq!(bench.shares(10.0, SplitPolicy::Soc).await, [6.0, 2.0, 2.0]);
    assert_eq!(
        bench.shares(9.0, SplitPolicy::Headroom).await,
        [6.0, 1.0, 2.0]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_measured_badly_counts_as_not_measured() {
    let bench = Bench::new().await;
    let _gateway = bench.gateway().await;
    bench.measures(BIG, 0.0, Some(50.0));
    let mut bad = bench.present.latest.get(BIG).unwrap();
    bad.measurements.quality = Quality::Bad;
    bad.measurements.soc_pct = Some(0.0);
    bad.measured_at = bad.measured_at.saturating_add(Duration::from_millis(1));
    bad.received_at = bad.measured_at;
    bench.present.latest.offer(&bad);
    assert_eq!(bench.shares(10.0, SplitPolicy::Soc).await, [6.0, 2.0, 2.0]);
}

#[tokio::test(start_paused = true)]
async fn every_asset_that_is_left_out_is_named_with_the_reason() {
    let bench = Bench::new().await;
    let (left, right) = (bench.agent_of(LEFT).await, bench.agent_of(RIGHT).await);
    bench.beats(&left, LEFT, Availability::Unavailable);
    bench.beats(&right, RIGHT, Availability::Available);
    let new = NewDispatch::site(SITE, Power::from_mw(5.0));
    let order = bench.submit(&new).await.unwrap();
    assert_eq!(order.children.len(), 1);
    let split = order.split.unwrap();
    let excluded: Vec<_> = split
        .excluded
        .iter()
        .map(|left_out| (left_out.asset_id, left_out.reason))
        .collect();
    assert_eq!(
        excluded,
        [
            (BIG, LeftOutReason::Offline),
            (LEFT, LeftOutReason::Unavailable),
            (METER, LeftOutReason::Meter)
        ]
    );
    assert_eq!(split.excluded[0].name, BIG.to_string());
    assert_eq!(split.left_out, [BIG, LEFT]);
    // Read-only is no more use; what another session said is none either.
    bench.beats(&right, RIGHT, Availability::ReadOnly);
    let error = bench.submit(&new).await.unwrap_err();
    assert!(matches!(error, DispatchError::SiteOffline(_)), "{error:?}");
    let _right = right
        .disconnect(&bench)
        .await
        .connect(&bench, &[RIGHT])
        .await;
    assert_eq!(bench.submit(&new).await.unwrap().children.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_for_a_site_and_must_be_one_that_is_known() {
    let bench = Bench::new().await;
    let _gateway = bench.gateway().await;
    let asset = NewDispatch::asset(BIG, Power::from_mw(5.0)).split_by(SplitPolicy::Equal);
    let unknown = NewDispatch::site(SITE, Power::from_mw(5.0)).split_by(SplitPolicy::Unknown);
    for new in [asset, unknown] {
        let error = bench.submit(&new).await.unwrap_err();
        assert!(error.to_string().starts_with("split_policy"), "{error:?}");
    }
}
