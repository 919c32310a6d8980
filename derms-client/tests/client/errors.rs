//! What comes back when it goes wrong.

use std::error::Error as _;
use std::time::Duration;

use derms_client::Error;
use derms_client::proto::{AssetId, Power, ProblemCode};
use serde_json::json;
use tokio::time::Instant;

use crate::fake::{ASSET, Answer, Fake, ok, problem, reply};

fn asset() -> AssetId {
    ASSET.parse().expect("an id")
}

#[tokio::test]
async fn a_problem_is_told_by_status_code_and_detail() {
    let body = json!({
        "type": "about:blank", "title": "out of range", "status": 422, "detail": "99 MW is above 60 MW",
        "code": "out_of_range", "limits": {"asset_id": ASSET, "min_mw": -60.0, "max_mw": 60.0},
    });
    let fake = Fake::new([reply(422, body.to_string())]);
    let error = fake.client().asset(asset()).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 422);
    assert_eq!(error.code(), Some(ProblemCode::OutOfRange));
    let limits = error.problem().unwrap().limits.unwrap();
    assert_eq!(limits.max_mw, Power::from_mw(60.0));
    assert!(!error.is_retryable());
    let expected = "the headend answered 422 (out of range): 99 MW is above 60 MW";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_code_of_a_newer_headend_is_unknown_and_still_a_problem() {
    let fake = Fake::new([problem(418, "teapot")]);
    let error = fake.client().assets().await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::Unknown));
    assert_eq!(error.status().unwrap(), 418);
}

#[tokio::test]
async fn an_error_page_of_a_proxy_is_an_invalid_response_with_its_status() {
    let fake = Fake::new([reply(502, "<html>Bad Gateway</html>")]);
    let client = fake.builder("/").retries(0).build().unwrap();
    let error = client.assets().await.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse { .. }), "{error:?}");
    assert_eq!(error.status().unwrap(), 502);
    assert_eq!(error.code(), None);
    assert!(error.is_retryable());
    assert!(error.source().is_some());
}

#[tokio::test]
async fn an_error_of_another_json_form_is_an_invalid_response() {
    for body in [
        r#"{"error":"no"}"#,
        r#"{"title":"t","status":404,"detail":"d"}"#,
        "",
    ] {
        let error = Fake::new([reply(404, body)])
            .client()
            .assets()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::InvalidResponse { .. }), "{error:?}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn a_good_status_with_another_body_is_an_invalid_response_and_not_asked_again() {
    for answer in [
        reply(200, "<html>"),
        reply(204, ""),
        ok(&json!({"assets": []})),
    ] {
        let fake = Fake::new([answer]);
        let error = fake.client().assets().await.unwrap_err();
        assert!(matches!(error, Error::InvalidResponse { .. }), "{error:?}");
        assert!(!error.is_retryable());
        assert_eq!(fake.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_is_an_invalid_response() {
    let error = Fake::new([reply(307, "")])
        .client()
        .assets()
        .await
        .unwrap_err();
    assert_eq!(error.status().unwrap(), 307);
    assert!(matches!(error, Error::InvalidResponse { .. }));
}

#[tokio::test]
async fn a_body_over_the_limit_is_an_invalid_response_and_one_at_the_limit_is_read() {
    for (limit, fits) in [(2, true), (1, false), (0, false)] {
        for status in [200, 500] {
            let fake = Fake::new([reply(status, "[]")]);
            let client = fake.builder("/").max_response_bytes(limit).build().unwrap();
            let result = client.assets().await;
            assert_eq!(result.is_ok(), fits && status == 200);
            if !fits {
                let error = result.unwrap_err();
                assert!(error.to_string().contains("more than"), "{error}");
                assert_eq!(error.status().unwrap(), status);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_headend_that_does_not_answer_is_given_up_after_the_timeout() {
    let fake = Fake::new([Answer::Silence]);
    let client = fake.builder("/").retries(0).build().unwrap();
    let start = Instant::now();
    let error = client.assets().await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 30);
    assert!(matches!(error, Error::Timeout { .. }));
    assert!(error.is_retryable());

    let fake = Fake::new([Answer::Silence]);
    let builder = fake.builder("/").retries(0).timeout(Duration::from_secs(3));
    let start = Instant::now();
    builder.build().unwrap().assets().await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_a_transport_error_and_one_that_never_was_a_connect_error() {
    for (answer, connect) in [
        (Answer::Broken, false),
        (Answer::Cut, false),
        (Answer::Refused, true),
    ] {
        let fake = Fake::new([answer]);
        let client = fake.builder("http://h:1").retries(0).build().unwrap();
        let error = client.assets().await.unwrap_err();
        assert_eq!(matches!(error, Error::Connect { .. }), connect, "{error:?}");
        assert_eq!(
            matches!(error, Error::Transport { .. }),
            !connect,
            "{error:?}"
        );
        assert!(error.to_string().contains("http://h:1"));
        assert!(error.source().is_some());
        assert!(error.is_retryable());
    }
}
