//! Moves one stream: reads, feeds the session, does what it says.
//!
//! **The stream is always read**: h2 kills a connection with too many unread small frames
//! (RUSTSEC-2026-0258), so not reading is no back-pressure. Nothing here waits for the store or
//! for the agent; what can't be kept is dropped by rule.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{AgentMessage, Close, HeadendMessage, Sample};
use derms_proto::{CloseReason, Heartbeat, Telemetry, Timestamp, pb};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use super::claim::{self, Claimant, Claimed};
use super::log::Accepted;
use super::session::{Action, Rules, StreamSession};
use crate::auth::Principal;
use crate::core::Core;
use crate::ingest::{ReportItem, TelemetryItem};
use crate::mailbox::Mailbox;
use crate::peer::ConnectionHandle;
use crate::registry::{Outbound, Session};
use crate::store::{ReportAppend, SessionEnd, StoredReport, TelemetryAppend};
use derms_proto::link::{LogKind, RefusalCode, RefusedEntry, ReportEntry};

/// How often a full outbound queue is looked at.
const STUCK_LOOK: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    pub(super) core: Arc<Core>,
    pub(super) inbound: Streaming<pb::AgentMessage>,
    pub(super) outbound: mpsc::Sender<Outbound>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) peer: Option<String>,
    pub(super) principal: Option<Principal>,
    pub(super) connection: Option<ConnectionHandle>,
}

type ClaimFuture = Pin<Box<dyn Future<Output = Result<Claimed, Close>> + Send>>;

/// What changes while a stream lives.
struct Live {
    state: StreamSession,
    claim: Option<ClaimFuture>,
    session: Option<Arc<Session>>,
    /// Since when the outbound queue has been full.
    stuck: Option<Instant>,
    /// Orders wait for room in the outbound queue.
    starved: bool,
    end: Option<Close>,
    /// The end was ours: the agent must hear it.
    tell: bool,
}

impl Driver {
    pub(super) async fn run(mut self) {
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
            session: None,
            stuck: None,
            starved: false,
            end: None,
            tell: false,
        };
        let drain = self.core.drain.clone();
        // Enrolled once: all sessions wait on this one token.
        let mut drained = pin!(drain.cancelled());
        // Moved only when it fires: most messages just push the deadline further away.
        let mut timer = pin!(tokio::time::sleep(rules.register_timeout));
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
            }
            tokio::select! {
                message = self.inbound.message() => self.received(message, &mut live),
                claimed = poll_claim(&mut live.claim), if live.claim.is_some() => {
                    live.claim = None;
                    self.claimed(claimed, &mut live);
                }
                () = self.mailbox.wait(), if live.session.is_some() => self.wishes(&mut live),
                () = timer.as_mut() => {
                    let now = Instant::now();
                    live.state.tick(now);
                    self.look_at_queue(&mut live, now);
                    let due = next_look(&live).max(now + Duration::from_millis(1));
                    timer.as_mut().reset(due);
                }
                () = drained.as_mut() => live.state.close(self.draining()),
            }
        }
        // A claim in flight is carried to its end: its session record must be closed too.
        if let Some(claim) = live.claim.take()
            && let Ok(claimed) = claim.await
        {
            live.session = Some(claimed.session);
        }
        self.end(live).await;
    }

    fn received(&self, message: Result<Option<pb::AgentMessage>, Status>, live: &mut Live) {
        let now = Instant::now();
        match message {
            Ok(Some(message)) => {
                if let Some(session) = &live.session {
                    session.seen(self.core.clock.now());
                }
                live.state.received(AgentMessage::try_from(message), now);
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

    fn perform(&self, action: Action, live: &mut Live) {
        match action {
            Action::Claim(register) => {
                let claimant = Claimant {
                    peer: self.peer.clone(),
                    principal: self.principal.clone(),
                    mailbox: Arc::clone(&self.mailbox),
                    outbound: self.outbound.clone(),
                };
                live.claim = Some(Box::pin(claim::claim(
                    Arc::clone(&self.core),
                    register,
                    claimant,
                )));
            }
            Action::Send(message) => self.send(message, live),
            Action::Telemetry(accepted) => {
                if let Some(session) = &live.session {
                    let item = self.telemetry(session, accepted);
                    if self.core.ingest.telemetry(item).is_err() {
                        live.state.not_kept(LogKind::Telemetry, Instant::now());
                    }
                }
            }
            Action::Live(samples) => {
                if let Some(session) = &live.session {
                    let now = self.core.clock.now();
                    for sample in samples {
                        if let Some(telemetry) = self.known(session, sample, now) {
                            self.core.latest.offer(&telemetry);
                        }
                    }
                }
            }
            Action::Report(accepted) => {
                if let Some(session) = &live.session {
                    let item = self.report(session, accepted);
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
                    self.heartbeat(session, &heartbeat);
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

    /// Queues a message, or drops it when the agent does not read: acknowledgements are said
    /// again, everything else has its own time limit.
    fn send(&self, message: HeadendMessage, live: &mut Live) {
        let message = Box::new(pb::HeadendMessage::from(message));
        match self.outbound.try_send(message) {
            Ok(()) => live.stuck = None,
            Err(_) => {
                live.stuck.get_or_insert_with(Instant::now);
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
                tracing::info!(agent = %session.agent_id, epoch = session.epoch, peer = session.peer,
                    assets = session.assets().len(), "agent connected");
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
            let assets = session.assets();
            if let Err(error) = core.dispatcher.replay(&session, &assets, register.as_deref()).await {
                tracing::warn!(agent = %session.agent_id, %error, "can't look up waiting orders; trying again");
                session.mailbox.starve();
            }
        });
    }

    fn wishes(&self, live: &mut Live) {
        let now = Instant::now();
        let wishes = self.mailbox.take();
        let (telemetry, report): (Vec<_>, Vec<_>) = wishes
            .refused
            .into_iter()
            .partition(|(kind, _)| *kind == LogKind::Telemetry);
        let entries =
            |refused: Vec<(LogKind, RefusedEntry)>| refused.into_iter().map(|(_, e)| e).collect();
        if let Some(up_to) = wishes.telemetry {
            let batches = wishes.telemetry_batches;
            live.state
                .stored(LogKind::Telemetry, up_to, batches, entries(telemetry));
        }
        if let Some(up_to) = wishes.report {
            live.state.stored(
                LogKind::Report,
                up_to,
                wishes.report_batches,
                entries(report),
            );
        }
        if wishes.probe {
            live.state.probe(now);
        }
        live.starved |= wishes.starved;
        if let Some(close) = wishes.close {
            live.state.close(close);
        }
    }

    fn telemetry(&self, session: &Session, accepted: Accepted<Sample>) -> TelemetryItem {
        let now = self.core.clock.now();
        let mut refused = accepted.refused;
        let mut samples = Vec::with_capacity(accepted.items.len());
        for (seq, sample) in accepted.items {
            match self.known(session, sample, now) {
                Some(telemetry) => {
                    self.core.latest.offer(&telemetry);
                    samples.push((seq, telemetry));
                }
                None => refused.push(not_granted(seq)),
            }
        }
        TelemetryItem {
            append: TelemetryAppend {
                agent: session.agent_id,
                log: accepted.log,
                samples,
                gaps: accepted.gaps,
                next_seq: accepted.next_seq,
            },
            refused,
            mailbox: Arc::clone(&self.mailbox),
        }
    }

    fn report(&self, session: &Session, accepted: Accepted<ReportEntry>) -> ReportItem {
        let mut refused = accepted.refused;
        let mut entries = Vec::with_capacity(accepted.items.len());
        for (seq, entry) in accepted.items {
            let asset = self.core.fleet.asset(entry.asset_id);
            if asset.is_some_and(|asset| asset.may_be_served_by(session.agent_id)) {
                entries.push(StoredReport { seq, entry });
            } else {
                refused.push(not_granted(seq));
            }
        }
        ReportItem {
            append: ReportAppend {
                agent: session.agent_id,
                epoch: session.epoch,
                log: accepted.log,
                entries,
                next_seq: accepted.next_seq,
                at: self.core.clock.now(),
            },
            refused,
            mailbox: Arc::clone(&self.mailbox),
        }
    }

    /// A sample of an asset that this agent may speak for. Facts need no grant: they are true
    /// whoever serves the asset now.
    fn known(
        &self,
        session: &Session,
        sample: Sample,
        received_at: Timestamp,
    ) -> Option<Telemetry> {
        let asset = self.core.fleet.asset(sample.asset_id)?;
        asset
            .may_be_served_by(session.agent_id)
            .then_some(Telemetry {
                asset_id: asset.id,
                site_id: asset.site_id,
                measured_at: sample.measured_at,
                received_at,
                measurements: sample.measurements,
            })
    }

    fn heartbeat(&self, session: &Arc<Session>, heartbeat: &derms_proto::link::AgentHeartbeat) {
        let received_at = self.core.clock.now();
        let heartbeats: Vec<Heartbeat> = heartbeat
            .assets
            .iter()
            .filter(|health| session.serves(health.asset_id))
            .map(|health| Heartbeat {
                asset_id: health.asset_id,
                agent_id: session.agent_id,
                epoch: session.epoch,
                received_at,
                agent_time: heartbeat.agent_time,
                uptime_s: heartbeat.uptime.map(|uptime| uptime.as_secs_f64()),
                outbox_depth: heartbeat.outbox_depth,
                dropped_samples: heartbeat.dropped_samples,
                availability: health.availability,
                control: health.control.source,
                control_mw: health.control.power,
                read_errors: health.read_errors,
            })
            .collect();
        let mut newest = self.core.heartbeats.write();
        for heartbeat in &heartbeats {
            newest.insert(heartbeat.asset_id, heartbeat.clone());
        }
        drop(newest);
        self.core.ingest.heartbeats(heartbeats);
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
        let Some(session) = live.session else {
            tracing::info!(peer = self.peer, cause = ?end.reason, text = end.text, "stream ended before a session began");
            return;
        };
        let lasted = self.core.clock.now().saturating_since(session.connected_at);
        tracing::info!(agent = %session.agent_id, epoch = session.epoch, peer = session.peer,
            cause = ?end.reason, text = end.text, ?lasted, "agent disconnected");
        // The response stream ends when the last sender goes; the session holds one.
        let (agent, epoch) = (session.agent_id, session.epoch);
        drop((session, self.outbound, self.inbound));
        let record = SessionEnd {
            at: self.core.clock.now(),
            cause: end.reason,
            text: end.text,
        };
        super::update::record_end(&self.core, agent, epoch, &record).await;
    }
}

fn next_look(live: &Live) -> Instant {
    let now = Instant::now();
    let deadline = live.state.deadline().unwrap_or(now + STUCK_LOOK);
    if live.stuck.is_some() || live.starved {
        deadline.min(now + STUCK_LOOK)
    } else {
        deadline
    }
}

async fn poll_claim(claim: &mut Option<ClaimFuture>) -> Result<Claimed, Close> {
    match claim {
        Some(claim) => claim.await,
        None => std::future::pending().await,
    }
}

fn not_granted(seq: u64) -> RefusedEntry {
    RefusedEntry {
        seq,
        code: RefusalCode::NotGranted,
        text: None,
    }
}

fn lost(text: &str) -> Close {
    Close::new(CloseReason::TransportLost, text)
}

/// Uniform in [0, 1), from the bits of a random UUID.
fn rand_unit() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}
