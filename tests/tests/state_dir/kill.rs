use std::time::Duration;

use derms_agent_sdk::testing::FakeHeadend;
use derms_proto::Power;
use derms_proto::link::{FollowUp, SetpointPhase};
use derms_tests::{Process, Program};
use rustix::process::Signal;

use crate::rig::{Folder, Memory, agent};
use crate::{BESS_1, BESS_2};

const OFTEN: Duration = Duration::from_millis(100);

async fn kill(agent: Process) {
    agent.signal(Signal::KILL);
    assert_eq!(agent.ended().await.0, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_session_and_in_an_outage_no_acknowledged_sample_is_missing_and_none_is_twice() {
    let folder = Folder::new();
    let mut headend = FakeHeadend::on_loopback().await.unwrap();
    let mut memory = Memory::default();
    let mut logs = Vec::new();
    for round in 0..4_usize {
        let process = agent(&headend, BESS_1, folder.path());
        let mut session = headend.accept().await;
        assert!(session.register().durable);
        logs.push(session.register().logs[0].log_id);
        memory.welcome(&mut session, OFTEN).await;
        let wanted = memory.samples.len() + 8 + 7 * round;
        memory
            .serve(&mut session, "samples", |memory| {
                memory.samples.len() >= wanted
            })
            .await;
        // From here on nothing is acknowledged; then the link is gone, and then the agent.
        tokio::time::sleep(Duration::from_millis(300)).await;
        headend.go_away();
        session.cut();
        tokio::time::sleep(Duration::from_millis(900 * round as u64)).await;
        kill(process).await;
        headend.come_back();
    }
    logs.dedup();
    assert_eq!(logs.len(), 1, "one log through all of it");
    memory.assert_no_sample_twice();
    let log = &memory.logs[&logs[0].uuid()];
    // Each number is stored or was declared lost.
    for seq in 1..log.next {
        let stored = memory.samples.contains_key(&(logs[0].uuid(), seq));
        let lost = log
            .lost
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&seq));
        assert!(stored || lost, "{seq}: {:?}", log.lost);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_survives_the_agent() {
    let folder = Folder::new();
    let mut headend = FakeHeadend::on_loopback().await.unwrap();
    let mut memory = Memory::default();
    let process = agent(&headend, BESS_1, folder.path());
    let mut session = headend.accept().await;
    memory.welcome(&mut session, OFTEN).await;
    memory
        .serve(&mut session, "samples", |memory| memory.samples.len() > 5)
        .await;
    headend.go_away();
    session.cut();
    tokio::time::sleep(Duration::from_secs(6)).await;
    kill(process).await;
    headend.come_back();
    let process = agent(&headend, BESS_1, folder.path());
    let mut session = headend.accept().await;
    memory.welcome(&mut session, OFTEN).await;
    memory
        .serve(&mut session, "the outage", |memory| {
            memory.samples.len() > 50
        })
        .await;
    memory.assert_no_sample_twice();
    // What was measured until 2 s before the kill is there, without a hole.
    let mut times: Vec<_> = memory
        .samples
        .values()
        .map(|time| time.unix_micros())
        .collect();
    times.sort_unstable();
    let gaps = times
        .windows(2)
        .filter(|pair| pair[1] - pair[0] > 1_000_000)
        .count();
    assert!(gaps <= 1, "{times:?}");
    assert_eq!(process.terminated().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_started_once_whatever_dies_and_its_lease_keeps_its_end() {
    let folder = Folder::new();
    let mut headend = FakeHeadend::on_loopback().await.unwrap();
    let mut memory = Memory::default();
    let process = agent(&headend, BESS_1, folder.path());
    let mut session = headend.accept().await;
    memory.welcome(&mut session, OFTEN).await;
    let asset_id = BESS_1.parse().unwrap();
    let mut order = session.order(asset_id, Power::from_mw(5.0));
    order.duration = Some(Duration::from_secs(12));
    order.then = FollowUp::Default;
    let began = tokio::time::Instant::now();
    session.setpoint(&order).await;
    memory
        .serve(&mut session, "the start", |memory| {
            memory.phases().contains(&SetpointPhase::Started)
        })
        .await;
    kill(process).await;
    session.cut();

    let mut process = agent(&headend, BESS_1, folder.path());
    process.says("an order goes on after the restart").await;
    let mut session = headend.accept().await;
    let claim = session.register().assets[0].clone().unwrap();
    assert_eq!(claim.last_revision, order.revision);
    assert_eq!(claim.control.dispatch_id, Some(order.dispatch_id));
    assert!(claim.control.remaining.unwrap() < Duration::from_secs(12));
    memory.welcome(&mut session, OFTEN).await;
    // It comes again, as after a restart of the headend.
    order.epoch = session.epoch();
    session.setpoint(&order).await;
    memory
        .serve(&mut session, "the end", |memory| {
            memory.phases().contains(&SetpointPhase::Completed)
        })
        .await;
    let lasted = began.elapsed().as_secs_f64();
    assert!((11.9..16.0).contains(&lasted), "{lasted} s");
    kill(process).await;
    session.cut();

    let mut process = agent(&headend, BESS_1, folder.path());
    let mut session = headend.accept().await;
    memory.welcome(&mut session, OFTEN).await;
    let before = memory.reports.len();
    order.epoch = session.epoch();
    session.setpoint(&order).await;
    memory
        .serve(&mut session, "the outcome again", |memory| {
            memory.reports.len() > before
        })
        .await;
    assert_eq!(memory.phases().last(), Some(&SetpointPhase::Completed));
    process.says("connected").await;
    assert_eq!(process.terminated().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_or_of_another_agent_is_told_in_one_line() {
    let folder = Folder::new();
    let dir = folder.path().to_str().unwrap();
    let headend = FakeHeadend::on_loopback().await.unwrap();
    let mut process = agent(&headend, BESS_1, folder.path());
    process.says("serving simulated devices").await;
    let same = |asset| Program::new("edge_agent").args(["--asset-id", asset, "--state-dir", dir]);
    let output = same(BESS_1).run().await;
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.contains("another process uses it"),
        "{}",
        output.stderr
    );
    assert_eq!(process.terminated().await, Some(0));
    let output = same(BESS_2).run().await;
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.contains("it belongs to agent"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains(BESS_1), "{}", output.stderr);
}
