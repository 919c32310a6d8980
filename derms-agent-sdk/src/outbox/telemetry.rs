//! The telemetry log: bounded in bytes and age, loses the oldest, and says so.

use std::collections::VecDeque;
use std::time::Duration;

use derms_proto::link::{Gap, GapReason, LogHead, LogKind, Sample, TelemetryBatch};
use derms_proto::{LogId, Timestamp};

use super::size;
use crate::clock::MonoTime;

/// More gaps than this are merged whatever their reasons.
const MAX_GAPS: usize = 32;
/// A sample over this could block the log; it goes without its details.
const MAX_SAMPLE_BYTES: usize = 16 << 10;

/// Samples that are not acknowledged, and the gaps where some were dropped.
///
/// Numbers start at 1 and have no holes: each is in `entries`, inside a gap, or acknowledged.
#[derive(Debug)]
pub(crate) struct TelemetryLog {
    log_id: LogId,
    entries: VecDeque<Entry>,
    next_seq: u64,
    /// The last number that was ever sent, itself or inside a gap; 0 if none.
    sent: u64,
    /// Below this everything is acknowledged.
    first_unacked: u64,
    /// Not acknowledged; in order and before all entries.
    gaps: VecDeque<Gap>,
    bytes: usize,
    max_bytes: usize,
    max_age: Duration,
    dropped: u64,
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
            gaps: VecDeque::new(),
            bytes: 0,
            max_bytes,
            max_age,
            dropped: 0,
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

    /// Samples held.
    pub(crate) fn depth(&self) -> u64 {
        self.entries.len() as u64
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

    fn first_held(&self) -> u64 {
        self.next_seq - self.depth()
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

    fn drop_oldest(&mut self, count: usize, reason: GapReason) -> Option<Gap> {
        if count == 0 {
            return None;
        }
        let first_seq = self.first_held();
        for entry in self.entries.drain(..count) {
            self.bytes -= entry.bytes;
        }
        let gap = Gap {
            first_seq,
            last_seq: first_seq + count as u64 - 1,
            reason,
        };
        self.dropped += count as u64;
        match self.gaps.back_mut() {
            // Only the oldest is ever dropped, so a new gap always follows the last one.
            Some(last) if last.reason == reason => last.last_seq = gap.last_seq,
            _ => self.gaps.push_back(gap),
        }
        self.merge_gaps();
        Some(gap)
    }

    fn merge_gaps(&mut self) {
        if self.gaps.len() > MAX_GAPS
            && let (Some(first), Some(second)) = (self.gaps.pop_front(), self.gaps.front_mut())
        {
            second.first_seq = first.first_seq;
        }
    }

    /// A session takes the log from `cursor` on, or from where it begins; says where that is.
    ///
    /// A headend that has lost what it had acknowledged asks for what is gone here, too: that is
    /// declared as a gap, of no reason that this side knows.
    pub(crate) fn resume(&mut self, cursor: Option<u64>) -> u64 {
        if let Some(cursor) = cursor {
            let _ = self.ack(cursor.saturating_sub(1));
            if cursor < self.first_unacked {
                self.gaps.push_front(Gap {
                    first_seq: cursor,
                    last_seq: self.first_unacked - 1,
                    reason: GapReason::Unknown,
                });
                self.first_unacked = cursor;
                self.merge_gaps();
            }
        }
        self.first_unacked
    }

    /// Mends the times of all samples.
    pub(crate) fn relabel(&mut self, mend: impl Fn(Timestamp) -> Timestamp) {
        for Entry { sample, .. } in &mut self.entries {
            sample.measured_at = mend(sample.measured_at);
        }
    }

    /// Everything up to `up_to` is safe. False, and nothing is done, if no such number was ever
    /// sent: what the headend can't have is not taken from the log.
    #[must_use]
    pub(crate) fn ack(&mut self, up_to: u64) -> bool {
        if !self.was_sent(up_to) {
            return false;
        }
        self.first_unacked = self.first_unacked.max(up_to + 1);
        let acked = (up_to + 1).saturating_sub(self.first_held());
        for entry in self.entries.drain(..usize::try_from(acked).unwrap_or(0)) {
            self.bytes -= entry.bytes;
        }
        self.gaps.retain(|gap| gap.last_seq > up_to);
        if let Some(gap) = self.gaps.front_mut() {
            gap.first_seq = gap.first_seq.max(up_to + 1);
        }
        true
    }

    /// When the first sample at or after `from` was appended.
    pub(crate) fn appended_at(&self, from: u64) -> Option<MonoTime> {
        let index = from.saturating_sub(self.first_held());
        let index = usize::try_from(index).ok()?;
        self.entries.get(index).map(|entry| entry.at)
    }

    /// The batch that begins at `from`, with the gaps before it, and its last number; `None` if
    /// there is nothing to say. Always at least one sample, however small the bounds.
    pub(crate) fn batch(
        &self,
        from: u64,
        max_samples: usize,
        max_bytes: usize,
    ) -> Option<(TelemetryBatch, u64)> {
        let gaps: Vec<Gap> = self
            .gaps
            .iter()
            .filter(|gap| gap.last_seq >= from)
            .map(|gap| Gap {
                first_seq: gap.first_seq.max(from),
                ..*gap
            })
            .collect();
        let first_seq = from.max(self.first_held());
        let skip = usize::try_from(first_seq - self.first_held()).ok()?;
        let mut bytes = 0;
        let samples: Vec<_> = self
            .entries
            .iter()
            .skip(skip)
            .take(max_samples.max(1))
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.bytes;
                first || bytes <= max_bytes
            })
            .map(|entry| Ok(entry.sample.clone()))
            .collect();
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
}
