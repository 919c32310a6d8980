//! The telemetry log: bounded in bytes and age, loses the oldest, and says so.

use std::collections::VecDeque;
use std::time::Duration;

use derms_proto::link::{Gap, GapReason, LogHead, LogKind, Sample, TelemetryBatch};
use derms_proto::{LogId, Timestamp};

use super::gaps::Gaps;
use super::shelf::{Shelf, WRITE_AFTER, WRITE_AT};
use super::size;
use crate::clock::MonoTime;
use crate::disk::MAX_ITEMS;
use crate::state::{Fetched, Kept, RecoveredTelemetry, Shelved};

/// A sample over this could block the log; it goes without its details.
const MAX_SAMPLE_BYTES: usize = 16 << 10;
/// What stays in memory of what is on the disk.
const WINDOW_BYTES: usize = 256 << 10;

/// Samples that are not acknowledged, and the gaps where some were dropped.
///
/// Numbers start at 1 and have no holes: each is in `entries`, on the shelf, inside a gap, or
/// acknowledged.
#[derive(Debug)]
pub(crate) struct TelemetryLog {
    log_id: LogId,
    /// In memory: the newest, all of them without a shelf.
    entries: VecDeque<Entry>,
    next_seq: u64,
    /// The last number that was ever sent, itself or inside a gap; 0 if none.
    sent: u64,
    /// Below this everything is acknowledged.
    first_unacked: u64,
    gaps: Gaps,
    /// In memory.
    bytes: usize,
    max_bytes: usize,
    max_age: Duration,
    dropped: u64,
    shelf: Option<Shelf>,
}

#[derive(Debug)]
struct Entry {
    sample: Sample,
    bytes: usize,
    at: MonoTime,
}

/// What appending a sample did.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Appended {
    /// Samples that had to go.
    pub(crate) lost: Option<Gap>,
    /// The sample was too large for a message and lost its details.
    pub(crate) trimmed: bool,
}

impl TelemetryLog {
    pub(crate) fn new(log_id: LogId, max_bytes: usize, max_age: Duration) -> Self {
        Self {
            log_id,
            entries: VecDeque::new(),
            next_seq: 1,
            sent: 0,
            first_unacked: 1,
            gaps: Gaps::default(),
            bytes: 0,
            max_bytes,
            max_age,
            dropped: 0,
            shelf: None,
        }
    }

    /// A log that goes on, on a disk.
    pub(crate) fn recovered(
        log_id: LogId,
        found: &RecoveredTelemetry,
        max_bytes: usize,
        max_age: Duration,
    ) -> Self {
        Self {
            next_seq: found.next,
            // Any of them may have been sent; what is behind was not.
            sent: found.mark,
            first_unacked: found.floor,
            gaps: Gaps::of(found.gaps.clone()),
            shelf: Some(Shelf::new(found)),
            ..Self::new(log_id, max_bytes, max_age)
        }
    }

    pub(crate) const fn log_id(&self) -> LogId {
        self.log_id
    }

    pub(crate) const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    pub(crate) const fn first_unacked(&self) -> u64 {
        self.first_unacked
    }

    /// Everything up to `last` was sent.
    pub(crate) fn sent(&mut self, last: u64) {
        self.sent = self.sent.max(last);
    }

    /// Whether everything up to this number was sent at some time.
    pub(crate) const fn was_sent(&self, up_to: u64) -> bool {
        up_to <= self.sent
    }

    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// In memory.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Samples held.
    pub(crate) fn depth(&self) -> u64 {
        (self.next_seq - self.first_unacked).saturating_sub(self.gaps.count())
    }

    /// It begins with what is to be said, which may be that samples were dropped.
    pub(crate) fn head(&self) -> LogHead {
        LogHead {
            kind: LogKind::Telemetry,
            log_id: self.log_id,
            first_seq: self.first_unacked,
            next_seq: self.next_seq,
        }
    }

    /// The first number in memory.
    fn first_held(&self) -> u64 {
        self.next_seq - self.entries.len() as u64
    }

    fn stored(&self) -> u64 {
        self.shelf.as_ref().map_or(0, |shelf| shelf.stored)
    }

    /// Gives the sample the next number. Full: the oldest samples go, and become a gap.
    pub(crate) fn append(&mut self, mut sample: Sample, now: MonoTime) -> Appended {
        let mut appended = Appended::default();
        let mut bytes = size::of_sample(&sample);
        if bytes > MAX_SAMPLE_BYTES {
            sample.measurements.details.clear();
            bytes = size::of_sample(&sample);
            appended.trimmed = true;
        }
        self.entries.push_back(Entry {
            sample,
            bytes,
            at: now,
        });
        self.next_seq += 1;
        self.bytes += bytes;
        let mut over = self.bytes;
        let full = self
            .entries
            .iter()
            .take_while(|entry| {
                let too_much = over > self.max_bytes;
                over -= entry.bytes;
                too_much
            })
            .count();
        appended.lost = self.drop_oldest(full, GapReason::OutboxFull);
        appended
    }

    /// Drops what is older than the log keeps.
    pub(crate) fn expire(&mut self, now: MonoTime) -> Option<Gap> {
        let old = self
            .entries
            .iter()
            .take_while(|entry| now.saturating_since(entry.at) > self.max_age)
            .count();
        self.drop_oldest(old, GapReason::TooOld)
    }

    /// Takes the oldest out of memory; those that are nowhere else are lost.
    fn drop_oldest(&mut self, count: usize, reason: GapReason) -> Option<Gap> {
        if count == 0 {
            return None;
        }
        let first_seq = self.first_held().max(self.stored() + 1);
        for entry in self.entries.drain(..count) {
            self.bytes -= entry.bytes;
        }
        let last_seq = self.first_held() - 1;
        (first_seq <= last_seq).then(|| {
            if let Some(shelf) = &mut self.shelf {
                shelf.stored = last_seq;
            }
            self.lose(Gap {
                first_seq,
                last_seq,
                reason,
            })
        })
    }

    fn lose(&mut self, gap: Gap) -> Gap {
        let before = self.gaps.count();
        self.gaps.add(gap);
        self.dropped += self.gaps.count() - before;
        gap
    }

    /// A session takes the log from `cursor` on, or from where it begins; says where that is.
    ///
    /// A headend that has lost what it had acknowledged asks for what is gone here, too: that is
    /// declared as a gap, of no reason that this side knows.
    pub(crate) fn resume(&mut self, cursor: Option<u64>) -> u64 {
        if let Some(cursor) = cursor {
            let _ = self.ack(cursor.saturating_sub(1));
            if cursor < self.first_unacked {
                self.gaps.add(Gap {
                    first_seq: cursor,
                    last_seq: self.first_unacked - 1,
                    reason: GapReason::Unknown,
                });
                self.first_unacked = cursor;
            }
        }
        self.first_unacked
    }

    /// Moves the times of all samples that this process has read.
    pub(crate) fn relabel(&mut self, micros: i64) {
        for Entry { sample, .. } in &mut self.entries {
            let at = sample.measured_at.unix_micros();
            sample.measured_at = Timestamp::from_unix_micros(at.saturating_add(micros));
        }
        if let Some(shelf) = &mut self.shelf {
            shelf.mend(micros);
        }
    }

    /// Everything up to `up_to` is safe. False, and nothing is done, if no such number was ever
    /// sent: what the headend can't have is not taken from the log.
    #[must_use]
    pub(crate) fn ack(&mut self, up_to: u64) -> bool {
        if !self.was_sent(up_to) {
            return false;
        }
        self.settle(up_to);
        true
    }

    fn settle(&mut self, up_to: u64) {
        self.first_unacked = self.first_unacked.max(up_to + 1);
        let acked = (up_to + 1).saturating_sub(self.first_held());
        let acked = usize::try_from(acked).map_or(0, |n| n.min(self.entries.len()));
        for entry in self.entries.drain(..acked) {
            self.bytes -= entry.bytes;
        }
        self.gaps.ack(up_to);
        if let Some(shelf) = &mut self.shelf {
            shelf.ack(up_to);
        }
    }

    /// The headend has more of this log than this process can have sent: another life of it goes
    /// on elsewhere, or the disk has lost the end of it. What both have is safe up to `cursor`;
    /// the rest goes on as another log. Gives by how much its numbers are lower.
    pub(crate) fn fork(&mut self, log_id: LogId, cursor: u64) -> u64 {
        let ours = self.shelf.as_ref().map_or(1, |shelf| shelf.started);
        let both = cursor.min(ours).saturating_sub(1);
        self.settle(both);
        let by = self.first_unacked - 1;
        self.log_id = log_id;
        self.next_seq -= by;
        self.first_unacked = 1;
        self.sent = 0;
        self.gaps.shift(by);
        if let Some(shelf) = &mut self.shelf {
            shelf.shift(by, self.next_seq - 1);
        }
        by
    }

    /// When the first sample at or after `from` was appended.
    pub(crate) fn appended_at(&self, from: u64) -> Option<MonoTime> {
        let index = from.saturating_sub(self.first_held());
        let index = usize::try_from(index).ok()?;
        self.entries.get(index).map(|entry| entry.at)
    }

    /// The batch that begins at `from`, with the gaps before it, and its last number; `None` if
    /// there is nothing to say, or not yet. Always at least one sample, however small the bounds.
    pub(crate) fn batch(
        &self,
        from: u64,
        max_samples: usize,
        max_bytes: usize,
    ) -> Option<(TelemetryBatch, u64)> {
        let last = self.next_seq - 1;
        let sendable = self.shelf.as_ref().map_or(last, |s| s.sendable(last));
        let (gaps, first_seq) = self.gaps.from(from.max(self.first_unacked));
        if gaps.last().is_some_and(|gap| gap.last_seq > sendable) {
            return None;
        }
        let until = self.gaps.next_after(first_seq).unwrap_or(self.next_seq);
        let until = until.min(sendable + 1);
        let mut bytes = 0;
        let fits = |size: usize| {
            let first = bytes == 0;
            bytes += size;
            first || bytes <= max_bytes
        };
        let samples = self.samples(first_seq, until, max_samples.max(1), fits);
        if samples.is_empty() && gaps.is_empty() {
            return None;
        }
        let last = first_seq + samples.len() as u64 - 1;
        let batch = TelemetryBatch {
            log_id: self.log_id,
            first_seq,
            samples,
            gaps,
        };
        Some((batch, last))
    }

    fn samples(
        &self,
        from: u64,
        until: u64,
        most: usize,
        mut fits: impl FnMut(usize) -> bool,
    ) -> Vec<Result<Sample, derms_proto::link::Refusal>> {
        let count = usize::try_from(until.saturating_sub(from)).map_or(most, |n| n.min(most));
        match (from.checked_sub(self.first_held()), &self.shelf) {
            (Some(skip), _) => {
                let entries = self.entries.iter().skip(usize::try_from(skip).unwrap_or(0));
                let some = entries.take(count).take_while(|entry| fits(entry.bytes));
                some.map(|entry| Ok(entry.sample.clone())).collect()
            }
            (None, Some(shelf)) if shelf.has(from) => {
                let some = shelf.items(from, until).take(count);
                some.take_while(|(_, bytes)| fits(*bytes))
                    .map(|(item, _)| item.clone())
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is to be written now.
    pub(crate) fn next_to_shelve(&mut self, now: MonoTime, in_session: bool) -> Option<Shelved> {
        let due = self.shelve_due(in_session)?;
        if due > now || !self.shelf.as_ref()?.may_write(now) {
            return None;
        }
        let old = self
            .oldest_unsaved()
            .is_some_and(|at| now.saturating_since(at) >= WRITE_AFTER);
        let write = old || self.unsaved() >= WRITE_AT;
        self.shelve(now, in_session, write)
    }

    /// All that is not written, piece by piece, for the end: then no number is in doubt.
    pub(crate) fn shelve_all(&mut self, now: MonoTime) -> Vec<Shelved> {
        let mut all = Vec::new();
        loop {
            let more = self.unsaved() > 0;
            let Some(mut shelved) = self.shelve(now, false, more) else {
                return all;
            };
            shelved.mark = self.sent;
            all.push(shelved);
            if !more {
                return all;
            }
            let _ = self.shelved(Some(Kept::default()), now);
        }
    }

    fn shelve(&mut self, now: MonoTime, in_session: bool, samples: bool) -> Option<Shelved> {
        let last = self.next_seq - 1;
        let first = self.first_unsaved();
        let count = if samples {
            self.unsaved().min(MAX_ITEMS)
        } else {
            0
        };
        let skip = usize::try_from(first - self.first_held()).ok()?;
        let some = self.entries.iter().skip(skip).take(count);
        let samples: Vec<Sample> = some.map(|entry| entry.sample.clone()).collect();
        let shelf = self.shelf.as_mut()?;
        // While the disk failed more may have been sent than it knows.
        let mark = shelf.next_mark(last, in_session, now).max(self.sent);
        let up_to = if count > 0 {
            first + count as u64 - 1
        } else {
            shelf.stored
        };
        shelf.write(up_to, mark);
        Some(Shelved {
            now,
            floor: self.first_unacked,
            mark,
            gaps: self.gaps.as_slice().to_vec(),
            mends: shelf.mends.clone(),
            first,
            samples,
        })
    }

    fn first_unsaved(&self) -> u64 {
        self.first_held().max(self.stored() + 1)
    }

    fn unsaved(&self) -> usize {
        usize::try_from(self.next_seq - self.first_unsaved()).unwrap_or(0)
    }

    fn oldest_unsaved(&self) -> Option<MonoTime> {
        self.appended_at(self.first_unsaved())
    }

    /// When something is to be written.
    pub(crate) fn shelve_due(&self, in_session: bool) -> Option<MonoTime> {
        let shelf = self.shelf.as_ref().filter(|shelf| !shelf.is_writing())?;
        let at_once = self.unsaved() >= WRITE_AT
            || shelf.mark() < self.sent
            || in_session && shelf.is_low(self.next_seq - 1)
            || shelf
                .oldest
                .is_some_and(|oldest| oldest < self.first_unacked);
        let due = if at_once {
            MonoTime::default()
        } else {
            self.oldest_unsaved()? + WRITE_AFTER
        };
        Some(shelf.retry_at().map_or(due, |retry| due.max(retry)))
    }

    /// The answer to [`next_to_shelve`](Self::next_to_shelve): what had to go for it; `None` if the disk
    /// failed.
    pub(crate) fn shelved(&mut self, kept: Option<Kept>, now: MonoTime) -> Option<Gap> {
        let shelf = self.shelf.as_mut()?;
        if !shelf.written(kept.is_some(), now) {
            return None;
        }
        let kept = kept?;
        shelf.oldest = kept.oldest;
        let stored = shelf.stored;
        while self.bytes > WINDOW_BYTES && self.first_held() <= stored {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= entry.bytes;
        }
        let gap = kept
            .dropped
            .filter(|gap| gap.last_seq >= self.first_unacked)?;
        let first_seq = gap.first_seq.max(self.first_unacked);
        // What is still in memory is not lost.
        let last_seq = gap.last_seq.min(self.first_held() - 1);
        (first_seq <= last_seq).then(|| {
            self.lose(Gap {
                first_seq,
                last_seq,
                ..gap
            })
        })
    }

    /// Whether the disk refuses what is to be written.
    pub(crate) fn is_failing(&self) -> bool {
        self.shelf.as_ref().is_some_and(Shelf::is_failing)
    }

    /// What must be read back before the log can go on at `from`.
    pub(crate) fn next_to_fetch(&mut self, from: u64, now: MonoTime) -> Option<(u64, u64)> {
        let (_, at) = self.gaps.from(from.max(self.first_unacked));
        let held = self.first_held();
        let to = self.gaps.next_after(at).map_or(held, |gap| gap.min(held));
        let shelf = self.shelf.as_mut()?;
        let wanted = at < held && !shelf.has(at) && shelf.read(at, to, now);
        wanted.then_some((at, to))
    }

    /// The answer to [`next_to_fetch`](Self::next_to_fetch); `None` if the disk could not be read. Gives
    /// what turned out to be lost.
    pub(crate) fn fetched(&mut self, fetched: Option<Fetched>, now: MonoTime) -> Vec<Gap> {
        let Some(shelf) = self.shelf.as_mut() else {
            return Vec::new();
        };
        let Some(Fetched { samples, until }) = fetched else {
            shelf.not_read(now);
            return Vec::new();
        };
        let missing = shelf.take_back(samples, until, size::of_sample);
        let unacked = self.first_unacked;
        let lost = missing
            .into_iter()
            .flatten()
            .filter(|(_, last)| *last >= unacked);
        lost.map(|(first, last)| {
            self.lose(Gap {
                first_seq: first.max(unacked),
                last_seq: last,
                reason: GapReason::Corrupt,
            })
        })
        .collect()
    }

    pub(crate) fn read_again_at(&self) -> Option<MonoTime> {
        self.shelf.as_ref().and_then(Shelf::read_again_at)
    }
}

#[cfg(test)]
mod tests {
    use derms_proto::{Detail, Measurements};

    use super::*;

    fn sample() -> Sample {
        Sample {
            asset_id: "7ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap(),
            measured_at: Timestamp::UNIX_EPOCH,
            measurements: Measurements::default(),
        }
    }

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_origin(Duration::from_secs(seconds))
    }

    fn log(samples: usize) -> TelemetryLog {
        let bytes = samples * size::of_sample(&sample());
        TelemetryLog::new(LogId::generate(), bytes, Duration::from_secs(100))
    }

    fn gap(first_seq: u64, last_seq: u64, reason: GapReason) -> Gap {
        Gap {
            first_seq,
            last_seq,
            reason,
        }
    }

    #[test]
    fn a_full_log_drops_the_oldest_and_declares_one_gap() {
        let mut log = log(3);
        for second in 0..5 {
            log.append(sample(), at(second));
        }
        assert_eq!((log.depth(), log.dropped()), (3, 2));
        let (batch, last) = log.batch(1, 256, 1 << 20).unwrap();
        assert_eq!(batch.gaps, [gap(1, 2, GapReason::OutboxFull)]);
        assert_eq!((batch.first_seq, batch.samples.len(), last), (3, 3, 5));
        assert_eq!((log.head().first_seq, log.head().next_seq), (1, 6));
    }

    #[test]
    fn old_samples_go_and_their_numbers_are_declared_even_when_nothing_is_left() {
        let mut log = log(10);
        log.append(sample(), at(0));
        log.append(sample(), at(1));
        assert_eq!(log.expire(at(100)), None);
        assert_eq!(log.expire(at(102)), Some(gap(1, 2, GapReason::TooOld)));
        let (batch, last) = log.batch(1, 256, 1 << 20).unwrap();
        assert_eq!((batch.first_seq, batch.samples.len(), last), (3, 0, 2));
        log.sent(last);
        assert!(log.ack(2));
        assert!(log.batch(3, 256, 1 << 20).is_none());
    }

    #[test]
    fn an_acknowledged_gap_is_not_declared_again_and_a_half_acknowledged_one_in_half() {
        let mut log = log(1);
        for second in 0..5 {
            log.append(sample(), at(second));
        }
        log.sent(5);
        assert!(log.ack(2));
        let (batch, _) = log.batch(3, 256, 1 << 20).unwrap();
        assert_eq!(batch.gaps, [gap(3, 4, GapReason::OutboxFull)]);
        assert!(log.ack(4));
        assert!(log.batch(5, 256, 1 << 20).unwrap().0.gaps.is_empty());
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_is_refused() {
        let mut log = log(3);
        log.append(sample(), at(0));
        log.append(sample(), at(0));
        log.sent(1);
        assert!(!log.ack(2));
        assert!(log.ack(1));
        assert!(log.ack(0), "an old one is harmless");
        assert_eq!(log.depth(), 1);
    }

    #[test]
    fn batches_keep_to_their_bounds_but_are_never_empty() {
        let mut log = log(10);
        for second in 0..5 {
            log.append(sample(), at(second));
        }
        let one = size::of_sample(&sample());
        let count = |samples, bytes| log.batch(1, samples, bytes).unwrap().0.samples.len();
        assert_eq!(count(2, 1 << 20), 2);
        assert_eq!(count(256, 3 * one), 3);
        assert_eq!(count(256, 1), 1);
        assert_eq!(count(0, 1 << 20), 1);
    }

    #[test]
    fn a_sample_that_no_message_can_carry_loses_its_details_and_not_its_values() {
        let mut log = log(10);
        let mut huge = sample();
        let text = Detail::Text("x".repeat(20_000));
        huge.measurements.details.insert("notes".into(), text);
        assert!(log.append(huge, at(0)).trimmed);
        assert_eq!(log.batch(1, 1, 1).unwrap().0.samples[0], Ok(sample()));
    }

    #[test]
    fn on_a_disk_nothing_is_sent_before_the_mark_above_it_is_written() {
        let found = RecoveredTelemetry {
            floor: 1,
            next: 1,
            ..RecoveredTelemetry::default()
        };
        let age = Duration::from_secs(100);
        let mut log = TelemetryLog::recovered(LogId::generate(), &found, 1 << 20, age);
        log.append(sample(), at(0));
        assert!(log.batch(1, 9, 1 << 20).is_none());
        let job = log.next_to_shelve(at(0), true).unwrap();
        assert!(job.samples.is_empty(), "too young to be written");
        assert!(log.batch(1, 9, 1 << 20).is_none(), "not before the answer");
        assert_eq!(log.shelved(Some(Kept::default()), at(0)), None);
        assert_eq!(log.batch(1, 9, 1 << 20).unwrap().1, 1);
        for _ in 0..job.mark {
            log.append(sample(), at(0));
        }
        let (batch, last) = log.batch(1, 4_096, 1 << 20).unwrap();
        assert_eq!((last, batch.samples.len() as u64), (job.mark, job.mark));
    }
}
