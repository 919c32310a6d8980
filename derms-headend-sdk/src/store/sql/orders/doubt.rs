//! Which orders are in doubt, as sessions end and agents come back.

use std::collections::BTreeSet;

use derms_proto::{AgentId, AssetId, DispatchId};
use uuid::Uuid;

use super::super::super::{Order, SessionEnd};
use super::super::connection::{Connection, Row};
use super::super::fault::Fault;
use super::super::sessions;
use super::super::statement::Statement;
use super::super::value::saturated;
use super::held::Held;
use super::rows;

/// Open orders that are carried and not in doubt.
const CARRIED: &str = "select id from dispatches where ended_at is null and carrier_agent is not null and not in_doubt";

pub(in super::super) async fn mark<C: Connection>(
    connection: &mut C,
    agent: AgentId,
    epoch: u64,
) -> Result<Vec<Order>, Fault> {
    let statement = Statement::new(
        C::DIALECT,
        "insert into agents (id, epoch, ended_epoch) values (",
    )
    .bind(agent)
    .push(", 0, ")
    .bind(saturated(epoch))
    .push(
        ") on conflict (id) do update set ended_epoch = case when agents.ended_epoch > \
             excluded.ended_epoch then agents.ended_epoch else excluded.ended_epoch end \
             returning ended_epoch",
    );
    let rows = connection.rows(statement).await?;
    let ended = rows
        .first()
        .ok_or_else(|| Fault::unreadable("an agent is gone"))?
        .counter(0)?;
    let statement = Statement::new(C::DIALECT, CARRIED)
        .push(" and carrier_agent = ")
        .bind(agent)
        .push(" and carrier_epoch <= ")
        .bind(saturated(ended));
    let ids = rows::ids(connection, statement).await?;
    let doubt = |order: &mut Order, ended| order.doubt(ended);
    put_in_doubt(connection, &ids, BTreeSet::from([agent]), doubt).await
}

pub(in super::super) async fn mark_dropped<C: Connection>(
    connection: &mut C,
    agent: AgentId,
    epoch: u64,
    assets: &[AssetId],
) -> Result<Vec<Order>, Fault> {
    let assets: Vec<Uuid> = assets.iter().map(|asset| asset.uuid()).collect();
    let mut ids = BTreeSet::new();
    for assets in assets.chunks(1_000) {
        let statement = Statement::new(C::DIALECT, CARRIED)
            .push(" and carrier_agent = ")
            .bind(agent)
            .push(" and asset_id")
            .one_of(assets);
        ids.extend(rows::ids(connection, statement).await?);
    }
    let doubt = |order: &mut Order, _| order.drop_out(agent, epoch);
    put_in_doubt(connection, &ids, BTreeSet::from([agent]), doubt).await
}

pub(in super::super) async fn abandon<C: Connection>(
    connection: &mut C,
    end: &SessionEnd,
) -> Result<Vec<Order>, Fault> {
    let statement = Statement::new(C::DIALECT, "select id from agents order by id")
        .push(C::DIALECT.for_update());
    connection.rows(statement).await?;
    sessions::close_all(connection, end).await?;
    // Every epoch that was given is over, and every one that carries an order.
    let newest = "(select coalesce(max(carrier_epoch), 0) from dispatches where carrier_agent = \
                  agents.id and ended_at is null)";
    for given in ["epoch", newest] {
        let statement = Statement::new(C::DIALECT, "update agents set ended_epoch = ")
            .push(given)
            .push(" where ended_epoch < ")
            .push(given);
        connection.run(statement).await?;
    }
    let ids = rows::ids(connection, Statement::new(C::DIALECT, CARRIED)).await?;
    let doubt = |order: &mut Order, ended| order.doubt(ended);
    put_in_doubt(connection, &ids, BTreeSet::new(), doubt).await
}

async fn put_in_doubt<C: Connection>(
    connection: &mut C,
    ids: &BTreeSet<DispatchId>,
    agents: BTreeSet<AgentId>,
    doubt: impl Fn(&mut Order, u64) -> bool,
) -> Result<Vec<Order>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut held = Held::take(connection, ids, agents).await?;
    let marked = ids.iter().filter_map(|id| {
        let (order, ended) = held.order(*id)?;
        doubt(order, ended).then(|| order.clone())
    });
    let marked = marked.collect();
    held.save(connection).await?;
    Ok(marked)
}

pub(in super::super) async fn confirm<C: Connection>(
    connection: &mut C,
    agent: AgentId,
    epoch: u64,
    in_force: &[(AssetId, DispatchId)],
) -> Result<Vec<Order>, Fault> {
    let ids: BTreeSet<DispatchId> = in_force.iter().map(|(_, id)| *id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut held = Held::take(connection, &ids, BTreeSet::from([agent])).await?;
    let confirmed = in_force.iter().filter_map(|(asset, id)| {
        let (order, ended) = held.order(*id)?;
        order
            .confirm(agent, *asset, epoch, ended)
            .then(|| order.clone())
    });
    let confirmed = confirmed.collect();
    held.save(connection).await?;
    Ok(confirmed)
}
