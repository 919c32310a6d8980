//! The part of the telemetry log that is on a disk: when to write, what may be sent, what to read
//! back. No I/O here.
//!
//! A sample that is acknowledged within seconds is never written. What is always written before
//! anything is sent is the **mark**: the highest number that may have been sent. After a crash
//! numbers go on above it, so none is ever used for two samples; what is missing below is declared.

use std::collections::VecDeque;
use std::time::Duration;

use derms_proto::link::{Refusal, Sample};

use crate::clock::MonoTime;
use crate::state::{Mend, RecoveredTelemetry};

/// A sample that is not acknowledged by then is written: what a crash may cost.
pub(super) const WRITE_AFTER: Duration = Duration::from_secs(2);
/// So many are written at once, whatever their age.
pub(super) const WRITE_AT: usize = 1_024;
/// A disk that failed is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How far ahead of the last number the mark is set; more if numbers are used up quickly.
const AHEAD: u64 = 64;
const MOST_AHEAD: u64 = 8_192;
const QUICKLY: Duration = Duration::from_secs(60);
const SLOWLY: Duration = Duration::from_secs(240);

/// A sample that was read back, and its size.
type Item = (Result<Sample, Refusal>, usize);

#[derive(Debug)]
pub(super) struct Shelf {
    /// The first number that this process gave.
    pub(super) started: u64,
    /// No number up to here need be written (again): on the disk, acknowledged, or lost.
    pub(super) stored: u64,
    mark: u64,
    ahead: u64,
    raised_at: Option<MonoTime>,
    writing: Option<Writing>,
    retry_at: Option<MonoTime>,
    /// The last number in the oldest file that may be deleted when it is acknowledged.
    pub(super) oldest: Option<u64>,
    pub(super) mends: Vec<Mend>,
    back: Back,
    reading: Option<(u64, u64)>,
    read_again_at: Option<MonoTime>,
}

#[derive(Debug, Clone, Copy)]
struct Writing {
    up_to: u64,
    mark: u64,
}

/// What was read back: all numbers from `from` to below `until` that are not lost.
#[derive(Debug, Default)]
struct Back {
    from: u64,
    until: u64,
    items: VecDeque<(u64, Item)>,
}

impl Shelf {
    pub(super) fn new(found: &RecoveredTelemetry) -> Self {
        Self {
            started: found.next,
            stored: found.next - 1,
            mark: found.mark,
            ahead: AHEAD,
            raised_at: None,
            writing: None,
            retry_at: None,
            oldest: found.oldest,
            mends: found.mends.clone(),
            back: Back::default(),
            reading: None,
            read_again_at: None,
        }
    }

    /// The highest number that may be sent. While the disk fails, all: a crash then shows in the
    /// headend's cursor.
    pub(super) fn sendable(&self, last: u64) -> u64 {
        if self.is_failing() {
            last
        } else {
            self.mark.min(last)
        }
    }

    pub(super) const fn mark(&self) -> u64 {
        self.mark
    }

    pub(super) const fn is_failing(&self) -> bool {
        self.retry_at.is_some()
    }

    pub(super) const fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    pub(super) fn may_write(&self, now: MonoTime) -> bool {
        self.writing.is_none() && self.retry_at.is_none_or(|at| at <= now)
    }

    pub(super) const fn retry_at(&self) -> Option<MonoTime> {
        self.retry_at
    }

    /// Whether the mark must be set before much more is sent.
    pub(super) const fn is_low(&self, last: u64) -> bool {
        self.mark < last + self.ahead / 4
    }

    /// The mark to write: a new one while in session, else the old one, so that a restart knows
    /// what was sent and not what might have been.
    pub(super) fn next_mark(&mut self, last: u64, in_session: bool, now: MonoTime) -> u64 {
        if !in_session || self.mark >= last + self.ahead / 2 {
            return self.mark;
        }
        match self
            .raised_at
            .replace(now)
            .map(|at| now.saturating_since(at))
        {
            Some(since) if since < QUICKLY => self.ahead = (self.ahead * 2).min(MOST_AHEAD),
            Some(since) if since > SLOWLY => self.ahead = (self.ahead / 2).max(AHEAD),
            _ => {}
        }
        last + self.ahead
    }

    pub(super) fn write(&mut self, up_to: u64, mark: u64) {
        self.writing = Some(Writing { up_to, mark });
    }

    /// The answer. False if nothing was being written, or under numbers that count no more.
    pub(super) fn written(&mut self, done: bool, now: MonoTime) -> bool {
        let Some(writing) = self.writing.take() else {
            return false;
        };
        if done {
            self.stored = self.stored.max(writing.up_to);
            self.mark = writing.mark;
            self.retry_at = None;
        } else {
            self.retry_at = Some(now + TRY_AGAIN);
            let stored = self.stored;
            for mend in &mut self.mends {
                mend.last = mend.last.min(stored.max(self.started - 1));
            }
        }
        self.mends.retain(|mend| mend.first <= mend.last);
        true
    }

    /// Times of this process that are on the disk, or will be, are wrong by this.
    pub(super) fn mend(&mut self, micros: i64) {
        let last = self.writing.map_or(0, |writing| writing.up_to);
        let mend = Mend {
            first: self.started,
            last: last.max(self.stored),
            micros,
        };
        if mend.first <= mend.last {
            self.mends.push(mend);
        }
    }

    pub(super) fn ack(&mut self, up_to: u64) {
        self.stored = self.stored.max(up_to);
        self.mends.retain(|mend| mend.last > up_to);
        while self
            .back
            .items
            .front()
            .is_some_and(|(seq, _)| *seq <= up_to)
        {
            self.back.items.pop_front();
        }
    }

    /// All numbers are lower by this, and `started` may be below 1 by now.
    pub(super) fn shift(&mut self, by: u64, last: u64) {
        self.started = self.started.saturating_sub(by).max(1);
        self.stored -= by;
        self.mark = 0;
        self.writing = None;
        self.reading = None;
        self.back = Back::default();
        self.oldest = self.oldest.map(|oldest| oldest.saturating_sub(by));
        for mend in &mut self.mends {
            mend.first = mend.first.saturating_sub(by).max(1);
            mend.last = mend.last.saturating_sub(by).min(last);
        }
    }

    /// Whether this number was read back.
    pub(super) fn has(&self, seq: u64) -> bool {
        (self.back.from..self.back.until).contains(&seq)
    }

    /// What was read back from `seq` on, without a hole, up to below `until`.
    pub(super) fn items(&self, seq: u64, until: u64) -> impl Iterator<Item = &Item> {
        let skip = self.back.items.partition_point(|(of, _)| *of < seq);
        let items = self.back.items.iter().skip(skip).zip(seq..until);
        items
            .take_while(|((of, _), due)| of == due)
            .map(|((_, item), _)| item)
    }

    /// Asks for a range, if none is being read.
    pub(super) fn read(&mut self, from: u64, to: u64, now: MonoTime) -> bool {
        let may =
            self.reading.is_none() && from < to && self.read_again_at.is_none_or(|at| at <= now);
        if may {
            self.reading = Some((from, to));
        }
        may
    }

    /// The disk could not be read.
    pub(super) fn not_read(&mut self, now: MonoTime) {
        self.reading = None;
        self.read_again_at = Some(now + TRY_AGAIN);
    }

    pub(super) fn read_again_at(&self) -> Option<MonoTime> {
        self.read_again_at.filter(|_| self.reading.is_none())
    }

    /// Takes what was read back; gives what was asked for and is not there.
    pub(super) fn take_back(
        &mut self,
        samples: VecDeque<(u64, Result<Sample, Refusal>)>,
        until: u64,
        size: impl Fn(&Sample) -> usize,
    ) -> Option<Vec<(u64, u64)>> {
        let (from, to) = self.reading.take()?;
        self.read_again_at = None;
        let until = until.min(to);
        let mut items: VecDeque<(u64, Item)> = VecDeque::with_capacity(samples.len());
        let mut missing = Vec::new();
        let mut due = from;
        for (seq, mut item) in samples {
            if seq < due || seq >= until {
                continue;
            }
            if due < seq {
                missing.push((due, seq - 1));
            }
            due = seq + 1;
            if let Ok(sample) = &mut item {
                for mend in self
                    .mends
                    .iter()
                    .filter(|m| (m.first..=m.last).contains(&seq))
                {
                    let at = sample.measured_at.unix_micros();
                    sample.measured_at =
                        derms_proto::Timestamp::from_unix_micros(at.saturating_add(mend.micros));
                }
            }
            let bytes = item.as_ref().map_or(64, &size);
            items.push_back((seq, (item, bytes)));
        }
        if due < until {
            missing.push((due, until - 1));
        }
        self.back = Back { from, until, items };
        Some(missing)
    }
}
