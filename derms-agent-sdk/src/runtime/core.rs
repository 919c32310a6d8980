//! The task that owns the session: feeds it and does what it wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::wire::TraceContext as _;
use derms_proto::{AssetId, pb};
use http::Uri;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Parts;
use super::changes::{Change, Changes};
use super::device::{self, Device, Order, Shared};
use super::handle::Publisher;
use super::journal::Journal;
use super::storage::{Job, Storage};
use super::traces::Traces;
use crate::builder::MAX_ASSETS;
use crate::clock::{Clock, MonoTime};
use crate::connect::{self, Dial, Inbound, Link, OUTBOUND, Security};
use crate::session::{Command, End, Input, Output, Session};

/// What may wait for the session. Full: devices and the stream's reader wait; the session never
/// waits for anything, so it is not full for long.
const INPUTS: usize = 1_024;
/// Devices are read this often until a headend says otherwise.
const READ_EVERY: Duration = Duration::from_secs(4);
/// Tokio's timers stand still while the machine sleeps; leases and failsafes must not.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

pub(super) struct Core {
    session: Session,
    headend: Uri,
    clock: Arc<dyn Clock>,
    dialer: Arc<dyn Dial>,
    security: Arc<Security>,
    storage: Option<Storage>,
    publisher: Publisher,
    journal: Journal,
    traces: Traces,
    tasks: TaskTracker,
    life: CancellationToken,
    devices: BTreeMap<AssetId, Device>,
    shared: Shared,
    wanted: mpsc::Receiver<Change>,
    changes: Changes,
    every: watch::Sender<Duration>,
    inputs: mpsc::Receiver<Input>,
    link: mpsc::Receiver<LinkEvent>,
    link_sender: mpsc::Sender<LinkEvent>,
    /// The attempt that counts; events of earlier ones don't.
    attempt: u64,
    connection: Option<Connection>,
    snapshot_at: MonoTime,
    stopped: bool,
}

struct Connection {
    /// `None` until the stream is there.
    outbound: Option<mpsc::Sender<pb::AgentMessage>>,
    close: CancellationToken,
    /// The end of a connection, and of the whole agent, ends its task.
    _closes: DropGuard,
}

struct LinkEvent {
    attempt: u64,
    what: What,
}

enum What {
    Connected(Link),
    Inbound(Inbound),
}

impl Core {
    pub(super) fn start(
        parts: Parts,
        wanted: mpsc::Receiver<Change>,
        publisher: Publisher,
        tasks: &TaskTracker,
        life: &CancellationToken,
    ) -> Self {
        let (input_sender, inputs) = mpsc::channel(INPUTS);
        let (link_sender, link) = mpsc::channel(INPUTS);
        let (every, every_receiver) = watch::channel(READ_EVERY);
        let storage = parts
            .state
            .map(|dir| Storage::start(dir, input_sender.clone(), tasks, life));
        let shared = Shared {
            inputs: input_sender,
            every: every_receiver,
            limit: parts.adapter_timeout,
            clock: Arc::clone(&parts.clock),
            tasks: tasks.clone(),
            life: life.clone(),
        };
        let devices = parts
            .devices
            .into_iter()
            .map(|(id, adapter)| (id, device::start(id, adapter, &shared)))
            .collect();
        let now = parts.clock.now();
        Self {
            journal: Journal::new(parts.config.agent_id, parts.headend.clone()),
            traces: Traces::default(),
            session: Session::new(parts.config, now),
            headend: parts.headend,
            clock: parts.clock,
            dialer: parts.dialer,
            security: Arc::new(parts.security),
            storage,
            publisher,
            tasks: tasks.clone(),
            life: life.clone(),
            devices,
            shared,
            wanted,
            changes: Changes::default(),
            every,
            inputs,
            link,
            link_sender,
            attempt: 0,
            connection: None,
            snapshot_at: now.mono,
            stopped: false,
        }
    }

    pub(super) async fn run(mut self, shutdown: &CancellationToken) {
        self.feed(Input::Tick);
        let mut told = false;
        while !self.stopped {
            let sleep = tokio::time::sleep(self.sleep());
            tokio::select! {
                () = shutdown.cancelled(), if !told => {
                    told = true;
                    self.feed(Input::Shutdown);
                }
                Some(input) = self.inputs.recv() => self.feed(input),
                Some(event) = self.link.recv() => self.link_event(event),
                Some(change) = self.wanted.recv(), if !told => self.change(change),
                () = sleep => self.feed(Input::Tick),
            }
        }
        if let Some(storage) = self.storage.take() {
            let (commit, shelved) = self.session.last_words(self.clock.now());
            // Nobody must wait for this task any more, or the storage might.
            drop(self);
            storage.finish(commit, shelved).await;
        }
    }

    fn change(&mut self, change: Change) {
        let full = (self.devices.len() >= MAX_ASSETS).then_some(MAX_ASSETS);
        let devices = &self.devices;
        let serves = |asset_id| devices.contains_key(&asset_id);
        if let Some(input) = self.changes.begin(change, serves, full) {
            self.feed(input);
        }
    }

    fn sleep(&self) -> Duration {
        let now = self.clock.now().mono;
        let due = self.session.deadline();
        due.map_or(LONGEST_SLEEP, |due| due.saturating_since(now))
            .clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
    }

    fn link_event(&mut self, event: LinkEvent) {
        if event.attempt != self.attempt || self.connection.is_none() {
            return;
        }
        match event.what {
            What::Connected(link) => self.connected(link),
            What::Inbound(Inbound::Message(message, trace)) => {
                if let Some(trace) = trace {
                    self.traces.received(&message, trace);
                }
                self.feed(Input::Received(message));
            }
            What::Inbound(Inbound::Malformed(error)) => self.feed(Input::Malformed(error)),
            What::Inbound(Inbound::Ended(end)) => self.feed(Input::Ended(end)),
        }
    }

    /// Register is queued before the call is made: it returns only with the headend's headers.
    fn connected(&mut self, link: Link) {
        let (outbound, queue) = mpsc::channel(OUTBOUND);
        if let Some(connection) = &mut self.connection {
            connection.outbound = Some(outbound);
        }
        self.feed(Input::Connected);
        let Some(connection) = &self.connection else {
            return;
        };
        let (attempt, sender) = (self.attempt, self.link_sender.clone());
        let inbound = async move |inbound| {
            let what = What::Inbound(inbound);
            // Fails only when the agent has ended.
            let _ = sender.send(LinkEvent { attempt, what }).await;
        };
        // Not bound to `life`: the goodbye of the last stream is awaited at the end of `run`.
        let stream = connect::run(link, queue, inbound, connection.close.clone());
        self.tasks.spawn(stream);
    }

    fn feed(&mut self, input: Input) {
        self.session.handle(input, self.clock.now());
        while let Some(output) = self.session.next_output() {
            if let Some(answer) = self.perform(output) {
                self.session.handle(answer, self.clock.now());
            }
        }
        let now = self.clock.now();
        if now.mono >= self.snapshot_at {
            self.snapshot_at = now.mono + Duration::from_secs(1);
            let (snapshot, counters) = (self.session.snapshot(now), self.session.counters(now));
            self.publisher.snapshot(snapshot, counters);
        }
    }

    /// Does one thing; what it leads to at once is the next input.
    fn perform(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Connect => self.dial(),
            Output::Disconnect => self.disconnect(),
            Output::Send(message) => {
                let connection = self.connection.as_ref()?;
                let outbound = connection.outbound.as_ref()?;
                let trace = self.traces.of_message(&message);
                let mut message = pb::AgentMessage::from(*message);
                message.set_trace_context(trace.map(|trace| trace.to_string()));
                return queue(outbound, message).err().map(Input::Ended);
            }
            Output::Persist { number, commit } => match &self.storage {
                Some(storage) => return storage.hand(Job::Persist { number, commit }),
                None => {
                    return Some(Input::Persisted {
                        number,
                        stored: true,
                    });
                }
            },
            Output::Shelve { log_id, shelved } => {
                return self.storage.as_ref()?.hand(Job::Shelve { log_id, shelved });
            }
            Output::Fetch { log_id, from, to } => {
                return self.storage.as_ref()?.hand(Job::Fetch { log_id, from, to });
            }
            Output::Command {
                asset_id,
                token,
                command,
                limits,
            } => {
                let device = self.devices.get(&asset_id)?;
                let limits = limits.and_then(|revision| self.traces.of_limits(asset_id, revision));
                let trace = match &command {
                    Command::Apply(setpoint) => self.traces.of_order(setpoint.dispatch_id),
                    Command::Default(_) => None,
                };
                let order = Order {
                    token,
                    command,
                    trace,
                    limits,
                };
                if device.commands.try_send(order).is_err() {
                    tracing::error!(%asset_id, "the device's task has ended");
                }
            }
            Output::Arrived { asset_id } => {
                let adapter = self.changes.arrived(asset_id)?;
                let device = device::start(asset_id, adapter, &self.shared);
                self.devices.insert(asset_id, device);
            }
            Output::Gone { asset_id } => {
                self.devices.remove(&asset_id);
                self.changes.gone(asset_id);
            }
            Output::ReadEvery(every) => {
                self.every
                    .send_if_modified(|now| std::mem::replace(now, every) != every);
            }
            Output::Event(event) => {
                self.journal
                    .write(&event, &self.traces, self.clock.now().mono);
                self.snapshot_at = MonoTime::default();
                self.publisher.event(event);
            }
            Output::Stopped => self.stopped = true,
        }
        None
    }

    fn dial(&mut self) {
        self.disconnect();
        self.attempt += 1;
        let close = CancellationToken::new();
        self.connection = Some(Connection {
            outbound: None,
            close: close.clone(),
            _closes: close.clone().drop_guard(),
        });
        let (attempt, sender) = (self.attempt, self.link_sender.clone());
        let (dialer, security) = (Arc::clone(&self.dialer), Arc::clone(&self.security));
        let headend = self.headend.clone();
        let attempting = async move {
            let what = match connect::open(&*dialer, &security, &headend).await {
                Ok(link) => What::Connected(link),
                Err(end) => What::Inbound(Inbound::Ended(end)),
            };
            let _ = sender.send(LinkEvent { attempt, what }).await;
        };
        let life = self.life.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = attempting => {}
                () = close.cancelled() => {}
                () = life.cancelled() => {}
            }
        });
    }

    /// Ends the attempt or the stream; what is queued still goes out.
    fn disconnect(&mut self) {
        self.connection = None;
    }
}

/// Queues a message for a stream.
///
/// A queue that is closed is no loss of the link yet: the stream is over, and what the headend said
/// last, when to come back among it, is on its way here, with the end behind it.
fn queue(outbound: &mpsc::Sender<pb::AgentMessage>, message: pb::AgentMessage) -> Result<(), End> {
    match outbound.try_send(message) {
        Err(TrySendError::Full(_)) => Err(End::Lost {
            text: "the headend does not read what is sent to it".into(),
        }),
        Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
