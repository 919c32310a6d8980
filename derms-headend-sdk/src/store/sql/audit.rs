//! The audit trail.

use derms_proto::{AuditId, AuditRecord, Page};

use super::super::AuditQuery;
use super::super::page::{self, List, Place};
use super::codes::{name, named};
use super::connection::{Connection, Row};
use super::fault::Fault;
use super::statement::{Statement, portions};

const COLUMNS: &str = "id, at, principal, peer, action, target, status, code, detail";

pub(super) async fn append<C: Connection>(
    connection: &mut C,
    records: &[AuditRecord],
) -> Result<(), Fault> {
    let mut records: Vec<&AuditRecord> = records.iter().collect();
    // Two calls with the same rows must not wait for each other.
    records.sort_by_key(|record| record.id);
    let rows = records.into_iter().map(|record| {
        vec![
            record.id.into(),
            record.at.into(),
            record.principal.clone().into(),
            record.peer.clone().into(),
            record.action.clone().into(),
            record.target.clone().into(),
            record.status.map(i64::from).into(),
            record.code.as_ref().and_then(name).into(),
            record.detail.clone().into(),
        ]
    });
    for rows in portions(rows.collect()) {
        let statement = Statement::new(C::DIALECT, "insert into audit (")
            .push(COLUMNS)
            .push(") values ")
            .rows(rows)
            .push(" on conflict (id) do nothing");
        connection.run(statement).await?;
    }
    Ok(())
}

pub(super) async fn history<C: Connection>(
    connection: &mut C,
    query: &AuditQuery,
) -> Result<Page<AuditRecord>, Fault> {
    let range = page::range(List::Audit, &query.page)?;
    let sql = format!("select {COLUMNS} from audit where ");
    let statement = Statement::new(C::DIALECT, &sql)
        .only("principal = ", query.principal.clone())
        .only("action = ", query.action.clone())
        .newest_first("at", &range, query.page.limit);
    let rows = connection.rows(statement).await?;
    let items = rows.iter().map(|row| {
        let record = read(row)?;
        let place = Place {
            at: record.at,
            id: record.id.uuid().as_u128(),
            serial: 0,
        };
        Ok((place, record))
    });
    let items: Vec<_> = items.collect::<Result<_, Fault>>()?;
    Ok(page::cut(List::Audit, query.page.limit, items.into_iter()))
}

fn read(row: &impl Row) -> Result<AuditRecord, Fault> {
    let status = row.opt_int(6)?.map(u16::try_from).transpose();
    Ok(AuditRecord {
        id: AuditId::new(row.uuid(0)?),
        at: row.time(1)?,
        principal: row.opt_text(2)?,
        peer: row.opt_text(3)?,
        action: row.text(4)?,
        target: row.opt_text(5)?,
        status: status.map_err(|_| Fault::unreadable("a status of HTTP is out of range"))?,
        code: named(row.opt_text(7)?)?,
        detail: row.opt_text(8)?,
    })
}
