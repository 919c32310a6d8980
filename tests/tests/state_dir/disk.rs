use std::time::Duration;

use derms_agent_sdk::testing::FakeHeadend;
use derms_proto::link::SetpointPhase;
use derms_proto::{Power, ReasonCode};
use derms_tests::Program;

use crate::BESS_1;
use crate::rig::{Folder, Memory, agent};

/// A file system of 256 KiB; gone with the test.
struct Small(Folder);

impl Small {
    fn mount() -> Self {
        Self::with("size=256k")
    }

    fn with(options: &str) -> Self {
        let folder = Folder::new();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "this test mounts a small tmpfs and must run as root, with CAP_SYS_ADMIN"
        );
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_agent_goes_on_refuses_orders_and_recovers() {
    let small = Small::mount();
    let mut headend = FakeHeadend::on_loopback().await.unwrap();
    let mut memory = Memory::default();
    let mut process = agent(&headend, BESS_1, &small.0.path().join("state"));
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

    // Somebody else fills the disk to the last byte.
    let filler = small.0.path().join("filler");
    for size in [64 << 10, 4 << 10, 1] {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&filler)
            .unwrap();
        while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
    }
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

    std::fs::remove_file(&filler).unwrap();
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
    let small = Small::mount();
    std::fs::write(small.0.path().join("filler"), vec![1; 300 << 10]).unwrap_err();
    let dir = small.0.path().join("state");
    let output = Program::new("edge_agent")
        .args(["--asset-id", BESS_1, "--state-dir", dir.to_str().unwrap()])
        .run()
        .await;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("No space left"), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_can_only_be_read_ends_the_start_and_says_what_to_do() {
    let disk = Small::with("ro,size=256k");
    for dir in [disk.0.path().to_owned(), disk.0.path().join("state")] {
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
