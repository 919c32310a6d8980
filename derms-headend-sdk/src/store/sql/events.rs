//! Alarms and changes of state.

use derms_proto::{
    Acknowledgement, AgentId, AssetId, Event, EventId, EventSource, Page, Severity, SiteId,
};

use super::super::EventQuery;
use super::super::page::{self, List, Place};
use super::codes::Code as _;
use super::connection::{Connection, Row};
use super::fault::Fault;
use super::statement::{Statement, portions};

const COLUMNS: &str = "id, at, received_at, asset_id, site_id, agent_id, severity, code, text, \
    source, acknowledged_at, acknowledged_by, note";

/// Adds events; one that is there already stays as it is.
pub(super) async fn append<C: Connection>(
    connection: &mut C,
    mut events: Vec<&Event>,
) -> Result<(), Fault> {
    // Two calls with the same rows must not wait for each other.
    events.sort_by_key(|event| event.id);
    let rows = events.into_iter().map(|event| {
        let acknowledged = event.acknowledged.as_ref();
        vec![
            event.id.into(),
            event.at.into(),
            event.received_at.into(),
            event.asset_id.into(),
            event.site_id.into(),
            event.agent_id.into(),
            event.severity.code().into(),
            event.code.clone().into(),
            event.text.clone().into(),
            event.source.code().into(),
            acknowledged.map(|it| it.at).into(),
            acknowledged.and_then(|it| it.by.clone()).into(),
            acknowledged.and_then(|it| it.note.clone()).into(),
        ]
    });
    for rows in portions(rows.collect()) {
        let statement = Statement::new(C::DIALECT, "insert into events (")
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
    query: &EventQuery,
) -> Result<Page<Event>, Fault> {
    let range = page::range(List::Events, &query.page)?;
    let mut statement = select::<C>()
        .only("asset_id = ", query.asset)
        .only("site_id = ", query.site)
        .only("severity >= ", query.least.map(|least| least.code()))
        .only("source = ", query.source.map(|source| source.code()));
    statement = match query.acknowledged {
        Some(true) => statement.push("acknowledged_at is not null and "),
        Some(false) => statement.push("acknowledged_at is null and "),
        None => statement,
    };
    let statement = statement.newest_first("at", &range, query.page.limit);
    let rows = connection.rows(statement).await?;
    let items = rows.iter().map(|row| {
        let event = read(row)?;
        Ok((Place::of_event(&event), event))
    });
    let items: Vec<_> = items.collect::<Result<_, Fault>>()?;
    Ok(page::cut(List::Events, query.page.limit, items.into_iter()))
}

pub(super) async fn event<C: Connection>(
    connection: &mut C,
    id: EventId,
) -> Result<Option<Event>, Fault> {
    let rows = connection
        .rows(select::<C>().push("id = ").bind(id))
        .await?;
    rows.first().map(read).transpose()
}

pub(super) async fn acknowledge<C: Connection>(
    connection: &mut C,
    id: EventId,
    acknowledgement: &Acknowledgement,
) -> Result<Option<Event>, Fault> {
    let statement = Statement::new(C::DIALECT, "update events set acknowledged_at = ")
        .bind(acknowledgement.at)
        .push(", acknowledged_by = ")
        .bind(acknowledgement.by.clone())
        .push(", note = ")
        .bind(acknowledgement.note.clone())
        .push(" where id = ")
        .bind(id)
        .push(" and acknowledged_at is null");
    connection.run(statement).await?;
    event(connection, id).await
}

fn select<C: Connection>() -> Statement {
    Statement::new(C::DIALECT, &format!("select {COLUMNS} from events where "))
}

fn read(row: &impl Row) -> Result<Event, Fault> {
    let acknowledged = row.opt_time(10)?.map(|at| -> Result<_, Fault> {
        Ok(Acknowledgement {
            at,
            by: row.opt_text(11)?,
            note: row.opt_text(12)?,
        })
    });
    Ok(Event {
        id: EventId::new(row.uuid(0)?),
        at: row.time(1)?,
        received_at: row.time(2)?,
        asset_id: row.opt_uuid(3)?.map(AssetId::new),
        site_id: row.opt_uuid(4)?.map(SiteId::new),
        agent_id: row.opt_uuid(5)?.map(AgentId::new),
        severity: Severity::of(row.int(6)?)?,
        code: row.text(7)?,
        text: row.text(8)?,
        source: EventSource::of(row.int(9)?)?,
        acknowledged: acknowledged.transpose()?,
    })
}
