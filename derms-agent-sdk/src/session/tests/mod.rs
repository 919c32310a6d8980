//! The session on a bench: every input by hand, every output seen, time as a number.

mod counters;
mod endings;
mod events;
mod failsafe;
mod limits;
mod link;
mod logs;
mod model;
mod orders;
mod restart;
mod roster;
mod schedule;
mod stop;

use std::collections::VecDeque;
use std::time::Duration;

use derms_proto::link::{
    AgentMessage, FollowUp, Grant, GrantStatus, HeadendMessage, Limits, LogAck, LogCursor, LogKind,
    Register, Registered, ReleaseOrder, SetpointOrder, SetpointPhase, TelemetryBatch,
};
use derms_proto::{
    AgentId, Asset, AssetId, AssetKind, DispatchId, InstanceId, LogId, Power, ReasonCode, SiteId,
    Timestamp,
};

use super::*;
use crate::disk::tests::Folder;
use crate::disk::{self, Dir};

/// A phase with its reason, as reported.
type Step = (u64, SetpointPhase, Option<ReasonCode>);

const SERVER_EPOCH: i64 = 1_700_000_000_000_000;

struct Bench {
    session: Session,
    now: Duration,
    epoch: u64,
    /// What the headend has of each log.
    cursors: Vec<LogCursor>,
    limits: Limits,
    revoked: Vec<AssetId>,
    /// Whether devices say yes, and storage stores, by themselves.
    obliging: bool,
    /// The state directory, if there is one.
    disk: Option<Disk>,
    /// By how much the wall clock was set since the start.
    wall_is_ahead: Duration,
    sent: VecDeque<AgentMessage>,
    commands: VecDeque<(AssetId, u64, Command)>,
    /// Writes of the ledger that are not answered.
    persists: VecDeque<(u64, Output)>,
    events: Vec<AgentEvent>,
    connects: usize,
    disconnects: usize,
    stopped: bool,
}

/// A real directory, in the place of the runtime's storage.
struct Disk {
    folder: Folder,
    /// `None` while nobody has it open.
    dir: Option<Dir>,
    boot: u32,
    /// Writes fail.
    full: bool,
    /// Writes that came through.
    writes: usize,
    assets: Vec<Asset>,
}

impl Disk {
    fn new(assets: Vec<Asset>) -> Self {
        Self {
            folder: Folder::new(),
            dir: None,
            boot: 1,
            full: false,
            writes: 0,
            assets,
        }
    }

    fn open(&mut self, now: Now) -> Recovered {
        self.dir = None;
        let options = disk::Options {
            agent_id: AgentId::new(uuid_of(7)),
            boot: Some(self.boot.to_string()),
            now: now.mono,
            telemetry_bytes: 256 << 10,
            telemetry_age: Duration::from_secs(24 * 3_600),
        };
        let (dir, recovered) = Dir::open(self.folder.path(), &options).unwrap();
        self.dir = Some(dir);
        recovered
    }

    fn perform(&mut self, output: Output) -> Input {
        let full = self.full;
        let dir = self.dir.as_mut().filter(|_| !full);
        self.writes += usize::from(dir.is_some());
        match output {
            Output::Persist { number, commit } => Input::Persisted {
                number,
                stored: dir.is_some_and(|dir| dir.commit(&commit).is_ok()),
            },
            Output::Shelve { log_id, shelved } => Input::Shelved {
                log_id,
                kept: dir.map(|dir| dir.shelve(shelved).unwrap()),
            },
            Output::Fetch { log_id, from, to } => Input::Fetched {
                log_id,
                fetched: self.dir.as_ref().map(|dir| dir.fetch(from, to).unwrap()),
            },
            other => panic!("{other:?} is not for a disk"),
        }
    }
}

fn no_answer() -> DeviceFault {
    DeviceFault {
        reason: ReasonCode::DeviceTimeout,
        text: "no answer".into(),
    }
}

fn asset_id(number: u128) -> AssetId {
    AssetId::new(uuid_of(0xa55e_0000 + number))
}

fn uuid_of(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

/// ±10 MW with the default at 1 MW, so that it differs from nothing at all.
fn asset(number: u128) -> Asset {
    let limit = Power::from_mw(10.0);
    let site = SiteId::new(uuid_of(1));
    let mut asset = Asset::new(
        asset_id(number),
        "A",
        site,
        AssetKind::Battery,
        -limit,
        limit,
    );
    asset.default_mw = Power::from_mw(1.0);
    asset
}

fn config(assets: Vec<Asset>, telemetry_bytes: usize, report_capacity: usize) -> Config {
    Config {
        agent_id: AgentId::new(uuid_of(7)),
        instance_id: InstanceId::new(uuid_of(8)),
        software: Software::default(),
        assets: assets
            .into_iter()
            .map(|asset| (asset, AssetKind::Battery))
            .collect(),
        backoff: Box::new(|_: u32| Duration::from_secs(1)),
        seed: 42,
        telemetry_log: LogId::new(uuid_of(100)),
        report_log: LogId::new(uuid_of(101)),
        telemetry_bytes,
        telemetry_age: Duration::from_secs(24 * 3_600),
        report_capacity,
        recovered: None,
    }
}

impl Bench {
    fn new(assets: Vec<Asset>) -> Self {
        Self::with(assets, 8 << 20, 8_192)
    }

    fn with(assets: Vec<Asset>, telemetry_bytes: usize, report_capacity: usize) -> Self {
        let mut bench = Self::at_rest(assets, telemetry_bytes, report_capacity);
        bench.feed(Input::Tick);
        bench
    }

    /// Before the first input.
    fn at_rest(assets: Vec<Asset>, telemetry_bytes: usize, report_capacity: usize) -> Self {
        let now = Duration::from_secs(1_000);
        let config = config(assets, telemetry_bytes, report_capacity);
        let session = Session::new(config, at(now));
        Self {
            session,
            now,
            epoch: 0,
            cursors: Vec::new(),
            limits: Limits {
                backfill_spread: Duration::ZERO,
                ..Limits::default()
            },
            revoked: Vec::new(),
            obliging: true,
            disk: None,
            wall_is_ahead: Duration::ZERO,
            sent: VecDeque::new(),
            commands: VecDeque::new(),
            persists: VecDeque::new(),
            events: Vec::new(),
            connects: 0,
            disconnects: 0,
            stopped: false,
        }
    }

    /// One asset, in session, its device at its default.
    fn active() -> Self {
        let mut bench = Self::new(vec![asset(1)]);
        bench.connect();
        bench
    }

    fn feed(&mut self, input: Input) {
        self.session.handle(input, self.clocks());
        while let Some(output) = self.session.next_output() {
            match output {
                Output::Connect => self.connects += 1,
                Output::Disconnect => self.disconnects += 1,
                Output::Send(message) => self.sent.push_back(*message),
                Output::Event(event) => self.events.push(event),
                Output::ReadEvery(_) | Output::Arrived { .. } | Output::Gone { .. } => {}
                Output::Stopped => self.stopped = true,
                Output::Persist { number, .. } => {
                    self.persists.push_back((number, output));
                    if self.obliging {
                        self.store(true);
                    }
                }
                Output::Shelve { .. } | Output::Fetch { .. } => {
                    let disk = self.disk.as_mut().expect("there is a disk");
                    let answer = disk.perform(output);
                    self.session.handle(answer, self.clocks());
                }
                Output::Command {
                    asset_id,
                    token,
                    command,
                    ..
                } => {
                    self.commands.push_back((asset_id, token, command.clone()));
                    if self.obliging {
                        let input = Input::Done {
                            asset_id,
                            token,
                            result: Ok(Applied::default()),
                        };
                        self.session.handle(input, self.clocks());
                    }
                }
            }
        }
    }

    /// Answers the oldest write.
    fn store(&mut self, stored: bool) {
        let Some((number, output)) = self.persists.pop_front() else {
            return;
        };
        let answer = match &mut self.disk {
            Some(disk) if stored => disk.perform(output),
            _ => Input::Persisted { number, stored },
        };
        self.feed(answer);
    }

    /// A bench with a state directory, before the first input.
    fn on_disk(assets: Vec<Asset>) -> Self {
        let mut bench = Self::at_rest(Vec::new(), 64 << 10, 8_192);
        bench.disk = Some(Disk::new(assets));
        bench.start();
        bench
    }

    /// The process is found dead, and started again: whatever was not on the disk is gone.
    fn start(&mut self) {
        let now = self.clocks();
        let disk = self.disk.as_mut().expect("there is a disk");
        let recovered = Some(disk.open(now));
        let config = Config {
            recovered,
            ..config(disk.assets.clone(), 64 << 10, 8_192)
        };
        self.session = Session::new(config, now);
        self.persists.clear();
        self.commands.clear();
        self.sent.clear();
    }

    fn restart(&mut self) {
        self.start();
        self.feed(Input::Tick);
    }

    /// The process ends in order, as far as the disk is concerned.
    fn stop(&mut self) {
        let now = self.clocks();
        let (commit, shelved) = self.session.last_words(now);
        let dir = self.disk.as_mut().and_then(|disk| disk.dir.as_mut());
        let dir = dir.expect("there is a disk");
        dir.commit(&commit).unwrap();
        for shelved in shelved {
            dir.shelve(shelved).unwrap();
        }
    }

    fn disk(&mut self) -> &mut Disk {
        self.disk.as_mut().expect("there is a disk")
    }

    /// Answers the oldest command, which is given back.
    fn answer(&mut self, result: Result<Applied, DeviceFault>) -> Command {
        let (asset_id, token, command) = self.commands.pop_front().expect("a command waits");
        self.feed(Input::Done {
            asset_id,
            token,
            result,
        });
        command
    }

    /// Lets time pass, stopping wherever the session has something to do.
    fn pass(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        let mut stops = 0;
        while let Some(due) = self.session.deadline().map(MonoTime::since_origin)
            && due <= end
        {
            stops += 1;
            assert!(
                stops < 500,
                "the session does not move on: {:?}",
                self.session.link.state
            );
            self.now = self.now.max(due);
            self.feed(Input::Tick);
        }
        self.now = end;
        self.feed(Input::Tick);
    }

    /// Waits for the next attempt and makes a session of it.
    fn connect(&mut self) -> Register {
        let register = self.dial();
        self.answer_register();
        register
    }

    /// Waits for the next attempt; Register is sent.
    fn dial(&mut self) -> Register {
        let mut tries = 0;
        while self.session.link.state != State::Connecting {
            self.pass(0.5);
            tries += 1;
            assert!(tries < 20_000, "no attempt: {:?}", self.session.link.state);
        }
        self.sent.clear();
        self.feed(Input::Connected);
        match self.sent.pop_front() {
            Some(AgentMessage::Register(register)) => register,
            other => panic!("not Register: {other:?}"),
        }
    }

    fn registered(&self, epoch: u64) -> Registered {
        let grants = self.session.assets.keys().map(|id| Grant {
            asset_id: *id,
            status: if self.revoked.contains(id) {
                GrantStatus::Forbidden
            } else {
                GrantStatus::Granted
            },
            last_revision: 0,
            text: None,
        });
        Registered {
            epoch,
            server_time: self.server_now(),
            telemetry_interval: Duration::from_secs(4),
            heartbeat_interval: Duration::from_secs(30),
            liveness_timeout: Duration::from_secs(45),
            limits: self.limits,
            logs: self.cursors.clone(),
            grants: grants.collect(),
            durable_acks: true,
            capabilities: Vec::new(),
            protocol_minor: 0,
        }
    }

    fn answer_register(&mut self) {
        self.epoch += 1;
        let registered = self.registered(self.epoch);
        self.receive(HeadendMessage::Registered(registered));
    }

    fn receive(&mut self, message: HeadendMessage) {
        self.feed(Input::Received(Box::new(message)));
    }

    /// A sign of life every 20 s.
    fn pass_in_session(&mut self, seconds: f64) {
        let mut left = seconds;
        while left > 0.0 {
            let step = left.min(20.0);
            self.pass(step);
            self.receive(HeadendMessage::Unknown);
            left -= step;
        }
    }

    fn cut(&mut self) {
        self.feed(Input::Ended(End::Lost { text: "cut".into() }));
    }

    fn clocks(&self) -> Now {
        let now = at(self.now);
        Now {
            wall: now.wall.saturating_add(self.wall_is_ahead),
            ..now
        }
    }

    fn server_now(&self) -> Timestamp {
        let since = i64::try_from(self.now.as_micros()).unwrap();
        Timestamp::from_unix_micros(SERVER_EPOCH + since)
    }

    /// An order for asset 1 that may wait 30 s; its dispatch has the number of its revision.
    fn order(&self, revision: u64, mw: f64) -> SetpointOrder {
        SetpointOrder {
            asset_id: asset_id(1),
            dispatch_id: dispatch(revision),
            revision,
            epoch: self.epoch,
            power: Power::from_mw(mw),
            duration: None,
            start_at: None,
            start_deadline: self.server_now().saturating_add(Duration::from_secs(30)),
            ramp_mw_per_min: None,
            then: FollowUp::Default,
        }
    }

    fn leased(&self, revision: u64, mw: f64, seconds: u64) -> SetpointOrder {
        SetpointOrder {
            duration: Some(Duration::from_secs(seconds)),
            ..self.order(revision, mw)
        }
    }

    fn setpoint(&mut self, order: SetpointOrder) {
        self.receive(HeadendMessage::Setpoint(order));
    }

    /// Releases the dispatch of revision `of`.
    fn release(&mut self, revision: u64, of: u64) {
        self.receive(HeadendMessage::Release(ReleaseOrder {
            asset_id: asset_id(1),
            dispatch_id: dispatch(of),
            revision,
            epoch: self.epoch,
        }));
    }

    fn ack(&mut self, kind: LogKind, up_to_seq: u64, rewind: bool) {
        let log_id = match kind {
            LogKind::Telemetry => self.session.telemetry.log_id(),
            _ => self.session.reports.log_id(),
        };
        self.receive(HeadendMessage::LogAck(LogAck {
            kind,
            log_id,
            up_to_seq,
            refused: Vec::new(),
            rewind,
        }));
    }

    /// Acknowledges every report, as the windows let them go.
    fn ack_reports(&mut self) {
        while self.session.reports.depth() > 0 {
            let live = self.session.live.as_ref().expect("in session");
            self.ack(LogKind::Report, live.reports.next() - 1, false);
        }
    }

    fn read(&mut self, mw: f64) {
        self.read_of(asset_id(1), Reading::of_power(Power::from_mw(mw)));
    }

    fn read_of(&mut self, asset_id: AssetId, reading: Reading) {
        let at = self.clocks();
        self.feed(Input::Read {
            asset_id,
            at,
            result: Ok(Box::new(reading)),
        });
    }

    /// The steps reported since the last call.
    fn steps(&mut self) -> Vec<Step> {
        let events = std::mem::take(&mut self.events);
        let (steps, others) = events
            .into_iter()
            .partition::<Vec<_>, _>(|event| matches!(event, AgentEvent::Order { .. }));
        self.events = others;
        let steps = steps.into_iter().filter_map(|event| match event {
            AgentEvent::Order {
                revision,
                phase,
                reason,
                ..
            } => Some((revision, phase, reason)),
            _ => None,
        });
        steps.collect()
    }

    /// What the device was told since the last call: a power, or `None` for its default.
    fn told(&mut self) -> Vec<Option<f64>> {
        let commands = self.commands.drain(..);
        commands
            .map(|(_, _, command)| match command {
                Command::Apply(setpoint) => Some(setpoint.power.mw()),
                Command::Default(power) => {
                    assert_eq!(power, Power::from_mw(1.0));
                    None
                }
            })
            .collect()
    }

    fn telemetry(&mut self) -> Vec<TelemetryBatch> {
        let messages = self.sent.drain(..);
        messages
            .filter_map(|message| match message {
                AgentMessage::Telemetry(batch) => Some(batch),
                _ => None,
            })
            .collect()
    }

    /// The numbers of the samples sent since the last call.
    fn seqs(&mut self) -> Vec<u64> {
        let batches = self.telemetry().into_iter();
        batches
            .flat_map(|batch| batch.first_seq..batch.first_seq + batch.samples.len() as u64)
            .collect()
    }

    fn closed_with(&self) -> Option<CloseReason> {
        self.sent.iter().rev().find_map(|message| match message {
            AgentMessage::Close(close) => Some(close.reason),
            _ => None,
        })
    }

    fn source(&self) -> derms_proto::ControlSource {
        self.session.snapshot(at(self.now)).assets[0].control.source
    }

    fn has_event(&self, wanted: impl Fn(&AgentEvent) -> bool) -> bool {
        self.events.iter().any(wanted)
    }
}

fn at(since: Duration) -> Now {
    Now {
        mono: MonoTime::from_origin(since),
        // Wrong by years: nothing may be decided by it.
        wall: Timestamp::UNIX_EPOCH.saturating_add(since),
    }
}

fn dispatch(number: u64) -> DispatchId {
    DispatchId::new(uuid_of(0xd15_0000 + u128::from(number)))
}

fn fault(reason: ReasonCode) -> DeviceFault {
    DeviceFault {
        reason,
        text: "no".into(),
    }
}
