//! What a headend answers, as the REST client reads it: a client may be pointed at anything.
//!
//! An input is a status above 100 (two bytes) and a body; each call of the client is answered with it.

use std::io;

use bytes::Bytes;
use derms_client::Client;
use derms_proto::{AssetId, DispatchId, NewDispatch, Power};
use http::{Request, Response};
use http_body_util::Full;
use tower::service_fn;

use super::{MIB, fleet, runtime};
use crate::{Shape, Target, Verdict, files_in};

pub(super) const TARGET: Target = Target {
    name: "answers",
    about: "answers of a headend, as the REST client reads them",
    run,
    seeds,
    shape: Shape::Plain,
    tokens: &[
        b"null",
        b"1e308",
        b"\"next_cursor\":\"x\"",
        b"{\"items\":[",
        b"[[[[",
        b"9999-12-31T23:59:59.999999999Z",
        b"7ba7b810-9dad-11d1-80b4-00c04fd430c8",
    ],
    longest: 64 << 10,
    memory: 64 * MIB,
};

fn seeds() -> io::Result<Vec<Vec<u8>>> {
    let bodies = files_in("corpus/answers", "")?;
    let with =
        |status: u16| move |body: &Vec<u8>| [&(status - 100).to_be_bytes()[..], body].concat();
    let good = bodies.iter().map(with(200));
    let bad = bodies.iter().map(with(503));
    Ok(good.chain(bad).collect())
}

/// Whether the answer was understood; an error must be fit to show.
fn said<T: std::fmt::Debug>(answer: Result<T, derms_client::Error>) -> bool {
    match answer {
        Ok(value) => !format!("{value:?}").is_empty(),
        Err(error) => {
            let text = format!("{error} {:?} {}", error.retry_after(), error.is_retryable());
            text.is_empty()
        }
    }
}

fn run(input: &[u8]) -> Verdict {
    let Some((status, body)) = input.split_first_chunk() else {
        return Verdict::Refused;
    };
    let status = 100 + u16::from_be_bytes(*status) % 900;
    let body = Bytes::copy_from_slice(body);
    let service = service_fn(move |_: Request<derms_client::Body>| {
        let answer = Response::builder()
            .status(status)
            .body(Full::new(body.clone()));
        std::future::ready(answer)
    });
    runtime().block_on(async {
        let base = "/".parse().expect("a path");
        let client = Client::with_service(base, service).expect("a client");
        let asset: AssetId = fleet().assets()[0].id;
        let order = NewDispatch::asset(asset, Power::from_mw(1.0));
        let id = DispatchId::generate();
        let reads = [
            said(client.assets().await),
            said(client.agents().await),
            said(client.sites().await),
            said(client.telemetry(asset).await),
            said(client.dispatch(&order).await),
            said(client.get_dispatch(id).await),
            said(client.dispatch_history(Default::default()).await),
            said(client.telemetry_history(asset, Default::default()).await),
            said(client.heartbeat(asset).await),
            said(client.limits().await),
            said(client.stops().await),
        ];
        Verdict::taken(reads.contains(&true))
    })
}
