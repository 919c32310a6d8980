//! A scripted headend: gives the answers it was told, in order, and records what it was asked.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use derms_client::{Body, Client, ClientBuilder};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

pub(crate) const ASSET: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
pub(crate) const SITE: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
pub(crate) const DISPATCH: &str = "01990000-0000-7000-8000-000000000001";

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Reply(StatusCode, Vec<(&'static str, &'static str)>, String),
    /// No connection.
    Refused,
    /// The connection breaks before the answer.
    Broken,
    /// The connection breaks inside the body.
    Cut,
    /// Never.
    Silence,
    /// A good body, not at the first poll.
    Late(String),
    /// Server-sent events in pieces, and nothing further.
    Events(Vec<String>),
}

pub(crate) fn reply(status: u16, body: impl Into<String>) -> Answer {
    let status = StatusCode::from_u16(status).expect("a status");
    Answer::Reply(status, Vec::new(), body.into())
}

pub(crate) fn ok(body: &Value) -> Answer {
    reply(200, body.to_string())
}

pub(crate) fn problem(status: u16, code: &str) -> Answer {
    let body =
        json!({"type": "about:blank", "title": "t", "status": status, "detail": "d", "code": code});
    let json = vec![("content-type", "application/problem+json")];
    match reply(status, body.to_string()) {
        Answer::Reply(status, _, body) => Answer::Reply(status, json, body),
        other => other,
    }
}

/// A dispatch as a headend writes it.
pub(crate) fn dispatch(status: &str) -> Value {
    json!({
        "id": DISPATCH, "parent_id": null, "asset_id": ASSET, "site_id": SITE, "mw": 5.0,
        "duration_s": 20.0, "ttl_s": 300.0, "revision": 1, "status": status, "in_doubt": false,
        "reason": null, "text": null, "applied_mw": null, "created_at": "2026-01-31T12:00:00Z",
        "expires_at": "2026-01-31T12:05:00Z", "principal": null, "transitions": [], "split": null,
        "children": [],
    })
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    answers: VecDeque<Answer>,
}

impl Fake {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let state = State {
            seen: Vec::new(),
            answers: answers.into_iter().collect(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.builder("/").build().expect("a client")
    }

    pub(crate) fn builder(&self, base: &'static str) -> ClientBuilder {
        let fake = self.clone();
        let service = tower::service_fn(move |request| fake.clone().answer(request));
        Client::builder(Uri::from_static(base)).service(service)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seen.clone()
    }

    /// Paths with queries, in order.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.seen()
            .iter()
            .map(|seen| format!("{} {}", seen.method, seen.uri))
            .collect()
    }

    async fn answer(
        self,
        request: Request<Body>,
    ) -> io::Result<Response<impl http_body::Body<Data = Bytes, Error = io::Error> + use<>>> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await;
        let answer = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.seen.push(Seen {
                method: head.method,
                uri: head.uri,
                headers: head.headers,
                body: body.to_bytes(),
            });
            state.answers.pop_front()
        };
        let mut response = Response::builder();
        let mut open = false;
        let frames = match answer.unwrap_or_else(|| reply(599, "the script is at its end")) {
            Answer::Reply(status, headers, body) => {
                response = response.status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                vec![Ok(Frame::data(Bytes::from(body)))]
            }
            Answer::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
            Answer::Broken => return Err(io::ErrorKind::BrokenPipe.into()),
            Answer::Cut => vec![
                Ok(Frame::data(Bytes::from_static(b"[{"))),
                Err(io::ErrorKind::UnexpectedEof.into()),
            ],
            Answer::Silence => pending().await,
            Answer::Events(pieces) => {
                response = response.header("content-type", "text/event-stream");
                open = true;
                let frame = |piece| Ok(Frame::data(Bytes::from(piece)));
                pieces.into_iter().map(frame).collect()
            }
            Answer::Late(body) => {
                tokio::task::yield_now().await;
                vec![Ok(Frame::data(Bytes::from(body)))]
            }
        };
        let frames = tokio_stream::iter(frames).map(Some);
        let rest = tokio_stream::pending().take(if open { 1 } else { 0 });
        let body = StreamBody::new(frames.chain(rest).filter_map(|frame| frame));
        response.body(body).map_err(io::Error::other)
    }
}
