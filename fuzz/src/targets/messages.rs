//! One message of the agent link, as each side reads it, and the question without a session.

use std::fmt::Debug;
use std::io;

use derms_proto::link::{AgentMessage, HeadendMessage, Probe, ProbeAnswer};
use derms_proto::pb;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::MIB;
use crate::{Shape, Target, Verdict, files_in};

/// Of the wire: ids that are known, field heads, numbers in their longest form.
const TOKENS: &[&[u8]] = &[
    b"7ba7b810-9dad-11d1-80b4-00c04fd430c8",
    b"6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    b"\x0a\x00",
    b"\x12\x00",
    b"\x1a\x00",
    b"\x0a\x24",
    b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x00\x00\x00\x00\x00\x00\xf8\x7f",
    b"\x00\x00\x00\x00\x00\x00\xf0\xff",
];

/// The largest message that a peer may send.
pub(super) const LARGEST: usize = 256 << 10;

/// The headend's side.
pub(super) const AGENT: Target = Target {
    name: "agent_message",
    about: "a message of an agent, as the headend reads it",
    run: read::<pb::AgentMessage, AgentMessage>,
    seeds: || {
        files_in("../derms-proto/tests/golden/v1.0", "agent_").and_then(with("agent_message"))
    },
    shape: Shape::Protobuf,
    tokens: TOKENS,
    longest: LARGEST,
    memory: 64 * MIB,
};

/// The agent's side.
pub(super) const HEADEND: Target = Target {
    name: "headend_message",
    about: "a message of the headend, as an agent reads it",
    run: read::<pb::HeadendMessage, HeadendMessage>,
    seeds: || {
        files_in("../derms-proto/tests/golden/v1.0", "headend_").and_then(with("headend_message"))
    },
    shape: Shape::Protobuf,
    tokens: TOKENS,
    longest: LARGEST,
    memory: 64 * MIB,
};

/// The headend's side, asked without a session.
pub(super) const PROBE_REQUEST: Target = Target {
    name: "probe_request",
    about: "the question of an agent that registers nowhere, as the headend reads it",
    run: read::<pb::ProbeRequest, Probe>,
    seeds: || probe("probe_request"),
    shape: Shape::Protobuf,
    tokens: TOKENS,
    longest: LARGEST,
    memory: 64 * MIB,
};

/// The agent's side of it.
pub(super) const PROBE_ANSWER: Target = Target {
    name: "probe_answer",
    about: "the answer to that question, as an agent reads it",
    run: read::<pb::ProbeAnswer, ProbeAnswer>,
    seeds: || probe("probe_answer"),
    shape: Shape::Protobuf,
    tokens: TOKENS,
    longest: LARGEST,
    memory: 64 * MIB,
};

/// Of those that were released, and one for each list that there is or may be.
fn probe(name: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = files_in("../derms-proto/tests/golden/v1.0", name)?;
    seeds.extend(files_in(&format!("corpus/{name}"), "")?);
    seeds.extend((1..=8).map(empty_items));
    Ok(seeds)
}

/// The most items that fit into a message, for each list that there is or may be: two bytes of an
/// empty item become a whole struct in memory.
fn packed() -> impl Iterator<Item = Vec<u8>> {
    let lists = (10..=20_u32).flat_map(|body| (1..=8_u32).map(move |list| (body, list)));
    lists.map(|(body, list)| {
        let items = empty_items(list);
        let mut message = Vec::new();
        encode_key(body, WireType::LengthDelimited, &mut message);
        encode_varint(items.len() as u64, &mut message);
        [message, items].concat()
    })
}

/// As many empty items of one list as fit.
fn empty_items(list: u32) -> Vec<u8> {
    let mut item = Vec::new();
    encode_key(list, WireType::LengthDelimited, &mut item);
    item.push(0);
    item.repeat((LARGEST - 16) / item.len())
}

fn with(name: &str) -> impl FnOnce(Vec<Vec<u8>>) -> io::Result<Vec<Vec<u8>>> {
    let folder = format!("corpus/{name}");
    move |mut seeds| {
        seeds.extend(files_in(&folder, "")?);
        seeds.extend(packed());
        Ok(seeds)
    }
}

/// What was understood must be understood again when it is sent on.
fn read<Pb, T>(input: &[u8]) -> Verdict
where
    Pb: Message + Default + From<T>,
    T: TryFrom<Pb, Error: Debug> + Clone + PartialEq + Debug,
{
    let Ok(message) = Pb::decode(input) else {
        return Verdict::Refused;
    };
    let Ok(message) = T::try_from(message) else {
        return Verdict::Refused;
    };
    let pass = |message: T| {
        let bytes = Pb::from(message).encode_to_vec();
        let again = Pb::decode(&bytes[..]).expect("what we wrote can be decoded");
        T::try_from(again).expect("what we wrote is valid")
    };
    let again = pass(message.clone());
    // An item that was refused has no full way back; what is left of it stays refused.
    if format!("{message:?}").contains("Refusal {") {
        assert_eq!(pass(again.clone()), again);
    } else {
        assert_eq!(again, message);
    }
    Verdict::Taken
}
