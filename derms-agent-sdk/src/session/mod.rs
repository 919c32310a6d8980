//! The agent's side of the protocol: no I/O, no clock. Inputs and the time go in, outputs come
//! out.
//!
//! [`Session::handle`] takes one input; then [`Session::next_output`] is called until it is empty,
//! and [`Session::deadline`] says when [`Input::Tick`] is due if nothing else happens.

mod asset;
mod inbound;
mod ledger;
mod link;
mod live;
mod logs;
mod registration;
mod roster;
mod server_clock;
mod shelf;
mod stopping;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use derms_proto::link::{AgentMessage, Close, HeadendMessage, Sample, Software, WireError};
use derms_proto::{
    AgentId, Asset, AssetId, AssetKind, CloseReason, InstanceId, LogId, Power, ReasonCode,
};

use self::asset::{AssetMachine, Ctx, Life};
use self::ledger::Ledger;
pub(crate) use self::link::End;
use self::link::{Link, Next, State};
use self::live::Live;
use self::roster::Roster;
pub(crate) use self::server_clock::MAX_ERROR as MAX_CLOCK_ERROR;
use self::server_clock::ServerClock;
use self::stopping::Stopping;
use crate::clock::{MonoTime, Now};
use crate::outbox::{ReportLog, TelemetryLog};
use crate::state::{Commit, Fetched, Kept, Recovered, Shelved};
use crate::{
    AgentCounters, AgentEvent, AgentSnapshot, Alarm, Applied, Backoff, LinkState, Reading, Setpoint,
};

/// How long the headend may take to answer Register.
const REGISTERED_TIMEOUT: Duration = Duration::from_secs(15);

/// What a session is made of.
pub(crate) struct Config {
    pub(crate) agent_id: AgentId,
    pub(crate) instance_id: InstanceId,
    pub(crate) software: Software,
    pub(crate) assets: Vec<(Asset, AssetKind)>,
    pub(crate) backoff: Box<dyn Backoff>,
    pub(crate) seed: u64,
    pub(crate) telemetry_log: LogId,
    pub(crate) report_log: LogId,
    pub(crate) telemetry_bytes: usize,
    pub(crate) telemetry_age: Duration,
    pub(crate) report_capacity: usize,
    /// What was left behind; `None`: all is kept in memory.
    pub(crate) recovered: Option<Recovered>,
}

/// What happens to a session.
#[derive(Debug)]
pub(crate) enum Input {
    /// Time has passed.
    Tick,
    /// The connection that was asked for with [`Output::Connect`] is there.
    Connected,
    /// A message came.
    Received(Box<HeadendMessage>),
    /// A message came that can't be read.
    Malformed(WireError),
    /// The attempt or the stream has ended.
    Ended(End),
    /// The answer to [`Output::Persist`].
    Persisted { number: u64, stored: bool },
    /// The answer to [`Output::Shelve`]; `None` if the disk failed.
    Shelved { log_id: LogId, kept: Option<Kept> },
    /// The answer to [`Output::Fetch`]; `None` if the disk failed.
    Fetched {
        log_id: LogId,
        fetched: Option<Fetched>,
    },
    /// The answer to [`Output::Command`].
    Done {
        asset_id: AssetId,
        token: u64,
        result: Result<Applied, DeviceFault>,
    },
    /// A device was read, at this time.
    Read {
        asset_id: AssetId,
        at: Now,
        result: Result<Box<Reading>, DeviceFault>,
    },
    /// A device has raised an event by itself; so many before it were left out.
    Raised {
        asset_id: AssetId,
        alarm: Alarm,
        left_out: u64,
    },
    /// One more asset is to be served, or one has changed.
    Add { asset: Box<Asset>, kind: AssetKind },
    /// An asset is to be served no more.
    Remove(AssetId),
    /// The agent is to stop.
    Shutdown,
}

/// What a session wants.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    /// Dial once.
    Connect,
    /// Queue this on the stream.
    Send(Box<AgentMessage>),
    /// End the attempt or the stream, after what is queued. Its later events don't count.
    Disconnect,
    /// Write this down, then answer with [`Input::Persisted`]. One at a time.
    Persist { number: u64, commit: Commit },
    /// Keep these samples, then answer with [`Input::Shelved`]. One at a time.
    Shelve { log_id: LogId, shelved: Shelved },
    /// Read samples back, then answer with [`Input::Fetched`]. One at a time.
    Fetch { log_id: LogId, from: u64, to: u64 },
    /// Tell the device, then answer with [`Input::Done`]. One at a time per asset.
    Command {
        asset_id: AssetId,
        token: u64,
        command: Command,
        /// The revision of the limits, or the stop, that ask for it; `None`: they don't.
        limits: Option<u64>,
    },
    /// Read the devices this often.
    ReadEvery(Duration),
    /// The device of this asset is there from now on.
    Arrived { asset_id: AssetId },
    /// The device of this asset is asked nothing any more.
    Gone { asset_id: AssetId },
    /// Tell whoever watches.
    Event(AgentEvent),
    /// The session is over.
    Stopped,
}

/// What a device is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    Apply(Setpoint),
    Default(Power),
}

/// Why a device did not obey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceFault {
    pub(crate) reason: ReasonCode,
    pub(crate) text: String,
}

impl DeviceFault {
    const fn is_timeout(&self) -> bool {
        matches!(self.reason, ReasonCode::DeviceTimeout)
    }

    /// Whether the device has done nothing.
    const fn refused(&self) -> bool {
        matches!(
            self.reason,
            ReasonCode::DeviceUnavailable | ReasonCode::Unsupported
        )
    }
}

/// Numbers for questions that are answered by an input.
#[derive(Debug, Default)]
pub(crate) struct Tokens(u64);

impl Tokens {
    const fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// The agent's side of the protocol.
pub(crate) struct Session {
    agent_id: AgentId,
    instance_id: InstanceId,
    software: Software,
    ledger: Ledger,
    started: MonoTime,
    rng: fastrand::Rng,
    link: Link,
    /// While the link is active.
    live: Option<Live>,
    last_epoch: u64,
    clock: ServerClock,
    assets: BTreeMap<AssetId, AssetMachine>,
    roster: Roster,
    telemetry: TelemetryLog,
    reports: ReportLog,
    /// The newest sample of each asset since the last that was sent at once.
    fresh: BTreeMap<AssetId, Sample>,
    tokens: Tokens,
    stopping: Option<Stopping>,
    out: VecDeque<Output>,
    /// Without what is looked up when it is asked for.
    counted: AgentCounters,
}

impl Session {
    pub(crate) fn new(config: Config, now: Now) -> Self {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let link_rng = rng.fork();
        let assets = config.assets.into_iter().map(|(asset, kind)| {
            let machine = AssetMachine::new(asset, kind, now.mono);
            (machine.id(), machine)
        });
        let (bytes, age) = (config.telemetry_bytes, config.telemetry_age);
        let capacity = config.report_capacity;
        let (telemetry, reports) = match &config.recovered {
            Some(found) => (
                TelemetryLog::recovered(found.telemetry_log, &found.telemetry, bytes, age),
                ReportLog::recovered(
                    found.report_log,
                    found.first_report,
                    found.reports.clone(),
                    capacity,
                ),
            ),
            None => (
                TelemetryLog::new(config.telemetry_log, bytes, age),
                ReportLog::new(config.report_log, capacity),
            ),
        };
        let last_epoch = config
            .recovered
            .as_ref()
            .map_or(0, |found| found.last_epoch);
        let mut session = Self {
            agent_id: config.agent_id,
            instance_id: config.instance_id,
            software: config.software,
            ledger: Ledger::new(config.recovered.is_some(), last_epoch),
            started: now.mono,
            rng,
            link: Link::new(config.backoff, link_rng, now.mono),
            live: None,
            last_epoch,
            clock: ServerClock::new(now),
            assets: assets.collect(),
            roster: Roster::default(),
            telemetry,
            reports,
            fresh: BTreeMap::new(),
            tokens: Tokens::default(),
            stopping: None,
            out: VecDeque::new(),
            counted: AgentCounters::default(),
        };
        if let Some(found) = config.recovered {
            for record in found.records {
                let life = Life {
                    leases_go_on: found.same_boot,
                    same_clock: found.same_boot,
                    trusted: found.trusted,
                    jitter: session.rng.f64(),
                };
                if !session.assets.contains_key(&record.asset_id) {
                    session.forsake(record, now);
                    continue;
                }
                session.on_asset(record.asset_id, now, |asset, ctx| {
                    asset.restore(record, life, ctx);
                });
            }
        }
        session
    }

    /// Takes one input.
    pub(crate) fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Tick => {}
            Input::Connected => self.connected(now),
            Input::Received(message) => self.received(*message, now),
            Input::Malformed(error) => self.protocol_error(error.to_string(), now),
            Input::Ended(end) => {
                if self.link.has_stream() || self.link.state == State::Connecting {
                    self.end(&end, now);
                }
            }
            Input::Persisted { number, stored } => self.persisted(number, stored, now),
            // An answer under numbers that count no more is none.
            Input::Shelved { log_id, kept } if log_id == self.telemetry.log_id() => {
                self.shelved(kept, now);
            }
            Input::Fetched { log_id, fetched } if log_id == self.telemetry.log_id() => {
                self.fetched(fetched, now);
            }
            Input::Shelved { .. } | Input::Fetched { .. } => {}
            Input::Done {
                asset_id,
                token,
                result,
            } => {
                self.count_command(&result);
                self.on_asset(asset_id, now, |asset, ctx| asset.done(token, result, ctx));
            }
            Input::Read {
                asset_id,
                at,
                result,
            } => self.read(asset_id, at, result, now),
            Input::Raised {
                asset_id,
                alarm,
                left_out,
            } => {
                self.on_asset(asset_id, now, |asset, ctx| {
                    asset.raised(alarm, left_out, ctx);
                });
            }
            Input::Add { asset, kind } => self.add(*asset, kind, now),
            Input::Remove(asset_id) => self.remove(asset_id, now),
            Input::Shutdown => self.shutdown(now),
        }
        self.advance(now);
    }

    /// The next thing to do, in order.
    pub(crate) fn next_output(&mut self) -> Option<Output> {
        let output = self.out.pop_front()?;
        if let Output::Event(event) = &output {
            self.counted.event(event);
        }
        Some(output)
    }

    /// When [`Input::Tick`] is due.
    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        let link = match self.link.state {
            State::Backoff { until } | State::Halted { until } if self.stopping.is_none() => {
                Some(until)
            }
            State::Registering { until, .. } => Some(until),
            _ => None,
        };
        let live = self.live.as_ref().and_then(|live| self.live_deadline(live));
        let stopping = self.stopping.as_ref().and_then(Stopping::deadline);
        let assets = self.assets.values().filter_map(AssetMachine::deadline);
        let disk = [self.ledger_deadline(), self.shelf_deadline()];
        let disk = disk.into_iter().flatten();
        assets
            .chain(link)
            .chain(live)
            .chain(stopping)
            .chain(self.roster.deadline())
            .chain(disk)
            .min()
    }

    /// How the agent stands now.
    pub(crate) fn snapshot(&self, now: Now) -> AgentSnapshot {
        let link = match self.link.state {
            State::Stopped => LinkState::Stopped,
            _ if self.stopping.is_some() => LinkState::Draining,
            State::Backoff { .. } => LinkState::Backoff,
            State::Connecting => LinkState::Connecting,
            State::Registering { .. } => LinkState::Registering,
            State::Active { .. } => LinkState::Active,
            State::Halted { .. } => LinkState::Halted,
        };
        AgentSnapshot {
            link,
            epoch: self.link.epoch(),
            outbox_depth: self.telemetry.depth(),
            dropped_samples: self.telemetry.dropped(),
            unacknowledged_reports: self.reports.depth() as u64,
            assets: self
                .assets
                .values()
                .map(|asset| asset.snapshot(now.mono))
                .collect(),
        }
    }

    /// What was counted until now.
    pub(crate) fn counters(&self, now: Now) -> AgentCounters {
        AgentCounters {
            connected: self.link.is_active(),
            samples_dropped: self.telemetry.dropped(),
            outbox_depth: self.telemetry.depth(),
            outbox_bytes: self.telemetry.bytes() as u64,
            unacknowledged_reports: self.reports.depth() as u64,
            clock_offset_s: self.clock.offset(now),
            ..self.counted.clone()
        }
    }

    const fn count_command(&mut self, result: &Result<Applied, DeviceFault>) {
        match result {
            Ok(_) => self.counted.commands += 1,
            Err(fault) => {
                self.counted.command_errors += 1;
                if fault.is_timeout() {
                    self.counted.command_timeouts += 1;
                }
            }
        }
    }

    /// Does what is due.
    fn advance(&mut self, now: Now) {
        if self.link.state == State::Stopped && self.stopping.is_none() {
            return;
        }
        self.watch_link(now);
        self.each_asset(now, AssetMachine::advance);
        self.advance_roster(now);
        if let Some(gap) = self.telemetry.expire(now.mono) {
            self.event(AgentEvent::SamplesLost { gap });
        }
        self.heartbeat(now);
        self.say_changes(now);
        self.write_ledger(now);
        self.shelve(now);
        self.send_logs(now);
        self.advance_stop(now);
    }

    fn watch_link(&mut self, now: Now) {
        if self.link.is_due(now.mono) && self.stopping.is_none() {
            self.link.state = State::Connecting;
            let failures = self.link.failures();
            self.event(AgentEvent::Connecting { failures });
            self.out.push_back(Output::Connect);
        }
        let silent = match (self.link.state, &self.live) {
            (State::Registering { until, .. }, _) if until <= now.mono => {
                "no answer to Register".into()
            }
            (State::Active { .. }, Some(live)) if live.gives_up_at() <= now.mono => {
                format!("nothing was read for {:?}", live.liveness)
            }
            _ => return,
        };
        self.give_up(CloseReason::LivenessTimeout, silent, now);
    }

    fn protocol_error(&mut self, text: String, now: Now) {
        if self.link.has_stream() {
            self.give_up(CloseReason::ProtocolError, text, now);
        }
    }

    /// Ends the session from this side.
    fn give_up(&mut self, reason: CloseReason, text: String, now: Now) {
        self.send(AgentMessage::Close(Close::new(reason, text.clone())));
        self.end(&End::GaveUp { reason, text }, now);
    }

    /// The attempt or the session has ended: says so and plans the next.
    fn end(&mut self, end: &End, now: Now) {
        let was_session = self.link.has_stream();
        let (reason, _) = end.reason();
        let text = end.text().to_owned();
        if was_session {
            self.counted.disconnected(reason);
        } else {
            self.counted.connect_failures += 1;
        }
        self.live = None;
        self.out.push_back(Output::Disconnect);
        if reason == CloseReason::DuplicateInstance {
            self.event(AgentEvent::DuplicateIdentity { text: text.clone() });
        }
        match self.link.end(end, now.mono) {
            Next::Halt { retry_in } => self.event(AgentEvent::Halted {
                reason,
                text,
                retry_in,
            }),
            Next::Retry { retry_in } if was_session => {
                let retry_in = Some(retry_in).filter(|_| self.stopping.is_none());
                self.event(AgentEvent::Disconnected {
                    reason,
                    text,
                    retry_in,
                });
            }
            Next::Retry { .. } if self.stopping.is_some() => {}
            Next::Retry { retry_in } => self.event(AgentEvent::ConnectFailed { text, retry_in }),
            Next::Stop => {
                self.event(AgentEvent::Disconnected {
                    reason,
                    text,
                    retry_in: None,
                });
                self.shutdown(now);
            }
        }
    }

    fn send(&mut self, message: AgentMessage) {
        self.out.push_back(Output::Send(Box::new(message)));
    }

    fn event(&mut self, event: AgentEvent) {
        self.out.push_back(Output::Event(event));
    }

    fn each_asset(&mut self, now: Now, mut f: impl FnMut(&mut AssetMachine, &mut Ctx<'_>)) {
        let mut ctx = Ctx {
            now,
            clock: &self.clock,
            reports: &mut self.reports,
            ledger: &mut self.ledger,
            out: &mut self.out,
            tokens: &mut self.tokens,
        };
        for asset in self.assets.values_mut() {
            f(asset, &mut ctx);
        }
    }

    /// False if there is no such asset.
    fn on_asset(
        &mut self,
        asset_id: AssetId,
        now: Now,
        f: impl FnOnce(&mut AssetMachine, &mut Ctx<'_>),
    ) -> bool {
        let mut ctx = Ctx {
            now,
            clock: &self.clock,
            reports: &mut self.reports,
            ledger: &mut self.ledger,
            out: &mut self.out,
            tokens: &mut self.tokens,
        };
        let asset = self.assets.get_mut(&asset_id);
        asset.map(|asset| f(asset, &mut ctx)).is_some()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("agent_id", &self.agent_id)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
