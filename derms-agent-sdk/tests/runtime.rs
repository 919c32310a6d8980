//! Whole agents over a fake headend, in memory, under a paused clock.

use std::time::Duration;

use derms_agent_sdk::testing::{Call, FakeHeadend, FakeSession, ScriptedAdapter, asset};
use derms_agent_sdk::{AdapterError, AgentEvent, AgentHandle, LinkState, Reading, RunError};
use derms_proto::link::{Close, GapReason, GrantStatus, LogCursor, SetpointPhase};
use derms_proto::{CloseReason, ControlSource, Power, ReasonCode};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

const MW: fn(f64) -> Power = Power::from_mw;

struct Agent {
    handle: AgentHandle,
    running: JoinHandle<Result<(), RunError>>,
}

fn start(headend: &FakeHeadend, devices: &[&ScriptedAdapter]) -> Agent {
    let mut builder = headend.agent().backoff(|_: u32| Duration::from_secs(1));
    for (number, device) in (1..).zip(devices) {
        builder = builder.adapter(asset(number), (*device).clone());
    }
    let agent = builder.build().expect("this is a valid agent");
    let handle = agent.handle();
    let running = TaskTracker::new().spawn(agent.run());
    Agent { handle, running }
}

async fn event(
    events: &mut derms_agent_sdk::AgentEvents,
    wanted: impl Fn(&AgentEvent) -> bool,
) -> AgentEvent {
    let search = async {
        loop {
            let event = events.next().await.expect("the agent goes on");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(7_200), search)
        .await
        .expect("the event comes")
}

async fn seqs(session: &mut FakeSession) -> (u64, u64) {
    let batch = session.telemetry().await;
    (
        batch.first_seq,
        batch.first_seq + batch.samples.len() as u64 - 1,
    )
}

#[tokio::test(start_paused = true)]
async fn telemetry_flows_from_the_device_and_is_acknowledged() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    device.reads_as(Ok(Reading::of_power(MW(3.25))));
    let agent = start(&headend, &[&device]);
    let mut session = headend.accept_and_grant().await;
    for seq in 1..=5 {
        let batch = session.telemetry().await;
        assert_eq!(batch.first_seq, seq);
        let sample = batch.samples[0].as_ref().unwrap();
        assert_eq!(sample.measurements.mw, Some(MW(3.25)));
        assert_eq!(
            sample.measurements.soc_pct, None,
            "what was not measured stays absent"
        );
        let age = headend.now().saturating_since(sample.measured_at);
        assert!(age < Duration::from_secs(1), "{age:?}");
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(agent.handle.status().outbox_depth <= 1);
}

#[tokio::test(start_paused = true)]
async fn unacknowledged_telemetry_is_sent_again_after_a_cut_and_acknowledged_is_not() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let _agent = start(&headend, &[&device]);
    let mut session = headend.accept_and_grant().await;
    session.answers_by_itself(false);
    let log_id = session.register().logs[0].log_id;
    for _ in 0..4 {
        seqs(&mut session).await;
    }
    session
        .ack(derms_proto::link::LogKind::Telemetry, log_id, 2)
        .await;
    assert_eq!(seqs(&mut session).await, (5, 5));
    session.cut();

    let mut session = headend.accept().await;
    assert_eq!(session.register().logs[0].first_seq, 3);
    let registered = session.registered();
    session.answer(registered).await;
    let (first, last) = seqs(&mut session).await;
    assert!(first == 3 && last >= 5, "{first}..={last}");
}

#[tokio::test(start_paused = true)]
async fn what_the_headend_kept_although_its_ack_was_lost_is_not_sent_again() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let _agent = start(&headend, &[&device]);
    let mut session = headend.accept_and_grant().await;
    session.answers_by_itself(false);
    for _ in 0..4 {
        seqs(&mut session).await;
    }
    session.cut();
    let mut session = headend.accept().await;
    let mut registered = session.registered();
    registered.logs[0] = LogCursor {
        next_seq: 4,
        ..registered.logs[0]
    };
    session.answer(registered).await;
    assert_eq!(seqs(&mut session).await.0, 4);
}

#[tokio::test(start_paused = true)]
async fn a_setpoint_reaches_the_device_and_its_answer_is_reported() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let _agent = start(&headend, &[&device]);
    let mut session = headend.accept_and_grant().await;
    assert_eq!(device.next_call().await, Call::GoToDefault(Power::ZERO));
    device.answer(Ok(
        derms_agent_sdk::Applied::exactly(MW(4.9)).saying("ramping")
    ));
    let order = session.order(asset(1).id, MW(5.0));
    session.setpoint(&order).await;
    let (_, received) = session.report().await;
    assert_eq!(received.phase, SetpointPhase::Received);
    let (asset_id, started) = session.report().await;
    assert_eq!(
        (asset_id, started.phase),
        (asset(1).id, SetpointPhase::Started)
    );
    assert_eq!(
        started.applied,
        Some(MW(4.9)),
        "what the device said, not what was asked"
    );
    assert_eq!(started.text.as_deref(), Some("ramping"));
    assert_eq!(device.setpoints(), [MW(5.0)]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_lease_is_written_to_the_device_even_without_a_link() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let agent = start(&headend, &[&device]);
    let mut session = headend.accept_and_grant().await;
    device.next_call().await;
    let mut order = session.order(asset(1).id, MW(5.0));
    order.duration = Some(Duration::from_secs(20));
    session.setpoint(&order).await;
    session
        .reported(order.dispatch_id, SetpointPhase::Started)
        .await;
    assert!(matches!(device.next_call().await, Call::Apply(_)));
    let started = tokio::time::Instant::now();
    headend.go_away();
    session.cut();
    assert_eq!(device.next_call().await, Call::GoToDefault(Power::ZERO));
    let lasted = started.elapsed().as_secs_f64();
    assert!(
        (19.9..21.1).contains(&lasted),
        "the lease lasted {lasted} s"
    );
    headend.come_back();
    let mut session = headend.accept_and_grant().await;
    session
        .reported(order.dispatch_id, SetpointPhase::Completed)
        .await;
    assert_eq!(
        agent.handle.status().assets[0].control.source,
        ControlSource::Default
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_reconnect_commands_arrive_as_well_as_telemetry() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let _agent = start(&headend, &[&device]);
    for round in 1..=3 {
        let mut session = headend.accept_and_grant().await;
        session.telemetry().await;
        let order = session.order(asset(1).id, MW(f64::from(round)));
        session.setpoint(&order).await;
        session
            .reported(order.dispatch_id, SetpointPhase::Started)
            .await;
        session.cut();
    }
    assert_eq!(device.setpoints(), [MW(1.0), MW(2.0), MW(3.0)]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_device_delays_no_other_and_ends_in_a_timeout() {
    let mut headend = FakeHeadend::in_memory();
    let (stuck, fine) = (ScriptedAdapter::new(), ScriptedAdapter::new());
    let _agent = start(&headend, &[&stuck, &fine]);
    let mut session = headend.accept_and_grant().await;
    stuck.next_call().await;
    fine.next_call().await;
    stuck.hang(true);
    stuck.hang_reads(true);
    let to_stuck = session.order(asset(1).id, MW(1.0));
    let to_fine = session.order(asset(2).id, MW(2.0));
    session.setpoint(&to_stuck).await;
    session.setpoint(&to_fine).await;
    let ordered = tokio::time::Instant::now();
    session
        .reported(to_fine.dispatch_id, SetpointPhase::Started)
        .await;
    assert!(
        ordered.elapsed() < Duration::from_secs(1),
        "{:?}",
        ordered.elapsed()
    );
    let reads = fine.reads();
    let failed = session
        .reported(to_stuck.dispatch_id, SetpointPhase::Failed)
        .await;
    assert_eq!(failed.reason, Some(ReasonCode::DeviceTimeout));
    assert!(ordered.elapsed() >= Duration::from_secs(10));
    assert!(fine.reads() >= reads + 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusing_device_is_reported_as_it_is_and_sent_to_its_default() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let _agent = start(&headend, &[&device]);
    let mut session = headend.accept_and_grant().await;
    device.next_call().await;
    device.answer(Err(AdapterError::unavailable("key switch is on local")));
    let order = session.order(asset(1).id, MW(5.0));
    session.setpoint(&order).await;
    let rejected = session
        .reported(order.dispatch_id, SetpointPhase::Rejected)
        .await;
    assert_eq!(rejected.reason, Some(ReasonCode::DeviceUnavailable));
    assert_eq!(rejected.text.as_deref(), Some("key switch is on local"));
    device.next_call().await;
    assert_eq!(device.next_call().await, Call::GoToDefault(Power::ZERO));
}

#[tokio::test(start_paused = true)]
async fn without_a_headend_the_agent_keeps_trying_and_keeps_its_readings() {
    let mut headend = FakeHeadend::in_memory();
    headend.go_away();
    let device = ScriptedAdapter::new();
    let agent = start(&headend, &[&device]);
    let mut events = agent.handle.subscribe();
    for _ in 0..20 {
        let failed = event(&mut events, |e| {
            matches!(e, AgentEvent::ConnectFailed { .. })
        })
        .await;
        let AgentEvent::ConnectFailed { text, retry_in } = failed else {
            unreachable!()
        };
        assert!(text.contains("nobody listens"), "{text}");
        assert_eq!(retry_in, Duration::from_secs(1));
    }
    headend.come_back();
    let mut session = headend.accept_and_grant().await;
    let (first, last) = seqs(&mut session).await;
    assert!(first == 1 && last >= 4, "{first}..={last}");
    assert_eq!(agent.handle.status().link, LinkState::Active);
}

#[tokio::test(start_paused = true)]
async fn readings_are_kept_for_as_long_as_the_agent_is_told_and_older_ones_are_declared() {
    for (age, kept) in [(None, 2_000), (Some(1_800), 450)] {
        let mut headend = FakeHeadend::in_memory();
        headend.go_away();
        let device = ScriptedAdapter::new();
        let mut builder = headend.agent().adapter(asset(1), device.clone());
        if let Some(age) = age {
            builder = builder.telemetry_outbox_age(Duration::from_secs(age));
        }
        let agent = builder.build().unwrap();
        let handle = agent.handle();
        let _running = TaskTracker::new().spawn(agent.run());
        // One every 4 s.
        tokio::time::sleep(Duration::from_secs(8_000)).await;
        let depth = handle.status().outbox_depth;
        assert!(depth.abs_diff(kept) <= 2, "{depth} of {kept}");
        headend.come_back();
        let mut session = headend.accept_and_grant().await;
        let batch = session.telemetry().await;
        let gaps: Vec<_> = batch.gaps.iter().map(|gap| gap.reason).collect();
        let wanted = age.map(|_| GapReason::TooOld);
        assert_eq!(gaps, Vec::from_iter(wanted));
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_halt_the_agent_and_it_still_comes_back() {
    let mut headend = FakeHeadend::in_memory();
    for unauthenticated_denied_unimplemented in [16, 7, 12] {
        headend.refuse(unauthenticated_denied_unimplemented);
        let device = ScriptedAdapter::new();
        let agent = start(&headend, &[&device]);
        let mut events = agent.handle.subscribe();
        let halted = event(&mut events, |e| matches!(e, AgentEvent::Halted { .. })).await;
        let AgentEvent::Halted { retry_in, .. } = halted else {
            unreachable!()
        };
        assert!(retry_in >= Duration::from_secs(300), "{retry_in:?}");
        headend.come_back();
        event(&mut events, |e| matches!(e, AgentEvent::Connecting { .. })).await;
        headend.accept_and_grant().await;
        agent.running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_headend_is_given_up_within_the_liveness_bound() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let agent = start(&headend, &[&device]);
    let mut events = agent.handle.subscribe();
    let session = headend.accept_and_grant().await;
    session.answers_by_itself(false);
    let silent_since = tokio::time::Instant::now();
    let ended = event(&mut events, |e| {
        matches!(e, AgentEvent::Disconnected { .. })
    })
    .await;
    let AgentEvent::Disconnected { reason, .. } = ended else {
        unreachable!()
    };
    assert_eq!(reason, CloseReason::LivenessTimeout);
    let after = silent_since.elapsed().as_secs_f64();
    assert!((44.0..47.0).contains(&after), "{after}");
    headend.accept_and_grant().await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_shutdown_ends_the_order_tells_why_and_closes_with_normal() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let agent = start(&headend, &[&device]);
    let mut session = headend.accept_and_grant().await;
    let mut order = session.order(asset(1).id, MW(5.0));
    order.duration = Some(Duration::from_secs(600));
    session.setpoint(&order).await;
    session
        .reported(order.dispatch_id, SetpointPhase::Started)
        .await;
    agent.handle.shutdown();
    let failed = session
        .reported(order.dispatch_id, SetpointPhase::Failed)
        .await;
    assert_eq!(failed.reason, Some(ReasonCode::Interrupted));
    let close = session.ended().await.expect("the agent says goodbye");
    assert_eq!(close.reason, CloseReason::Normal);
    assert_eq!(device.calls().last(), Some(&Call::GoToDefault(Power::ZERO)));
    agent.running.await.unwrap().unwrap();
    assert_eq!(agent.handle.status().link, LinkState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_within_five_seconds_whatever_hangs() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let agent = start(&headend, &[&device]);
    let mut session = headend.accept_and_grant().await;
    let order = session.order(asset(1).id, MW(5.0));
    session.setpoint(&order).await;
    session
        .reported(order.dispatch_id, SetpointPhase::Started)
        .await;
    device.hang(true);
    session.answers_by_itself(false);
    let mut events = agent.handle.subscribe();
    let asked = tokio::time::Instant::now();
    agent.handle.shutdown();
    let stopped = event(&mut events, |e| matches!(e, AgentEvent::Stopped { .. })).await;
    assert_eq!(
        stopped,
        AgentEvent::Stopped {
            unsettled: vec![asset(1).id]
        }
    );
    agent.running.await.unwrap().unwrap();
    assert!(
        asked.elapsed() <= Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    let failed = session
        .reported(order.dispatch_id, SetpointPhase::Failed)
        .await;
    assert_eq!(
        failed.text.as_deref(),
        Some("the device has not confirmed its default")
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_while_the_headend_is_away_brings_devices_to_their_defaults() {
    let headend = FakeHeadend::in_memory();
    headend.go_away();
    let device = ScriptedAdapter::new();
    let agent = start(&headend, &[&device]);
    device.next_call().await;
    agent.handle.shutdown();
    agent.running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_on_a_future_stops_the_agent() {
    let mut headend = FakeHeadend::in_memory();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let agent = headend
        .agent()
        .adapter(asset(1), ScriptedAdapter::new())
        .shutdown_on(async move { stopped.await.unwrap_or_default() })
        .build()
        .unwrap();
    let running = TaskTracker::new().spawn(agent.run());
    let session = headend.accept_and_grant().await;
    stop.send(()).unwrap();
    assert_eq!(session.ended().await.unwrap().reason, CloseReason::Normal);
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panicking_adapter_fails_its_order_and_nothing_else() {
    struct Panics;
    #[derms_agent_sdk::async_trait]
    impl derms_agent_sdk::DerAdapter for Panics {
        fn describe(&self) -> derms_agent_sdk::DeviceInfo {
            derms_agent_sdk::DeviceInfo::new(derms_proto::AssetKind::Other, "", "")
        }
        async fn read(&self) -> Result<Reading, AdapterError> {
            panic!("read")
        }
        async fn apply(
            &self,
            _: &derms_agent_sdk::Setpoint,
        ) -> Result<derms_agent_sdk::Applied, AdapterError> {
            panic!("apply")
        }
        async fn go_to_default(&self, _: Power) -> Result<derms_agent_sdk::Applied, AdapterError> {
            panic!("go_to_default")
        }
    }
    let mut headend = FakeHeadend::in_memory();
    let fine = ScriptedAdapter::new();
    let builder = headend
        .agent()
        .adapter(asset(1), Panics)
        .adapter(asset(2), fine.clone());
    let agent = builder.build().unwrap();
    let _running = TaskTracker::new().spawn(agent.run());
    let mut session = headend.accept_and_grant().await;
    let order = session.order(asset(1).id, MW(1.0));
    session.setpoint(&order).await;
    let failed = session
        .reported(order.dispatch_id, SetpointPhase::Failed)
        .await;
    assert_eq!(failed.reason, Some(ReasonCode::DeviceError));
    let order = session.order(asset(2).id, MW(1.0));
    session.setpoint(&order).await;
    session
        .reported(order.dispatch_id, SetpointPhase::Started)
        .await;
    assert_eq!(
        session.telemetry().await.samples[0]
            .as_ref()
            .unwrap()
            .asset_id,
        asset(2).id
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_asset_takes_no_other_down_and_sends_nothing() {
    let mut headend = FakeHeadend::in_memory();
    let (refused, fine) = (ScriptedAdapter::new(), ScriptedAdapter::new());
    let _agent = start(&headend, &[&refused, &fine]);
    let mut session = headend.accept().await;
    let mut registered = session.registered();
    registered.grants[0].status = GrantStatus::Forbidden;
    session.answer(registered).await;
    let order = session.order(asset(1).id, MW(1.0));
    session.setpoint(&order).await;
    let rejected = session
        .reported(order.dispatch_id, SetpointPhase::Rejected)
        .await;
    assert_eq!(rejected.reason, Some(ReasonCode::NotGranted));
    for _ in 0..5 {
        for sample in session.telemetry().await.samples.into_iter().flatten() {
            assert_eq!(sample.asset_id, asset(2).id);
        }
    }
    assert!(refused.setpoints().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_draining_headend_is_left_and_found_again_after_the_time_it_asked_for() {
    let mut headend = FakeHeadend::in_memory();
    let _agent = start(&headend, &[&ScriptedAdapter::new()]);
    let session = headend.accept_and_grant().await;
    let mut close = Close::new(CloseReason::Draining, "restart");
    close.retry_after = Some(Duration::from_secs(10));
    let closed = tokio::time::Instant::now();
    session.close(close).await;
    headend.accept_and_grant().await;
    let away = closed.elapsed().as_secs_f64();
    assert!((10.0..16.0).contains(&away), "{away}");
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_stream_that_was_left_change_nothing() {
    for reason in [
        CloseReason::TakenOver,
        CloseReason::Normal,
        CloseReason::Forbidden,
    ] {
        let mut headend = FakeHeadend::in_memory();
        let backoff = |_: u32| Duration::from_millis(100);
        let builder = headend.agent().backoff(backoff);
        let agent = builder
            .adapter(asset(1), ScriptedAdapter::new())
            .build()
            .unwrap();
        let handle = agent.handle();
        let mut events = handle.subscribe();
        let _running = TaskTracker::new().spawn(agent.run());
        let old = headend.accept_and_grant().await;
        let mut order = old.order(asset(1).id, MW(1.0));
        order.epoch += 7;
        old.setpoint(&order).await;
        event(&mut events, |e| {
            matches!(e, AgentEvent::Disconnected { .. })
        })
        .await;
        let mut new = headend.accept_and_grant().await;
        old.close(Close::new(reason, "too late")).await;
        let order = new.order(asset(1).id, MW(1.0));
        tokio::time::sleep(Duration::from_secs(5)).await;
        new.setpoint(&order).await;
        new.reported(order.dispatch_id, SetpointPhase::Started)
            .await;
        assert_eq!(headend.attempts(), 2, "{reason:?}");
    }
}

#[tokio::test]
async fn over_a_real_socket_an_order_is_started_and_the_agent_stops() {
    let mut headend = FakeHeadend::on_loopback().await.unwrap();
    let device = ScriptedAdapter::new();
    let agent = start(&headend, &[&device]);
    let mut session = headend.accept().await;
    let mut registered = session.registered();
    registered.telemetry_interval = Duration::from_millis(100);
    session.answer(registered).await;
    session.telemetry().await;
    let order = session.order(asset(1).id, MW(5.0));
    session.setpoint(&order).await;
    session
        .reported(order.dispatch_id, SetpointPhase::Started)
        .await;
    agent.handle.shutdown();
    assert_eq!(session.ended().await.unwrap().reason, CloseReason::Normal);
    agent.running.await.unwrap().unwrap();
}

/// A folder that is gone with the test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("derms-runtime-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_with_a_state_directory_goes_on_where_it_was_killed() {
    let folder = Folder::new();
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let start = |headend: &FakeHeadend| {
        let builder = headend.agent().backoff(|_: u32| Duration::from_secs(1));
        let agent = builder
            .adapter(asset(1), device.clone())
            .state_dir(&folder.0)
            .build()?;
        Ok::<_, derms_agent_sdk::BuildError>(TaskTracker::new().spawn(agent.run()))
    };
    let running = start(&headend).expect("the directory is made");
    let in_use = start(&headend).unwrap_err();
    assert!(matches!(
        in_use,
        derms_agent_sdk::BuildError::StateDir { .. }
    ));

    let mut session = headend.accept_and_grant().await;
    assert!(session.register().durable);
    let logs = session.register().logs.clone();
    device.next_call().await;
    let mut order = session.order(asset(1).id, MW(5.0));
    order.duration = Some(Duration::from_secs(600));
    session.setpoint(&order).await;
    session
        .reported(order.dispatch_id, SetpointPhase::Started)
        .await;
    device.next_call().await;
    session.answers_by_itself(false);
    for _ in 0..4 {
        seqs(&mut session).await;
    }
    running.abort();
    running.await.unwrap_err();
    session.cut();

    let _running = loop {
        // The last write may still be under way.
        match start(&headend) {
            Ok(running) => break running,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let Call::Apply(again) = device.next_call().await else {
        panic!("the lease does not go on");
    };
    let left = again.remaining.unwrap();
    assert!(left < Duration::from_secs(590), "{left:?}");
    let session = headend.accept_and_grant().await;
    let heads = &session.register().logs;
    assert_eq!(
        (heads[0].log_id, heads[1].log_id),
        (logs[0].log_id, logs[1].log_id)
    );
    assert!(heads[0].next_seq >= 5, "no number is used again: {heads:?}");
    let claim = session.register().assets[0].clone().unwrap();
    assert_eq!(claim.last_revision, order.revision);
    assert_eq!(device.setpoints(), [MW(5.0), MW(5.0)]);
}
