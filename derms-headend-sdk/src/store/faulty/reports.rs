//! Faults of reports.

use derms_proto::link::{Report, ReportEntry, SetpointPhase, SetpointReport};
use derms_proto::{Event, LogId, Timestamp};

use super::super::{Order, ReportAppend, ReportFate, Store, StoreError, StoredReport};
use super::{Fault, FaultyStore, cancel};

impl FaultyStore {
    pub(super) async fn reports_with_fault(
        &self,
        appends: &[ReportAppend],
    ) -> Result<Vec<Vec<ReportFate>>, StoreError> {
        let mut appends = appends.to_vec();
        if self.has(Fault::RefusalsBelieved) {
            cancel::believe_refusals(&mut appends);
        }
        if self.has(Fault::AnyAgentReports) {
            let orders = self.inner.open_orders(None).await?;
            for append in &mut appends {
                let carrier = orders.iter().find_map(|order| order.carrier);
                append.agent = carrier.map_or(append.agent, |carrier| carrier.agent);
            }
        }
        if self.has(Fault::EventsTwice) {
            // Those of a repeated part once more, as one without a cursor would.
            let again = appends.iter().flat_map(|append| &append.entries);
            let again: Vec<Event> = again
                .filter_map(|it| it.event.as_deref().cloned())
                .collect();
            self.inner.append_events(&again).await?;
        }
        if self.has(Fault::ReportsTwice) {
            self.inner.append_reports(&appends).await?;
            appends
                .iter_mut()
                .for_each(|append| append.log = LogId::generate());
        }
        let mut fates = self.inner.append_reports(&appends).await?;
        if self.has(Fault::ContradictionsHidden) {
            for fate in fates.iter_mut().flatten() {
                if let ReportFate::Contradiction { order, .. } = fate {
                    *fate = ReportFate::Repeated(order.clone());
                }
            }
        }
        Ok(fates)
    }

    /// The order's own agent says this of it, in a log made up for it.
    pub(super) async fn say(&self, order: &Order, phase: SetpointPhase) -> Result<(), StoreError> {
        let (Some(carrier), Some(asset_id)) = (order.carrier, order.dispatch.asset_id) else {
            return Ok(());
        };
        let report = Report::Setpoint(SetpointReport {
            dispatch_id: order.dispatch.id,
            revision: 0,
            phase,
            reason: None,
            text: None,
            applied: None,
        });
        let entry = ReportEntry {
            at: Timestamp::UNIX_EPOCH,
            asset_id,
            report,
        };
        let append = ReportAppend {
            agent: carrier.agent,
            epoch: carrier.epoch,
            log: LogId::generate(),
            entries: vec![StoredReport {
                seq: 1,
                entry,
                event: None,
            }],
            next_seq: 2,
            at: Timestamp::UNIX_EPOCH,
        };
        self.inner.append_reports(&[append]).await.map(drop)
    }
}
