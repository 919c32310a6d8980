//! The audit trail.

use derms_proto::AuditRecord;

use crate::{AuditHistoryQuery, Client, PageRequest};

impl Client {
    /// Who did what (`GET /audit`); for an admin of all sites.
    pub fn audit(&self, mut query: AuditHistoryQuery) -> PageRequest<AuditRecord> {
        let cursor = query.take_cursor();
        PageRequest::new(self, "/audit", query.query(), cursor)
    }
}
