//! A watch over a headend that follows a script, on a clock that runs ahead.

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

use super::{Paper, Screen, Wanted, follow};
use crate::Outcome;

const ASSET: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
const SITE: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

/// What a call of `/stream` is answered.
enum Answer {
    /// These items, and then silence.
    Open(Vec<Value>),
    /// These items, and the end of the connection.
    Ends(Vec<Value>),
    /// A problem, with 5 s to wait.
    Status(u16),
}

#[derive(Default)]
struct Script {
    streams: VecDeque<Answer>,
    /// In place of the newest measurements, as long as there are any.
    telemetry: VecDeque<Value>,
    events: Vec<Value>,
    asked: Vec<String>,
}

struct Body {
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

fn whole(status: u16, kind: &str, pieces: Vec<String>, open: bool) -> io::Result<Response<Body>> {
    let pieces = pieces.into_iter().map(Bytes::from).collect();
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", kind)
        .header("retry-after", "5")
        .body(Body { pieces, open })
        .map_err(io::Error::other)
}

fn problem(status: u16, code: &str) -> io::Result<Response<Body>> {
    let body =
        json!({"type": "about:blank", "title": "t", "status": status, "detail": "d", "code": code});
    whole(
        status,
        "application/problem+json",
        vec![body.to_string()],
        false,
    )
}

fn stream(items: &[Value], open: bool) -> io::Result<Response<Body>> {
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
struct Sheet {
    size: Option<(usize, usize)>,
    written: Rc<RefCell<Vec<String>>>,
    told: Rc<RefCell<Vec<String>>>,
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

struct Watched {
    script: Arc<Mutex<Script>>,
    sheet: Sheet,
}

impl Watched {
    /// For so long (a stream that is silent for 45 s counts as lost), with JSON or without.
    async fn run(
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

    async fn lines(script: Script, seconds: u64) -> Self {
        let (this, ended) = Self::run(script, false, None, seconds).await;
        assert!(ended.is_none(), "{ended:?}");
        this
    }

    /// Lines, without the times at their beginning.
    fn written(&self) -> Vec<String> {
        let written = self.sheet.written.borrow();
        let bare = |line: &String| {
            line.split_once(' ')
                .map(|(_, rest)| rest.trim_end().to_owned())
        };
        written.iter().filter_map(bare).collect()
    }

    fn told(&self) -> Vec<String> {
        self.sheet.told.borrow().clone()
    }

    fn asked(&self, path: &str) -> usize {
        let script = self.script.lock().unwrap();
        script.asked.iter().filter(|asked| *asked == path).count()
    }
}

fn site() -> Value {
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

fn measured(second: u32, mw: f64) -> Value {
    json!({
        "kind": "telemetry", "asset_id": ASSET, "site_id": SITE, "mw": mw, "quality": "good",
        "measured_at": format!("2026-01-31T12:00:{second:02}Z"),
        "received_at": format!("2026-01-31T12:00:{:02}Z", second + 1),
        "age_s": 1.0, "stale": false,
    })
}

fn event(id: u32, code: &str) -> Value {
    json!({
        "kind": "event", "id": format!("01990000-0000-7000-8000-{id:012}"),
        "at": "2026-01-31T12:00:00Z", "received_at": "2026-01-31T12:00:01Z", "asset_id": ASSET,
        "site_id": SITE, "agent_id": null, "severity": "alarm", "code": code, "text": "62 C",
        "source": "agent", "acknowledged": null,
    })
}

fn session(epoch: u64, ended: Option<&str>) -> Value {
    json!({
        "kind": "session", "agent_id": ASSET, "instance_id": SITE, "epoch": epoch, "peer": null,
        "agent_version": null, "assets": [ASSET], "connected_at": "2026-01-31T12:00:00Z",
        "disconnected_at": ended.map(|_| "2026-01-31T12:00:09Z"), "cause": ended, "text": null,
    })
}

fn order(status: &str) -> Value {
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
fn row(table: &str) -> String {
    let row = table.lines().find(|line| line.starts_with("B-1  "));
    let words = row.unwrap_or_else(|| panic!("{table}")).split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

fn reset(reason: &str) -> Value {
    json!({"kind": "reset", "reason": reason})
}

fn line(mw: &str) -> String {
    format!("B-1 {mw} setpoint - soc - - -")
}

#[tokio::test(start_paused = true)]
async fn the_lists_come_first_and_what_they_had_is_not_told_again_by_the_stream() {
    let script = Script {
        telemetry: [measured(4, 1.0)].into(),
        events: vec![event(2, "newer"), event(1, "older")],
        streams: [Answer::Open(vec![
            reset("began"),
            measured(4, 1.0),
            event(2, "newer"),
            measured(8, 2.0),
            // From the time of an outage.
            measured(6, 9.0),
            event(3, "newest"),
            order("active"),
            session(1, Some("taken_over")),
        ])]
        .into(),
        ..Script::default()
    };
    let watched = Watched::lines(script, 30).await;
    let expected = [
        line("1 MW discharge"),
        "B-1 alarm older: 62 C".to_owned(),
        "B-1 alarm newer: 62 C".to_owned(),
        line("2 MW discharge"),
        "B-1 alarm newest: 62 C".to_owned(),
        "B-1 order 5 MW discharge active (by its device) 01990000-0000-7000-8000-00000000000a"
            .to_owned(),
        "B-1 disconnected: taken_over".to_owned(),
    ];
    assert_eq!(watched.written(), expected);
    // No table is there to be kept right.
    assert_eq!(watched.asked("/telemetry"), 1);
    assert!(watched.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_anew_is_followed_by_the_lists_and_said_to_have_a_gap() {
    let script = Script {
        telemetry: [measured(4, 1.0), measured(8, 2.0)].into(),
        streams: [
            Answer::Ends(vec![reset("began")]),
            Answer::Status(503),
            Answer::Open(vec![reset("restarted"), measured(9, 3.0)]),
        ]
        .into(),
        ..Script::default()
    };
    let watched = Watched::lines(script, 30).await;
    let expected = ["1 MW discharge", "2 MW discharge", "3 MW discharge"].map(line);
    assert_eq!(watched.written(), expected);
    let told = watched.told();
    let [away, gap] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(away.ends_with("[draining]; trying again"), "{away}");
    assert_eq!(
        gap,
        "something may be missing here: the headend was restarted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_opened_again_behind_its_last_item_is_no_event() {
    let script = Script {
        telemetry: [measured(4, 1.0)].into(),
        streams: [
            Answer::Ends(vec![reset("began"), measured(5, 2.0)]),
            Answer::Open(vec![measured(6, 3.0)]),
        ]
        .into(),
        ..Script::default()
    };
    let watched = Watched::lines(script, 30).await;
    let expected = ["1 MW discharge", "2 MW discharge", "3 MW discharge"].map(line);
    assert_eq!(watched.written(), expected);
    assert!(watched.told().is_empty(), "{:?}", watched.told());
    assert_eq!(watched.asked("/sites"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_headend_without_a_stream_is_asked_again_and_again_and_that_is_said() {
    let script = Script {
        telemetry: [measured(4, 1.0), measured(4, 1.0), measured(8, 2.0)].into(),
        streams: [Answer::Status(404)].into(),
        events: vec![event(1, "hot")],
        ..Script::default()
    };
    let watched = Watched::lines(script, 5).await;
    let hot = "B-1 alarm hot: 62 C".to_owned();
    assert_eq!(
        watched.written(),
        [line("1 MW discharge"), hot, line("2 MW discharge")]
    );
    // At once, and after 2 and 4 s.
    assert_eq!(watched.asked("/telemetry"), 3);
    assert_eq!(watched.asked("/stream"), 1);
    let told = watched.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("no live stream (404)") && told[0].contains("every 2 s"),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn lists_that_can_not_be_read_now_are_read_later_and_a_refusal_ends_it() {
    let script = |last| Script {
        telemetry: [json!(503), json!(503), last].into(),
        streams: [Answer::Open(vec![reset("began")])].into(),
        ..Script::default()
    };
    let watched = Watched::lines(script(measured(4, 1.0)), 30).await;
    assert_eq!(watched.written(), [line("1 MW discharge")]);
    let told = watched.told();
    assert_eq!(told.len(), 1, "the same trouble twice: {told:?}");
    assert!(
        told[0].contains("[store_unavailable]; trying again"),
        "{told:?}"
    );

    let away = Script {
        telemetry: vec![json!(503); 100].into(),
        streams: [Answer::Open(vec![reset("began")])].into(),
        ..Script::default()
    };
    // At once, and after 2, 4, 6 and 8 s.
    assert_eq!(Watched::lines(away, 9).await.asked("/telemetry"), 5);

    for refusal in [403, 404] {
        let (watched, ended) = Watched::run(script(json!(refusal)), false, None, 30).await;
        let Some(Stop::Failed(failure)) = ended else {
            panic!("{refusal}: {ended:?}");
        };
        assert_eq!(failure.code(), crate::fault::REFUSED);
        assert!(watched.written().is_empty());
        assert_eq!(watched.told().len(), 1, "there is a stream");
    }
}

#[tokio::test(start_paused = true)]
async fn for_programs_each_item_is_a_line_and_a_reset_says_that_lists_follow() {
    let script = Script {
        telemetry: [measured(4, 1.0)].into(),
        streams: [Answer::Open(vec![
            reset("began"),
            event(1, "hot"),
            order("active"),
        ])]
        .into(),
        ..Script::default()
    };
    let (watched, _) = Watched::run(script, true, Some((24, 80)), 30).await;
    let written = watched.sheet.written.borrow();
    let items = written.iter().map(|line| {
        assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
        serde_json::from_str::<Value>(line).unwrap()["kind"].clone()
    });
    let kinds: Vec<Value> = items.collect();
    assert_eq!(kinds, ["reset", "telemetry", "event", "dispatch"]);
}

#[tokio::test(start_paused = true)]
async fn a_table_grows_old_with_the_clock_and_shows_who_has_gone() {
    let script = Script {
        telemetry: [measured(4, 1.0)].into(),
        streams: [Answer::Open(vec![
            reset("began"),
            session(2, None),
            measured(8, 2.0),
            session(2, Some("normal")),
        ])]
        .into(),
        ..Script::default()
    };
    // The lists are read again after 15 s.
    let (watched, _) = Watched::run(script, false, Some((24, 120)), 14).await;
    let written = watched.sheet.written.borrow();
    assert_eq!(
        row(&written[0]),
        "B-1 Jersey online 1 MW discharge - - - - 1.0s"
    );
    let last = written.last().unwrap();
    assert_eq!(
        row(last),
        "B-1 Jersey offline 2 MW discharge - - - - 15.0s stale"
    );
    assert!(last.ends_with("B-1 disconnected: normal\n"), "{last}");
    assert!(
        (14..=16).contains(&written.len()),
        "drawn {} times",
        written.len()
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_new_session_began_before_the_old_one_ended_is_online() {
    let script = Script {
        telemetry: [measured(4, 1.0)].into(),
        streams: [Answer::Open(vec![
            reset("began"),
            session(2, None),
            session(1, Some("taken_over")),
        ])]
        .into(),
        ..Script::default()
    };
    let (watched, _) = Watched::run(script, false, Some((24, 120)), 5).await;
    let written = watched.sheet.written.borrow();
    let row = row(written.last().unwrap());
    assert_eq!(row, "B-1 Jersey online 1 MW discharge - - - - 6.0s");
}

#[tokio::test(start_paused = true)]
async fn the_lists_behind_a_table_are_read_now_and_then_for_what_is_stale() {
    let mut stale = measured(4, 1.0);
    stale["stale"] = true.into();
    let script = Script {
        telemetry: [measured(4, 1.0), stale].into(),
        streams: [Answer::Open(vec![reset("began")])].into(),
        ..Script::default()
    };
    let (watched, _) = Watched::run(script, false, Some((24, 120)), 20).await;
    assert_eq!(watched.asked("/telemetry"), 2);
    let written = watched.sheet.written.borrow();
    assert!(!written[0].contains("stale") && written.last().unwrap().contains("stale"));
}
