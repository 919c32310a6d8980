//! Deleting what is old, a bounded part at a time.

use std::collections::BTreeSet;

use derms_proto::{DispatchId, Timestamp};
use uuid::Uuid;

use super::super::retention::horizon;
use super::super::{Pruned, Retention};
use super::connection::{Connection, Row};
use super::fault::Fault;
use super::orders;
use super::statement::Statement;

/// The most rows of a kind in one transaction: others wait no longer than it takes.
pub(super) const PORTION: i64 = 5_000;

/// Orders have steps, keys and shares.
const ORDERS: i64 = 500;

/// Tables whose rows stand for themselves: the key, and the time by which they are kept.
const PLAIN: [(&str, &str, &str); 7] = [
    ("gaps", "id", "stored_at"),
    ("sessions", "agent_id, epoch", "disconnected_at"),
    ("reports", "id", "received_at"),
    ("limits", "id", "ended_at"),
    ("stops", "id", "ended_at"),
    ("audit", "id", "at"),
    ("events", "id", "at"),
];

fn horizons(retention: &Retention, now: Timestamp) -> [Option<Timestamp>; 7] {
    let Retention {
        telemetry,
        sessions,
        reports,
        limits,
        audit,
        events,
        ..
    } = retention;
    let kept = [telemetry, sessions, reports, limits, limits, audit, events];
    kept.map(|kept| horizon(*kept, now))
}

/// Deletes a portion of everything but measurements and heartbeats, which each database has laid
/// down in its own way.
pub(super) async fn delete<C: Connection>(
    connection: &mut C,
    retention: &Retention,
    now: Timestamp,
) -> Result<Pruned, Fault> {
    let mut counts = [0; 7];
    let mut more = false;
    for (((table, key, time), before), count) in PLAIN
        .into_iter()
        .zip(horizons(retention, now))
        .zip(&mut counts)
    {
        let Some(before) = before else { continue };
        let statement = Statement::new(
            C::DIALECT,
            &format!(
                "delete from {table} where ({key}) in (select {key} from {table} where {time} < "
            ),
        )
        .bind(before)
        .push(" limit ")
        .bind(PORTION)
        .push(")");
        *count = connection.run(statement).await?;
        more |= *count >= PORTION.unsigned_abs();
    }
    let mut pruned = Pruned {
        gaps: counts[0],
        sessions: counts[1],
        reports: counts[2],
        limits: counts[3] + counts[4],
        audit: counts[5],
        events: counts[6],
        more,
        ..Pruned::default()
    };
    if let Some(before) = horizon(retention.dispatches, now) {
        let roots = Statement::new(C::DIALECT, "select id from dispatches d where ");
        let roots = ended_before(roots, before).push(" limit ").bind(ORDERS);
        let roots = ids(connection, roots).await?;
        pruned.more |= roots.len() >= 500;
        pruned.dispatches = orders::delete(connection, &roots).await?;
    }
    Ok(pruned)
}

/// Counts the same without deleting anything.
pub(super) async fn count<C: Connection>(
    connection: &mut C,
    retention: &Retention,
    now: Timestamp,
) -> Result<Pruned, Fault> {
    let mut counts = [0; 7];
    for (((table, _, time), before), count) in PLAIN
        .into_iter()
        .zip(horizons(retention, now))
        .zip(&mut counts)
    {
        let Some(before) = before else { continue };
        let sql = format!("select count(*) from {table} where {time} < ");
        let statement = Statement::new(C::DIALECT, &sql).bind(before);
        *count = first(connection, statement).await?;
    }
    let mut pruned = Pruned {
        gaps: counts[0],
        sessions: counts[1],
        reports: counts[2],
        limits: counts[3] + counts[4],
        audit: counts[5],
        events: counts[6],
        ..Pruned::default()
    };
    if let Some(before) = horizon(retention.dispatches, now) {
        let shares = "select coalesce(sum(1 + (select count(*) from dispatches c where \
                      c.parent_id = d.id)), 0) from dispatches d where ";
        let statement = ended_before(Statement::new(C::DIALECT, shares), before);
        pruned.dispatches = first(connection, statement).await?;
    }
    Ok(pruned)
}

/// The number that a statement gives.
pub(super) async fn first<C: Connection>(
    connection: &mut C,
    statement: Statement,
) -> Result<u64, Fault> {
    let rows = connection.rows(statement).await?;
    rows.first().map_or(Ok(0), |row| row.counter(0))
}

/// Orders, not shares of one, that are wholly ended.
fn ended_before(statement: Statement, before: Timestamp) -> Statement {
    statement
        .push("parent_id is null and created_at < ")
        .bind(before)
        .push(
            " and case when asset_id is null then not exists (select 1 from dispatches c where \
               c.parent_id = d.id and (c.ended_at is null or c.ended_at >= ",
        )
        .bind(before)
        .push(")) else ended_at < ")
        .bind(before)
        .push(" end")
}

async fn ids<C: Connection>(
    connection: &mut C,
    statement: Statement,
) -> Result<BTreeSet<DispatchId>, Fault> {
    let rows = connection.rows(statement).await?;
    let ids = rows
        .iter()
        .map(|row| row.uuid(0).map(|id: Uuid| DispatchId::new(id)));
    ids.collect()
}
