//! What of a log has been sent and not acknowledged, in one session.

use std::collections::VecDeque;

/// Where sending stands in one session: the next number to send, and the batches that wait for
/// their acknowledgement.
#[derive(Debug)]
pub(crate) struct Window {
    next: u64,
    /// The last number of each unacknowledged batch.
    in_flight: VecDeque<u64>,
    most: usize,
}

impl Window {
    /// Sending starts at `next`; at most `most` batches wait for their acknowledgement.
    pub(crate) fn new(next: u64, most: usize) -> Self {
        Self {
            next,
            in_flight: VecDeque::new(),
            most,
        }
    }

    /// The next number to send.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn is_full(&self) -> bool {
        self.in_flight.len() >= self.most
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
            return;
        }
        while self.in_flight.front().is_some_and(|last| *last <= up_to) {
            self.in_flight.pop_front();
        }
        self.next = self.next.max(up_to + 1);
    }
}
