//! The messages that every later version must read as this one does, as values and as protobuf.
//!
//! A file is named after its member of the envelope: `agent_register.bin` has every field set,
//! `agent_register_minimal.bin` only what must be there, and further endings stand for further
//! choices of a oneof.

mod agents;
mod headends;
mod probes;

use std::time::Duration;

use derms_proto::link::Close;
use derms_proto::{CloseReason, InvalidId, Timestamp};

pub(crate) use agents::of_agents;
pub(crate) use headends::of_headends;
pub(crate) use probes::{of_probe_answers, of_probes};

/// One file: its name without ending, its bytes, and what they mean.
pub(crate) struct Golden<T> {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) message: T,
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const ASSET: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
const AGENT: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const INSTANCE: &str = "018f3c1e-8a52-7c3d-9b1f-5e6a7b8c9d0e";
const DISPATCH: &str = "018f3c1e-8a53-7123-8456-789abcdef012";
const LOG: &str = "0b6f1c7e-3f0a-4c7b-9a55-1d2e3f405162";

fn id<T: std::str::FromStr<Err = InvalidId>>(text: &str) -> T {
    text.parse().expect("the ids of this file are UUIDs")
}

fn noon() -> Timestamp {
    Timestamp::from_unix_micros(1_769_860_800_250_001)
}

fn pb_noon() -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: 1_769_860_800,
        nanos: 250_001_000,
    }
}

fn pb_seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn close() -> Close {
    Close {
        reason: CloseReason::Draining,
        text: "an update".to_owned(),
        retry_after: Some(Duration::from_millis(7_500)),
    }
}
