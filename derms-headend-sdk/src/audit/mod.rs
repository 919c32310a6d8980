//! The audit trail: who did what, when, from where, with what result.
//!
//! A record goes to the log at once (target `audit`) and then to the store. The call that it tells of
//! waits for neither and fails with neither: records wait in a [`Backlog`] while the store is away.

#[cfg(test)]
mod tests;

use derms_proto::{AuditRecord, ProblemCode};

use crate::backlog::{Backlog, Source};
use crate::config::Clock;
use crate::ingest::Writing;
use crate::store::Store;

pub(crate) use crate::backlog::run;

/// So many records wait for the store: at a record a second almost three hours.
const MOST: usize = 10_000;
/// What was refused waits only if no more than this do: whoever is refused over and over must not
/// keep out of the store what was done.
const MOST_WITH_REFUSALS: usize = MOST / 2;
/// Texts of a caller are cut to this, characters.
const MAX_TEXT: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Audit {
    clock: Clock,
    backlog: Backlog<AuditRecord>,
}

impl Audit {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            backlog: Backlog::default(),
        }
    }

    /// A record of an action that begins now.
    pub(crate) fn begin(&self, action: &str) -> AuditRecord {
        AuditRecord::new(self.clock.now(), action)
    }

    /// Logs a record and gives it to the writer.
    pub(crate) fn record(&self, mut record: AuditRecord) {
        let texts = [
            &mut record.principal,
            &mut record.peer,
            &mut record.target,
            &mut record.detail,
        ];
        for text in texts.into_iter().flatten() {
            if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
                text.truncate(end);
            }
        }
        tracing::info!(
            target: "audit",
            id = %record.id, principal = record.principal, peer = record.peer,
            action = record.action, on = record.target, status = record.status,
            code = record.code.map(tracing::field::display), detail = record.detail,
            "audit"
        );
        let most = match record.code {
            Some(ProblemCode::Forbidden | ProblemCode::Unauthenticated) => MOST_WITH_REFUSALS,
            _ => MOST,
        };
        self.backlog.put(record, most, Self::NAME);
    }

    /// How many records wait, and how many found no room since the start.
    pub(crate) fn levels(&self) -> (usize, u64) {
        self.backlog.levels()
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<AuditRecord> {
        self.backlog.waiting()
    }

    /// An agent was refused: the session or an asset that it claimed.
    pub(crate) fn refused_claim(
        &self,
        principal: Option<&str>,
        peer: Option<&str>,
        target: String,
        why: String,
    ) {
        self.record(AuditRecord {
            principal: principal.map(str::to_owned),
            peer: peer.map(str::to_owned),
            target: Some(target),
            code: Some(ProblemCode::Forbidden),
            detail: Some(why),
            ..self.begin("refused_claim")
        });
    }
}

impl Source for Audit {
    type Item = AuditRecord;

    const NAME: &'static str = "records of the audit trail";

    fn backlog(&self) -> &Backlog<AuditRecord> {
        &self.backlog
    }

    fn write<'a>(store: &'a dyn Store, records: &'a [AuditRecord]) -> Writing<'a, ()> {
        store.append_audit(records)
    }

    fn lost(&self, lost: u64) -> AuditRecord {
        let text = format!("{lost} records before this one are in the log of the headend alone");
        AuditRecord {
            detail: Some(text),
            ..self.begin("audit_lost")
        }
    }
}
