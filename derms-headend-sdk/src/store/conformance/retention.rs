//! What is forgotten, and what never is.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::LogKind;
use derms_proto::{
    AssetId, Availability, ControlSource, Dispatch, DispatchStatus, Heartbeat, LogId, Timestamp,
};

use super::super::{
    Advance, DispatchQuery, HistoryQuery, Idempotency, Pruned, Retention, Store, TelemetryQuery,
};
use super::Broken;
use super::kit::*;

sentences! {
    "what is older than its retention is forgotten, with its keys" => forgotten,
    "what is not older than its retention stays" => kept,
    "what is open, and counters and cursors, are never forgotten" => never_forgotten,
}

const DAY_S: u64 = 24 * 3600;

/// So many days after all began. What is old may be forgotten by whole days.
fn day(days: u64) -> Timestamp {
    at(days * DAY_S)
}

/// Keeps 100 days of everything.
fn retention() -> Retention {
    let mut retention = Retention::forever();
    let kept = Some(Duration::from_secs(100 * DAY_S));
    retention.telemetry = kept;
    retention.heartbeats = kept;
    retention.sessions = kept;
    retention.reports = kept;
    retention.dispatches = kept;
    retention
}

/// Prunes until nothing is left to prune.
async fn prune(store: &Arc<dyn Store>, retention: &Retention, now: u64) -> Result<Pruned, Broken> {
    let mut all = Pruned::default();
    for _ in 0..1_000 {
        let pruned = store.prune(retention, day(now)).await?;
        let more = pruned.more;
        all = all + pruned;
        if !more {
            return Ok(all);
        }
    }
    Err(Broken::Otherwise(
        "there is always more to prune".to_owned(),
    ))
}

fn beat(asset_id: AssetId, received_at: Timestamp) -> Heartbeat {
    Heartbeat {
        asset_id,
        agent_id: asset_id.into(),
        epoch: 1,
        received_at,
        agent_time: None,
        uptime_s: None,
        outbox_depth: 0,
        dropped_samples: 0,
        availability: Availability::Available,
        control: ControlSource::Default,
        control_mw: None,
        read_errors: 0,
    }
}

/// An order, or a site order of two, with a key; its last part ends on this day.
async fn ended(
    store: &Arc<dyn Store>,
    key: &str,
    of_site: bool,
    last: u64,
) -> Result<Dispatch, Broken> {
    let order = if of_site {
        site_order(new_site(), &[new_asset(), new_asset()], 0)
    } else {
        new_order(new_asset(), new_site(), 0)
    };
    let (dispatch, _) = commit(store, &keyed(order, key, "")).await?;
    let leaves = match dispatch.children.as_slice() {
        [] => vec![dispatch.id],
        children => children.iter().map(|child| child.id).collect(),
    };
    for (id, ended) in leaves.iter().rev().zip([last, 5]) {
        let step = Advance {
            at: day(ended),
            ..step(*id, DispatchStatus::Cancelled)
        };
        advance(store, step).await?;
    }
    Ok(dispatch)
}

async fn is_known(store: &Arc<dyn Store>, key: &str) -> Result<bool, Broken> {
    let key = Idempotency {
        key: key.to_owned(),
        fingerprint: String::new(),
    };
    Ok(store.committed(&key).await?.is_some())
}

/// How many of each kind there are: measurements and heartbeats of an asset, sessions, orders.
async fn counts(store: &Arc<dyn Store>, asset: AssetId) -> Result<[usize; 4], Broken> {
    let page = HistoryQuery::default();
    let samples = TelemetryQuery::new(asset, page.clone());
    Ok([
        store.telemetry(&samples).await?.items.len(),
        store.heartbeats(asset, &page).await?.items.len(),
        store.sessions(&page).await?.items.len(),
        store
            .dispatches(&DispatchQuery::default())
            .await?
            .items
            .len(),
    ])
}

/// Five of everything, on the days 10, 60, 110, 160 and 210; of the orders, the first two and one of the
/// later ones are for sites.
async fn fill(store: &Arc<dyn Store>, asset: AssetId) -> Result<[usize; 4], Broken> {
    for n in 0..5 {
        let days = 10 + 50 * n;
        let log = LogId::generate();
        let mut append = samples(new_agent(), log, asset, 1..2);
        append.samples[0].1.measured_at = day(days);
        append.samples[0].1.received_at = day(days);
        store.append_telemetry(&[append]).await?;
        store.append_heartbeats(&[beat(asset, day(days))]).await?;
        let agent = new_agent();
        let epoch = store.open_session(&record(agent, at(0)), 0).await?;
        store
            .close_session(agent, epoch, &end(days * DAY_S, ""))
            .await?;
        ended(store, &format!("key {n}"), n % 2 == 0, days).await?;
    }
    counts(store, asset).await
}

async fn forgotten(store: Arc<dyn Store>) -> Checked {
    let asset = new_asset();
    fill(&store, asset).await?;
    let pruned = prune(&store, &retention(), 210).await?;
    // Older than day 110 are those of the days 10 and 60.
    same("what is left", &counts(&store, asset).await?, &[3, 3, 3, 3])?;
    let told = [
        pruned.telemetry,
        pruned.heartbeats,
        pruned.sessions,
        pruned.dispatches,
    ];
    // One of the two orders was a site order of two.
    same("how much was told to be forgotten", &told, &[2, 2, 2, 4])?;
    for (n, known) in [(0, false), (1, false), (2, true), (3, true), (4, true)] {
        let key = format!("key {n}");
        same(&key, &is_known(&store, &key).await?, &known)?;
    }
    let again = prune(&store, &retention(), 210).await?;
    same("how much was forgotten again", &again.total(), &0)
}

async fn kept(store: Arc<dyn Store>) -> Checked {
    let asset = new_asset();
    let all = fill(&store, asset).await?;
    same("all there is", &all, &[5; 4])?;
    prune(&store, &retention(), 110).await?;
    same("what is left", &counts(&store, asset).await?, &all)?;
    prune(&store, &Retention::forever(), 10_000).await?;
    same("what is left for ever", &counts(&store, asset).await?, &all)?;
    // The second share of a site order ended long after the first.
    let order = ended(&store, "late", true, 500).await?;
    prune(&store, &retention(), 550).await?;
    same(
        "a site order of which one share has just ended",
        &stored(&store, order.id).await?.children.len(),
        &2,
    )
}

async fn never_forgotten(store: Arc<dyn Store>) -> Checked {
    let (asset, log) = (new_asset(), LogId::generate());
    let carrier = session(&store, new_agent()).await?;
    let agent = carrier.agent;
    let (pending, sent) = (committed(&store).await?, sent(&store, carrier).await?);
    let half = site_order(new_site(), &[new_asset(), new_asset()], 0);
    let (half, _) = commit(&store, &keyed(half, "half", "")).await?;
    advance(&store, step(half.children[0].id, DispatchStatus::Cancelled)).await?;
    let gone = ended(&store, "gone", false, 10).await?;
    let append = samples(agent, log, asset, 1..9);
    store.append_telemetry(&[append]).await?;
    store.append_heartbeats(&[beat(asset, at(1))]).await?;
    prune(&store, &retention(), 10_000).await?;
    same(
        "the rows that are left",
        &counts(&store, asset).await?,
        &[0, 0, 1, 3],
    )?;
    for id in [pending.id, sent.id] {
        stored(&store, id).await?;
    }
    same(
        "the shares of a site order of which one is open",
        &stored(&store, half.id).await?.children.len(),
        &2,
    )?;
    ensure!(
        is_known(&store, "half").await?,
        "the key of an open order is gone"
    );
    let assets: Vec<AssetId> = gone.asset_id.into_iter().chain(sent.asset_id).collect();
    same("revisions", &store.revisions(&assets).await?, &vec![1, 1])?;
    same(
        "where the log continues",
        &store.log_cursor(agent, LogKind::Telemetry, log).await?,
        &Some(9),
    )?;
    let next = store.open_session(&record(agent, at(2)), 0).await?;
    ensure!(
        next > carrier.epoch,
        "epoch {next} came after {}",
        carrier.epoch
    );
    Ok(())
}
