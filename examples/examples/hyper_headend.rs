//! A headend in bare hyper: the service is a `tower::Service`, so any server of that kind will do.
//!
//! Run with `cargo run -p derms-examples --example hyper_headend`, then
//! `curl -s http://127.0.0.1:8081/assets`.
//!
//! `Headend::serve` does all of this and more (limits against slow clients, a drain that ends): use
//! it unless you must have your own listener. What such a listener owes its agents is marked below.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::net::SocketAddr;
use std::time::Duration;

use derms_headend_sdk::proto::Fleet;
use derms_headend_sdk::{Headend, HeadendService, PeerAddr};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let headend = Headend::builder(Fleet::load("assets.yaml")?)
        .build()
        .await?;
    let listener = TcpListener::bind("127.0.0.1:8081").await?;
    println!("REST and agents on http://127.0.0.1:8081; Ctrl-C ends it");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted?;
                tokio::spawn(serve(stream, peer, headend.service()));
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // Every agent hears Close(DRAINING) with its own time to come back; its stream ends.
    headend.shutdown().await;
    Ok(())
}

pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, service: HeadendService) {
    // Owed: who is calling, for `GET /agents` and the log.
    let service = service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddr(peer));
        request
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        // Owed: an agent in a black hole is found within 20 s; TCP alone sees nothing for minutes.
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10));
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = connection.await {
        println!("{peer}: {error}");
    }
}
