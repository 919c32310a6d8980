//! What happens now: `GET /stream`.

use std::time::Duration;

use bytes::Bytes;
use derms_headend_sdk::auth::{Role, TokenFile};
use derms_headend_sdk::proto::link::SetpointPhase;
use derms_headend_sdk::proto::{NewDispatch, NewLimit, Power, ProblemCode};
use derms_headend_sdk::{Body, Headend, HeadendBuilder, Principal};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::agent::Agent;
use crate::support::{
    Answer, BESS_1, BESS_2, JERSEY, NEWARK, NOBODY, PV_1, TokenFolder, WallClock, fleet, get,
    request, send, standing_clock,
};

/// An open stream, read event by event.
pub(crate) struct Stream(Body);

/// An event: its id, and its data; `None` for a keep-alive.
type Event = (String, Option<Value>);

impl Stream {
    async fn open(
        headend: &Headend,
        path: &str,
        last: Option<&str>,
        who: Option<&Principal>,
    ) -> Self {
        match Self::try_open(headend, path, last, who).await {
            Ok(stream) => stream,
            Err(answer) => panic!("{} {}", answer.status, answer.text()),
        }
    }

    async fn try_open(
        headend: &Headend,
        path: &str,
        last: Option<&str>,
        who: Option<&Principal>,
    ) -> Result<Self, Answer> {
        let mut request = request("GET", path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let mut request = request.body(Full::<Bytes>::default()).unwrap();
        if let Some(who) = who {
            request.extensions_mut().insert(who.clone());
        }
        Self::sent(headend, request).await
    }

    pub(crate) async fn sent(
        headend: &Headend,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Self, Answer> {
        let response = headend.service().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        if head.status == StatusCode::OK {
            assert_eq!(head.headers[header::CONTENT_TYPE], "text/event-stream");
            assert_eq!(head.headers[header::CACHE_CONTROL], "no-store");
            return Ok(Self(body));
        }
        let body = body.collect().await.unwrap().to_bytes();
        Err(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// The next event; `None` at the end.
    async fn event(&mut self) -> Option<Event> {
        let frame = self.0.frame().await?.unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&frame).unwrap();
        let text = text.strip_suffix("\n\n").expect("a whole event");
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let data = field("data: ").map(|data| serde_json::from_str(data).unwrap());
        Some((field("id: ").unwrap().to_owned(), data))
    }

    /// The next item; not waited for longer than two keep-alives.
    pub(crate) async fn item(&mut self) -> Value {
        for _ in 0..2 {
            if let (_, Some(item)) = self.event().await.expect("an item") {
                return item;
            }
        }
        panic!("no item came");
    }

    #[track_caller]
    fn assert_reset(item: &Value, reason: &str) {
        assert_eq!(*item, json!({"kind": "reset", "reason": reason}));
    }

    /// The first event, which must be a reset.
    async fn begins(&mut self, reason: &str) -> String {
        let (id, item) = self.event().await.unwrap();
        Self::assert_reset(&item.unwrap(), reason);
        id
    }

    /// The end, which must be told and follow at once.
    async fn ends(&mut self, reason: &str) {
        let mut last = self.item().await;
        while last["kind"] != "end" {
            last = self.item().await;
        }
        assert_eq!(last, json!({"kind": "end", "reason": reason}));
        assert!(self.event().await.is_none());
    }
}

async fn headend_of(set: impl FnOnce(HeadendBuilder) -> HeadendBuilder) -> (Headend, WallClock) {
    let (builder, clock) = standing_clock(set(Headend::builder(fleet())));
    (builder.build().await.unwrap(), clock)
}

async fn headend() -> (Headend, WallClock) {
    headend_of(|builder| builder).await
}

async fn open(headend: &Headend, path: &str) -> Stream {
    let mut stream = Stream::open(headend, path, None, None).await;
    stream.begins("began").await;
    stream
}

/// One measurement, later than all before.
async fn measured(agent: &mut Agent, clock: &WallClock, mw: f64) {
    clock.advance(Duration::from_secs(1));
    agent.measured_mw(BESS_1, clock.now(), mw).await;
}

#[tokio::test]
async fn measurements_orders_and_sessions_are_told_as_they_happen() {
    let (headend, clock) = headend().await;
    let mut stream = open(&headend, "/stream").await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let session = stream.item().await;
    assert_eq!(session["kind"], "session");
    assert_eq!(session["assets"], json!([BESS_1]));
    assert_eq!(session["disconnected_at"], Value::Null);

    measured(&mut agent, &clock, 1.5).await;
    let telemetry = stream.item().await;
    assert_eq!(telemetry["kind"], "telemetry");
    assert_eq!(
        (&telemetry["asset_id"], &telemetry["mw"]),
        (&json!(BESS_1), &json!(1.5))
    );

    let limit = NewLimit::at_most(BESS_1.parse().unwrap(), Power::from_mw(3.0));
    headend.set_limit(&limit, None).await.unwrap();
    let order = NewDispatch::asset(BESS_1.parse().unwrap(), Power::from_mw(5.0));
    let id = headend.dispatch(&order, None).await.unwrap().id;
    let setpoint = agent.order().await;
    agent.report(&setpoint, SetpointPhase::Started).await;
    for status in ["pending", "sent", "active"] {
        let dispatch = stream.item().await;
        assert_eq!(dispatch["kind"], "dispatch");
        assert_eq!(
            (&dispatch["id"], &dispatch["status"]),
            (&json!(id), &json!(status))
        );
        assert_eq!(dispatch["limited_to"]["max_mw"], 3.0, "{dispatch}");
    }

    drop(agent);
    let session = stream.item().await;
    assert_eq!(
        (&session["kind"], &session["cause"]),
        (&json!("session"), &json!("transport_lost"))
    );
    assert_eq!(session["assets"], json!([BESS_1]));
}

#[tokio::test]
async fn a_measurement_that_is_not_the_newest_is_not_told() {
    let (headend, clock) = headend().await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let mut stream = open(&headend, "/stream?kind=telemetry").await;
    let early = clock.now();
    measured(&mut agent, &clock, 1.0).await;
    agent.measured_mw(BESS_1, early, 2.0).await;
    measured(&mut agent, &clock, 3.0).await;
    assert_eq!(stream.item().await["mw"], 1.0);
    assert_eq!(stream.item().await["mw"], 3.0);
}

#[tokio::test]
async fn a_session_that_is_taken_over_is_told_with_what_it_served() {
    let (headend, _) = headend().await;
    let mut stream = open(&headend, "/stream?kind=session").await;
    let _first = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let _second = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    for _ in 0..2 {
        assert_eq!(stream.item().await["cause"], Value::Null);
    }
    let ended = stream.item().await;
    assert_eq!(ended["cause"], "taken_over");
    assert_eq!(ended["assets"], json!([BESS_1]));
}

#[tokio::test]
async fn only_what_is_asked_for_is_told() {
    let (headend, clock) = headend().await;
    let mut by_kind = open(&headend, "/stream?kind=dispatch,session").await;
    let mut by_asset = open(&headend, &format!("/stream?asset_id={BESS_2}")).await;
    let mut by_site = open(&headend, &format!("/stream?site_id={NEWARK}")).await;
    let mut one = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let _two = Agent::connect(&headend, BESS_2, &[BESS_2]).await;
    let _pv = Agent::connect(&headend, PV_1, &[PV_1]).await;
    measured(&mut one, &clock, 1.0).await;
    for asset in [BESS_2, PV_1] {
        let order = NewDispatch::asset(asset.parse().unwrap(), Power::from_mw(2.0));
        headend.dispatch(&order, None).await.unwrap();
    }
    let mut kinds = Vec::new();
    for _ in 0..7 {
        kinds.push(by_kind.item().await["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds[..3], ["session"; 3]);
    assert_eq!(kinds[3..], ["dispatch"; 4]);
    for (stream, asset) in [(&mut by_asset, BESS_2), (&mut by_site, PV_1)] {
        assert_eq!(stream.item().await["assets"], json!([asset]));
        for status in ["pending", "sent"] {
            let dispatch = stream.item().await;
            assert_eq!(
                (&dispatch["asset_id"], &dispatch["status"]),
                (&json!(asset), &json!(status))
            );
        }
    }
}

#[tokio::test]
async fn who_is_limited_to_a_site_sees_of_it_alone_and_of_a_session_its_part() {
    let (headend, clock) = headend().await;
    let newt = Principal::new("newt")
        .with_role(Role::Viewer)
        .limited_to([NEWARK.parse().unwrap()]);
    let mut all = open(&headend, "/stream").await;
    let mut part = Stream::open(&headend, "/stream", None, Some(&newt)).await;
    part.begins("began").await;
    let path = format!("/stream?asset_id={BESS_1}");
    let mut hidden = Stream::open(&headend, &path, None, Some(&newt)).await;
    hidden.begins("began").await;
    // Its id lets it serve no other site: these are two agents.
    let mut bess = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    measured(&mut bess, &clock, 1.0).await;
    let mut pv = Agent::connect(&headend, PV_1, &[PV_1]).await;
    clock.advance(Duration::from_secs(1));
    pv.measured_mw(PV_1, clock.now(), 2.0).await;
    let site = NewDispatch::site(JERSEY.parse().unwrap(), Power::from_mw(2.0));
    headend.dispatch(&site, None).await.unwrap();
    let order = NewDispatch::asset(PV_1.parse().unwrap(), Power::from_mw(2.0));
    headend.dispatch(&order, None).await.unwrap();

    let mut seen = Vec::new();
    for _ in 0..4 {
        let item = part.item().await;
        let text = item.to_string();
        assert!(!text.contains(BESS_1) && !text.contains(JERSEY), "{text}");
        seen.push(item["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["session", "telemetry", "dispatch", "dispatch"]);
    for _ in 0..8 {
        all.item().await;
    }
    headend.shutdown().await;
    let last = hidden.item().await;
    assert_eq!(last["kind"], "end", "what it may not see was told: {last}");
}

#[tokio::test]
async fn a_parameter_that_can_not_be_read_is_refused() {
    let (headend, _) = headend().await;
    for query in [
        "kind=weather",
        "kind=",
        "kind=telemetry,",
        "asset_id=7",
        "since=1",
    ] {
        let answer = get(&headend, &format!("/stream?{query}")).await;
        answer.problem(ProblemCode::InvalidParameter);
    }
    open(&headend, &format!("/stream?asset_id={NOBODY}")).await;
}

#[tokio::test]
async fn a_place_may_stand_in_the_query_and_the_header_counts_before_it() {
    let (headend, clock) = headend().await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let mut stream = Stream::open(&headend, "/stream", None, None).await;
    let first = stream.begins("began").await;
    for mw in [1.0, 2.0] {
        measured(&mut agent, &clock, mw).await;
    }
    let (second, item) = stream.event().await.unwrap();
    assert_eq!(item.unwrap()["mw"], 1.0);
    let path = format!("/stream?last_event_id={first}");
    let mut by_query = Stream::open(&headend, &path, None, None).await;
    assert_eq!(by_query.item().await["mw"], 1.0);
    let mut by_both = Stream::open(&headend, &path, Some(&second), None).await;
    assert_eq!(by_both.item().await["mw"], 2.0);
}

#[tokio::test]
async fn another_life_of_the_headend_and_a_place_out_of_the_ring_are_told_as_a_reset() {
    let (headend, clock) = headend_of(|builder| builder.live_ring(2, 1 << 20)).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let mut stream = Stream::open(&headend, "/stream", None, None).await;
    let place = stream.begins("began").await;
    for mw in [1.0, 2.0, 3.0] {
        measured(&mut agent, &clock, mw).await;
    }
    let mut late = Stream::open(&headend, "/stream", Some(&place), None).await;
    late.begins("too_old").await;
    let mut of_rare = Stream::open(&headend, "/stream?kind=dispatch", Some(&place), None).await;
    let (_, item) = of_rare.event().await.unwrap();
    assert_eq!(item, None, "of the rare kinds nothing is missing");
    measured(&mut agent, &clock, 4.0).await;
    assert_eq!(
        late.item().await["mw"],
        4.0,
        "what follows a reset is whole"
    );

    let (other, _) = self::headend().await;
    let mut restarted = Stream::open(&other, "/stream", Some(&place), None).await;
    restarted.begins("restarted").await;
    let mut strange = Stream::open(&other, "/stream", Some("7"), None).await;
    strange.begins("restarted").await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_reader_that_comes_back_again_and_again_gets_everything_once_and_in_order(
        // How many are published, and how many of them are read, until it goes away.
        lives in prop::collection::vec((0_usize..6, 0_usize..8), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (headend, clock) = headend().await;
            let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
            let mut stream = Stream::open(&headend, "/stream?kind=telemetry", None, None).await;
            let mut place = stream.begins("began").await;
            let (mut published, mut got) = (0, Vec::new());
            for (new, read) in lives {
                for _ in 0..new {
                    published += 1;
                    measured(&mut agent, &clock, f64::from(published)).await;
                }
                for _ in 0..read.min(published as usize - got.len()) {
                    loop {
                        let (id, item) = stream.event().await.unwrap();
                        place = id;
                        if let Some(item) = item {
                            got.push(item["mw"].as_f64().unwrap());
                            break;
                        }
                    }
                }
                stream = Stream::open(&headend, "/stream?kind=telemetry", Some(&place), None).await;
            }
            while got.len() < published as usize {
                got.push(stream.item().await["mw"].as_f64().unwrap());
            }
            let all: Vec<f64> = (1..=published).map(f64::from).collect();
            assert_eq!(got, all);
        });
    }
}

#[tokio::test]
async fn who_does_not_read_is_cut_and_holds_nobody_up() {
    let (headend, clock) = headend_of(|builder| builder.live_ring(64, 1 << 20)).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let mut slow = open(&headend, "/stream").await;
    let mut quick = open(&headend, "/stream").await;
    measured(&mut agent, &clock, 0.0).await;
    assert_eq!(slow.item().await["mw"], 0.0);
    assert_eq!(quick.item().await["mw"], 0.0);
    for mw in 1..=200 {
        measured(&mut agent, &clock, f64::from(mw)).await;
        assert_eq!(quick.item().await["mw"], f64::from(mw));
    }
    let (last, item) = slow.event().await.unwrap();
    let end = json!({"kind": "end", "reason": "too_slow"});
    assert_eq!(item, Some(end), "what it did not ask for was kept for it");
    assert!(slow.event().await.is_none());
    let mut again = Stream::open(&headend, "/stream", Some(&last), None).await;
    again.begins("too_old").await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_says_that_it_lives_and_where_its_reader_is() {
    let (headend, clock) = headend().await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let mut stream = Stream::open(&headend, "/stream?kind=dispatch", None, None).await;
    let first = stream.begins("began").await;
    measured(&mut agent, &clock, 1.0).await;
    let since = tokio::time::Instant::now();
    let (place, item) = stream.event().await.unwrap();
    assert_eq!((item, since.elapsed().as_secs()), (None, 15));
    assert_ne!(place, first, "it has passed what it did not want");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_a_quarter_of_an_hour_and_goes_on_in_the_next() {
    let (headend, clock) = headend().await;
    let mut stream = open(&headend, "/stream?kind=telemetry").await;
    let since = tokio::time::Instant::now();
    let mut events = Vec::new();
    while let Some(event) = stream.event().await {
        events.push(event);
    }
    assert_eq!(since.elapsed().as_secs(), 15 * 60);
    let (last, item) = events.pop().unwrap();
    assert_eq!(item.unwrap()["reason"], "lifetime");
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    measured(&mut agent, &clock, 1.0).await;
    let mut next = Stream::open(&headend, "/stream?kind=telemetry", Some(&last), None).await;
    assert_eq!(next.item().await["mw"], 1.0);
}

#[tokio::test]
async fn a_drain_ends_streams_at_once_and_takes_no_new_one() {
    let (headend, _) = headend().await;
    let mut stream = open(&headend, "/stream").await;
    headend.shutdown().await;
    stream.ends("draining").await;
    let refused = Stream::try_open(&headend, "/stream", None, None).await;
    let answer = refused.err().expect("refused");
    answer.problem(ProblemCode::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_taken_back_ends_its_stream_and_no_other() {
    let folder = TokenFolder::new();
    let vic = Principal::new("vic").with_role(Role::Viewer);
    let token = folder.add(&vic);
    let before = std::fs::read_to_string(folder.file()).unwrap();
    let other = folder.add(&Principal::new("ada"));
    let tokens = TokenFile::open(folder.file()).unwrap();
    let (headend, _) = headend_of(|builder| builder.authentication(tokens)).await;
    let with_token = |token: &str| {
        let bearer = format!("Bearer {token}");
        let request = request("GET", "/stream").header(header::AUTHORIZATION, bearer);
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let mut kept = Stream::sent(&headend, with_token(&token))
        .await
        .ok()
        .unwrap();
    let mut withdrawn = Stream::sent(&headend, with_token(&other))
        .await
        .ok()
        .unwrap();
    kept.begins("began").await;
    withdrawn.begins("began").await;
    let since = tokio::time::Instant::now();
    let (_, item) = withdrawn.event().await.unwrap();
    assert_eq!(item, None, "while it counts the stream goes on");
    std::fs::write(folder.file(), before).unwrap();
    withdrawn.ends("credentials").await;
    assert!(
        since.elapsed() <= Duration::from_secs(15 + 12),
        "{:?}",
        since.elapsed()
    );
    let refused = Stream::sent(&headend, with_token(&other))
        .await
        .err()
        .unwrap();
    refused.problem(ProblemCode::Unauthenticated);
    while since.elapsed() < Duration::from_secs(60) {
        let (_, item) = kept.event().await.unwrap();
        assert_eq!(item, None);
    }
}

#[tokio::test]
async fn streams_are_bounded_and_take_no_room_of_other_calls() {
    let limits = |builder: HeadendBuilder| builder.max_live_streams(9).max_requests(8);
    let (headend, _) = headend_of(limits).await;
    let ann = Principal::new("ann");
    let mut of_ann = Vec::new();
    for _ in 0..2 {
        of_ann.push(Stream::open(&headend, "/stream", None, Some(&ann)).await);
    }
    let refused = Stream::try_open(&headend, "/stream", None, Some(&ann)).await;
    let answer = refused.err().expect("too many of hers");
    answer.problem(ProblemCode::TooManyRequests);
    assert_eq!(answer.header(header::RETRY_AFTER), "5");
    let mut others = Vec::new();
    for _ in 0..7 {
        others.push(Stream::open(&headend, "/stream", None, None).await);
    }
    let refused = Stream::try_open(&headend, "/stream", None, None).await;
    refused
        .err()
        .expect("too many")
        .problem(ProblemCode::TooManyRequests);
    get(&headend, "/assets").await.ok();
    drop(of_ann.pop());
    Stream::open(&headend, "/stream", None, Some(&ann)).await;
}

#[tokio::test]
async fn who_only_asks_for_the_head_of_a_stream_holds_no_place() {
    let (headend, _) = headend_of(|builder| builder.max_live_streams(1)).await;
    let head = request("HEAD", "/stream").body(Full::<Bytes>::default());
    let answer = send(headend.service(), head.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    open(&headend, "/stream").await;
}
