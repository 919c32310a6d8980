//! A headend with a clock of its own, and short words for requests.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use derms_headend_sdk::auth::{NewToken, TokenFile};
use derms_headend_sdk::proto::{Fleet, Problem, ProblemCode, Timestamp};
use derms_headend_sdk::store::{MemoryStore, Store};
use derms_headend_sdk::{Body, Headend, HeadendBuilder, Principal};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tower::{Service, ServiceExt as _};

pub(crate) const JERSEY: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
pub(crate) const NEWARK: &str = "6ba7b811-9dad-11d1-80b4-00c04fd430c8";
/// 120 MWh, -60 to 60 MW.
pub(crate) const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
/// 40 MWh, -20 to 20 MW.
pub(crate) const BESS_2: &str = "7ba7b811-9dad-11d1-80b4-00c04fd430c8";
/// In Newark.
pub(crate) const PV_1: &str = "7ba7b812-9dad-11d1-80b4-00c04fd430c8";
pub(crate) const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

const FLEET: &str = "
sites:
  - {id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, name: Jersey, location: Region-A}
  - {id: 6ba7b811-9dad-11d1-80b4-00c04fd430c8, name: Newark, location: Region-B}
assets:
  - {id: 7ba7b810-9dad-11d1-80b4-00c04fd430c8, name: BESS-1, type: battery, capacity_mwhr: 120,
     site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8,
     max_mw: 60, min_mw: -60, efficiency: 0.92, ramp_rate_mw_per_min: 1000}
  - {id: 7ba7b811-9dad-11d1-80b4-00c04fd430c8, name: BESS-2, type: battery, capacity_mwhr: 40,
     site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8,
     max_mw: 20, min_mw: -20, efficiency: 0.92, ramp_rate_mw_per_min: 1000}
  - {id: 7ba7b812-9dad-11d1-80b4-00c04fd430c8, name: PV-1, type: pv, capacity_mwhr: 0,
     site_id: 6ba7b811-9dad-11d1-80b4-00c04fd430c8,
     max_mw: 30, min_mw: 0, efficiency: 1, ramp_rate_mw_per_min: 1000}
";

pub(crate) fn fleet() -> Fleet {
    Fleet::from_yaml(FLEET, "assets.yaml").unwrap()
}

/// The wall clock of a headend; it stands until it is moved.
#[derive(Debug, Clone)]
pub(crate) struct WallClock(Arc<AtomicI64>);

impl WallClock {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap();
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

pub(crate) async fn headend() -> Headend {
    headend_with(MemoryStore::new()).await.0
}

pub(crate) async fn headend_with(store: impl Store) -> (Headend, WallClock) {
    let (builder, clock) = standing_clock(Headend::builder(fleet()).store(store));
    (builder.build().await.unwrap(), clock)
}

/// The same headend with a clock that stands at noon.
pub(crate) fn standing_clock(builder: HeadendBuilder) -> (HeadendBuilder, WallClock) {
    let noon: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
    let clock = WallClock(Arc::new(AtomicI64::new(noon.unix_micros())));
    let read = clock.clone();
    (builder.clock(move || read.now()), clock)
}

/// A folder with a file of tokens, gone with its last user.
#[derive(Debug)]
pub(crate) struct TokenFolder(PathBuf);

impl TokenFolder {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("derms-access-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("tokens.yaml")
    }

    /// A token for this principal.
    pub(crate) fn add(&self, principal: &Principal) -> String {
        let token = NewToken::generate().unwrap();
        TokenFile::append(self.file(), principal, token.hash(), None).unwrap();
        token.reveal().to_owned()
    }
}

impl Drop for TokenFolder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A response, read whole; of an endless one the first frame.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    /// The JSON of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.body);
        assert_eq!(self.header(header::CONTENT_TYPE), "application/json");
        self.json()
    }

    /// The problem of a failure, which must be well-formed and of this code.
    #[track_caller]
    pub(crate) fn problem(&self, code: ProblemCode) -> Problem {
        let problem: Problem = serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("no problem ({e}) but {} {:?}", self.status, self.body));
        assert_eq!(problem.code, code, "{problem:?}");
        assert_eq!(
            self.header(header::CONTENT_TYPE),
            "application/problem+json"
        );
        assert_eq!(
            self.status.as_u16(),
            code.status(),
            "the status is that of the code"
        );
        assert_eq!(problem.status, code.status());
        assert_eq!(problem.kind, "about:blank");
        assert!(!problem.title.is_empty() && !problem.detail.is_empty());
        problem
    }
}

/// A body of which nothing comes.
#[derive(Debug)]
pub(crate) struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        Poll::Pending
    }
}

pub(crate) async fn send<S, B>(service: S, request: Request<B>) -> Answer
where
    S: Service<Request<B>, Response = Response<Body>, Error = std::convert::Infallible>,
{
    let response = service.oneshot(request).await.unwrap();
    let (parts, mut body) = response.into_parts();
    let content = parts.headers.get(header::CONTENT_TYPE);
    let endless = content.is_some_and(|content| content == "text/event-stream");
    let body = match endless.then(|| body.frame()) {
        Some(first) => first.await.map(|frame| frame.unwrap().into_data().unwrap()),
        None => Some(body.collect().await.unwrap().to_bytes()),
    };
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.unwrap_or_default(),
    }
}

pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path)
}

pub(crate) fn json_post(path: &str) -> http::request::Builder {
    request("POST", path).header(header::CONTENT_TYPE, "application/json")
}

pub(crate) async fn get(headend: &Headend, path: &str) -> Answer {
    send(
        headend.service(),
        request("GET", path).body(Full::<Bytes>::default()).unwrap(),
    )
    .await
}

pub(crate) async fn delete(headend: &Headend, path: &str) -> Answer {
    let request = request("DELETE", path).body(Full::<Bytes>::default());
    send(headend.service(), request.unwrap()).await
}

pub(crate) async fn post(headend: &Headend, path: &str, body: impl Into<Bytes>) -> Answer {
    send(
        headend.service(),
        json_post(path).body(Full::new(body.into())).unwrap(),
    )
    .await
}
