//! A headend that follows a script, a watch over it, and what the watch has written.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use derms_client::Client;
use derms_client::proto::{Asset, AssetId, AssetKind, LiveKind, Power, SiteId};
use derms_program::Stop;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::{Paper, Screen, Wanted, follow};
use crate::Outcome;

pub(super) const ASSET: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
pub(super) const SITE: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

/// What a call of `/stream` is answered.
pub(super) enum Answer {
    /// These items, and then silence.
    Open(Vec<Value>),
    /// These items, and the end of the connection.
    Ends(Vec<Value>),
    /// A problem, with 5 s to wait.
    Status(u16),
}

#[derive(Default)]
pub(super) struct Script {
    pub(super) streams: VecDeque<Answer>,
    /// In place of the newest measurements, as long as there are any.
    pub(super) telemetry: VecDeque<Value>,
    pub(super) events: Vec<Value>,
    pub(super) asked: Vec<String>,
}

pub(super) struct Body {
    pieces: VecDeque<Bytes>,
    open: bool,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

pub(super) fn whole(
    status: u16,
    kind: &str,
    pieces: Vec<String>,
    open: bool,
) -> io::Result<Response<Body>> {
    let pieces = pieces.into_iter().map(Bytes::from).collect();
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", kind)
        .header("retry-after", "5")
        .body(Body { pieces, open })
        .map_err(io::Error::other)
}

pub(super) fn problem(status: u16, code: &str) -> io::Result<Response<Body>> {
    let body =
        json!({"type": "about:blank", "title": "t", "status": status, "detail": "d", "code": code});
    whole(
        status,
        "application/problem+json",
        vec![body.to_string()],
        false,
    )
}

pub(super) fn stream(items: &[Value], open: bool) -> io::Result<Response<Body>> {
    let pieces = items
        .iter()
        .map(|item| format!("id: a-1\ndata: {item}\n\n"));
    whole(200, "text/event-stream", pieces.collect(), open)
}

impl Script {
    fn answer(&mut self, path: &str) -> io::Result<Response<Body>> {
        self.asked.push(path.to_owned());
        let body = match path {
            "/sites" => json!([site()]),
            "/telemetry" => match self.telemetry.pop_front() {
                Some(Value::Number(status)) => {
                    let status = u16::try_from(status.as_u64().unwrap()).unwrap();
                    return problem(status, "store_unavailable");
                }
                Some(snapshot) => json!([snapshot]),
                None => json!([]),
            },
            "/events" => json!({"items": self.events, "next_cursor": null}),
            "/stream" => {
                return match self.streams.pop_front() {
                    Some(Answer::Open(items)) => stream(&items, true),
                    Some(Answer::Ends(items)) => stream(&items, false),
                    Some(Answer::Status(status)) => problem(status, "draining"),
                    None => Err(io::ErrorKind::ConnectionRefused.into()),
                };
            }
            other => panic!("{other} is asked for"),
        };
        whole(200, "application/json", vec![body.to_string()], false)
    }
}

/// What is read of the paper.
#[derive(Clone, Default)]
pub(super) struct Sheet {
    pub(super) size: Option<(usize, usize)>,
    pub(super) written: Rc<RefCell<Vec<String>>>,
    pub(super) told: Rc<RefCell<Vec<String>>>,
}

impl Paper for Sheet {
    fn size(&self) -> Option<(usize, usize)> {
        self.size
    }

    fn clear(&self, _: usize) {}

    fn write(&mut self, text: &str) -> Outcome {
        self.written.borrow_mut().push(text.to_owned());
        Ok(())
    }

    fn tell(&mut self, text: &str) {
        self.told.borrow_mut().push(text.to_owned());
    }
}

pub(super) struct Watched {
    pub(super) script: Arc<Mutex<Script>>,
    pub(super) sheet: Sheet,
}

impl Watched {
    /// For so long (a stream that is silent for 45 s counts as lost), with JSON or without.
    pub(super) async fn run(
        script: Script,
        json: bool,
        size: Option<(usize, usize)>,
        seconds: u64,
    ) -> (Self, Option<Stop>) {
        let this = Self {
            script: Arc::new(Mutex::new(script)),
            sheet: Sheet {
                size,
                ..Sheet::default()
            },
        };
        let script = Arc::clone(&this.script);
        let service = tower::service_fn(move |request: Request<derms_client::Body>| {
            let answer = script.lock().unwrap().answer(request.uri().path());
            std::future::ready(answer)
        });
        let client = Client::builder("/".parse().unwrap()).service(service);
        let client = client.retries(0).build().unwrap();
        let wanted = Wanted {
            place: None,
            kinds: LiveKind::ALL.to_vec(),
        };
        let mut screen = Screen::new(this.sheet.clone(), json, true);
        let watch = follow(&client, &wanted, &mut screen);
        let ended = timeout(Duration::from_secs(seconds), watch).await;
        (this, ended.ok().map(|ended| ended.unwrap_err()))
    }

    pub(super) async fn lines(script: Script, seconds: u64) -> Self {
        let (this, ended) = Self::run(script, false, None, seconds).await;
        assert!(ended.is_none(), "{ended:?}");
        this
    }

    /// Lines, without the times at their beginning.
    pub(super) fn written(&self) -> Vec<String> {
        let written = self.sheet.written.borrow();
        let bare = |line: &String| {
            line.split_once(' ')
                .map(|(_, rest)| rest.trim_end().to_owned())
        };
        written.iter().filter_map(bare).collect()
    }

    pub(super) fn told(&self) -> Vec<String> {
        self.sheet.told.borrow().clone()
    }

    pub(super) fn asked(&self, path: &str) -> usize {
        let script = self.script.lock().unwrap();
        script.asked.iter().filter(|asked| *asked == path).count()
    }
}

pub(super) fn site() -> Value {
    let site: SiteId = SITE.parse().unwrap();
    let asset: AssetId = ASSET.parse().unwrap();
    let asset = Asset::new(
        asset,
        "B-1",
        site,
        AssetKind::Battery,
        Power::from_mw(-5.0),
        Power::from_mw(5.0),
    );
    let mut asset = serde_json::to_value(asset).unwrap();
    for (name, value) in [
        ("site_name", json!("Jersey")),
        ("location", json!("A")),
        ("connected", json!(true)),
        ("last_seen", Value::Null),
    ] {
        asset[name] = value;
    }
    json!({"id": SITE, "name": "Jersey", "location": "A", "assets": [asset], "mw": null, "mw_assets": 0})
}

pub(super) fn measured(second: u32, mw: f64) -> Value {
    json!({
        "kind": "telemetry", "asset_id": ASSET, "site_id": SITE, "mw": mw, "quality": "good",
        "measured_at": format!("2026-01-31T12:00:{second:02}Z"),
        "received_at": format!("2026-01-31T12:00:{:02}Z", second + 1),
        "age_s": 1.0, "stale": false,
    })
}

pub(super) fn event(id: u32, code: &str) -> Value {
    json!({
        "kind": "event", "id": format!("01990000-0000-7000-8000-{id:012}"),
        "at": "2026-01-31T12:00:00Z", "received_at": "2026-01-31T12:00:01Z", "asset_id": ASSET,
        "site_id": SITE, "agent_id": null, "severity": "alarm", "code": code, "text": "62 C",
        "source": "agent", "acknowledged": null,
    })
}

pub(super) fn session(epoch: u64, ended: Option<&str>) -> Value {
    json!({
        "kind": "session", "agent_id": ASSET, "instance_id": SITE, "epoch": epoch, "peer": null,
        "agent_version": null, "assets": [ASSET], "connected_at": "2026-01-31T12:00:00Z",
        "disconnected_at": ended.map(|_| "2026-01-31T12:00:09Z"), "cause": ended, "text": null,
    })
}

pub(super) fn order(status: &str) -> Value {
    json!({
        "kind": "dispatch", "id": "01990000-0000-7000-8000-00000000000a", "parent_id": null,
        "asset_id": ASSET, "site_id": SITE, "mw": 5.0, "duration_s": 20.0, "ttl_s": 300.0,
        "revision": 1, "status": status, "in_doubt": false, "reason": null, "text": "by its device",
        "applied_mw": null, "created_at": "2026-01-31T12:00:00Z",
        "expires_at": "2026-01-31T12:05:00Z", "principal": null, "transitions": [], "split": null,
        "children": [],
    })
}

/// The asset's row of a table.
pub(super) fn row(table: &str) -> String {
    let row = table.lines().find(|line| line.starts_with("B-1  "));
    let words = row.unwrap_or_else(|| panic!("{table}")).split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

pub(super) fn reset(reason: &str) -> Value {
    json!({"kind": "reset", "reason": reason})
}

pub(super) fn line(mw: &str) -> String {
    format!("B-1 {mw} setpoint - soc - - -")
}
