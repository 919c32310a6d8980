//! What of a log has been sent and not acknowledged, in one session.

use std::collections::VecDeque;

/// Samples that ask whether the headend has room: it gets as many of each agent every second while
/// its store is away.
const ASKED: usize = 8;

/// Where sending stands in one session: the next number to send, and the batches that wait for
/// their acknowledgement.
#[derive(Debug)]
pub(crate) struct Window {
    next: u64,
    /// The last number of each unacknowledged batch.
    in_flight: VecDeque<u64>,
    most: usize,
    /// The headend had no room: one small batch at a time asks whether it has some again.
    asking: bool,
}

impl Window {
    /// Sending starts at `next`; at most `most` batches wait for their acknowledgement.
    pub(crate) fn new(next: u64, most: usize) -> Self {
        Self {
            next,
            in_flight: VecDeque::new(),
            most,
            asking: false,
        }
    }

    /// The next number to send.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn is_full(&self) -> bool {
        let most = if self.asking { 1 } else { self.most };
        self.in_flight.len() >= most
    }

    /// The most samples of the next batch, if a batch may have so many.
    pub(crate) fn samples(&self, most: usize) -> usize {
        if self.asking { most.min(ASKED) } else { most }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// A batch up to `last` was sent.
    pub(crate) fn sent(&mut self, last: u64) {
        self.in_flight.push_back(last);
        self.next = last + 1;
    }

    /// Everything up to `up_to` is safe; with `rewind`, what was sent after it was not kept.
    pub(crate) fn acked(&mut self, up_to: u64, rewind: bool) {
        if rewind {
            self.in_flight.clear();
            self.next = up_to + 1;
            self.asking = true;
            return;
        }
        while self.in_flight.front().is_some_and(|last| *last <= up_to) {
            self.in_flight.pop_front();
            self.asking = false;
        }
        self.next = self.next.max(up_to + 1);
    }
}
