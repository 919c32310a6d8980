use derms_proto::link::GapReason;

use super::*;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("telemetry")).unwrap();
    for path in files(from).into_keys().chain([from.join("lock")]) {
        let name = path.strip_prefix(from).unwrap().to_owned();
        fs::copy(&path, to.join(name)).unwrap();
    }
}

fn problem(dir: &Path, options: &Options) -> String {
    Dir::open(dir, options).unwrap_err().to_string()
}

#[test]
fn a_directory_is_of_one_process_and_of_one_agent() {
    let folder = Folder::new();
    let (dir, _) = open(folder.path());
    assert!(problem(folder.path(), &options()).contains("another process uses it"));
    drop(dir);
    open(folder.path());
    let other = Options {
        agent_id: AgentId::new(Uuid::from_u128(8)),
        ..options()
    };
    let text = problem(folder.path(), &other);
    assert!(
        text.contains("belongs to agent 00000000-0000-0000-0000-000000000007"),
        "{text}"
    );
}

#[test]
fn what_can_not_be_a_directory_is_told_at_once() {
    let folder = Folder::new();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(
        Dir::open(&file, &options()),
        Err(OpenError::Io(_))
    ));
}

#[test]
fn files_of_a_later_version_are_refused_and_not_touched() {
    for name in ["ledger-a", "telemetry/0000000000000001.seg"] {
        let folder = Folder::new();
        let (mut dir, _) = open(folder.path());
        dir.shelve(shelved(1, 3, 1, 3)).unwrap();
        drop(dir);
        let path = folder.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let before = files(folder.path());
        let text = problem(folder.path(), &options());
        assert!(text.contains("later version (format 2)"), "{text}");
        assert_eq!(files(folder.path()), before);
    }
}

#[test]
fn a_copy_goes_on_under_other_logs_and_with_no_order() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let (mut dir, first) = open(folder.path());
    dir.commit(&step(1)).unwrap();
    dir.shelve(shelved(1, 5, 3, 5)).unwrap();
    drop(dir);
    let place = elsewhere.path().join("copy");
    copy(folder.path(), &place);

    let (dir, found) = open(&place);
    assert_ne!(found.telemetry_log, first.telemetry_log);
    assert_ne!(found.report_log, first.report_log);
    assert!(!found.same_boot);
    assert_eq!(found.records, [record(1)], "revisions are remembered");
    // Numbers begin again at 1 with what was not acknowledged.
    assert_eq!((found.telemetry.floor, found.telemetry.next), (1, 4));
    let fetched = dir.fetch(1, 4).unwrap().samples;
    let expected: Vec<_> = (3..=5).map(|n| (n - 2, Ok(sample(n)))).collect();
    assert_eq!(fetched, expected);
    drop(dir);
    let (_, again) = open(&place);
    assert_eq!(
        again.telemetry_log, found.telemetry_log,
        "from now on it is a place of its own"
    );
    let (_, original) = open(folder.path());
    assert_eq!(original.telemetry_log, first.telemetry_log);
    assert!(original.same_boot);
}

#[test]
fn another_boot_is_noticed() {
    let folder = Folder::new();
    open(folder.path());
    assert!(open(folder.path()).1.same_boot);
    let rebooted = Options {
        boot: Some("next".into()),
        ..options()
    };
    assert!(!Dir::open(folder.path(), &rebooted).unwrap().1.same_boot);
    let unsure = Options {
        boot: None,
        ..options()
    };
    for _ in 0..2 {
        assert!(!Dir::open(folder.path(), &unsure).unwrap().1.same_boot);
    }
}

#[test]
fn the_oldest_file_goes_when_all_are_full_and_old_ones_by_age() {
    let folder = Folder::new();
    let small = Options {
        telemetry_bytes: 64 << 10,
        ..options()
    };
    let (mut dir, _) = Dir::open(folder.path(), &small).unwrap();
    let (mut next, mut lost) = (1, 0);
    for _ in 0..100 {
        let kept = dir.shelve(shelved(next, 50, 1, 0)).unwrap();
        next += 50;
        if let Some(gap) = kept.dropped {
            assert_eq!(
                (gap.first_seq, gap.reason),
                (lost + 1, GapReason::OutboxFull)
            );
            lost = gap.last_seq;
        }
        let bytes: usize = files(folder.path()).values().map(Vec::len).sum();
        assert!(bytes < 90 << 10, "{bytes}");
    }
    assert!(lost > 1_000 && next - lost > 300, "{lost} of {next} lost");
    let late = Shelved {
        now: MonoTime::from_origin(Duration::from_secs(3_601)),
        ..shelved(next, 1, 1, 0)
    };
    let gap = dir.shelve(late).unwrap().dropped.unwrap();
    assert_eq!((gap.first_seq, gap.reason), (lost + 1, GapReason::TooOld));
    drop(dir);
    // A loss that was not yet written down is declared at the next start.
    let (dir, found) = Dir::open(folder.path(), &small).unwrap();
    accounted(&dir, &found.telemetry);
}

#[test]
fn what_is_acknowledged_is_deleted_and_the_mark_survives_it() {
    let folder = Folder::new();
    let small = Options {
        telemetry_bytes: 256 << 10,
        ..options()
    };
    let (mut dir, _) = Dir::open(folder.path(), &small).unwrap();
    let mut next = 1;
    while files(folder.path()).len() < 8 {
        dir.shelve(shelved(next, 50, 1, next + 49)).unwrap();
        next += 50;
    }
    dir.shelve(shelved(next, 0, next, next + 999)).unwrap();
    assert_eq!(
        files(folder.path()).len(),
        3,
        "two ledgers and what is written to"
    );
    drop(dir);
    let (_, found) = Dir::open(folder.path(), &small).unwrap();
    assert_eq!(
        (found.telemetry.floor, found.telemetry.next),
        (next, next + 1_000)
    );
    assert_eq!(found.telemetry.mark, next + 999);
}

#[test]
fn a_report_that_was_acknowledged_before_it_was_written_makes_no_hole() {
    let folder = Folder::new();
    let (mut dir, _) = open(folder.path());
    dir.commit(&step(1)).unwrap();
    let later = Commit {
        unacked_report: 3,
        ..step(3)
    };
    dir.commit(&later).unwrap();
    drop(dir);
    for _ in 0..2 {
        let (_, found) = open(folder.path());
        assert_eq!((found.first_report, found.reports), (3, vec![entry(3)]));
    }
}
