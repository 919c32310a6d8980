//! Samples to the disk and back.

use super::Output;
use super::Session;
use crate::AgentEvent;
use crate::clock::{MonoTime, Now};
use crate::state::{Commit, Fetched, Kept, Shelved};

impl Session {
    /// Writes samples, if some are due.
    pub(super) fn shelve(&mut self, now: Now) {
        let in_session = self.live.is_some();
        if let Some(shelved) = self.telemetry.next_to_shelve(now.mono, in_session) {
            let log_id = self.telemetry.log_id();
            self.out.push_back(Output::Shelve { log_id, shelved });
        }
    }

    /// The answer to [`Output::Shelve`].
    pub(super) fn shelved(&mut self, kept: Option<Kept>, now: Now) {
        let before = self.telemetry.is_failing();
        if let Some(gap) = self.telemetry.shelved(kept, now.mono) {
            self.event(AgentEvent::SamplesLost { gap });
        }
        match (before, self.telemetry.is_failing()) {
            (false, true) => self.event(AgentEvent::StorageFailed),
            (true, false) => self.event(AgentEvent::StorageRecovered),
            _ => {}
        }
    }

    /// Asks for what is next to be sent and is not in memory.
    pub(super) fn fetch(&mut self, from: u64, now: Now) {
        if let Some((from, to)) = self.telemetry.next_to_fetch(from, now.mono) {
            let log_id = self.telemetry.log_id();
            self.out.push_back(Output::Fetch { log_id, from, to });
        }
    }

    /// The answer to [`Output::Fetch`].
    pub(super) fn fetched(&mut self, fetched: Option<Fetched>, now: Now) {
        for gap in self.telemetry.fetched(fetched, now.mono) {
            self.event(AgentEvent::SamplesLost { gap });
        }
    }

    pub(super) fn shelf_deadline(&self) -> Option<MonoTime> {
        let write = self.telemetry.shelve_due(self.live.is_some());
        let live = self.live.as_ref();
        let read = live.and_then(|_| self.telemetry.read_again_at());
        [write, read].into_iter().flatten().min()
    }

    /// All that is not on the disk, for the end.
    pub(crate) fn last_words(&mut self, now: Now) -> (Commit, Vec<Shelved>) {
        (self.commit(), self.telemetry.shelve_all(now.mono))
    }
}
