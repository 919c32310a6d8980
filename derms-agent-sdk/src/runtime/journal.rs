//! Events as log lines.

use derms_proto::link::{LimitPhase, SetpointPhase};
use derms_proto::{AgentId, Traceparent};
use http::Uri;
use tracing::field::display;
use tracing::{debug, error, info, warn};

use super::traces::Traces;
use crate::AgentEvent as E;
use crate::clock::MonoTime;

/// Writes events to the log of whoever has subscribed.
#[derive(Debug)]
pub(super) struct Journal {
    agent_id: AgentId,
    headend: Uri,
    /// Since when there is a session.
    connected: Option<MonoTime>,
}

impl Journal {
    pub(super) const fn new(agent_id: AgentId, headend: Uri) -> Self {
        Self {
            agent_id,
            headend,
            connected: None,
        }
    }

    pub(super) fn write(&mut self, event: &E, traces: &Traces, now: MonoTime) {
        match event {
            E::Connecting { .. }
            | E::Connected { .. }
            | E::ConnectFailed { .. }
            | E::Disconnected { .. }
            | E::Halted { .. }
            | E::DuplicateIdentity { .. } => self.link(event, now),
            E::Order { .. } | E::Resumed { .. } => order(event, traces),
            E::Limits { .. } | E::AssetStopped { .. } | E::AssetReturned { .. } => {
                restrained(event, traces);
            }
            _ => rest(event),
        }
    }

    fn link(&mut self, event: &E, now: MonoTime) {
        let Self {
            agent_id, headend, ..
        } = self;
        match event {
            E::Connecting { failures } => {
                debug!(%agent_id, %headend, failures, "connecting");
            }
            E::Connected {
                epoch,
                granted,
                claimed,
            } => {
                info!(%agent_id, %headend, epoch, granted, claimed, "connected");
                self.connected = Some(now);
            }
            E::ConnectFailed { text, retry_in } => {
                let retry_in_s = retry_in.as_secs_f64();
                warn!(%agent_id, %headend, error = text, retry_in_s, "can't reach the headend, will try again");
            }
            E::Disconnected {
                reason: cause,
                text,
                retry_in,
            } => {
                let lasted = self
                    .connected
                    .take()
                    .map(|since| now.saturating_since(since));
                let lasted_s = lasted.map(|lasted| lasted.as_secs_f64());
                if let Some(retry_in) = retry_in {
                    let retry_in_s = retry_in.as_secs_f64();
                    warn!(%agent_id, %headend, %cause, text, lasted_s, retry_in_s, "disconnected, will try again");
                } else {
                    warn!(%agent_id, %headend, %cause, text, lasted_s, "disconnected, will not try again");
                }
            }
            E::Halted {
                reason: cause,
                text,
                retry_in,
            } => {
                let lasted = self
                    .connected
                    .take()
                    .map(|since| now.saturating_since(since));
                let lasted_s = lasted.map(|lasted| lasted.as_secs_f64());
                let retry_in_s = retry_in.as_secs_f64();
                error!(%agent_id, %headend, %cause, text, lasted_s, retry_in_s,
                    "refused by the headend: mend its configuration or that of this agent");
            }
            E::DuplicateIdentity { text } => {
                error!(%agent_id, %headend, text, "another process uses the identity of this agent");
            }
            _ => {}
        }
    }
}

fn order(event: &E, traces: &Traces) {
    let trace_id = |id| {
        traces
            .of_order(Some(id))
            .map(|trace| display(trace.trace_id()))
    };
    match event {
        E::Order {
            asset_id,
            dispatch_id,
            revision,
            phase,
            reason,
            text,
            applied,
        } => {
            let text = text.as_deref();
            let reason = reason.map(display);
            let applied_mw = applied.map(|power| power.mw());
            let trace_id = trace_id(*dispatch_id);
            match phase {
                SetpointPhase::Rejected | SetpointPhase::Expired | SetpointPhase::Failed => {
                    warn!(%dispatch_id, %asset_id, revision, %phase, reason, text, trace_id, "order not kept");
                }
                _ => {
                    info!(%dispatch_id, %asset_id, revision, %phase, reason, text, applied_mw, trace_id, "order");
                }
            }
        }
        E::Resumed {
            asset_id,
            dispatch_id,
            remaining,
        } => {
            let remaining_s = remaining.map(|remaining| remaining.as_secs_f64());
            info!(%dispatch_id, %asset_id, remaining_s, "an order goes on after the restart");
        }
        _ => {}
    }
}

fn restrained(event: &E, traces: &Traces) {
    let trace_id = |trace: Option<Traceparent>| trace.map(|trace| display(trace.trace_id()));
    match event {
        E::Limits {
            asset_id,
            revision,
            phase,
            reason,
            text,
        } => {
            let (text, reason) = (text.as_deref(), reason.map(display));
            let trace_id = trace_id(traces.of_limits(*asset_id, *revision));
            if *phase == LimitPhase::InForce {
                info!(%asset_id, revision, reason, trace_id, "limits in force");
            } else {
                warn!(%asset_id, revision, %phase, reason, text, trace_id, "limits not in force");
            }
        }
        E::AssetStopped { asset_id } => {
            let trace_id = trace_id(traces.of_last_limits(*asset_id));
            warn!(%asset_id, trace_id, "stopped by an operator");
        }
        E::AssetReturned { asset_id } => {
            let trace_id = trace_id(traces.of_last_limits(*asset_id));
            info!(%asset_id, trace_id, "stopped no more");
        }
        _ => {}
    }
}

fn rest(event: &E) {
    match event {
        E::EpochWentBack { last, epoch } => {
            warn!(
                last,
                epoch, "the epoch went back: the headend has lost its state"
            );
        }
        E::Refused {
            asset_id,
            status,
            text,
        } => {
            let text = text.as_deref();
            warn!(%asset_id, %status, text, "the headend does not grant this asset");
        }
        E::DeviceStuck {
            asset_id,
            text,
            retry_in,
        } => {
            error!(%asset_id, error = text, retry_in_s = retry_in.as_secs_f64(), "the device does not go where it must, will try again");
        }
        E::DeviceRecovered { asset_id } => info!(%asset_id, "the device obeys again"),
        E::FailsafeEntered { asset_id } => {
            warn!(%asset_id, "the link was lost for too long: failsafe");
        }
        E::FailsafeLeft { asset_id } => info!(%asset_id, "failsafe left"),
        E::Raised {
            asset_id,
            severity,
            code,
            text,
        } => {
            info!(%asset_id, %severity, code, text, "event");
        }
        E::ReadFailed { asset_id, text } => {
            warn!(%asset_id, error = text, "the device can't be read");
        }
        E::ReadRecovered { asset_id } => info!(%asset_id, "the device reads again"),
        E::SamplesLost { gap } => {
            let (first, last) = (gap.first_seq, gap.last_seq);
            debug!(first, last, reason = ?gap.reason, "samples dropped from the outbox");
        }
        E::AssetAdded { asset_id } => info!(%asset_id, "an asset was added"),
        E::AssetRemoved { asset_id } => info!(%asset_id, "an asset was removed"),
        E::EntryRefused { kind, seq, text } => {
            let text = text.as_deref();
            warn!(?kind, seq, text, "the headend refused an entry for good");
        }
        E::StorageFailed => {
            error!(
                "the state directory can't be written: new setpoints are refused, samples are kept in memory"
            );
        }
        E::StorageRecovered => info!("the state directory is written again"),
        E::StateForked => {
            error!(
                "the headend knows more of a log than this agent has sent: the state directory is an older copy, \
                 is used by two agents, or was damaged; the logs go on under new ids"
            );
        }
        E::ReportLogFull => error!("the report log is full: new setpoints are refused"),
        E::Stopping => info!("stopping"),
        E::Stopped { unsettled } if unsettled.is_empty() => info!("stopped"),
        E::Stopped { unsettled } => {
            error!(
                ?unsettled,
                "stopped, but some devices have not confirmed their default"
            );
        }
        // The others are written above; of what was missed another line tells.
        _ => {}
    }
}
