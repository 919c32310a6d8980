//! What an adapter raises by itself, and the alarms of its readings.

use derms_proto::Severity;
use tokio::time::Instant;

use super::Rule;
use super::probe::{Method, Probe};
use crate::alarm::{Alarm, AssetEvents, BURST, EVERY, Raised};

/// What one part of the kit has seen of them. Nobody takes what is raised before the part is over,
/// as with an agent that has no time: the adapter must not mind.
#[derive(Debug)]
pub(super) struct Seen {
    raised: Raised,
    since: Instant,
    count: u64,
    /// The codes of the last reading.
    active: Vec<String>,
}

impl Seen {
    pub(super) fn new() -> (AssetEvents, Self) {
        let (events, raised) = AssetEvents::new();
        let seen = Self {
            raised,
            since: Instant::now(),
            count: 0,
            active: Vec::new(),
        };
        (events, seen)
    }
}

impl Probe<'_> {
    /// Hands over where to raise events, as the agent does before it reads for the first time.
    pub(super) async fn hand_over(&mut self, events: AssetEvents) {
        let adapter = std::sync::Arc::clone(&self.adapter);
        let call = async move { adapter.take_events(events) };
        self.finish(super::probe::start(Method::TakeEvents, call))
            .await;
    }

    /// The alarms of a reading: what begins is as good as raised.
    pub(super) fn have(&mut self, alarms: &[Alarm]) {
        let codes: Vec<String> = alarms.iter().map(|alarm| alarm.code.clone()).collect();
        for (at, alarm) in alarms.iter().enumerate() {
            self.says_what(alarm);
            let twice = codes[..at].contains(&alarm.code);
            self.notes.check(Rule::EventsSayWhat, !twice, || {
                format!("two alarms of one reading have the code `{}`", alarm.code)
            });
        }
        let begun = codes.iter().filter(|code| !self.seen.active.contains(code));
        self.seen.count += begun.count() as u64;
        self.seen.active = codes;
    }

    /// What was raised in this part.
    pub(super) fn judge_events(&mut self) {
        let (raised, left_out) = self.seen.raised.waiting();
        self.seen.count += raised.len() as u64 + left_out;
        for alarm in &raised {
            self.says_what(alarm);
        }
    }

    /// Whether the agent would pass on all that was raised in this part, which was without trouble.
    pub(super) fn judge_calm(&mut self) {
        self.judge_events();
        let Seen { count, since, .. } = self.seen;
        if count == 0 {
            return;
        }
        let passes = u64::from(BURST) + since.elapsed().as_secs() / EVERY.as_secs();
        self.notes.check(Rule::EventsAreFew, count <= passes, || {
            let took = since.elapsed();
            format!("{count} were raised in {took:.0?}; the agent passes on {passes}")
        });
    }

    fn says_what(&mut self, alarm: &Alarm) {
        let Alarm {
            severity,
            code,
            text,
        } = alarm;
        let found = if !code.contains(|c: char| c.is_ascii_lowercase()) {
            Some(format!("`{text}` has no code"))
        } else if text.trim().is_empty() {
            Some(format!("`{code}` has no text"))
        } else if *severity == Severity::Unknown {
            Some(format!("`{code}` has the severity {severity:?}"))
        } else {
            None
        };
        self.notes.check(Rule::EventsSayWhat, found.is_none(), || {
            found.unwrap_or_default()
        });
    }
}
