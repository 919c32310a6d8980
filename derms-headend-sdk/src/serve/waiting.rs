//! Connections that have not said what they want: how many there may be.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

/// Connections that are being opened. An honest peer is through in a round trip or two; a flood of
/// silent ones must not hold every place for the whole time that opening may take.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Oldest first; those that are open or gone among them.
    turns: VecDeque<Weak<Notify>>,
    most: usize,
}

impl Waiting {
    pub(super) fn new(most: usize) -> Self {
        Self {
            turns: VecDeque::new(),
            most,
        }
    }

    /// Takes one more, which must keep what it gets until it is open, and must end when that is
    /// notified. With all places taken the oldest one is.
    pub(super) fn enter(&mut self) -> Arc<Notify> {
        if self.turns.len() >= self.most {
            self.turns.retain(|turn| turn.strong_count() > 0);
        }
        if self.turns.len() >= self.most
            && let Some(oldest) = self.turns.pop_front().and_then(|turn| turn.upgrade())
        {
            oldest.notify_one();
        }
        let turn = Arc::new(Notify::new());
        self.turns.push_back(Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::time::FutureExt as _;

    use super::*;

    async fn is_told_to_end(turn: &Notify) -> bool {
        turn.notified()
            .timeout(std::time::Duration::ZERO)
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_than_there_is_room_for_ends_the_oldest_alone() {
        let mut waiting = Waiting::new(2);
        let (first, second) = (waiting.enter(), waiting.enter());
        assert!(!is_told_to_end(&first).await);
        let third = waiting.enter();
        assert!(is_told_to_end(&first).await);
        assert!(!is_told_to_end(&second).await && !is_told_to_end(&third).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_open_takes_no_room() {
        let mut waiting = Waiting::new(2);
        let first = waiting.enter();
        drop(waiting.enter());
        let _third = waiting.enter();
        assert!(!is_told_to_end(&first).await);
        assert!(waiting.turns.len() <= 2);
    }
}
