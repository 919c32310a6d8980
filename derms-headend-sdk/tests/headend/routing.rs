//! Which side answers, and how what is not there is answered.

use bytes::Bytes;
use derms_headend_sdk::proto::ProblemCode as Code;
use http::header;
use http_body_util::{Empty, Full};

use crate::support::{BESS_1, get, headend, request, send};

const CALL: &str = "/derms.v1.AgentLink/Stream";

fn grpc(path: &str) -> http::Request<Empty<Bytes>> {
    let request = request("POST", path).header(header::CONTENT_TYPE, "application/grpc");
    request.body(Empty::new()).unwrap()
}

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let headend = headend().await;
    for path in [
        "/",
        "/asset",
        "/assets/",
        "/v1/assets",
        "//assets",
        "/docs/nothing.js",
        CALL,
    ] {
        get(&headend, path).await.problem(Code::NotFound);
    }
    let long = format!("/{}", "x".repeat(10_000));
    assert!(
        get(&headend, &long)
            .await
            .problem(Code::NotFound)
            .detail
            .len()
            < 500
    );
}

#[tokio::test]
async fn a_method_that_a_path_does_not_know_is_told_those_it_knows() {
    let headend = headend().await;
    for (method, path, allow) in [
        ("POST", "/assets".to_owned(), "GET,HEAD"),
        ("DELETE", format!("/assets/{BESS_1}"), "GET,HEAD"),
        ("GET", "/dispatch".to_owned(), "POST"),
        ("PUT", "/dispatch".to_owned(), "POST"),
        ("OPTIONS", "/dispatch".to_owned(), "POST"),
        ("POST", "/dispatch/history".to_owned(), "GET,HEAD"),
        ("BREW", "/healthz".to_owned(), "GET,HEAD"),
    ] {
        let request = request(method, &path).body(Empty::<Bytes>::new()).unwrap();
        let answer = send(headend.service(), request).await;
        answer.problem(Code::MethodNotAllowed);
        assert_eq!(answer.header(header::ALLOW), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn a_problem_is_short_however_long_the_request_was() {
    let headend = headend().await;
    let long = "X".repeat(9_000);
    for (method, path) in [
        (long.as_str(), "/assets".to_owned()),
        ("GET", format!("/{long}")),
        ("GET", format!("/assets/{long}")),
        ("GET", format!("/dispatch/history?{long}=1")),
        ("GET", format!("/dispatch/history?cursor={long}")),
    ] {
        let request = request(method, &path).body(Empty::<Bytes>::new()).unwrap();
        let answer = send(headend.service(), request).await;
        assert!(answer.status.is_client_error(), "{}", answer.status);
        assert!(answer.body.len() < 1_000, "{}", answer.text());
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let headend = headend().await;
    for path in [
        "/assets",
        "/healthz",
        "/openapi.json",
        "/docs/",
        "/telemetry",
    ] {
        let request = request("HEAD", path).body(Empty::<Bytes>::new()).unwrap();
        let head = send(headend.service(), request).await;
        let get = get(&headend, path).await;
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(
            head.header(header::CONTENT_TYPE),
            get.header(header::CONTENT_TYPE)
        );
        assert!(head.body.is_empty() && !get.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn what_is_true_now_is_not_kept_by_caches() {
    let headend = headend().await;
    for path in ["/telemetry", "/assets", "/nowhere", "/openapi.json"] {
        assert_eq!(
            get(&headend, path).await.header(header::CACHE_CONTROL),
            "no-store",
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_grpc_call_that_is_not_known_is_unimplemented() {
    let headend = headend().await;
    for path in [
        "/derms.v1.AgentLink/Nothing",
        "/grpc.health.v1.Health/Nothing",
    ] {
        let answer = send(headend.service(), grpc(path)).await;
        assert_eq!(answer.header("grpc-status"), "12", "{path}");
        assert_eq!(answer.header(header::CONTENT_TYPE), "application/grpc");
    }
}

#[tokio::test]
async fn rest_is_answered_as_rest_whatever_it_says_it_carries() {
    let service = headend().await.service();
    send(service.clone(), grpc("/dispatch"))
        .await
        .problem(Code::UnsupportedMediaType);
    send(service.clone(), grpc("/nowhere"))
        .await
        .problem(Code::NotFound);
    send(service.clone(), grpc("/no/where"))
        .await
        .problem(Code::NotFound);
    send(service.clone(), grpc("/assets"))
        .await
        .problem(Code::MethodNotAllowed);
    let assets = request("GET", "/assets").header(header::CONTENT_TYPE, "application/grpc");
    send(service, assets.body(Empty::<Bytes>::new()).unwrap())
        .await
        .ok();
}

#[tokio::test]
async fn a_service_without_grpc_says_so_in_grpc() {
    let rest = headend().await.rest_service();
    let answer = send(rest.clone(), grpc(CALL)).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(answer.header("grpc-status"), "12");
    assert!(
        answer
            .header("grpc-message")
            .contains("not%20served%20here"),
        "{answer:?}"
    );
    send(
        rest,
        request("GET", "/assets")
            .body(Empty::<Bytes>::new())
            .unwrap(),
    )
    .await
    .ok();
}

#[tokio::test]
async fn a_service_without_rest_says_so_in_rest() {
    let grpc_only = headend().await.grpc_service();
    for path in ["/assets", "/healthz", "/docs", "/"] {
        let request = request("GET", path).body(Empty::<Bytes>::new()).unwrap();
        let problem = send(grpc_only.clone(), request)
            .await
            .problem(Code::NotFound);
        assert!(
            problem.detail.contains("only the agent link"),
            "{problem:?}"
        );
    }
    let answer = send(grpc_only.clone(), grpc("/derms.v1.AgentLink/Nothing")).await;
    assert_eq!(answer.header("grpc-status"), "12");
    let json = request("POST", CALL).header(header::CONTENT_TYPE, "application/json");
    send(grpc_only, json.body(Full::<Bytes>::default()).unwrap())
        .await
        .problem(Code::NotFound);
}
