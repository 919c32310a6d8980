//! Heartbeats.

use derms_proto::{AssetId, Heartbeat};

use crate::{Client, Error, HistoryQuery, PageRequest};

impl Client {
    /// The newest heartbeat of the agent that serves an asset (`GET /heartbeat/{id}`).
    ///
    /// # Errors
    /// `unknown_asset`, or `no_heartbeat` if there was none; see [`Error`].
    pub async fn heartbeat(&self, asset: AssetId) -> Result<Heartbeat, Error> {
        self.get(&format!("/heartbeat/{asset}")).await
    }

    /// The heartbeats of an asset (`GET /heartbeat/{id}/history`).
    ///
    /// Fails with `unknown_asset`; see [`Error`].
    pub fn heartbeat_history(
        &self,
        asset: AssetId,
        mut query: HistoryQuery,
    ) -> PageRequest<Heartbeat> {
        let cursor = query.take_cursor();
        let path = format!("/heartbeat/{asset}/history");
        PageRequest::new(self, path, query.query(), cursor)
    }
}
