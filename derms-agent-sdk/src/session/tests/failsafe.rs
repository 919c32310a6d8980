use SetpointPhase::Failed;
use derms_proto::{ControlSource, Failsafe, FailsafePolicy};

use super::*;

fn with_policy(policy: FailsafePolicy) -> Bench {
    let mut asset = asset(1);
    asset.failsafe = Failsafe {
        policy,
        after_s: 90,
        min_hold_s: 0,
    };
    let mut bench = Bench::new(vec![asset]);
    bench.connect();
    bench.told();
    bench
}

/// Cuts the link and keeps every attempt from succeeding.
fn lose_link(bench: &mut Bench) {
    bench.cut();
    bench.session.link.state = State::Backoff {
        until: MonoTime::from_origin(Duration::MAX),
    };
}

fn restore_link(bench: &mut Bench) {
    let until = MonoTime::from_origin(bench.now);
    bench.session.link.state = State::Backoff { until };
    bench.connect();
}

#[test]
fn an_order_without_a_lease_falls_to_the_failsafe_and_is_reported_as_failed() {
    for (policy, told, source) in [
        (FailsafePolicy::Default, None, ControlSource::Failsafe),
        (
            FailsafePolicy::Value(Power::from_mw(-3.0)),
            Some(-3.0),
            ControlSource::Failsafe,
        ),
    ] {
        let mut bench = with_policy(policy);
        let order = bench.order(1, 5.0);
        bench.setpoint(order);
        bench.steps();
        bench.told();
        lose_link(&mut bench);
        bench.pass(89.0);
        assert_eq!(bench.told(), [], "{policy:?}: too early");
        bench.pass(2.0);
        assert_eq!(bench.told(), [told], "{policy:?}");
        assert_eq!(bench.steps(), [(1, Failed, Some(ReasonCode::Failsafe))]);
        assert_eq!(bench.source(), source);
        assert!(bench.has_event(|event| matches!(event, AgentEvent::FailsafeEntered { .. })));
        let alarm = bench.session.reports.batch(1, 256, 1 << 20).unwrap().0;
        assert!(alarm.entries.into_iter().flatten().any(|entry| matches!(
            entry.report,
            derms_proto::link::Report::Event(event) if event.code == "failsafe_entered"
        )));
    }
}

#[test]
fn with_hold_the_order_stays_in_force() {
    let mut bench = with_policy(FailsafePolicy::Hold);
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    lose_link(&mut bench);
    bench.pass(200.0);
    assert_eq!((bench.steps(), bench.told()), (vec![], vec![]));
    assert!(bench.has_event(|event| matches!(event, AgentEvent::FailsafeEntered { .. })));
    assert_eq!(bench.source(), ControlSource::Setpoint);
}

#[test]
fn a_lost_link_does_not_end_an_order_with_a_lease() {
    let mut bench = with_policy(FailsafePolicy::Value(Power::from_mw(-3.0)));
    let order = bench.leased(1, 5.0, 300);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    lose_link(&mut bench);
    bench.pass(299.0);
    assert_eq!((bench.steps(), bench.told()), (vec![], vec![]));
    bench.pass(2.0);
    assert_eq!(bench.steps()[0], (1, SetpointPhase::Completed, None));
    assert_eq!(
        *bench.told().last().unwrap(),
        Some(-3.0),
        "then the failsafe has its turn"
    );
}

#[test]
fn nothing_trips_at_the_start_before_the_link_had_its_chance() {
    let mut asset = asset(1);
    asset.failsafe = Failsafe {
        policy: FailsafePolicy::Value(Power::from_mw(-3.0)),
        after_s: 90,
        min_hold_s: 0,
    };
    let mut bench = Bench::new(vec![asset]);
    lose_link(&mut bench);
    assert_eq!(bench.told(), [None]);
    bench.pass(89.0);
    assert_eq!(bench.told(), []);
    bench.pass(2.0);
    assert_eq!(bench.told(), [Some(-3.0)]);
}

#[test]
fn any_message_of_a_granted_session_keeps_it_away() {
    let mut bench = with_policy(FailsafePolicy::Default);
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.told();
    bench.pass_in_session(600.0);
    assert_eq!(bench.told(), []);
    lose_link(&mut bench);
    bench.pass(60.0);
    restore_link(&mut bench);
    bench.pass(40.0);
    assert_eq!(bench.told(), [], "the time counts from the last word");
}

#[test]
fn a_session_that_does_not_grant_the_asset_does_not_keep_it_away() {
    let mut bench = with_policy(FailsafePolicy::Default);
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.told();
    bench.cut();
    bench.revoked.push(asset_id(1));
    bench.connect();
    bench.pass_in_session(100.0);
    assert_eq!(bench.told(), [None]);
}

#[test]
fn a_fresh_order_ends_it_and_a_heartbeat_alone_does_not() {
    let mut bench = with_policy(FailsafePolicy::Value(Power::from_mw(-3.0)));
    let order = bench.order(1, 5.0);
    bench.setpoint(order.clone());
    lose_link(&mut bench);
    bench.pass(100.0);
    bench.told();
    bench.steps();
    restore_link(&mut bench);
    bench.pass_in_session(100.0);
    bench.receive(HeadendMessage::Ping { nonce: 1 });
    bench.setpoint(SetpointOrder {
        epoch: bench.epoch,
        ..order
    });
    assert_eq!(bench.told(), [], "neither life nor the old order");
    assert_eq!(bench.source(), ControlSource::Failsafe);
    let monotonic = bench.now;
    bench.session.live.as_mut().unwrap().stamp(monotonic);
    let server_time = bench.server_now();
    bench.receive(HeadendMessage::HeartbeatAck {
        monotonic,
        server_time,
    });
    let fresh = bench.order(2, 4.0);
    bench.setpoint(fresh);
    assert_eq!(bench.told(), [Some(4.0)]);
    assert_eq!(bench.source(), ControlSource::Setpoint);
    assert!(bench.has_event(|event| matches!(event, AgentEvent::FailsafeLeft { .. })));
}

#[test]
fn an_idle_asset_at_its_default_has_nothing_to_do_in_the_default_failsafe() {
    let mut bench = with_policy(FailsafePolicy::Default);
    lose_link(&mut bench);
    bench.pass(1_000.0);
    assert_eq!(bench.told(), []);
    assert_eq!(bench.source(), ControlSource::Default);
}

#[test]
fn an_agent_that_stops_leaves_the_device_at_its_default_and_not_in_the_failsafe() {
    let mut bench = with_policy(FailsafePolicy::Value(Power::from_mw(-3.0)));
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    lose_link(&mut bench);
    bench.pass(88.0);
    bench.told();
    bench.obliging = false;
    bench.feed(Input::Shutdown);
    bench.pass(3.0);
    assert_eq!(
        bench.answer(Ok(Applied::default())),
        Command::Default(Power::from_mw(1.0))
    );
    assert_eq!(bench.told(), []);
    assert!(bench.stopped);
}

#[test]
fn a_standby_does_not_touch_a_device_that_another_agent_serves() {
    let mut bench = with_policy(FailsafePolicy::Value(Power::from_mw(-3.0)));
    let mut grant = |status| {
        let grant = Grant {
            asset_id: asset_id(1),
            status,
            last_revision: 0,
            text: None,
        };
        bench.receive(HeadendMessage::Grants {
            epoch: 1,
            grants: vec![grant],
        });
        bench.pass_in_session(200.0);
        bench.told()
    };
    assert_eq!(grant(GrantStatus::ServedElsewhere), []);
    assert_eq!(
        grant(GrantStatus::Forbidden),
        [Some(-3.0)],
        "nobody is known to serve it"
    );
}

#[test]
fn a_release_of_what_has_ended_and_an_order_that_is_refused_do_not_leave_it() {
    let mut bench = with_policy(FailsafePolicy::Value(Power::from_mw(-3.0)));
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    lose_link(&mut bench);
    bench.pass(95.0);
    restore_link(&mut bench);
    bench.told();
    bench.release(2, 1);
    bench.pass_in_session(5.0);
    assert_eq!(bench.told(), [], "it stays where it is");
    assert_eq!(bench.source(), ControlSource::Failsafe);
    bench.obliging = false;
    let order = bench.order(3, 5.0);
    bench.setpoint(order);
    bench.store(true);
    bench.answer(Err(fault(ReasonCode::Unsupported)));
    bench.obliging = true;
    bench.pass_in_session(5.0);
    match bench.answer(Ok(Applied::default())) {
        Command::Apply(setpoint) => assert_eq!(setpoint.power, Power::from_mw(-3.0)),
        command @ Command::Default(_) => panic!("{command:?}"),
    }
    assert_eq!(bench.source(), ControlSource::Failsafe);
}
