//! New orders: their key, their revisions, and what they take the place of.

use std::collections::BTreeMap;

use derms_proto::{AssetId, Dispatch, DispatchId, DispatchStatus};
use uuid::Uuid;

use super::super::super::{Commit, Idempotency, MAX_COUNTER, NewOrder, Order, summarise};
use super::super::codes::Code as _;
use super::super::connection::{Connection, Row};
use super::super::fault::Fault;
use super::super::statement::{Statement, portions};
use super::super::value::saturated;
use super::lists;
use super::rows::{self, Hold};

pub(in super::super) async fn commit<C: Connection>(
    connection: &mut C,
    new: &NewOrder,
) -> Result<Commit, Fault> {
    if let Some(known) = lists::dispatch(connection, new.dispatch.id).await? {
        return Ok(Commit::Repeated(Box::new(known)));
    }
    if let Some(idempotency) = &new.idempotency
        && !take_key(connection, idempotency, new.dispatch.id).await?
    {
        let found = committed(connection, idempotency).await?;
        return found.ok_or_else(|| Fault::unreadable("a key has no order"));
    }
    let mut root = new.dispatch.clone();
    let leaves = if root.asset_id.is_some() {
        vec![root.clone()]
    } else {
        std::mem::take(&mut root.children)
    };
    let mut revisions = next_revisions(connection, &leaves).await?;
    let superseded = supersede(connection, &leaves).await?;

    let mut orders = Vec::new();
    for leaf in leaves {
        let revision = leaf.asset_id.and_then(|asset| revisions.get_mut(&asset));
        let revision = revision.ok_or_else(|| Fault::unreadable("a share is of no asset"))?;
        orders.push(Order::committed(leaf, *revision));
        *revision += 1;
    }
    let dispatch = if root.asset_id.is_some() {
        rows::insert(connection, &orders).await?;
        orders.pop().map_or(root, |order| order.dispatch)
    } else {
        let parent = Order {
            dispatch: root.clone(),
            carrier: None,
            release: None,
        };
        let all: Vec<Order> = std::iter::once(parent)
            .chain(orders.iter().cloned())
            .collect();
        rows::insert(connection, &all).await?;
        root.children = orders.into_iter().map(|order| order.dispatch).collect();
        summarise(&mut root);
        root
    };
    Ok(Commit::New {
        dispatch: Box::new(dispatch),
        superseded,
    })
}

/// `false`: somebody has it. Waits for a transaction that is about to take it.
async fn take_key<C: Connection>(
    connection: &mut C,
    idempotency: &Idempotency,
    id: DispatchId,
) -> Result<bool, Fault> {
    let statement = Statement::new(
        C::DIALECT,
        "insert into idempotency_keys (key, fingerprint, dispatch_id) values ",
    )
    .row([
        idempotency.key.clone().into(),
        idempotency.fingerprint.clone().into(),
        id.into(),
    ])
    .push(" on conflict (key) do nothing");
    Ok(connection.run(statement).await? > 0)
}

pub(in super::super) async fn committed<C: Connection>(
    connection: &mut C,
    idempotency: &Idempotency,
) -> Result<Option<Commit>, Fault> {
    let statement = Statement::new(C::DIALECT, "select fingerprint = ")
        .bind(idempotency.fingerprint.clone())
        .push(", dispatch_id from idempotency_keys where key = ")
        .bind(idempotency.key.clone());
    let rows = connection.rows(statement).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    if !row.flag(0)? {
        return Ok(Some(Commit::Conflict));
    }
    let dispatch = lists::dispatch(connection, DispatchId::new(row.uuid(1)?)).await?;
    Ok(dispatch.map(|dispatch| Commit::Repeated(Box::new(dispatch))))
}

/// The next revision of each asset; holds the counters, and by that all that commit orders for
/// them.
pub(super) async fn next_revisions<C: Connection>(
    connection: &mut C,
    leaves: &[Dispatch],
) -> Result<BTreeMap<AssetId, u64>, Fault> {
    let mut wanted: BTreeMap<AssetId, i64> = BTreeMap::new();
    for asset in leaves.iter().filter_map(|leaf| leaf.asset_id) {
        *wanted.entry(asset).or_default() += 1;
    }
    let rows: Vec<Vec<_>> = wanted
        .iter()
        .map(|(asset, count)| vec![(*asset).into(), (*count).into()])
        .collect();
    let mut next = BTreeMap::new();
    for rows in portions(rows) {
        let statement = Statement::new(
            C::DIALECT,
            "insert into revisions (asset_id, revision) values ",
        )
        .rows(rows)
        .push(
            " on conflict (asset_id) do update set revision = revisions.revision + \
                 excluded.revision returning asset_id, revision",
        );
        for row in &connection.rows(statement).await? {
            let asset = AssetId::new(row.uuid(0)?);
            let count = wanted.get(&asset).copied().unwrap_or(1);
            next.insert(
                asset,
                (row.counter(1)? + 1).saturating_sub(count.unsigned_abs()),
            );
        }
    }
    Ok(next)
}

/// What waits for these assets steps back.
pub(super) async fn supersede<C: Connection>(
    connection: &mut C,
    leaves: &[Dispatch],
) -> Result<Vec<Dispatch>, Fault> {
    let assets: Vec<Uuid> = leaves
        .iter()
        .filter_map(|leaf| leaf.asset_id)
        .map(AssetId::uuid)
        .collect();
    let statement = Statement::new(
        C::DIALECT,
        "select id from dispatches where ended_at is null and status = ",
    )
    .bind(DispatchStatus::Pending.code())
    .push(" and asset_id")
    .one_of(&assets);
    let ids = rows::ids(connection, statement).await?;
    let before = rows::load(connection, &ids, Hold::Yes).await?;
    let mut now = before.clone();
    let mut superseded = Vec::new();
    for order in &mut now {
        let newer = leaves
            .iter()
            .find(|leaf| leaf.asset_id == order.dispatch.asset_id);
        if let Some(newer) = newer
            && order.supersede(newer)
        {
            superseded.push(order.dispatch.clone());
        }
    }
    let both = before.iter().zip(&now);
    let changed: Vec<_> = both.filter(|(before, now)| before != now).collect();
    rows::save(connection, &changed).await?;
    Ok(superseded)
}

pub(in super::super) async fn revisions<C: Connection>(
    connection: &mut C,
    assets: &[AssetId],
) -> Result<Vec<u64>, Fault> {
    let mut known = BTreeMap::new();
    let ids: Vec<Uuid> = assets.iter().map(|asset| asset.uuid()).collect();
    for ids in ids.chunks(1_000) {
        let statement = Statement::new(
            C::DIALECT,
            "select asset_id, revision from revisions where asset_id",
        )
        .one_of(ids);
        for row in &connection.rows(statement).await? {
            known.insert(row.uuid(0)?, row.counter(1)?);
        }
    }
    let revision = |id| known.get(id).copied().unwrap_or(0);
    Ok(ids.iter().map(revision).collect())
}

pub(in super::super) async fn raise_revision<C: Connection>(
    connection: &mut C,
    asset: AssetId,
    at_least: u64,
) -> Result<(), Fault> {
    let at_least = at_least.min(MAX_COUNTER);
    let statement = Statement::new(
        C::DIALECT,
        "insert into revisions (asset_id, revision) values (",
    )
    .bind(asset)
    .push(", ")
    .bind(saturated(at_least))
    .push(
        ") on conflict (asset_id) do update set revision = case when revisions.revision > \
             excluded.revision then revisions.revision else excluded.revision end \
             returning revision",
    );
    let rows = connection.rows(statement).await?;
    let raised = rows
        .first()
        .ok_or_else(|| Fault::unreadable("a counter is gone"))?
        .counter(0)?;
    // Nobody has seen the number of an order that waits.
    let statement = Statement::new(
        C::DIALECT,
        "select id from dispatches where ended_at is null and status = ",
    )
    .bind(DispatchStatus::Pending.code())
    .push(" and revision <= ")
    .bind(saturated(at_least))
    .push(" and asset_id = ")
    .bind(asset);
    let ids = rows::ids(connection, statement).await?;
    let before = rows::load(connection, &ids, Hold::Yes).await?;
    // Sent meanwhile, it keeps its number.
    let mut before: Vec<Order> = before
        .into_iter()
        .filter(|order| order.dispatch.status == DispatchStatus::Pending)
        .collect();
    // Several wait if each is for another time: they keep their order.
    before.sort_by_key(|order| order.dispatch.revision);
    if before.is_empty() {
        return Ok(());
    }
    let mut now = before.clone();
    let mut revision = raised;
    for order in &mut now {
        revision += 1;
        order.dispatch.revision = Some(revision);
    }
    let changed: Vec<_> = before.iter().zip(&now).collect();
    rows::save(connection, &changed).await?;
    let statement = Statement::new(C::DIALECT, "update revisions set revision = ")
        .bind(saturated(revision))
        .push(" where asset_id = ")
        .bind(asset);
    connection.run(statement).await?;
    Ok(())
}
