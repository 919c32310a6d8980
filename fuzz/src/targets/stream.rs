//! The bytes of a whole stream of an agent, into the headend's gRPC service.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use derms_headend_sdk::Headend;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tower::ServiceExt as _;

use super::{MIB, headend, messages, runtime};
use crate::{Shape, Target, Verdict, files_in};

pub(super) const TARGET: Target = Target {
    name: "agent_stream",
    about: "all that an agent sends on its stream, as the headend serves it",
    run,
    seeds,
    shape: Shape::Grpc,
    tokens: &[
        b"\x00\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\x01",
        b"\x00\xff\xff\xff\xff",
        b"\x00\x00\x04\x00\x01",
        b"7ba7b810-9dad-11d1-80b4-00c04fd430c8",
        b"6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        b"0b6f1c7e-3f0a-4c7b-9a55-1d2e3f405162",
    ],
    longest: 2 * messages::LARGEST,
    memory: 192 * MIB,
};

const REGISTER: &[u8] = include_bytes!("../../../derms-proto/tests/golden/v1.0/agent_register.bin");

/// Each message after a valid Register, and all of them after one.
fn seeds() -> io::Result<Vec<Vec<u8>>> {
    const GOLDEN: &str = "../derms-proto/tests/golden/v1.0";
    let mut streams = Vec::new();
    for register in files_in(GOLDEN, "agent_register")? {
        let start = frame(&register);
        let mut whole = start.clone();
        for message in files_in(GOLDEN, "agent_")? {
            streams.push([&start[..], &frame(&message)].concat());
            whole.extend(frame(&message));
        }
        streams.push(whole);
    }
    streams.extend(files_in("corpus/agent_stream", "")?);
    Ok(streams)
}

/// A message of gRPC: not compressed, its length, itself.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = message.len() as u32;
    [&[0][..], &length.to_be_bytes(), message].concat()
}

fn run(input: &[u8]) -> Verdict {
    runtime().block_on(async {
        let headend = headend().await;
        let said = stream(&headend, Bytes::copy_from_slice(input)).await;
        let honest = stream(&headend, frame(REGISTER).into()).await;
        assert!(honest > 0, "an agent is registered afterwards");
        headend.shutdown().await;
        Verdict::taken(said > 0)
    })
}

/// How many bytes the headend has said on a stream that ends with these.
async fn stream(headend: &Headend, bytes: Bytes) -> usize {
    let request = Request::post("/derms.v1.AgentLink/Stream")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(bytes))
        .expect("a valid request");
    let Ok(answer) = headend.grpc_service().oneshot(request).await;
    assert_eq!(
        answer.status(),
        StatusCode::OK,
        "gRPC has a status of its own"
    );
    // The stream ends with the input, so the session does, too.
    let said = tokio::time::timeout(Duration::from_secs(600), answer.into_body().collect());
    let said = said.await.expect("the session ends");
    said.map(|said| said.to_bytes().len()).unwrap_or_default()
}
