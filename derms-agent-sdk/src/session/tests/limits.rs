use SetpointPhase::{Completed, Failed, Received, Rejected, Started};
use derms_proto::link::{AssetLimits, Limit, LimitPhase, Report};
use derms_proto::{ControlSource, Failsafe, FailsafePolicy, LimitId};

use super::*;

fn bounds(min: f64, max: f64) -> Limit {
    Limit {
        id: LimitId::new(uuid_of(1)),
        min: Some(Power::from_mw(min)),
        max: Some(Power::from_mw(max)),
        expires_at: None,
    }
}

pub(super) fn limits(revision: u64, limits: Vec<Limit>) -> AssetLimits {
    AssetLimits {
        asset_id: asset_id(1),
        revision,
        epoch: 0,
        limits,
        stop: false,
        return_within: Duration::ZERO,
    }
}

impl Bench {
    pub(super) fn limit(&mut self, limits: AssetLimits) {
        let epoch = self.epoch;
        self.receive(HeadendMessage::AssetLimits(AssetLimits { epoch, ..limits }));
    }

    /// What was reported of limits since the last call.
    pub(super) fn limit_steps(&mut self) -> Vec<(u64, LimitPhase)> {
        let told = |event: &AgentEvent| match event {
            AgentEvent::Limits {
                revision, phase, ..
            } => Some((*revision, *phase)),
            _ => None,
        };
        let steps = self.events.iter().filter_map(told).collect();
        self.events.retain(|event| told(event).is_none());
        steps
    }
}

pub(super) fn active() -> Bench {
    let mut bench = Bench::active();
    bench.told();
    bench
}

#[test]
fn a_limit_beats_the_setpoint_in_force_at_once_and_gives_it_back_when_it_is_gone() {
    let mut bench = active();
    let order = bench.order(1, 8.0);
    bench.setpoint(order);
    assert_eq!(bench.told(), [Some(8.0)]);
    bench.limit(limits(1, vec![bounds(-2.0, 3.0)]));
    assert_eq!(bench.told(), [Some(3.0)]);
    assert_eq!(bench.limit_steps(), [(1, LimitPhase::InForce)]);
    let snapshot = bench.session.snapshot(at(bench.now));
    let control = snapshot.assets[0].control;
    assert!(control.limited);
    assert_eq!(control.power, Some(Power::from_mw(3.0)));
    bench.limit(limits(2, vec![]));
    assert_eq!(bench.told(), [Some(8.0)]);
    assert_eq!(bench.steps().len(), 2, "one start, whatever the limits did");
}

#[test]
fn a_setpoint_outside_of_a_limit_starts_at_the_limit_and_says_so() {
    let mut bench = active();
    bench.limit(limits(1, vec![bounds(-2.0, 3.0)]));
    let order = bench.order(1, 8.0);
    bench.setpoint(order);
    assert_eq!(bench.told(), [Some(3.0)]);
    assert!(bench.has_event(|event| matches!(
        event,
        AgentEvent::Order { phase: Started, text: Some(text), .. } if text == "limited to 3 MW"
    )));
}

#[test]
fn a_limit_beats_default_follow_up_and_failsafe() {
    let mut asset = asset(1);
    asset.failsafe = Failsafe {
        policy: FailsafePolicy::Value(Power::from_mw(9.0)),
        after_s: 90,
        min_hold_s: 0,
    };
    let mut bench = Bench::new(vec![asset]);
    bench.connect();
    bench.told();
    bench.limit(limits(1, vec![bounds(-5.0, -4.0)]));
    assert_eq!(bench.told(), [Some(-4.0)], "the default is 1 MW");
    let mut order = bench.leased(1, 2.0, 10);
    order.then = FollowUp::Value(Power::from_mw(-9.0));
    bench.setpoint(order);
    bench.pass(11.0);
    assert_eq!(
        bench.told(),
        [Some(-4.0), Some(-5.0)],
        "order and follow-up"
    );
    bench.cut();
    bench.pass(95.0);
    assert_eq!(bench.told(), [Some(-4.0)], "the failsafe is 9 MW");
    assert_eq!(bench.source(), ControlSource::Failsafe);
}

#[test]
fn all_limits_hold_at_once_and_those_that_contradict_leave_what_is_nearest_to_zero() {
    let mut bench = active();
    let order = bench.order(1, 8.0);
    bench.setpoint(order);
    bench.limit(limits(1, vec![bounds(-9.0, 6.0), bounds(-3.0, 9.0)]));
    assert_eq!(bench.told(), [Some(8.0), Some(6.0)]);
    bench.limit(limits(2, vec![bounds(5.0, 9.0), bounds(-9.0, 2.0)]));
    assert_eq!(bench.told(), [Some(2.0)]);
    bench.limit(limits(3, vec![bounds(1.0, 9.0), bounds(-9.0, -2.0)]));
    assert_eq!(bench.told(), [Some(0.0)]);
}

#[test]
fn a_limit_never_allows_what_the_rating_forbids() {
    let mut bench = active();
    bench.limit(limits(1, vec![bounds(50.0, 60.0)]));
    assert_eq!(bench.told(), [Some(10.0)]);
    let order = bench.order(1, 55.0);
    bench.setpoint(order);
    assert_eq!(bench.steps(), [(1, Rejected, Some(ReasonCode::OutOfRange))]);
}

#[test]
fn a_limit_ends_by_itself_with_the_link_down_and_leaves_the_others() {
    let mut bench = active();
    let order = bench.leased(1, 8.0, 3_600);
    bench.setpoint(order);
    let short = Limit {
        expires_at: Some(bench.server_now().saturating_add(Duration::from_secs(100))),
        ..bounds(-1.0, 1.0)
    };
    bench.limit(limits(1, vec![short, bounds(-9.0, 4.0)]));
    assert_eq!(bench.told(), [Some(8.0), Some(1.0)]);
    bench.cut();
    bench.pass(99.5);
    assert_eq!(bench.told(), []);
    bench.pass(1.0);
    assert_eq!(bench.told(), [Some(4.0)], "never without any limit");
}

#[test]
fn limits_of_a_revision_that_is_not_higher_change_nothing() {
    let mut bench = active();
    bench.limit(limits(5, vec![bounds(-2.0, 0.5)]));
    assert_eq!(bench.told(), [Some(0.5)]);
    bench.limit(limits(4, vec![]));
    bench.limit(limits(5, vec![]));
    assert_eq!(bench.told(), []);
    assert_eq!(bench.limit_steps(), [(5, LimitPhase::InForce)]);
    bench.cut();
    let register = bench.connect();
    assert_eq!(register.assets[0].as_ref().unwrap().limit_revision, 5);
}

#[test]
fn limits_for_an_asset_that_is_not_granted_are_refused() {
    let mut bench = Bench::new(vec![asset(1)]);
    bench.revoked = vec![asset_id(1)];
    bench.connect();
    bench.told();
    bench.limit(limits(1, vec![bounds(-2.0, 0.5)]));
    assert_eq!(bench.told(), []);
    assert_eq!(bench.limit_steps(), [(1, LimitPhase::Refused)]);
}

#[test]
fn limits_are_in_force_only_when_the_device_has_obeyed_and_they_are_stored() {
    let mut bench = active();
    bench.obliging = false;
    bench.limit(limits(1, vec![bounds(-2.0, 0.5)]));
    bench.store(true);
    assert_eq!(bench.limit_steps(), []);
    bench.answer(Err(fault(ReasonCode::DeviceError)));
    assert_eq!(bench.limit_steps(), [(1, LimitPhase::NotObeyed)]);
    bench.pass(1.5);
    bench.answer(Err(fault(ReasonCode::DeviceError)));
    assert_eq!(bench.limit_steps(), [], "said once");
    bench.pass(3.0);
    bench.answer(Ok(Applied::default()));
    assert_eq!(bench.limit_steps(), [(1, LimitPhase::InForce)]);
}

#[test]
fn a_limit_survives_a_restart_and_a_reboot() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.connect();
    bench.limit(limits(3, vec![bounds(-2.0, 0.5)]));
    for reboot in [false, true] {
        bench.disk().boot += u32::from(reboot);
        bench.restart();
        assert_eq!(bench.told(), [Some(0.5)], "before any headend was heard");
    }
    let register = bench.connect();
    assert_eq!(register.assets[0].as_ref().unwrap().limit_revision, 3);
}

#[test]
fn a_ramp_is_driven_in_steps_and_the_order_is_active_from_the_first() {
    let mut asset = asset(1);
    asset.ramp_rate_mw_per_min = Some(60.0);
    let mut bench = Bench::new(vec![asset]);
    bench.read(1.0);
    bench.connect();
    assert_eq!(bench.told(), [None]);
    bench.pass_in_session(5.0);
    let order = bench.leased(1, 4.5, 10);
    bench.setpoint(order);
    assert_eq!(bench.steps(), [(1, Received, None), (1, Started, None)]);
    assert_eq!(bench.told(), [Some(2.0)]);
    bench.pass(2.0);
    assert_eq!(bench.told(), [Some(3.0), Some(4.0)]);
    bench.pass(2.0);
    assert_eq!(bench.told(), [Some(4.5)]);
    bench.pass(5.9);
    assert_eq!(bench.told(), []);
    bench.pass(4.2);
    assert_eq!(
        bench.told(),
        [Some(3.5), Some(2.5), Some(1.5), None],
        "back by the ramp, too"
    );
    assert_eq!(bench.steps(), [(1, Completed, None)]);
}

#[test]
fn the_slower_ramp_counts() {
    for (own, of_order, step) in [
        (Some(60.0), Some(30.0), 1.5),
        (None, Some(30.0), 1.5),
        (Some(60.0), Some(600.0), 2.0),
    ] {
        let mut asset = asset(1);
        asset.ramp_rate_mw_per_min = own;
        let mut bench = Bench::new(vec![asset]);
        bench.read(1.0);
        bench.connect();
        bench.told();
        bench.pass(5.0);
        let mut order = bench.order(1, 9.0);
        order.ramp_mw_per_min = of_order;
        bench.setpoint(order);
        assert_eq!(bench.told(), [Some(step)], "{own:?} {of_order:?}");
    }
}

#[test]
fn at_the_start_a_ramp_begins_where_the_device_was_read() {
    let mut asset = asset(1);
    asset.ramp_rate_mw_per_min = Some(60.0);
    let mut bench = Bench::new(vec![asset.clone()]);
    assert_eq!(bench.told(), [], "it is read first");
    bench.read(4.0);
    assert_eq!(bench.told(), [Some(3.0)]);
    bench.pass(2.5);
    assert_eq!(bench.told(), [Some(2.0), None]);
    let mut unread = Bench::new(vec![asset]);
    unread.feed(Input::Read {
        asset_id: asset_id(1),
        at: at(unread.now),
        result: Err(no_answer()),
    });
    assert_eq!(
        unread.told(),
        [None],
        "what can't be read goes there at once"
    );
}

#[test]
fn a_device_that_refuses_a_step_three_times_has_failed_and_goes_to_its_default() {
    let mut bench = active();
    let mut order = bench.leased(1, 9.0, 600);
    order.ramp_mw_per_min = Some(60.0);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.obliging = false;
    for wait in [1.0, 1.0, 2.0] {
        bench.pass(wait);
        bench.answer(Err(fault(ReasonCode::DeviceError)));
    }
    assert_eq!(bench.steps(), [(1, Failed, Some(ReasonCode::DeviceError))]);
    assert_eq!(bench.source(), ControlSource::Default);
}

#[test]
fn a_fresh_order_waits_until_the_failsafe_has_held_for_its_time() {
    let mut asset = asset(1);
    asset.failsafe = Failsafe {
        policy: FailsafePolicy::Value(Power::from_mw(-3.0)),
        after_s: 90,
        min_hold_s: 60,
    };
    let mut bench = Bench::new(vec![asset]);
    bench.connect();
    bench.cut();
    bench.pass(0.0);
    bench.session.link.state = State::Backoff {
        until: MonoTime::from_origin(bench.now + Duration::from_secs(100)),
    };
    bench.pass(92.0);
    assert_eq!(bench.told().last(), Some(&Some(-3.0)));
    bench.connect();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    assert_eq!(bench.steps(), [(1, Received, None)]);
    bench.pass(29.0);
    assert_eq!(bench.told(), [], "held");
    bench.receive(HeadendMessage::Unknown);
    let order = bench.order(2, 6.0);
    bench.setpoint(order);
    bench.pass(25.0);
    assert_eq!(bench.told(), [Some(6.0)]);
}

#[test]
fn what_was_said_of_limits_is_in_the_report_log() {
    let mut bench = active();
    bench.limit(limits(1, vec![bounds(-2.0, 3.0)]));
    let (batch, _) = bench.session.reports.batch(1, 256, 1 << 20).unwrap();
    let told = batch
        .entries
        .into_iter()
        .flatten()
        .find_map(|entry| match entry.report {
            Report::Limit(report) => Some(report),
            _ => None,
        });
    assert_eq!(told.unwrap().phase, LimitPhase::InForce);
}

/// The device on the bench: where it was told to be, and when.
struct Track {
    mw: f64,
    at: Duration,
    low: f64,
    high: f64,
}

impl Track {
    /// Checks every command since the last call; all of them came at this moment.
    fn follow(&mut self, bench: &mut Bench, per_second: f64) {
        for (_, _, command) in bench.commands.drain(..) {
            let mw = match command {
                Command::Apply(setpoint) => setpoint.power.mw(),
                Command::Default(power) => power.mw(),
            };
            assert!(
                mw >= self.low - 1e-9 && mw <= self.high + 1e-9,
                "{mw} is outside of {} to {}",
                self.low,
                self.high
            );
            // What a limit demands is no part of the ramp.
            let from = self.mw.clamp(self.low, self.high);
            let seconds = (bench.now - self.at).as_secs_f64().min(1.0);
            assert!(
                (mw - from).abs() <= per_second * seconds + 1e-6,
                "from {from} to {mw} in {seconds} s"
            );
            // To be told to stay is no step.
            if mw.to_bits() != self.mw.to_bits() {
                (self.mw, self.at) = (mw, bench.now);
            }
        }
    }
}

/// Lets time pass as [`Bench::pass`] does, and looks after every step.
fn pass_and_look(bench: &mut Bench, seconds: f64, track: &mut Track, per_second: f64) {
    let end = bench.now + Duration::from_secs_f64(seconds);
    while let Some(due) = bench.session.deadline().map(MonoTime::since_origin)
        && due <= end
    {
        bench.now = bench.now.max(due);
        bench.feed(Input::Tick);
        track.follow(bench, per_second);
    }
    bench.now = end;
    bench.receive(HeadendMessage::Unknown);
    track.follow(bench, per_second);
}

#[test]
fn an_hour_of_random_orders_never_leaves_the_envelope_nor_exceeds_the_ramp() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut asset = asset(1);
        asset.ramp_rate_mw_per_min = Some(30.0);
        let per_second = 0.5;
        let mut bench = Bench::new(vec![asset]);
        bench.read(1.0);
        bench.connect();
        bench.told();
        let mut track = Track {
            mw: 1.0,
            // It has not been moved yet.
            at: bench.now.saturating_sub(Duration::from_secs(1)),
            low: -10.0,
            high: 10.0,
        };
        let (mut revision, mut limit_revision, mut starts) = (0, 0, 0);
        let end = bench.now + Duration::from_secs(3_600);
        while bench.now < end {
            match rng.u8(0..10) {
                0 => {
                    limit_revision += 1;
                    (track.low, track.high) = (-10.0 * rng.f64(), 10.0 * rng.f64());
                    bench.limit(limits(limit_revision, vec![bounds(track.low, track.high)]));
                }
                1..5 => {
                    revision += 1;
                    let mut order = bench.leased(revision, rng.f64() * 20.0 - 10.0, rng.u64(1..60));
                    order.ramp_mw_per_min = rng.bool().then(|| rng.f64() * 100.0 + 1.0);
                    order.then = match rng.u8(0..3) {
                        0 => FollowUp::Hold,
                        1 => FollowUp::Value(Power::from_mw(rng.f64() * 20.0 - 10.0)),
                        _ => FollowUp::Default,
                    };
                    bench.setpoint(order);
                }
                5 if revision > 0 => {
                    revision += 1;
                    bench.release(revision, revision - 1);
                }
                6 => {
                    bench.cut();
                    pass_and_look(&mut bench, 1.5, &mut track, per_second);
                    bench.feed(Input::Connected);
                    bench.answer_register();
                }
                _ => {}
            }
            track.follow(&mut bench, per_second);
            let started = |step: &Step| step.1 == Started;
            starts += bench.steps().iter().filter(|step| started(step)).count();
            pass_and_look(&mut bench, rng.f64() * 15.0, &mut track, per_second);
        }
        assert!(starts > 50, "only {starts} orders started");
    }
}

#[test]
fn a_limit_is_not_in_force_while_the_device_may_have_done_what_it_did_not_answer() {
    let mut bench = active();
    let order = bench.leased(1, 8.0, 600);
    bench.setpoint(order);
    bench.limit(limits(1, vec![bounds(-2.0, 3.0)]));
    bench.told();
    bench.limit_steps();
    bench.obliging = false;
    bench.limit(limits(2, vec![]));
    bench.store(true);
    bench.limit(limits(3, vec![bounds(-2.0, 3.0)]));
    bench.store(true);
    let late = bench.answer(Err(fault(ReasonCode::DeviceTimeout)));
    assert!(matches!(late, Command::Apply(setpoint) if setpoint.power == Power::from_mw(8.0)));
    assert_eq!(bench.limit_steps(), [], "it may be at 8 MW");
    let control = bench.session.snapshot(at(bench.now)).assets[0].control;
    assert_eq!(control.power, None);
    bench.pass(1.5);
    let again = bench.answer(Ok(Applied::default()));
    assert!(matches!(again, Command::Apply(setpoint) if setpoint.power == Power::from_mw(3.0)));
    assert_eq!(bench.limit_steps(), [(3, LimitPhase::InForce)]);
}

#[test]
fn limits_are_told_again_after_a_restart() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.connect();
    bench.obliging = false;
    bench.limit(limits(3, vec![bounds(-2.0, 0.5)]));
    bench.store(true);
    bench.store(true);
    bench.limit_steps();
    bench.obliging = true;
    bench.restart();
    assert_eq!(bench.limit_steps(), [(3, LimitPhase::InForce)]);
}

#[test]
fn limits_are_in_force_while_the_device_is_on_its_way_inside_of_them() {
    let mut bench = active();
    let mut order = bench.leased(1, 9.0, 10);
    order.ramp_mw_per_min = Some(600.0);
    bench.setpoint(order);
    bench.pass(12.0);
    bench.limit(limits(1, vec![bounds(-9.5, 9.5)]));
    assert_eq!(bench.limit_steps(), [(1, LimitPhase::InForce)]);
}
