//! Messages as version 1.0 wrote them: every later version reads them as this one does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "golden/coverage.rs"]
mod coverage;
#[path = "golden/messages.rs"]
mod messages;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use coverage::Coverage;
use derms_proto::link::{AgentMessage, HeadendMessage, Probe, ProbeAnswer};
use derms_proto::pb;
use derms_proto::wire::TraceContext;
use messages::{Golden, of_agents, of_headends, of_probe_answers, of_probes};
use prost::Message;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1.0")
}

fn read(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.bin"));
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; write it with `cargo run -p derms-proto --features grpc --example write_golden`",
            path.display()
        )
    })
}

/// Reads each file with today's code and compares it with what it meant when it was written.
fn check<Pb, T>(goldens: &[Golden<T>])
where
    Pb: Message + Default + Debug + TraceContext + PartialEq,
    T: TryFrom<Pb, Error: Debug> + PartialEq + Debug,
{
    for golden in goldens {
        let file = Pb::decode(&read(golden.name)[..]).unwrap();
        assert!(
            file == Pb::decode(&golden.bytes[..]).unwrap(),
            "{} holds {file:?}",
            golden.name
        );
        assert_eq!(
            file.trace_context().is_some(),
            !golden.name.ends_with("_minimal"),
            "{}",
            golden.name
        );
        assert_eq!(
            T::try_from(file).unwrap(),
            golden.message,
            "{}",
            golden.name
        );
    }
}

#[test]
fn what_agents_of_version_1_0_wrote_is_read_as_it_was_meant() {
    check::<pb::AgentMessage, AgentMessage>(&of_agents());
}

#[test]
fn what_headends_of_version_1_0_wrote_is_read_as_it_was_meant() {
    check::<pb::HeadendMessage, HeadendMessage>(&of_headends());
}

/// The same for what is not in an envelope, and so has no trace context.
fn check_bare<Pb, T>(goldens: &[Golden<T>])
where
    Pb: Message + Default + Debug + PartialEq,
    T: TryFrom<Pb, Error: Debug> + PartialEq + Debug,
{
    for golden in goldens {
        let file = Pb::decode(&read(golden.name)[..]).unwrap();
        let expected = Pb::decode(&golden.bytes[..]).unwrap();
        assert!(file == expected, "{} holds {file:?}", golden.name);
        let name = golden.name;
        assert_eq!(T::try_from(file).unwrap(), golden.message, "{name}");
    }
}

#[test]
fn probes_and_answers_of_version_1_0_are_read_as_they_were_meant() {
    check_bare::<pb::ProbeRequest, Probe>(&of_probes());
    check_bare::<pb::ProbeAnswer, ProbeAnswer>(&of_probe_answers());
}

#[test]
fn every_kind_of_message_has_a_full_and_a_minimal_file_and_no_file_is_idle() {
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known: BTreeSet<String> = of_agents()
        .iter()
        .map(|golden| golden.name)
        .chain(of_headends().iter().map(|golden| golden.name))
        .chain(of_probes().iter().map(|golden| golden.name))
        .chain(of_probe_answers().iter().map(|golden| golden.name))
        .map(|name| format!("{name}.bin"))
        .collect();
    assert_eq!(files, known);

    let coverage = Coverage::new();
    for (side, envelope) in [("agent", "AgentMessage"), ("headend", "HeadendMessage")] {
        for kind in coverage.members(envelope) {
            for ending in ["", "_minimal"] {
                let name = format!("{side}_{kind}{ending}.bin");
                assert!(files.contains(&name), "{name} is missing");
            }
        }
    }
}

#[test]
fn every_field_of_the_protocol_is_in_some_file() {
    let mut coverage = Coverage::new();
    for golden in of_agents() {
        coverage.read("AgentMessage", &read(golden.name));
    }
    for golden in of_headends() {
        coverage.read("HeadendMessage", &read(golden.name));
    }
    for golden in of_probes() {
        coverage.read("ProbeRequest", &read(golden.name));
    }
    for golden in of_probe_answers() {
        coverage.read("ProbeAnswer", &read(golden.name));
    }
    assert_eq!(coverage.missing(), Vec::<String>::new());
}
