//! Bodies that can't be taken.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::ProblemCode as Code;
use http::header;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::time::Instant;
use tokio_stream::{StreamExt as _, iter, pending};

use crate::support::{Answer, BESS_1, JERSEY, get, headend, json_post, post, request, send};

async fn nothing_was_stored(headend: &Headend) {
    let history = get(headend, "/dispatch/history").await.ok();
    assert_eq!(history["items"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_body_that_is_no_order_is_refused() {
    let headend = headend().await;
    let deep = "[".repeat(30_000);
    let deep_objects = r#"{"mw":"#.repeat(9_000);
    let many_digits = format!(r#"{{"asset_id":"{BESS_1}","mw":{}}}"#, "9".repeat(4_000));
    let asset = |rest: &str| format!(r#"{{"asset_id":"{BESS_1}",{rest}}}"#);
    let in_order = format!(r#"["{BESS_1}",null,5,10,null]"#);
    for body in [
        "",
        " ",
        "{",
        "null",
        "5",
        "\"mw\"",
        "[]",
        // The fields of the struct in order, which serde alone would take.
        &in_order,
        "{}",
        "{'mw': 5}",
        "\u{feff}{\"mw\":1}",
        &asset(r#""mw":"5""#),
        &asset(r#""mw":true"#),
        &asset(r#""mw":null"#),
        &asset(r#""mw":[5]"#),
        &asset(r#""mw":NaN"#),
        &asset(r#""mw":Infinity"#),
        &asset(r#""mw":1e999"#),
        &asset(r#""mw":-1e999"#),
        &many_digits,
        &asset(r#""mw":1,"mw":2"#),
        &asset(r#""mw":1,"power":2"#),
        &asset(r#""mw":1} {"mw":2"#),
        &asset(r#""mw":1,"duration_s":"10""#),
        &asset(r#""mw":1,"duration_s":1e999"#),
        r#"{"asset_id":"BESS-1","mw":1}"#,
        r#"{"asset_id":7,"mw":1}"#,
        &deep,
        &deep_objects,
    ] {
        let answer = post(&headend, "/dispatch", body.to_owned()).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!(answer.status.as_u16(), 400, "{shown}: {}", answer.text());
        let problem = answer.problem(Code::InvalidBody);
        assert!(problem.detail.len() < 1_000, "{shown}");
    }
    let invalid_utf8 = [&br#"{"asset_id":""#[..], &[0xff, 0xfe], br#"","mw":1}"#].concat();
    post(&headend, "/dispatch", invalid_utf8)
        .await
        .problem(Code::InvalidBody);
    nothing_was_stored(&headend).await;
}

#[tokio::test]
async fn an_order_that_contradicts_itself_is_refused() {
    let headend = headend().await;
    let asset = |rest: &str| format!(r#"{{"asset_id":"{BESS_1}","mw":1,{rest}}}"#);
    for body in [
        r#"{"mw":1}"#,
        &asset(r#""duration_s":0"#),
        &asset(r#""duration_s":-0.0"#),
        &asset(r#""duration_s":-1"#),
        &asset(r#""duration_s":1e-300"#),
        &asset(r#""duration_s":1e300"#),
        &asset(r#""duration_s":31622401"#),
        &asset(r#""ttl_s":0"#),
        &asset(r#""ttl_s":-5"#),
        &asset(r#""site_id":"6ba7b811-9dad-11d1-80b4-00c04fd430c8""#),
    ] {
        post(&headend, "/dispatch", body.to_owned())
            .await
            .problem(Code::InvalidRequest);
    }
    nothing_was_stored(&headend).await;
}

#[tokio::test]
async fn null_is_as_if_absent() {
    let headend = headend().await;
    let body = format!(
        r#" {{"asset_id":"{BESS_1}","site_id":null,"mw":-0,"duration_s":null,"ttl_s":null}} "#
    );
    assert_eq!(post(&headend, "/dispatch", body).await.status.as_u16(), 202);
    let both = format!(r#"{{"asset_id":"{BESS_1}","site_id":"{JERSEY}","mw":1}}"#);
    let dispatch = post(&headend, "/dispatch", both).await.json();
    assert_eq!(
        dispatch["asset_id"], BESS_1,
        "an order of the asset, not of the site"
    );
}

fn large() -> Bytes {
    let mut body = format!(r#"{{"asset_id":"{BESS_1}","mw":1}}"#).into_bytes();
    body.resize(64 << 10, b' ');
    body.into()
}

async fn chunked(headend: &Headend, body: Bytes) -> Answer {
    let chunks: Vec<_> = body
        .chunks(1_000)
        .map(|c| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(c))))
        .collect();
    send(
        headend.service(),
        json_post("/dispatch")
            .body(StreamBody::new(iter(chunks)))
            .unwrap(),
    )
    .await
}

#[tokio::test]
async fn a_body_of_64_kib_is_taken_and_a_byte_more_is_not() {
    let headend = headend().await;
    let over = [&large()[..], b" "].concat();
    assert_eq!(
        post(&headend, "/dispatch", large()).await.status.as_u16(),
        202
    );
    assert_eq!(chunked(&headend, large()).await.status.as_u16(), 202);
    post(&headend, "/dispatch", over.clone())
        .await
        .problem(Code::BodyTooLarge);
    // Without content-length.
    chunked(&headend, over.into())
        .await
        .problem(Code::BodyTooLarge);
    chunked(&headend, vec![b'['; 10 << 20].into())
        .await
        .problem(Code::BodyTooLarge);
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_waited_for() {
    // Like a request with content-length: its size is known, its bytes never come.
    struct Announced;
    impl http_body::Body for Announced {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::Poll::Pending
        }
        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact((64 << 10) + 1)
        }
    }
    let service = headend().await.service();
    send(service, json_post("/dispatch").body(Announced).unwrap())
        .await
        .problem(Code::BodyTooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_not_waited_for_any_longer() {
    let headend = headend().await;
    let started = Instant::now();
    let begun = iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{")))]);
    let body = StreamBody::new(begun.chain(pending()));
    let answer = send(
        headend.service(),
        json_post("/dispatch").body(body).unwrap(),
    )
    .await;
    answer.problem(Code::RequestTimeout);
    assert_eq!(
        started.elapsed().as_secs(),
        Duration::from_secs(10).as_secs()
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused_without_its_cause() {
    let headend = headend().await;
    let broken = iter([
        Ok(Frame::data(Bytes::from_static(b"{"))),
        Err(std::io::Error::other("connection to 10.0.0.7 reset")),
    ]);
    let request = json_post("/dispatch")
        .body(StreamBody::new(broken))
        .unwrap();
    let answer = send(headend.service(), request).await;
    answer.problem(Code::InvalidBody);
    assert!(!answer.text().contains("10.0.0.7"));
}

#[tokio::test]
async fn only_json_as_it_is_is_taken() {
    let headend = headend().await;
    let order = || Full::new(Bytes::from(format!(r#"{{"asset_id":"{BESS_1}","mw":1}}"#)));
    let typed = |kind: &str| {
        request("POST", "/dispatch")
            .header(header::CONTENT_TYPE, kind)
            .body(order())
            .unwrap()
    };
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
    ] {
        assert_eq!(
            send(headend.service(), typed(kind)).await.status.as_u16(),
            202,
            "{kind}"
        );
    }
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "json",
        "",
    ] {
        send(headend.service(), typed(kind))
            .await
            .problem(Code::UnsupportedMediaType);
    }
    let missing = request("POST", "/dispatch").body(order()).unwrap();
    send(headend.service(), missing)
        .await
        .problem(Code::UnsupportedMediaType);
    let packed = json_post("/dispatch")
        .header(header::CONTENT_ENCODING, "gzip")
        .body(order())
        .unwrap();
    send(headend.service(), packed)
        .await
        .problem(Code::UnsupportedMediaType);
}
