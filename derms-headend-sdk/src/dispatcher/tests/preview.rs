//! A preview and the order itself.

use derms_proto::{DispatchPreview, SplitPolicy};
use proptest::prelude::*;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_preview_tells_what_is_sent_what_waits_and_what_is_superseded_and_does_nothing() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let sent = bench.order(BIG, 1.0).await;
    let waiting = bench.order(LEFT, 2.0).await;
    agent.messages();
    let before = bench.store.open_orders(None).await.unwrap();
    let preview = async |asset| {
        let new = NewDispatch::asset(asset, Power::from_mw(5.0)).lasting(seconds(60));
        let preview = bench.dispatcher.preview(&new).await.unwrap();
        assert_eq!(
            (preview.asset_id, preview.duration_s),
            (Some(asset), Some(60.0))
        );
        assert_eq!((preview.split, preview.ttl_s), (None, 300.0));
        let [share] = &preview.assets[..] else {
            panic!("{:?}", preview.assets)
        };
        let supersedes: Vec<_> = share
            .supersedes
            .iter()
            .map(|old| (old.id, old.mw.mw(), old.status))
            .collect();
        (share.online, supersedes)
    };
    let sent = (sent.id, 1.0, DispatchStatus::Sent);
    let waiting = (waiting.id, 2.0, DispatchStatus::Pending);
    assert_eq!(preview(BIG).await, (true, vec![sent]));
    assert_eq!(preview(LEFT).await, (false, vec![waiting]));
    assert_eq!(preview(FAR).await, (false, vec![]));
    assert_eq!(bench.store.open_orders(None).await.unwrap(), before);
    assert_eq!(
        bench.store.revisions(&[BIG, LEFT, FAR]).await.unwrap(),
        [1, 1, 0]
    );
    assert_eq!(agent.messages(), []);
    bench.store.set(Fault::Away);
    let new = NewDispatch::asset(BIG, Power::ZERO);
    let error = bench.dispatcher.preview(&new).await.unwrap_err();
    assert!(matches!(error, DispatchError::Store(_)), "{error:?}");
}

/// A site as it may be found, and an order for it.
#[derive(Debug, Clone)]
struct Case {
    online: Vec<AssetId>,
    unavailable: Option<AssetId>,
    measured: Vec<(AssetId, f64, Option<f64>)>,
    /// Orders: power, seconds until the start, lease.
    before: Vec<(AssetId, f64, Option<u64>, Option<f64>)>,
    new: NewDispatch,
    /// Seconds until it starts.
    ahead: Option<u64>,
}

const ALL: [AssetId; 5] = [BIG, LEFT, RIGHT, METER, FAR];

fn new_dispatch() -> impl Strategy<Value = NewDispatch> {
    let unknown = AssetId::new(Uuid::from_u128(99));
    let assets = [&ALL[..], &[unknown]].concat();
    let mw = prop_oneof![
        8 => -200.0..200.0_f64,
        4 => -20.0..20.0_f64,
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, 0.0]),
    ];
    let policies = [
        SplitPolicy::Capacity,
        SplitPolicy::Headroom,
        SplitPolicy::Soc,
        SplitPolicy::Equal,
        SplitPolicy::Unknown,
    ];
    let seconds = prop::option::weighted(0.3, prop_oneof![Just(0.0), 1.0..1e9_f64]);
    (
        prop::option::weighted(0.4, prop::sample::select(assets)),
        prop::option::weighted(0.7, prop::sample::select(vec![SITE, FAR_SITE])),
        mw,
        (seconds.clone(), seconds),
        prop::option::weighted(0.4, prop::sample::select(policies.to_vec())),
    )
        .prop_map(|(asset_id, site_id, mw, (duration_s, ttl_s), policy)| {
            let mut new = NewDispatch::default();
            (new.asset_id, new.site_id) = (asset_id, site_id);
            (new.duration_s, new.ttl_s) = (duration_s, ttl_s);
            new.mw = Power::from_mw(mw);
            new.split_policy = policy;
            new
        })
}

fn case() -> impl Strategy<Value = Case> {
    let ahead = || prop::option::of(1..100_u64);
    let lease = prop::option::of(1.0..100.0_f64);
    let asset = || prop::sample::select(ALL.to_vec());
    let measured = (asset(), -60.0..60.0_f64, prop::option::of(0.0..100.0_f64));
    (
        prop::sample::subsequence(ALL.to_vec(), 0..=ALL.len()),
        prop::option::of(asset()),
        prop::collection::vec(measured, 0..5),
        prop::collection::vec((asset(), -10.0..10.0_f64, ahead(), lease), 0..4),
        (new_dispatch(), ahead()),
    )
        .prop_map(
            |(online, unavailable, measured, before, (new, ahead))| Case {
                ahead,
                online,
                unavailable,
                measured,
                before,
                new,
            },
        )
}

/// What both tell, in one form.
fn told(
    shares: impl Iterator<Item = (AssetId, Power, bool)>,
    split: Option<&derms_proto::SplitSummary>,
) -> String {
    format!("{:?} {split:?}", shares.collect::<Vec<_>>())
}

fn of_preview(preview: &DispatchPreview) -> String {
    let shares = preview.assets.iter();
    let shares = shares.map(|share| (share.asset_id, share.mw, share.online));
    told(shares, preview.split.as_ref())
}

fn of_order(order: &Dispatch) -> String {
    let shares = leaves(order).filter_map(|leaf| {
        let sent = leaf.status == DispatchStatus::Sent;
        Some((leaf.asset_id?, leaf.mw, sent))
    });
    told(shares, order.split.as_ref())
}

async fn agrees(case: Case) {
    let bench = Bench::new().await;
    let mut agents = Vec::new();
    for asset in &case.online {
        agents.push(bench.agent_of(*asset).await);
    }
    for agent in &agents {
        let asset = agent.session().assets()[0];
        if case.unavailable == Some(asset) {
            bench.beats(agent, asset, Availability::Unavailable);
        }
    }
    for (asset, mw, soc) in &case.measured {
        bench.pass(seconds(1)).await;
        bench.measures(*asset, *mw, *soc);
    }
    let start = |ahead: u64| bench.clock.now().saturating_add(seconds(ahead));
    for (asset, mw, ahead, lease) in &case.before {
        let mut new = NewDispatch::asset(*asset, Power::from_mw(*mw));
        (new.start_at, new.duration_s) = (ahead.map(start), *lease);
        let _ = bench.submit(&new).await;
    }
    let mut new = case.new;
    new.start_at = case.ahead.map(start);
    let open = bench.store.open_orders(None).await.unwrap();
    let preview = bench.dispatcher.preview(&new).await;
    assert_eq!(bench.store.open_orders(None).await.unwrap(), open);
    match (preview, bench.submit(&new).await) {
        (Ok(preview), Ok(order)) => {
            assert_eq!(of_preview(&preview), of_order(&order));
            let now = bench.clock.now();
            let told = preview.assets.iter().flat_map(|share| &share.supersedes);
            let at_once = told.filter(|old| old.superseded_at == Some(now));
            let waiting = at_once.filter(|old| old.status == DispatchStatus::Pending);
            let mut told: Vec<_> = waiting.map(|old| old.id).collect();
            let mut stepped_back = Vec::new();
            for old in open {
                if bench.status(old.dispatch.id).await == DispatchStatus::Superseded {
                    stepped_back.push(old.dispatch.id);
                }
            }
            told.sort();
            stepped_back.sort();
            assert_eq!(told, stepped_back);
        }
        (Err(preview), Err(order)) => assert_eq!(preview.to_string(), order.to_string()),
        (preview, order) => panic!("a preview said {preview:?}, the order {order:?}"),
    }
}

proptest! {
    #[test]
    fn a_preview_and_the_order_itself_agree(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(agrees(case));
    }
}
