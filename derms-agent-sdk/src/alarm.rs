//! What an adapter has to say beside values: alarms and changes of state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use derms_proto::Severity;
use tokio::sync::mpsc;

/// So many events of an asset pass at once.
pub(crate) const BURST: u32 = 20;
/// And then one in this time.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// So many may wait until the agent takes them.
const WAITING: usize = 32;
/// Longest code; what stands for the end of an alarm fits behind it.
const MAX_CODE: usize = 96;

/// Something at a device that an operator must know of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alarm {
    /// How much it matters.
    pub severity: Severity,
    /// For programs: lower case with underscores, at most 96 bytes.
    pub code: String,
    /// For people; cut after 1,024 bytes.
    pub text: String,
}

impl Alarm {
    /// An alarm. A code that is not in lower case with underscores is made so, and cut.
    #[must_use]
    pub fn new(severity: Severity, code: &str, text: impl Into<String>) -> Self {
        let letter = |c: char| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => c,
            _ => '_',
        };
        Self {
            severity,
            code: code.chars().take(MAX_CODE).map(letter).collect(),
            text: text.into(),
        }
    }
}

/// Where the adapter of one asset raises events at once, from any thread; clones are the same place.
///
/// An event is written down with the agent's reports: it is sent until the headend has it, and with a
/// state directory it outlives the agent. A device that raises too many, more than 20 and then one
/// every 10 s, does not fill that log: what is too much is left out, and the next event says how
/// many were.
#[derive(Debug, Clone)]
pub struct AssetEvents {
    queue: mpsc::Sender<Alarm>,
    left_out: Arc<AtomicU64>,
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Raised {
    queue: mpsc::Receiver<Alarm>,
    left_out: Arc<AtomicU64>,
}

impl AssetEvents {
    pub(crate) fn new() -> (Self, Raised) {
        let (sender, queue) = mpsc::channel(WAITING);
        let left_out = Arc::default();
        let raised = Raised {
            queue,
            left_out: Arc::clone(&left_out),
        };
        let events = Self {
            queue: sender,
            left_out,
        };
        (events, raised)
    }

    /// Raises an event that has happened now. Never waits and never fails; after the asset is gone it
    /// does nothing.
    pub fn raise(&self, severity: Severity, code: &str, text: impl Into<String>) {
        let alarm = Alarm::new(severity, code, text);
        if self.queue.try_send(alarm).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Raised {
    /// The next one, and how many before it found no room.
    pub(crate) async fn next(&mut self) -> Option<(Alarm, u64)> {
        let alarm = self.queue.recv().await?;
        Some((alarm, self.left_out.swap(0, Ordering::Relaxed)))
    }

    /// All that wait, and how many found no room.
    #[cfg(feature = "testing")]
    pub(crate) fn waiting(&mut self) -> (Vec<Alarm>, u64) {
        let waiting = std::iter::from_fn(|| self.queue.try_recv().ok()).collect();
        (waiting, self.left_out.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_made_of_lower_case_letters_digits_and_underscores() {
        let alarm = Alarm::new(Severity::Alarm, "DC-Bus Überspannung 3", "");
        assert_eq!(alarm.code, "dc_bus__berspannung_3");
        let long = Alarm::new(Severity::Info, &"x".repeat(500), "");
        assert_eq!(long.code.len(), MAX_CODE);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_told_with_what_does() {
        let (events, mut raised) = AssetEvents::new();
        for _ in 0..WAITING + 3 {
            events.raise(Severity::Warning, "door_open", "");
        }
        assert_eq!(raised.next().await.unwrap().1, 3);
        assert_eq!(raised.next().await.unwrap().1, 0);
    }

    #[test]
    fn who_raises_something_neither_waits_nor_panics_without_room_without_an_asset_or_a_runtime() {
        let (events, raised) = AssetEvents::new();
        let raise = move |events: &AssetEvents| {
            for _ in 0..2 * WAITING {
                events.raise(Severity::Warning, "door_open", "");
            }
        };
        raise(&events);
        drop(raised);
        raise(&events);
        assert_eq!(events.left_out.load(Ordering::Relaxed), 3 * WAITING as u64);
    }
}
