//! Orders whose end an operator asks for.

use std::collections::{BTreeMap, BTreeSet};

use derms_proto::{AssetId, DispatchId, DispatchStatus};
use uuid::Uuid;

use super::super::super::{Cancel, Order};
use super::super::connection::{Connection, Row};
use super::super::fault::Fault;
use super::super::statement::{Statement, portions};
use super::super::value::counter;
use super::rows::{self, Hold};

/// The most ids in one statement.
const MOST_IDS: usize = 1_000;

pub(in super::super) async fn cancel<C: Connection>(
    connection: &mut C,
    cancels: &[Cancel],
) -> Result<Vec<Order>, Fault> {
    hold_sites(connection, cancels).await?;
    let wanted = Wanted::find(connection, cancels).await?;
    let mut counters = hold_counters(connection, &wanted.assets).await?;
    let before = hold_orders(connection, &wanted).await?;
    let mut now = before.clone();
    let mut changed = BTreeSet::new();
    for cancel in cancels {
        let leaves = wanted.leaves(cancel.id);
        let open = |id: &DispatchId| {
            let order = now.get(id);
            order.is_some_and(|order| !order.dispatch.status.is_terminal())
        };
        if wanted.shares.contains_key(&cancel.id) && leaves.iter().any(open) {
            note_parent(connection, cancel).await?;
        }
        for id in leaves {
            if cancel_one(&mut now, id, cancel, &mut counters) {
                changed.insert(id);
            }
        }
    }
    let both = before.values().zip(now.values());
    let differ: Vec<_> = both.filter(|(before, now)| before != now).collect();
    rows::save(connection, &differ).await?;
    write_counters(connection, &counters).await?;
    let changed = changed.iter().filter_map(|id| now.get(id).cloned());
    Ok(changed.collect())
}

fn cancel_one(
    now: &mut BTreeMap<DispatchId, Order>,
    id: DispatchId,
    cancel: &Cancel,
    counters: &mut BTreeMap<AssetId, u64>,
) -> bool {
    let Some(order) = now.get(&id) else {
        return false;
    };
    let passed = now.values().any(|other| other.has_passed(order));
    let (Some(asset), Some(order)) = (order.dispatch.asset_id, now.get_mut(&id)) else {
        return false;
    };
    let counter = counters.entry(asset).or_default();
    let before = *counter;
    let changed = order.cancel(cancel, passed, counter);
    if *counter > before {
        // Nobody has seen the numbers of what waits, and they would be stale behind the release.
        let waiting = now.values_mut().filter(|order| {
            order.dispatch.asset_id == Some(asset)
                && order.dispatch.status == DispatchStatus::Pending
        });
        for order in waiting {
            *counter += 1;
            order.dispatch.revision = Some(*counter);
        }
    }
    changed
}

/// What is asked for.
struct Wanted {
    /// Orders for assets.
    orders: BTreeSet<DispatchId>,
    /// Of the site orders.
    shares: BTreeMap<DispatchId, Vec<DispatchId>>,
    assets: BTreeSet<AssetId>,
}

impl Wanted {
    async fn find<C: Connection>(connection: &mut C, cancels: &[Cancel]) -> Result<Self, Fault> {
        let mut this = Self {
            orders: BTreeSet::new(),
            shares: BTreeMap::new(),
            assets: BTreeSet::new(),
        };
        let ids: BTreeSet<Uuid> = cancels.iter().map(|cancel| cancel.id.uuid()).collect();
        let ids: Vec<Uuid> = ids.into_iter().collect();
        for column in ["id", "parent_id"] {
            for ids in ids.chunks(MOST_IDS) {
                let sql = format!("select id, parent_id, asset_id from dispatches where {column}");
                let statement = Statement::new(C::DIALECT, &sql).one_of(ids);
                for row in &connection.rows(statement).await? {
                    this.add(row, column == "parent_id")?;
                }
            }
        }
        Ok(this)
    }

    fn add(&mut self, row: &impl Row, is_share: bool) -> Result<(), Fault> {
        let id = DispatchId::new(row.uuid(0)?);
        let Some(asset) = row.opt_uuid(2)? else {
            self.shares.entry(id).or_default();
            return Ok(());
        };
        self.orders.insert(id);
        self.assets.insert(AssetId::new(asset));
        if is_share && let Some(parent) = row.opt_uuid(1)? {
            let shares = self.shares.entry(DispatchId::new(parent)).or_default();
            shares.push(id);
        }
        Ok(())
    }

    fn leaves(&self, id: DispatchId) -> Vec<DispatchId> {
        self.shares.get(&id).cloned().unwrap_or_else(|| vec![id])
    }
}

/// Holds the site orders that are asked for, before anything else: whoever adds shares to one holds it
/// first as well, so that no share is added unseen.
async fn hold_sites<C: Connection>(connection: &mut C, cancels: &[Cancel]) -> Result<(), Fault> {
    let ids: BTreeSet<Uuid> = cancels.iter().map(|cancel| cancel.id.uuid()).collect();
    let ids: Vec<Uuid> = ids.into_iter().collect();
    for ids in ids.chunks(MOST_IDS) {
        let statement = Statement::new(
            C::DIALECT,
            "select id from dispatches where asset_id is null and id",
        )
        .one_of(ids)
        .push(" order by id")
        .push(C::DIALECT.for_update());
        rows::ids(connection, statement).await?;
    }
    Ok(())
}

/// The highest revision of each asset; holds it, and by that all that commit orders for them.
pub(super) async fn hold_counters<C: Connection>(
    connection: &mut C,
    assets: &BTreeSet<AssetId>,
) -> Result<BTreeMap<AssetId, u64>, Fault> {
    let mut counters = BTreeMap::new();
    let ids: Vec<Uuid> = assets.iter().map(|asset| asset.uuid()).collect();
    for ids in ids.chunks(MOST_IDS) {
        let statement = Statement::new(
            C::DIALECT,
            "select asset_id, revision from revisions where asset_id",
        )
        .one_of(ids)
        .push(" order by asset_id")
        .push(C::DIALECT.for_update());
        for row in &connection.rows(statement).await? {
            counters.insert(AssetId::new(row.uuid(0)?), row.counter(1)?);
        }
    }
    Ok(counters)
}

/// What is asked for, and all that is open of its assets, in the order of ids.
async fn hold_orders<C: Connection>(
    connection: &mut C,
    wanted: &Wanted,
) -> Result<BTreeMap<DispatchId, Order>, Fault> {
    let mut ids = wanted.orders.clone();
    let assets: Vec<Uuid> = wanted.assets.iter().map(|asset| asset.uuid()).collect();
    for assets in assets.chunks(MOST_IDS) {
        let statement = Statement::new(
            C::DIALECT,
            "select id from dispatches where ended_at is null and asset_id",
        )
        .one_of(assets);
        ids.extend(rows::ids(connection, statement).await?);
    }
    let orders = rows::load(connection, &ids, Hold::Yes).await?;
    let by_id = orders.into_iter().map(|order| (order.dispatch.id, order));
    Ok(by_id.collect())
}

async fn note_parent<C: Connection>(connection: &mut C, cancel: &Cancel) -> Result<(), Fault> {
    let statement = Statement::new(C::DIALECT, "update dispatches set cancel_requested_at = ")
        .bind(cancel.at)
        .push(", cancelled_by = ")
        .bind(cancel.principal.clone())
        .push(" where cancel_requested_at is null and id = ")
        .bind(cancel.id);
    connection.run(statement).await.map(drop)
}

async fn write_counters<C: Connection>(
    connection: &mut C,
    counters: &BTreeMap<AssetId, u64>,
) -> Result<(), Fault> {
    let rows = counters
        .iter()
        .map(|(asset, revision)| vec![(*asset).into(), counter(*revision)]);
    for rows in portions(rows.collect()) {
        let statement = Statement::new(
            C::DIALECT,
            "insert into revisions (asset_id, revision) values ",
        )
        .rows(rows)
        .push(" on conflict (asset_id) do update set revision = excluded.revision");
        connection.run(statement).await?;
    }
    Ok(())
}
