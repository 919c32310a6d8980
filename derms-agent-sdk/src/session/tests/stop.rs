//! A stopped asset stays at 0 MW, whatever happens to its agent, its link and its orders.

use SetpointPhase::{Rejected, Released};
use derms_proto::link::{AssetLimits, LimitPhase};
use derms_proto::{ControlSource, Failsafe, FailsafePolicy};

use super::limits::{active, limits};
use super::*;

const STOPPED: Option<ReasonCode> = Some(ReasonCode::Stopped);

fn stop(revision: u64) -> AssetLimits {
    AssetLimits {
        stop: true,
        ..limits(revision, vec![])
    }
}

/// A stopped asset, its device at 0 MW. Its default is 1 MW.
fn stopped(mut bench: Bench) -> Bench {
    let order = bench.leased(1, 5.0, 600);
    bench.setpoint(order);
    bench.limit(stop(1));
    assert_eq!(bench.told().last(), Some(&Some(0.0)));
    assert_eq!(bench.source(), ControlSource::Stop);
    bench.steps();
    bench
}

fn on_disk() -> Bench {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.connect();
    bench
}

impl Bench {
    /// Its device was told nothing but to be at 0 MW since the last call, if it was told anything.
    #[track_caller]
    fn stays_at_zero(&mut self) {
        let told = self.told();
        assert!(told.iter().all(|told| *told == Some(0.0)), "{told:?}");
        assert_eq!(self.source(), ControlSource::Stop);
    }
}

#[test]
fn a_stop_ends_what_is_in_hand_and_takes_no_order() {
    let mut bench = active();
    let first = bench.leased(1, 5.0, 600);
    bench.setpoint(first);
    let later = SetpointOrder {
        start_at: Some(bench.server_now().saturating_add(Duration::from_secs(900))),
        start_deadline: bench.server_now().saturating_add(Duration::from_secs(930)),
        ..bench.leased(2, 6.0, 60)
    };
    bench.setpoint(later);
    bench.told();
    bench.steps();
    bench.limit(stop(1));
    assert_eq!(bench.told(), [Some(0.0)], "not its default, which is 1 MW");
    assert_eq!(
        bench.steps(),
        [(2, Released, STOPPED), (1, Released, STOPPED)]
    );
    assert_eq!(bench.limit_steps(), [(1, LimitPhase::InForce)]);
    assert_eq!(bench.source(), ControlSource::Stop);
    let order = bench.order(3, 5.0);
    bench.setpoint(order);
    assert_eq!(bench.steps(), [(3, Rejected, STOPPED)]);
    bench.release(4, 3);
    bench.pass_in_session(1_000.0);
    let told = bench.told();
    assert!(told.iter().all(|told| *told == Some(0.0)), "{told:?}");
}

#[test]
fn a_stop_is_kept_without_a_link_and_over_a_restart() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.connect();
    let order = bench.leased(1, 5.0, 600);
    bench.setpoint(order);
    bench.limit(stop(1));
    bench.told();
    bench.cut();
    bench.pass(1_000.0);
    assert_eq!(bench.told(), [], "no failsafe moves it");
    for reboot in [false, true] {
        bench.disk().boot += u32::from(reboot);
        bench.restart();
        assert_eq!(bench.told(), [Some(0.0)]);
        assert_eq!(bench.source(), ControlSource::Stop);
    }
}

#[test]
fn agents_return_from_a_stop_at_different_times_within_the_spread() {
    let mut returned = Vec::new();
    for seed in 0..20 {
        let mut bench = active();
        bench.session.rng = fastrand::Rng::with_seed(seed);
        bench.limit(stop(1));
        bench.told();
        let mut over = limits(2, vec![]);
        over.return_within = Duration::from_secs(100);
        bench.limit(over);
        let order = bench.order(1, 5.0);
        bench.setpoint(order);
        assert_eq!(bench.steps().len(), 1, "refused until it has returned");
        let mut after = 0;
        while bench.told().is_empty() {
            bench.pass_in_session(1.0);
            after += 1;
            assert!(after <= 101, "not back within the spread");
        }
        assert_eq!(bench.source(), ControlSource::Default);
        returned.push(after);
    }
    returned.sort_unstable();
    assert!(returned[0] < 30 && returned[19] > 70, "{returned:?}");
}

#[test]
fn a_device_that_does_not_stop_is_told_again_and_not_sent_to_its_default() {
    let mut bench = active();
    bench.obliging = false;
    bench.limit(stop(1));
    for _ in 0..3 {
        match bench.answer(Err(fault(ReasonCode::DeviceTimeout))) {
            Command::Apply(setpoint) => assert_eq!(setpoint.power, Power::ZERO),
            command @ Command::Default(_) => panic!("{command:?}"),
        }
        bench.pass(31.0);
    }
}

#[test]
fn what_was_told_before_a_stop_came_says_nothing_of_it() {
    let mut bench = active();
    bench.obliging = false;
    let order = bench.leased(1, 8.0, 600);
    bench.setpoint(order);
    bench.store(true);
    bench.limit(stop(1));
    bench.store(true);
    bench.answer(Err(fault(ReasonCode::DeviceTimeout)));
    assert_eq!(bench.limit_steps(), []);
    bench.answer(Ok(Applied::default()));
    assert_eq!(bench.limit_steps(), [(1, LimitPhase::InForce)]);
}

#[test]
fn a_stopped_agent_that_is_to_return_does_not_spin_while_it_ends() {
    let mut bench = active();
    bench.limit(stop(1));
    bench.told();
    let mut over = limits(2, vec![]);
    over.return_within = Duration::from_secs(1);
    bench.limit(over);
    bench.obliging = false;
    bench.feed(Input::Shutdown);
    bench.pass(30.0);
    assert_eq!(bench.told(), [], "it stays as it is");
}

#[test]
fn the_return_from_a_stop_is_drawn_anew_after_a_reboot() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.connect();
    bench.limit(stop(1));
    let mut over = limits(2, vec![]);
    over.return_within = Duration::from_secs(1_000);
    bench.limit(over);
    bench.disk().boot += 1;
    bench.restart();
    bench.told();
    bench.pass(1.0);
    assert_eq!(bench.source(), ControlSource::Stop);
    bench.pass(1_000.0);
    assert_eq!(bench.source(), ControlSource::Default);
}

#[test]
fn a_stopped_asset_stays_at_zero_when_its_agent_ends() {
    let mut bench = stopped(active());
    bench.feed(Input::Shutdown);
    bench.pass(10.0);
    assert!(bench.stopped);
    bench.stays_at_zero();
    let unsettled = |event: &AgentEvent| match event {
        AgentEvent::Stopped { unsettled } => Some(unsettled.len()),
        _ => None,
    };
    assert_eq!(bench.events.iter().find_map(unsettled), Some(0));
}

#[test]
fn a_device_on_its_way_to_a_stop_is_told_zero_and_nothing_else_while_its_agent_ends() {
    let mut bench = active();
    let order = bench.leased(1, 5.0, 600);
    bench.setpoint(order);
    bench.told();
    bench.obliging = false;
    bench.limit(stop(1));
    bench.feed(Input::Shutdown);
    bench.answer(Err(fault(ReasonCode::DeviceTimeout)));
    bench.pass(1.5);
    assert_eq!(bench.told(), [Some(0.0)], "told again");
    bench.pass(10.0);
    assert!(bench.stopped);
    bench.stays_at_zero();
    assert!(bench.has_event(|event| matches!(
        event,
        AgentEvent::Stopped { unsettled } if unsettled == &[asset_id(1)]
    )));
}

#[test]
fn a_stop_that_comes_while_the_agent_ends_is_obeyed() {
    let mut bench = active();
    let order = bench.leased(1, 5.0, 600);
    bench.setpoint(order);
    bench.told();
    bench.obliging = false;
    bench.feed(Input::Shutdown);
    bench.limit(stop(1));
    let default = Command::Default(Power::from_mw(1.0));
    assert_eq!(bench.answer(Ok(Applied::default())), default);
    bench.obliging = true;
    bench.pass(10.0);
    assert_eq!(bench.told(), [Some(0.0)]);
    assert!(bench.stopped);
}

#[test]
fn an_agent_that_ended_in_order_stops_the_asset_again_when_it_is_started() {
    let mut bench = stopped(on_disk());
    bench.feed(Input::Shutdown);
    bench.pass(10.0);
    bench.stop();
    bench.stays_at_zero();
    bench.restart();
    assert_eq!(bench.told(), [Some(0.0)], "before any headend was heard");
    assert_eq!(bench.source(), ControlSource::Stop);
}

#[test]
fn an_order_that_the_device_is_busy_with_when_a_stop_comes_ends_at_zero() {
    for answer in [
        Ok(Applied::default()),
        Err(fault(ReasonCode::DeviceTimeout)),
    ] {
        let mut bench = active();
        bench.obliging = false;
        let order = bench.leased(1, 8.0, 600);
        bench.setpoint(order);
        bench.store(true);
        bench.limit(stop(1));
        bench.answer(answer);
        bench.obliging = true;
        bench.answer(Ok(Applied::default()));
        bench.pass_in_session(1_000.0);
        bench.stays_at_zero();
        let steps = bench.steps();
        assert_eq!(steps.last(), Some(&(1, Released, STOPPED)), "{steps:?}");
    }
}

#[test]
fn no_failsafe_moves_a_stopped_asset_whatever_its_policy() {
    for policy in [
        FailsafePolicy::Default,
        FailsafePolicy::Hold,
        FailsafePolicy::Value(Power::from_mw(9.0)),
    ] {
        let mut asset = asset(1);
        asset.failsafe = Failsafe {
            policy,
            after_s: 90,
            min_hold_s: 0,
        };
        let mut bench = Bench::new(vec![asset]);
        bench.connect();
        let mut bench = stopped(bench);
        bench.cut();
        bench.pass(1_000.0);
        bench.connect();
        bench.stays_at_zero();
    }
}

#[test]
fn a_stopped_asset_that_the_headend_does_not_grant_any_more_stays_at_zero() {
    let mut bench = stopped(active());
    bench.cut();
    bench.revoked = vec![asset_id(1)];
    bench.connect();
    bench.pass_in_session(1_000.0);
    bench.stays_at_zero();
    // Who does not serve it can't end its stop either.
    bench.limit(limits(2, vec![]));
    bench.pass_in_session(1_000.0);
    bench.stays_at_zero();
}
