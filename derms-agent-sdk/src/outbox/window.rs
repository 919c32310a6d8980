//! What of a log has been sent and not acknowledged, in one session.

use std::collections::VecDeque;

/// Samples that ask whether the headend has room: it gets as many of each agent every second while
/// its store is away.
const ASKED: usize = 8;
/// Beyond that the headend has room.
const MOST_ASKED: usize = 64;

/// Where sending stands in one session: the next number to send, and the batches that wait for
/// their acknowledgement.
#[derive(Debug)]
pub(crate) struct Window {
    next: u64,
    /// The last number of each unacknowledged batch.
    in_flight: VecDeque<u64>,
    most: usize,
    /// The headend had no room: one batch at a time of so many samples asks whether it has some
    /// again, of twice as many each time that it has.
    asking: Option<usize>,
}

impl Window {
    /// Sending starts at `next`; at most `most` batches wait for their acknowledgement.
    pub(crate) fn new(next: u64, most: usize) -> Self {
        Self {
            next,
            in_flight: VecDeque::new(),
            most,
            asking: None,
        }
    }

    /// The next number to send.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn is_full(&self) -> bool {
        let most = if self.asking.is_some() { 1 } else { self.most };
        self.in_flight.len() >= most
    }

    /// The most samples of the next batch, if a batch may have so many.
    pub(crate) fn samples(&self, most: usize) -> usize {
        self.asking.map_or(most, |asked| asked.min(most))
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
            self.asking = Some(ASKED);
            return;
        }
        while self.in_flight.front().is_some_and(|last| *last <= up_to) {
            self.in_flight.pop_front();
            let asked = self.asking.map(|asked| 2 * asked);
            self.asking = asked.filter(|asked| *asked <= MOST_ASKED);
        }
        self.next = self.next.max(up_to + 1);
    }
}
