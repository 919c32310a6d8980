use std::time::Duration;

use derms_agent_sdk::testing::FakeHeadend;
use derms_proto::link::SetpointPhase;
use derms_proto::{Power, ReasonCode};
use derms_tests::{Program, SmallDisk};

use crate::BESS_1;
use crate::rig::{Memory, agent};

/// A file system of 256 KiB.
const SMALL: &str = "size=256k";

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_agent_goes_on_refuses_orders_and_recovers() {
    let small = SmallDisk::mount(SMALL);
    let mut headend = FakeHeadend::on_loopback().await.unwrap();
    let mut memory = Memory::default();
    let mut process = agent(&headend, BESS_1, &small.path().join("state"));
    let mut session = headend.accept().await;
    memory
        .welcome(&mut session, Duration::from_millis(100))
        .await;
    let asset_id = BESS_1.parse().unwrap();
    let mut leased = session.order(asset_id, Power::from_mw(3.0));
    leased.duration = Some(Duration::from_secs(6));
    session.setpoint(&leased).await;
    memory
        .serve(&mut session, "the start", |memory| {
            memory.phases().contains(&SetpointPhase::Started)
        })
        .await;

    small.fill();
    // What is in half-used pages is used up, too: a refusal shows that.
    let mut refused = false;
    for _ in 0..60 {
        let order = session.order(asset_id, Power::from_mw(1.0));
        let before = memory.reports.len();
        session.setpoint(&order).await;
        memory
            .serve(&mut session, "an answer", |memory| {
                let mut reports = memory.reports[before..].iter();
                reports.any(|report| report.dispatch_id == order.dispatch_id)
            })
            .await;
        let last = memory.reports.last().unwrap();
        if last.reason == Some(ReasonCode::StorageFailed) {
            assert_eq!(last.phase, SetpointPhase::Rejected);
            refused = true;
            break;
        }
    }
    assert!(refused, "an order was accepted on a full disk");
    process.says("the state directory can't be written").await;
    let samples = memory.samples.len();
    memory
        .serve(&mut session, "telemetry goes on", |memory| {
            memory.samples.len() > samples + 30
        })
        .await;

    small.make_room();
    process.says("the state directory is written again").await;
    let order = session.order(asset_id, Power::from_mw(2.0));
    session.setpoint(&order).await;
    memory
        .serve(&mut session, "the next start", |memory| {
            memory.reports.iter().any(|report| {
                report.dispatch_id == order.dispatch_id && report.phase == SetpointPhase::Started
            })
        })
        .await;
    assert_eq!(process.terminated().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_for_a_start_is_told_in_one_line() {
    let small = SmallDisk::mount(SMALL);
    std::fs::write(small.path().join("filler"), vec![1; 300 << 10]).unwrap_err();
    let dir = small.path().join("state");
    let output = Program::new("edge_agent")
        .args(["--asset-id", BESS_1, "--state-dir", dir.to_str().unwrap()])
        .run()
        .await;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("No space left"), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_can_only_be_read_ends_the_start_and_says_what_to_do() {
    let disk = SmallDisk::mount("ro,size=256k");
    for dir in [disk.path().to_owned(), disk.path().join("state")] {
        let dir = dir.to_str().unwrap();
        let output = Program::new("edge_agent")
            .args(["--asset-id", BESS_1, "--state-dir", dir])
            .run()
            .await;
        assert_eq!(output.code, Some(1), "{}", output.stderr);
        for words in [
            dir,
            "give a directory that this agent may write",
            "Read-only file system",
        ] {
            assert!(output.stderr.contains(words), "{}", output.stderr);
        }
    }
}
