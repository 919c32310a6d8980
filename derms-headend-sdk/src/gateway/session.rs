//! The headend's side of one stream, without I/O and without a clock.

use std::collections::VecDeque;
use std::time::Duration;

use derms_proto::link::{
    AgentHeartbeat, AgentMessage, AssetUpdate, Close, HeadendMessage, Limits, LogAck, LogHead,
    LogKind, Refusal, RefusalCode, RefusedEntry, Register, ReportBatch, ReportEntry, Sample,
    TelemetryBatch, WireError,
};
use derms_proto::{CloseReason, LogId};
use tokio::time::Instant;

use super::log::{Accepted, LogTrack, Taken};

/// Times and sizes that a session keeps to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) register_timeout: Duration,
    pub(crate) liveness_timeout: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) limits: Limits,
}

/// Where a stream stands.
#[derive(Debug)]
enum State {
    /// Waits for Register. Next: `Claiming`; closed when it does not come.
    Opened,
    /// The headend looks for an epoch and grants. Next: `Active`, or closed with the refusal.
    Claiming,
    /// Registered. Next: closed.
    Active(Active),
    /// Over; nothing is taken or given any more.
    Closed,
}

#[derive(Debug)]
struct Active {
    epoch: u64,
    telemetry: LogTrack,
    report: LogTrack,
    /// A ping that waits for its pong: nonce and end of patience.
    probe: Option<(u64, Instant)>,
    pings: u64,
}

/// What the driver must do.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Find an epoch and grants, then call [`StreamSession::claimed`] or
    /// [`StreamSession::close`].
    Claim(Box<Register>),
    Send(HeadendMessage),
    /// Store, then acknowledge; or call [`StreamSession::not_kept`].
    Telemetry(Accepted<Sample>),
    Live(Vec<Sample>),
    /// Store, then acknowledge; or call [`StreamSession::not_kept`].
    Report(Accepted<ReportEntry>),
    Heartbeat(AgentHeartbeat),
    Update(AssetUpdate),
    /// A ping was answered.
    Answered,
    /// Send this if there is anyone to read it, and end the stream.
    Close(Close),
    /// The agent has ended the stream: nobody is there to be told.
    Ended(Close),
}

#[derive(Debug)]
pub(crate) struct StreamSession {
    rules: Rules,
    state: State,
    opened_at: Instant,
    last_read: Instant,
    actions: Actions,
}

/// What is to be done, in order. There is hardly ever more than one at a time, and a queue would
/// keep room for four.
#[derive(Debug, Default)]
struct Actions {
    first: Option<Action>,
    /// Empty while there is no first.
    more: VecDeque<Action>,
}

impl Actions {
    fn push_back(&mut self, action: Action) {
        match self.first {
            None => self.first = Some(action),
            Some(_) => self.more.push_back(action),
        }
    }

    fn pop_front(&mut self) -> Option<Action> {
        let first = self.first.take();
        self.first = self.more.pop_front();
        first
    }
}

impl StreamSession {
    pub(crate) fn new(rules: Rules, now: Instant) -> Self {
        Self {
            rules,
            state: State::Opened,
            opened_at: now,
            last_read: now,
            actions: Actions::default(),
        }
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Opened => Some(self.opened_at + self.rules.register_timeout),
            // The store decides how long it takes, the liveness limit how long it may.
            State::Claiming => Some(self.last_read + self.rules.liveness_timeout),
            State::Active(active) => {
                let live = self.last_read + self.rules.liveness_timeout;
                let probe = active.probe.map(|(_, until)| until);
                let rewinds = [&active.telemetry, &active.report].map(LogTrack::rewind_at);
                rewinds
                    .into_iter()
                    .flatten()
                    .chain(probe)
                    .chain([live])
                    .min()
            }
            State::Closed => None,
        }
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let silent = now >= self.last_read + self.rules.liveness_timeout;
        match &mut self.state {
            State::Opened => {
                self.fail(CloseReason::RegisterTimeout, "no Register came in time");
            }
            State::Active(active) if !silent => {
                if active.probe.is_some_and(|(_, until)| now >= until) {
                    self.fail(
                        CloseReason::LivenessTimeout,
                        "a ping was not answered in time",
                    );
                    return;
                }
                for (kind, log) in [
                    (LogKind::Telemetry, &mut active.telemetry),
                    (LogKind::Report, &mut active.report),
                ] {
                    if let Some(up_to_seq) = log.rewind(now) {
                        self.actions
                            .push_back(ack(kind, log.id(), up_to_seq, Vec::new(), true));
                    }
                }
            }
            State::Claiming | State::Active(_) => {
                self.fail(
                    CloseReason::LivenessTimeout,
                    "nothing was read for too long",
                );
            }
            State::Closed => {}
        }
    }

    /// A message came, or something that is none.
    pub(crate) fn received(&mut self, message: Result<AgentMessage, WireError>, now: Instant) {
        self.last_read = now;
        let message = match message {
            Ok(message) => message,
            Err(error) => return self.fail(CloseReason::ProtocolError, error.to_string()),
        };
        match (&mut self.state, message) {
            (State::Closed, _) | (_, AgentMessage::Unknown) => {}
            (_, AgentMessage::Close(close)) => self.ended(close),
            (State::Opened, AgentMessage::Register(register)) => {
                if self.are_too_many(register.assets.len()) {
                    return;
                }
                self.state = State::Claiming;
                self.actions.push_back(Action::Claim(Box::new(register)));
            }
            (State::Opened, _) => {
                self.fail(
                    CloseReason::ProtocolError,
                    "the first message was not Register",
                );
            }
            (State::Claiming, _) => {
                self.fail(
                    CloseReason::ProtocolError,
                    "a message came before Registered was sent",
                );
            }
            (State::Active(_), AgentMessage::Register(_)) => {
                self.fail(CloseReason::ProtocolError, "Register came twice");
            }
            (State::Active(_), message) => self.active(message, now),
        }
    }

    fn active(&mut self, message: AgentMessage, now: Instant) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        match message {
            AgentMessage::Telemetry(batch) => self.telemetry(batch, now),
            AgentMessage::Report(batch) => self.report(batch, now),
            AgentMessage::LiveTelemetry(samples) => {
                self.actions
                    .push_back(Action::Live(samples.into_iter().flatten().collect()));
            }
            AgentMessage::Heartbeat(heartbeat) => {
                if heartbeat.epoch != active.epoch {
                    return self.wrong_epoch(heartbeat.epoch);
                }
                self.actions.push_back(Action::Heartbeat(heartbeat));
            }
            AgentMessage::AssetUpdate(update) => {
                if update.epoch != active.epoch {
                    return self.wrong_epoch(update.epoch);
                }
                if self.are_too_many(update.upserted.len()) {
                    return;
                }
                self.actions.push_back(Action::Update(update));
            }
            AgentMessage::Pong { nonce }
                if active.probe.is_some_and(|(asked, _)| asked == nonce) =>
            {
                active.probe = None;
                self.actions.push_back(Action::Answered);
            }
            _ => {}
        }
    }

    /// Whether one message claims more assets than an agent may have; it is the end then.
    fn are_too_many(&mut self, claims: usize) -> bool {
        let most = self.rules.limits.max_assets;
        let too_many = claims > most as usize;
        if too_many {
            let text = format!("{claims} assets claimed, at most {most} are allowed");
            self.fail(CloseReason::Forbidden, text);
        }
        too_many
    }

    fn telemetry(&mut self, batch: TelemetryBatch, now: Instant) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        if batch.samples.len() > self.rules.limits.max_batch_samples as usize {
            let text = format!("a batch of {} samples", batch.samples.len());
            return self.fail(CloseReason::ProtocolError, text);
        }
        match active.telemetry.accept(
            batch.log_id,
            batch.first_seq,
            batch.samples,
            &batch.gaps,
            now,
        ) {
            Ok(Taken::Yes(accepted)) => self.actions.push_back(Action::Telemetry(accepted)),
            // It comes again to be stored; what was measured last is seen now.
            Ok(Taken::Later(samples)) => self
                .actions
                .push_back(Action::Live(samples.into_iter().flatten().collect())),
            Ok(Taken::Before) => {}
            Err(text) => self.fail(CloseReason::ProtocolError, format!("telemetry: {text}")),
        }
    }

    fn report(&mut self, batch: ReportBatch, now: Instant) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        match active
            .report
            .accept(batch.log_id, batch.first_seq, batch.entries, &[], now)
        {
            Ok(Taken::Yes(accepted)) => self.actions.push_back(Action::Report(accepted)),
            Ok(Taken::Before | Taken::Later(_)) => {}
            Err(text) => self.fail(CloseReason::ProtocolError, format!("report: {text}")),
        }
    }

    /// The claim went through: the session is active, its logs continue at these numbers.
    pub(crate) fn claimed(
        &mut self,
        epoch: u64,
        heads: &[LogHead],
        cursors: &[(LogId, u64)],
        now: Instant,
    ) {
        if !matches!(self.state, State::Claiming) {
            return;
        }
        let track = |kind| {
            let head = heads.iter().find(|head| head.kind == kind);
            let known = head.and_then(|head| cursors.iter().find(|(log, _)| *log == head.log_id));
            let next =
                known.map_or_else(|| head.map_or(1, |head| head.first_seq), |(_, next)| *next);
            LogTrack::new(
                head.map(|head| head.log_id),
                next,
                self.rules.limits.max_unacked_batches,
            )
        };
        self.last_read = now;
        self.state = State::Active(Active {
            epoch,
            telemetry: track(LogKind::Telemetry),
            report: track(LogKind::Report),
            probe: None,
            pings: 0,
        });
    }

    /// A part of a log is stored: tells the agent.
    pub(crate) fn stored(
        &mut self,
        kind: LogKind,
        up_to_seq: u64,
        batches: usize,
        refused: Vec<RefusedEntry>,
    ) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let log = match kind {
            LogKind::Telemetry => &mut active.telemetry,
            _ => &mut active.report,
        };
        log.stored(up_to_seq, batches);
        self.actions
            .push_back(ack(kind, log.id(), log.durable(), refused, false));
    }

    /// Tells once more up to where both logs are stored: it may not have been heard.
    pub(crate) fn acknowledge_again(&mut self) {
        let State::Active(active) = &self.state else {
            return;
        };
        let logs = [
            (LogKind::Telemetry, &active.telemetry),
            (LogKind::Report, &active.report),
        ];
        let acks = logs.map(|(kind, log)| ack(kind, log.id(), log.durable(), Vec::new(), false));
        for ack in acks {
            self.actions.push_back(ack);
        }
    }

    /// A part of a log is stored and the agent has been told.
    pub(crate) fn settled(&mut self, kind: LogKind, up_to_seq: u64, batches: usize) {
        if let State::Active(active) = &mut self.state {
            match kind {
                LogKind::Telemetry => active.telemetry.stored(up_to_seq, batches),
                _ => active.report.stored(up_to_seq, batches),
            }
        }
    }

    /// How many entries of telemetry and of reports came again since the last look.
    pub(crate) fn take_repeated(&mut self) -> (u64, u64) {
        match &mut self.state {
            State::Active(active) => (
                active.telemetry.take_repeated(),
                active.report.take_repeated(),
            ),
            _ => (0, 0),
        }
    }

    /// A part of a log from this number on could not be kept: asks for it again, later.
    pub(crate) fn not_kept(&mut self, kind: LogKind, now: Instant) {
        if let State::Active(active) = &mut self.state {
            match kind {
                LogKind::Telemetry => active.telemetry.not_kept(now),
                _ => active.report.not_kept(now),
            }
        }
    }

    /// Asks whether the agent lives, unless that is being asked already.
    pub(crate) fn probe(&mut self, now: Instant) {
        if let State::Active(active) = &mut self.state
            && active.probe.is_none()
        {
            active.pings += 1;
            active.probe = Some((active.pings, now + self.rules.ping_timeout));
            let ping = HeadendMessage::Ping {
                nonce: active.pings,
            };
            self.actions.push_back(Action::Send(ping));
        }
    }

    /// Ends the session from this side.
    pub(crate) fn close(&mut self, close: Close) {
        if !self.is_closed() {
            self.state = State::Closed;
            self.actions.push_back(Action::Close(close));
        }
    }

    /// The other side has ended the session, with a word or without.
    pub(crate) fn ended(&mut self, close: Close) {
        if !self.is_closed() {
            self.state = State::Closed;
            self.actions.push_back(Action::Ended(close));
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn wrong_epoch(&mut self, epoch: u64) {
        let text = format!("epoch {epoch} is not that of this session");
        self.fail(CloseReason::ProtocolError, text);
    }

    fn fail(&mut self, reason: CloseReason, text: impl Into<String>) {
        self.close(Close::new(reason, text));
    }
}

fn ack(
    kind: LogKind,
    log_id: LogId,
    up_to_seq: u64,
    refused: Vec<RefusedEntry>,
    rewind: bool,
) -> Action {
    Action::Send(HeadendMessage::LogAck(LogAck {
        kind,
        log_id,
        up_to_seq,
        refused,
        rewind,
    }))
}

/// A refused item, as it is told to the agent.
pub(crate) fn refused(seq: u64, refusal: &Refusal) -> RefusedEntry {
    RefusedEntry {
        seq,
        code: RefusalCode::Invalid,
        text: Some(refusal.to_string()),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
