//! Lists in pages.

use std::fmt::Debug;
use std::sync::Arc;

use derms_proto::{
    Availability, ControlSource, Cursor, Dispatch, DispatchStatus, Heartbeat, LogId, Page,
    Timestamp,
};

use super::super::{DispatchQuery, HistoryQuery, Store, StoreError, TelemetryQuery, time_of};
use super::Broken;
use super::kit::*;

sentences! {
    "sessions come in pages, newest first" => sessions,
    "measurements come in pages, newest first" => telemetry,
    "buckets come in pages, newest first" => buckets,
    "orders come in pages, newest first" => dispatches,
    "heartbeats come in pages, newest first" => heartbeats,
    "a cursor that is none of this list is `InvalidCursor`" => foreign_cursors,
    "orders are found by asset, by site and by status" => filters,
}

/// Checks a list of which `add` adds an item of the given second; two items of one second are
/// different items.
async fn paged<T: PartialEq + Clone + Debug>(
    add: impl AsyncFn(u64) -> Checked,
    list: impl AsyncFn(&HistoryQuery) -> Result<Page<T>, StoreError>,
    time: impl Fn(&T) -> Timestamp,
) -> Checked {
    same(
        "an empty list",
        &list(&HistoryQuery::default()).await?.items.len(),
        &0,
    )?;
    let seconds = [60, 0, 120, 240, 180, 120, 300];
    for second in seconds {
        add(second).await?;
    }
    let all = list(&HistoryQuery::default()).await?;
    same("the cursor of the last page", &all.next_cursor, &None)?;
    let all = all.items;
    let newest_first = all.windows(2).all(|pair| time(&pair[0]) >= time(&pair[1]));
    ensure!(newest_first, "the list is not newest first: {all:?}");

    // Newer items arrive between any two pages.
    let mut found = Vec::new();
    let mut query = HistoryQuery {
        limit: 2,
        ..HistoryQuery::default()
    };
    loop {
        let page = list(&query).await?;
        ensure!(
            page.items.len() <= 2,
            "a page of 2 holds {}",
            page.items.len()
        );
        found.extend(page.items);
        add(600 + 60 * found.len() as u64).await?;
        match page.next_cursor {
            None => break,
            cursor => query.cursor = cursor,
        }
        ensure!(found.len() <= all.len(), "the pages do not end");
    }
    same("all pages together", &found, &all)?;

    let range = HistoryQuery {
        from: at(60),
        to: at(240),
        limit: 100,
        cursor: None,
    };
    let inside = |item: &&T| (at(60)..at(240)).contains(&time(item));
    let wanted: Vec<T> = all.iter().filter(inside).cloned().collect();
    same(
        "a range with its start and without its end",
        &list(&range).await?.items,
        &wanted,
    )?;
    let mut exactly = HistoryQuery {
        limit: wanted.len(),
        ..range
    };
    let page = list(&exactly).await?;
    same(
        "a page that just holds all",
        &(page.items.len(), page.next_cursor),
        &(wanted.len(), None),
    )?;
    exactly.limit -= 1;
    exactly.cursor = list(&exactly).await?.next_cursor;
    let rest = list(&exactly).await?;
    let wanted = (wanted.into_iter().next_back(), None);
    same(
        "the rest of a range",
        &(rest.items.into_iter().next(), rest.next_cursor),
        &wanted,
    )
}

async fn sessions(store: Arc<dyn Store>) -> Checked {
    paged(
        async |second| {
            store
                .open_session(&record(new_agent(), at(second)), 0)
                .await?;
            Ok(())
        },
        async |query| store.sessions(query).await,
        |session| session.connected_at,
    )
    .await
}

async fn add_sample(store: &Arc<dyn Store>, asset: derms_proto::AssetId, second: u64) -> Checked {
    let mut append = samples(new_agent(), LogId::generate(), asset, 1..2);
    append.samples = vec![(1, measured(asset, second, 5_000, second as f64))];
    // Two of one second differ.
    append.samples[0].1.measurements.voltage_v = Some(append.agent.uuid().as_u128() as u32 as f64);
    Ok(store.append_telemetry(&[append]).await?)
}

async fn telemetry(store: Arc<dyn Store>) -> Checked {
    let asset = new_asset();
    add_sample(&store, new_asset(), 100).await?;
    paged(
        async |second| add_sample(&store, asset, second).await,
        async |query| {
            store
                .telemetry(&TelemetryQuery::new(asset, query.clone()))
                .await
        },
        time_of,
    )
    .await
}

async fn buckets(store: Arc<dyn Store>) -> Checked {
    let asset = new_asset();
    add_sample(&store, new_asset(), 100).await?;
    paged(
        async |second| add_sample(&store, asset, second).await,
        async |query| {
            let query = TelemetryQuery::new(asset, query.clone());
            store.telemetry_buckets(&query, 1).await
        },
        |bucket| bucket.from,
    )
    .await
}

async fn dispatches(store: Arc<dyn Store>) -> Checked {
    let site = new_site();
    paged(
        async |second| {
            let assets = [new_asset(), new_asset()];
            let order = if second % 120 == 0 {
                site_order(site, &assets, second)
            } else {
                new_order(assets[0], site, second)
            };
            commit(&store, &order).await?;
            Ok(())
        },
        async |query| {
            let page = query.clone();
            let query = DispatchQuery {
                page,
                ..DispatchQuery::default()
            };
            store.dispatches(&query).await
        },
        |dispatch| dispatch.created_at,
    )
    .await
}

async fn heartbeats(store: Arc<dyn Store>) -> Checked {
    let asset = new_asset();
    paged(
        async |second| {
            let heartbeat = Heartbeat {
                asset_id: asset,
                agent_id: new_agent(),
                epoch: 1,
                received_at: at(second),
                agent_time: None,
                uptime_s: None,
                outbox_depth: 0,
                dropped_samples: 0,
                availability: Availability::Available,
                control: ControlSource::Default,
                control_mw: None,
                read_errors: 0,
            };
            Ok(store.append_heartbeats(&[heartbeat]).await?)
        },
        async |query| store.heartbeats(asset, query).await,
        |heartbeat| heartbeat.received_at,
    )
    .await
}

async fn foreign_cursors(store: Arc<dyn Store>) -> Checked {
    let asset = new_asset();
    for second in 0..3 {
        store
            .open_session(&record(new_agent(), at(second)), 0)
            .await?;
        add_sample(&store, asset, second).await?;
        commit(&store, &new_order(asset, new_site(), second)).await?;
    }
    let one = HistoryQuery {
        limit: 1,
        ..HistoryQuery::default()
    };
    let of_telemetry = store
        .telemetry(&TelemetryQuery::new(asset, one.clone()))
        .await?;
    let of_sessions = store.sessions(&one).await?.next_cursor;
    let with = |cursor: Option<Cursor>| HistoryQuery {
        cursor,
        ..HistoryQuery::default()
    };
    for text in [
        "",
        "0",
        "nonsense",
        "'; drop table dispatches; --",
        "ünïcödé \u{0}",
    ] {
        let page = with(Some(Cursor::new(text)));
        refused(text, store.sessions(&page).await)?;
        refused(text, store.heartbeats(asset, &page).await)?;
        let query = TelemetryQuery::new(asset, page.clone());
        refused(text, store.telemetry(&query).await)?;
        refused(text, store.telemetry_buckets(&query, 60).await)?;
        let query = DispatchQuery {
            page,
            ..DispatchQuery::default()
        };
        refused(text, store.dispatches(&query).await)?;
    }
    let query = DispatchQuery {
        page: with(of_sessions.clone()),
        ..DispatchQuery::default()
    };
    refused("of sessions", store.dispatches(&query).await)?;
    let query = TelemetryQuery::new(asset, with(of_sessions));
    refused("of sessions", store.telemetry(&query).await)?;
    refused(
        "of telemetry",
        store.sessions(&with(of_telemetry.next_cursor)).await,
    )
}

fn refused<T: Debug>(cursor: &str, result: Result<Page<T>, StoreError>) -> Checked {
    match result {
        Err(StoreError::InvalidCursor) => Ok(()),
        other => Err(Broken::Otherwise(format!(
            "the cursor `{cursor}` gave {other:?}"
        ))),
    }
}

async fn filters(store: Arc<dyn Store>) -> Checked {
    let (asset, other, site, elsewhere) = (new_asset(), new_asset(), new_site(), new_site());
    let (old, _) = commit(&store, &new_order(asset, site, 0)).await?;
    let (parent, _) = commit(&store, &site_order(site, &[asset, other], 1)).await?;
    let (far, _) = commit(&store, &new_order(new_asset(), elsewhere, 2)).await?;
    let share = parent
        .children
        .iter()
        .find(|child| child.asset_id == Some(asset));
    let share = share.map_or(parent.id, |share| share.id);
    let all = DispatchQuery::default;
    let cases = [
        ("all", all(), vec![far.id, parent.id, old.id]),
        (
            "of an asset, its share included",
            DispatchQuery {
                asset: Some(asset),
                ..all()
            },
            vec![share, old.id],
        ),
        (
            "of a site",
            DispatchQuery {
                site: Some(site),
                ..all()
            },
            vec![parent.id, old.id],
        ),
        (
            "of an asset in another site",
            DispatchQuery {
                asset: Some(asset),
                site: Some(elsewhere),
                ..all()
            },
            vec![],
        ),
        (
            "with a status",
            DispatchQuery {
                status: Some(DispatchStatus::Superseded),
                ..all()
            },
            vec![old.id],
        ),
        (
            "of an asset with a status",
            DispatchQuery {
                asset: Some(asset),
                status: Some(DispatchStatus::Pending),
                ..all()
            },
            vec![share],
        ),
        (
            "of an unknown asset",
            DispatchQuery {
                asset: Some(new_asset()),
                ..all()
            },
            vec![],
        ),
    ];
    for (name, query, wanted) in cases {
        let found: Vec<Dispatch> = store.dispatches(&query).await?.items;
        let ids: Vec<_> = found.iter().map(|dispatch| dispatch.id).collect();
        same(name, &ids, &wanted)?;
        for dispatch in found {
            same(name, &dispatch, &stored(&store, dispatch.id).await?)?;
        }
    }
    Ok(())
}
