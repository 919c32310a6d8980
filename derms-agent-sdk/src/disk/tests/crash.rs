use proptest::prelude::*;

use super::*;

/// The directories that a power loss during an operation may leave, given what was there before
/// and after it: files are written one after the other, each of them up to anywhere.
fn torn(before: &Files, after: &Files, order: &[PathBuf]) -> Vec<Files> {
    let mut states = vec![before.clone()];
    let mut done = before.clone();
    for path in order {
        let (old, new) = (before.get(path), &after[path]);
        let start = old.map_or(0, Vec::len);
        if old.is_some_and(|old| !new.starts_with(old)) {
            // Replaced as a whole.
        } else {
            for cut in start..new.len() {
                let mut state = done.clone();
                state.insert(path.clone(), new[..cut].to_vec());
                states.push(state);
            }
        }
        done.insert(path.clone(), new.clone());
        states.push(done.clone());
    }
    states
}

#[test]
fn a_power_loss_at_any_byte_of_a_step_gives_the_state_before_or_after_it() {
    let folder = Folder::new();
    let (mut dir, first) = open(folder.path());
    for n in 1..=3 {
        let before = files(folder.path());
        dir.commit(&step(n)).unwrap();
        let after = files(folder.path());
        let order = ["ledger-a", "ledger-b"].map(|name| folder.path().join(name));
        drop(dir);
        let states = torn(&before, &after, &order);
        assert!(states.len() > 100);
        for state in &states {
            put_back(folder.path(), state);
            let (_, found) = open(folder.path());
            let revision = found.records.first().map_or(0, |record| record.revision);
            assert!(revision == n || revision == n - 1);
            let reports: Vec<_> = (1..=revision).map(entry).collect();
            assert_eq!(found.reports, reports, "all of a step or nothing");
            assert_eq!(found.report_log, first.report_log, "nothing was lost");
            assert!(found.same_boot);
        }
        put_back(folder.path(), &after);
        dir = open(folder.path()).0;
    }
}

#[test]
fn a_power_loss_at_any_byte_of_a_chunk_loses_that_chunk_at_most_and_reuses_no_number() {
    let folder = Folder::new();
    let (mut dir, _) = open(folder.path());
    let mut next = 1;
    for round in 0..3 {
        let before = files(folder.path());
        dir.shelve(shelved(next, 4, 1, next + 10)).unwrap();
        let after = files(folder.path());
        let order: Vec<_> = after
            .keys()
            .filter(|path| before.get(*path) != after.get(*path))
            .cloned()
            .collect();
        drop(dir);
        for state in torn(&before, &after, &order) {
            put_back(folder.path(), &state);
            let (dir, found) = open(folder.path());
            let numbers = accounted(&dir, &found.telemetry);
            let kept: Vec<_> = (1..next).collect();
            let all: Vec<_> = (1..next + 4).collect();
            assert!(numbers == kept || numbers == all, "{round}: {numbers:?}");
            // Sent was what the mark before allowed, at the most.
            let sent = if round == 0 { 0 } else { next + 6 };
            assert!(found.telemetry.next > sent);
        }
        put_back(folder.path(), &after);
        dir = open(folder.path()).0;
        next += 4;
    }
}

#[derive(Debug, Clone)]
enum Act {
    Order,
    AckReports(u8),
    Shelve(u64),
    Ack(f64),
    Crash(bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Order),
        2 => (0_u8..4).prop_map(Act::AckReports),
        5 => (0_u64..200).prop_map(Act::Shelve),
        3 => (0.0..=1.0).prop_map(Act::Ack),
        2 => any::<bool>().prop_map(Act::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_life_of_a_directory_forgets_or_invents_anything(acts in prop::collection::vec(act(), 1..60)) {
        let folder = Folder::new();
        let small = Options { telemetry_bytes: 256 << 10, ..options() };
        let (mut dir, first) = Dir::open(folder.path(), &small).unwrap();
        let (mut revision, mut unacked) = (0, 1);
        let (mut next, mut floor, mut mark) = (1, 1, 0);
        let mut gaps: Vec<derms_proto::link::Gap> = Vec::new();
        let mut written = std::collections::BTreeSet::new();
        for act in acts {
            match act {
                Act::Order => {
                    revision += 1;
                    dir.commit(&Commit { unacked_report: unacked, ..step(revision) }).unwrap();
                }
                Act::AckReports(count) => {
                    unacked = (unacked + u64::from(count)).min(revision + 1);
                    dir.commit(&Commit {
                        first_report: revision + 1,
                        unacked_report: unacked,
                        last_epoch: revision,
                        ..Commit::default()
                    }).unwrap();
                }
                Act::Shelve(count) => {
                    mark = next + count + 5;
                    let job = Shelved { gaps: gaps.clone(), ..shelved(next, count, floor, mark) };
                    let dropped = dir.shelve(job).unwrap().dropped;
                    written.extend(next..next + count);
                    if let Some(gap) = dropped {
                        written.retain(|number| *number > gap.last_seq);
                    }
                    gaps.extend(dropped);
                    next += count;
                }
                Act::Ack(part) => {
                    floor += ((next - floor) as f64 * part) as u64;
                    dir.shelve(Shelved { gaps: gaps.clone(), ..shelved(next, 0, floor, mark) }).unwrap();
                }
                Act::Crash(clean) => {
                    if clean {
                        mark = next - 1;
                        dir.shelve(Shelved { gaps: gaps.clone(), ..shelved(next, 0, floor, mark) }).unwrap();
                    }
                    drop(dir);
                    let opened = Dir::open(folder.path(), &small).unwrap();
                    dir = opened.0;
                    let found = opened.1;
                    prop_assert_eq!(found.report_log, first.report_log);
                    prop_assert_eq!(found.telemetry_log, first.telemetry_log);
                    let known = found.records.first().map_or(0, |record| record.revision);
                    prop_assert_eq!(known, revision);
                    let reports: Vec<_> = (unacked..=revision).map(entry).collect();
                    prop_assert_eq!(found.reports, reports);
                    let held = accounted(&dir, &found.telemetry);
                    let held = held.into_iter().filter(|number| *number >= floor);
                    let expected = written.iter().copied().filter(|number| *number >= floor);
                    prop_assert!(held.eq(expected), "what is not acknowledged is there");
                    prop_assert!(found.telemetry.next > mark && found.telemetry.next >= next);
                    prop_assert!(found.telemetry.floor <= floor);
                    next = found.telemetry.next;
                    gaps = found.telemetry.gaps;
                    prop_assert!(!clean || found.telemetry.next == mark.max(1) + 1 || mark == 0);
                }
            }
        }
    }
}
