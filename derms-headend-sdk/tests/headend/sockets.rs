//! `Headend::serve` over real sockets, and how it ends.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use derms_headend_sdk::proto::link::HeadendMessage;
use derms_headend_sdk::proto::{CloseReason, Fleet, NewDispatch, Power, ProblemCode};
use derms_headend_sdk::store::StoreError;
use derms_headend_sdk::{DispatchError, Headend, HeadendService};
use http::{Request, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::sick_store::{SickStore, Sickness};
use crate::support::{self, BESS_1, BESS_2, JERSEY, fleet, headend_with};

/// Far above what anything here takes.
const SOON: Duration = Duration::from_secs(20);

fn bind() -> (TcpListener, SocketAddr) {
    let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn headend(drain_limit: Duration) -> Headend {
    Headend::builder(fleet())
        .drain_limit(drain_limit)
        .build()
        .await
        .unwrap()
}

struct Serving {
    headend: Headend,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Serving {
    fn start(headend: Headend, listeners: Vec<(TcpListener, HeadendService)>) -> Self {
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let (serving, stopped) = (headend.clone(), stop.clone());
        task.spawn(async move { serving.serve(listeners, stopped.cancelled()).await });
        Self {
            headend,
            stop,
            task,
        }
    }

    /// Stops and tells how long that took.
    async fn stop(mut self) -> Duration {
        let started = Instant::now();
        self.stop.cancel();
        let ended = timeout(SOON, self.task.join_next()).await;
        ended.expect("serve does not return").unwrap().unwrap();
        started.elapsed()
    }
}

#[tokio::test]
async fn a_headend_whose_store_another_one_has_taken_sends_its_agents_away_and_ends() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    let (listener, address) = bind();
    let service = headend.service();
    let mut serving = Serving::start(headend, vec![(listener, service)]);
    let mut agent = Agent::dial(address, BESS_1, &[BESS_1]).await;
    let headend = serving.headend.clone();
    support::get(&headend, "/readyz").await.ok();

    store.set(Sickness::TakenOver);
    let order = NewDispatch::asset(BESS_1.parse().unwrap(), Power::from_mw(1.0));
    let refused = headend.dispatch(&order, None).await.unwrap_err();
    assert!(
        matches!(refused, DispatchError::Store(StoreError::TakenOver)),
        "{refused:?}"
    );
    let mut last = None;
    while let Some(message) = timeout(SOON, agent.next()).await.expect("it ends") {
        assert!(!matches!(message, HeadendMessage::Setpoint(_)));
        last = Some(message);
    }
    assert!(
        matches!(&last, Some(HeadendMessage::Close(close)) if close.reason == CloseReason::Draining),
        "{last:?}"
    );
    let ended = timeout(SOON, serving.task.join_next()).await;
    ended.expect("serve does not return").unwrap().unwrap();
    assert!(headend.is_taken_over());
    let answer = support::get(&headend, "/readyz").await;
    answer.problem(ProblemCode::Draining);
    assert!(answer.text().contains("another headend"), "{answer:?}");
}

/// Both sides on one port.
async fn one_port(drain_limit: Duration) -> (Serving, SocketAddr) {
    let headend = headend(drain_limit).await;
    let (listener, address) = bind();
    let service = headend.service();
    (Serving::start(headend, vec![(listener, service)]), address)
}

fn client<B>(http2: bool) -> Client<HttpConnector, B>
where
    B: http_body::Body<Data: Send> + Send + 'static,
{
    Client::builder(TokioExecutor::new())
        .http2_only(http2)
        .build_http()
}

async fn get(http2: bool, address: SocketAddr, path: &str) -> (Version, StatusCode, Value) {
    let uri = format!("http://{address}{path}").parse().unwrap();
    let response = client::<Empty<Bytes>>(http2).get(uri).await.unwrap();
    let (version, status) = (response.version(), response.status());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (version, status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn one_port_speaks_http1_and_http2_and_the_agent_link() {
    let (serving, address) = one_port(SOON).await;
    let agent = Agent::dial(address, BESS_1, &[BESS_1]).await;
    for (http2, version) in [(false, Version::HTTP_11), (true, Version::HTTP_2)] {
        let (spoken, status, agents) = get(http2, address, "/agents").await;
        assert_eq!((spoken, status), (version, StatusCode::OK));
        let peer: SocketAddr = agents[0]["peer"].as_str().unwrap().parse().unwrap();
        assert_eq!(peer.ip(), address.ip(), "where the agent is");
    }
    drop(agent);
    serving.stop().await;
}

#[tokio::test]
async fn two_ports_keep_the_sides_apart() {
    let headend = headend(SOON).await;
    let ((rest, rest_address), (grpc, grpc_address)) = (bind(), bind());
    let listeners = vec![
        (rest, headend.rest_service()),
        (grpc, headend.grpc_service()),
    ];
    let serving = Serving::start(headend, listeners);
    let _agent = Agent::dial(grpc_address, BESS_1, &[BESS_1]).await;
    assert_eq!(
        get(false, rest_address, "/agents").await.2[0]["agent_id"],
        BESS_1
    );
    assert_eq!(
        get(false, grpc_address, "/agents").await.1,
        StatusCode::NOT_FOUND
    );
    serving.stop().await;
}

#[tokio::test]
async fn two_headends_live_in_one_process() {
    let (first, first_address) = one_port(SOON).await;
    let empty = Fleet::from_yaml("sites: []\nassets: []\n", "other.yaml").unwrap();
    let other = Headend::builder(empty).build().await.unwrap();
    let (listener, other_address) = bind();
    let service = other.service();
    let second = Serving::start(other, vec![(listener, service)]);
    let _agent = Agent::dial(first_address, JERSEY, &[BESS_1, BESS_2]).await;
    assert_eq!(
        get(false, first_address, "/assets")
            .await
            .2
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(
        get(false, other_address, "/assets").await.2,
        serde_json::json!([])
    );
    assert_eq!(
        get(false, other_address, "/agents").await.2,
        serde_json::json!([])
    );
    // The end of one is nothing to the other.
    second.stop().await;
    assert_eq!(
        get(false, first_address, "/agents").await.2[0]["agent_id"],
        JERSEY
    );
    first.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let (_held, address) = bind();
    let error = Headend::bind(address).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("can't listen on {address}; is the port taken?")
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn open_streams_and_idle_connections_end_with_the_headend_and_not_at_its_limit() {
    let limit = Duration::from_secs(15);
    let (serving, address) = one_port(limit).await;
    let mut agent = Agent::dial(address, JERSEY, &[BESS_1, BESS_2]).await;
    // Kept alive for a next request that never comes.
    let idle = client::<Empty<Bytes>>(false);
    let uri: http::Uri = format!("http://{address}/assets").parse().unwrap();
    idle.get(uri)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    // Has not said anything yet.
    let mut silent = TcpStream::connect(address).await.unwrap();

    let (took, close) = tokio::join!(serving.stop(), async {
        let mut last = None;
        while let Some(message) = agent.next().await {
            last = Some(message);
        }
        last
    });
    let Some(HeadendMessage::Close(close)) = close else {
        panic!("the last message is {close:?}");
    };
    assert_eq!(close.reason, CloseReason::Draining);
    assert!(close.retry_after.is_some());
    assert!(took < limit / 2, "{took:?}");
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

/// A gRPC call that was answered with headers and whose network then went silent: it answers no
/// GOAWAY and no ping, but its socket is open.
#[tokio::test]
async fn a_stream_into_a_black_hole_holds_up_the_end_no_longer_than_the_limit() {
    let limit = Duration::from_millis(500);
    let (serving, address) = one_port(limit).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let entrance = proxy.local_addr().unwrap();
    let body = StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let call = Request::post(format!("http://{entrance}/derms.v1.AgentLink/Stream"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let client = client(true);
    let answer = client.request(call.body(body).unwrap());
    tokio::pin!(answer);
    let mut inside = tokio::select! {
        accepted = proxy.accept() => accepted.unwrap().0,
        _ = &mut answer => unreachable!("there is no connection yet"),
    };
    let mut outside = TcpStream::connect(address).await.unwrap();
    let response = tokio::select! {
        response = &mut answer => response.unwrap(),
        _ = copy_bidirectional(&mut inside, &mut outside) => unreachable!("both are open"),
    };
    assert_eq!(response.status(), StatusCode::OK);
    // From here on nobody moves what arrives at the proxy.
    let took = serving.stop().await;
    assert!(took < limit + Duration::from_secs(4), "{took:?}");
    let end = timeout(Duration::from_secs(4), outside.read_to_end(&mut Vec::new())).await;
    let _ = end.expect("the connection was not cut");
}

#[tokio::test]
async fn a_request_in_hand_is_finished_before_the_end() {
    let (serving, address) = one_port(SOON).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let body = format!(r#"{{"asset_id":"{BESS_1}","mw":1}}"#);
    let head = format!(
        "POST /dispatch?wait_s=60 HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    client
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .unwrap();
    while get(false, address, "/dispatch/history").await.2["items"][0].is_null() {}
    let took = serving.stop().await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
    assert!(took < SOON / 2, "{took:?}");
}

#[tokio::test]
async fn to_drop_the_serving_cuts_its_connections() {
    let (mut serving, address) = one_port(SOON).await;
    let mut agent = Agent::dial(address, BESS_1, &[BESS_1]).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    serving.task.shutdown().await;
    let ended = async {
        while agent.next().await.is_some() {}
        let _ = silent.read(&mut [0; 8]).await;
        while TcpStream::connect(address).await.is_ok() {}
    };
    timeout(SOON, ended).await.expect("something is still open");
    // The headend itself lives on.
    assert_eq!(serving.headend.fleet().assets().len(), 3);
}
