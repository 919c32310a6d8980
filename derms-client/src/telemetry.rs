//! Measurements.

use derms_proto::{AssetId, TelemetryHistoryItem, TelemetrySnapshot};

use crate::{Client, Error, PageRequest, TelemetryHistoryQuery};

impl Client {
    /// The newest measurement of an asset, by time of measurement (`GET /telemetry/{id}`).
    ///
    /// # Errors
    /// `unknown_asset`, or `no_telemetry` if it has never reported; see [`Error`].
    pub async fn telemetry(&self, asset: AssetId) -> Result<TelemetrySnapshot, Error> {
        self.get(&format!("/telemetry/{asset}")).await
    }

    /// The newest measurement of every asset that has one (`GET /telemetry`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn telemetry_all(&self) -> Result<Vec<TelemetrySnapshot>, Error> {
        self.get("/telemetry").await
    }

    /// The measurements of an asset or, with a [`step`](TelemetryHistoryQuery::step), buckets of
    /// them (`GET /telemetry/{id}/history`).
    ///
    /// Fails with `unknown_asset`; see [`Error`].
    pub fn telemetry_history(
        &self,
        asset: AssetId,
        mut query: TelemetryHistoryQuery,
    ) -> PageRequest<TelemetryHistoryItem> {
        let cursor = query.take_cursor();
        let path = format!("/telemetry/{asset}/history");
        PageRequest::new(self, path, query.query(), cursor)
    }
}
