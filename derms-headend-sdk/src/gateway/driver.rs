//! Moves one stream: reads, feeds the session, does what it says.
//!
//! **The stream is always read**: h2 kills a connection with too many unread small frames
//! (RUSTSEC-2026-0258), so not reading is no back-pressure. Nothing here waits for the store or
//! for the agent; what can't be kept is dropped by rule.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use derms_proto::link::{AgentMessage, Close, HeadendMessage, LogKind, RefusedEntry};
use derms_proto::wire::TraceContext as _;
use derms_proto::{CloseReason, SessionRecord, Traceparent, pb};
use tokio::sync::mpsc;
use tokio::task::coop;
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream as _;
use tonic::{Code, Status, Streaming};

use super::claim::{self, Claimant, Claimed};
use super::facts::{self, Facts};
use super::session::{Action, Rules, StreamSession};
use crate::auth::Principal;
use crate::bell::Bell;
use crate::core::Core;
use crate::ingest::Item;
use crate::link_auth::Credentials;
use crate::mailbox::{Mailbox, Wishes};
use crate::peer::ConnectionHandle;
use crate::registry::{Outbound, Session};
use crate::store::SessionEnd;

/// How often a full outbound queue is looked at.
const STUCK_LOOK: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    pub(super) core: Arc<Core>,
    pub(super) inbound: Streaming<pb::AgentMessage>,
    pub(super) outbound: mpsc::Sender<Outbound>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) peer: Option<String>,
    pub(super) principal: Option<Principal>,
    /// Until they are given to the claim.
    pub(super) credentials: Option<Credentials>,
    pub(super) connection: Option<ConnectionHandle>,
}

type ClaimFuture = Pin<Box<dyn Future<Output = Result<Claimed, Close>> + Send>>;

/// What a stream's task is woken for.
enum Event {
    Message(Message),
    Claimed(Result<Claimed, Close>),
    Wishes(Wishes),
    Tick,
    Drain,
}

/// What changes while a stream lives.
struct Live {
    state: StreamSession,
    claim: Option<ClaimFuture>,
    /// For what is hardly ever there: asking for it takes locks that all sessions share.
    seldom: Bell,
    session: Option<Arc<Session>>,
    facts: Facts,
    /// Since when the outbound queue has been full.
    stuck: Option<Instant>,
    /// Orders wait for room in the outbound queue.
    starved: bool,
    /// An acknowledgement found no room.
    unsaid: bool,
    end: Option<Close>,
    /// The end was ours: the agent must hear it.
    tell: bool,
}

impl Driver {
    // A future made of a block: an `async fn` that is given its driver holds it twice, in every session.
    #[expect(clippy::manual_async_fn, reason = "it is smaller")]
    pub(super) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let config = &self.core.config;
            let rules = Rules {
                register_timeout: config.register_timeout,
                liveness_timeout: config.liveness_timeout,
                ping_timeout: config.ping_timeout,
                limits: config.limits,
            };
            let mut live = Live {
                state: StreamSession::new(rules, Instant::now()),
                claim: None,
                seldom: Bell::new(),
                session: None,
                facts: Facts::default(),
                stuck: None,
                starved: false,
                unsaid: false,
                end: None,
                tell: false,
            };
            let drain = self.core.drain.clone();
            // Enrolled once: all sessions wait on this one token.
            let mut drained = pin!(drain.cancelled());
            // Moved only when it fires: most messages just push the deadline further away.
            let mut timer = pin!(tokio::time::sleep(rules.register_timeout));
            let inbound = Bell::new();
            loop {
                while let Some(action) = live.state.poll_action() {
                    self.perform(action, &mut live);
                }
                if live.state.is_closed() {
                    break;
                }
                let due = next_look(&live);
                if due < timer.deadline() {
                    timer.as_mut().reset(due);
                    live.seldom.ring();
                }
                let event = poll_fn(|cx| {
                    if live.session.is_some()
                        && let Poll::Ready(wishes) = self.mailbox.poll(cx)
                    {
                        return Poll::Ready(Event::Wishes(wishes));
                    }
                    let rare = live.seldom.poll(cx, |cx| {
                        if let Some(claim) = &mut live.claim
                            && let Poll::Ready(claimed) = claim.as_mut().poll(cx)
                        {
                            return Poll::Ready(Event::Claimed(claimed));
                        }
                        if drained.as_mut().poll(cx).is_ready() {
                            return Poll::Ready(Event::Drain);
                        }
                        timer.as_mut().poll(cx).map(|()| Event::Tick)
                    });
                    if rare.is_ready() {
                        return rare;
                    }
                    inbound
                        .poll(cx, |cx| poll_message(&mut self.inbound, cx))
                        .map(Event::Message)
                });
                let event = event.await;
                let is_message = matches!(event, Event::Message(_));
                self.happened(event, &mut live, timer.as_mut());
                if is_message {
                    // An agent that sends without a pause must not keep the others waiting.
                    coop::consume_budget().await;
                }
            }
            // A claim in flight is carried to its end: its session record must be closed too.
            if let Some(claim) = live.claim.take()
                && let Ok(claimed) = claim.await
            {
                live.session = Some(claimed.session);
            }
            // Boxed: the task of a stream that lives needs no room for its end.
            Box::pin(self.end(live)).await;
        }
    }

    fn happened(&self, event: Event, live: &mut Live, timer: Pin<&mut Sleep>) {
        match event {
            Event::Message(message) => self.received(message, live),
            Event::Claimed(claimed) => {
                live.claim = None;
                self.claimed(claimed, live);
            }
            Event::Wishes(wishes) => self.wishes(wishes, live),
            Event::Tick => {
                let now = Instant::now();
                self.settle(live);
                live.state.tick(now);
                self.look_at_queue(live, now);
                let due = next_look(live).max(now + Duration::from_millis(1));
                timer.reset(due);
            }
            Event::Drain => live.state.close(self.draining()),
        }
    }

    fn received(&self, message: Result<Option<pb::AgentMessage>, Status>, live: &mut Live) {
        let now = Instant::now();
        match message {
            Ok(Some(message)) => {
                if let Some(session) = &live.session {
                    let now = self.core.clock.now();
                    session.seen(now);
                    live.facts.read(now);
                    self.settle(live);
                }
                let trace = message.trace_context().and_then(Traceparent::parse);
                let message = AgentMessage::try_from(message);
                if let (Some(trace), Some(session), Ok(AgentMessage::Report(batch))) =
                    (trace, &live.session, &message)
                {
                    facts::traced(&self.core, session, batch, trace);
                }
                live.state.received(message, now);
                self.count_repeated(live);
            }
            Ok(None) => live
                .state
                .ended(lost("the agent ended the stream without a word")),
            Err(status) => match status.code() {
                Code::OutOfRange => {
                    live.state
                        .close(Close::new(CloseReason::MessageTooLarge, status.message()));
                }
                Code::Internal if status.message().contains("decode") => {
                    live.state.close(Close::new(
                        CloseReason::ProtocolError,
                        "a message is no protobuf",
                    ));
                }
                _ => live.state.ended(lost(status.message())),
            },
        }
    }

    fn count_repeated(&self, live: &mut Live) {
        let (telemetry, reports) = live.state.take_repeated();
        let link = &self.core.metrics.link;
        for (log, times) in [(&link.telemetry, telemetry), (&link.reports, reports)] {
            if times > 0 {
                log.duplicates.inc_by(times);
            }
        }
    }

    fn perform(&mut self, action: Action, live: &mut Live) {
        match action {
            Action::Claim(register) => {
                let claimant = Claimant {
                    peer: self.peer.clone(),
                    principal: self.principal.clone(),
                    credentials: self.credentials.take(),
                    mailbox: Arc::clone(&self.mailbox),
                    outbound: self.outbound.clone(),
                };
                live.claim = Some(Box::pin(claim::claim(
                    Arc::clone(&self.core),
                    register,
                    claimant,
                )));
                live.seldom.ring();
            }
            Action::Send(message) => self.send(message, live),
            Action::Telemetry(accepted) => {
                if let Some(session) = &live.session {
                    let first_seq = accepted.first_seq;
                    let (append, refused) = live.facts.telemetry(&self.core, session, accepted);
                    let item = self.item(append, first_seq, refused);
                    if self.core.ingest.telemetry(item).is_err() {
                        live.state.not_kept(LogKind::Telemetry, Instant::now());
                    }
                }
            }
            Action::Live(samples) => {
                if let Some(session) = &live.session {
                    live.facts.live(&self.core, session.agent_id, samples);
                }
            }
            Action::Report(accepted) => {
                if let Some(session) = &live.session {
                    let first_seq = accepted.first_seq;
                    let (append, refused) = facts::report(&self.core, session, accepted);
                    let item = self.item(append, first_seq, refused);
                    if self.core.ingest.reports(item).is_err() {
                        live.state.not_kept(LogKind::Report, Instant::now());
                    }
                }
            }
            Action::Heartbeat(heartbeat) => {
                let ack = HeadendMessage::HeartbeatAck {
                    monotonic: heartbeat.monotonic,
                    server_time: self.core.clock.now(),
                };
                self.send(ack, live);
                if let Some(session) = &live.session {
                    facts::heartbeat(&self.core, session, &heartbeat);
                }
            }
            Action::Update(update) => {
                if let Some(session) = &live.session {
                    let (core, session) = (Arc::clone(&self.core), Arc::clone(session));
                    self.core
                        .streams
                        .spawn(super::update::update(core, session, update));
                }
            }
            Action::Answered => self.mailbox.answered(),
            Action::Close(close) => {
                live.tell = true;
                live.end = Some(close);
            }
            Action::Ended(close) => live.end = Some(close),
        }
    }

    fn item<A>(&self, append: A, first_seq: u64, refused: Vec<RefusedEntry>) -> Item<A> {
        Item {
            append,
            first_seq,
            refused,
            mailbox: Arc::clone(&self.mailbox),
        }
    }

    /// Queues a message, or drops it when the agent does not read: acknowledgements are said
    /// again when there is room, everything else has its own time limit.
    fn send(&self, message: HeadendMessage, live: &mut Live) {
        let is_ack = matches!(message, HeadendMessage::LogAck(_));
        let message = Box::new(pb::HeadendMessage::from(message));
        match self.outbound.try_send(message) {
            Ok(()) => live.stuck = None,
            Err(_) => {
                live.stuck.get_or_insert_with(Instant::now);
                live.unsaid |= is_ack;
            }
        }
    }

    fn look_at_queue(&self, live: &mut Live, now: Instant) {
        let room = self.outbound.capacity() > 0;
        if room {
            live.stuck = None;
        } else if live.starved {
            live.stuck.get_or_insert(now);
        }
        if room && std::mem::take(&mut live.unsaid) {
            live.state.acknowledge_again();
        }
        if live.starved && room {
            live.starved = false;
            if let Some(session) = &live.session {
                self.replay(session, None);
            }
        }
        if live
            .stuck
            .is_some_and(|since| now >= since + self.core.config.slow_consumer_after)
        {
            live.state.close(Close::new(
                CloseReason::SlowConsumer,
                "the agent does not read what is sent to it",
            ));
        }
    }

    fn claimed(&self, claimed: Result<Claimed, Close>, live: &mut Live) {
        match claimed {
            Ok(Claimed {
                session,
                register,
                cursors,
            }) => {
                self.core.metrics.link.connects.inc();
                let principal = session.principal.as_ref().map(Principal::name);
                tracing::info!(agent_id = %session.agent_id, principal, peer = session.peer,
                    epoch = session.epoch, assets = session.assets().len(), "agent connected");
                live.state
                    .claimed(session.epoch, &register.logs, &cursors, Instant::now());
                self.replay(&session, Some(register));
                live.session = Some(session);
            }
            Err(close) => live.state.close(close),
        }
    }

    /// Sends what waits for a session, beside its stream: the store may take its time.
    fn replay(&self, session: &Arc<Session>, register: Option<Box<derms_proto::link::Register>>) {
        let (core, session) = (Arc::clone(&self.core), Arc::clone(session));
        self.core.streams.spawn(async move {
            // Whatever holds is told before any order.
            core.limits.replay(&session);
            let assets = session.assets();
            if let Err(error) = core.dispatcher.replay(&session, &assets, register.as_deref()).await {
                tracing::warn!(agent_id = %session.agent_id, error = %error.in_full(), "can't look up waiting orders; trying again");
                session.mailbox.starve();
            }
        });
    }

    /// Takes over what was acknowledged meanwhile, before the state is asked for anything.
    fn settle(&self, live: &mut Live) {
        let (telemetry, report) = self.mailbox.settled();
        for (kind, stored) in [(LogKind::Telemetry, telemetry), (LogKind::Report, report)] {
            if let Some(up_to) = stored.up_to {
                live.state.settled(kind, up_to, stored.batches);
            }
        }
    }

    fn wishes(&self, wishes: Wishes, live: &mut Live) {
        for (kind, stored) in [
            (LogKind::Telemetry, wishes.telemetry),
            (LogKind::Report, wishes.report),
        ] {
            match stored.up_to {
                Some(up_to) if stored.unsaid => {
                    live.state
                        .stored(kind, up_to, stored.batches, stored.refused);
                }
                Some(up_to) => live.state.settled(kind, up_to, stored.batches),
                None => {}
            }
            for _ in 0..stored.not_kept {
                live.state.not_kept(kind, Instant::now());
            }
        }
        if wishes.probe {
            live.state.probe(Instant::now());
        }
        live.starved |= wishes.starved;
        if let Some(close) = wishes.close {
            live.state.close(close);
        }
    }

    /// Each agent comes back at its own time.
    fn draining(&self) -> Close {
        let spread = self.core.config.drain_spread.max(Duration::from_secs_f64(
            self.core.registry.len() as f64 / 200.0,
        ));
        Close {
            reason: CloseReason::Draining,
            text: "the headend is shutting down".to_owned(),
            retry_after: Some(spread.mul_f64(rand_unit())),
        }
    }

    async fn end(self, live: Live) {
        let end = live.end.unwrap_or_else(|| lost("the stream ended"));
        if let Some(session) = &live.session {
            self.core.registry.remove(session);
        }
        // Close is the last message.
        self.mailbox.hang_up();
        if live.tell {
            let message = HeadendMessage::Close(end.clone());
            let told = self
                .outbound
                .try_send(Box::new(pb::HeadendMessage::from(message)))
                .is_ok();
            if let (false, Some(connection)) = (told, &self.connection) {
                // Nothing reaches a peer that does not read: its streams end with its connection.
                connection.cut();
            }
        }
        let had_session = live.session.is_some();
        self.core.metrics.link.ended(end.reason, had_session);
        let Some(session) = live.session else {
            let principal = self.principal.as_ref().map(Principal::name);
            tracing::info!(principal, peer = self.peer, cause = %end.reason, text = end.text, "stream ended before a session began");
            return;
        };
        let lasted = self.core.clock.now().saturating_since(session.connected_at);
        let principal = session.principal.as_ref().map(Principal::name);
        tracing::info!(agent_id = %session.agent_id, principal, peer = session.peer,
            epoch = session.epoch, cause = %end.reason, text = end.text,
            lasted_s = lasted.as_secs_f64(), "agent disconnected");
        let end = SessionEnd {
            at: self.core.clock.now(),
            cause: end.reason,
            text: end.text,
        };
        let ended = || SessionRecord {
            disconnected_at: Some(end.at),
            cause: Some(end.cause),
            text: Some(end.text.clone()),
            ..session.record()
        };
        self.core.live.session(ended, &[]);
        // The response stream ends when the last sender goes; the session holds one.
        let (agent, epoch) = (session.agent_id, session.epoch);
        drop((session, self.outbound, self.inbound));
        super::update::record_end(&self.core, agent, epoch, &end).await;
    }
}

fn next_look(live: &Live) -> Instant {
    let deadline = live.state.deadline();
    match deadline {
        Some(deadline) if live.stuck.is_none() && !live.starved && !live.unsaid => deadline,
        deadline => {
            let look = Instant::now() + STUCK_LOOK;
            deadline.map_or(look, |deadline| deadline.min(look))
        }
    }
}

type Message = Result<Option<pb::AgentMessage>, Status>;

fn poll_message(inbound: &mut Streaming<pb::AgentMessage>, cx: &mut Context<'_>) -> Poll<Message> {
    Poll::Ready(ready!(Pin::new(inbound).poll_next(cx)).transpose())
}

fn lost(text: &str) -> Close {
    Close::new(CloseReason::TransportLost, text)
}

/// Uniform in [0, 1), from the bits of a random UUID.
fn rand_unit() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}
