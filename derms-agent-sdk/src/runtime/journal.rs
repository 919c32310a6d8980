//! Events as log lines.

use derms_proto::link::{LimitPhase, SetpointPhase};
use http::Uri;
use tracing::{debug, error, info, warn};

use crate::AgentEvent as E;

/// Writes an event to the log of whoever has subscribed.
pub(super) fn write(event: &E, headend: &Uri) {
    match event {
        E::Connecting { failures } => debug!(%headend, failures, "connecting"),
        E::Connected {
            epoch,
            granted,
            claimed,
        } => {
            info!(%headend, epoch, granted, claimed, "connected");
        }
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
            let text = text.as_deref().unwrap_or_default();
            warn!(asset = %asset_id, ?status, text, "the headend does not grant this asset");
        }
        E::ConnectFailed { text, retry_in } => {
            warn!(%headend, error = text, ?retry_in, "can't reach the headend, will try again");
        }
        E::Disconnected {
            reason,
            text,
            retry_in: Some(retry_in),
        } => {
            warn!(%headend, ?reason, text, ?retry_in, "disconnected, will try again");
        }
        E::Disconnected {
            reason,
            text,
            retry_in: None,
        } => {
            warn!(%headend, ?reason, text, "disconnected, will not try again");
        }
        E::Halted {
            reason,
            text,
            retry_in,
        } => {
            let hint = "refused by the headend: mend its configuration or that of this agent";
            error!(%headend, ?reason, text, ?retry_in, "{hint}");
        }
        E::DuplicateIdentity { text } => {
            error!(%headend, text, "another process uses the identity of this agent");
        }
        E::Order {
            asset_id,
            dispatch_id,
            revision,
            phase,
            reason,
            text,
            applied,
        } => {
            let text = text.as_deref().unwrap_or_default();
            let applied = applied.map(|power| power.mw());
            match phase {
                SetpointPhase::Rejected | SetpointPhase::Expired | SetpointPhase::Failed => {
                    warn!(asset = %asset_id, dispatch = %dispatch_id, revision, ?phase, ?reason, text, "order not kept");
                }
                _ => {
                    info!(asset = %asset_id, dispatch = %dispatch_id, revision, ?phase, ?reason, text, applied, "order");
                }
            }
        }
        E::DeviceStuck {
            asset_id,
            text,
            retry_in,
        } => {
            error!(asset = %asset_id, error = text, ?retry_in, "the device does not go where it must, will try again");
        }
        E::DeviceRecovered { asset_id } => info!(asset = %asset_id, "the device obeys again"),
        E::FailsafeEntered { asset_id } => {
            warn!(asset = %asset_id, "the link was lost for too long: failsafe");
        }
        E::Limits {
            asset_id,
            revision,
            phase,
            reason,
            text,
        } => {
            let text = text.as_deref().unwrap_or_default();
            if *phase == LimitPhase::InForce {
                info!(asset = %asset_id, revision, ?reason, "limits in force");
            } else {
                warn!(asset = %asset_id, revision, ?phase, ?reason, text, "limits not in force");
            }
        }
        E::AssetStopped { asset_id } => warn!(asset = %asset_id, "stopped by an operator"),
        E::AssetReturned { asset_id } => info!(asset = %asset_id, "stopped no more"),
        E::FailsafeLeft { asset_id } => info!(asset = %asset_id, "failsafe left"),
        E::Raised {
            asset_id,
            severity,
            code,
            text,
        } => {
            info!(asset = %asset_id, ?severity, code, text, "event");
        }
        E::ReadFailed { asset_id, text } => {
            warn!(asset = %asset_id, error = text, "the device can't be read");
        }
        E::ReadRecovered { asset_id } => info!(asset = %asset_id, "the device reads again"),
        E::SamplesLost { gap } => {
            let (first, last) = (gap.first_seq, gap.last_seq);
            debug!(first, last, reason = ?gap.reason, "samples dropped from the outbox");
        }
        E::AssetAdded { asset_id } => info!(asset = %asset_id, "an asset was added"),
        E::AssetRemoved { asset_id } => info!(asset = %asset_id, "an asset was removed"),
        E::EntryRefused { kind, seq, text } => {
            let text = text.as_deref().unwrap_or_default();
            warn!(?kind, seq, text, "the headend refused an entry for good");
        }
        E::Resumed {
            asset_id,
            dispatch_id,
            remaining,
        } => {
            info!(asset = %asset_id, dispatch = %dispatch_id, ?remaining, "an order goes on after the restart");
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
        E::Missed { .. } => {}
    }
}
