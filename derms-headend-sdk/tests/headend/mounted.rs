//! The service inside other servers.

use axum::Router;
use axum::extract::Request as AxumRequest;
use axum::middleware::{Next, from_fn};
use bytes::Bytes;
use derms_headend_sdk::proto::ProblemCode as Code;
use derms_headend_sdk::{Headend, Principal};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tower::ServiceExt as _;

use crate::support::{Answer, BESS_1, get, headend, json_post, request, send};

fn app(headend: &Headend) -> Router {
    let auth = from_fn(async |mut request: AxumRequest, next: Next| {
        request
            .extensions_mut()
            .insert(Principal::new("operator-7"));
        next.run(request).await
    });
    Router::new()
        .nest_service("/derms", headend.service())
        .layer(auth)
}

async fn ask(app: &Router, request: http::request::Builder, body: String) -> Answer {
    let response = app
        .clone()
        .oneshot(request.body(axum::body::Body::from(body)).unwrap())
        .await;
    let (parts, body) = response.unwrap().into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

#[tokio::test]
async fn under_a_prefix_everything_is_under_that_prefix() {
    let headend = headend().await;
    let app = app(&headend);
    let body = format!(r#"{{"asset_id":"{BESS_1}","mw":1}}"#);
    let answer = ask(&app, json_post("/derms/dispatch?wait_s=0"), body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let location = answer.header(header::LOCATION).to_owned();
    assert_eq!(location, format!("/derms/dispatch/{id}"));
    let read = ask(&app, request("GET", &location), String::new())
        .await
        .ok();
    assert_eq!(
        read["principal"], "operator-7",
        "who the host's layer says it is"
    );

    let missing = ask(&app, request("GET", "/derms/nowhere"), String::new()).await;
    assert!(
        missing
            .problem(Code::NotFound)
            .detail
            .contains("/derms/nowhere")
    );
    let wrong = ask(&app, request("PUT", "/derms/assets"), String::new()).await;
    assert!(
        wrong
            .problem(Code::MethodNotAllowed)
            .detail
            .contains("/derms/assets")
    );
}

#[tokio::test]
async fn the_page_and_its_document_find_each_other_under_a_prefix() {
    let app = app(&headend().await);
    let redirect = ask(&app, request("GET", "/derms/docs"), String::new()).await;
    assert_eq!(redirect.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(
        redirect.header(header::LOCATION),
        "docs/",
        "relative to /derms/docs"
    );
    let page = ask(&app, request("GET", "/derms/docs/"), String::new()).await;
    assert_eq!(page.status, StatusCode::OK);
    let config = ask(
        &app,
        request("GET", "/derms/docs/swagger-initializer.js"),
        String::new(),
    )
    .await;
    assert!(
        config.text().contains("\"../openapi.json\""),
        "relative to /derms/docs/"
    );
    let document = ask(&app, request("GET", "/derms/openapi.json"), String::new())
        .await
        .ok();
    assert_eq!(
        document["servers"][0]["url"], ".",
        "relative to /derms/openapi.json"
    );
}

#[tokio::test]
async fn the_service_takes_any_body() {
    let headend = headend().await;
    let service = headend.service();
    send(
        service.clone(),
        request("GET", "/assets")
            .body(Empty::<Bytes>::new())
            .unwrap(),
    )
    .await
    .ok();
    send(
        service.clone(),
        request("GET", "/assets").body(String::new()).unwrap(),
    )
    .await
    .ok();
    send(
        service.clone(),
        request("GET", "/assets")
            .body(axum::body::Body::empty())
            .unwrap(),
    )
    .await
    .ok();
    let boxed = Full::new(Bytes::new())
        .map_err(std::io::Error::other)
        .boxed();
    send(service, request("GET", "/assets").body(boxed).unwrap())
        .await
        .ok();
}

#[tokio::test]
async fn the_service_runs_in_hyper_with_nothing_between() {
    let headend = headend().await;
    let (client, server) = tokio::io::duplex(64 << 10);
    let service = TowerToHyperService::new(headend.service());
    let serving =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client))
        .await
        .unwrap();
    let asking = async move {
        let request = Request::get("/assets")
            .header("host", "h")
            .body(String::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let (served, _, body) = tokio::join!(serving, connection, asking);
    served.unwrap();
    assert_eq!(body, get(&headend, "/assets").await.body);
}

#[tokio::test]
async fn a_panic_in_a_handler_costs_only_its_own_request() {
    use crate::sick_store::{SickStore, Sickness};
    let store = SickStore::default();
    let (headend, _) = crate::support::headend_with(store.clone()).await;
    let (client, server) = tokio::io::duplex(64 << 10);
    let service = TowerToHyperService::new(headend.service());
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(server), service);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
            .await
            .unwrap();
    let asking = async move {
        let mut ask = async |path: &str| {
            let uri = format!("http://h{path}");
            let request = Request::get(uri).body(String::new()).unwrap();
            sender
                .send_request(request)
                .await
                .unwrap()
                .status()
                .as_u16()
        };
        store.set(Sickness::Panic);
        assert_eq!(ask("/dispatch/history").await, 500);
        store.set(Sickness::None);
        assert_eq!(
            ask("/dispatch/history").await,
            200,
            "on the same connection"
        );
    };
    let _ = tokio::join!(serving, connection, asking);
}
