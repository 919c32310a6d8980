//! Telemetry that agents have lost for good, told in few events.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{Gap, GapReason};
use derms_proto::{AgentId, AssetId, Event, LogId, Severity, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{About, Events, MOST_BELOW_ALARM};
use crate::store::TelemetryAppend;

/// What comes batch by batch after an outage is told as one.
const EVERY: Duration = Duration::from_secs(5);
/// An agent whose outbox stays full declares a gap with each batch.
const QUIET: Duration = Duration::from_secs(600);

/// A loss is told only while fewer events than this wait for the store, and summed up until then:
/// others can't wait.
const MOST_WAITING: usize = MOST_BELOW_ALARM / 2;

/// What agents have lost in this life of the headend.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// The log of each agent, and where it continues. A session that began while batches of an
    /// earlier one waited for the store takes them again, and the store leaves them out.
    logs: HashMap<AgentId, (LogId, u64)>,
    /// Those that have lost something.
    agents: HashMap<AgentId, Loss>,
}

/// Of one agent.
#[derive(Debug, Default)]
struct Loss {
    about: About,
    told: Option<Instant>,
    untold: Option<Untold>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Untold {
    sums: Vec<Sum>,
    /// When the last of it was stored.
    at: Timestamp,
}

/// All that was lost for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sum {
    reason: GapReason,
    gaps: u64,
    numbers: u64,
    first_seq: u64,
    last_seq: u64,
    /// `None`: of several.
    log: Option<LogId>,
}

impl Losses {
    /// These parts were stored at `at`: adds their gaps, and gives what was new of them.
    fn stored(&mut self, appends: &[TelemetryAppend], at: Timestamp) -> Vec<Gap> {
        let mut new = Vec::new();
        for append in appends {
            let known = self.logs.entry(append.agent);
            let (log, next_seq) = known.or_insert((append.log, 0));
            if *log != append.log {
                (*log, *next_seq) = (append.log, 0);
            }
            let settled = std::mem::replace(next_seq, append.next_seq.max(*next_seq));
            for gap in append.gaps.iter().filter(|gap| gap.last_seq >= settled) {
                let first_seq = gap.first_seq.max(settled);
                let gap = Gap { first_seq, ..*gap };
                let loss = self.agents.entry(append.agent).or_default();
                let untold = loss.untold.get_or_insert_with(|| Untold {
                    sums: Vec::new(),
                    at,
                });
                untold.at = at;
                untold.add(append.log, gap);
                new.push(gap);
            }
        }
        new
    }

    /// Takes what is to be told of agents of which nothing was for so long, at most `most` of them.
    fn take(
        &mut self,
        now: Instant,
        quiet: Duration,
        most: usize,
    ) -> Vec<(AgentId, About, Untold)> {
        let due = self.agents.iter_mut().filter(|(_, loss)| {
            let waits = |told: Instant| now.saturating_duration_since(told) < quiet;
            loss.untold.is_some() && !loss.told.is_some_and(waits)
        });
        let taken = due.take(most).filter_map(|(agent, loss)| {
            loss.told = Some(now);
            Some((*agent, loss.about, loss.untold.take()?))
        });
        taken.collect()
    }
}

impl Untold {
    fn add(&mut self, log: LogId, gap: Gap) {
        let numbers = gap.last_seq.saturating_sub(gap.first_seq).saturating_add(1);
        let Some(sum) = self.sums.iter_mut().find(|sum| sum.reason == gap.reason) else {
            self.sums.push(Sum {
                reason: gap.reason,
                gaps: 1,
                numbers,
                first_seq: gap.first_seq,
                last_seq: gap.last_seq,
                log: Some(log),
            });
            return;
        };
        sum.gaps += 1;
        sum.numbers = sum.numbers.saturating_add(numbers);
        sum.first_seq = sum.first_seq.min(gap.first_seq);
        sum.last_seq = sum.last_seq.max(gap.last_seq);
        sum.log = sum.log.filter(|known| *known == log);
    }
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, sum) in self.sums.iter().enumerate() {
            let separator = if number > 0 { "; " } else { "" };
            write!(f, "{separator}{sum}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (up_to, why) = match self.reason {
            GapReason::OutboxFull => ("", "the agent's outbox was full"),
            GapReason::TooOld => ("", "older than the agent's outbox keeps"),
            GapReason::Corrupt => (
                "up to ",
                "the agent crashed or its storage was damaged, and some of these numbers may never \
                 have been given",
            ),
            _ => ("", "why is not known"),
        };
        let numbers = grouped(self.numbers);
        let are = match self.numbers {
            1 => "measurement is",
            _ => "measurements are",
        };
        write!(f, "{up_to}{numbers} {are} lost: {why} (")?;
        let (first, last) = (self.first_seq, self.last_seq);
        match (self.log, self.gaps) {
            (Some(log), 1) if first == last => write!(f, "number {first} of log {log})"),
            (Some(log), 1) => write!(f, "numbers {first} to {last} of log {log})"),
            (Some(log), gaps) => {
                write!(f, "{gaps} gaps in numbers {first} to {last} of log {log})")
            }
            (None, gaps) => write!(f, "{gaps} gaps in several logs)"),
        }
    }
}

/// With a comma at each thousand.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Events {
    /// An agent that serves these has declared a gap, which is not stored yet.
    pub(crate) fn declared(&self, agent: AgentId, assets: &[AssetId]) {
        let about = About::agent(agent, assets, &self.fleet);
        let mut losses = self.losses.lock();
        let loss = losses.agents.entry(agent).or_default();
        loss.about = match loss.untold {
            // What is summed up was lost by one that served others.
            Some(_) if loss.about != about => About::default(),
            _ => about,
        };
    }

    /// Parts of telemetry logs were stored; gives the gaps that were new, each once.
    pub(crate) fn stored(&self, appends: &[TelemetryAppend]) -> Vec<Gap> {
        let now = self.clock.now();
        self.losses.lock().stored(appends, now)
    }

    /// Tells of agents of which nothing was told for so long, as long as fewer than this wait.
    fn tell_losses(&self, quiet: Duration, most_waiting: usize) {
        let (waiting, _) = self.backlog.levels();
        let most = most_waiting.saturating_sub(waiting);
        let taken = self.losses.lock().take(Instant::now(), quiet, most);
        for (agent, about, untold) in taken {
            let about = about.by(agent);
            let text = untold.to_string();
            let event = self.own(Severity::Warning, "telemetry_lost", text, about);
            self.put_below(
                most_waiting,
                Event {
                    at: untold.at.min(event.at),
                    ..event
                },
            );
        }
    }
}

/// Tells of what is lost until `storing` has ended, and then of the rest, one event an agent: after
/// that nothing is raised that must be stored.
pub(crate) async fn tell_losses(events: Arc<Events>, storing: impl Future<Output = ()>) {
    // Also if it panics: the writer of events must not wait for ever.
    let _ended = events.end.clone().drop_guard();
    let mut storing = pin!(storing);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut storing => break,
            _ = ticks.tick() => {
                events.tell_losses(QUIET, MOST_WAITING);
            }
        }
    }
    events.tell_losses(Duration::ZERO, usize::MAX);
}

#[cfg(test)]
#[path = "losses_tests.rs"]
mod tests;
