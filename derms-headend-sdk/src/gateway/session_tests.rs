use derms_proto::link::{
    AgentHeartbeat, Gap, GapReason, LogHead, Register, SetpointPhase, SetpointReport, Software,
};
use derms_proto::{AgentId, AssetId, DispatchId, InstanceId, Measurements, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const EPOCH: u64 = 5;

fn rules() -> Rules {
    Rules {
        register_timeout: Duration::from_secs(10),
        liveness_timeout: Duration::from_secs(45),
        ping_timeout: Duration::from_secs(5),
        limits: Limits::default(),
    }
}

fn log(kind: LogKind) -> LogId {
    LogId::new(Uuid::from_u128(if kind == LogKind::Telemetry {
        1
    } else {
        2
    }))
}

fn head(kind: LogKind) -> LogHead {
    LogHead {
        kind,
        log_id: log(kind),
        first_seq: 1,
        next_seq: 1,
    }
}

fn register() -> Register {
    Register {
        agent_id: AgentId::new(Uuid::from_u128(3)),
        instance_id: InstanceId::new(Uuid::from_u128(4)),
        protocol_minor: 0,
        capabilities: Vec::new(),
        software: Software::default(),
        last_epoch: 0,
        logs: vec![head(LogKind::Telemetry), head(LogKind::Report)],
        assets: Vec::new(),
        durable: false,
        agent_time: None,
    }
}

fn sample(n: u64) -> Sample {
    Sample {
        asset_id: AssetId::new(Uuid::from_u128(7)),
        measured_at: Timestamp::from_unix_micros(n as i64),
        measurements: Measurements::default(),
    }
}

fn batch(first_seq: u64, count: u64) -> AgentMessage {
    with_gaps(first_seq, count, &[])
}

fn with_gaps(first_seq: u64, count: u64, gaps: &[(u64, u64)]) -> AgentMessage {
    AgentMessage::Telemetry(TelemetryBatch {
        log_id: log(LogKind::Telemetry),
        first_seq,
        samples: (first_seq..first_seq + count)
            .map(|n| Ok(sample(n)))
            .collect(),
        gaps: gaps
            .iter()
            .map(|(first_seq, last_seq)| Gap {
                first_seq: *first_seq,
                last_seq: *last_seq,
                reason: GapReason::OutboxFull,
            })
            .collect(),
    })
}

fn heartbeat(epoch: u64) -> AgentMessage {
    AgentMessage::Heartbeat(AgentHeartbeat {
        agent_time: None,
        monotonic: Duration::from_secs(1),
        epoch,
        outbox_depth: 0,
        dropped_samples: 0,
        assets: Vec::new(),
        uptime: None,
    })
}

fn drain(session: &mut StreamSession) -> Vec<Action> {
    std::iter::from_fn(|| session.poll_action()).collect()
}

fn closed(session: &mut StreamSession) -> Option<CloseReason> {
    drain(session).into_iter().find_map(|action| match action {
        Action::Close(close) => Some(close.reason),
        _ => None,
    })
}

fn opened() -> (StreamSession, Instant) {
    let now = Instant::now();
    (StreamSession::new(rules(), now), now)
}

fn active() -> (StreamSession, Instant) {
    let (mut session, now) = opened();
    session.received(Ok(AgentMessage::Register(register())), now);
    assert!(matches!(drain(&mut session)[..], [Action::Claim(_)]));
    session.claimed(EPOCH, &register().logs, &[], now);
    (session, now)
}

/// Numbers handed to the store, in order, with what the log continues at.
fn accepted(session: &mut StreamSession) -> Vec<(Vec<u64>, u64)> {
    drain(session)
        .into_iter()
        .filter_map(|action| match action {
            Action::Telemetry(accepted) => {
                let numbers = accepted.items.iter().map(|(seq, _)| *seq).collect();
                Some((numbers, accepted.next_seq))
            }
            Action::Close(close) => panic!("closed: {close:?}"),
            _ => None,
        })
        .collect()
}

fn acks(session: &mut StreamSession) -> Vec<(u64, bool)> {
    drain(session)
        .into_iter()
        .filter_map(|action| match action {
            Action::Send(HeadendMessage::LogAck(ack)) => Some((ack.up_to_seq, ack.rewind)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_stream_without_register_is_closed_after_ten_seconds() {
    let (mut session, now) = opened();
    session.tick(now + Duration::from_millis(9_999));
    assert_eq!(closed(&mut session), None);
    session.tick(now + Duration::from_secs(10));
    assert_eq!(closed(&mut session), Some(CloseReason::RegisterTimeout));
    assert_eq!(session.deadline(), None);
}

#[test]
fn what_breaks_the_order_of_messages_ends_the_session() {
    let (mut session, now) = opened();
    session.received(Ok(batch(1, 1)), now);
    assert_eq!(
        closed(&mut session),
        Some(CloseReason::ProtocolError),
        "telemetry first"
    );

    let (mut session, now) = active();
    session.received(Ok(AgentMessage::Register(register())), now);
    assert_eq!(
        closed(&mut session),
        Some(CloseReason::ProtocolError),
        "register twice"
    );

    let (mut session, now) = opened();
    session.received(Ok(AgentMessage::Register(register())), now);
    session.received(Ok(batch(1, 1)), now);
    assert_eq!(
        closed(&mut session),
        Some(CloseReason::ProtocolError),
        "before Registered"
    );

    for epoch in [0, EPOCH - 1, EPOCH + 1] {
        let (mut session, now) = active();
        session.received(Ok(heartbeat(epoch)), now);
        assert_eq!(
            closed(&mut session),
            Some(CloseReason::ProtocolError),
            "epoch {epoch}"
        );
    }
    let (mut session, now) = active();
    session.received(Ok(heartbeat(EPOCH)), now);
    assert!(matches!(drain(&mut session)[..], [Action::Heartbeat(_)]));
}

#[test]
fn a_message_that_cannot_be_read_ends_the_session_and_an_unknown_one_does_not() {
    let (mut session, now) = active();
    session.received(Ok(AgentMessage::Unknown), now);
    assert!(drain(&mut session).is_empty());
    let error = WireError {
        message: "Telemetry",
        field: "log_id",
        problem: "no UUID".into(),
    };
    session.received(Err(error), now);
    assert_eq!(closed(&mut session), Some(CloseReason::ProtocolError));
    session.received(Ok(batch(1, 1)), now);
    assert!(
        drain(&mut session).is_empty(),
        "a closed session does nothing more"
    );
}

#[test]
fn silence_for_the_liveness_limit_ends_the_session_and_any_message_is_life() {
    let (mut session, now) = active();
    let almost = now + Duration::from_secs(44);
    session.received(Ok(AgentMessage::Unknown), almost);
    session.tick(almost + Duration::from_secs(44));
    assert_eq!(closed(&mut session), None);
    session.tick(almost + Duration::from_secs(45));
    assert_eq!(closed(&mut session), Some(CloseReason::LivenessTimeout));
}

#[test]
fn a_ping_without_its_pong_ends_the_session() {
    let (mut session, now) = active();
    session.probe(now);
    session.probe(now);
    assert_eq!(
        drain(&mut session),
        [Action::Send(HeadendMessage::Ping { nonce: 1 })]
    );
    session.received(Ok(AgentMessage::Pong { nonce: 99 }), now);
    assert!(drain(&mut session).is_empty(), "another nonce is no answer");
    session.received(Ok(AgentMessage::Pong { nonce: 1 }), now);
    assert_eq!(drain(&mut session), [Action::Answered]);
    session.tick(now + Duration::from_secs(6));
    assert_eq!(closed(&mut session), None);

    session.probe(now + Duration::from_secs(6));
    drain(&mut session);
    session.received(Ok(heartbeat(EPOCH)), now + Duration::from_secs(7));
    session.tick(now + Duration::from_secs(11));
    assert_eq!(closed(&mut session), Some(CloseReason::LivenessTimeout));
}

#[test]
fn an_agent_that_says_goodbye_is_not_answered() {
    let (mut session, now) = active();
    let goodbye = Close::new(CloseReason::Normal, "stopping");
    session.received(Ok(AgentMessage::Close(goodbye.clone())), now);
    assert_eq!(drain(&mut session), [Action::Ended(goodbye)]);
    assert!(session.is_closed());
}

#[test]
fn too_many_assets_or_samples_end_the_session() {
    let (mut session, now) = opened();
    let mut many = register();
    let invalid = derms_proto::link::InvalidClaim {
        asset_id: String::new(),
        refusal: Refusal {
            field: "asset_id".into(),
            problem: "empty".into(),
        },
    };
    many.assets = vec![Err(invalid.clone()); 257];
    session.received(Ok(AgentMessage::Register(many)), now);
    assert_eq!(closed(&mut session), Some(CloseReason::Forbidden));

    let (mut session, now) = active();
    let update = AssetUpdate {
        epoch: EPOCH,
        upserted: vec![Err(invalid); 257],
        removed: Vec::new(),
    };
    session.received(Ok(AgentMessage::AssetUpdate(update)), now);
    assert_eq!(closed(&mut session), Some(CloseReason::Forbidden));

    let (mut session, now) = active();
    session.received(Ok(batch(1, 257)), now);
    assert_eq!(closed(&mut session), Some(CloseReason::ProtocolError));
}

#[test]
fn an_ack_goes_out_only_when_the_store_has_it() {
    let (mut session, now) = active();
    session.received(Ok(batch(1, 3)), now);
    assert!(acks(&mut session).is_empty());
    session.stored(LogKind::Telemetry, 3, 1, Vec::new());
    assert_eq!(acks(&mut session), [(3, false)]);
}

#[test]
fn what_was_acknowledged_elsewhere_makes_room_and_is_not_said_again() {
    let (mut session, now) = active();
    for n in 1..=12 {
        session.received(Ok(batch(n, 1)), now);
    }
    assert_eq!(accepted(&mut session).len(), 12);
    session.settled(LogKind::Telemetry, 12, 12);
    session.received(Ok(batch(13, 1)), now);
    assert_eq!(accepted(&mut session), [(vec![13], 14)]);
    session.not_kept(LogKind::Telemetry, now);
    session.tick(now + Duration::from_secs(1));
    assert_eq!(
        acks(&mut session),
        [(12, true)],
        "it goes on where the store is"
    );
}

#[test]
fn what_came_before_is_not_stored_again_but_acknowledged_again() {
    let (mut session, now) = active();
    session.received(Ok(batch(1, 4)), now);
    assert_eq!(accepted(&mut session), [(vec![1, 2, 3, 4], 5)]);
    session.received(Ok(batch(3, 4)), now);
    assert_eq!(accepted(&mut session), [(vec![5, 6], 7)]);
    session.stored(LogKind::Telemetry, 6, 2, Vec::new());
    drain(&mut session);
    session.received(Ok(batch(1, 2)), now);
    assert_eq!(accepted(&mut session), [(vec![], 7)]);
}

#[test]
fn a_hole_that_no_gap_declares_is_a_protocol_error() {
    let (mut session, now) = active();
    session.received(Ok(batch(3, 1)), now);
    assert_eq!(closed(&mut session), Some(CloseReason::ProtocolError));

    let (mut session, now) = active();
    session.received(Ok(with_gaps(3, 1, &[(1, 2)])), now);
    assert_eq!(accepted(&mut session), [(vec![3], 4)]);

    let (mut session, now) = active();
    session.received(Ok(with_gaps(4, 1, &[(1, 2)])), now);
    assert_eq!(
        closed(&mut session),
        Some(CloseReason::ProtocolError),
        "3 is in no gap"
    );

    let (mut session, now) = active();
    session.received(Ok(with_gaps(1, 0, &[(1, 9)])), now);
    assert_eq!(
        accepted(&mut session),
        [(vec![], 10)],
        "a gap alone moves the log on"
    );
}

#[test]
fn a_log_that_was_not_registered_is_a_protocol_error() {
    let (mut session, now) = active();
    let AgentMessage::Telemetry(mut other) = batch(1, 1) else {
        unreachable!()
    };
    other.log_id = log(LogKind::Report);
    session.received(Ok(AgentMessage::Telemetry(other)), now);
    assert_eq!(closed(&mut session), Some(CloseReason::ProtocolError));
}

#[test]
fn a_poison_sample_is_refused_by_number_and_does_not_block_the_log() {
    let (mut session, now) = active();
    let AgentMessage::Telemetry(mut poisoned) = batch(1, 3) else {
        unreachable!()
    };
    poisoned.samples[1] = Err(Refusal {
        field: "mw".into(),
        problem: "not finite".into(),
    });
    session.received(Ok(AgentMessage::Telemetry(poisoned)), now);
    let Some(Action::Telemetry(accepted)) = session.poll_action() else {
        panic!("nothing was accepted")
    };
    assert_eq!(
        accepted
            .items
            .iter()
            .map(|(seq, _)| *seq)
            .collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(accepted.refused[0].seq, 2);
    assert_eq!(accepted.next_seq, 4);
}

#[test]
fn nothing_behind_a_batch_that_was_not_kept_is_taken_until_the_agent_goes_back() {
    let (mut session, now) = active();
    session.received(Ok(batch(1, 2)), now);
    assert_eq!(accepted(&mut session).len(), 1);
    session.not_kept(LogKind::Telemetry, now);
    session.received(Ok(batch(3, 2)), now);
    assert!(
        accepted(&mut session).is_empty(),
        "3 and 4 would hide that 1 and 2 are lost"
    );

    session.tick(now + Duration::from_secs(1));
    assert_eq!(acks(&mut session), [(0, true)]);
    session.received(Ok(batch(5, 2)), now);
    assert!(
        accepted(&mut session).is_empty(),
        "on its way before the agent went back"
    );
    session.received(Ok(batch(1, 6)), now);
    assert_eq!(accepted(&mut session), [(vec![1, 2, 3, 4, 5, 6], 7)]);
}

#[test]
fn an_acknowledgement_that_found_no_room_is_said_again() {
    let (mut session, now) = active();
    session.received(Ok(batch(1, 3)), now);
    session.stored(LogKind::Telemetry, 3, 1, Vec::new());
    drain(&mut session);
    session.acknowledge_again();
    assert_eq!(acks(&mut session), [(3, false), (0, false)], "of both logs");
}

#[test]
fn samples_that_come_again_to_be_stored_are_seen_at_once() {
    let (mut session, now) = active();
    session.received(Ok(batch(1, 2)), now);
    drain(&mut session);
    session.not_kept(LogKind::Telemetry, now);
    session.received(Ok(batch(3, 2)), now);
    assert_eq!(
        drain(&mut session),
        [Action::Live(vec![sample(3), sample(4)])]
    );
}

#[test]
fn one_agent_has_at_most_twelve_batches_with_the_store() {
    let (mut session, now) = active();
    for n in 1..=13 {
        session.received(Ok(batch(n, 1)), now);
    }
    assert_eq!(accepted(&mut session).len(), 12);
    session.tick(now + Duration::from_secs(1));
    assert!(
        acks(&mut session).is_empty(),
        "what is with the store is not asked for again"
    );
    session.stored(LogKind::Telemetry, 12, 12, Vec::new());
    drain(&mut session);
    session.tick(now + Duration::from_secs(2));
    assert_eq!(acks(&mut session), [(12, true)]);
}

#[test]
fn logs_continue_where_the_store_says_or_else_where_the_agent_begins() {
    for (cursors, due) in [(vec![(log(LogKind::Telemetry), 8)], 8), (Vec::new(), 4)] {
        let (mut session, now) = opened();
        session.received(Ok(AgentMessage::Register(register())), now);
        drain(&mut session);
        let mut heads = register().logs;
        heads[0].first_seq = 4;
        session.claimed(EPOCH, &heads, &cursors, now);
        session.received(Ok(batch(4, 6)), now);
        assert_eq!(accepted(&mut session), [((due..10).collect(), 10)]);
    }
}

#[test]
fn reports_are_taken_in_order_as_well() {
    let (mut session, now) = active();
    let report = |first_seq| {
        AgentMessage::Report(ReportBatch {
            log_id: log(LogKind::Report),
            first_seq,
            entries: vec![Ok(ReportEntry {
                at: Timestamp::UNIX_EPOCH,
                asset_id: AssetId::new(Uuid::from_u128(7)),
                report: derms_proto::link::Report::Setpoint(SetpointReport {
                    dispatch_id: DispatchId::new(Uuid::from_u128(8)),
                    revision: 1,
                    phase: SetpointPhase::Received,
                    reason: None,
                    text: None,
                    applied: None,
                }),
            })],
        })
    };
    session.received(Ok(report(1)), now);
    assert!(
        matches!(&drain(&mut session)[..], [Action::Report(accepted)] if accepted.next_seq == 2)
    );
    session.received(Ok(report(3)), now);
    assert_eq!(closed(&mut session), Some(CloseReason::ProtocolError));
}

/// What a well-behaved agent and a store with moods do to one log.
#[derive(Debug, Clone)]
enum Step {
    /// The agent sends its next batch of this size.
    Send(u64),
    /// The queue had no room for it.
    SendNotKept(u64),
    /// The store confirms the oldest batch in hand.
    Store,
    /// A second passes.
    Second,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_u64..5).prop_map(Step::Send),
        1 => (1_u64..5).prop_map(Step::SendNotKept),
        3 => Just(Step::Store),
        1 => Just(Step::Second),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// I10 and I12 on the headend's side: what is acknowledged is in the store, without a hole.
    #[test]
    fn every_acknowledged_number_is_stored(steps in steps()) {
        let (mut session, mut now) = active();
        let mut agent_next = 1_u64;
        let mut queue: std::collections::VecDeque<Vec<u64>> = std::collections::VecDeque::new();
        let mut stored = std::collections::BTreeSet::new();
        for step in steps {
            let (count, kept) = match step {
                Step::Send(count) => (count, true),
                Step::SendNotKept(count) => (count, false),
                Step::Store => {
                    if let Some(numbers) = queue.pop_front() {
                        let last = numbers.last().copied().unwrap_or(0);
                        stored.extend(numbers);
                        session.stored(LogKind::Telemetry, last, 1, Vec::new());
                    }
                    (0, true)
                }
                Step::Second => {
                    now += Duration::from_secs(1);
                    session.received(Ok(AgentMessage::Unknown), now);
                    session.tick(now);
                    (0, true)
                }
            };
            if count > 0 {
                session.received(Ok(batch(agent_next, count)), now);
                agent_next += count;
            }
            for action in drain(&mut session) {
                match action {
                    Action::Telemetry(accepted) => {
                        if kept {
                            queue.push_back(accepted.items.iter().map(|(seq, _)| *seq).collect());
                        } else {
                            session.not_kept(LogKind::Telemetry, now);
                        }
                    }
                    Action::Send(HeadendMessage::LogAck(ack)) => {
                        for seq in 1..=ack.up_to_seq {
                            prop_assert!(stored.contains(&seq), "{seq} was acknowledged, not stored");
                        }
                        if ack.rewind {
                            agent_next = ack.up_to_seq + 1;
                        }
                    }
                    Action::Live(_) => {}
                    other => prop_assert!(false, "unexpected {other:?}"),
                }
            }
        }
    }
}
