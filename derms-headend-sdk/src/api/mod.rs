//! REST: one resource a file, handlers only.

mod access;
mod agents;
mod assets;
mod audit;
mod caller;
mod cancel;
mod change;
mod dispatch;
mod docs;
mod document;
mod events;
mod extract;
mod health;
mod heartbeat;
mod limits;
mod listing;
mod metrics;
mod preview;
mod problem;
pub(crate) mod rates;
mod reader;
mod record;
mod secure;
mod stop;
mod stream;
mod telemetry;
mod trace;

use std::sync::Arc;

use axum::extract::OriginalUri;
use axum::handler::Handler as _;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::{Extension, Router};
use derms_proto::{Problem, ProblemCode};
use http::{Method, Uri};
use utoipa_axum::routes;

use crate::core::Core;
pub(crate) use health::{NotReady, Readiness};
pub(crate) use rates::Rates;

use access::{Access, Routes, known_caller};
use problem::Failure;

/// Most items of a page.
const MAX_LIMIT: usize = 1_000;
/// Largest request body, bytes.
const MAX_BODY: usize = 64 << 10;

fn routes() -> Routes {
    use Access::{Administer, Change, Docs, Halt, Oversee, Public, Read};
    docs::pages(Routes::new(document::start()))
        .to(Read, routes!(assets::list))
        .to(Read, routes!(assets::get))
        .to(Read, routes!(assets::sites))
        .to(Read, routes!(agents::list))
        .to(Read, routes!(agents::history))
        .to(Read, routes!(telemetry::list))
        .to(Read, routes!(telemetry::get))
        .to(Read, routes!(telemetry::history))
        .to(Change, routes!(dispatch::submit))
        .to(Read, routes!(preview::preview))
        .to(Read, routes!(dispatch::history))
        .to(Read, routes!(dispatch::get))
        .to(Halt, routes!(cancel::cancel))
        .to(Change, routes!(limits::set))
        .to(Read, routes!(limits::list))
        .to(Read, routes!(limits::get))
        .to(Change, routes!(limits::remove))
        .to(Read, routes!(limits::history))
        .to(Halt, routes!(stop::submit))
        .to(Read, routes!(stop::list))
        .to(Read, routes!(stop::get))
        .to(Change, routes!(stop::resume))
        .to(Read, routes!(stop::history))
        .to(Read, routes!(heartbeat::get))
        .to(Read, routes!(heartbeat::history))
        .to(Read, routes!(stream::stream))
        .to(Read, routes!(events::list))
        .to(Read, routes!(events::get))
        .to(Change, routes!(events::acknowledge))
        .to(Administer, routes!(audit::list))
        .to(Oversee, routes!(metrics::metrics))
        .to(Public, routes!(health::healthz))
        .to(Public, routes!(health::readyz))
        .to(Docs, routes!(docs::openapi))
        .to(Docs, routes!(docs::redirect))
}

/// The REST service.
pub(crate) fn router(core: Arc<Core>) -> Router {
    let (router, _) = routes().split();
    let cors = secure::cors(&core.config.cors_origins);
    let router = router
        .fallback(not_found.layer(from_fn(known_caller)))
        .method_not_allowed_fallback(method_not_allowed.layer(from_fn(known_caller)))
        .layer(from_fn(secure::headers))
        .layer(Extension(Arc::clone(&core)));
    // Outermost: a browser asks without a token whether it may ask.
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
    .with_state(core)
}

/// The OpenAPI 3.1 document of the REST interface, as JSON with a final line break.
///
/// The same text is served at `/openapi.json`.
#[must_use]
pub fn openapi_json() -> String {
    let (_, mut document) = routes().split();
    document::finish(&mut document);
    // Serialising a document that the macros built can't fail; an empty one would show in CI.
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// The answer of a service without REST.
pub(crate) fn only_grpc() -> http::Response<axum::body::Body> {
    let problem = Problem::new(
        ProblemCode::NotFound,
        "only the agent link is served here, over gRPC (content-type application/grpc)",
    );
    Failure::from(problem).into_response()
}

/// The answer of a handler that panicked.
pub(crate) fn panicked() -> http::Response<axum::body::Body> {
    Failure::from(Problem::new(
        ProblemCode::Internal,
        "the log of the headend tells more",
    ))
    .into_response()
}

async fn not_found(OriginalUri(uri): OriginalUri) -> Failure {
    let text = format!("no path {}; see GET /docs", shown(&uri));
    Problem::new(ProblemCode::NotFound, text).into()
}

async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> Failure {
    // A method may be as long as a head.
    let method: String = method.as_str().chars().take(20).collect();
    let text = format!("{} does not know {method}; see GET /docs", shown(&uri));
    Problem::new(ProblemCode::MethodNotAllowed, text).into()
}

fn shown(uri: &Uri) -> String {
    uri.path().chars().take(200).collect()
}
