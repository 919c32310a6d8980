//! The files of an agent's state directory, with checksums that are right: what damage alone does
//! is tried in the agent SDK, where each byte is cut and flipped.
//!
//! An input is a row of records: file, mode, length (two bytes), content. Seeds are whole
//! directories of real agents, turned into such rows.

use std::io;
use std::path::Path;
use std::time::Duration;

use derms_agent_sdk::{AgentRuntime, BuildError, sim};
use prost::Message as _;

use super::folder::Folder;
use super::{MIB, fleet, runtime};
use crate::{Shape, Target, Verdict, files_in};

pub(super) const TARGET: Target = Target {
    name: "state_dir",
    about: "an agent's state directory, as it is read at the start",
    run,
    seeds,
    shape: Shape::Records,
    tokens: &[
        b"\x00\x02\x00\x00",
        b"\x00\x03\x00\x00",
        b"\x02\x01\x00\x00",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
    longest: 32 << 10,
    memory: 192 * MIB,
};

const MARKER: [u8; 4] = [0xd5, 0xa6, 0x4c, 0x1f];
const HEADER: usize = 16;
const FRAME: usize = 12;
const LEDGERS: u8 = 2;
const FILES: u8 = 6;

const RAW: u8 = 0;
const AS_FRAME: u8 = 1;
/// A frame that names the directory it lies in, as only one that was not copied does.
const AS_OWN: u8 = 2;
const AS_HEADER: u8 = 3;

fn file(number: u8) -> String {
    match number % FILES {
        0 => "ledger-a".to_owned(),
        1 => "ledger-b".to_owned(),
        segment => format!("telemetry/{segment:016x}.seg"),
    }
}

/// The agent starts, works a little, is killed, and starts once more: what it has written of what it found
/// must be good for the next start.
fn run(input: &[u8]) -> Verdict {
    let folder = Folder::new();
    let _ = open(folder.path()).expect("an agent opens an empty directory");
    let identity = identity(folder.path());
    for (number, content) in files(input, &identity) {
        let path = folder.path().join(file(number));
        std::fs::write(path, content).expect("the directory can be written");
    }
    match open(folder.path()) {
        Ok(agent) => runtime().block_on(async {
            // On the paused clock; the agent's own does not jump, so nothing of it ends sooner.
            let run = tokio::time::timeout(Duration::from_millis(20), agent.run());
            assert!(run.await.is_err(), "an agent without a headend goes on");
        }),
        // Another agent's, or a later version's: said, and nothing touched.
        Err(BuildError::StateDir { .. }) => return Verdict::Refused,
        Err(error) => panic!("{error}"),
    }
    let _ = open(folder.path()).expect("what an agent wrote it can read");
    Verdict::Taken
}

fn open(dir: &Path) -> Result<AgentRuntime, BuildError> {
    let asset = fleet().assets()[0].clone();
    let device = sim::for_asset(&asset, 0);
    // Nobody listens there.
    let headend = "http://127.0.0.1:1".parse().expect("a URI");
    AgentRuntime::builder(headend)
        .adapter(asset, device)
        .state_dir(dir)
        .build()
}

/// What each file holds.
fn files(input: &[u8], identity: &[u8]) -> std::collections::BTreeMap<u8, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    let mut rest = input;
    while let Some((&[number, mode, low, high], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(after.len());
        let (content, after) = after.split_at(length);
        rest = after;
        let number = number % FILES;
        let file: &mut Vec<u8> = files.entry(number).or_default();
        match mode % 4 {
            AS_FRAME => file.extend(framed(content)),
            AS_OWN => file.extend(framed(&[content, identity].concat())),
            AS_HEADER => file.extend(header(number)),
            _ => file.extend(content),
        }
    }
    files
}

fn header(number: u8) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(b"DERMSAG\n");
    header[8] = 1;
    header[10] = if number < LEDGERS { 1 } else { 2 };
    let crc = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(payload);
    [&MARKER[..], &length, &crc.finalize().to_le_bytes(), payload].concat()
}

/// The payloads of a file that is whole.
fn frames(file: &[u8]) -> Vec<&[u8]> {
    let mut rest = file.get(HEADER..).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<FRAME>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (payload, after) = after.split_at(length.min(after.len()));
        frames.push(payload);
        rest = after;
    }
    frames
}

/// Of a step of the ledger only what says whose it is, undecoded.
#[derive(Clone, PartialEq, prost::Message)]
struct Owner {
    #[prost(bytes = "vec", tag = "2")]
    identity: Vec<u8>,
}

/// The field of the ledger that names this directory; at the end of a step it beats what is there.
fn identity(dir: &Path) -> Vec<u8> {
    let ledger = std::fs::read(dir.join(file(0))).expect("an agent has a ledger");
    let first = frames(&ledger)[0];
    let owner = Owner::decode(first).expect("a ledger begins with its owner");
    owner.encode_to_vec()
}

fn seeds() -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = files_in("corpus/state_dir", "")?;
    for agent in ["at_rest", "in_an_order", "with_a_backlog"] {
        let folder = format!("corpus/state_dir/{agent}");
        let ledger = files_in(&folder, "ledger-a")?;
        let segments = files_in(&format!("{folder}/telemetry"), "")?;
        let mut all = Vec::new();
        for copy in 0..LEDGERS {
            all.extend(ledger.iter().map(|bytes| (copy, bytes)));
        }
        all.extend((LEDGERS..FILES).zip(&segments));
        let mut seed = Vec::new();
        for (number, bytes) in all {
            pack(&mut seed, number, bytes);
        }
        seeds.push(seed);
    }
    Ok(seeds)
}

fn pack(seed: &mut Vec<u8>, number: u8, file: &[u8]) {
    record(seed, number, AS_HEADER, &[]);
    for (place, payload) in frames(file).into_iter().enumerate() {
        let owns = number < LEDGERS && place == 0;
        record(seed, number, if owns { AS_OWN } else { AS_FRAME }, payload);
    }
    record(seed, number, RAW, &[]);
}

fn record(seed: &mut Vec<u8>, number: u8, mode: u8, content: &[u8]) {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    seed.extend([number, mode]);
    seed.extend(length.to_le_bytes());
    seed.extend(&content[..length.into()]);
}
