//! Random lives against a small model of a headend and of the device.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use derms_proto::link::{AssetLimits, Gap, Limit, Report};
use derms_proto::{Actor, DispatchStatus, LimitId};
use proptest::prelude::*;

use super::*;

/// An order that began so shortly before the end is still on its way.
const GRACE: Duration = Duration::from_secs(5);

/// What a headend still knows of the logs when the agent comes back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Memory {
    Kept,
    /// It restarted without a store.
    Gone,
    /// Its telemetry was restored from an older copy.
    Older,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    /// `jump` is added to the highest revision so far: not above 0 is an order that is late or
    /// comes again.
    Order {
        jump: i64,
        mw: f64,
        lease: Option<u64>,
        wait: i64,
        /// Seconds until it begins.
        later: Option<u64>,
        then: u8,
    },
    Limit {
        low: f64,
        high: f64,
        stop: bool,
        spread: u64,
    },
    Release {
        of: u64,
    },
    Store(bool),
    Answer(u8),
    Pass(f64),
    Life,
    Cut,
    Connect {
        latency: u64,
        memory: Memory,
    },
    Grant(bool),
    Read,
    /// The process is killed and started again, perhaps with the machine.
    Kill {
        reboot: bool,
    },
    /// Writes fail from now on, or no more.
    Full(bool),
    /// A part of what is not acknowledged is, with or without the agent hearing of it.
    Ack {
        part: f64,
        heard: bool,
        rewind: bool,
    },
}

fn memory() -> impl Strategy<Value = Memory> {
    prop_oneof![
        3 => Just(Memory::Kept),
        1 => Just(Memory::Gone),
        1 => Just(Memory::Older),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let lease = prop_oneof![Just(None), (1_u64..60).prop_map(Some)];
    let later = prop::option::weighted(0.3, 0_u64..100);
    prop_oneof![
        4 => (-2_i64..4, -12.0..12.0, lease, -2_i64..40, later, 0_u8..3)
            .prop_map(|(jump, mw, lease, wait, later, then)| {
                Act::Order { jump, mw, lease, wait, later, then }
            }),
        1 => (-10.0..1.0, 1.0..10.0, prop::bool::weighted(0.3), 0_u64..30)
            .prop_map(|(low, high, stop, spread)| Act::Limit { low, high, stop, spread }),
        1 => (1_u64..40).prop_map(|of| Act::Release { of }),
        4 => prop::bool::weighted(0.9).prop_map(Act::Store),
        5 => (0_u8..8).prop_map(Act::Answer),
        3 => (0.0..40.0).prop_map(Act::Pass),
        1 => (40.0..200.0).prop_map(Act::Pass),
        3 => Just(Act::Life),
        1 => Just(Act::Cut),
        3 => (0_u64..4_000, memory()).prop_map(|(latency, memory)| Act::Connect { latency, memory }),
        1 => prop::bool::weighted(0.7).prop_map(Act::Grant),
        6 => Just(Act::Read),
        1 => prop::bool::weighted(0.3).prop_map(|reboot| Act::Kill { reboot }),
        1 => prop::bool::weighted(0.3).prop_map(Act::Full),
        3 => (0.0..=1.0, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(part, heard, rewind)| Act::Ack { part, heard, rewind }),
    ]
}

/// What a headend has of one log.
#[derive(Debug)]
struct Kept {
    durable: u64,
    expected: u64,
    seen: BTreeSet<u64>,
    lost: BTreeSet<u64>,
}

impl Kept {
    fn new() -> Self {
        Self {
            durable: 0,
            expected: 1,
            seen: BTreeSet::new(),
            lost: BTreeSet::new(),
        }
    }

    fn batch(&mut self, first: u64, count: usize, gaps: &[Gap]) {
        for gap in gaps {
            assert!(
                gap.first_seq <= self.expected,
                "a hole before the gap {gap:?}"
            );
            // As a headend does: of a gap, too, only what is new counts.
            self.lost.extend(self.expected..=gap.last_seq);
            self.expected = self.expected.max(gap.last_seq + 1);
        }
        if count > 0 {
            assert!(
                first > self.durable,
                "{first} was acknowledged and is sent again"
            );
            assert_eq!(
                first, self.expected,
                "a hole that no gap declares, or a needless repeat"
            );
            self.expected = first + count as u64;
            self.seen.extend(first..self.expected);
        }
    }

    fn keep(&mut self, part: f64) {
        let open = (self.expected - 1 - self.durable) as f64;
        self.durable += (open * part) as u64;
    }
}

fn status_of(phase: SetpointPhase) -> DispatchStatus {
    match phase {
        SetpointPhase::Received => DispatchStatus::Received,
        SetpointPhase::Started => DispatchStatus::Active,
        SetpointPhase::Completed => DispatchStatus::Completed,
        SetpointPhase::Superseded => DispatchStatus::Superseded,
        SetpointPhase::Released => DispatchStatus::Cancelled,
        SetpointPhase::Rejected => DispatchStatus::Rejected,
        SetpointPhase::Expired => DispatchStatus::Expired,
        _ => DispatchStatus::Failed,
    }
}

struct World {
    bench: Bench,
    orders: BTreeMap<u64, SetpointOrder>,
    highest: u64,
    status: BTreeMap<u64, DispatchStatus>,
    applied: BTreeSet<u64>,
    last_applied: u64,
    started_at: BTreeMap<u64, Duration>,
    seen_token: u64,
    granted: bool,
    limit_revision: u64,
    bounds: (f64, f64),
    stopped: bool,
    telemetry: Kept,
    reports: Kept,
    delivered: HashSet<(u64, SetpointPhase)>,
    said: HashSet<(u64, SetpointPhase)>,
    /// The same, in order.
    steps: Vec<(u64, SetpointPhase)>,
    /// The order that may go on after a restart, and until when.
    resumable: Option<(u64, Duration)>,
    /// What was read, and under which number the headend has it.
    reads: u32,
    content: BTreeMap<u64, f64>,
    with_disk: bool,
}

impl World {
    fn new(with_disk: bool) -> Self {
        let mut bench = if with_disk {
            Bench::on_disk(vec![asset(1)])
        } else {
            // Room for about ten samples, so that some are dropped.
            Bench::at_rest(vec![asset(1)], 2_500, 8_192)
        };
        bench.obliging = false;
        bench.feed(Input::Tick);
        Self {
            bench,
            orders: BTreeMap::new(),
            highest: 0,
            status: BTreeMap::new(),
            applied: BTreeSet::new(),
            last_applied: 0,
            started_at: BTreeMap::new(),
            seen_token: 0,
            granted: false,
            limit_revision: 0,
            bounds: (-10.0, 10.0),
            stopped: false,
            telemetry: Kept::new(),
            reports: Kept::new(),
            delivered: HashSet::new(),
            said: HashSet::new(),
            steps: Vec::new(),
            resumable: None,
            reads: 0,
            content: BTreeMap::new(),
            with_disk,
        }
    }

    fn act(&mut self, act: Act) {
        let active = self.bench.session.link.is_active();
        match act {
            Act::Order {
                jump,
                mw,
                lease,
                wait,
                later,
                then,
            } if active => {
                let revision = self.highest.saturating_add_signed(jump).max(1);
                let start_at = later.map(|later| {
                    let now = self.bench.server_now();
                    now.saturating_add(Duration::from_secs(later))
                });
                self.order(revision, mw, lease, wait, (start_at, then));
            }
            Act::Limit {
                low,
                high,
                stop,
                spread,
            } if active => self.limit((low, high), stop, spread),
            Act::Release { of } if active && self.orders.contains_key(&of) => {
                self.highest += 1;
                self.bench.release(self.highest, of);
            }
            Act::Store(stored) => self.bench.store(stored),
            Act::Answer(answer) if !self.bench.commands.is_empty() => {
                let result = match answer {
                    0 => Err(fault(ReasonCode::DeviceError)),
                    1 => Err(fault(ReasonCode::DeviceUnavailable)),
                    _ => Ok(Applied::default()),
                };
                self.bench.answer(result);
            }
            Act::Pass(seconds) => self.bench.pass(seconds),
            Act::Life if active => self.bench.receive(HeadendMessage::Unknown),
            Act::Cut => self.bench.cut(),
            Act::Connect { latency, memory } if !active => self.connect(latency, memory),
            Act::Grant(granted) if active => self.grant(granted),
            Act::Read => {
                self.reads += 1;
                self.bench.read(self.reads.into());
            }
            Act::Kill { reboot } if self.with_disk => self.kill(reboot),
            Act::Full(full) if self.with_disk => self.bench.disk().full = full,
            Act::Ack {
                part,
                heard,
                rewind,
            } => self.ack(part, active && heard, rewind),
            _ => {}
        }
        self.observe();
    }

    fn kill(&mut self, reboot: bool) {
        self.observe();
        // What a full disk does not have is lost with the process; that is another test.
        self.bench.disk().full = false;
        self.bench.pass(6.0);
        while !self.bench.persists.is_empty() {
            self.bench.store(true);
        }
        self.observe();
        self.bench.disk().boot += u32::from(reboot);
        let leases = self.started_at.iter().filter_map(|(revision, at)| {
            let end = *at + self.orders[revision].duration?;
            (self.status[revision] == DispatchStatus::Active && !reboot).then_some((*revision, end))
        });
        self.resumable = leases.max();
        self.bench.restart();
        self.granted = false;
        // What was said and neither sent nor stored was never said.
        let (batch, _) = self.bench.session.reports.batch(1, 10_000, 1 << 30).unzip();
        let stored: HashSet<(u64, SetpointPhase)> = batch
            .into_iter()
            .flat_map(|batch| batch.entries)
            .filter_map(|entry| match entry.unwrap().report {
                Report::Setpoint(report) => Some((report.revision, report.phase)),
                _ => None,
            })
            .collect();
        let kept =
            |step: &(u64, SetpointPhase)| self.delivered.contains(step) || stored.contains(step);
        self.steps.retain(kept);
        self.said.retain(kept);
        for status in self.status.values_mut() {
            *status = DispatchStatus::Sent;
        }
        for (revision, phase) in self.steps.clone() {
            let old = self.status[&revision];
            if !old.is_terminal() {
                self.status.insert(revision, status_of(phase));
            }
        }
        self.seen_token = 0;
    }

    fn limit(&mut self, bounds: (f64, f64), stop: bool, spread: u64) {
        self.limit_revision += 1;
        self.bench.receive(HeadendMessage::AssetLimits(AssetLimits {
            asset_id: asset_id(1),
            revision: self.limit_revision,
            epoch: self.bench.epoch,
            limits: vec![Limit {
                id: LimitId::new(uuid_of(1)),
                min: Some(Power::from_mw(bounds.0)),
                max: Some(Power::from_mw(bounds.1)),
                expires_at: None,
            }],
            stop,
            return_within: Duration::from_secs(spread),
        }));
        if self.granted {
            (self.bounds, self.stopped) = (bounds, stop);
        }
    }

    fn order(
        &mut self,
        revision: u64,
        mw: f64,
        lease: Option<u64>,
        wait: i64,
        (start_at, then): (Option<Timestamp>, u8),
    ) {
        let now = start_at.unwrap_or(self.bench.server_now());
        let epoch = self.bench.epoch;
        let fresh = SetpointOrder {
            duration: lease.map(Duration::from_secs),
            start_at,
            start_deadline: Timestamp::from_unix_micros(now.unix_micros() + wait * 1_000_000),
            then: match then {
                0 => FollowUp::Hold,
                1 => FollowUp::Value(Power::from_mw(2.0)),
                _ => FollowUp::Default,
            },
            ..self.bench.order(revision, mw)
        };
        let order = self.orders.entry(revision).or_insert(fresh);
        order.epoch = epoch;
        self.highest = self.highest.max(revision);
        self.status.entry(revision).or_insert(DispatchStatus::Sent);
        let order = order.clone();
        self.bench.setpoint(order);
    }

    fn connect(&mut self, latency: u64, memory: Memory) {
        self.observe();
        if memory == Memory::Older {
            self.telemetry.durable /= 2;
        }
        let telemetry = (LogKind::Telemetry, self.bench.session.telemetry.log_id());
        let reports = (LogKind::Report, self.bench.session.reports.log_id());
        let cursor = |(kind, log_id), kept: &Kept| LogCursor {
            kind,
            log_id,
            next_seq: kept.durable + 1,
        };
        self.bench.cursors = match memory {
            Memory::Gone => Vec::new(),
            _ => vec![
                cursor(telemetry, &self.telemetry),
                cursor(reports, &self.reports),
            ],
        };
        let register = self.bench.dial();
        for (head, kept) in register
            .logs
            .iter()
            .zip([&mut self.telemetry, &mut self.reports])
        {
            if memory == Memory::Gone {
                kept.durable = head.first_seq - 1;
            }
            kept.expected = kept.durable + 1;
        }
        // The headend read its clock anywhere between the two messages.
        let before = Duration::from_millis(latency / 3);
        self.bench.now += before;
        self.bench.epoch += 1;
        let registered = self.bench.registered(self.bench.epoch);
        self.bench.now += Duration::from_millis(latency) - before;
        self.granted = true;
        self.bench.receive(HeadendMessage::Registered(registered));
    }

    fn grant(&mut self, granted: bool) {
        self.granted = granted;
        let status = if granted {
            GrantStatus::Granted
        } else {
            GrantStatus::Forbidden
        };
        let epoch = self.bench.epoch;
        let grant = Grant {
            asset_id: asset_id(1),
            status,
            last_revision: 0,
            text: None,
        };
        self.bench.receive(HeadendMessage::Grants {
            epoch,
            grants: vec![grant],
        });
    }

    fn ack(&mut self, part: f64, heard: bool, rewind: bool) {
        self.telemetry.keep(part);
        self.reports.keep(part);
        if heard {
            if rewind {
                self.telemetry.expected = self.telemetry.durable + 1;
            }
            self.bench
                .ack(LogKind::Telemetry, self.telemetry.durable, rewind);
            self.observe();
            if self.bench.session.link.is_active() {
                self.bench.ack(LogKind::Report, self.reports.durable, false);
            }
        }
    }

    /// Checks everything that came out since the last time.
    fn observe(&mut self) {
        let before = self.status.clone();
        self.check_steps();
        self.check_commands(&before);
        self.check_logs();
        let counts = [
            self.bench.commands.len() <= 1,
            self.bench.session.out.is_empty(),
        ];
        assert_eq!(counts, [true, true], "one command at a time");
    }

    fn check_commands(&mut self, before: &BTreeMap<u64, DispatchStatus>) {
        let Some((_, token, command)) = self.bench.commands.back() else {
            return;
        };
        if *token <= self.seen_token {
            return;
        }
        self.seen_token = *token;
        let power = match command {
            Command::Apply(setpoint) => setpoint.power,
            Command::Default(power) => *power,
        };
        let (low, high) = self.bounds;
        let inside = power.mw() >= low && power.mw() <= high;
        assert!(
            inside || power == Power::ZERO,
            "{power} is outside of {low} to {high}"
        );
        let Command::Apply(setpoint) = command else {
            assert!(!self.stopped, "the default of a stopped asset is 1 MW");
            return;
        };
        assert!(asset(1).allows(setpoint.power));
        assert!(
            !self.stopped || setpoint.power == Power::ZERO && setpoint.dispatch_id.is_none(),
            "{setpoint:?} while it is stopped"
        );
        let Some(id) = setpoint.dispatch_id else {
            return;
        };
        let (revision, order) = self
            .orders
            .iter()
            .find(|(_, o)| o.dispatch_id == id)
            .unwrap();
        if let Some((resumed, end)) = self.resumable
            && resumed == *revision
            && self.applied.contains(revision)
        {
            let left = end.checked_sub(self.bench.now).expect("the lease runs");
            assert_eq!(setpoint.remaining, Some(left), "the rest of the lease");
            self.resumable = None;
            return;
        }
        let was_active = before.get(revision) == Some(&DispatchStatus::Active);
        if was_active || self.status[revision] == DispatchStatus::Active {
            // A limit has changed while it was in force.
            return;
        }
        assert!(
            self.applied.insert(*revision),
            "I1: {revision} starts twice"
        );
        assert!(
            self.bench.server_now() <= order.start_deadline,
            "I2: {revision} has expired"
        );
        // The estimate of the headend's clock may be wrong by half a round trip.
        let soon = self
            .bench
            .server_now()
            .saturating_add(Duration::from_secs(4));
        assert!(
            order.start_at.is_none_or(|at| at <= soon),
            "{revision} is early"
        );
        assert!(
            *revision > self.last_applied || order.start_at.is_some(),
            "I3: {revision} after {}",
            self.last_applied
        );
        assert!(
            !self.status[revision].is_terminal(),
            "I6: {revision} has ended"
        );
        assert!(
            self.said.contains(&(*revision, SetpointPhase::Received)),
            "not written down"
        );
        assert!(
            self.granted || order.start_at.is_some(),
            "I15: {revision} is for an asset that is not granted"
        );
        self.last_applied = self.last_applied.max(*revision);
    }

    fn check_steps(&mut self) {
        for (revision, phase, reason) in self.bench.steps() {
            self.said.insert((revision, phase));
            let Some(old) = self.status.get(&revision).copied() else {
                continue;
            };
            let new = status_of(phase);
            self.steps.push((revision, phase));
            // Only an outcome that is no longer among the last 16 may have been forgotten.
            let forgotten = old.is_terminal() && self.orders.len() > 8;
            let legal = new == old || old.may_become(new, Actor::Agent) || forgotten;
            assert!(
                legal,
                "I7: {revision} goes from {old:?} to {new:?} ({reason:?})"
            );
            if !old.is_terminal() {
                self.status.insert(revision, new);
            }
            match phase {
                SetpointPhase::Started => {
                    assert!(self.applied.contains(&revision));
                    self.started_at.entry(revision).or_insert(self.bench.now);
                }
                SetpointPhase::Completed if new != old => {
                    let lease = self.orders[&revision].duration.unwrap();
                    let ran = self.bench.now - self.started_at[&revision];
                    assert!(ran >= lease, "I6: {revision} ran {ran:?} of {lease:?}");
                }
                SetpointPhase::Expired => assert!(!self.applied.contains(&revision), "I6"),
                _ => {}
            }
        }
    }

    fn check_logs(&mut self) {
        for message in std::mem::take(&mut self.bench.sent) {
            match message {
                AgentMessage::Telemetry(batch) => {
                    for (seq, sample) in (batch.first_seq..).zip(&batch.samples) {
                        let mw = sample.as_ref().unwrap().measurements.mw.unwrap().mw();
                        let had = *self.content.entry(seq).or_insert(mw);
                        assert_eq!(had.to_bits(), mw.to_bits(), "I11: {seq} was something else");
                    }
                    self.telemetry
                        .batch(batch.first_seq, batch.samples.len(), &batch.gaps);
                }
                AgentMessage::Report(batch) => {
                    self.reports
                        .batch(batch.first_seq, batch.entries.len(), &[]);
                    for entry in batch.entries.into_iter().flatten() {
                        if let Report::Setpoint(report) = entry.report {
                            self.delivered.insert((report.revision, report.phase));
                        }
                    }
                }
                AgentMessage::Close(close) => {
                    assert_eq!(close.reason, CloseReason::LivenessTimeout, "{close:?}");
                }
                _ => {}
            }
        }
    }

    /// Faults stop: everything is delivered, and the device ends up somewhere.
    fn settle(&mut self) {
        if self.with_disk {
            self.bench.disk().full = false;
        }
        for _ in 0..40 {
            if !self.bench.session.link.is_active() {
                self.connect(10, Memory::Kept);
            }
            self.observe();
            self.act(Act::Store(true));
            self.act(Act::Answer(7));
            self.act(Act::Pass(1.0));
            self.act(Act::Ack {
                part: 1.0,
                heard: true,
                rewind: false,
            });
        }
        // What the last round has said is still to be stored before it is sent.
        for _ in 0..2 {
            self.act(Act::Store(true));
            self.act(Act::Ack {
                part: 1.0,
                heard: true,
                rewind: false,
            });
        }
        let next = self.bench.session.telemetry.next_seq();
        for seq in 1..next {
            let there = self.telemetry.seen.contains(&seq) || self.telemetry.lost.contains(&seq);
            assert!(there, "I12: {seq} was neither sent nor declared lost");
        }
        let distinct: BTreeSet<u64> = self.content.values().map(|mw| mw.to_bits()).collect();
        assert_eq!(
            distinct.len(),
            self.content.len(),
            "I11: one sample under two numbers"
        );
        assert_eq!(self.bench.session.telemetry.depth(), 0);
        assert_eq!(self.bench.session.reports.depth(), 0);
        assert_eq!(self.said, self.delivered, "I13");
        for (revision, status) in &self.status {
            // It has not begun yet, or lets a newer one run out.
            let order = &self.orders[revision];
            let waits = order.start_at.is_some()
                && order.start_deadline.saturating_add(GRACE) > self.bench.server_now();
            let open =
                *status == DispatchStatus::Sent || *status == DispatchStatus::Received && !waits;
            assert!(!open, "{revision} was never answered: {status:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_life_of_a_session_breaks_an_invariant(acts in prop::collection::vec(act(), 1..120)) {
        let mut world = World::new(false);
        for act in acts {
            world.act(act);
        }
        world.settle();
    }

    #[test]
    fn no_life_of_a_session_with_a_disk_breaks_an_invariant(acts in prop::collection::vec(act(), 1..120)) {
        let mut world = World::new(true);
        for act in acts {
            world.act(act);
        }
        world.settle();
    }
}
