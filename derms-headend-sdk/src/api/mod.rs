//! REST: one resource a file, handlers only.

mod agents;
mod assets;
mod cancel;
mod change;
mod dispatch;
mod docs;
mod document;
mod extract;
mod health;
mod heartbeat;
mod limits;
mod listing;
mod preview;
mod problem;
mod stop;
mod telemetry;

use std::sync::Arc;

use axum::Router;
use axum::extract::OriginalUri;
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use derms_proto::{Problem, ProblemCode};
use http::{HeaderValue, Method, Uri, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::core::Core;
use problem::Failure;

/// Most items of a page.
const MAX_LIMIT: usize = 1_000;
/// Largest request body, bytes.
const MAX_BODY: usize = 64 << 10;

fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::with_openapi(document::start())
        .routes(routes!(assets::list))
        .routes(routes!(assets::get))
        .routes(routes!(assets::sites))
        .routes(routes!(agents::list))
        .routes(routes!(agents::history))
        .routes(routes!(telemetry::list))
        .routes(routes!(telemetry::get))
        .routes(routes!(telemetry::history))
        .routes(routes!(dispatch::submit))
        .routes(routes!(preview::preview))
        .routes(routes!(dispatch::history))
        .routes(routes!(dispatch::get, cancel::cancel))
        .routes(routes!(limits::set, limits::list))
        .routes(routes!(limits::get, limits::remove))
        .routes(routes!(limits::history))
        .routes(routes!(stop::submit, stop::list))
        .routes(routes!(stop::get, stop::resume))
        .routes(routes!(stop::history))
        .routes(routes!(heartbeat::get))
        .routes(routes!(heartbeat::history))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(docs::openapi))
        .routes(routes!(docs::redirect))
}

/// The REST service.
pub(crate) fn router(core: Arc<Core>) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .merge(docs::pages())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response(not_stored))
        .with_state(core)
}

/// The OpenAPI 3.1 document of the REST interface, as JSON with a final line break.
///
/// The same text is served at `/openapi.json`.
#[must_use]
pub fn openapi_json() -> String {
    let (_, mut document) = routes().split_for_parts();
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

/// What is true now may not be in a second: caches on the way must not keep it.
async fn not_stored(mut response: Response) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(no_store);
    response
}
