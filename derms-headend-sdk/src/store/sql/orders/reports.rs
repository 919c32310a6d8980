//! What agents tell.

use std::collections::BTreeSet;

use derms_proto::DispatchStatus;
use derms_proto::link::{LimitPhase, LogKind, Report, SetpointReport};

use super::super::super::{ReportAppend, ReportFate, Reported, StoredReport, status_of};
use super::super::codes::{Code as _, name};
use super::super::connection::Connection;
use super::super::events;
use super::super::fault::Fault;
use super::super::logs::{Logs, Move};
use super::super::statement::{Statement, portions};
use super::super::value::{Value, counter};
use super::held::Held;

pub(in super::super) async fn append<C: Connection>(
    connection: &mut C,
    appends: &[ReportAppend],
) -> Result<Vec<Vec<ReportFate>>, Fault> {
    let parts = appends.iter().map(|append| Move {
        agent: append.agent,
        log: append.log,
        first: append
            .entries
            .iter()
            .map(|stored| stored.seq)
            .min()
            .unwrap_or(append.next_seq),
        next: append.next_seq,
    });
    let mut logs = Logs::take(connection, LogKind::Report, parts).await?;
    let new: Vec<(&ReportAppend, Vec<&StoredReport>)> = appends
        .iter()
        .map(|append| {
            let settled = logs.pass(append.agent, append.log, append.next_seq);
            let new = append.entries.iter().filter(|stored| stored.seq >= settled);
            (append, new.collect())
        })
        .collect();
    let all = new.iter().flat_map(|(_, entries)| entries);
    let ids: BTreeSet<_> = all
        .filter_map(|stored| match &stored.entry.report {
            Report::Setpoint(report) => Some(report.dispatch_id),
            _ => None,
        })
        .collect();
    let mut held = Held::take(connection, &ids, BTreeSet::new()).await?;
    let (mut fates, mut kept, mut raised) = (Vec::new(), Vec::new(), Vec::new());
    for (append, entries) in new {
        let mut part = Vec::new();
        for stored in entries {
            let fate = fate(&mut held, append, stored);
            raised.extend(stored.event.as_deref());
            kept.extend(row(append, stored, &fate));
            part.push(fate);
        }
        fates.push(part);
    }
    held.save(connection).await?;
    events::append(connection, raised).await?;
    for rows in portions(kept) {
        let statement = Statement::new(
            C::DIALECT,
            "insert into reports (agent_id, log_id, seq, epoch, asset_id, at, received_at, kind, \
             code, text, dispatch_id, revision, status, reason, applied_mw) values ",
        );
        connection.run(statement.rows(rows)).await?;
    }
    Ok(fates)
}

fn fate(held: &mut Held, append: &ReportAppend, stored: &StoredReport) -> ReportFate {
    let Report::Setpoint(report) = &stored.entry.report else {
        return stored.beside_orders();
    };
    let Some((order, ended)) = held.order(report.dispatch_id) else {
        return ReportFate::UnknownDispatch(report.dispatch_id);
    };
    let reported = order.report(append, &stored.entry, report, ended);
    let order = Box::new(order.clone());
    match reported {
        Reported::Applied => ReportFate::Applied(order),
        Reported::Repeated => ReportFate::Repeated(order),
        Reported::Contradiction(reported) => ReportFate::Contradiction { order, reported },
        Reported::ReleaseRefused(revision) => ReportFate::ReleaseRefused { order, revision },
        Reported::Foreign => ReportFate::UnknownDispatch(report.dispatch_id),
    }
}

/// What no order shows is kept beside them.
fn row(append: &ReportAppend, stored: &StoredReport, fate: &ReportFate) -> Option<Vec<Value>> {
    let kind = match fate {
        ReportFate::Applied(_) | ReportFate::Repeated(_) | ReportFate::Event(_) => return None,
        ReportFate::Contradiction { .. } => "contradiction",
        ReportFate::UnknownDispatch(_) => "unknown_dispatch",
        ReportFate::ReleaseRefused { .. } => "release_refused",
        ReportFate::Other(entry) if matches!(entry.report, Report::Limit(_)) => "limit",
        ReportFate::Other(_) => "unknown",
    };
    let (mut setpoint, mut limit) = (None, None);
    match &stored.entry.report {
        Report::Setpoint(told) => setpoint = Some(told),
        Report::Limit(told) => limit = Some(told),
        _ => {}
    }
    let text = setpoint
        .and_then(|setpoint| setpoint.text.clone())
        .or_else(|| limit.and_then(|limit| limit.text.clone()));
    let code = limit.map(|limit| phase(limit.phase).to_owned());
    let revision = setpoint
        .map(|setpoint| setpoint.revision)
        .or(limit.map(|limit| limit.revision));
    let reason = setpoint
        .and_then(|setpoint| setpoint.reason)
        .or(limit.and_then(|limit| limit.reason));
    Some(vec![
        append.agent.into(),
        append.log.into(),
        counter(stored.seq),
        counter(append.epoch),
        stored.entry.asset_id.into(),
        stored.entry.at.into(),
        append.at.into(),
        kind.into(),
        code.into(),
        text.into(),
        setpoint.map(|setpoint| setpoint.dispatch_id).into(),
        revision.map_or(Value::Int(None), counter),
        setpoint.map(status).into(),
        reason.and_then(|reason| name(&reason)).into(),
        setpoint.and_then(|setpoint| setpoint.applied).into(),
    ])
}

const fn phase(phase: LimitPhase) -> &'static str {
    match phase {
        LimitPhase::InForce => "in_force",
        LimitPhase::Refused => "refused",
        _ => "not_obeyed",
    }
}

fn status(report: &SetpointReport) -> i64 {
    let status: DispatchStatus = status_of(report.phase);
    status.code()
}
