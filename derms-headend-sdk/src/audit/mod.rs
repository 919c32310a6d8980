//! The audit trail: who did what, when, from where, with what result.
//!
//! A record goes to the log at once (target `audit`) and then to the store. The call that it tells of
//! waits for neither and fails with neither: records wait here, bounded, while the store is away. What
//! finds no room is counted, and told in a record of its own when there is room again.

mod writer;

use std::collections::VecDeque;
use std::fmt;

use derms_proto::{AuditRecord, ProblemCode};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::Clock;

pub(crate) use writer::run;

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
    waiting: Mutex<Waiting>,
    something: Notify,
}

#[derive(Default)]
struct Waiting {
    records: VecDeque<AuditRecord>,
    /// Since the last that was kept.
    lost: u64,
    /// Since the start.
    lost_in_all: u64,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("records", &self.records.len())
            .field("lost", &self.lost)
            .finish()
    }
}

impl Audit {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            waiting: Mutex::default(),
            something: Notify::new(),
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
        let mut waiting = self.waiting.lock();
        if waiting.records.len() >= most {
            if waiting.lost == 0 {
                tracing::error!(
                    "the store takes no records of the audit trail and no more can wait: they are \
                     in this log alone"
                );
            }
            waiting.lost += 1;
            waiting.lost_in_all += 1;
            return;
        }
        waiting.records.push_back(record);
        drop(waiting);
        self.something.notify_one();
    }

    /// How many records wait, and how many found no room since the start.
    pub(crate) fn levels(&self) -> (usize, u64) {
        let waiting = self.waiting.lock();
        (waiting.records.len(), waiting.lost_in_all)
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<AuditRecord> {
        self.waiting.lock().records.iter().cloned().collect()
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
