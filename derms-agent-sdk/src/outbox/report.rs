//! The report log: never drops an entry; when it is full, new orders are refused.

use std::collections::VecDeque;

use derms_proto::link::{LogHead, LogKind, Report, ReportBatch, ReportEntry, SetpointReport};
use derms_proto::{AssetId, LogId, Timestamp};

use super::size;

/// Most entries that orders may bring before new ones are refused.
pub(crate) const CAPACITY: usize = 8_192;
/// On top of it, for refusals.
const REFUSALS: usize = 1_024;
/// On top of it, for how the orders in hand go on.
const IN_HAND: usize = 16_384;

/// Reports that are not acknowledged.
#[derive(Debug)]
pub(crate) struct ReportLog {
    log_id: LogId,
    entries: VecDeque<(ReportEntry, usize)>,
    next_seq: u64,
    /// The last number that was ever sent; 0 if none.
    sent: u64,
    capacity: usize,
    /// With a disk: entries up to there are on it. Only they are sent: a number that was sent is
    /// never used for something else, whatever crashes.
    stored: Option<u64>,
    /// The first entry of this process.
    started: u64,
    /// The disk fails: what can't be stored is said all the same.
    failing: bool,
}

impl ReportLog {
    pub(crate) fn new(log_id: LogId, capacity: usize) -> Self {
        Self {
            log_id,
            entries: VecDeque::new(),
            next_seq: 1,
            sent: 0,
            capacity,
            stored: None,
            started: 1,
            failing: false,
        }
    }

    /// A log that goes on, on a disk.
    pub(crate) fn recovered(
        log_id: LogId,
        first_seq: u64,
        entries: Vec<ReportEntry>,
        capacity: usize,
    ) -> Self {
        let next_seq = first_seq + entries.len() as u64;
        let sized = entries.into_iter().map(|entry| {
            let bytes = size::of_report(&entry);
            (entry, bytes)
        });
        Self {
            entries: sized.collect(),
            next_seq,
            // Any of them may have been sent.
            sent: next_seq - 1,
            stored: Some(next_seq - 1),
            started: next_seq,
            ..Self::new(log_id, capacity)
        }
    }

    /// Entries that are not on the disk, and the number of the first.
    pub(crate) fn unsaved(&self) -> (u64, Vec<ReportEntry>) {
        let first = self
            .stored
            .map_or(self.next_seq, |stored| stored + 1)
            .max(self.first_unacked());
        let skip = usize::try_from(first - self.first_unacked()).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skip);
        (first, entries.map(|(entry, _)| entry.clone()).collect())
    }

    pub(crate) fn has_unsaved(&self) -> bool {
        self.stored
            .is_some_and(|stored| stored.max(self.first_unacked() - 1) + 1 < self.next_seq)
    }

    pub(crate) const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Everything below this number is on the disk, or could not be written.
    pub(crate) fn saved(&mut self, next: u64, done: bool) {
        self.failing = !done;
        if let Some(stored) = self.stored.as_mut().filter(|_| done) {
            *stored = (*stored).max(next - 1);
        }
    }

    /// What was thought to be on the disk may not be.
    pub(crate) fn write_again(&mut self) {
        self.stored = self.stored.map(|_| 0);
    }

    /// All entries go on as another log; see `TelemetryLog::fork`.
    pub(crate) fn fork(&mut self, log_id: LogId, cursor: u64) {
        let both = cursor
            .min(self.started)
            .saturating_sub(self.first_unacked());
        let both = usize::try_from(both).map_or(0, |n| n.min(self.entries.len()));
        self.entries.drain(..both);
        self.log_id = log_id;
        self.started = (self.started.saturating_sub(self.first_unacked()) + 1).max(1);
        self.next_seq = self.entries.len() as u64 + 1;
        self.sent = 0;
        self.stored = self.stored.map(|_| 0);
    }

    pub(crate) const fn log_id(&self) -> LogId {
        self.log_id
    }

    pub(crate) fn first_unacked(&self) -> u64 {
        self.next_seq - self.entries.len() as u64
    }

    pub(crate) fn depth(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn head(&self) -> LogHead {
        LogHead {
            kind: LogKind::Report,
            log_id: self.log_id,
            first_seq: self.first_unacked(),
            next_seq: self.next_seq,
        }
    }

    /// Whether a new order may be accepted.
    pub(crate) fn has_room(&self) -> bool {
        self.entries.len() < self.capacity
    }

    /// Whether a refusal may still be written down. Past it the order stays unanswered, which the
    /// headend shows as in doubt.
    pub(crate) fn has_room_for_refusal(&self) -> bool {
        self.entries.len() < self.capacity + REFUSALS
    }

    /// Whether an event may be written down: events leave half of the room to orders.
    pub(crate) fn has_room_for_event(&self) -> bool {
        self.entries.len() < self.capacity / 2
    }

    /// Appends what can't be left unsaid. False, and nothing is appended, at the last bound;
    /// orders in hand never get there, for each may bring three entries at most.
    pub(crate) fn append(&mut self, entry: ReportEntry) -> bool {
        if self.entries.len() >= self.capacity + REFUSALS + IN_HAND {
            return false;
        }
        let bytes = size::of_report(&entry);
        self.entries.push_back((entry, bytes));
        self.next_seq += 1;
        true
    }

    /// Whether the same step of the same order already waits for its acknowledgement.
    pub(crate) fn holds(&self, asset_id: AssetId, report: &SetpointReport) -> bool {
        self.entries.iter().any(|(entry, _)| {
            entry.asset_id == asset_id
                && matches!(&entry.report, Report::Setpoint(held)
                    if held.dispatch_id == report.dispatch_id
                        && held.revision == report.revision
                        && held.phase == report.phase)
        })
    }

    /// Everything up to `last` was sent.
    pub(crate) fn sent(&mut self, last: u64) {
        self.sent = self.sent.max(last);
    }

    /// Whether everything up to this number was sent at some time.
    pub(crate) const fn was_sent(&self, up_to: u64) -> bool {
        up_to <= self.sent
    }

    /// A session takes the log from `cursor` on, or from where it begins; says where that is.
    pub(crate) fn resume(&mut self, cursor: Option<u64>) -> u64 {
        if let Some(cursor) = cursor {
            let _ = self.ack(cursor.saturating_sub(1));
        }
        self.first_unacked()
    }

    /// Moves the times of all entries of this process; they are to be written again.
    pub(crate) fn relabel(&mut self, micros: i64) {
        let old = self.started.saturating_sub(self.first_unacked());
        let old = usize::try_from(old).unwrap_or(usize::MAX);
        for (entry, _) in self.entries.iter_mut().skip(old) {
            let at = entry.at.unix_micros().saturating_add(micros);
            entry.at = Timestamp::from_unix_micros(at);
        }
        let before = self.started - 1;
        self.stored = self.stored.map(|stored| stored.min(before));
    }

    /// Everything up to `up_to` is safe. False, and nothing is done, if no such number was ever
    /// sent: what the headend can't have is not taken from the log.
    #[must_use]
    pub(crate) fn ack(&mut self, up_to: u64) -> bool {
        if !self.was_sent(up_to) {
            return false;
        }
        let acked = (up_to + 1).saturating_sub(self.first_unacked());
        self.entries.drain(..usize::try_from(acked).unwrap_or(0));
        true
    }

    /// The batch that begins at `from`, and its last number.
    pub(crate) fn batch(
        &self,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
    ) -> Option<(ReportBatch, u64)> {
        let first_seq = from.max(self.first_unacked());
        let skip = usize::try_from(first_seq - self.first_unacked()).ok()?;
        let stored = self.stored.filter(|_| !self.failing);
        let until = stored.map_or(self.next_seq, |stored| stored + 1);
        let ready = usize::try_from(until.saturating_sub(first_seq)).unwrap_or(0);
        let mut bytes = 0;
        let entries: Vec<_> = self
            .entries
            .iter()
            .skip(skip)
            .take(max_entries.max(1).min(ready))
            .take_while(|(_, size)| {
                let first = bytes == 0;
                bytes += size;
                first || bytes <= max_bytes
            })
            .map(|(entry, _)| Ok(entry.clone()))
            .collect();
        if entries.is_empty() {
            return None;
        }
        let last = first_seq + entries.len() as u64 - 1;
        let batch = ReportBatch {
            log_id: self.log_id,
            first_seq,
            entries,
        };
        Some((batch, last))
    }
}
