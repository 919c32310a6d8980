//! Orders as rows: read with their steps, held, written back where they changed.

use std::collections::{BTreeSet, HashMap};

use derms_proto::{
    AgentId, AssetId, Dispatch, DispatchId, DispatchStatus, FollowUp, InstanceId, LogId, Power,
    SiteId, Transition,
};
use uuid::Uuid;

use super::super::super::{Carrier, Order};
use super::super::codes::{Code as _, name, named};
use super::super::connection::{Connection, Row};
use super::super::fault::Fault;
use super::super::statement::{Statement, portions};
use super::super::value::{Value, counter};

/// The most ids in one statement.
const MOST_IDS: usize = 1_000;

const COLUMNS: &str = "id, parent_id, asset_id, site_id, mw, duration_s, ttl_s, revision, status, \
    in_doubt, reason, text, applied_mw, created_at, expires_at, principal, split, carrier_agent, \
    carrier_instance, carrier_log, carrier_epoch, cancel_requested_at, cancelled_by, \
    release_revision, start_at, ramp_mw_per_min, follow_up, replaced";

/// Which orders are read, and whether others may change them meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    No,
    Yes,
}

/// The orders with these ids, as far as they are there, in the order of their ids. A site order is
/// read without its children.
pub(super) async fn load<C: Connection>(
    connection: &mut C,
    ids: &BTreeSet<DispatchId>,
    hold: Hold,
) -> Result<Vec<Order>, Fault> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let mut orders = Vec::new();
    for ids in ids.chunks(MOST_IDS) {
        let statement = Statement::new(C::DIALECT, "select ")
            .push(COLUMNS)
            .push(" from dispatches where id")
            .one_of(ids)
            .push(" order by id")
            .push(match hold {
                Hold::Yes => C::DIALECT.for_update(),
                Hold::No => "",
            });
        let rows = connection.rows(statement).await?;
        for row in &rows {
            orders.push(order(row)?);
        }
    }
    add_steps(connection, &mut orders).await?;
    Ok(orders)
}

/// The ids that a query finds.
pub(super) async fn ids<C: Connection>(
    connection: &mut C,
    statement: Statement,
) -> Result<BTreeSet<DispatchId>, Fault> {
    let rows = connection.rows(statement).await?;
    rows.iter()
        .map(|row| Ok(DispatchId::new(row.uuid(0)?)))
        .collect()
}

async fn add_steps<C: Connection>(connection: &mut C, orders: &mut [Order]) -> Result<(), Fault> {
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    for (index, order) in orders.iter().enumerate() {
        places.insert(order.dispatch.id.uuid(), index);
    }
    let ids: Vec<Uuid> = orders
        .iter()
        .map(|order| order.dispatch.id.uuid())
        .collect();
    for ids in ids.chunks(MOST_IDS) {
        let statement = Statement::new(
            C::DIALECT,
            "select dispatch_id, status, at, reported_at, reason, text, applied_mw, epoch \
             from transitions where dispatch_id",
        )
        .one_of(ids)
        .push(" order by dispatch_id, step");
        for row in &connection.rows(statement).await? {
            let order = places
                .get(&row.uuid(0)?)
                .and_then(|index| orders.get_mut(*index));
            if let Some(order) = order {
                order.dispatch.transitions.push(transition(row)?);
            }
        }
    }
    Ok(())
}

fn order(row: &impl Row) -> Result<Order, Fault> {
    let split = row.opt_json(16)?.map(serde_json::from_value).transpose();
    let follow_up = row.opt_json(26)?.map(serde_json::from_value).transpose();
    let follow_up =
        follow_up.map_err(|error| Fault::unreadable(format!("what follows: {error}")))?;
    let dispatch = Dispatch {
        start_at: row.opt_time(24)?,
        ramp_mw_per_min: row.opt_real(25)?,
        follow_up: follow_up.unwrap_or_default(),
        id: DispatchId::new(row.uuid(0)?),
        parent_id: row.opt_uuid(1)?.map(DispatchId::new),
        asset_id: row.opt_uuid(2)?.map(AssetId::new),
        site_id: SiteId::new(row.uuid(3)?),
        mw: Power::from_mw(row.real(4)?),
        duration_s: row.opt_real(5)?,
        ttl_s: row.real(6)?,
        revision: row.opt_counter(7)?,
        status: DispatchStatus::of(row.int(8)?)?,
        in_doubt: row.flag(9)?,
        reason: named(row.opt_text(10)?)?,
        text: row.opt_text(11)?,
        applied_mw: row.opt_real(12)?.map(Power::from_mw),
        created_at: row.time(13)?,
        expires_at: row.time(14)?,
        principal: row.opt_text(15)?,
        cancel_requested_at: row.opt_time(21)?,
        cancelled_by: row.opt_text(22)?,
        following: None,
        transitions: Vec::new(),
        split: split.map_err(|error| Fault::unreadable(format!("a split: {error}")))?,
        limited_to: None,
        replaced: row.flag(27)?,
        children: Vec::new(),
    };
    let carrier = match (row.opt_uuid(17)?, row.opt_uuid(18)?, row.opt_counter(20)?) {
        (Some(agent), Some(instance), Some(epoch)) => Some(Carrier {
            agent: AgentId::new(agent),
            instance: InstanceId::new(instance),
            report_log: row.opt_uuid(19)?.map(LogId::new),
            epoch,
        }),
        _ => None,
    };
    Ok(Order {
        dispatch,
        carrier,
        release: row.opt_counter(23)?,
    })
}

fn transition(row: &impl Row) -> Result<Transition, Fault> {
    Ok(Transition {
        status: DispatchStatus::of(row.int(1)?)?,
        at: row.time(2)?,
        reported_at: row.opt_time(3)?,
        reason: named(row.opt_text(4)?)?,
        text: row.opt_text(5)?,
        applied_mw: row.opt_real(6)?.map(Power::from_mw),
        epoch: row.opt_counter(7)?,
    })
}

/// Adds new orders with their steps.
pub(super) async fn insert<C: Connection>(
    connection: &mut C,
    orders: &[Order],
) -> Result<(), Fault> {
    let rows = orders.iter().map(|order| {
        let dispatch = &order.dispatch;
        let split = dispatch.split.as_ref();
        let split = split.and_then(|split| serde_json::to_value(split).ok());
        // Null: the default.
        let follow_up = Some(dispatch.follow_up).filter(|then| *then != FollowUp::Default);
        let follow_up = follow_up.and_then(|then| serde_json::to_value(then).ok());
        let mut row = vec![
            dispatch.id.into(),
            dispatch.parent_id.into(),
            dispatch.asset_id.into(),
            dispatch.site_id.into(),
            dispatch.mw.into(),
            dispatch.duration_s.into(),
            dispatch.ttl_s.into(),
            dispatch.created_at.into(),
            dispatch.expires_at.into(),
            dispatch.principal.clone().into(),
            split.into(),
            dispatch.start_at.into(),
            dispatch.ramp_mw_per_min.into(),
            follow_up.into(),
        ];
        row.extend(state(order));
        row
    });
    for rows in portions(rows.collect()) {
        let statement = Statement::new(
            C::DIALECT,
            "insert into dispatches (id, parent_id, asset_id, site_id, mw, duration_s, ttl_s, \
             created_at, expires_at, principal, split, start_at, ramp_mw_per_min, follow_up, revision, \
             status, in_doubt, reason, text, applied_mw, ended_at, carrier_agent, carrier_instance, \
             carrier_log, carrier_epoch, cancel_requested_at, cancelled_by, release_revision) values ",
        );
        connection.run(statement.rows(rows)).await?;
    }
    let steps = orders.iter().flat_map(|order| new_steps(None, order));
    write_steps(connection, steps.collect()).await
}

/// Writes what has changed since orders were loaded.
pub(super) async fn save<C: Connection>(
    connection: &mut C,
    changed: &[(&Order, &Order)],
) -> Result<(), Fault> {
    let rows = changed.iter().map(|(_, now)| {
        let mut row = vec![now.dispatch.id.into()];
        row.extend(state(now));
        row
    });
    for rows in portions(rows.collect()) {
        let statement = Statement::new(
            C::DIALECT,
            "update dispatches set revision = column2, status = column3, in_doubt = column4, \
             reason = column5, text = column6, applied_mw = column7, ended_at = column8, \
             carrier_agent = column9, carrier_instance = column10, carrier_log = column11, \
             carrier_epoch = column12, cancel_requested_at = column13, cancelled_by = column14, \
             release_revision = column15 from (values ",
        )
        .rows(rows)
        .push(") as changed where id = column1");
        connection.run(statement).await?;
    }
    let steps = changed
        .iter()
        .flat_map(|(before, now)| new_steps(Some(before), now));
    write_steps(connection, steps.collect()).await
}

/// What of an order changes during its life.
fn state(order: &Order) -> [Value; 14] {
    let dispatch = &order.dispatch;
    let last = dispatch.transitions.last();
    let ended_at = last.filter(|_| dispatch.status.is_terminal() && dispatch.asset_id.is_some());
    let carrier = order.carrier.as_ref();
    [
        Value::Int(dispatch.revision.map(super::super::value::saturated)),
        dispatch.status.code().into(),
        dispatch.in_doubt.into(),
        dispatch.reason.as_ref().and_then(name).into(),
        dispatch.text.clone().into(),
        dispatch.applied_mw.into(),
        ended_at.map(|step| step.at).into(),
        carrier.map(|carrier| carrier.agent).into(),
        carrier.map(|carrier| carrier.instance).into(),
        carrier.and_then(|carrier| carrier.report_log).into(),
        Value::Int(carrier.map(|carrier| super::super::value::saturated(carrier.epoch))),
        dispatch.cancel_requested_at.into(),
        dispatch.cancelled_by.clone().into(),
        Value::Int(order.release.map(super::super::value::saturated)),
    ]
}

/// The steps that are not stored; the newest may have taken the place of one that is.
fn new_steps(before: Option<&Order>, now: &Order) -> Vec<Vec<Value>> {
    let stored = before.map_or(&[][..], |order| &order.dispatch.transitions);
    let steps = now.dispatch.transitions.iter().enumerate();
    let new = steps.filter(|(index, step)| stored.get(*index) != Some(*step));
    new.map(|(index, step)| {
        vec![
            now.dispatch.id.into(),
            counter(index as u64),
            step.status.code().into(),
            step.at.into(),
            step.reported_at.into(),
            step.reason.as_ref().and_then(name).into(),
            step.text.clone().into(),
            step.applied_mw.into(),
            Value::Int(step.epoch.map(super::super::value::saturated)),
        ]
    })
    .collect()
}

async fn write_steps<C: Connection>(
    connection: &mut C,
    steps: Vec<Vec<Value>>,
) -> Result<(), Fault> {
    for rows in portions(steps) {
        let statement = Statement::new(
            C::DIALECT,
            "insert into transitions (dispatch_id, step, status, at, reported_at, reason, text, \
             applied_mw, epoch) values ",
        )
        .rows(rows)
        .push(
            " on conflict (dispatch_id, step) do update set status = excluded.status, \
             at = excluded.at, reported_at = excluded.reported_at, reason = excluded.reason, \
             text = excluded.text, applied_mw = excluded.applied_mw, epoch = excluded.epoch",
        );
        connection.run(statement).await?;
    }
    Ok(())
}
