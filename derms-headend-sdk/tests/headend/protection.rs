//! Rates, the guard over powers, and the headers of answers.

use std::time::Duration;

use bytes::Bytes;
use derms_headend_sdk::auth::Role;
use derms_headend_sdk::proto::{Power, ProblemCode as Code};
use derms_headend_sdk::{Encrypted, Headend, HeadendBuilder, Principal};
use http::{Request, StatusCode, header};
use http_body_util::Full;

use crate::support::{
    Answer, BESS_1, BESS_2, JERSEY, fleet, get, json_post, request, send, standing_clock,
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
