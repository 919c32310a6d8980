//! State directories on a real file system.

mod crash;
mod damage;
mod doors;
mod speed;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use derms_proto::link::{Report, ReportEntry, Sample, SetpointPhase, SetpointReport};
use derms_proto::{AgentId, AssetId, DispatchId, Measurements, Power, Timestamp};
use uuid::Uuid;

use super::*;
use crate::state::{Record, RecoveredTelemetry, Restraint};

/// A folder that is gone with the test.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        // In memory, where there is such a place: thousands of fsyncs.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let path = place.join(format!("derms-agent-{}", Uuid::new_v4()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every file but the lock, which is never replaced.
type Files = BTreeMap<PathBuf, Vec<u8>>;

pub(crate) fn files(dir: &Path) -> Files {
    let mut all = Files::new();
    for folder in [dir.to_owned(), dir.join("telemetry")] {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.ends_with("lock") {
                all.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// Makes the directory what it was.
pub(crate) fn put_back(dir: &Path, wanted: &Files) {
    for path in files(dir).keys() {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in wanted {
        fs::write(path, bytes).unwrap();
    }
}

fn options() -> Options {
    Options {
        agent_id: AgentId::new(Uuid::from_u128(7)),
        boot: Some("boot".into()),
        now: MonoTime::default(),
        telemetry_bytes: 1 << 20,
        telemetry_age: Duration::from_secs(3_600),
    }
}

fn open(dir: &Path) -> (Dir, Recovered) {
    Dir::open(dir, &options()).unwrap()
}

/// A sample that tells its number.
fn sample(number: u64) -> Sample {
    Sample {
        asset_id: AssetId::new(Uuid::from_u128(1)),
        measured_at: Timestamp::from_unix_micros(number.cast_signed()),
        measurements: Measurements {
            mw: Some(Power::from_mw(number as f64)),
            ..Measurements::default()
        },
    }
}

fn shelved(first: u64, count: u64, floor: u64, mark: u64) -> Shelved {
    Shelved {
        floor,
        mark,
        first,
        samples: (first..first + count).map(sample).collect(),
        ..Shelved::default()
    }
}

fn record(revision: u64) -> Record {
    Record {
        asset_id: AssetId::new(Uuid::from_u128(1)),
        revision,
        next: None,
        in_force: None,
        releasing: None,
        ending: None,
        outcomes: vec![(revision, report(revision))],
        scheduled: Vec::new(),
        restraint: Restraint::default(),
    }
}

fn report(revision: u64) -> SetpointReport {
    SetpointReport {
        dispatch_id: DispatchId::new(Uuid::from_u128(revision.into())),
        revision,
        phase: SetpointPhase::Received,
        reason: None,
        text: None,
        applied: None,
    }
}

fn entry(revision: u64) -> ReportEntry {
    ReportEntry {
        at: Timestamp::from_unix_micros(5),
        asset_id: AssetId::new(Uuid::from_u128(1)),
        report: Report::Setpoint(report(revision)),
    }
}

/// A step that takes revision `n` and has report `n`.
fn step(n: u64) -> Commit {
    Commit {
        records: vec![record(n)],
        reports: vec![entry(n)],
        first_report: n,
        unacked_report: 1,
        last_epoch: n,
        ..Commit::default()
    }
}

/// Everything that is held, read back; each number at most once, in order, with its own content.
fn held(dir: &Dir, found: &RecoveredTelemetry) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut from = found.floor;
    while from < found.next {
        let fetched = dir.fetch(from, found.next).unwrap();
        assert!(fetched.until > from);
        for (number, item) in fetched.samples {
            assert!(numbers.last().is_none_or(|last| *last < number));
            assert_eq!(item, Ok(sample(number)), "invented");
            numbers.push(number);
        }
        from = fetched.until;
    }
    numbers
}

/// Each number from the floor on is held or declared lost, never neither.
fn accounted(dir: &Dir, found: &RecoveredTelemetry) -> Vec<u64> {
    let numbers = held(dir, found);
    for number in found.floor..found.next {
        let lost = found
            .gaps
            .iter()
            .any(|gap| (gap.first_seq..=gap.last_seq).contains(&number));
        assert!(
            numbers.contains(&number) != lost,
            "{number} is held and lost, or neither: {found:?}"
        );
    }
    numbers
}
