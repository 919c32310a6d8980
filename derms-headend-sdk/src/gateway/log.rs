//! Where one log of an agent stands on one stream.

use std::time::Duration;

use derms_proto::LogId;
use derms_proto::link::{Gap, Refusal, RefusedEntry};
use tokio::time::Instant;
use uuid::Uuid;

use super::session::refused;

/// How long after a batch could not be kept it is asked for again.
const REWIND_AFTER: Duration = Duration::from_secs(1);

/// A part of a log that is new here and without an undeclared hole.
#[derive(Debug, PartialEq)]
pub(crate) struct Accepted<T> {
    pub(crate) log: LogId,
    /// It continued here before.
    pub(crate) first_seq: u64,
    pub(crate) items: Vec<(u64, T)>,
    pub(crate) refused: Vec<RefusedEntry>,
    pub(crate) gaps: Vec<Gap>,
    /// The log continues here.
    pub(crate) next_seq: u64,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken<T> {
    Yes(Accepted<T>),
    /// All of it came before.
    Before,
    /// Something before it was not kept, so it comes again.
    Later(Vec<Result<T, Refusal>>),
}

#[derive(Debug)]
pub(crate) struct LogTrack {
    log: Option<LogId>,
    /// The next number that is taken.
    expected: u64,
    /// Everything below is stored.
    durable: u64,
    /// Batches handed to the store that it has not confirmed.
    in_hand: u32,
    /// Entries that had come before, since somebody asked.
    repeated: u64,
    most_in_hand: u32,
    rewind: Option<Rewind>,
}

/// Something was not kept: nothing behind it is taken until the agent has gone back.
#[derive(Debug, Clone, Copy)]
struct Rewind {
    /// When to ask for it (again).
    at: Instant,
    asked: bool,
}

impl LogTrack {
    pub(crate) fn new(log: Option<LogId>, next_seq: u64, most_in_hand: u32) -> Self {
        Self {
            log,
            expected: next_seq,
            durable: next_seq,
            in_hand: 0,
            repeated: 0,
            most_in_hand,
            rewind: None,
        }
    }

    pub(crate) fn id(&self) -> LogId {
        self.log.unwrap_or(LogId::new(Uuid::nil()))
    }

    /// The last number that is stored.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.saturating_sub(1)
    }

    /// How many entries came again since the last look.
    pub(crate) fn take_repeated(&mut self) -> u64 {
        std::mem::take(&mut self.repeated)
    }

    pub(crate) fn rewind_at(&self) -> Option<Instant> {
        self.rewind.map(|rewind| rewind.at)
    }

    /// Takes what is new of a batch.
    ///
    /// # Errors
    /// Another log, or a hole that no gap declares: losing numbers in silence is a protocol error.
    pub(crate) fn accept<T>(
        &mut self,
        log: LogId,
        first_seq: u64,
        items: Vec<Result<T, Refusal>>,
        gaps: &[Gap],
        now: Instant,
    ) -> Result<Taken<T>, String> {
        if self.log != Some(log) {
            return Err(format!("log {log} was not registered"));
        }
        if self.rewind.is_some_and(|rewind| !rewind.asked) {
            return Ok(Taken::Later(items));
        }
        let mut expected = self.expected;
        let mut new_gaps = Vec::new();
        for gap in gaps {
            if gap.first_seq > expected {
                break;
            }
            if gap.last_seq < expected {
                continue;
            }
            new_gaps.push(Gap {
                first_seq: expected,
                ..*gap
            });
            expected = gap.last_seq.saturating_add(1);
        }
        if !items.is_empty() && first_seq > expected {
            // Those behind a batch that was not kept may still be on their way.
            return if self.rewind.is_some() {
                Ok(Taken::Later(items))
            } else {
                Err(format!("number {first_seq} came where {expected} was due"))
            };
        }
        if self.in_hand >= self.most_in_hand {
            self.go_back(now);
            return Ok(Taken::Later(items));
        }
        let end = first_seq.saturating_add(items.len() as u64);
        let next_seq = expected.max(if items.is_empty() { 0 } else { end });
        let before = expected.saturating_sub(first_seq);
        self.repeated += before.min(items.len() as u64);
        if next_seq == self.expected {
            // All of it came before. Once stored, the agent should hear that again.
            return if self.durable == self.expected && self.in_hand == 0 {
                self.in_hand += 1;
                Ok(Taken::Yes(Accepted {
                    log: self.id(),
                    first_seq: self.expected,
                    items: Vec::new(),
                    refused: Vec::new(),
                    gaps: Vec::new(),
                    next_seq,
                }))
            } else {
                Ok(Taken::Before)
            };
        }
        let mut taken = Vec::with_capacity(items.len());
        let mut refusals = Vec::new();
        for (seq, item) in (first_seq..).zip(items) {
            if seq < expected {
                continue;
            }
            match item {
                Ok(item) => taken.push((seq, item)),
                Err(refusal) => refusals.push(refused(seq, &refusal)),
            }
        }
        let first_seq = std::mem::replace(&mut self.expected, next_seq);
        self.rewind = None;
        self.in_hand += 1;
        Ok(Taken::Yes(Accepted {
            log: self.id(),
            first_seq,
            items: taken,
            refused: refusals,
            gaps: new_gaps,
            next_seq,
        }))
    }

    /// A batch that was accepted was not kept after all, nor is what came behind it.
    pub(crate) fn not_kept(&mut self, now: Instant) {
        self.in_hand = self.in_hand.saturating_sub(1);
        self.go_back(now);
    }

    fn go_back(&mut self, now: Instant) {
        self.rewind = Some(Rewind {
            at: now + REWIND_AFTER,
            asked: false,
        });
    }

    /// The last number that is stored, when the time has come to ask for what follows it.
    pub(crate) fn rewind(&mut self, now: Instant) -> Option<u64> {
        let rewind = self.rewind.as_mut().filter(|rewind| now >= rewind.at)?;
        // Asked again until the agent has gone back: the ask itself may have met a full queue.
        rewind.at = now + REWIND_AFTER;
        if self.in_hand > 0 {
            return None;
        }
        rewind.asked = true;
        self.expected = self.durable;
        Some(self.durable())
    }

    pub(crate) fn stored(&mut self, up_to_seq: u64, batches: usize) {
        self.durable = self.durable.max(up_to_seq.saturating_add(1));
        let batches = u32::try_from(batches).unwrap_or(u32::MAX);
        self.in_hand = self.in_hand.saturating_sub(batches);
    }
}
