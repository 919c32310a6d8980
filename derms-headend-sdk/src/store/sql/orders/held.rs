//! Orders that a transaction holds while it changes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use derms_proto::{AgentId, DispatchId};
use uuid::Uuid;

use super::super::super::Order;
use super::super::connection::{Connection, Row};
use super::super::fault::Fault;
use super::super::statement::{Statement, portions};
use super::rows::{self, Hold};

/// Orders as they were and as they are, and what is over of the agents that carry them. Until the
/// transaction ends nobody else changes either: an order that is handed to a session while that
/// ends must come out in doubt, whoever is first.
#[derive(Debug)]
pub(super) struct Held {
    before: BTreeMap<DispatchId, Order>,
    now: BTreeMap<DispatchId, Order>,
    ended: HashMap<AgentId, u64>,
}

impl Held {
    /// Takes these orders, as far as they are there, and these agents and those that carry them.
    pub(super) async fn take<C: Connection>(
        connection: &mut C,
        ids: &BTreeSet<DispatchId>,
        mut agents: BTreeSet<AgentId>,
    ) -> Result<Self, Fault> {
        carriers(connection, ids, &mut agents).await?;
        loop {
            let ended = hold_agents(connection, &agents).await?;
            let orders = rows::load(connection, ids, Hold::Yes).await?;
            let carriers = orders.iter().filter_map(|order| order.carrier);
            let more: Vec<AgentId> = carriers
                .map(|carrier| carrier.agent)
                .filter(|agent| !ended.contains_key(agent))
                .collect();
            // Handed to another agent since it was looked for; that happens once in a blue moon.
            if !more.is_empty() {
                agents.extend(more);
                continue;
            }
            let now: BTreeMap<_, _> = orders
                .into_iter()
                .filter(|order| order.dispatch.asset_id.is_some())
                .map(|order| (order.dispatch.id, order))
                .collect();
            return Ok(Self {
                before: now.clone(),
                now,
                ended,
            });
        }
    }

    /// The newest epoch of this agent that is over.
    pub(super) fn ended(&self, agent: AgentId) -> u64 {
        self.ended.get(&agent).copied().unwrap_or(0)
    }

    /// An order, and the newest epoch of its carrier's agent that is over.
    pub(super) fn order(&mut self, id: DispatchId) -> Option<(&mut Order, u64)> {
        let order = self.now.get_mut(&id)?;
        let carrier = order
            .carrier
            .and_then(|carrier| self.ended.get(&carrier.agent));
        Some((order, carrier.copied().unwrap_or(0)))
    }

    /// Writes what has changed.
    pub(super) async fn save<C: Connection>(&self, connection: &mut C) -> Result<(), Fault> {
        let both = self.before.values().zip(self.now.values());
        let changed: Vec<_> = both.filter(|(before, now)| before != now).collect();
        rows::save(connection, &changed).await
    }
}

/// Adds the agents that carry these orders.
async fn carriers<C: Connection>(
    connection: &mut C,
    ids: &BTreeSet<DispatchId>,
    agents: &mut BTreeSet<AgentId>,
) -> Result<(), Fault> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    for ids in ids.chunks(1_000) {
        let statement = Statement::new(
            C::DIALECT,
            "select distinct carrier_agent from dispatches where carrier_agent is not null and id",
        )
        .one_of(ids);
        for row in &connection.rows(statement).await? {
            agents.insert(AgentId::new(row.uuid(0)?));
        }
    }
    Ok(())
}

/// Keeps what is over of these agents as it is.
async fn hold_agents<C: Connection>(
    connection: &mut C,
    agents: &BTreeSet<AgentId>,
) -> Result<HashMap<AgentId, u64>, Fault> {
    let mut ended = HashMap::new();
    let ids: Vec<Uuid> = agents.iter().map(|agent| agent.uuid()).collect();
    for ids in ids.chunks(1_000) {
        let mut found = held(connection, ids).await?;
        let missing: Vec<Vec<_>> = ids
            .iter()
            .filter(|id| !found.contains_key(&AgentId::new(**id)))
            .map(|id| vec![(*id).into(), 0.into(), 0.into()])
            .collect();
        if !missing.is_empty() {
            // What is not there can't be held.
            for rows in portions(missing) {
                let statement = Statement::new(
                    C::DIALECT,
                    "insert into agents (id, epoch, ended_epoch) values ",
                )
                .rows(rows)
                .push(" on conflict (id) do nothing");
                connection.run(statement).await?;
            }
            found = held(connection, ids).await?;
        }
        ended.extend(found);
    }
    Ok(ended)
}

async fn held<C: Connection>(
    connection: &mut C,
    ids: &[Uuid],
) -> Result<HashMap<AgentId, u64>, Fault> {
    let statement = Statement::new(C::DIALECT, "select id, ended_epoch from agents where id")
        .one_of(ids)
        .push(" order by id")
        .push(C::DIALECT.for_share());
    let rows = connection.rows(statement).await?;
    rows.iter()
        .map(|row| Ok((AgentId::new(row.uuid(0)?), row.counter(1)?)))
        .collect()
}
