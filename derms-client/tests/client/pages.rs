//! Long lists as streams.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use derms_client::proto::{Cursor, Dispatch};
use derms_client::{DispatchHistoryQuery, Error, Items};
use http::StatusCode;
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use crate::fake::{Answer, Fake, dispatch, ok, problem};

fn page(items: &[&str], next: Option<&str>) -> Answer {
    let items: Vec<Value> = items.iter().map(|status| dispatch(status)).collect();
    ok(&json!({"items": items, "next_cursor": next}))
}

fn items(fake: &Fake) -> Items<Dispatch> {
    let query = DispatchHistoryQuery::new().limit(2);
    fake.client().dispatch_history(query).items()
}

/// Statuses, `error` for an error, up to the end of the stream.
async fn statuses(mut items: Items<Dispatch>) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(item) = items.next().await {
        found.push(match item {
            Ok(dispatch) => format!("{:?}", dispatch.status),
            Err(_) => "error".to_owned(),
        });
    }
    assert!(items.next().await.is_none(), "an ended stream stays ended");
    found
}

#[tokio::test]
async fn a_history_that_is_awaited_is_one_page() {
    let fake = Fake::new([page(&["sent"], Some("n"))]);
    let query = DispatchHistoryQuery::new().cursor(Cursor::new("m"));
    let page = fake.client().dispatch_history(query).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.next_cursor, Some(Cursor::new("n")));
    assert_eq!(fake.targets(), ["GET /dispatch/history?cursor=m"]);
}

#[tokio::test]
async fn items_go_on_over_full_and_empty_pages_to_the_last_one() {
    let fake = Fake::new([
        page(&["sent", "active"], Some("a/b")),
        page(&[], Some("c")),
        page(&["failed"], None),
    ]);
    assert_eq!(statuses(items(&fake)).await, ["Sent", "Active", "Failed"]);
    let expected = [
        "GET /dispatch/history?limit=2",
        "GET /dispatch/history?limit=2&cursor=a%2Fb",
        "GET /dispatch/history?limit=2&cursor=c",
    ];
    assert_eq!(fake.targets(), expected);
}

#[tokio::test]
async fn a_page_is_not_fetched_before_it_is_needed() {
    let fake = Fake::new([page(&["sent", "active"], Some("b"))]);
    let mut items = items(&fake);
    assert!(fake.seen().is_empty());
    items.next().await.unwrap().unwrap();
    items.next().await.unwrap().unwrap();
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_middle_is_the_last_item() {
    let fake = Fake::new([
        page(&["sent"], Some("b")),
        problem(500, "internal"),
        page(&["failed"], None),
    ]);
    assert_eq!(statuses(items(&fake)).await, ["Sent", "error"]);
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_in_the_middle_is_not_seen() {
    let fake = Fake::new([
        page(&["sent"], Some("b")),
        Answer::Cut,
        page(&["failed"], None),
    ]);
    assert_eq!(statuses(items(&fake)).await, ["Sent", "Failed"]);
}

#[tokio::test]
async fn a_cursor_that_does_not_move_ends_the_stream_instead_of_going_round() {
    let fake = Fake::new((0..9).map(|_| page(&["sent"], Some("same"))));
    let mut items = items(&fake);
    items.next().await.unwrap().unwrap();
    let error = items.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::InvalidResponse { .. }));
    assert!(items.next().await.is_none());
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn a_dropped_call_of_next_loses_no_item() {
    let body = json!({"items": [dispatch("sent")], "next_cursor": null});
    let fake = Fake::new([Answer::Late(body.to_string())]);
    let mut items = items(&fake);
    let mut context = Context::from_waker(Waker::noop());
    {
        let dropped = pin!(items.next());
        assert!(dropped.poll(&mut context).is_pending());
    }
    let left: Vec<_> = items.collect().await;
    assert_eq!(left.len(), 1);
    assert!(left[0].is_ok());
    assert_eq!(fake.seen().len(), 1);
}

fn csv(text: &str, link: Option<&'static str>) -> Answer {
    let mut headers = vec![("content-type", "text/csv; charset=utf-8; header=present")];
    headers.extend(link.map(|link| ("link", link)));
    Answer::Reply(StatusCode::OK, headers, text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_list_as_csv_goes_on_where_each_page_links_to_and_is_asked_for_again_like_any_read() {
    let fake = Fake::new([
        csv(
            "id\r\na\r\n",
            Some("</derms/x?limit=2&cursor=b>; rel=\"next\""),
        ),
        Answer::Cut,
        csv("id\r\n", None),
    ]);
    let query = DispatchHistoryQuery::new().limit(2);
    let mut pages = fake.client().dispatch_history(query).csv();
    let mut text = String::new();
    while let Some(page) = pages.next().await {
        text += &page.unwrap();
    }
    assert_eq!(text, "id\r\na\r\nid\r\n");
    let second = "GET /dispatch/history?limit=2&cursor=b";
    let expected = ["GET /dispatch/history?limit=2", second, second];
    assert_eq!(fake.targets(), expected);
    let accept = fake.seen()[0].header("accept").map(str::to_owned);
    assert!(accept.is_some_and(|accept| accept.starts_with("text/csv")));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_csv_and_a_link_in_a_circle_end_it_with_an_error() {
    let round = || csv("id\r\n", Some("</x?cursor=b>; rel=\"next\""));
    for (answers, good) in [
        (vec![page(&[], None)], 0),
        (vec![problem(403, "forbidden")], 0),
        (vec![round(), round(), round()], 1),
    ] {
        let fake = Fake::new(answers);
        let mut pages = fake
            .client()
            .dispatch_history(DispatchHistoryQuery::new())
            .csv();
        for _ in 0..good {
            pages.next().await.unwrap().unwrap();
        }
        assert!(pages.next().await.unwrap().is_err());
        assert!(pages.next().await.is_none());
    }
}
