//! Limits and stops.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::{
    AssetId, LimitId, LimitStatus, PowerLimit, ReasonCode, SiteId, Stop, StopId, StopScope,
};

use super::super::{
    HistoryQuery, Idempotency, Keyed, LimitQuery, Restraint, Restraints, Retention, Store,
};
use super::Broken;
use super::kit::*;

sentences! {
    "a limit is read as it was kept last" => limit_kept,
    "a stop is read as it was kept last" => stop_kept,
    "what holds is what has not ended, with the highest revisions" => restraints,
    "a key means one limit or stop, for as long as that is kept" => keys,
    "limits and stops come in pages, newest first" => pages,
    "limits are listed by asset and by site" => listed,
    "limits and stops that have ended are forgotten in their time, and no others" => forgotten,
}

fn limit(asset: AssetId, site: SiteId, second: u64) -> PowerLimit {
    PowerLimit {
        id: LimitId::generate(),
        asset_id: asset,
        site_id: site,
        min_mw: Some(derms_proto::Power::from_mw(-1.5)),
        max_mw: None,
        created_at: at(second),
        expires_at: Some(at(second + 600)),
        principal: Some("operator".to_owned()),
        status: LimitStatus::Pending,
        reason: None,
        text: None,
        confirmed_at: None,
        removed_at: None,
        removed_by: None,
        revision: second + 1,
    }
}

async fn keys(store: Arc<dyn Store>) -> Checked {
    let key = |key: &str, fingerprint: &str| Idempotency {
        key: format!("{key} {}", uuid::Uuid::new_v4()),
        fingerprint: fingerprint.to_owned(),
    };
    let limits = [1, 2].map(|second| Restraint::Limit(limit(new_asset(), new_site(), second)));
    let stops = [1, 2].map(|second| {
        let mut stop = stop(StopScope::Site(new_site()), second);
        stop.reason = Some("smoke".to_owned());
        Restraint::Stop(stop)
    });
    for [first, second] in [limits, stops] {
        let mine = key("k", "5 MW");
        let other = Idempotency {
            fingerprint: "6 MW".to_owned(),
            ..mine.clone()
        };
        same("a free key", &store.keyed(&mine).await?, &None)?;
        same("the first", &store.put_keyed(&first, &mine).await?, &None)?;
        same(
            "the same again",
            &store.put_keyed(&first, &mine).await?,
            &None,
        )?;
        let kept = Some(Keyed::Same(first.clone()));
        same("the key", &store.keyed(&mine).await?, &kept)?;
        same(
            "another one",
            &store.put_keyed(&second, &mine).await?,
            &kept,
        )?;
        let conflict = Some(Keyed::Conflict);
        same(
            "something else",
            &store.put_keyed(&second, &other).await?,
            &conflict,
        )?;
        same("the key", &store.keyed(&other).await?, &conflict)?;
        let found = match &second {
            Restraint::Limit(limit) => store.limit(limit.id).await?.is_some(),
            Restraint::Stop(stop) => store.stop(stop.id).await?.is_some(),
        };
        same("the second is kept", &found, &false)?;
    }
    Ok(())
}

fn stop(scope: StopScope, second: u64) -> Stop {
    let (asset_id, site_id) = match scope {
        StopScope::Asset(asset) => (Some(asset), None),
        StopScope::Site(site) => (None, Some(site)),
        _ => (None, None),
    };
    Stop {
        id: StopId::generate(),
        asset_id,
        site_id,
        all: scope == StopScope::All,
        reason: Some("smoke\0".to_owned()),
        principal: None,
        created_at: at(second),
        revision: second + 1,
        assets: 3,
        reached: 2,
        confirmed: 1,
        not_obeyed: 0,
        offline: 0,
        unsupported: 0,
        cannot_be_held: Vec::new(),
        stored: true,
        ended_at: None,
        ended_by: None,
        return_within_s: None,
    }
}

fn removed(limit: &PowerLimit, second: u64) -> PowerLimit {
    PowerLimit {
        status: LimitStatus::Removed,
        removed_at: Some(at(second)),
        removed_by: Some("another".to_owned()),
        revision: second + 1,
        ..limit.clone()
    }
}

fn ended(stop: &Stop, second: u64) -> Stop {
    Stop {
        ended_at: Some(at(second)),
        ended_by: Some("another".to_owned()),
        return_within_s: Some(60.0),
        revision: second + 1,
        ..stop.clone()
    }
}

/// A text may lose what a database can't hold.
fn without_nul(stop: &Stop) -> Stop {
    Stop {
        reason: None,
        ..stop.clone()
    }
}

async fn limit_kept(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    let [first, other] = [limit(asset, site, 0), limit(asset, site, 0)];
    store.put_limits(&[first.clone(), other.clone()]).await?;
    same(
        "the limit",
        &store.limit(first.id).await?.as_ref(),
        &Some(&first),
    )?;
    let not_obeyed = PowerLimit {
        status: LimitStatus::NotObeyed,
        reason: Some(ReasonCode::DeviceError),
        text: Some("the relay sticks".to_owned()),
        ..first.clone()
    };
    let confirmed = PowerLimit {
        status: LimitStatus::InForce,
        confirmed_at: Some(at(3)),
        ..first.clone()
    };
    for next in [not_obeyed, confirmed, removed(&first, 9)] {
        // Twice: a call may come again.
        for _ in 0..2 {
            store.put_limits(std::slice::from_ref(&next)).await?;
        }
        same(
            "the limit",
            &store.limit(first.id).await?.as_ref(),
            &Some(&next),
        )?;
    }
    same("the other one", &store.limit(other.id).await?, &Some(other))?;
    same(
        "an unknown one",
        &store.limit(LimitId::generate()).await?,
        &None,
    )
}

async fn stop_kept(store: Arc<dyn Store>) -> Checked {
    for scope in [
        StopScope::Asset(new_asset()),
        StopScope::Site(new_site()),
        StopScope::All,
    ] {
        let first = stop(scope, 0);
        let told = Stop {
            offline: 1,
            unsupported: 1,
            stored: false,
            ..first.clone()
        };
        store.put_stops(std::slice::from_ref(&told)).await?;
        let read = store.stop(first.id).await?.as_ref().map(without_nul);
        same("the stop", &read, &Some(without_nul(&first)))?;
        let over = ended(&first, 9);
        for _ in 0..2 {
            store.put_stops(std::slice::from_ref(&over)).await?;
        }
        let read = store.stop(first.id).await?.as_ref().map(without_nul);
        same("the stop that was ended", &read, &Some(without_nul(&over)))?;
    }
    same(
        "an unknown one",
        &store.stop(StopId::generate()).await?,
        &None,
    )
}

async fn restraints(store: Arc<dyn Store>) -> Checked {
    same(
        "what holds in an empty store",
        &store.restraints().await?,
        &Restraints::default(),
    )?;
    let (asset, site) = (new_asset(), new_site());
    let (holds, gone) = (limit(asset, site, 0), limit(asset, site, 1));
    let expired = PowerLimit {
        status: LimitStatus::Expired,
        ..limit(asset, site, 2)
    };
    let refused = PowerLimit {
        status: LimitStatus::Refused,
        ..limit(new_asset(), site, 3)
    };
    let limits = [holds.clone(), removed(&gone, 9), expired, refused.clone()];
    store.put_limits(&limits).await?;
    let (one, all) = (stop(StopScope::Site(site), 4), stop(StopScope::All, 5));
    store.put_stops(&[one.clone(), ended(&all, 20)]).await?;
    let mut found = store.restraints().await?;
    found.limits.sort_by_key(|limit| limit.created_at);
    same(
        "limits that hold",
        &found.limits,
        &vec![holds, refused.clone()],
    )?;
    let stops: Vec<_> = found.stops.iter().map(|stop| stop.id).collect();
    same("stops that hold", &stops, &vec![one.id])?;
    found.revisions.sort_unstable();
    let mut wanted = vec![
        (StopScope::Asset(asset), 10),
        (StopScope::Asset(refused.asset_id), 4),
        (StopScope::Site(site), 5),
        (StopScope::All, 21),
    ];
    wanted.sort_unstable();
    same("the highest revisions", &found.revisions, &wanted)
}

async fn pages(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    // Two of each second.
    let mut limits: Vec<_> = (0..10).map(|n| limit(asset, site, n / 2)).collect();
    let mut stops: Vec<_> = (0..10).map(|n| stop(StopScope::All, n / 2)).collect();
    store.put_limits(&limits).await?;
    store.put_stops(&stops).await?;
    limits.sort_by_key(|limit| std::cmp::Reverse((limit.created_at, limit.id)));
    stops.sort_by_key(|stop| std::cmp::Reverse((stop.created_at, stop.id)));
    let mut page = HistoryQuery {
        from: at(1),
        to: at(4),
        limit: 4,
        cursor: None,
    };
    let query = |page: &HistoryQuery| LimitQuery {
        page: page.clone(),
        ..LimitQuery::default()
    };
    let first = store.limits(&query(&page)).await?;
    same(
        "the first page of limits",
        &first.items,
        &limits[2..6].to_vec(),
    )?;
    page.cursor = first.next_cursor;
    ensure!(page.cursor.is_some(), "there is no second page of limits");
    let second = store.limits(&query(&page)).await?;
    same(
        "the second page of limits",
        &second.items,
        &limits[6..8].to_vec(),
    )?;
    same("its cursor", &second.next_cursor, &None)?;
    let wrong = store.stops(&page).await;
    ensure!(
        matches!(wrong, Err(super::super::StoreError::InvalidCursor)),
        "a cursor of limits was answered {wrong:?} in the list of stops"
    );
    page.cursor = None;
    let ids = |stops: &[Stop]| stops.iter().map(|stop| stop.id).collect::<Vec<_>>();
    let first = store.stops(&page).await?;
    same(
        "the first page of stops",
        &ids(&first.items),
        &ids(&stops[2..6]),
    )?;
    page.cursor = first.next_cursor;
    let second = store.stops(&page).await?;
    same(
        "the second page of stops",
        &ids(&second.items),
        &ids(&stops[6..8]),
    )?;
    same("its cursor", &second.next_cursor, &None)
}

async fn listed(store: Arc<dyn Store>) -> Checked {
    let (site, other_site) = (new_site(), new_site());
    let limits = [
        limit(new_asset(), site, 0),
        limit(new_asset(), site, 1),
        limit(new_asset(), other_site, 2),
    ];
    store.put_limits(&limits).await?;
    let found = async |asset, site| -> Result<Vec<LimitId>, Broken> {
        let query = LimitQuery {
            asset,
            site,
            page: HistoryQuery::default(),
        };
        let found = store.limits(&query).await?.items;
        Ok(found.into_iter().map(|limit| limit.id).collect())
    };
    let [a, b, c] = [&limits[0], &limits[1], &limits[2]];
    same("all", &found(None, None).await?, &vec![c.id, b.id, a.id])?;
    same(
        "of a site",
        &found(None, Some(site)).await?,
        &vec![b.id, a.id],
    )?;
    same(
        "of an asset",
        &found(Some(a.asset_id), None).await?,
        &vec![a.id],
    )?;
    let neither = found(Some(a.asset_id), Some(other_site)).await?;
    same("of an asset on another site", &neither, &vec![])
}

async fn forgotten(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    let holds = PowerLimit {
        expires_at: None,
        ..limit(asset, site, 0)
    };
    let [old, young] = [limit(asset, site, 1), limit(asset, site, 2)];
    store
        .put_limits(&[holds.clone(), removed(&old, 10), removed(&young, 200)])
        .await?;
    let [on, past, late] = [0, 1, 2].map(|second| stop(StopScope::All, second));
    store
        .put_stops(&[on.clone(), ended(&past, 10), ended(&late, 200)])
        .await?;
    let mut retention = Retention::forever();
    store.prune(&retention, at(1_000_000)).await?;
    ensure!(
        store.limit(old.id).await?.is_some() && store.stop(past.id).await?.is_some(),
        "what is to be kept for ever was forgotten"
    );
    retention.limits = Some(Duration::from_secs(100));
    let pruned = store.prune(&retention, at(250)).await?;
    same("how many were forgotten", &pruned.limits, &2)?;
    let mut left = Vec::new();
    for id in [holds.id, old.id, young.id] {
        left.push(store.limit(id).await?.is_some());
    }
    for id in [on.id, past.id, late.id] {
        left.push(store.stop(id).await?.is_some());
    }
    same(
        "what is left",
        &left,
        &vec![true, false, true, true, false, true],
    )
}
