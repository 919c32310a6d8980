//! What a session accepted, as it is kept: samples, reports, heartbeats.
//!
//! Facts need no grant: they are true whoever serves the asset now. They need an asset that this
//! agent may serve at all.

use std::sync::Arc;

use derms_proto::link::{
    AgentHeartbeat, RefusalCode, RefusedEntry, Report, ReportBatch, ReportEntry, Sample,
};
use derms_proto::{AgentId, AssetId, Heartbeat, SiteId, Telemetry, Timestamp, Traceparent};

use super::log::Accepted;
use crate::core::Core;
use crate::latest::Slot;
use crate::registry::Session;
use crate::store::{ReportAppend, StoredReport, TelemetryAppend};

/// The way of one agent's samples to latest values and store.
#[derive(Debug)]
pub(super) struct Facts {
    /// When the last message was read.
    read_at: Timestamp,
    /// The last asset that was looked up: most agents speak of one.
    last: Option<(AssetId, SiteId, Slot)>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            read_at: Timestamp::UNIX_EPOCH,
            last: None,
        }
    }
}

impl Facts {
    /// A message was read; what it holds was received now.
    pub(super) fn read(&mut self, now: Timestamp) {
        self.read_at = now;
    }

    /// Shows samples, and gives them as they are stored, with those that are refused.
    pub(super) fn telemetry(
        &mut self,
        core: &Core,
        session: &Session,
        accepted: Accepted<Sample>,
    ) -> (TelemetryAppend, Vec<RefusedEntry>) {
        let agent = session.agent_id;
        let link = &core.metrics.link;
        link.telemetry.received.inc_by(accepted.items.len() as u64);
        if !accepted.gaps.is_empty() {
            core.events.declared(agent, &session.assets());
        }
        let mut refused = accepted.refused;
        let mut samples = Vec::with_capacity(accepted.items.len());
        for (seq, sample) in accepted.items {
            match self.show(core, agent, sample) {
                Some(telemetry) => samples.push((seq, telemetry)),
                None => refused.push(not_granted(seq)),
            }
        }
        link.telemetry.refused.inc_by(refused.len() as u64);
        let append = TelemetryAppend {
            agent,
            log: accepted.log,
            samples,
            gaps: accepted.gaps,
            next_seq: accepted.next_seq,
        };
        (append, refused)
    }

    /// Shows samples that are not stored.
    pub(super) fn live(&mut self, core: &Core, agent: AgentId, samples: Vec<Sample>) {
        core.metrics.link.live_samples.inc_by(samples.len() as u64);
        for sample in samples {
            self.show(core, agent, sample);
        }
    }

    fn show(&mut self, core: &Core, agent: AgentId, sample: Sample) -> Option<Telemetry> {
        let (site_id, slot) = match self.last {
            Some((asset, site, slot)) if asset == sample.asset_id => (site, slot),
            _ => {
                let asset = core.fleet.asset(sample.asset_id)?;
                let site = core
                    .policy
                    .may_serve(agent, asset)
                    .then_some(asset.site_id)?;
                let slot = core.latest.slot(asset.id)?;
                self.last = Some((asset.id, site, slot));
                (site, slot)
            }
        };
        let mut telemetry = Telemetry {
            asset_id: sample.asset_id,
            site_id,
            measured_at: sample.measured_at,
            received_at: self.read_at,
            measurements: sample.measurements,
        };
        if core.latest.offer_at(slot, &telemetry) {
            core.live.telemetry(&telemetry);
        }
        let link = &core.metrics.link;
        link.sample(telemetry.measured_at, telemetry.received_at);
        core.following.measured(&telemetry);
        // In history orders, limits and events tell it.
        telemetry.measurements.control = None;
        Some(telemetry)
    }
}

/// Reports as they are stored, with those that are refused.
pub(super) fn report(
    core: &Core,
    session: &Session,
    accepted: Accepted<ReportEntry>,
) -> (ReportAppend, Vec<RefusedEntry>) {
    let log = &core.metrics.link.reports;
    log.received.inc_by(accepted.items.len() as u64);
    let mut refused = accepted.refused;
    let mut entries = Vec::with_capacity(accepted.items.len());
    for (seq, entry) in accepted.items {
        let asset = core.fleet.asset(entry.asset_id);
        if asset.is_some_and(|asset| core.policy.may_serve(session.agent_id, asset)) {
            let event = match &entry.report {
                Report::Event(report) => Some(core.events.told(session.agent_id, &entry, report)),
                _ => None,
            };
            let event = event.map(Box::new);
            entries.push(StoredReport { seq, entry, event });
        } else {
            refused.push(not_granted(seq));
        }
    }
    log.refused.inc_by(refused.len() as u64);
    let append = ReportAppend {
        agent: session.agent_id,
        epoch: session.epoch,
        log: accepted.log,
        entries,
        next_seq: accepted.next_seq,
        at: core.clock.now(),
    };
    (append, refused)
}

/// Learns from reports which trace their orders and limits belong to.
pub(super) fn traced(core: &Core, session: &Session, batch: &ReportBatch, trace: Traceparent) {
    for entry in batch.entries.iter().flatten() {
        let asset = entry.asset_id;
        if !session.serves(asset) {
            continue;
        }
        match &entry.report {
            Report::Setpoint(report) => core.dispatcher.traced(report.dispatch_id, asset, trace),
            Report::Limit(report) => core.limits.traced(asset, report.revision, trace),
            _ => {}
        }
    }
}

/// Shows what an agent says about its assets, and has it stored.
pub(super) fn heartbeat(core: &Core, session: &Arc<Session>, heartbeat: &AgentHeartbeat) {
    for health in &heartbeat.assets {
        if session.serves(health.asset_id) {
            core.limits.said(
                session,
                health.asset_id,
                health.limit_revision,
                &health.control,
            );
        }
    }
    let received_at = core.clock.now();
    if let Some(theirs) = heartbeat.agent_time {
        let assets = || session.assets();
        core.events
            .clock_shown(session.agent_id, assets, theirs, received_at);
    }
    let heartbeats: Vec<Heartbeat> = heartbeat
        .assets
        .iter()
        .filter(|health| session.serves(health.asset_id))
        .map(|health| Heartbeat {
            asset_id: health.asset_id,
            agent_id: session.agent_id,
            epoch: session.epoch,
            received_at,
            agent_time: heartbeat.agent_time,
            uptime_s: heartbeat.uptime.map(|uptime| uptime.as_secs_f64()),
            outbox_depth: heartbeat.outbox_depth,
            dropped_samples: heartbeat.dropped_samples,
            availability: health.availability,
            control: health.control.source,
            control_mw: health.control.power,
            read_errors: health.read_errors,
        })
        .collect();
    let mut newest = core.heartbeats.write();
    for heartbeat in &heartbeats {
        newest.insert(heartbeat.asset_id, heartbeat.clone());
    }
    drop(newest);
    core.ingest.heartbeats(heartbeats);
}

fn not_granted(seq: u64) -> RefusedEntry {
    RefusedEntry {
        seq,
        code: RefusalCode::NotGranted,
        text: None,
    }
}
