//! Rates, the guard over powers, and the headers of answers.

use std::time::Duration;

use bytes::Bytes;
use derms_headend_sdk::async_trait;
use derms_headend_sdk::auth::{Authenticate, Refused, Role};
use derms_headend_sdk::proto::{Power, ProblemCode as Code};
use derms_headend_sdk::{Encrypted, Headend, HeadendBuilder, Principal};
use http::{Request, StatusCode, header};
use http_body_util::Full;
use tokio_util::task::TaskTracker;

use crate::agent::Agent;
use crate::support::{
    Answer, BESS_1, BESS_2, JERSEY, NOBODY, Never, fleet, get, json_post, request, send,
    standing_clock,
};

fn builder() -> HeadendBuilder {
    standing_clock(Headend::builder(fleet())).0
}

fn of(who: &str, mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let principal = Principal::new(who).with_role(Role::Operator);
    request.extensions_mut().insert(principal);
    request
}

fn empty(method: &str, path: &str) -> Request<Full<Bytes>> {
    request(method, path).body(Full::default()).unwrap()
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    json_post(path).body(Full::new(body.into())).unwrap()
}

fn order(asset: &str, mw: f64) -> Request<Full<Bytes>> {
    post(
        "/dispatch",
        format!(r#"{{"asset_id":"{asset}","mw":{mw}}}"#),
    )
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn limit(asset: &str, bounds: &str) -> Request<Full<Bytes>> {
    post("/limits", format!(r#"{{"asset_id":"{asset}",{bounds}}}"#))
}

#[track_caller]
fn retry_after(answer: &Answer) -> u64 {
    answer.header(header::RETRY_AFTER).parse().unwrap()
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_back_and_can_still_stop() {
    let headend = builder().rate_limit(1, 3).build().await.unwrap();
    let call = async |who: &str, request| send(headend.service(), of(who, request)).await;
    // Calls come faster than they are given back, but on a busy machine not all of them do.
    let refused = async |request: &dyn Fn() -> Request<Full<Bytes>>| {
        for _ in 0..100 {
            let answer = call("oda", request()).await;
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                return answer;
            }
        }
        panic!("100 calls were taken");
    };
    for _ in 0..3 {
        call("oda", empty("GET", "/assets")).await.ok();
    }
    let answer = refused(&|| empty("GET", "/assets")).await;
    answer.problem(Code::TooManyRequests);
    assert!((1..=3).contains(&retry_after(&answer)));
    refused(&|| order(BESS_1, 1.0)).await;
    call("ole", empty("GET", "/assets")).await.ok();

    let stop = format!(r#"{{"site_id":"{JERSEY}","confirm":"stop"}}"#);
    let stopped = call("oda", post("/stop", stop)).await;
    assert_eq!(stopped.status, StatusCode::ACCEPTED);
    let mine = call("ole", order("7ba7b812-9dad-11d1-80b4-00c04fd430c8", 1.0)).await;
    let id = mine.json()["id"].as_str().unwrap().to_owned();
    let cancelled = call("oda", empty("DELETE", &format!("/dispatch/{id}"))).await;
    assert_eq!(cancelled.status, StatusCode::OK);
    // Probes are not counted.
    for _ in 0..10 {
        call("oda", empty("GET", "/healthz")).await.ok();
    }
}

#[tokio::test]
async fn calls_of_paths_that_are_not_there_count_as_well() {
    let headend = builder().rate_limit(1, 2).build().await.unwrap();
    let call = async || send(headend.service(), of("oda", empty("GET", "/nowhere"))).await;
    call().await.problem(Code::NotFound);
    let mut calls = 0;
    // On a busy machine some are given back meanwhile.
    while call().await.status != StatusCode::TOO_MANY_REQUESTS {
        calls += 1;
        assert!(calls < 100, "they are not counted");
    }
}

#[tokio::test]
async fn stops_of_who_may_not_stop_count_as_well() {
    let headend = builder().rate_limit(1, 2).build().await.unwrap();
    let call = async || {
        let body = format!(r#"{{"site_id":"{JERSEY}","confirm":"stop"}}"#);
        let mut request = post("/stop", body);
        let viewer = Principal::new("vic").with_role(Role::Viewer);
        request.extensions_mut().insert(viewer);
        send(headend.service(), request).await
    };
    call().await.problem(Code::Forbidden);
    let mut calls = 0;
    while call().await.status != StatusCode::TOO_MANY_REQUESTS {
        calls += 1;
        assert!(calls < 100, "they are not counted");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_waits_has_no_place_and_a_body_that_trickles_takes_its_callers_own() {
    let headend = builder().max_requests(8).build().await.unwrap();
    let _agents = [
        Agent::connect(&headend, BESS_1, &[BESS_1]).await,
        Agent::connect(&headend, BESS_2, &[BESS_2]).await,
    ];
    let calls = TaskTracker::new();
    let mut waiting = Vec::new();
    for asset in [BESS_1, BESS_2] {
        let body = format!(r#"{{"asset_id":"{asset}","mw":1}}"#);
        let request = of("oda", post("/dispatch?wait_s=60", body));
        waiting.push(calls.spawn(send(headend.service(), request)));
        settle().await;
    }
    assert!(waiting.iter().all(|call| !call.is_finished()));
    let trickling = |who: &str| {
        let mut request = json_post("/dispatch/preview").body(Never).unwrap();
        let principal = Principal::new(who).with_role(Role::Viewer);
        request.extensions_mut().insert(principal);
        calls.spawn(send(headend.service(), request))
    };
    let _vic = trickling("vic");
    settle().await;
    let more = trickling("vic").await.unwrap();
    more.problem(Code::TooManyRequests);
    let taken = send(headend.service(), of("oda", order(BESS_1, 1.0))).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED);
}

#[derive(Debug)]
struct Slow;

#[async_trait]
impl Authenticate for Slow {
    async fn authenticate(&self, _: &str) -> Result<Principal, Refused> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_authenticator_that_does_not_answer_lets_nobody_in_and_keeps_nobody_waiting() {
    let headend = builder().authentication(Slow).build().await.unwrap();
    for path in ["/assets", "/nowhere"] {
        let mut request = empty("GET", path);
        let token = header::HeaderValue::from_static("Bearer x");
        request.headers_mut().insert(header::AUTHORIZATION, token);
        let answer = send(headend.service(), request);
        let answer = tokio::time::timeout(Duration::from_secs(11), answer).await;
        answer.unwrap().problem(Code::Internal);
    }
}

#[tokio::test]
async fn an_order_for_more_than_the_guard_allows_is_refused_and_shown_by_the_preview() {
    let most = Power::from_mw(10.0);
    let headend = builder().max_mw_per_dispatch(most).build().await.unwrap();
    let call = async |request| send(headend.service(), request).await;
    for mw in [10.5, -10.5] {
        let refused = call(order(BESS_1, mw)).await;
        assert!(refused.problem(Code::PowerGuard).detail.contains("10"));
    }
    let body = format!(r#"{{"site_id":"{JERSEY}","mw":11}}"#);
    for path in ["/dispatch", "/dispatch/preview"] {
        call(post(path, body.clone()))
            .await
            .problem(Code::PowerGuard);
    }
    let taken = call(order(BESS_1, -10.0)).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_follow_up_and_a_limit_get_no_more_past_the_guard_than_an_order() {
    let most = Power::from_mw(10.0);
    let headend = builder().max_mw_per_dispatch(most).build().await.unwrap();
    let call = async |request| send(headend.service(), request).await;
    let follow_up = |mw: f64| {
        format!(r#"{{"asset_id":"{BESS_1}","mw":1,"duration_s":1,"follow_up":{{"value":{mw}}}}}"#)
    };
    for path in ["/dispatch", "/dispatch/preview"] {
        let refused = call(post(path, follow_up(-10.5))).await;
        refused.problem(Code::PowerGuard);
    }
    let taken = call(post("/dispatch", follow_up(-10.0))).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED);
    for bounds in [r#""min_mw":10.5"#, r#""max_mw":-10.5"#] {
        let refused = call(limit(BESS_1, bounds)).await;
        assert!(refused.problem(Code::PowerGuard).detail.contains("10.5"));
    }
    for bounds in [r#""min_mw":-60,"max_mw":60"#, r#""max_mw":-10"#] {
        let taken = call(limit(BESS_1, bounds)).await;
        assert_eq!(taken.status, StatusCode::CREATED, "{bounds}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_follow_up_asks_for_and_a_limit_forces_counts_in_the_minute() {
    let most = Power::from_mw(20.0);
    let headend = builder().max_mw_per_minute(most).build().await.unwrap();
    let call = async |request| send(headend.service(), of("oda", request)).await;
    let order_of = |mw: f64| {
        let body = format!(
            r#"{{"asset_id":"{BESS_1}","mw":1,"duration_s":1,"follow_up":{{"value":{mw}}}}}"#
        );
        post("/dispatch", body)
    };
    assert_eq!(call(order_of(12.0)).await.status, StatusCode::ACCEPTED);
    call(order_of(9.0)).await.problem(Code::PowerRate);
    let refused = call(limit(BESS_2, r#""min_mw":9"#)).await;
    refused.problem(Code::PowerRate);
    assert_eq!(retry_after(&refused), 60);
    // What is not set takes nothing, and what only narrows neither.
    call(limit(NOBODY, r#""min_mw":8"#))
        .await
        .problem(Code::UnknownAsset);
    let narrowed = call(limit(BESS_1, r#""max_mw":0"#)).await;
    assert_eq!(narrowed.status, StatusCode::CREATED);
    let mut last = limit(BESS_2, r#""max_mw":-8"#);
    let key = header::HeaderValue::from_static("k");
    last.headers_mut().insert("idempotency-key", key);
    let taken = call(last.clone()).await;
    assert_eq!(taken.status, StatusCode::CREATED);
    let again = call(last).await;
    assert_eq!(again.json()["id"], taken.json()["id"], "it is no new one");
    call(order(BESS_2, 0.1)).await.problem(Code::PowerRate);
}

#[tokio::test(start_paused = true)]
async fn the_power_that_one_principal_orders_in_a_minute_is_bounded() {
    let most = Power::from_mw(20.0);
    let headend = builder().max_mw_per_minute(most).build().await.unwrap();
    let call = async |who: &str, request| send(headend.service(), of(who, request)).await;
    let mut first = order(BESS_1, 15.0);
    let key = header::HeaderValue::from_static("k");
    first.headers_mut().insert("idempotency-key", key);
    let taken = call("oda", first.clone()).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED);
    let refused = call("oda", order(BESS_2, -6.0)).await;
    refused.problem(Code::PowerRate);
    assert_eq!(retry_after(&refused), 60);
    // What is no new order takes nothing.
    let again = call("oda", first).await;
    assert_eq!(again.json()["id"], taken.json()["id"]);
    let wrong = call("oda", order(BESS_2, 1_000.0)).await;
    wrong.problem(Code::OutOfRange);
    let taken = call("oda", order(BESS_2, 5.0)).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED);
    let taken = call("ole", order(BESS_2, 20.0)).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "of another one");
    tokio::time::advance(Duration::from_secs(60)).await;
    let taken = call("oda", order(BESS_2, -6.0)).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn every_answer_tells_browsers_and_caches_what_not_to_do() {
    let headend = builder().build().await.unwrap();
    for (path, policy) in [
        ("/assets", "default-src 'none'"),
        ("/nowhere", "default-src 'none'"),
        ("/docs/", "default-src 'self'"),
    ] {
        let answer = get(&headend, path).await;
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(answer.header(header::X_FRAME_OPTIONS), "DENY");
        assert_eq!(answer.header(header::REFERRER_POLICY), "no-referrer");
        let found = answer.header(header::CONTENT_SECURITY_POLICY);
        assert!(found.starts_with(policy) && found.contains("frame-ancestors 'none'"));
        assert_eq!(answer.header(header::STRICT_TRANSPORT_SECURITY), "");
        assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "");
    }
    assert_eq!(
        get(&headend, "/assets").await.header(header::CACHE_CONTROL),
        "no-store"
    );
    let mut request = empty("GET", "/assets");
    request.extensions_mut().insert(Encrypted);
    let answer = send(headend.service(), request).await;
    assert!(
        answer
            .header(header::STRICT_TRANSPORT_SECURITY)
            .starts_with("max-age=")
    );
}

#[tokio::test]
async fn a_page_of_another_origin_may_call_only_if_it_is_named() {
    let named = "https://control.example";
    let asked = |origin: &'static str| {
        let preflight = request("OPTIONS", "/dispatch")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization");
        preflight.body(Full::<Bytes>::default()).unwrap()
    };
    let closed = builder().require_principal().build().await.unwrap();
    let answer = send(closed.service(), asked(named)).await;
    answer.problem(Code::Unauthenticated);
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "");

    let open = builder()
        .require_principal()
        .cors_origins([named])
        .build()
        .await
        .unwrap();
    let answer = send(open.service(), asked(named)).await;
    assert_eq!(answer.status, StatusCode::OK, "asked without a token");
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), named);
    assert!(
        answer
            .header(header::ACCESS_CONTROL_ALLOW_HEADERS)
            .contains("authorization")
    );
    let answer = send(open.service(), asked("https://evil.example")).await;
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "");
    let mut call = empty("GET", "/assets");
    let origin = header::HeaderValue::from_static(named);
    call.headers_mut().insert(header::ORIGIN, origin);
    send(open.service(), call)
        .await
        .problem(Code::Unauthenticated);
}
