//! Register, grants, heartbeats: who the agent is and how it is.

use derms_proto::link::{
    AgentHeartbeat, AgentMessage, AssetState, AssetUpdate, Grant, GrantStatus, LIMITS, LogCursor,
    LogKind, PROTOCOL_MINOR, Register, Registered, SCHEDULE,
};
use derms_proto::{AssetId, LogId, Timestamp};

use super::asset::AssetMachine;
use super::link::State;
use super::live::{self, Live};
use super::{Output, REGISTERED_TIMEOUT, Session};
use crate::AgentEvent;
use crate::clock::Now;
use crate::state::Renamed;

impl Session {
    /// The connection is there: the agent says who it is.
    pub(super) fn connected(&mut self, now: Now) {
        if self.link.state != State::Connecting || self.stopping.is_some() {
            self.out.push_back(Output::Disconnect);
            return;
        }
        let register = Register {
            agent_id: self.agent_id,
            instance_id: self.instance_id,
            protocol_minor: PROTOCOL_MINOR,
            capabilities: vec![LIMITS.to_owned(), SCHEDULE.to_owned()],
            software: self.software.clone(),
            last_epoch: self.last_epoch,
            logs: vec![self.telemetry.head(), self.reports.head()],
            assets: self.claims(now, |asset| !asset.is_leaving()),
            durable: self.ledger.is_durable(),
            agent_time: Some(now.wall),
        };
        self.send(AgentMessage::Register(register));
        self.roster.told();
        self.link.state = State::Registering {
            sent: now.mono,
            until: now.mono + REGISTERED_TIMEOUT,
        };
    }

    pub(super) fn claims<E>(
        &self,
        now: Now,
        which: impl Fn(&AssetMachine) -> bool,
    ) -> Vec<Result<AssetState, E>> {
        let assets = self.assets.values().filter(|asset| which(asset));
        assets.map(|asset| Ok(asset.state(now.mono))).collect()
    }

    /// The session is active.
    pub(super) fn registered(&mut self, registered: &Registered, now: Now) {
        let State::Registering { sent, .. } = self.link.state else {
            self.protocol_error("Registered came twice".into(), now);
            return;
        };
        let Some((telemetry_next, reports_next)) = self.resume_logs(&registered.logs) else {
            self.fork_logs(&registered.logs, now);
            self.protocol_error("a log cursor is beyond what was ever sent".into(), now);
            return;
        };
        let epoch = registered.epoch;
        if epoch == 0 {
            self.protocol_error("epoch 0 is no epoch".into(), now);
            return;
        }
        if epoch <= self.last_epoch {
            let last = self.last_epoch;
            self.event(AgentEvent::EpochWentBack { last, epoch });
        }
        self.last_epoch = self.last_epoch.max(epoch);
        let server_time = registered.server_time;
        if let Some(early) = self.clock.exchange(sent, now.mono, server_time) {
            self.mend_labels(early);
        }
        let mut live = Live::new(registered, telemetry_next, reports_next, now.mono);
        if self.is_behind(&live) {
            let spread = registered.limits.backfill_spread.as_secs_f64().min(3_600.0);
            let wait = std::time::Duration::from_secs_f64(self.rng.f64() * spread);
            live.backfill = Some(now.mono + wait);
        }
        self.live = Some(live);
        self.link.state = State::Active {
            since: now.mono,
            epoch,
        };
        self.out
            .push_back(Output::ReadEvery(live::read_interval(registered)));
        // What was added since Register is claimed next.
        let unclaimed: Vec<_> = self.unclaimed().collect();
        self.each_asset(now, |asset, ctx| {
            if unclaimed.contains(&asset.id()) {
                return;
            }
            let answer = registered
                .grants
                .iter()
                .rev()
                .find(|g| g.asset_id == asset.id());
            match answer {
                Some(grant) => asset.set_grant(grant.status, ctx, grant.text.clone()),
                None => asset.set_grant(GrantStatus::Unknown, ctx, Some("not answered".into())),
            }
        });
        self.event(AgentEvent::Connected {
            epoch,
            granted: self
                .assets
                .values()
                .filter(|asset| asset.is_granted())
                .count(),
            claimed: self.assets.len(),
        });
    }

    fn unclaimed(&self) -> impl Iterator<Item = AssetId> {
        let assets = self.assets.keys().copied();
        assets.filter(|asset_id| self.roster.is_unclaimed(*asset_id))
    }

    /// Where both logs go on; `None` if a cursor makes no sense.
    fn resume_logs(&mut self, cursors: &[LogCursor]) -> Option<(u64, u64)> {
        let cursor = |kind, log_id| {
            let mut cursors = cursors.iter();
            cursors
                .find(|c| c.kind == kind && c.log_id == log_id)
                .map(|c| c.next_seq.max(1))
        };
        let telemetry = cursor(LogKind::Telemetry, self.telemetry.log_id());
        let reports = cursor(LogKind::Report, self.reports.log_id());
        // Checked before either is trimmed: nothing is lost to a headend that is wrong.
        let known = self.telemetry.was_sent(telemetry.unwrap_or(1) - 1)
            && self.reports.was_sent(reports.unwrap_or(1) - 1);
        // What was acknowledged before is gone, even if the headend has lost it since.
        known.then(|| {
            let telemetry = self.telemetry.resume(telemetry);
            (telemetry, self.reports.resume(reports))
        })
    }

    /// A headend that knows more of a log than was ever sent from here: this state is an older
    /// copy, or another process goes on with a copy of it, or its end was lost. Under other ids
    /// nothing is taken for what it is not.
    fn fork_logs(&mut self, cursors: &[LogCursor], now: Now) {
        if !self.ledger.is_durable() {
            return;
        }
        let mut renamed = Renamed::default();
        for cursor in cursors {
            let up_to = cursor.next_seq.max(1) - 1;
            match cursor.kind {
                LogKind::Telemetry
                    if cursor.log_id == self.telemetry.log_id()
                        && !self.telemetry.was_sent(up_to) =>
                {
                    let log = LogId::generate();
                    renamed.telemetry = Some((log, self.telemetry.fork(log, cursor.next_seq)));
                }
                LogKind::Report
                    if cursor.log_id == self.reports.log_id() && !self.reports.was_sent(up_to) =>
                {
                    let log = LogId::generate();
                    self.reports.fork(log, cursor.next_seq);
                    renamed.reports = Some(log);
                }
                _ => {}
            }
        }
        if renamed.reports.is_some() {
            // What became of them was told by whoever has got further.
            self.each_asset(now, |asset, ctx| {
                asset.forget_scheduled("the memory of the agent is an older copy", ctx);
            });
        }
        self.ledger.rename(renamed);
        self.event(AgentEvent::StateForked);
    }

    /// Before the first exchange the wall clock was the label, and nothing has been sent yet.
    fn mend_labels(&mut self, early: i64) {
        let later = |label: Timestamp| {
            Timestamp::from_unix_micros(label.unix_micros().saturating_add(early))
        };
        self.telemetry.relabel(early);
        self.reports.relabel(early);
        for sample in self.fresh.values_mut() {
            sample.measured_at = later(sample.measured_at);
        }
    }

    pub(super) fn grants(&mut self, grants: &[Grant], now: Now) {
        for grant in grants {
            self.on_asset(grant.asset_id, now, |asset, ctx| {
                asset.set_grant(grant.status, ctx, grant.text.clone());
            });
        }
    }

    /// The headend wants to hear again what every asset is doing.
    pub(super) fn resync(&mut self, epoch: u64, now: Now) {
        let upserted = self.claims(now, |asset| !asset.is_leaving());
        self.send(AgentMessage::AssetUpdate(AssetUpdate {
            epoch,
            upserted,
            removed: Vec::new(),
        }));
    }

    /// A heartbeat when it is due; with it, assets that another agent served, or for which no answer
    /// came, are claimed again.
    pub(super) fn heartbeat(&mut self, now: Now) {
        let Some(live) = self
            .live
            .as_mut()
            .filter(|live| live.next_heartbeat <= now.mono)
        else {
            return;
        };
        let monotonic = now.mono.since_origin();
        live.next_heartbeat = now.mono + live.heartbeat_every;
        live.last_heartbeat = Some(now.mono);
        live.stamp(monotonic);
        let epoch = live.epoch;
        let heartbeat = AgentHeartbeat {
            agent_time: Some(now.wall),
            monotonic,
            epoch,
            outbox_depth: self.telemetry.depth(),
            dropped_samples: self.telemetry.dropped(),
            assets: self
                .assets
                .values()
                .map(|asset| asset.health(now.mono))
                .collect(),
            uptime: Some(now.mono.saturating_since(self.started)),
        };
        self.send(AgentMessage::Heartbeat(heartbeat));
        let upserted = self.claims(now, |asset| {
            let unanswered = asset.is_unanswered() && !self.roster.is_unclaimed(asset.id());
            asset.is_served_elsewhere() || unanswered
        });
        if !upserted.is_empty() {
            self.send(AgentMessage::AssetUpdate(AssetUpdate {
                epoch,
                upserted,
                removed: Vec::new(),
            }));
        }
    }
}
