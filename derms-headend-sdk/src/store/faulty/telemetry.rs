//! Faults of telemetry.

use std::time::Duration;

use derms_proto::{Cursor, LogId, Page, Telemetry};

use super::super::{HistoryQuery, Store, StoreError, TelemetryAppend, TelemetryQuery};
use super::{Fault, FaultyStore, unavailable};

impl FaultyStore {
    pub(super) async fn append_with_fault(
        &self,
        appends: &[TelemetryAppend],
    ) -> Result<(), StoreError> {
        let fault = self.state.lock().fault;
        match fault {
            Fault::AppendFails => return unavailable(),
            Fault::AppendSlow => tokio::time::sleep(Duration::from_millis(20)).await,
            Fault::Poison(log, next)
                if !appends.iter().any(|a| (a.log, a.next_seq) == (log, next)) => {}
            Fault::AppendNever | Fault::Poison(..) => {
                return Err(StoreError::Corrupt {
                    context: "on request".to_owned(),
                    source: None,
                });
            }
            _ => {}
        }
        let mut appends = appends.to_vec();
        if self.has(Fault::GapsLost) {
            appends.iter_mut().for_each(|append| append.gaps.clear());
        }
        self.inner.append_telemetry(&appends).await?;
        if self.has(Fault::SamplesTwice) {
            // What was settled before comes in again, as if nothing were known of the log.
            for append in &mut appends {
                append.log = LogId::generate();
            }
            self.inner.append_telemetry(&appends).await?;
        }
        Ok(())
    }

    pub(super) async fn latest_with_fault(&self) -> Result<Vec<Telemetry>, StoreError> {
        let mut latest = self.inner.latest_telemetry().await?;
        if self.has(Fault::LatestByReceipt) {
            for telemetry in &mut latest {
                let query = TelemetryQuery::new(telemetry.asset_id, HistoryQuery::default());
                let all = self.inner.telemetry(&query).await?.items;
                let newest = all
                    .into_iter()
                    .max_by_key(|telemetry| telemetry.received_at);
                *telemetry = newest.unwrap_or_else(|| telemetry.clone());
            }
        }
        Ok(latest)
    }

    pub(super) async fn telemetry_with_fault(
        &self,
        query: &TelemetryQuery,
    ) -> Result<Page<Telemetry>, StoreError> {
        let mut query = query.clone();
        if self.has(Fault::CursorCounts) {
            let (limit, cursor) = (query.page.limit, query.page.cursor.take());
            let passed = cursor.map_or(Ok(0), |cursor| {
                cursor
                    .as_str()
                    .parse()
                    .map_err(|_| StoreError::InvalidCursor)
            })?;
            query.page.limit = usize::MAX;
            let all = self.inner.telemetry(&query).await?.items;
            let more = all.len() > passed + limit;
            return Ok(Page {
                items: all.into_iter().skip(passed).take(limit).collect(),
                next_cursor: more.then(|| Cursor::new((passed + limit).to_string())),
            });
        }
        let page = self.inner.telemetry(&query).await;
        if self.has(Fault::AnyCursor) && matches!(page, Err(StoreError::InvalidCursor)) {
            query.page.cursor = None;
            return self.inner.telemetry(&query).await;
        }
        let mut page = page?;
        if self.has(Fault::OldestFirst) {
            page.items.reverse();
        }
        Ok(page)
    }
}
