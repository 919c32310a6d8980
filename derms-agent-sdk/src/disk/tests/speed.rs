//! How fast the telemetry log takes samples, on the disk of this machine: its figures are in
//! `docs/performance.md`.

#![allow(clippy::print_stdout, reason = "its figures are there to be read")]

use std::time::Instant;

use super::*;
use crate::outbox::TelemetryLog;

const SAMPLES: u64 = 500_000;

/// `cargo test --release -p derms-agent-sdk --lib outbox_speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, for a release build on a quiet machine"]
fn outbox_speed() {
    let path = std::env::temp_dir().join(format!("derms-outbox-{}", Uuid::new_v4()));
    fs::create_dir_all(&path).unwrap();
    let folder = Folder(path);
    let options = Options {
        telemetry_bytes: 1 << 30,
        ..options()
    };
    let (mut dir, recovered) = Dir::open(folder.path(), &options).unwrap();
    let mut log = TelemetryLog::recovered(
        recovered.telemetry_log,
        &recovered.telemetry,
        1 << 30,
        Duration::from_secs(3_600),
    );
    let start = Instant::now();
    let mut writes = 0;
    for number in 1..=SAMPLES {
        let now = MonoTime::default() + start.elapsed();
        assert_eq!(log.append(sample(number), now).lost, None);
        while let Some(shelved) = log.next_to_shelve(now, false) {
            let kept = dir.shelve(shelved).unwrap();
            assert_eq!(log.shelved(Some(kept), now), None);
            writes += 1;
        }
    }
    let now = MonoTime::default() + start.elapsed();
    for shelved in log.shelve_all(now) {
        dir.shelve(shelved).unwrap();
        writes += 1;
    }
    let rate = SAMPLES as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} samples/s, {} samples a write", SAMPLES / writes);
    drop(dir);
    let (dir, recovered) = Dir::open(folder.path(), &options).unwrap();
    assert_eq!(held(&dir, &recovered.telemetry).len() as u64, SAMPLES);
}
