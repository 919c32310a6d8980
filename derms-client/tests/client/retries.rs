//! What is sent again, and what is not.

use std::time::Duration;

use derms_client::proto::{NewDispatch, Power};
use derms_client::{DispatchOptions, Error};
use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::fake::{ASSET, Answer, Fake, dispatch, ok, problem, reply};

fn order() -> NewDispatch {
    NewDispatch::asset(ASSET.parse().expect("an id"), Power::from_mw(5.0))
}

fn transient() -> Vec<Answer> {
    vec![
        Answer::Refused,
        Answer::Broken,
        Answer::Cut,
        Answer::Silence,
        problem(429, "too_many_requests"),
        problem(503, "store_unavailable"),
        reply(502, "<html>"),
        reply(503, ""),
        reply(504, ""),
    ]
}

fn final_answers() -> Vec<Answer> {
    vec![
        problem(400, "invalid_parameter"),
        problem(404, "unknown_asset"),
        problem(409, "site_offline"),
        problem(422, "out_of_range"),
        problem(500, "internal"),
        reply(500, ""),
        reply(200, "{"),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_read_is_repeated_after_a_transient_failure_and_after_no_other() {
    for answer in transient() {
        let fake = Fake::new([answer.clone(), ok(&json!([]))]);
        assert!(fake.client().assets().await.is_ok(), "{answer:?}");
        assert_eq!(fake.seen().len(), 2, "{answer:?}");
    }
    for answer in final_answers() {
        let fake = Fake::new([answer.clone(), ok(&json!([]))]);
        assert!(fake.client().assets().await.is_err(), "{answer:?}");
        assert_eq!(fake.seen().len(), 1, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_is_repeated_under_one_key_and_the_next_order_has_another() {
    for answer in transient() {
        let sent = || reply(202, dispatch("sent").to_string());
        let fake = Fake::new([answer.clone(), sent(), sent()]);
        let client = fake.client();
        client.dispatch(&order()).await.unwrap();
        client.dispatch(&order()).await.unwrap();
        let seen = fake.seen();
        let keys: Vec<_> = seen
            .iter()
            .map(|seen| seen.header("idempotency-key"))
            .collect();
        assert_eq!(keys.len(), 3, "{answer:?}");
        assert!(keys[0].is_some());
        assert_eq!(keys[0], keys[1], "{answer:?}");
        assert_ne!(keys[1], keys[2], "{answer:?}");
        assert_eq!(seen[0].body, seen[1].body);
    }
    for answer in final_answers() {
        let fake = Fake::new([answer.clone(), ok(&dispatch("sent"))]);
        assert!(fake.client().dispatch(&order()).await.is_err());
        assert_eq!(fake.seen().len(), 1, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn repeats_end_at_their_limit_with_the_last_error() {
    for (retries, tries) in [(None, 3), (Some(0), 1), (Some(4), 5)] {
        let fake = Fake::new((0..9).map(|_| Answer::Broken));
        let mut builder = fake.builder("/");
        if let Some(retries) = retries {
            builder = builder.retries(retries);
        }
        let error = builder.build().unwrap().assets().await.unwrap_err();
        assert!(matches!(error, Error::Transport { .. }));
        assert_eq!(fake.seen().len(), tries);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_never_repeated() {
    for answer in transient() {
        let fake = Fake::new([answer.clone(), answer, reply(200, "")]);
        let client = fake.client();
        client.healthz().await.unwrap_err();
        client.readyz().await.unwrap_err();
        assert_eq!(fake.targets(), ["GET /healthz", "GET /readyz"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_headend_asks_to_wait_is_waited_unless_it_is_too_long() {
    let busy = |seconds| {
        let headers = vec![("retry-after", seconds)];
        Answer::Reply(StatusCode::SERVICE_UNAVAILABLE, headers, String::new())
    };
    let fake = Fake::new([busy("3"), ok(&json!([]))]);
    let start = Instant::now();
    fake.client().assets().await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(3));

    let fake = Fake::new([busy("600"), ok(&json!([]))]);
    let error = fake.client().assets().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(600)));
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_of_unknown_fate_is_retryable_only_under_a_key_that_the_caller_knows() {
    for (answer, nothing_done) in [
        (Answer::Refused, true),
        (problem(429, "too_many_requests"), true),
        (problem(503, "draining"), true),
        (Answer::Broken, false),
        (Answer::Cut, false),
        (Answer::Silence, false),
        (reply(502, ""), false),
        (reply(503, ""), false),
        (reply(504, ""), false),
    ] {
        let fake = Fake::new([answer.clone(), answer.clone()]);
        let client = fake.builder("/").retries(0).build().unwrap();
        let error = client.dispatch(&order()).await.unwrap_err();
        assert_eq!(error.is_retryable(), nothing_done, "{answer:?}");

        let options = DispatchOptions::new().idempotency_key("order-17");
        let error = client.dispatch_with(&order(), options).await.unwrap_err();
        assert!(error.is_retryable(), "{answer:?}");
    }
}
