//! What stands in a frame, as protobuf: the messages of the agent link where there are any.

use derms_proto::link::{
    AgentMessage, AssetLimits, EventReport, Gap, GapReason, HeadendMessage, MAX_SEQ, Refusal,
    ReleaseOrder, Report, ReportBatch, ReportEntry, Sample, SetpointOrder, SetpointReport,
    Severity, TelemetryBatch,
};
use derms_proto::{AssetId, LogId, Power, Timestamp, pb};
use prost::Message;
use uuid::Uuid;

use crate::clock::MonoTime;
use crate::state::{Held, Mend, Record, Restraint, Started};

/// No batch of the agent link has more entries.
pub(crate) const MAX_ITEMS: usize = 4_096;

/// Who a state directory belongs to, and what its logs are called.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Identity {
    #[prost(bytes, tag = "1")]
    pub(super) agent_id: Vec<u8>,
    /// Tells a copy of the directory from the directory.
    #[prost(string, tag = "2")]
    pub(super) place: String,
    #[prost(bytes, tag = "3")]
    pub(super) telemetry_log: Vec<u8>,
    /// Number 1 of the telemetry log stands in the files as this plus 1.
    #[prost(uint64, tag = "4")]
    pub(super) telemetry_base: u64,
    #[prost(bytes, tag = "5")]
    pub(super) report_log: Vec<u8>,
    /// How often the directory was opened.
    #[prost(uint64, tag = "6")]
    pub(super) starts: u64,
    /// The boot of the machine that times on the clock through suspend belong to.
    #[prost(string, tag = "7")]
    pub(super) boot: String,
}

/// One step of the ledger.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Step {
    /// Counts up by one.
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    /// With all that is known; what came before does not count.
    #[prost(message, optional, tag = "2")]
    pub(super) identity: Option<Identity>,
    #[prost(message, repeated, tag = "3")]
    pub(super) assets: Vec<AssetState>,
    #[prost(message, repeated, tag = "4")]
    pub(super) reports: Vec<pb::Report>,
    #[prost(uint64, tag = "5")]
    pub(super) unacked_report: u64,
    #[prost(uint64, tag = "6")]
    pub(super) last_epoch: u64,
}

impl Step {
    /// What stands in a frame; `None` if it is no step, or has numbers that no agent comes to. Such
    /// a frame is damaged, whatever its checksum says.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let step = Self::decode(frame).ok()?;
        let identity = step.identity.iter();
        let mut numbers = identity.flat_map(|identity| [identity.telemetry_base, identity.starts]);
        let sound = numbers.all(is_number)
            && [step.index, step.unacked_report, step.last_epoch]
                .into_iter()
                .all(is_number)
            && step.assets.iter().all(|asset| is_number(asset.revision))
            && step.reports.iter().all(|batch| is_number(batch.first_seq));
        sound.then_some(step)
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AssetState {
    #[prost(bytes, tag = "1")]
    pub(super) asset_id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(super) revision: u64,
    #[prost(message, optional, tag = "3")]
    next: Option<pb::Setpoint>,
    #[prost(message, optional, tag = "4")]
    in_force: Option<pb::Setpoint>,
    #[prost(bool, tag = "5")]
    started: bool,
    /// Nanoseconds on the clock through suspend.
    #[prost(uint64, optional, tag = "6")]
    ends_at: Option<u64>,
    #[prost(double, optional, tag = "7")]
    applied_mw: Option<f64>,
    #[prost(message, optional, tag = "8")]
    releasing: Option<pb::Release>,
    #[prost(message, optional, tag = "9")]
    ending: Option<pb::Report>,
    #[prost(uint64, optional, tag = "10")]
    ending_release: Option<u64>,
    #[prost(message, optional, tag = "11")]
    outcomes: Option<pb::Report>,
    #[prost(uint64, repeated, tag = "12")]
    outcome_revisions: Vec<u64>,
    #[prost(message, repeated, tag = "13")]
    scheduled: Vec<pb::Setpoint>,
    #[prost(message, optional, tag = "14")]
    limits: Option<pb::AssetLimits>,
    /// Nanoseconds on the clock through suspend.
    #[prost(uint64, optional, tag = "15")]
    returns_at: Option<u64>,
}

/// Samples that follow each other, and what is to be known of their log.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Chunk {
    #[prost(uint64, tag = "1")]
    pub(super) floor: u64,
    #[prost(uint64, tag = "2")]
    pub(super) mark: u64,
    #[prost(uint64, tag = "3")]
    pub(super) at: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) gaps: Vec<pb::Gap>,
    #[prost(message, repeated, tag = "5")]
    pub(super) mends: Vec<MendState>,
    #[prost(uint64, tag = "6")]
    pub(super) first: u64,
    #[prost(uint64, tag = "7")]
    pub(super) count: u64,
    /// A `pb::Telemetry`, decoded only when it is read back.
    #[prost(bytes, tag = "8")]
    pub(super) samples: Vec<u8>,
    #[prost(string, tag = "9")]
    pub(super) boot: String,
}

impl Chunk {
    /// What stands in a frame; `None` as with [`Step::read`].
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let chunk = Self::decode(frame).ok()?;
        let in_order = |first, last| first <= last && is_number(last);
        let sound = [chunk.floor, chunk.mark, chunk.first, chunk.count]
            .into_iter()
            .all(is_number)
            && chunk
                .gaps
                .iter()
                .all(|gap| in_order(gap.first_seq, gap.last_seq))
            && chunk
                .mends
                .iter()
                .all(|mend| in_order(mend.first, mend.last));
        sound.then_some(chunk)
    }
}

/// Sums of a few of them don't overflow.
fn is_number(number: u64) -> bool {
    number <= MAX_SEQ
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct MendState {
    #[prost(uint64, tag = "1")]
    first: u64,
    #[prost(uint64, tag = "2")]
    last: u64,
    #[prost(sint64, tag = "3")]
    micros: i64,
}

pub(super) fn uuid(bytes: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(bytes).ok()
}

pub(super) fn nanos(time: MonoTime) -> u64 {
    u64::try_from(time.since_origin().as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn mono(nanos: u64) -> MonoTime {
    MonoTime::from_origin(std::time::Duration::from_nanos(nanos))
}

impl From<&Record> for AssetState {
    fn from(record: &Record) -> Self {
        let id = record.asset_id;
        let in_force = record.in_force.as_ref();
        let started = in_force.and_then(|held| held.started);
        let reports = |reports: &mut dyn Iterator<Item = &SetpointReport>| {
            let entries = reports.map(|report| ReportEntry {
                at: Timestamp::UNIX_EPOCH,
                asset_id: id,
                report: Report::Setpoint(report.clone()),
            });
            reports_out(1, entries.collect())
        };
        Self {
            asset_id: id.uuid().as_bytes().to_vec(),
            revision: record.revision,
            next: record.next.clone().and_then(order_out),
            in_force: in_force.and_then(|held| order_out(held.order.clone())),
            started: started.is_some(),
            ends_at: started.and_then(|started| started.ends_at).map(nanos),
            applied_mw: started
                .and_then(|started| started.applied)
                .map(|power| power.mw()),
            releasing: record.releasing.clone().and_then(release_out),
            ending: record
                .ending
                .as_ref()
                .map(|(report, _)| reports(&mut std::iter::once(report))),
            ending_release: record.ending.as_ref().and_then(|(_, release)| *release),
            outcomes: Some(reports(
                &mut record.outcomes.iter().map(|(_, report)| report),
            )),
            outcome_revisions: record.outcomes.iter().map(|(of, _)| *of).collect(),
            scheduled: record
                .scheduled
                .iter()
                .filter_map(|order| order_out(order.clone()))
                .collect(),
            limits: limits_out(id, &record.restraint),
            returns_at: record.restraint.returns_at.map(nanos),
        }
    }
}

impl AssetState {
    /// `None` if it names no asset.
    pub(super) fn record(self) -> Option<Record> {
        let asset_id = AssetId::new(uuid(&self.asset_id)?);
        let setpoints = |pb: Option<pb::Report>| {
            let entries = pb.map(reports_in).unwrap_or_default();
            entries.into_iter().filter_map(|entry| match entry.report {
                Report::Setpoint(report) => Some(report),
                _ => None,
            })
        };
        let started = self.started.then(|| Started {
            ends_at: self.ends_at.map(mono),
            applied: self
                .applied_mw
                .filter(|mw| mw.is_finite())
                .map(Power::from_mw),
        });
        let outcomes = self
            .outcome_revisions
            .into_iter()
            .zip(setpoints(self.outcomes));
        Some(Record {
            asset_id,
            revision: self.revision,
            next: self.next.and_then(order_in),
            in_force: self
                .in_force
                .and_then(order_in)
                .map(|order| Held { order, started }),
            releasing: self.releasing.and_then(release_in),
            ending: setpoints(self.ending)
                .next()
                .map(|report| (report, self.ending_release)),
            outcomes: outcomes.collect(),
            scheduled: self.scheduled.into_iter().filter_map(order_in).collect(),
            restraint: restraint_in(self.limits, self.returns_at.map(mono)),
        })
    }
}

fn order_out(order: SetpointOrder) -> Option<pb::Setpoint> {
    match pb::HeadendMessage::from(HeadendMessage::Setpoint(order)).body {
        Some(pb::headend_message::Body::Setpoint(pb)) => Some(pb),
        _ => None,
    }
}

fn order_in(pb: pb::Setpoint) -> Option<SetpointOrder> {
    let body = Some(pb::headend_message::Body::Setpoint(pb));
    match HeadendMessage::try_from(pb::HeadendMessage {
        body,
        ..Default::default()
    }) {
        Ok(HeadendMessage::Setpoint(order)) => Some(order),
        _ => None,
    }
}

fn release_out(order: ReleaseOrder) -> Option<pb::Release> {
    match pb::HeadendMessage::from(HeadendMessage::Release(order)).body {
        Some(pb::headend_message::Body::Release(pb)) => Some(pb),
        _ => None,
    }
}

fn release_in(pb: pb::Release) -> Option<ReleaseOrder> {
    let body = Some(pb::headend_message::Body::Release(pb));
    match HeadendMessage::try_from(pb::HeadendMessage {
        body,
        ..Default::default()
    }) {
        Ok(HeadendMessage::Release(order)) => Some(order),
        _ => None,
    }
}

fn limits_out(asset_id: AssetId, restraint: &Restraint) -> Option<pb::AssetLimits> {
    if restraint.revision == 0 {
        return None;
    }
    let limits = AssetLimits {
        asset_id,
        revision: restraint.revision,
        epoch: 0,
        limits: restraint.limits.clone(),
        stop: restraint.stop,
        return_within: restraint.return_within,
    };
    match pb::HeadendMessage::from(HeadendMessage::AssetLimits(limits)).body {
        Some(pb::headend_message::Body::AssetLimits(pb)) => Some(pb),
        _ => None,
    }
}

fn restraint_in(pb: Option<pb::AssetLimits>, returns_at: Option<MonoTime>) -> Restraint {
    let body = pb.map(pb::headend_message::Body::AssetLimits);
    match HeadendMessage::try_from(pb::HeadendMessage {
        body,
        ..Default::default()
    }) {
        Ok(HeadendMessage::AssetLimits(limits)) => Restraint {
            revision: limits.revision,
            limits: limits.limits,
            stop: limits.stop,
            return_within: limits.return_within,
            returns_at,
        },
        _ => Restraint::default(),
    }
}

/// At most [`MAX_ITEMS`] entries.
pub(super) fn reports_out(first_seq: u64, entries: Vec<ReportEntry>) -> pb::Report {
    let batch = ReportBatch {
        log_id: LogId::new(Uuid::nil()),
        first_seq,
        entries: entries.into_iter().map(Ok).collect(),
    };
    match pb::AgentMessage::from(AgentMessage::Report(batch)).body {
        Some(pb::agent_message::Body::Report(pb)) => pb,
        _ => pb::Report::default(),
    }
}

/// An entry that can't be read is replaced by one that says so: it has its number.
pub(super) fn reports_in(pb: pb::Report) -> Vec<ReportEntry> {
    let body = Some(pb::agent_message::Body::Report(pb));
    let entries = match AgentMessage::try_from(pb::AgentMessage {
        body,
        ..Default::default()
    }) {
        Ok(AgentMessage::Report(batch)) => batch.entries,
        _ => Vec::new(),
    };
    let entries = entries.into_iter().map(|entry| {
        entry.unwrap_or_else(|refusal| ReportEntry {
            at: Timestamp::UNIX_EPOCH,
            asset_id: AssetId::new(Uuid::nil()),
            report: Report::Event(EventReport {
                severity: Severity::Alarm,
                code: "report_unreadable".into(),
                text: refusal.to_string(),
            }),
        })
    });
    entries.collect()
}

/// At most [`MAX_ITEMS`] samples.
pub(super) fn samples_out(samples: Vec<Sample>) -> Vec<u8> {
    let batch = TelemetryBatch {
        log_id: LogId::new(Uuid::nil()),
        first_seq: 1,
        samples: samples.into_iter().map(Ok).collect(),
        gaps: Vec::new(),
    };
    match pb::AgentMessage::from(AgentMessage::Telemetry(batch)).body {
        Some(pb::agent_message::Body::Telemetry(mut pb)) => {
            pb.log_id.clear();
            pb.encode_to_vec()
        }
        _ => Vec::new(),
    }
}

pub(super) fn samples_in(bytes: &[u8]) -> Option<Vec<Result<Sample, Refusal>>> {
    let mut pb = pb::Telemetry::decode(bytes).ok()?;
    pb.log_id = Uuid::nil().to_string();
    let body = Some(pb::agent_message::Body::Telemetry(pb));
    match AgentMessage::try_from(pb::AgentMessage {
        body,
        ..Default::default()
    }) {
        Ok(AgentMessage::Telemetry(batch)) => Some(batch.samples),
        _ => None,
    }
}

pub(super) fn gap_out(gap: &Gap, base: u64) -> pb::Gap {
    let reason = match gap.reason {
        GapReason::OutboxFull => pb::GapReason::OutboxFull,
        GapReason::TooOld => pb::GapReason::TooOld,
        GapReason::Corrupt => pb::GapReason::Corrupt,
        _ => pb::GapReason::Unspecified,
    };
    pb::Gap {
        first_seq: gap.first_seq.saturating_add(base),
        last_seq: gap.last_seq.saturating_add(base),
        reason: reason.into(),
    }
}

pub(super) fn gap_in(gap: &pb::Gap) -> Gap {
    let reason = match gap.reason() {
        pb::GapReason::OutboxFull => GapReason::OutboxFull,
        pb::GapReason::TooOld => GapReason::TooOld,
        pb::GapReason::Corrupt => GapReason::Corrupt,
        pb::GapReason::Unspecified => GapReason::Unknown,
    };
    Gap {
        first_seq: gap.first_seq,
        last_seq: gap.last_seq,
        reason,
    }
}

impl MendState {
    pub(super) fn new(mend: &Mend, base: u64) -> Self {
        Self {
            first: mend.first.saturating_add(base),
            last: mend.last.saturating_add(base),
            micros: mend.micros,
        }
    }

    pub(super) const fn mend(self) -> Mend {
        Mend {
            first: self.first,
            last: self.last,
            micros: self.micros,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use derms_proto::link::{FollowUp, Limit, SetpointPhase};
    use derms_proto::{DispatchId, LimitId, ReasonCode};

    use super::*;

    #[test]
    fn all_that_is_remembered_of_an_asset_comes_back_as_it_was() {
        let asset_id = AssetId::new(Uuid::from_u128(1));
        let order = |revision| SetpointOrder {
            asset_id,
            dispatch_id: DispatchId::new(Uuid::from_u128(u128::from(revision))),
            revision,
            epoch: 7,
            power: Power::from_mw(-2.5),
            duration: Some(Duration::from_millis(1_500)),
            start_at: Some(Timestamp::from_unix_micros(1_699_999_999_000_001)),
            start_deadline: Timestamp::from_unix_micros(1_700_000_000_000_001),
            ramp_mw_per_min: Some(3.0),
            then: FollowUp::Value(Power::from_mw(1.0)),
        };
        let report = |revision, phase| SetpointReport {
            dispatch_id: order(revision).dispatch_id,
            revision,
            phase,
            reason: Some(ReasonCode::DeviceError),
            text: Some("why".into()),
            applied: Some(Power::from_mw(0.5)),
        };
        let record = Record {
            asset_id,
            revision: 9,
            next: Some(order(9)),
            in_force: Some(Held {
                order: order(8),
                started: Some(Started {
                    ends_at: Some(mono(123_456_789)),
                    applied: Some(Power::from_mw(-2.4)),
                }),
            }),
            releasing: Some(ReleaseOrder {
                asset_id,
                dispatch_id: order(8).dispatch_id,
                revision: 10,
                epoch: 7,
            }),
            ending: Some((report(6, SetpointPhase::Completed), Some(7))),
            outcomes: vec![
                (3, report(2, SetpointPhase::Released)),
                (4, report(4, SetpointPhase::Failed)),
            ],
            scheduled: vec![order(11), order(12)],
            restraint: Restraint {
                revision: 3,
                limits: vec![Limit {
                    id: LimitId::new(Uuid::from_u128(5)),
                    min: Some(Power::from_mw(-1.0)),
                    max: None,
                    expires_at: Some(Timestamp::from_unix_micros(1_700_000_000_000_001)),
                }],
                stop: true,
                return_within: Duration::from_secs(60),
                returns_at: Some(mono(5)),
            },
        };
        assert_eq!(AssetState::from(&record).record(), Some(record.clone()));
        let bare = Record {
            next: None,
            in_force: None,
            releasing: None,
            ending: None,
            outcomes: Vec::new(),
            scheduled: Vec::new(),
            restraint: Restraint::default(),
            ..record
        };
        assert_eq!(AssetState::from(&bare).record(), Some(bare));
    }
}
