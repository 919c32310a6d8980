//! What an embedder can watch.

use std::time::Duration;

use derms_proto::link::{Control, Gap, GrantStatus, LimitPhase, LogKind, SetpointPhase};
use derms_proto::{AssetId, Availability, CloseReason, DispatchId, Power, ReasonCode, Severity};

/// Something that happened in an agent.
///
/// Every event is also logged with `tracing`. A watcher that reads too slowly misses the oldest
/// events and is told how many with [`Missed`](Self::Missed).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AgentEvent {
    /// An attempt to connect begins.
    Connecting {
        /// Attempts that failed since the last healthy session.
        failures: u32,
    },
    /// The session is active.
    Connected {
        /// Its epoch.
        epoch: u64,
        /// How many assets were granted.
        granted: usize,
        /// How many were claimed.
        claimed: usize,
    },
    /// The epoch is not above the last one: the headend lost its state.
    EpochWentBack {
        /// The highest epoch seen before.
        last: u64,
        /// The epoch of the new session.
        epoch: u64,
    },
    /// An asset was not granted, or is no longer.
    Refused {
        /// The asset.
        asset_id: AssetId,
        /// Why.
        status: GrantStatus,
        /// Why, in the headend's words.
        text: Option<String>,
    },
    /// No session came about.
    ConnectFailed {
        /// What failed.
        text: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The session has ended.
    Disconnected {
        /// Why.
        reason: CloseReason,
        /// Why, for people.
        text: String,
        /// When it is tried again; `None` if the agent stops, which the headend may have told it.
        retry_in: Option<Duration>,
    },
    /// The headend refuses this agent in a way that trying again can't mend; it is tried again
    /// all the same, but seldom (5 min to 1 h). Somebody must act.
    Halted {
        /// Why.
        reason: CloseReason,
        /// Why, for people.
        text: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// Another live process uses the identity of this agent. Somebody must act.
    DuplicateIdentity {
        /// The headend's words.
        text: String,
    },
    /// An order moved on; the same is reported to the headend.
    Order {
        /// The asset.
        asset_id: AssetId,
        /// The order.
        dispatch_id: DispatchId,
        /// Its revision.
        revision: u64,
        /// The step.
        phase: SetpointPhase,
        /// Why.
        reason: Option<ReasonCode>,
        /// Why, in the device's or the agent's words.
        text: Option<String>,
        /// What the device said it applied.
        applied: Option<Power>,
    },
    /// A device did not go where it must go without an order; it is tried again until it does.
    DeviceStuck {
        /// The asset.
        asset_id: AssetId,
        /// The device's words.
        text: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A device that was stuck has obeyed.
    DeviceRecovered {
        /// The asset.
        asset_id: AssetId,
    },
    /// The link was lost for too long: the failsafe of the asset is in force.
    FailsafeEntered {
        /// The asset.
        asset_id: AssetId,
    },
    /// A fresh order has ended the failsafe, or the link is back and it had moved nothing (`hold`).
    FailsafeLeft {
        /// The asset.
        asset_id: AssetId,
    },
    /// Limits of the asset, or a stop, have been taken or not; the same is reported to the headend.
    Limits {
        /// The asset.
        asset_id: AssetId,
        /// Their revision.
        revision: u64,
        /// What became of them.
        phase: LimitPhase,
        /// Why.
        reason: Option<ReasonCode>,
        /// Why, in the device's or the agent's words.
        text: Option<String>,
    },
    /// An operator has stopped the asset: what was in hand has ended, no order is taken.
    AssetStopped {
        /// The asset.
        asset_id: AssetId,
    },
    /// The asset is stopped no more, and goes to its default.
    AssetReturned {
        /// The asset.
        asset_id: AssetId,
    },
    /// A device, or the agent for it, raised an event, which was written down for the headend.
    Raised {
        /// The asset.
        asset_id: AssetId,
        /// How much it matters.
        severity: Severity,
        /// For programs.
        code: String,
        /// For people.
        text: String,
    },
    /// A read of a device failed; told once until a read succeeds again.
    ReadFailed {
        /// The asset.
        asset_id: AssetId,
        /// The device's words.
        text: String,
    },
    /// A device reads again.
    ReadRecovered {
        /// The asset.
        asset_id: AssetId,
    },
    /// Samples were dropped before they were acknowledged; the headend is told.
    SamplesLost {
        /// Which.
        gap: Gap,
    },
    /// An asset was added behind the running agent, or came back changed.
    AssetAdded {
        /// The asset.
        asset_id: AssetId,
    },
    /// An asset is served no more: what was in force has ended.
    AssetRemoved {
        /// The asset.
        asset_id: AssetId,
    },
    /// The headend refused an entry of a log for good.
    EntryRefused {
        /// The log.
        kind: LogKind,
        /// Its number.
        seq: u64,
        /// The headend's words.
        text: Option<String>,
    },
    /// The order that was in force when the agent was last running is in force again, for the rest
    /// of its lease.
    Resumed {
        /// The asset.
        asset_id: AssetId,
        /// The order.
        dispatch_id: DispatchId,
        /// What is left of its lease.
        remaining: Option<Duration>,
    },
    /// The state directory can't be written (a full disk?): new setpoints are refused, samples are
    /// kept in memory as long as there is room.
    StorageFailed,
    /// The state directory is written again.
    StorageRecovered,
    /// The headend knows more of a log than this agent has sent: the state directory is an older
    /// copy, is used by two agents, or has lost its end. The logs go on under new ids.
    StateForked,
    /// The report log is full: new setpoints are refused until the headend acknowledges some.
    ReportLogFull,
    /// The agent stops: devices go to their defaults, logs are sent.
    Stopping,
    /// The agent has stopped.
    Stopped {
        /// Assets that were not brought to their default in time.
        unsettled: Vec<AssetId>,
    },
    /// Events that this watcher missed because it read too slowly.
    Missed {
        /// How many.
        events: u64,
    },
}

/// Where the link stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkState {
    /// Waiting for the next attempt. Next: `Connecting`.
    #[default]
    Backoff,
    /// Dialling. Next: `Registering`; on failure `Backoff` or `Halted`.
    Connecting,
    /// `Register` is sent. Next: `Active`; on failure or after 15 s `Backoff` or `Halted`.
    Registering,
    /// In session. Next: `Draining` at a shutdown; on loss `Backoff` or `Halted`.
    Active,
    /// Shutting down. Next: `Stopped`.
    Draining,
    /// Refused in a way that trying again can't mend. Next: `Connecting`, after 5 min to 1 h.
    Halted,
    /// The end.
    Stopped,
}

/// An agent at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct AgentSnapshot {
    /// Where the link stands.
    pub link: LinkState,
    /// The epoch of the session, while one is active.
    pub epoch: Option<u64>,
    /// Samples that are not acknowledged.
    pub outbox_depth: u64,
    /// Samples dropped since the start.
    pub dropped_samples: u64,
    /// Reports that are not acknowledged.
    pub unacknowledged_reports: u64,
    /// Its assets, in the order of their ids.
    pub assets: Vec<AssetSnapshot>,
}

/// An asset of an agent at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AssetSnapshot {
    /// The asset.
    pub asset_id: AssetId,
    /// The headend's last answer to the claim; `None` before the first.
    pub grant: Option<GrantStatus>,
    /// What it is doing.
    pub control: Control,
    /// Whether it reads and takes orders.
    pub availability: Availability,
    /// Reads that failed since the start.
    pub read_errors: u64,
    /// The highest revision that was decided upon; 0 if none.
    pub last_revision: u64,
}
