//! A headend inside an application that was there before: REST under `/derms`, behind the
//! application's own authentication, whose callers the orders then remember.
//!
//! Run with
//! ```text
//! cargo run -p derms-examples --example mounted_headend
//! curl -s -H 'authorization: Bearer ann-1' http://127.0.0.1:8080/derms/assets
//! curl -si -H 'authorization: Bearer ann-1' -H 'content-type: application/json' \
//!     http://127.0.0.1:8080/derms/dispatch \
//!     -d '{"asset_id": "7ba7b810-9dad-11d1-80b4-00c04fd430c8", "mw": 5, "duration_s": 60}'
//! ```
//! The order says `"principal":"ann"` and is found where `location` says. Agents dial
//! `http://127.0.0.1:50051`; the page to try the API on is at `/derms/docs`, for those with a token.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use derms_headend_sdk::proto::Fleet;
use derms_headend_sdk::{Headend, PeerAddr, Principal};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let headend = Headend::builder(Fleet::load("assets.yaml")?)
        .build()
        .await?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    // Agents get a port of their own, with the keep-alive and the end that their streams need.
    let agents = Headend::bind("127.0.0.1:50051".parse()?)?;
    println!("REST http://127.0.0.1:8080/derms, agents http://127.0.0.1:50051; Ctrl-C ends both");
    let serve_agents = headend.serve(vec![(agents, headend.grpc_service())], interrupted());
    let app = app(&headend).into_make_service_with_connect_info::<SocketAddr>();
    let serve_app = axum::serve(listener, app).with_graceful_shutdown(interrupted());
    let (served, ()) = tokio::join!(serve_app, serve_agents);
    Ok(served?)
}

/// A function of its own, so that a test can call it without a socket.
pub(crate) fn app(headend: &Headend) -> Router {
    Router::new()
        .nest_service("/derms", headend.rest_service())
        .layer(from_fn(authenticate))
        .route(
            "/",
            get(|| async { "the application that was there before\n" }),
        )
}

/// The application's own rule. Here: a token of two people; there: OAuth, mTLS, a session.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION);
    let name = match token.and_then(|value| value.to_str().ok()) {
        Some("Bearer ann-1") => "ann",
        Some("Bearer bob-2") => "bob",
        _ => return StatusCode::UNAUTHORIZED.into_response(),
    };
    // What the headend goes by: who it is, as proved; and for the audit trail, from where.
    request.extensions_mut().insert(Principal::new(name));
    let peer: Option<&ConnectInfo<SocketAddr>> = request.extensions().get();
    if let Some(peer) = peer.map(|ConnectInfo(peer)| PeerAddr(*peer)) {
        request.extensions_mut().insert(peer);
    }
    next.run(request).await
}

async fn interrupted() {
    // Without a way to be told, the program ends when it is killed.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
