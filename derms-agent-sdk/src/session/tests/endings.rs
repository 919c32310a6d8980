use SetpointPhase::{Completed, Failed, Rejected, Released, Superseded};
use derms_proto::ControlSource;

use super::*;

const CANCELLED: Option<ReasonCode> = Some(ReasonCode::CancelledByOperator);

#[test]
fn at_the_end_of_a_lease_the_device_is_told_what_follows_and_then_it_is_completed() {
    let hold = FollowUp::Hold;
    let value = FollowUp::Value(Power::from_mw(-2.0));
    for (then, told, source) in [
        (FollowUp::Default, vec![None], ControlSource::Default),
        (value, vec![Some(-2.0)], ControlSource::FollowUp),
        (hold, vec![], ControlSource::FollowUp),
    ] {
        let mut bench = Bench::active();
        let order = SetpointOrder {
            then,
            ..bench.leased(1, 5.0, 20)
        };
        bench.setpoint(order);
        bench.steps();
        bench.told();
        bench.pass(19.9);
        assert_eq!(
            (bench.steps(), bench.told()),
            (vec![], vec![]),
            "{then:?}: too early"
        );
        bench.pass(0.2);
        assert_eq!(bench.steps(), [(1, Completed, None)], "{then:?}");
        assert_eq!(bench.told(), told, "{then:?}");
        assert_eq!(bench.source(), source);
    }
}

#[test]
fn a_lease_counts_from_the_yes_of_the_device() {
    let mut bench = Bench::active();
    bench.told();
    bench.obliging = false;
    let order = bench.leased(1, 5.0, 20);
    bench.setpoint(order);
    bench.store(true);
    bench.pass(9.0);
    bench.answer(Ok(Applied::default()));
    bench.pass(19.9);
    assert_eq!(bench.told(), []);
    bench.pass(0.2);
    assert_eq!(bench.told(), [None]);
}

#[test]
fn a_reconnect_in_the_middle_neither_shortens_nor_lengthens_a_lease() {
    let mut bench = Bench::active();
    let order = bench.leased(1, 5.0, 20);
    bench.setpoint(order.clone());
    bench.told();
    bench.pass(10.0);
    bench.cut();
    let register = bench.connect();
    let state = register.assets[0].as_ref().unwrap();
    let remaining = state.control.remaining.unwrap().as_secs_f64();
    let elapsed = bench.now.as_secs_f64() - 1_000.0;
    assert!(
        (remaining - (20.0 - elapsed)).abs() < 0.01,
        "{remaining} s left after {elapsed} s"
    );
    let again = SetpointOrder {
        epoch: bench.epoch,
        ..order
    };
    bench.setpoint(again);
    bench.pass(19.9 - elapsed);
    assert_eq!(bench.told(), []);
    bench.pass(0.2);
    assert_eq!(bench.told(), [None]);
}

#[test]
fn a_lease_that_ended_while_the_machine_slept_is_ended_on_waking() {
    let mut bench = Bench::active();
    let order = bench.leased(1, 5.0, 20);
    bench.setpoint(order);
    bench.told();
    bench.now += Duration::from_secs(8 * 3_600);
    bench.feed(Input::Tick);
    assert_eq!(bench.told(), [None]);
    assert_eq!(bench.source(), ControlSource::Default);
}

#[test]
fn an_ended_limit_does_not_come_back_by_itself() {
    let mut bench = Bench::active();
    let order = bench.leased(1, 5.0, 20);
    bench.setpoint(order.clone());
    bench.pass(21.0);
    bench.told();
    bench.ack(LogKind::Report, 3, false);
    bench.steps();
    bench.cut();
    bench.connect();
    bench.setpoint(SetpointOrder {
        epoch: bench.epoch,
        ..order
    });
    bench.pass_in_session(60.0);
    assert_eq!(bench.told(), []);
    assert_eq!(
        bench.steps(),
        [(1, Completed, None)],
        "only its outcome is told again"
    );
}

#[test]
fn completed_is_said_when_the_device_obeyed_and_the_device_is_told_until_it_does() {
    let mut bench = Bench::active();
    let order = bench.leased(1, 5.0, 20);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.obliging = false;
    bench.pass(20.0);
    for wait in [1.0, 2.0, 4.0] {
        let command = bench.answer(Err(fault(ReasonCode::DeviceTimeout)));
        assert_eq!(command, Command::Default(Power::from_mw(1.0)));
        assert_eq!(bench.steps(), []);
        bench.pass(wait - 0.1);
        assert_eq!(bench.commands.len(), 0);
        bench.pass(0.2);
    }
    assert!(bench.has_event(|event| matches!(event, AgentEvent::DeviceStuck { .. })));
    bench.answer(Ok(Applied::default()));
    assert_eq!(bench.steps(), [(1, Completed, None)]);
    assert!(bench.has_event(|event| matches!(event, AgentEvent::DeviceRecovered { .. })));
}

#[test]
fn a_device_that_refuses_what_follows_goes_to_its_default() {
    let mut bench = Bench::active();
    let value = FollowUp::Value(Power::from_mw(3.0));
    let order = SetpointOrder {
        then: value,
        ..bench.leased(1, 5.0, 20)
    };
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.obliging = false;
    bench.pass(20.0);
    bench.answer(Err(fault(ReasonCode::Unsupported)));
    assert_eq!(
        bench.answer(Ok(Applied::default())),
        Command::Default(Power::from_mw(1.0))
    );
    assert_eq!(
        bench.steps(),
        [(1, Completed, Some(ReasonCode::Unsupported))]
    );
}

#[test]
fn a_failed_apply_ends_the_order_and_sends_the_device_to_its_default() {
    for (reason, phase) in [
        (ReasonCode::DeviceError, Failed),
        (ReasonCode::DeviceTimeout, Failed),
        (ReasonCode::DeviceUnavailable, Rejected),
        (ReasonCode::Unsupported, Rejected),
    ] {
        let mut bench = Bench::active();
        bench.told();
        bench.obliging = false;
        let order = bench.order(1, 5.0);
        bench.setpoint(order);
        bench.store(true);
        bench.steps();
        bench.answer(Err(fault(reason)));
        assert_eq!(bench.steps(), [(1, phase, Some(reason))]);
        assert_eq!(bench.told(), [None]);
    }
}

#[test]
fn a_release_is_written_to_the_device_before_it_is_reported() {
    let mut bench = Bench::active();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.obliging = false;
    bench.release(2, 1);
    assert_eq!(bench.told(), [], "not before it is written down");
    bench.store(true);
    assert_eq!(bench.steps(), [], "the device has not answered");
    assert_eq!(
        bench.answer(Ok(Applied::default())),
        Command::Default(Power::from_mw(1.0))
    );
    assert_eq!(bench.steps(), [(1, Released, CANCELLED)]);
    bench.ack(LogKind::Report, 3, false);
    bench.release(2, 1);
    assert_eq!(
        bench.steps(),
        [(1, Released, CANCELLED)],
        "the outcome, once more"
    );
    assert_eq!(bench.told(), [], "and no second write");
}

#[test]
fn a_release_before_the_start_means_that_it_never_starts() {
    let mut bench = Bench::active();
    bench.told();
    bench.obliging = false;
    let order = bench.order(1, 5.0);
    bench.setpoint(order.clone());
    bench.release(2, 1);
    bench.store(true);
    bench.store(true);
    assert_eq!(bench.steps(), [(1, Released, CANCELLED)]);
    assert_eq!(
        bench.answer(Ok(Applied::default())),
        Command::Default(Power::from_mw(1.0))
    );
    bench.ack(LogKind::Report, 1, false);
    bench.setpoint(order);
    assert_eq!(bench.steps(), [(1, Released, CANCELLED)]);
    assert_eq!(bench.told(), []);
}

#[test]
fn a_release_while_the_device_is_busy_with_the_order_ends_it_after_the_answer() {
    let mut bench = Bench::active();
    bench.told();
    bench.obliging = false;
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.store(true);
    bench.release(2, 1);
    bench.store(true);
    assert_eq!(bench.commands.len(), 1, "one command at a time");
    bench.steps();
    bench.answer(Ok(Applied::default()));
    assert_eq!(
        bench.answer(Ok(Applied::default())),
        Command::Default(Power::from_mw(1.0))
    );
    assert_eq!(bench.steps(), [(1, Released, CANCELLED)]);
    assert_eq!(bench.source(), ControlSource::Default);
}

#[test]
fn a_release_needs_no_clock_and_no_grant() {
    let mut bench = Bench::active();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.pass_in_session(100.0);
    bench.steps();
    bench.told();
    bench.release(2, 1);
    assert_eq!(bench.steps(), [(1, Released, CANCELLED)]);
    assert_eq!(bench.told(), [None]);
}

#[test]
fn a_release_that_is_older_than_the_order_in_force_does_nothing() {
    let mut bench = Bench::active();
    let order = bench.order(5, 5.0);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.release(4, 3);
    assert_eq!(
        bench.steps(),
        [(4, Superseded, Some(ReasonCode::StaleRevision))]
    );
    assert_eq!(bench.told(), []);
}

#[test]
fn what_can_not_be_stored_is_not_started_but_a_release_is_obeyed() {
    let mut bench = Bench::active();
    bench.told();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.obliging = false;
    let order = bench.order(2, 6.0);
    bench.setpoint(order);
    bench.store(false);
    assert_eq!(
        bench.steps(),
        [(2, Rejected, Some(ReasonCode::StorageFailed))]
    );
    assert_eq!(bench.told(), []);
    bench.release(3, 1);
    bench.store(false);
    assert_eq!(
        bench.answer(Ok(Applied::default())),
        Command::Default(Power::from_mw(1.0))
    );
}
