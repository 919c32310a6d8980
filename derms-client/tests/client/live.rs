//! What happens now, over connections that come and go.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use derms_client::proto::{LiveItem, LiveKind, ProblemCode, ResetReason};
use derms_client::{Error, Live, LiveQuery};
use tokio::time::{Instant, timeout};

use crate::fake::{ASSET, Answer, Fake, SITE, dispatch, problem, reply};

/// An event with this id: the order, as it stands.
fn moved(id: &str, status: &str) -> String {
    let mut item = dispatch(status);
    item["kind"] = "dispatch".into();
    format!("id: {id}\ndata: {item}\n\n")
}

fn reset(id: &str, reason: &str) -> String {
    format!("id: {id}\ndata: {{\"kind\":\"reset\",\"reason\":\"{reason}\"}}\n\n")
}

/// Events, and then the end of the connection.
fn ending(events: &[String]) -> Answer {
    let content = vec![("content-type", "text/event-stream; charset=utf-8")];
    match reply(200, events.concat()) {
        Answer::Reply(status, _, body) => Answer::Reply(status, content, body),
        other => other,
    }
}

fn open(events: &[String]) -> Answer {
    Answer::Events(events.to_vec())
}

fn live(fake: &Fake) -> Live {
    fake.client().live(LiveQuery::new())
}

async fn next(live: &mut Live) -> String {
    match live.next().await {
        Some(Ok(LiveItem::Dispatch(dispatch))) => format!("{:?}", dispatch.status),
        Some(Ok(LiveItem::Reset { reason })) => format!("reset: {reason:?}"),
        Some(Ok(other)) => format!("{other:?}"),
        Some(Err(_)) => "error".to_owned(),
        None => "end".to_owned(),
    }
}

fn last_event_ids(fake: &Fake) -> Vec<Option<String>> {
    let seen = fake.seen().into_iter();
    seen.map(|seen| seen.header("last-event-id").map(str::to_owned))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_goes_on_behind_the_last_item_that_was_whole() {
    let half = moved("a-3", "active");
    let (half, _) = half.split_at(half.len() - 1);
    let fake = Fake::new([
        ending(&[reset("a-1", "began"), moved("a-2", "sent"), half.to_owned()]),
        Answer::Refused,
        open(&[moved("a-3", "active")]),
    ]);
    let mut live = live(&fake);
    assert!(fake.seen().is_empty(), "asked before anyone wanted it");
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(next(&mut live).await);
    }
    assert_eq!(got, ["reset: Began", "Sent", "Active"]);
    let place = Some("a-2".to_owned());
    assert_eq!(last_event_ids(&fake), [None, place.clone(), place]);
    assert_eq!(live.last_event_id(), Some("a-3"));
    let accept = fake.seen()[0].header("accept").map(str::to_owned);
    assert!(accept.is_some_and(|accept| accept.starts_with("text/event-stream")));
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_moves_the_place_on_and_is_no_item() {
    let fake = Fake::new([
        ending(&[
            reset("a-1", "began"),
            ": here\nid: a-9\n\n".to_owned(),
            "id: a-10\ndata: {\"kind\":\"end\",\"reason\":\"lifetime\"}\n\n".to_owned(),
        ]),
        open(&[moved("a-11", "sent")]),
    ]);
    let mut live = live(&fake);
    assert_eq!(next(&mut live).await, "reset: Began");
    assert_eq!(next(&mut live).await, "Sent");
    assert_eq!(last_event_ids(&fake), [None, Some("a-10".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_for_three_keep_alives_is_opened_again() {
    let fake = Fake::new([
        open(&[reset("a-1", "began")]),
        open(&[reset("b-1", "restarted")]),
    ]);
    let mut live = live(&fake);
    assert_eq!(next(&mut live).await, "reset: Began");
    let since = Instant::now();
    let item = live.next().await;
    let restarted = LiveItem::Reset {
        reason: ResetReason::Restarted,
    };
    assert_eq!(item.and_then(Result::ok), Some(restarted));
    let took = since.elapsed();
    assert!(
        took >= Duration::from_secs(45) && took < Duration::from_secs(47),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_may_mend_is_tried_for_ever_and_told_meanwhile() {
    let busy = match problem(429, "too_many_requests") {
        Answer::Reply(status, mut headers, body) => {
            headers.push(("retry-after", "3600"));
            Answer::Reply(status, headers, body)
        }
        other => other,
    };
    let failures = [busy, reply(502, "<html>"), Answer::Broken].into_iter();
    let failures = failures.chain((0..20).map(|_| Answer::Refused));
    let fake = Fake::new(failures.chain([open(&[reset("a-1", "began")])]));
    let mut live = live(&fake);
    let none_yet = timeout(Duration::from_secs(3_600), live.next()).await;
    assert!(none_yet.is_err());
    let trouble = live.trouble().expect("it is told");
    assert_eq!(trouble.code(), Some(ProblemCode::TooManyRequests));
    assert_eq!(fake.seen().len(), 1, "it came back before it was asked to");
    assert_eq!(next(&mut live).await, "reset: Began");
    assert!(live.trouble().is_none());
    assert_eq!(fake.seen().len(), 24);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_no_other_try_would_mend_is_the_last_item() {
    for (status, code) in [
        (400, "invalid_parameter"),
        (401, "unauthenticated"),
        (403, "forbidden"),
        (404, "not_found"),
    ] {
        let fake = Fake::new([problem(status, code)]);
        let mut live = live(&fake);
        let error = live.next().await.expect("an item").unwrap_err();
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
        assert!(live.next().await.is_none());
        assert_eq!(fake.seen().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_no_headend_is_told_and_not_asked_again() {
    let no_item = "data: {\"kind\":\"dispatch\"}\n\n".to_owned();
    for answer in [reply(200, "<html>"), open(&[no_item])] {
        let fake = Fake::new([answer]);
        let mut live = live(&fake);
        let error = live.next().await.expect("an item").unwrap_err();
        assert!(matches!(error, Error::InvalidResponse { .. }), "{error}");
        assert!(live.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_headend_tells_is_passed_over() {
    let newer = "id: a-2\ndata: {\"kind\":\"weather\",\"sun\":1}\n\n".to_owned();
    let fake = Fake::new([open(&[
        reset("a-1", "began"),
        newer,
        moved("a-3", "paused"),
    ])]);
    let mut live = live(&fake);
    assert_eq!(next(&mut live).await, "reset: Began");
    assert_eq!(next(&mut live).await, "Unknown");
    assert_eq!(live.last_event_id(), Some("a-3"));
}

#[tokio::test(start_paused = true)]
async fn an_event_without_an_end_is_not_kept_without_a_bound() {
    let fake = Fake::new([open(&["data: 0123456789".repeat(10)])]);
    let client = fake.builder("/").max_response_bytes(100).build().unwrap();
    let error = client.live(LiveQuery::new()).next().await.unwrap();
    assert!(matches!(error, Err(Error::InvalidResponse { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_of_next_loses_no_item() {
    let fake = Fake::new([
        Answer::Refused,
        open(&[reset("a-1", "began"), moved("a-2", "sent")]),
    ]);
    let mut live = live(&fake);
    let mut context = Context::from_waker(Waker::noop());
    {
        let dropped = pin!(live.next());
        assert!(dropped.poll(&mut context).is_pending());
    }
    assert_eq!(next(&mut live).await, "reset: Began");
    assert_eq!(next(&mut live).await, "Sent");
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_stands_in_the_query_and_the_place_in_the_header() {
    let fake = Fake::new([problem(404, "not_found")]);
    let query = LiveQuery::new()
        .kind(LiveKind::Dispatch)
        .kind(LiveKind::Session)
        .asset(ASSET.parse().unwrap())
        .site(SITE.parse().unwrap())
        .after("a-7");
    let mut live = fake.client().live(query);
    assert_eq!(live.last_event_id(), Some("a-7"));
    assert_eq!(next(&mut live).await, "error");
    let target = format!("GET /stream?kind=dispatch%2Csession&asset_id={ASSET}&site_id={SITE}");
    assert_eq!(fake.targets(), [target]);
    assert_eq!(last_event_ids(&fake), [Some("a-7".to_owned())]);
}
