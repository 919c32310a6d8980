use derms_proto::link::Close;

use super::*;

#[test]
fn register_says_who_the_agent_is_what_it_serves_and_what_it_is_doing() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.read(2.0);
    let register = bench.connect();
    assert_eq!((register.last_epoch, register.durable), (0, false));
    assert_eq!(
        (register.logs[0].first_seq, register.logs[0].next_seq),
        (1, 2)
    );
    assert_eq!(
        (register.logs[1].first_seq, register.logs[1].next_seq),
        (1, 1)
    );
    let order = bench.leased(4, 5.0, 60);
    bench.setpoint(order);
    bench.cut();
    let register = bench.connect();
    assert_eq!(register.last_epoch, 1);
    let state = register.assets[0].as_ref().unwrap();
    assert_eq!(state.last_revision, 4);
    assert_eq!(state.control.dispatch_id, Some(dispatch(4)));
    assert_eq!(state.rating.max, Power::from_mw(10.0));
    assert_eq!(register.assets[1].as_ref().unwrap().last_revision, 0);
}

#[test]
fn a_headend_that_does_not_answer_register_is_left_after_fifteen_seconds() {
    let mut bench = Bench::new(vec![asset(1)]);
    bench.dial();
    bench.pass(14.9);
    assert_eq!(bench.disconnects, 0);
    bench.pass(0.2);
    assert_eq!((bench.disconnects, bench.connects), (1, 1));
    bench.pass(1.0);
    assert_eq!(bench.connects, 2);
}

#[test]
fn a_session_in_which_nothing_is_read_is_given_up_after_the_liveness_timeout() {
    let mut bench = Bench::active();
    bench.pass(44.9);
    assert_eq!(bench.disconnects, 0);
    bench.receive(HeadendMessage::Unknown);
    bench.pass(44.9);
    assert_eq!(bench.disconnects, 0, "any message counts as life");
    bench.pass(0.2);
    assert_eq!(bench.closed_with(), Some(CloseReason::LivenessTimeout));
}

#[test]
fn the_first_message_must_be_registered_and_it_must_not_come_twice() {
    let mut bench = Bench::new(vec![asset(1)]);
    bench.dial();
    bench.receive(HeadendMessage::Ping { nonce: 1 });
    assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
    let mut bench = Bench::active();
    bench.answer_register();
    assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
}

#[test]
fn unknown_messages_are_ignored_in_every_state() {
    let mut bench = Bench::new(vec![asset(1)]);
    bench.receive(HeadendMessage::Unknown);
    bench.dial();
    bench.receive(HeadendMessage::Unknown);
    bench.answer_register();
    bench.receive(HeadendMessage::Unknown);
    assert_eq!(bench.disconnects, 0);
}

#[test]
fn what_can_not_be_read_ends_the_session_and_three_in_a_row_halt_the_agent() {
    let mut bench = Bench::new(vec![asset(1)]);
    for _ in 0..3 {
        bench.connect();
        assert!(!bench.has_event(|event| matches!(event, AgentEvent::Halted { .. })));
        bench.feed(Input::Malformed(WireError {
            message: "Release",
            field: "revision",
            problem: "is 0".into(),
        }));
        assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
    }
    assert!(bench.has_event(|event| matches!(event, AgentEvent::Halted { .. })));
    let connects = bench.connects;
    bench.pass(299.0);
    assert_eq!(bench.connects, connects);
    bench.pass(3_301.0);
    assert!(bench.connects > connects, "it tries again");
}

#[test]
fn after_a_close_the_stream_is_left_and_late_events_of_it_change_nothing() {
    let mut bench = Bench::active();
    bench.receive(HeadendMessage::Close(Close::new(
        CloseReason::TakenOver,
        "newer",
    )));
    assert_eq!(bench.disconnects, 1);
    bench.cut();
    bench.receive(HeadendMessage::Ping { nonce: 1 });
    assert_eq!(bench.disconnects, 1);
    assert!(matches!(bench.session.link.state, State::Backoff { .. }));
}

#[test]
fn normal_from_the_headend_stops_the_agent_and_brings_devices_to_their_defaults() {
    let mut bench = Bench::active();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.told();
    bench.steps();
    bench.receive(HeadendMessage::Close(Close::new(
        CloseReason::Normal,
        "decommissioned",
    )));
    assert!(bench.stopped);
    assert_eq!(bench.told(), [None]);
    bench.pass(10_000.0);
    assert_eq!(bench.connects, 1);
}

#[test]
fn a_duplicate_identity_is_an_alarm() {
    let mut bench = Bench::active();
    let close = Close::new(CloseReason::DuplicateInstance, "two");
    bench.receive(HeadendMessage::Close(close));
    assert!(bench.has_event(|event| matches!(event, AgentEvent::DuplicateIdentity { .. })));
    bench.pass(299.0);
    assert_eq!(bench.connects, 1);
}

#[test]
fn a_ping_is_answered_and_a_resync_with_the_state_of_every_asset() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.connect();
    bench.sent.clear();
    bench.receive(HeadendMessage::Ping { nonce: 77 });
    assert_eq!(
        bench.sent.pop_front(),
        Some(AgentMessage::Pong { nonce: 77 })
    );
    bench.receive(HeadendMessage::Resync { epoch: 1 });
    match bench.sent.pop_front() {
        Some(AgentMessage::AssetUpdate(update)) => {
            assert_eq!((update.epoch, update.upserted.len()), (1, 2));
        }
        other => panic!("{other:?}"),
    }
    bench.receive(HeadendMessage::Resync { epoch: 2 });
    assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
}

#[test]
fn heartbeats_come_at_their_interval_and_claim_again_what_another_agent_served() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.connect();
    bench.receive(HeadendMessage::Grants {
        epoch: 1,
        grants: vec![Grant {
            asset_id: asset_id(2),
            status: GrantStatus::ServedElsewhere,
            last_revision: 0,
            text: None,
        }],
    });
    bench.sent.clear();
    bench.pass_in_session(91.0);
    let sent = |wanted: fn(&AgentMessage) -> bool| bench.sent.iter().filter(|m| wanted(m)).count();
    assert_eq!(sent(|m| matches!(m, AgentMessage::Heartbeat(_))), 3);
    let claims = sent(|m| {
        matches!(m, AgentMessage::AssetUpdate(update)
            if update.upserted.len() == 1
                && update.upserted[0].as_ref().unwrap().asset_id == asset_id(2))
    });
    assert_eq!(claims, 3);
}

#[test]
fn only_the_answer_to_a_heartbeat_of_this_session_is_a_clock_exchange() {
    let mut bench = Bench::active();
    bench.pass_in_session(95.0);
    assert!(
        !bench
            .session
            .clock
            .is_sure(MonoTime::from_origin(bench.now))
    );
    let server_time = bench.server_now();
    let stranger = bench.now - Duration::from_millis(10);
    bench.receive(HeadendMessage::HeartbeatAck {
        monotonic: stranger,
        server_time,
    });
    assert!(
        !bench
            .session
            .clock
            .is_sure(MonoTime::from_origin(bench.now))
    );
    let stamp = *bench.session.live.as_ref().unwrap().stamps.back().unwrap();
    bench.receive(HeadendMessage::HeartbeatAck {
        monotonic: stamp,
        server_time,
    });
    assert!(
        bench
            .session
            .clock
            .is_sure(MonoTime::from_origin(bench.now))
    );
}

#[test]
fn a_headend_can_not_drive_the_agent_into_a_tight_loop() {
    let mut bench = Bench::new(vec![asset(1)]);
    bench.dial();
    bench.epoch = 1;
    let registered = Registered {
        telemetry_interval: Duration::ZERO,
        heartbeat_interval: Duration::ZERO,
        liveness_timeout: Duration::MAX,
        limits: Limits {
            max_message_bytes: 0,
            max_assets: 0,
            max_batch_samples: 0,
            max_unacked_batches: 0,
            backfill_spread: Duration::MAX,
            backfill_batches_per_s: 0,
        },
        ..bench.registered(1)
    };
    bench.receive(HeadendMessage::Registered(registered));
    bench.read(1.0);
    assert_eq!(bench.seqs(), [1], "it still works");
    bench.sent.clear();
    bench.pass(10.0);
    assert!(
        bench.sent.len() <= 11,
        "{} messages in 10 s",
        bench.sent.len()
    );
}

#[test]
fn an_epoch_that_went_back_is_told_and_served() {
    let mut bench = Bench::active();
    bench.cut();
    bench.dial();
    bench.epoch = 0;
    bench.answer_register();
    assert!(bench.has_event(|e| matches!(e, AgentEvent::EpochWentBack { last: 1, epoch: 1 })));
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    assert_eq!(bench.steps().len(), 2);
}

#[test]
fn a_heartbeat_says_how_long_the_agent_has_been_up() {
    let mut bench = Bench::new(vec![asset(1)]);
    bench.pass(100.0);
    bench.connect();
    bench.sent.clear();
    let before = bench.now;
    bench.pass_in_session(61.0);
    let uptimes: Vec<_> = bench
        .sent
        .iter()
        .filter_map(|message| match message {
            AgentMessage::Heartbeat(heartbeat) => heartbeat.uptime,
            _ => None,
        })
        .collect();
    let start = Duration::from_secs(1_000);
    let expected = [30, 60].map(|after| before + Duration::from_secs(after) - start);
    assert_eq!(uptimes, expected);
}

#[test]
fn heartbeats_come_often_enough_to_keep_the_clock_sure() {
    let mut bench = Bench::new(vec![asset(1)]);
    bench.dial();
    bench.epoch = 1;
    let registered = Registered {
        heartbeat_interval: Duration::from_secs(3_600),
        liveness_timeout: Duration::from_secs(3_600),
        ..bench.registered(1)
    };
    bench.receive(HeadendMessage::Registered(registered));
    bench.sent.clear();
    bench.pass(89.0);
    let beats = bench.sent.iter();
    assert!(
        beats
            .filter(|m| matches!(m, AgentMessage::Heartbeat(_)))
            .count()
            >= 1
    );
}

#[test]
fn a_link_that_ends_while_the_agent_stops_promises_no_other() {
    let mut bench = Bench::active();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.obliging = false;
    bench.feed(Input::Shutdown);
    bench.cut();
    assert!(
        bench.has_event(|event| matches!(event, AgentEvent::Disconnected { retry_in: None, .. }))
    );
}
