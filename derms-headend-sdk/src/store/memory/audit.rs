//! The audit trail.

use std::collections::BTreeMap;

use derms_proto::{AuditRecord, Page, Timestamp};

use super::super::page::{self, List, Place};
use super::super::{AuditQuery, StoreError};

/// So many are kept, the newest.
const KEEP: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct AuditTable(BTreeMap<Place, AuditRecord>);

impl AuditTable {
    pub(super) fn append(&mut self, records: &[AuditRecord]) {
        for record in records {
            let place = Place {
                at: record.at,
                id: record.id.uuid().as_u128(),
                serial: 0,
            };
            self.0.entry(place).or_insert_with(|| record.clone());
        }
        while self.0.len() > KEEP {
            self.0.pop_first();
        }
    }

    pub(super) fn history(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        let range = page::range(List::Audit, &query.page)?;
        let is = |wanted: &Option<String>, has: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| has == Some(wanted))
        };
        let found = self.0.range(range).rev().filter(|(_, record)| {
            is(&query.principal, record.principal.as_deref())
                && is(&query.action, Some(&record.action))
        });
        let found = found.map(|(place, record)| (*place, record.clone()));
        Ok(page::cut(List::Audit, query.page.limit, found))
    }

    /// Forgets what is older than this; gives how many.
    pub(super) fn prune(&mut self, before: Timestamp) -> u64 {
        let kept = self.0.split_off(&Place::at(before));
        std::mem::replace(&mut self.0, kept).len() as u64
    }
}
