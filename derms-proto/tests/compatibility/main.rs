//! The agent link of today understands every release of it.
//!
//! `proto/released/` holds the descriptor set of each release, written once by
//! `cargo xtask codegen --release VERSION`. What was released may grow and may retire things by
//! reserving them; nothing else may change.

#![cfg(feature = "grpc")]

mod planted;
mod rules;

use std::path::Path;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use rules::{breaks, faults};

fn read(path: &Path) -> FileDescriptorSet {
    let bytes = std::fs::read(path).expect("the file is checked in");
    FileDescriptorSet::decode(bytes.as_slice()).expect("the file is a descriptor set")
}

fn crate_file(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn current() -> FileDescriptorSet {
    read(&crate_file("src/generated/derms.v1.binpb"))
}

#[test]
fn the_current_link_is_compatible_with_every_release() {
    let mut releases = 0;
    for entry in std::fs::read_dir(crate_file("proto/released")).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        assert_eq!(
            breaks(&read(&path), &current()),
            Vec::<String>::new(),
            "since {}",
            path.display()
        );
        releases += 1;
    }
    assert_ne!(releases, 0, "no release to compare with");
}

#[test]
fn the_current_link_keeps_to_the_numbering_of_its_envelopes_and_of_vendors() {
    assert_eq!(faults(&current()), Vec::<String>::new());
}
