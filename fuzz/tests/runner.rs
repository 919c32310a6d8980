//! The runner finds what is planted, and the decoders keep what is in their corpus.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use derms_fuzz::targets;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn fuzz(args: &[&str], findings: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_derms-fuzz"))
        .args(args)
        .arg("--findings")
        .arg(findings)
        .output()
        .unwrap()
}

/// A planted fault is found, its input kept, and found again in that input alone.
#[track_caller]
fn finds(target: &str, kind: &str) {
    let findings = folder(target);
    let _ = std::fs::remove_dir_all(&findings);
    let found = fuzz(&[target, "--seconds", "5"], &findings);
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("FOUND a {kind}")), "{said}");
    let kept = std::fs::read_dir(&findings).unwrap();
    let input = kept
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_none())
        .unwrap();
    let again = fuzz(&[target, "--replay", input.to_str().unwrap()], &findings);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
}

#[test]
fn a_panic_is_found() {
    finds("planted_panic", "panic");
}

#[test]
fn a_panic_that_a_task_keeps_to_itself_is_found() {
    finds("planted_panic_in_a_task", "panic");
}

#[test]
fn an_allocation_over_the_bound_is_found() {
    // A panic or an abort, as the standard library of the day has it.
    finds("planted_allocation", "");
}

#[test]
fn a_recursion_without_end_is_found() {
    finds("planted_recursion", "abort");
}

#[test]
fn an_input_that_takes_for_ever_is_found() {
    finds("planted_hang", "hang");
}

#[test]
fn memory_that_is_never_given_back_is_found() {
    // No one input is at fault, so the last of them alone is not.
    let found = fuzz(&["planted_leak", "--seconds", "5"], &folder("planted_leak"));
    assert_eq!(found.status.code(), Some(1), "{found:?}");
}

#[test]
fn a_corpus_that_reaches_nothing_is_an_error() {
    let idle = fuzz(&["planted_idle", "--seconds", "0"], &folder("planted_idle"));
    assert_eq!(idle.status.code(), Some(2), "{idle:?}");
    let said = String::from_utf8_lossy(&idle.stderr);
    assert!(said.contains("no input was taken"), "{said}");
}

#[test]
fn every_decoder_keeps_to_its_rules_over_its_corpus() {
    let findings = folder("corpus");
    for target in targets::ALL {
        let done = fuzz(&[target.name, "--seconds", "0"], &findings);
        assert!(done.status.success(), "{}: {done:?}", target.name);
    }
}

#[test]
fn every_folder_of_the_corpus_has_its_decoder() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(corpus).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(targets::named(&name).is_some(), "{name}");
    }
}
