//! Requests to the REST service: method, path, query, headers, body.
//!
//! An input is written as HTTP/1.1, several requests apart by a line `%%`; all go to one headend,
//! so that an idempotency key or an id may come again.

use bytes::Bytes;
use derms_headend_sdk::HeadendService;
use derms_proto::Problem;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use std::time::Duration;
use tower::ServiceExt as _;

use super::{MIB, headend, runtime};
use crate::{Shape, Target, Verdict, files_in};

pub(super) const TARGET: Target = Target {
    name: "rest",
    about: "REST requests, as the headend serves them",
    run,
    seeds: || files_in("corpus/rest", ""),
    shape: Shape::Plain,
    tokens: &[
        b"\n%%\n",
        b"7ba7b810-9dad-11d1-80b4-00c04fd430c8",
        b"6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        b"\"mw\":",
        b"\"duration_s\":",
        b"\"start_at\":\"2026-01-31T12:00:00Z\"",
        b"\"ttl_s\":",
        b"null",
        b"1e308",
        b"-0.0",
        b"[[[[",
        b"{\"a\":",
        b"?limit=1&cursor=",
        b"&from=0001-01-01T00:00:00Z",
        b"&to=9999-12-31T23:59:59.999999999Z",
        b"&step=1",
        b"?wait_s=60",
        b"/events?severity=alarm&acknowledged=false",
        b"&source=agent",
        b"/stream?kind=telemetry,event",
        b"last-event-id: 1-1\n",
        b"%00",
        b"%ff",
        b"idempotency-key: k\n",
        b"accept: text/csv\n",
        b"content-type: application/json\n",
    ],
    // A body of 64 KiB and a byte more, with its head.
    longest: 66 << 10,
    memory: 192 * MIB,
};

fn run(input: &[u8]) -> Verdict {
    let mut requests = requests(input).peekable();
    if requests.peek().is_none() {
        return Verdict::Refused;
    }
    runtime().block_on(async {
        let headend = headend().await;
        let service = headend.service();
        let mut taken = false;
        for request in requests.take(8) {
            taken |= answered(service.clone(), request).await;
        }
        headend.shutdown().await;
        Verdict::taken(taken)
    })
}

/// Whether it succeeded. Whatever comes in, the headend is never at fault.
async fn answered(service: HeadendService, request: Request<Full<Bytes>>) -> bool {
    let has_body = request.method() != Method::HEAD;
    let asked = format!("{} {}", request.method(), request.uri());
    let answer = service.oneshot(request);
    // On the paused clock.
    let answer = tokio::time::timeout(Duration::from_secs(120), answer).await;
    let Ok(answer) = answer.expect("an answer comes");
    let (head, body) = answer.into_parts();
    // A live stream ends by itself after a quarter of an hour.
    let body = body
        .collect()
        .await
        .expect("a body arrives whole")
        .to_bytes();
    assert!(
        !head.status.is_server_error(),
        "{asked}: {} {body:?}",
        head.status
    );
    if head.status.is_client_error() && has_body {
        assert_eq!(
            head.headers[header::CONTENT_TYPE],
            "application/problem+json",
            "{asked}"
        );
        let problem: Problem = serde_json::from_slice(&body).expect("a problem");
        assert_eq!(problem.status, head.status.as_u16(), "{asked}");
        assert!(
            body.len() < 8 << 10,
            "{asked}: a problem of {} bytes",
            body.len()
        );
    }
    head.status.is_success()
}

/// Those that an HTTP server would pass on.
fn requests(input: &[u8]) -> impl Iterator<Item = Request<Full<Bytes>>> {
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let now = rest?;
        let (first, after) = cut(now, b"\n%%\n");
        rest = after;
        Some(first)
    })
    .filter_map(request)
}

fn request(text: &[u8]) -> Option<Request<Full<Bytes>>> {
    let (head, body) = cut(text, b"\n\n");
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let uri = Uri::try_from(first.next()?).ok()?;
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines {
        let (name, value) = cut(line, b": ");
        request = request.header(name, value.unwrap_or_default());
    }
    request
        .body(Full::new(Bytes::copy_from_slice(body.unwrap_or_default())))
        .ok()
}

fn cut<'a>(text: &'a [u8], at: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    match text.windows(at.len()).position(|window| window == at) {
        Some(found) => (&text[..found], Some(&text[found + at.len()..])),
        None => (text, None),
    }
}
