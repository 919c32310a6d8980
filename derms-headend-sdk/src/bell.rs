//! Polling only what has something to say.
//!
//! A task that waits for several things is woken for one of them and then asks all. Where one of
//! them comes thousands of times and the others hardly ever, the asking is most of the cost: each
//! token and each timer takes a lock, and some of those locks are shared by all sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// Remembers which wakes were meant for what is polled through it.
#[derive(Debug)]
pub(crate) struct Bell {
    cord: Arc<Cord>,
    waker: Waker,
}

#[derive(Debug)]
struct Cord {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Bell {
    pub(crate) fn new() -> Self {
        let cord = Arc::new(Cord {
            // Whatever it is for must be asked once, to be waited for at all.
            rung: AtomicBool::new(true),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            waker: Waker::from(Arc::clone(&cord)),
            cord,
        }
    }

    /// Asks at the next poll, woken or not: what is polled was exchanged.
    pub(crate) fn ring(&self) {
        self.cord.rung.store(true, Ordering::Release);
    }

    /// Calls `poll` if it was woken since it last said that there is nothing.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        {
            let mut task = self.cord.task.lock();
            if !task.will_wake(cx.waker()) {
                task.clone_from(cx.waker());
            }
        }
        // After the waker is in its place: a wake from here on is not lost.
        if !self.cord.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let answer = poll(&mut Context::from_waker(&self.waker));
        if answer.is_ready() {
            // There may be more.
            self.ring();
        }
        answer
    }
}

impl Wake for Cord {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.lock().wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future as _, poll_fn};
    use std::pin::pin;

    use tokio::sync::{Notify, mpsc};

    use super::*;

    #[tokio::test]
    async fn what_is_not_woken_is_not_asked() {
        let (bell, mut asked) = (Bell::new(), 0);
        let mut cx = Context::from_waker(Waker::noop());
        let mut ask = || {
            bell.poll(&mut cx, |_| {
                asked += 1;
                Poll::<()>::Pending
            })
        };
        assert!(ask().is_pending());
        assert!(ask().is_pending());
        bell.ring();
        assert!(ask().is_pending());
        assert_eq!(asked, 2);
    }

    #[tokio::test]
    async fn what_has_more_is_asked_again() {
        let (sender, mut receiver) = mpsc::channel(2);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        let bell = Bell::new();
        for expected in [1, 2] {
            let next = poll_fn(|cx| bell.poll(cx, |cx| receiver.poll_recv(cx))).await;
            assert_eq!(next, Some(expected));
        }
    }

    #[tokio::test]
    async fn a_wake_reaches_the_task_wherever_it_was_polled_from() {
        let (notify, bell) = (Arc::new(Notify::new()), Arc::new(Bell::new()));
        let mut notified = pin!(notify.notified());
        let mut elsewhere = Context::from_waker(Waker::noop());
        assert!(
            bell.poll(&mut elsewhere, |cx| notified.as_mut().poll(cx))
                .is_pending()
        );
        let ringer = Arc::clone(&notify);
        let (_, ()) = tokio::join!(
            poll_fn(|cx| bell.poll(cx, |cx| notified.as_mut().poll(cx))),
            async move { ringer.notify_waiters() }
        );
    }
}
