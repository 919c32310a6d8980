//! Sessions, epochs and heartbeats.

use derms_proto::{AgentId, AssetId, Heartbeat, InstanceId, Page, Power, SessionRecord, Timestamp};
use uuid::Uuid;

use super::super::page::{self, List, Place};
use super::super::{HistoryQuery, MAX_COUNTER, SessionEnd};
use super::assets::{Asset, Assets};
use super::codes::{Code as _, name, named};
use super::connection::{Connection, Row};
use super::fault::Fault;
use super::statement::{Statement, portions};
use super::value::{Value, counter, saturated};

pub(super) async fn open<C: Connection>(
    connection: &mut C,
    session: &SessionRecord,
    at_least: u64,
) -> Result<u64, Fault> {
    let at_least = saturated(at_least.min(MAX_COUNTER));
    // `greatest` is `max` elsewhere, so the larger is taken by a condition.
    let statement = Statement::new(C::DIALECT, "insert into agents (id, epoch, ended_epoch) values (")
        .bind(session.agent_id)
        .push(", ")
        .bind(at_least + 1)
        .push(
            ", 0) on conflict (id) do update set epoch = \
             case when agents.epoch >= excluded.epoch then agents.epoch + 1 else excluded.epoch end \
             returning epoch",
        );
    let rows = connection.rows(statement).await?;
    let epoch = rows
        .first()
        .ok_or_else(|| Fault::unreadable("no epoch was given"))?
        .counter(0)?;
    let assets = session.assets.iter().map(|asset| asset.to_string().into());
    let statement = Statement::new(
        C::DIALECT,
        "insert into sessions (agent_id, epoch, instance_id, peer, agent_version, assets, \
         connected_at) values ",
    )
    .row([
        session.agent_id.into(),
        counter(epoch),
        session.instance_id.into(),
        session.peer.clone().into(),
        session.agent_version.clone().into(),
        serde_json::Value::Array(assets.collect()).into(),
        session.connected_at.into(),
    ]);
    connection.run(statement).await?;
    Ok(epoch)
}

pub(super) async fn close<C: Connection>(
    connection: &mut C,
    agent: AgentId,
    epoch: u64,
    end: &SessionEnd,
) -> Result<(), Fault> {
    let statement = ended(C::DIALECT, end)
        .push(" and agent_id = ")
        .bind(agent)
        .push(" and epoch = ")
        .bind(counter(epoch));
    connection.run(statement).await?;
    Ok(())
}

/// Ends every session that lives.
pub(super) async fn close_all<C: Connection>(
    connection: &mut C,
    end: &SessionEnd,
) -> Result<(), Fault> {
    connection.run(ended(C::DIALECT, end)).await?;
    Ok(())
}

fn ended(dialect: super::statement::Dialect, end: &SessionEnd) -> Statement {
    Statement::new(dialect, "update sessions set disconnected_at = ")
        .bind(end.at)
        .push(", cause = ")
        .bind(name(&end.cause))
        .push(", text = ")
        .bind(end.text.clone())
        .push(" where disconnected_at is null")
}

pub(super) async fn history<C: Connection>(
    connection: &mut C,
    query: &HistoryQuery,
) -> Result<Page<SessionRecord>, Fault> {
    let range = page::range(List::Sessions, query)?;
    let statement = Statement::new(
        C::DIALECT,
        "select connected_at, agent_id, epoch, instance_id, peer, agent_version, assets, \
         disconnected_at, cause, text from sessions where connected_at >= ",
    )
    .bind(range.start.at)
    .push(" and (connected_at, agent_id, epoch) < ")
    .row(before(range.end))
    .push(" order by connected_at desc, agent_id desc, epoch desc limit ")
    .bind(page::fetch(query.limit));
    let rows = connection.rows(statement).await?;
    let items = rows.iter().map(session);
    let items: Vec<(Place, SessionRecord)> = items.collect::<Result<_, Fault>>()?;
    Ok(page::cut(List::Sessions, query.limit, items.into_iter()))
}

/// A place as a row to compare with.
pub(super) fn before(place: Place) -> [Value; 3] {
    [
        place.at.into(),
        Uuid::from_u128(place.id).into(),
        counter(place.serial),
    ]
}

fn session(row: &impl Row) -> Result<(Place, SessionRecord), Fault> {
    let assets = row.opt_json(6)?.unwrap_or_default();
    let record = SessionRecord {
        connected_at: row.time(0)?,
        agent_id: AgentId::new(row.uuid(1)?),
        epoch: row.counter(2)?,
        instance_id: InstanceId::new(row.uuid(3)?),
        peer: row.opt_text(4)?,
        agent_version: row.opt_text(5)?,
        assets: serde_json::from_value(assets)
            .map_err(|error| Fault::unreadable(format!("assets of a session: {error}")))?,
        disconnected_at: row.opt_time(7)?,
        cause: named(row.opt_text(8)?)?,
        text: row.opt_text(9)?,
    };
    let place = Place {
        at: record.connected_at,
        id: record.agent_id.uuid().as_u128(),
        serial: record.epoch,
    };
    Ok((place, record))
}

pub(super) async fn append_heartbeats<C: Connection>(
    connection: &mut C,
    heartbeats: &[Heartbeat],
    assets: &[Asset],
) -> Result<(), Fault> {
    let rows = heartbeats.iter().zip(assets).map(|(heartbeat, asset)| {
        vec![
            asset.key.into(),
            heartbeat.received_at.into(),
            heartbeat.agent_id.into(),
            counter(heartbeat.epoch),
            heartbeat.agent_time.into(),
            heartbeat.uptime_s.into(),
            counter(heartbeat.outbox_depth),
            counter(heartbeat.dropped_samples),
            heartbeat.availability.code().into(),
            heartbeat.control.code().into(),
            heartbeat.control_mw.into(),
            counter(heartbeat.read_errors),
        ]
    });
    let mut rows: Vec<Vec<Value>> = rows.collect();
    // Two calls with the same rows must not wait for each other.
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|index| {
        let heartbeat = &heartbeats[*index];
        (
            heartbeat.asset_id,
            heartbeat.received_at,
            heartbeat.agent_id,
            heartbeat.epoch,
        )
    });
    let rows = order.iter().map(|index| std::mem::take(&mut rows[*index]));
    for rows in portions(rows.collect()) {
        let statement = Statement::new(
            C::DIALECT,
            "insert into heartbeats (asset, received_at, agent_id, epoch, agent_time, uptime_s, \
             outbox_depth, dropped_samples, availability, control, control_mw, read_errors) values ",
        )
        .rows(rows)
        .push(" on conflict do nothing");
        connection.run(statement).await?;
    }
    Ok(())
}

pub(super) async fn heartbeats<C: Connection>(
    connection: &mut C,
    assets: &Assets,
    id: AssetId,
    query: &HistoryQuery,
) -> Result<Page<Heartbeat>, Fault> {
    let range = page::range(List::Heartbeats, query)?;
    let Some(asset) = assets.find(connection, id).await? else {
        return Ok(page::empty());
    };
    let statement = Statement::new(
        C::DIALECT,
        "select received_at, agent_id, epoch, agent_time, uptime_s, outbox_depth, \
         dropped_samples, availability, control, control_mw, read_errors from heartbeats \
         where asset = ",
    )
    .bind(asset.key)
    .push(" and received_at >= ")
    .bind(range.start.at)
    .push(" and (received_at, agent_id, epoch) < ")
    .row(before(range.end))
    .push(" order by received_at desc, agent_id desc, epoch desc limit ")
    .bind(page::fetch(query.limit));
    let rows = connection.rows(statement).await?;
    let items = rows.iter().map(|row| heartbeat(row, id));
    let items: Vec<(Place, Heartbeat)> = items.collect::<Result<_, Fault>>()?;
    Ok(page::cut(List::Heartbeats, query.limit, items.into_iter()))
}

fn heartbeat(row: &impl Row, asset_id: AssetId) -> Result<(Place, Heartbeat), Fault> {
    let received_at: Timestamp = row.time(0)?;
    let heartbeat = Heartbeat {
        asset_id,
        received_at,
        agent_id: AgentId::new(row.uuid(1)?),
        epoch: row.counter(2)?,
        agent_time: row.opt_time(3)?,
        uptime_s: row.opt_real(4)?,
        outbox_depth: row.counter(5)?,
        dropped_samples: row.counter(6)?,
        availability: super::codes::Code::of(row.int(7)?)?,
        control: super::codes::Code::of(row.int(8)?)?,
        control_mw: row.opt_real(9)?.map(Power::from_mw),
        read_errors: row.counter(10)?,
    };
    let place = Place {
        at: received_at,
        id: heartbeat.agent_id.uuid().as_u128(),
        serial: heartbeat.epoch,
    };
    Ok((place, heartbeat))
}
