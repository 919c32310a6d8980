//! Readings into the telemetry log, and both logs onto the stream.

use std::time::Duration;

use derms_proto::link::{AgentMessage, Sample};
use derms_proto::{AssetId, ReasonCode};

use super::asset::AssetMachine;
use super::live::Live;
use super::{DeviceFault, Output, Session};
use crate::clock::{MonoTime, Now};
use crate::outbox::chunks;
use crate::{AgentEvent, Reading};

/// While batches wait for their acknowledgement, a sample waits this long for others.
const GATHER: Duration = Duration::from_millis(200);
/// How often newest samples are sent at once while the log is behind.
const LIVE_EVERY: Duration = Duration::from_secs(1);

/// Whether what is read now can't go out by way of the log: it is far behind, or the headend
/// acknowledges nothing.
fn log_waits(live: &Live) -> bool {
    live.backfill.is_some() || live.telemetry.is_full()
}

impl Session {
    /// A device was read, or could not be.
    pub(super) fn read(
        &mut self,
        asset_id: AssetId,
        at: Now,
        result: Result<Box<Reading>, DeviceFault>,
        now: Now,
    ) {
        let before = self.assets.get(&asset_id).map(AssetMachine::availability);
        self.take_reading(asset_id, at, result, now);
        let after = self.assets.get(&asset_id).map(AssetMachine::availability);
        if let Some(live) = self.live.as_mut().filter(|_| before != after) {
            live.heartbeat_soon(self.assets.len(), now.mono);
        }
    }

    fn take_reading(
        &mut self,
        asset_id: AssetId,
        at: Now,
        result: Result<Box<Reading>, DeviceFault>,
        now: Now,
    ) {
        let result = result.and_then(|reading| match reading.measurements.non_finite() {
            Some(field) => Err(DeviceFault {
                reason: ReasonCode::DeviceError,
                text: format!("{field} is not a finite number"),
            }),
            None => Ok(reading),
        });
        let reading = match result {
            Ok(reading) => {
                self.counted.reads += 1;
                reading
            }
            Err(fault) => {
                self.counted.read_errors += 1;
                if fault.is_timeout() {
                    self.counted.read_timeouts += 1;
                }
                self.on_asset(asset_id, now, |asset, ctx| {
                    asset.read_failed(fault.text, ctx);
                });
                return;
            }
        };
        let Reading {
            age,
            availability,
            mut measurements,
            alarms,
        } = *reading;
        let measured = measurements.mw;
        self.on_asset(asset_id, now, |asset, ctx| {
            asset.read(availability, measured, alarms, ctx);
        });
        let Some(asset) = self
            .assets
            .get(&asset_id)
            .filter(|asset| !asset.is_refused())
        else {
            return;
        };
        measurements.setpoint_mw = measurements.setpoint_mw.or(asset.setpoint());
        measurements.control = Some(asset.source());
        let sample = Sample {
            asset_id,
            // A cached value is as old as it is, whenever it is sent.
            measured_at: self.clock.label(at.mono).saturating_sub(age),
            measurements,
        };
        if self.live.as_ref().is_none_or(log_waits) {
            self.fresh.insert(asset_id, sample.clone());
        }
        self.counted.samples_taken += 1;
        let appended = self.telemetry.append(sample, now.mono);
        if let Some(gap) = appended.lost {
            self.event(AgentEvent::SamplesLost { gap });
        }
        if appended.trimmed {
            let text = "the details are too large and were left out".into();
            self.event(AgentEvent::ReadFailed { asset_id, text });
        }
    }

    pub(super) fn is_behind(&self, live: &Live) -> bool {
        self.unsent(live) > 2 * live.max_samples as u64
    }

    fn unsent(&self, live: &Live) -> u64 {
        self.telemetry
            .next_seq()
            .saturating_sub(live.telemetry.next())
    }

    /// Sends what the windows allow: reports first, then telemetry, and newest samples while the
    /// telemetry log is behind.
    pub(super) fn send_logs(&mut self, now: Now) {
        let Some(mut live) = self.live.take() else {
            return;
        };
        while !live.reports.is_full()
            && let Some((batch, last)) =
                self.reports
                    .batch(live.reports.next(), live.max_samples, live.max_bytes)
        {
            live.reports.sent(last);
            self.reports.sent(last);
            self.send(AgentMessage::Report(batch));
        }
        let wanted = self.send_telemetry(&mut live, now.mono);
        self.send_fresh(&mut live, now.mono);
        self.live = Some(live);
        if let Some(from) = wanted {
            self.fetch(from, now);
        }
    }

    /// Gives the number that may have to be read back before the log can go on.
    fn send_telemetry(&mut self, live: &mut Live, now: MonoTime) -> Option<u64> {
        if live.backfill.is_none() && self.is_behind(live) {
            // Not at once: a pause that the headend asked for holds for this, too.
            live.backfill = Some(live.after_backfill_batch(now));
        }
        live.waits_for_disk = false;
        while !live.telemetry.is_full() {
            if self.unsent(live) <= live.max_samples as u64 {
                live.backfill = None;
            }
            let waits = match live.backfill {
                Some(next) => next > now,
                None => self.gathers_until(live).is_some_and(|until| until > now),
            };
            if waits {
                return None;
            }
            let samples = live.telemetry.samples(live.max_samples);
            let batch = self
                .telemetry
                .batch(live.telemetry.next(), samples, live.max_bytes);
            let Some((batch, last)) = batch else {
                live.waits_for_disk = true;
                return Some(live.telemetry.next());
            };
            live.telemetry.sent(last);
            self.telemetry.sent(last);
            self.counted.samples_sent += batch.samples.len() as u64;
            self.out
                .push_back(Output::Send(Box::new(AgentMessage::Telemetry(batch))));
            if live.backfill.is_some() {
                live.backfill = Some(live.after_backfill_batch(now));
            }
        }
        None
    }

    /// While something is on its way, samples are gathered, so that a gateway with many assets
    /// does not use its window up with batches of one.
    fn gathers_until(&self, live: &Live) -> Option<MonoTime> {
        if live.telemetry.is_idle() {
            return None;
        }
        let oldest = self.telemetry.appended_at(live.telemetry.next())?;
        Some(oldest + GATHER)
    }

    fn send_fresh(&mut self, live: &mut Live, now: MonoTime) {
        if !log_waits(live) {
            self.fresh.clear();
            return;
        }
        if self.fresh.is_empty() || live.next_live > now {
            return;
        }
        live.next_live = now + LIVE_EVERY;
        let samples = std::mem::take(&mut self.fresh).into_values();
        for chunk in chunks(samples, live.max_samples, live.max_bytes) {
            self.send(AgentMessage::LiveTelemetry(
                chunk.into_iter().map(Ok).collect(),
            ));
        }
    }

    /// When the session has something to do by itself.
    pub(super) fn live_deadline(&self, live: &Live) -> Option<MonoTime> {
        let telemetry = match live.backfill {
            _ if live.waits_for_disk || live.telemetry.is_full() => None,
            _ if self.unsent(live) == 0 => None,
            Some(next) => Some(next),
            None => self.gathers_until(live),
        };
        let fresh = (log_waits(live) && !self.fresh.is_empty()).then_some(live.next_live);
        [
            Some(live.gives_up_at()),
            Some(live.next_heartbeat),
            telemetry,
            fresh,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
