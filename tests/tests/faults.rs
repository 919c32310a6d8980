//! `docs/faults.md` names a test for each fault, `docs/security.md` one for each defence; each must
//! be one that runs.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::collections::BTreeSet;
use std::path::Path;

/// The names of all tests in the Rust files below a folder.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            tests_below(&path, found);
        } else if name.ends_with(".rs") {
            tests_in(&std::fs::read_to_string(&path).unwrap(), found);
        }
    }
}

/// A function with `#[test]` or `#[tokio::test…]` above it and without `#[ignore]`.
fn tests_in(source: &str, found: &mut BTreeSet<String>) {
    let (mut is_test, mut ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            (is_test, ignored) = (true, false);
        } else if line.starts_with("#[ignore") {
            ignored = true;
        } else if let Some((_, name)) = line.split_once("fn ")
            && !line.starts_with("//")
        {
            let name = name.split('(').next().unwrap();
            if std::mem::take(&mut is_test) && !ignored {
                found.insert(name.to_owned());
            }
        }
    }
}

fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    tests_below(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        &mut known,
    );
    known
}

/// The rows of all tables that end with a cell in backquotes.
fn named(text: &str) -> Vec<&str> {
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.strip_suffix("` |"));
    cells.filter_map(|row| row.rsplit('`').next()).collect()
}

#[test]
fn every_defence_that_names_a_test_has_one_that_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    // The last table names places, not tests.
    let (defences, _) = text.split_once("## Bounds").unwrap();
    let (known, named) = (known(), named(defences));
    assert!(named.len() >= 35, "{} defences", named.len());
    for name in named {
        assert!(known.contains(name), "there is no test {name}");
    }
}

#[test]
fn every_fault_has_a_test_that_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let known = known();
    let text = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let named: Vec<&str> = rows
        .iter()
        .filter_map(|row| row.rsplit('`').nth(1))
        .collect();
    assert_eq!(named.len(), rows.len() - 1, "a row without a test");
    assert_eq!(named.len(), 20, "a fault that was dropped");
    for name in named {
        assert!(known.contains(name), "there is no test {name}");
    }
}

#[test]
fn an_ignored_test_and_a_plain_function_are_none() {
    let mut found = BTreeSet::new();
    tests_in(
        "#[test]\n#[ignore]\nfn a() {}\nfn b() {}\n#[tokio::test(start_paused = true)]\nasync fn c() {}\n",
        &mut found,
    );
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["c"]);
}
