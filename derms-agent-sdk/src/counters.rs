//! What an agent counts of itself.

use derms_proto::CloseReason;
use derms_proto::link::SetpointPhase;

use crate::AgentEvent;

/// What an agent has counted since it was built, at one moment; plain numbers, to be exported
/// by whatever the embedder uses.
///
/// Counts never go back, but for those that say "now". They begin at 0 with the process, with a
/// state directory too.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct AgentCounters {
    /// Whether a session is active now.
    pub connected: bool,
    /// Sessions that became active.
    pub connects: u64,
    /// Attempts of which no session came.
    pub connect_failures: u64,
    /// Sessions that ended, by cause, in the order in which a cause came first. A session that the
    /// headend refused to register counts.
    pub disconnects: Vec<(CloseReason, u64)>,
    /// Times that the headend refused this agent in a way that trying again can't mend.
    pub halts: u64,
    /// Reads of devices that came through.
    pub reads: u64,
    /// Reads that failed, those that took too long among them, and those whose values are no numbers.
    pub read_errors: u64,
    /// Reads that took longer than the adapter timeout.
    pub read_timeouts: u64,
    /// Commands that a device has obeyed: setpoints, steps of a ramp, ways to the default.
    pub commands: u64,
    /// Commands that failed, those that took too long among them.
    pub command_errors: u64,
    /// Commands that took longer than the adapter timeout.
    pub command_timeouts: u64,
    /// Samples that went into the outbox.
    pub samples_taken: u64,
    /// Samples that were written to a session from the outbox; sent again they count again.
    pub samples_sent: u64,
    /// Samples that the headend has acknowledged.
    pub samples_acked: u64,
    /// Samples that had to go before they were acknowledged; the headend is told.
    pub samples_dropped: u64,
    /// Samples in the outbox now.
    pub outbox_depth: u64,
    /// What the outbox takes up in memory now, bytes as on the wire. What is on a disk alone does not
    /// count.
    pub outbox_bytes: u64,
    /// Reports that are not acknowledged now.
    pub unacknowledged_reports: u64,
    /// Entries of logs that the headend refused for good.
    pub entries_refused: u64,
    /// What became of orders.
    pub orders: OrderCounters,
    /// Times that the link was lost for so long that the failsafe of an asset came into force.
    pub failsafe_entries: u64,
    /// Times that the state directory could not be written any more.
    pub storage_failures: u64,
    /// By how much the clock of the headend is ahead of that of this machine, seconds, as it is
    /// estimated now; below 0: it is behind. `None` before the first word of a headend.
    pub clock_offset_s: Option<f64>,
}

/// Steps of orders that an agent has counted. An order that came to an end counts in one of the
/// last six.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrderCounters {
    /// Accepted and written down.
    pub received: u64,
    /// The device said yes.
    pub started: u64,
    /// The lease ran to its end.
    pub completed: u64,
    /// A newer order took their place.
    pub superseded: u64,
    /// Ended by the headend.
    pub released: u64,
    /// Refused.
    pub rejected: u64,
    /// Too late to start.
    pub expired: u64,
    /// Failed or interrupted.
    pub failed: u64,
}

impl AgentCounters {
    /// A session is over.
    pub(crate) fn disconnected(&mut self, cause: CloseReason) {
        match self.disconnects.iter_mut().find(|(of, _)| *of == cause) {
            Some((_, times)) => *times += 1,
            None => self.disconnects.push((cause, 1)),
        }
    }

    /// Something happened that watchers are told of.
    pub(crate) fn event(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::Connected { .. } => self.connects += 1,
            AgentEvent::Halted { .. } => self.halts += 1,
            AgentEvent::EntryRefused { .. } => self.entries_refused += 1,
            AgentEvent::FailsafeEntered { .. } => self.failsafe_entries += 1,
            AgentEvent::StorageFailed => self.storage_failures += 1,
            AgentEvent::Order { phase, .. } => self.orders.step(*phase),
            _ => {}
        }
    }
}

impl OrderCounters {
    const fn step(&mut self, phase: SetpointPhase) {
        let times = match phase {
            SetpointPhase::Received => &mut self.received,
            SetpointPhase::Started => &mut self.started,
            SetpointPhase::Completed => &mut self.completed,
            SetpointPhase::Superseded => &mut self.superseded,
            SetpointPhase::Released => &mut self.released,
            SetpointPhase::Rejected => &mut self.rejected,
            SetpointPhase::Expired => &mut self.expired,
            SetpointPhase::Failed => &mut self.failed,
            _ => return,
        };
        *times += 1;
    }
}
