//! The report log.

use super::scalar::{
    Fault, bounded, cut, first_seq, from_one, id, id_text, optional_power, timestamp, timestamp_out,
};
use super::{MAX_NAME_BYTES, MAX_TEXT_BYTES, word};
use crate::link::{EventReport, LimitReport, Report, ReportBatch, ReportEntry, SetpointReport};
use crate::{Power, pb};

pub(super) fn batch(pb: pb::Report) -> Result<ReportBatch, Fault> {
    let entries = bounded("entries", pb.entries)?;
    Ok(ReportBatch {
        log_id: id("log_id", &pb.log_id)?,
        first_seq: first_seq(pb.first_seq, entries.len())?,
        entries: entries
            .into_iter()
            .map(|pb| entry(pb).map_err(Into::into))
            .collect(),
    })
}

pub(super) fn batch_out(batch: ReportBatch) -> pb::Report {
    pb::Report {
        log_id: id_text(batch.log_id.uuid()),
        first_seq: batch.first_seq,
        // An entry that can't be sent still takes its number: the peer refuses it, too.
        entries: batch
            .entries
            .into_iter()
            .map(|entry| entry.map_or_else(|_| pb::ReportEntry::default(), entry_out))
            .collect(),
    }
}

fn entry(pb: pb::ReportEntry) -> Result<ReportEntry, Fault> {
    Ok(ReportEntry {
        at: timestamp("at", pb.at)?,
        asset_id: id("asset_id", &pb.asset_id)?,
        report: match pb.entry {
            Some(pb::report_entry::Entry::Setpoint(pb)) => setpoint(pb)?,
            Some(pb::report_entry::Entry::Event(pb)) => Report::Event(event(pb)),
            Some(pb::report_entry::Entry::Limit(pb)) => limit(pb)?,
            None => Report::Unknown,
        },
    })
}

fn entry_out(entry: ReportEntry) -> pb::ReportEntry {
    pb::ReportEntry {
        at: Some(timestamp_out(entry.at)),
        asset_id: id_text(entry.asset_id.uuid()),
        entry: match entry.report {
            Report::Setpoint(report) => {
                Some(pb::report_entry::Entry::Setpoint(setpoint_out(report)))
            }
            Report::Event(event) => Some(pb::report_entry::Entry::Event(event_out(event))),
            Report::Limit(report) => Some(pb::report_entry::Entry::Limit(limit_out(report))),
            Report::Unknown => None,
        },
    }
}

fn setpoint(pb: pb::SetpointReport) -> Result<Report, Fault> {
    let Some(phase) = word::setpoint_phase(pb.phase) else {
        return Ok(Report::Unknown);
    };
    Ok(Report::Setpoint(SetpointReport {
        dispatch_id: id("dispatch_id", &pb.dispatch_id)?,
        revision: from_one("revision", pb.revision)?,
        phase,
        reason: word::reason_code(pb.reason),
        text: pb.text.map(|text| cut(text, MAX_TEXT_BYTES)),
        applied: optional_power("applied_mw", pb.applied_mw)?,
    }))
}

fn setpoint_out(report: SetpointReport) -> pb::SetpointReport {
    pb::SetpointReport {
        dispatch_id: id_text(report.dispatch_id.uuid()),
        revision: report.revision,
        phase: word::setpoint_phase_out(report.phase),
        reason: report.reason.map_or(0, word::reason_code_out),
        text: report.text,
        applied_mw: report.applied.map(Power::mw),
    }
}

fn limit(pb: pb::LimitReport) -> Result<Report, Fault> {
    let Some(phase) = word::limit_phase(pb.phase) else {
        return Ok(Report::Unknown);
    };
    Ok(Report::Limit(LimitReport {
        revision: from_one("revision", pb.revision)?,
        phase,
        reason: word::reason_code(pb.reason),
        text: pb.text.map(|text| cut(text, MAX_TEXT_BYTES)),
    }))
}

fn limit_out(report: LimitReport) -> pb::LimitReport {
    pb::LimitReport {
        revision: report.revision,
        phase: word::limit_phase_out(report.phase),
        reason: report.reason.map_or(0, word::reason_code_out),
        text: report.text,
    }
}

fn event(pb: pb::Event) -> EventReport {
    EventReport {
        severity: word::severity(pb.severity),
        code: cut(pb.code, MAX_NAME_BYTES),
        text: cut(pb.text, MAX_TEXT_BYTES),
    }
}

fn event_out(event: EventReport) -> pb::Event {
    pb::Event {
        severity: word::severity_out(event.severity),
        code: event.code,
        text: event.text,
    }
}
