use derms_proto::link::MAX_SEQ;
use proptest::prelude::*;
use prost::Message as _;

use super::record::{Chunk, Step};
use super::*;

const STEPS: u64 = 4;

/// Both copies with the same steps.
fn ledger() -> (Folder, Recovered) {
    let folder = Folder::new();
    let (mut dir, before) = open(folder.path());
    for n in 1..=STEPS {
        dir.commit(&step(n)).unwrap();
    }
    drop(dir);
    (folder, before)
}

fn assert_whole(dir: &Path, before: &Recovered, what: &str) {
    let (_, after) = open(dir);
    assert_eq!(after.report_log, before.report_log, "{what}");
    assert_eq!(after.records, [record(STEPS)], "{what}");
    let reports: Vec<_> = (1..=STEPS).map(entry).collect();
    assert_eq!((after.first_report, after.reports), (1, reports), "{what}");
    assert_eq!((after.last_epoch, after.same_boot), (STEPS, true), "{what}");
}

#[test]
fn one_copy_of_the_ledger_may_be_cut_anywhere_and_nothing_is_forgotten() {
    let (folder, before) = ledger();
    let whole = files(folder.path());
    for name in ["ledger-a", "ledger-b"] {
        let path = folder.path().join(name);
        for cut in 0..whole[&path].len() {
            put_back(folder.path(), &whole);
            fs::write(&path, &whole[&path][..cut]).unwrap();
            assert_whole(folder.path(), &before, &format!("{name} cut at {cut}"));
        }
        put_back(folder.path(), &whole);
        fs::remove_file(&path).unwrap();
        assert_whole(folder.path(), &before, &format!("{name} is gone"));
    }
}

#[test]
fn one_copy_of_the_ledger_may_have_any_byte_wrong_and_nothing_is_forgotten() {
    let (folder, before) = ledger();
    let whole = files(folder.path());
    for name in ["ledger-a", "ledger-b"] {
        let path = folder.path().join(name);
        for at in 0..whole[&path].len() {
            put_back(folder.path(), &whole);
            let mut bytes = whole[&path].clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            assert_whole(folder.path(), &before, &format!("byte {at} of {name}"));
        }
    }
}

#[test]
fn with_both_copies_damaged_the_agent_starts_as_one_without_memory() {
    let (folder, before) = ledger();
    let whole = files(folder.path());
    for at in 0..whole[&folder.path().join("ledger-a")].len() {
        put_back(folder.path(), &whole);
        for name in ["ledger-a", "ledger-b"] {
            let path = folder.path().join(name);
            let mut bytes = whole[&path].clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
        }
        let (_, after) = open(folder.path());
        assert_ne!(after.report_log, before.report_log, "byte {at}");
        assert_ne!(after.telemetry_log, before.telemetry_log, "byte {at}");
        assert!(!after.same_boot, "byte {at}: no order goes on");
        let revision = after.records.iter().map(|record| record.revision).max();
        assert!(revision.unwrap_or(0) <= STEPS, "byte {at}");
        assert!(
            after.reports.len() as u64 >= STEPS - 2,
            "byte {at}: what is whole is kept"
        );
        // It goes on from there.
        let (_, again) = open(folder.path());
        assert_eq!(again.report_log, after.report_log);
        assert_eq!(again.reports, after.reports);
    }
}

#[derive(Debug, Clone, Copy)]
enum Harm {
    Cut,
    Flip(u8),
    Remove,
    Zero,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        3 => Just(Harm::Cut),
        5 => (0_u8..8).prop_map(Harm::Flip),
        1 => Just(Harm::Remove),
        1 => Just(Harm::Zero),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_one_telemetry_file_the_rest_is_kept_and_the_loss_declared(
        chunks in prop::collection::vec(1_u64..8, 2..20),
        starts in prop::collection::vec(any::<bool>(), 20),
        harm in harm(),
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let folder = Folder::new();
        let (mut dir, found) = open(folder.path());
        let log = found.telemetry_log;
        let mut next = 1;
        for (count, start) in chunks.iter().zip(starts) {
            dir.shelve(shelved(next, *count, 1, next + count)).unwrap();
            next += count;
            if start {
                drop(dir);
                let opened = open(folder.path());
                prop_assert_eq!(opened.1.telemetry.next, next + 1);
                // The next number is lost: it may have been sent.
                next += 1;
                dir = opened.0;
            }
        }
        drop(dir);
        let before = {
            let (dir, found) = open(folder.path());
            accounted(&dir, &found.telemetry)
        };
        let all = files(folder.path());
        let segments: Vec<_> = all.keys().filter(|path| path.extension().is_some()).collect();
        let path = segments[file.index(segments.len())];
        let mut bytes = all[path].clone();
        let at = at.index(bytes.len());
        match harm {
            Harm::Cut => bytes.truncate(at),
            Harm::Flip(bit) => bytes[at] ^= 1 << bit,
            Harm::Zero => bytes[at..].fill(0),
            Harm::Remove => {}
        }
        if matches!(harm, Harm::Remove) {
            fs::remove_file(path).unwrap();
        } else {
            fs::write(path, &bytes).unwrap();
        }
        let (dir, found) = open(folder.path());
        prop_assert_eq!(found.telemetry_log, log);
        let after = accounted(&dir, &found.telemetry);
        prop_assert!(after.iter().all(|number| before.contains(number)), "invented");
        let lost = before.len() - after.len();
        let most = if let Harm::Flip(_) = harm { 7 } else { before.len() };
        prop_assert!(lost <= most, "{lost} lost for one bit");
    }
}

#[test]
fn a_damaged_file_found_only_when_it_is_read_back_gives_what_is_whole() {
    let folder = Folder::new();
    let (mut dir, _) = open(folder.path());
    for n in 0..3 {
        dir.shelve(shelved(1 + n * 5, 5, 1, 0)).unwrap();
    }
    let all = files(folder.path());
    let (path, bytes) = all
        .iter()
        .find(|(path, _)| path.extension().is_some())
        .unwrap();
    let mut bytes = bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, &bytes).unwrap();
    let fetched = dir.fetch(1, 16).unwrap();
    let numbers: Vec<_> = fetched.samples.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]);
    assert_eq!(fetched.until, 16);
}

/// Appends a frame with the right checksum to the ledgers and to a telemetry file.
fn append(dir: &Path, step: &Step, chunk: &Chunk) {
    for path in files(dir).keys() {
        let mut bytes = fs::read(path).unwrap();
        if path.extension().is_some() {
            frame::put(&mut bytes, &chunk.encode_to_vec());
        } else {
            frame::put(&mut bytes, &step.encode_to_vec());
        }
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn numbers_that_no_agent_comes_to_are_damage_and_neither_hang_nor_overflow() {
    for far in [u64::MAX, u64::MAX - 1, MAX_SEQ + 1] {
        let (folder, before) = ledger();
        let (mut dir, _) = open(folder.path());
        dir.shelve(shelved(1, 3, 1, 3)).unwrap();
        drop(dir);
        let step = Step {
            index: far,
            unacked_report: far,
            last_epoch: far,
            ..Step::default()
        };
        let chunk = Chunk {
            floor: far,
            mark: far,
            first: far,
            count: far,
            ..Chunk::default()
        };
        append(folder.path(), &step, &chunk);
        let (_, after) = open(folder.path());
        assert_ne!(after.report_log, before.report_log, "it can't be trusted");
        assert_eq!(after.records, [record(STEPS)], "what is whole is kept");
        assert_eq!(after.telemetry.next, 4);
        // And what was written of it is sound.
        let (_, again) = open(folder.path());
        assert_eq!(again.records, after.records);
    }
}
