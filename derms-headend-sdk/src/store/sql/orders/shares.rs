//! Shares that are added to a site order.

use std::collections::BTreeSet;

use derms_proto::{AssetId, DispatchId};
use uuid::Uuid;

use super::super::super::{AddedShares, NewShares, Order};
use super::super::connection::{Connection, Row as _};
use super::super::fault::Fault;
use super::super::statement::Statement;
use super::{cancel, commit, rows};

pub(in super::super) async fn add_shares<C: Connection>(
    connection: &mut C,
    new: &NewShares,
) -> Result<Option<AddedShares>, Fault> {
    // Before the counters, as a cancel of the site order does.
    if !is_open(connection, new).await? {
        return Ok(None);
    }
    let assets: Vec<AssetId> = new
        .shares
        .iter()
        .filter_map(|share| share.asset_id)
        .collect();
    let held: BTreeSet<AssetId> = assets.iter().copied().collect();
    let counters = cancel::hold_counters(connection, &held).await?;
    let now = assets
        .iter()
        .map(|asset| counters.get(asset).copied().unwrap_or(0));
    if !now.eq(new.seen.iter().copied()) {
        return Ok(None);
    }
    if new.shares.is_empty() {
        replace(connection, new).await?;
        return Ok(Some(AddedShares {
            shares: Vec::new(),
            superseded: Vec::new(),
        }));
    }
    let mut revisions = commit::next_revisions(connection, &new.shares).await?;
    let superseded = commit::supersede(connection, &new.shares).await?;
    let mut orders = Vec::new();
    for share in &new.shares {
        let revision = share.asset_id.and_then(|asset| revisions.get_mut(&asset));
        let revision = revision.ok_or_else(|| Fault::unreadable("a share is of no asset"))?;
        orders.push(Order::committed(share.clone(), *revision));
        *revision += 1;
    }
    rows::insert(connection, &orders).await?;
    replace(connection, new).await?;
    Ok(Some(AddedShares {
        shares: orders.into_iter().map(|order| order.dispatch).collect(),
        superseded,
    }))
}

/// Whether the site order is there and nobody asked for its end; held until the transaction ends.
async fn is_open<C: Connection>(connection: &mut C, new: &NewShares) -> Result<bool, Fault> {
    let statement = Statement::new(
        C::DIALECT,
        "select id from dispatches where asset_id is null and cancel_requested_at is null and id = ",
    )
    .bind(new.parent)
    .push(C::DIALECT.for_update());
    let rows = connection.rows(statement).await?;
    rows.first()
        .map_or(Ok(false), |row| row.uuid(0).map(|_| true))
}

async fn replace<C: Connection>(connection: &mut C, new: &NewShares) -> Result<(), Fault> {
    let statement = Statement::new(C::DIALECT, "update dispatches set split = ")
        .bind(serde_json::to_value(&new.split).ok())
        .push(" where id = ")
        .bind(new.parent);
    connection.run(statement).await?;
    let marked = Statement::new(C::DIALECT, "select id from dispatches where parent_id = ")
        .bind(new.parent)
        .push(" and replaced = ")
        .bind(true);
    let marked = rows::ids(connection, marked).await?;
    let replaced: BTreeSet<DispatchId> = new.replaced.iter().copied().collect();
    for (ids, mark) in [
        (marked.difference(&replaced), false),
        (replaced.difference(&marked), true),
    ] {
        let ids: Vec<Uuid> = ids.map(|id| id.uuid()).collect();
        for ids in ids.chunks(1_000) {
            let statement = Statement::new(C::DIALECT, "update dispatches set replaced = ")
                .bind(mark)
                .push(" where id")
                .one_of(ids);
            connection.run(statement).await?;
        }
    }
    Ok(())
}
