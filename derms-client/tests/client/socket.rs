//! Over TCP, with a real HTTP/1.1 server on the other side.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use derms_client::proto::{NewDispatch, Power, ProblemCode};
use derms_client::{Client, Error};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::fake::{ASSET, dispatch};

type Handler = dyn Fn(&Request<Incoming>) -> Option<Response<String>> + Send + Sync;

/// A server that lives as long as this does.
struct Server {
    base: Uri,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// `None` from the handler closes the connection without an answer.
async fn serve(
    path: &str,
    handler: impl Fn(&Request<Incoming>) -> Option<Response<String>> + Send + Sync + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let handler: Arc<Handler> = Arc::new(handler);
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let handler = handler.clone();
            open.spawn(async move {
                let service = service_fn(move |request| {
                    let answer = handler(&request);
                    async move { answer.ok_or("closed without an answer") }
                });
                let io = TokioIo::new(stream);
                // Ends with an error where the handler wants it to.
                let _ = http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    Server {
        base: format!("http://{address}{path}")
            .parse()
            .expect("an address"),
        connections,
        _tasks: tasks,
    }
}

fn json(status: u16, body: impl Into<String>) -> Option<Response<String>> {
    Response::builder().status(status).body(body.into()).ok()
}

#[tokio::test]
async fn calls_go_over_one_kept_connection_under_the_prefix() {
    let server = serve("/derms", |request| match request.uri().path() {
        "/derms/assets" if request.headers().contains_key("host") => json(200, "[]"),
        _ => json(
            404,
            r#"{"title":"t","status":404,"detail":"d","code":"not_found"}"#,
        ),
    })
    .await;
    let client = Client::new(server.base.clone()).unwrap();
    for _ in 0..5 {
        assert!(client.assets().await.unwrap().is_empty());
    }
    let error = client.sites().await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::NotFound));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_is_sent_again_under_the_same_key() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = keys.clone();
    let server = serve("", move |request| {
        let mut keys = seen.lock().ok()?;
        keys.push(request.headers().get("idempotency-key").cloned());
        if keys.len() == 1 {
            return None;
        }
        json(202, dispatch("sent").to_string())
    })
    .await;
    let client = Client::new(server.base.clone()).unwrap();
    let order = NewDispatch::asset(ASSET.parse().unwrap(), Power::from_mw(5.0));
    client.dispatch(&order).await.unwrap();
    let keys = keys.lock().unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys[0].is_some());
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_broken_answer_is_a_transport_error_and_a_closed_port_a_connect_error() {
    let server = serve("", |_| None).await;
    let client = Client::builder(server.base.clone())
        .retries(0)
        .build()
        .unwrap();
    let error = client.assets().await.unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::builder(base.parse().unwrap())
        .retries(0)
        .build()
        .unwrap();
    let order = NewDispatch::asset(ASSET.parse().unwrap(), Power::from_mw(5.0));
    let error = client.dispatch(&order).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.is_retryable());
    assert!(error.to_string().contains(&base));
}

/// A plain hyper service may stand in for a headend: it is the same trait.
#[tokio::test]
async fn a_service_in_the_same_process_needs_no_socket() {
    let service = tower::service_fn(|request: Request<derms_client::Body>| async move {
        let body = if request.uri().path() == "/derms/assets" {
            "[]"
        } else {
            "{}"
        };
        Ok::<_, Infallible>(Response::new(body.to_owned()))
    });
    let client = Client::with_service(Uri::from_static("/derms"), service).unwrap();
    assert!(client.assets().await.unwrap().is_empty());
}
