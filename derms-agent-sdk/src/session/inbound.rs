//! What the headend says.

use std::time::Duration;

use derms_proto::link::{
    AgentMessage, HeadendMessage, LogAck, LogKind, Report, ReportEntry, SetpointOrder,
    SetpointPhase, SetpointReport,
};
use derms_proto::{AssetId, DispatchId, ReasonCode};

use super::Session;
use super::link::{End, State};
use super::live::Throttle;
use crate::AgentEvent;
use crate::clock::{MonoTime, Now};

/// A headend can't silence an agent for ever by one message.
const LONGEST_THROTTLE: Duration = Duration::from_secs(3_600);

impl Session {
    pub(super) fn received(&mut self, message: HeadendMessage, now: Now) {
        match self.link.state {
            State::Registering { .. } => match message {
                HeadendMessage::Registered(registered) => self.registered(&registered, now),
                HeadendMessage::Close(close) => self.end(&End::Closed(close), now),
                HeadendMessage::Unknown => {}
                _ => self.protocol_error("the first message is not Registered".into(), now),
            },
            State::Active { epoch, .. } => {
                if let Some(live) = &mut self.live {
                    live.last_read = now.mono;
                }
                self.each_asset(now, |asset, ctx| {
                    if asset.is_granted() {
                        asset.heard(ctx);
                    }
                });
                self.in_session(message, epoch, now);
            }
            _ => {}
        }
    }

    fn in_session(&mut self, message: HeadendMessage, epoch: u64, now: Now) {
        let of_epoch = match &message {
            HeadendMessage::Setpoint(order) => order.epoch,
            HeadendMessage::UnreadableSetpoint(order) => order.epoch,
            HeadendMessage::Release(order) => order.epoch,
            HeadendMessage::AssetLimits(limits) => limits.epoch,
            HeadendMessage::Grants { epoch, .. } | HeadendMessage::Resync { epoch } => *epoch,
            _ => epoch,
        };
        if of_epoch != epoch {
            let text = format!("epoch {of_epoch} in a session of epoch {epoch}");
            self.protocol_error(text, now);
            return;
        }
        match message {
            HeadendMessage::Registered(registered) => self.registered(&registered, now),
            HeadendMessage::Setpoint(order) => self.ordered(order, now),
            HeadendMessage::UnreadableSetpoint(order) if self.stopping.is_none() => {
                let asset_id = order.asset_id;
                let (dispatch_id, revision) = (order.dispatch_id, order.revision);
                if !self.on_asset(asset_id, now, |asset, ctx| asset.unreadable(&order, ctx)) {
                    self.refuse_stranger(asset_id, dispatch_id, revision, now);
                }
            }
            HeadendMessage::Release(order) if self.stopping.is_none() => {
                let asset_id = order.asset_id;
                let (dispatch_id, revision) = (order.dispatch_id, order.revision);
                if !self.on_asset(asset_id, now, |asset, ctx| {
                    asset.release_ordered(order, ctx);
                }) {
                    self.refuse_stranger(asset_id, dispatch_id, revision, now);
                }
            }
            HeadendMessage::AssetLimits(limits) => {
                let jitter = self.rng.f64();
                // Of no asset of this agent: the headend has no answer, and its grant was refused.
                self.on_asset(limits.asset_id, now, |asset, ctx| {
                    asset.limits_ordered(limits, jitter, ctx);
                });
            }
            HeadendMessage::LogAck(ack) => self.acked(ack, now),
            // A stamp of another session or a repeated one says nothing about the clock.
            HeadendMessage::HeartbeatAck {
                monotonic,
                server_time,
            } if self
                .live
                .as_mut()
                .is_some_and(|live| live.take_stamp(monotonic)) =>
            {
                let sent = MonoTime::from_origin(monotonic);
                self.clock.exchange(sent, now.mono, server_time);
            }
            HeadendMessage::Ping { nonce } => self.send(AgentMessage::Pong { nonce }),
            HeadendMessage::Throttle {
                backfill_batches_per_s,
                hold,
            } => {
                if let Some(live) = &mut self.live {
                    live.throttle = Some(Throttle {
                        batches_per_s: backfill_batches_per_s,
                        until: now.mono + hold.min(LONGEST_THROTTLE),
                    });
                    live.backfill = live
                        .backfill
                        .map(|next| next.max(live.after_backfill_batch(now.mono)));
                }
            }
            HeadendMessage::Resync { epoch } => self.resync(epoch, now),
            HeadendMessage::Grants { grants, .. } => self.grants(&grants, now),
            HeadendMessage::Close(close) => self.end(&End::Closed(close), now),
            _ => {}
        }
    }

    fn ordered(&mut self, order: SetpointOrder, now: Now) {
        // A stopping agent could not end the lease. The order stays unanswered: in doubt at the
        // headend, and failed as interrupted when the agent registers again.
        if self.stopping.is_some() {
            return;
        }
        let asset_id = order.asset_id;
        let (dispatch_id, revision) = (order.dispatch_id, order.revision);
        if !self.on_asset(asset_id, now, |asset, ctx| {
            asset.setpoint_ordered(order, ctx);
        }) {
            self.refuse_stranger(asset_id, dispatch_id, revision, now);
        }
    }

    /// An order for an asset that this agent does not have. If it had the asset, what became of the order
    /// is told again: it was not refused.
    fn refuse_stranger(
        &mut self,
        asset_id: AssetId,
        dispatch_id: DispatchId,
        revision: u64,
        now: Now,
    ) {
        let refusal = || SetpointReport {
            dispatch_id,
            revision,
            phase: SetpointPhase::Rejected,
            reason: Some(ReasonCode::NotGranted),
            text: Some("this agent has no such asset".into()),
            applied: None,
        };
        let known = self.roster.outcome(asset_id, dispatch_id);
        let report = known.unwrap_or_else(refusal);
        if self.reports.has_room_for_refusal() && !self.reports.holds(asset_id, &report) {
            self.reports.append(ReportEntry {
                at: self.clock.label(now.mono),
                asset_id,
                report: Report::Setpoint(report),
            });
        }
    }

    fn acked(&mut self, ack: LogAck, now: Now) {
        let Some(live) = &mut self.live else { return };
        let (log_id, known, first_unacked, window) = match ack.kind {
            LogKind::Telemetry if ack.log_id == self.telemetry.log_id() => {
                let held = self.telemetry.depth();
                let known = self.telemetry.ack(ack.up_to_seq);
                self.counted.samples_acked += held.saturating_sub(self.telemetry.depth());
                (
                    ack.log_id,
                    known,
                    self.telemetry.first_unacked(),
                    &mut live.telemetry,
                )
            }
            LogKind::Report if ack.log_id == self.reports.log_id() => {
                let known = self.reports.ack(ack.up_to_seq);
                (
                    ack.log_id,
                    known,
                    self.reports.first_unacked(),
                    &mut live.reports,
                )
            }
            // Of another life of a log.
            _ => return,
        };
        if !known {
            let up_to = ack.up_to_seq;
            self.protocol_error(
                format!("ack of {up_to} in {log_id}, which was never sent"),
                now,
            );
            return;
        }
        // An ack that was overtaken by a later one takes nothing back.
        window.acked(ack.up_to_seq.max(first_unacked - 1), ack.rewind);
        for refused in ack.refused {
            self.event(AgentEvent::EntryRefused {
                kind: ack.kind,
                seq: refused.seq,
                text: refused.text,
            });
        }
    }
}
