//! What the load can be told to do.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::Interest;

use super::agent::Agent;
use super::operator::Operator;
use super::{Load, OPERATOR};
use crate::words::{Flood, Result, Send, Task, Times, Told};

/// Until all agents are there.
const PATIENCE: Duration = Duration::from_secs(120);
/// Until the last acknowledgement is there.
const LAST: Duration = Duration::from_secs(5);
/// Most messages in a row before answers are read.
const BURST: u32 = 16;
/// How often telemetry is sent: what has become due since then goes out together.
const TICK: Duration = Duration::from_millis(1);

impl Load {
    pub(super) fn perform(&mut self, task: Task) -> Result<Told> {
        self.told = Told::default();
        for times in [&mut self.ack, &mut self.apply, &mut self.answer] {
            times.clear();
        }
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let start = Instant::now();
        let mut seconds = 0.0;
        match task {
            Task::Connect {
                listening,
                rest,
                agents,
                at_once,
            } => {
                self.listening = Some(listening);
                self.rest = rest;
                for number in self.agents.len() as u32..agents {
                    self.agents.push(Agent::new(number));
                    self.links.push(None);
                    self.registered.push(false);
                }
                self.connect(at_once)?;
            }
            Task::Storm { at_once } => {
                for number in 0..self.links.len() {
                    self.links[number] = None;
                    self.forget(number);
                }
                self.connect(at_once)?;
            }
            Task::Send(send) => seconds = self.load(send)?,
            Task::Flood(flood) => self.flood(flood)?,
        }
        if seconds == 0.0 {
            seconds = start.elapsed().as_secs_f64();
        }
        Ok(Told {
            seconds,
            began_us: i64::try_from(began.as_micros())?,
            ack: self.ack.spread(),
            apply: self.apply.spread(),
            answer: self.answer.spread(),
            ..self.told.clone()
        })
    }

    /// Connects every agent that has no connection.
    fn connect(&mut self, at_once: u32) -> Result<()> {
        let start = Instant::now();
        let all = self.agents.len() as u32;
        let mut next = 0;
        while self.registered_count < all {
            let limit = self.registered_count.saturating_add(at_once).min(all);
            // Answers are read in between, or they would pile up.
            for _ in 0..BURST.min(limit.saturating_sub(next)) {
                if self.links[next as usize].is_none() {
                    self.dial(next as usize, false)?;
                }
                next += 1;
            }
            self.turn(Some(if next < limit {
                Duration::ZERO
            } else {
                Duration::from_millis(50)
            }))?;
            if self.told.lost > 0 || start.elapsed() > PATIENCE {
                let there = self.registered_count;
                return Err(format!(
                    "{there} of {all} agents registered, {} lost",
                    self.told.lost
                )
                .into());
            }
        }
        Ok(())
    }

    /// Sends telemetry, and tells for how long.
    fn load(&mut self, send: Send) -> Result<f64> {
        let stuck = send.stuck > 0;
        if stuck {
            self.dial(0, true)?;
            while !self.registered[0] {
                self.turn(Some(Duration::from_millis(50)))?;
            }
            self.stuck = Some(0);
        }
        let (first, all) = (u32::from(stuck), self.agents.len() as u32);
        // A server may close a connection that has been idle.
        self.operator = None;
        if let (Some(listening), 1..) = (self.listening, send.orders) {
            let mut operator = Operator::connect(listening.orders, self.rest)?;
            self.poll
                .registry()
                .register(&mut operator.socket, OPERATOR, Interest::READABLE)?;
            self.operator = Some(operator);
        }
        let mut late = Times::new()?;
        let start = Instant::now();
        let mut telemetry = Beat::new(start, send.rate, send.seconds);
        let mut orders = Beat::new(start, send.orders, send.seconds);
        let mut noise = Beat::new(start, send.stuck, send.seconds);
        let mut turn = first;
        let mut addressee = first;
        let seconds = loop {
            let now = Instant::now();
            let tick = start + TICK * ((now - start).as_micros() / TICK.as_micros()) as u32;
            let mut sending = false;
            for _ in 0..BURST {
                let due = telemetry.due(tick);
                sending = due.is_some();
                let Some(due) = due else { break };
                late.add(now - due);
                self.report(turn as usize, now);
                turn = if turn + 1 < all { turn + 1 } else { first };
            }
            if noise.due(now).is_some() && self.links[0].is_some() {
                let message = self.agents[0].telemetry(1);
                if self.send(0, &message) {
                    self.agents[0].sent(1, now);
                }
            }
            let free = self
                .operator
                .as_ref()
                .is_some_and(|operator| operator.order.is_none());
            if free
                && let Some(operator) = &mut self.operator
                && orders.due(now).is_some()
            {
                operator.give(addressee, now)?;
                // Far from the last one and from whoever sends just now.
                addressee = first + (addressee + 7_919) % (all - first);
            }
            // The system rounds what is left of this tick up to a whole millisecond.
            self.turn(Some(if sending { Duration::ZERO } else { TICK / 4 }))?;
            let waiting = self.told.acked < self.told.sent
                || self
                    .operator
                    .as_ref()
                    .is_some_and(|operator| operator.order.is_some());
            if telemetry.is_over(now) && (!waiting || telemetry.is_over(now - LAST)) {
                break start.elapsed().as_secs_f64();
            }
        };
        if stuck {
            self.stuck = None;
            self.dial(0, false)?;
        }
        self.told.late = late.spread();
        Ok(seconds)
    }

    /// Sends as much as is acknowledged, and waits for the last acknowledgement.
    fn flood(&mut self, flood: Flood) -> Result<()> {
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(flood.seconds);
        loop {
            let now = Instant::now();
            for number in 0..flood.agents.min(self.agents.len() as u32) as usize {
                while now < end && self.agents[number].unacked() < flood.window {
                    let message = self.agents[number].telemetry(flood.samples);
                    if !self.send(number, &message) {
                        break;
                    }
                    self.agents[number].sent(flood.samples, now);
                    self.told.sent += 1;
                }
            }
            self.turn(Some(TICK))?;
            if now >= end && self.told.acked >= self.told.sent {
                return Ok(());
            }
            if now >= end + PATIENCE || self.told.lost > 0 || self.told.rewound > 0 {
                let told = &self.told;
                return Err(format!(
                    "{} messages sent, {} acknowledged, {} asked for again, {} connections lost",
                    told.sent, told.acked, told.rewound, told.lost
                )
                .into());
            }
        }
    }

    fn report(&mut self, number: usize, now: Instant) {
        if !self.agents[number].has_room() {
            self.told.held += 1;
            return;
        }
        let message = self.agents[number].telemetry(1);
        if self.send(number, &message) {
            self.agents[number].sent(1, now);
            self.told.sent += 1;
        } else {
            self.told.held += 1;
        }
    }
}

/// Something that is due again and again.
struct Beat {
    next: Instant,
    end: Instant,
    interval: Duration,
}

impl Beat {
    fn new(start: Instant, per_second: u32, seconds: f64) -> Self {
        Self {
            next: start,
            end: start + Duration::from_secs_f64(seconds),
            interval: Duration::from_secs(1)
                .checked_div(per_second)
                .unwrap_or(Duration::MAX),
        }
    }

    /// When it was due, if it is.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next;
        if self.interval == Duration::MAX || due > now || due >= self.end {
            return None;
        }
        self.next += self.interval;
        Some(due)
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_due_meanwhile_is_made_up_for_until_the_end() {
        let start = Instant::now();
        let mut beat = Beat::new(start, 10, 1.0);
        let late = start + Duration::from_secs(60);
        let due = std::iter::from_fn(|| beat.due(late)).count();
        assert_eq!(due, 10);
        assert!(beat.is_over(late));
        assert!(Beat::new(start, 0, 1.0).due(late).is_none());
    }
}
