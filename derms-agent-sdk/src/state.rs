//! What must survive a restart of the agent, and where it is kept.

use std::collections::BTreeMap;
use std::io;

use derms_proto::AssetId;
use derms_proto::link::SetpointOrder;

/// What is written down before an order is acted upon.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// The asset.
    pub(crate) asset_id: AssetId,
    /// The highest revision that was accepted for it.
    pub(crate) revision: u64,
    /// The order of that revision; `None` for a release.
    pub(crate) order: Option<SetpointOrder>,
}

/// Where [`Record`]s are kept. The answer of [`persist`](Self::persist) is an input of the
/// session, so a store on a disk may take its time on a task of its own.
pub(crate) trait StateStore: Send + 'static {
    /// Whether records survive a restart of the process.
    fn durable(&self) -> bool;

    /// Keeps the record; the newest of an asset replaces the one before.
    fn persist(&mut self, record: Record) -> io::Result<()>;
}

/// Keeps records in memory: they are gone with the process.
#[derive(Debug, Default)]
pub(crate) struct MemoryState {
    records: BTreeMap<AssetId, Record>,
}

impl StateStore for MemoryState {
    fn durable(&self) -> bool {
        false
    }

    fn persist(&mut self, record: Record) -> io::Result<()> {
        self.records.insert(record.asset_id, record);
        Ok(())
    }
}
