//! Orders as they are read.

use std::collections::{BTreeMap, BTreeSet};

use derms_proto::{AssetId, Dispatch, DispatchId, DispatchStatus, Page};
use uuid::Uuid;

use super::super::super::page::{self, List, Place};
use super::super::super::{DispatchQuery, Order, summarise};
use super::super::codes::Code as _;
use super::super::connection::{Connection, Row};
use super::super::fault::Fault;
use super::super::statement::Statement;
use super::rows::{self, Hold};

pub(in super::super) async fn dispatch<C: Connection>(
    connection: &mut C,
    id: DispatchId,
) -> Result<Option<Dispatch>, Fault> {
    Ok(whole(connection, &BTreeSet::from([id])).await?.remove(&id))
}

/// Orders with their children.
async fn whole<C: Connection>(
    connection: &mut C,
    ids: &BTreeSet<DispatchId>,
) -> Result<BTreeMap<DispatchId, Dispatch>, Fault> {
    let orders = rows::load(connection, ids, Hold::No).await?;
    let mut found: BTreeMap<DispatchId, Dispatch> = orders
        .into_iter()
        .map(|order| (order.dispatch.id, order.dispatch))
        .collect();
    let parents = found
        .values()
        .filter(|dispatch| dispatch.asset_id.is_none());
    let parents: Vec<Uuid> = parents.map(|parent| parent.id.uuid()).collect();
    let mut children = Vec::new();
    for parents in parents.chunks(1_000) {
        let statement =
            Statement::new(C::DIALECT, "select id from dispatches where parent_id").one_of(parents);
        let ids = rows::ids(connection, statement).await?;
        children.extend(rows::load(connection, &ids, Hold::No).await?);
    }
    children.sort_by_key(|child| (child.dispatch.asset_id, child.dispatch.id));
    for child in children {
        let parent = child.dispatch.parent_id.and_then(|id| found.get_mut(&id));
        if let Some(parent) = parent {
            parent.children.push(child.dispatch);
        }
    }
    for parent in found
        .values_mut()
        .filter(|dispatch| dispatch.asset_id.is_none())
    {
        summarise(parent);
    }
    Ok(found)
}

pub(in super::super) async fn dispatches<C: Connection>(
    connection: &mut C,
    query: &DispatchQuery,
) -> Result<Page<Dispatch>, Fault> {
    let range = page::range(List::Dispatches, &query.page)?;
    let mut statement =
        Statement::new(C::DIALECT, "select id, created_at from dispatches d where ");
    statement = match query.asset {
        Some(asset) => statement.push("asset_id = ").bind(asset),
        None => statement.push("parent_id is null"),
    };
    if let Some(site) = query.site {
        statement = statement.push(" and site_id = ").bind(site);
    }
    if let Some(status) = query.status {
        // The least of its parts is the status of a site order, by the choice of the numbers; of
        // those that count: `Dispatch::counts_among`.
        statement = statement
            .push(
                " and case when asset_id is null then coalesce((select min(status) from \
                 dispatches c where c.parent_id = d.id and (c.ended_at is null or not (c.replaced = ",
            )
            .bind(true)
            .push(" or c.status = ")
            .bind(DispatchStatus::Superseded.code())
            .push(
                " and exists (select 1 from dispatches l where l.parent_id = c.parent_id and \
                 l.asset_id = c.asset_id and l.revision > c.revision)))), status) else status end = ",
            )
            .bind(status.code());
    }
    let statement = statement
        .push(" and ")
        .newest_first("created_at", &range, query.page.limit);
    let found = connection.rows(statement).await?;
    let places: Vec<Place> = found
        .iter()
        .map(|row| {
            Ok(Place {
                at: row.time(1)?,
                id: row.uuid(0)?.as_u128(),
                serial: 0,
            })
        })
        .collect::<Result<_, Fault>>()?;
    let page = page::cut(
        List::Dispatches,
        query.page.limit,
        places.into_iter().map(|place| (place, place)),
    );
    let id = |place: &Place| DispatchId::new(Uuid::from_u128(place.id));
    let mut all = whole(connection, &page.items.iter().map(id).collect()).await?;
    let items = page.items.iter().filter_map(|place| all.remove(&id(place)));
    Ok(Page {
        items: items.collect(),
        next_cursor: page.next_cursor,
    })
}

pub(in super::super) async fn open<C: Connection>(
    connection: &mut C,
    assets: Option<&[AssetId]>,
) -> Result<Vec<Order>, Fault> {
    let all = "select id from dispatches where ended_at is null and asset_id is not null";
    let mut ids = BTreeSet::new();
    match assets {
        None => ids = rows::ids(connection, Statement::new(C::DIALECT, all)).await?,
        Some(assets) => {
            let assets: Vec<Uuid> = assets.iter().map(|asset| asset.uuid()).collect();
            for assets in assets.chunks(1_000) {
                let statement = Statement::new(C::DIALECT, all)
                    .push(" and asset_id")
                    .one_of(assets);
                ids.extend(rows::ids(connection, statement).await?);
            }
        }
    }
    let mut orders = rows::load(connection, &ids, Hold::No).await?;
    orders.sort_by_key(|order| std::cmp::Reverse(order.dispatch.revision));
    Ok(orders)
}
