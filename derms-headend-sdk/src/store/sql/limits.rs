//! Limits and stops.

use derms_proto::{
    AssetId, LimitId, LimitStatus, Page, Power, PowerLimit, SiteId, Stop, StopId, StopScope,
};
use uuid::Uuid;

use super::super::page::{self, List, Place};
use super::super::{HistoryQuery, Idempotency, Keyed, LimitQuery, Restraint, Restraints};
use super::codes::{Code as _, name, named};
use super::connection::{Connection, Row};
use super::fault::Fault;
use super::statement::{Statement, portions};
use super::value::counter;

const LIMIT_COLUMNS: &str = "id, asset_id, site_id, min_mw, max_mw, created_at, expires_at, \
    principal, status, reason, text, confirmed_at, removed_at, removed_by, revision";

const STOP_COLUMNS: &str = "id, asset_id, site_id, reason, principal, created_at, revision, \
    assets, reached, confirmed, not_obeyed, ended_at, ended_by, return_within_s";

pub(super) async fn put_limits<C: Connection>(
    connection: &mut C,
    limits: &[PowerLimit],
) -> Result<(), Fault> {
    let mut limits: Vec<&PowerLimit> = limits.iter().collect();
    // Two calls with the same rows must not wait for each other.
    limits.sort_by_key(|limit| limit.id);
    let rows = limits.into_iter().map(|limit| {
        vec![
            limit.id.into(),
            limit.asset_id.into(),
            limit.site_id.into(),
            limit.min_mw.into(),
            limit.max_mw.into(),
            limit.created_at.into(),
            limit.expires_at.into(),
            limit.principal.clone().into(),
            limit.status.code().into(),
            limit.reason.as_ref().and_then(name).into(),
            limit.text.clone().into(),
            limit.confirmed_at.into(),
            limit.removed_at.into(),
            limit.removed_by.clone().into(),
            counter(limit.revision),
            limit.ended_at().into(),
        ]
    });
    for rows in portions(rows.collect()) {
        let statement = Statement::new(C::DIALECT, "insert into limits (")
            .push(LIMIT_COLUMNS)
            .push(", ended_at) values ")
            .rows(rows)
            .push(
                " on conflict (id) do update set status = excluded.status, reason = \
                 excluded.reason, text = excluded.text, confirmed_at = excluded.confirmed_at, \
                 removed_at = excluded.removed_at, removed_by = excluded.removed_by, revision = \
                 excluded.revision, ended_at = excluded.ended_at",
            );
        connection.run(statement).await?;
    }
    Ok(())
}

pub(super) async fn put_keyed<C: Connection>(
    connection: &mut C,
    restraint: &Restraint,
    key: &Idempotency,
) -> Result<Option<Keyed>, Fault> {
    let (table, id) = match restraint {
        Restraint::Limit(limit) => ("limits", limit.id.uuid()),
        Restraint::Stop(stop) => ("stops", stop.id.uuid()),
    };
    let known = keyed(connection, key).await?;
    let own = match &known {
        Some(Keyed::Same(Restraint::Limit(limit))) => limit.id.uuid() == id,
        Some(Keyed::Same(Restraint::Stop(stop))) => stop.id.uuid() == id,
        Some(Keyed::Conflict) => false,
        None => true,
    };
    if !own {
        return Ok(known);
    }
    match restraint {
        Restraint::Limit(limit) => put_limits(connection, std::slice::from_ref(limit)).await?,
        Restraint::Stop(stop) => put_stops(connection, std::slice::from_ref(stop)).await?,
    }
    let statement = Statement::new(C::DIALECT, "update ")
        .push(table)
        .push(" set idempotency_key = ")
        .bind(key.key.clone())
        .push(", fingerprint = ")
        .bind(key.fingerprint.clone())
        .push(" where id = ")
        .bind(id);
    connection.run(statement).await?;
    Ok(None)
}

pub(super) async fn keyed<C: Connection>(
    connection: &mut C,
    key: &Idempotency,
) -> Result<Option<Keyed>, Fault> {
    for table in ["limits", "stops"] {
        let statement = Statement::new(C::DIALECT, "select fingerprint = ")
            .bind(key.fingerprint.clone())
            .push(", id from ")
            .push(table)
            .push(" where idempotency_key = ")
            .bind(key.key.clone());
        let rows = connection.rows(statement).await?;
        let Some(row) = rows.first() else {
            continue;
        };
        if !row.flag(0)? {
            return Ok(Some(Keyed::Conflict));
        }
        let id = row.uuid(1)?;
        let same = if table == "limits" {
            limit(connection, LimitId::new(id))
                .await?
                .map(Restraint::Limit)
        } else {
            stop(connection, StopId::new(id))
                .await?
                .map(Restraint::Stop)
        };
        return Ok(same.map(Keyed::Same));
    }
    Ok(None)
}

pub(super) async fn limit<C: Connection>(
    connection: &mut C,
    id: LimitId,
) -> Result<Option<PowerLimit>, Fault> {
    let statement = select("limits", LIMIT_COLUMNS, C::DIALECT)
        .push("id = ")
        .bind(id);
    let rows = connection.rows(statement).await?;
    rows.first().map(read_limit).transpose()
}

pub(super) async fn limits<C: Connection>(
    connection: &mut C,
    query: &LimitQuery,
) -> Result<Page<PowerLimit>, Fault> {
    let range = page::range(List::Limits, &query.page)?;
    let statement = select("limits", LIMIT_COLUMNS, C::DIALECT)
        .only("asset_id = ", query.asset)
        .only("site_id = ", query.site)
        .newest_first("created_at", &range, query.page.limit);
    let rows = connection.rows(statement).await?;
    let items = rows.iter().map(|row| {
        let limit = read_limit(row)?;
        Ok((place(limit.created_at, limit.id.uuid()), limit))
    });
    let items: Vec<_> = items.collect::<Result<_, Fault>>()?;
    Ok(page::cut(List::Limits, query.page.limit, items.into_iter()))
}

pub(super) async fn put_stops<C: Connection>(
    connection: &mut C,
    stops: &[Stop],
) -> Result<(), Fault> {
    let mut stops: Vec<&Stop> = stops.iter().collect();
    stops.sort_by_key(|stop| stop.id);
    let rows = stops.into_iter().map(|stop| {
        vec![
            stop.id.into(),
            stop.asset_id.into(),
            stop.site_id.into(),
            stop.reason.clone().into(),
            stop.principal.clone().into(),
            stop.created_at.into(),
            counter(stop.revision),
            counter(stop.assets),
            counter(stop.reached),
            counter(stop.confirmed),
            counter(stop.not_obeyed),
            stop.ended_at.into(),
            stop.ended_by.clone().into(),
            stop.return_within_s.into(),
        ]
    });
    for rows in portions(rows.collect()) {
        let statement = Statement::new(C::DIALECT, "insert into stops (")
            .push(STOP_COLUMNS)
            .push(") values ")
            .rows(rows)
            .push(
                " on conflict (id) do update set revision = excluded.revision, assets = \
                 excluded.assets, reached = excluded.reached, confirmed = excluded.confirmed, \
                 not_obeyed = excluded.not_obeyed, ended_at = excluded.ended_at, ended_by = \
                 excluded.ended_by, return_within_s = excluded.return_within_s",
            );
        connection.run(statement).await?;
    }
    Ok(())
}

pub(super) async fn stop<C: Connection>(
    connection: &mut C,
    id: StopId,
) -> Result<Option<Stop>, Fault> {
    let statement = select("stops", STOP_COLUMNS, C::DIALECT)
        .push("id = ")
        .bind(id);
    let rows = connection.rows(statement).await?;
    rows.first().map(read_stop).transpose()
}

pub(super) async fn stops<C: Connection>(
    connection: &mut C,
    query: &HistoryQuery,
) -> Result<Page<Stop>, Fault> {
    let range = page::range(List::Stops, query)?;
    let statement =
        select("stops", STOP_COLUMNS, C::DIALECT).newest_first("created_at", &range, query.limit);
    let rows = connection.rows(statement).await?;
    let items = rows.iter().map(|row| {
        let stop = read_stop(row)?;
        Ok((place(stop.created_at, stop.id.uuid()), stop))
    });
    let items: Vec<_> = items.collect::<Result<_, Fault>>()?;
    Ok(page::cut(List::Stops, query.limit, items.into_iter()))
}

pub(super) async fn restraints<C: Connection>(connection: &mut C) -> Result<Restraints, Fault> {
    let hold = |table, columns| select(table, columns, C::DIALECT).push("ended_at is null");
    let rows = connection.rows(hold("limits", LIMIT_COLUMNS)).await?;
    let limits = rows.iter().map(read_limit).collect::<Result<_, Fault>>()?;
    let rows = connection.rows(hold("stops", STOP_COLUMNS)).await?;
    let stops = rows.iter().map(read_stop).collect::<Result<_, Fault>>()?;
    let mut revisions = Vec::new();
    for sql in [
        "select asset_id, null, max(revision) from limits group by asset_id",
        "select asset_id, site_id, max(revision) from stops group by asset_id, site_id",
    ] {
        for row in &connection.rows(Statement::new(C::DIALECT, sql)).await? {
            let scope = match (row.opt_uuid(0)?, row.opt_uuid(1)?) {
                (Some(asset), _) => StopScope::Asset(AssetId::new(asset)),
                (None, Some(site)) => StopScope::Site(SiteId::new(site)),
                (None, None) => StopScope::All,
            };
            revisions.push((scope, row.counter(2)?));
        }
    }
    Ok(Restraints {
        limits,
        stops,
        revisions,
    })
}

fn select(table: &str, columns: &str, dialect: super::statement::Dialect) -> Statement {
    Statement::new(dialect, &format!("select {columns} from {table} where "))
}

fn place(at: derms_proto::Timestamp, id: Uuid) -> Place {
    Place {
        at,
        id: id.as_u128(),
        serial: 0,
    }
}

fn read_limit(row: &impl Row) -> Result<PowerLimit, Fault> {
    Ok(PowerLimit {
        id: LimitId::new(row.uuid(0)?),
        asset_id: AssetId::new(row.uuid(1)?),
        site_id: SiteId::new(row.uuid(2)?),
        min_mw: row.opt_real(3)?.map(Power::from_mw),
        max_mw: row.opt_real(4)?.map(Power::from_mw),
        created_at: row.time(5)?,
        expires_at: row.opt_time(6)?,
        principal: row.opt_text(7)?,
        status: LimitStatus::of(row.int(8)?)?,
        reason: named(row.opt_text(9)?)?,
        text: row.opt_text(10)?,
        confirmed_at: row.opt_time(11)?,
        removed_at: row.opt_time(12)?,
        removed_by: row.opt_text(13)?,
        revision: row.counter(14)?,
    })
}

fn read_stop(row: &impl Row) -> Result<Stop, Fault> {
    let (asset_id, site_id) = (row.opt_uuid(1)?, row.opt_uuid(2)?);
    Ok(Stop {
        id: StopId::new(row.uuid(0)?),
        asset_id: asset_id.map(AssetId::new),
        site_id: site_id.map(SiteId::new),
        all: asset_id.is_none() && site_id.is_none(),
        reason: row.opt_text(3)?,
        principal: row.opt_text(4)?,
        created_at: row.time(5)?,
        revision: row.counter(6)?,
        assets: row.counter(7)?,
        reached: row.counter(8)?,
        confirmed: row.counter(9)?,
        not_obeyed: row.counter(10)?,
        offline: 0,
        unsupported: 0,
        cannot_be_held: Vec::new(),
        stored: true,
        ended_at: row.opt_time(11)?,
        ended_by: row.opt_text(12)?,
        return_within_s: row.opt_real(13)?,
    })
}
