//! REST: one resource a file, handlers only.

mod agents;
mod assets;
mod dispatch;
mod docs;
mod extract;
mod health;
mod heartbeat;
mod problem;
mod telemetry;

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use derms_proto::{Problem, ProblemCode};
use http::{Method, Uri};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::core::Core;
use problem::Failure;

/// Most items of a page.
const MAX_LIMIT: usize = 1_000;
/// Largest request body, bytes.
const MAX_BODY: usize = 64 << 10;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "DERMS headend",
        description = "See and steer distributed energy resources.\n\n\
            Power is in MW: positive = discharge, generation, export; negative = charge, \
            consumption, import. Energy is in MWh, reactive power in MVAr, times are RFC 3339 UTC. \
            A value that was not measured is null, never 0. Every error is \
            application/problem+json with a stable `code`.",
    ),
    tags(
        (name = "fleet", description = "What is configured, and what of it is connected"),
        (name = "telemetry", description = "What is happening now, and what happened"),
        (name = "dispatch", description = "Orders, and what became of them"),
        (name = "service", description = "About the headend itself"),
    )
)]
struct Document;

fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(assets::list))
        .routes(routes!(assets::get))
        .routes(routes!(assets::sites))
        .routes(routes!(agents::list))
        .routes(routes!(agents::history))
        .routes(routes!(telemetry::list))
        .routes(routes!(telemetry::get))
        .routes(routes!(telemetry::history))
        .routes(routes!(dispatch::submit))
        .routes(routes!(dispatch::history))
        .routes(routes!(dispatch::get))
        .routes(routes!(heartbeat::get))
        .routes(routes!(heartbeat::history))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(docs::openapi))
}

/// The REST service.
pub(crate) fn router(core: Arc<Core>) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .merge(docs::pages())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(core)
}

/// The OpenAPI 3.1 document of the REST interface, as JSON with a final line break.
///
/// The same text is served at `/openapi.json`.
#[must_use]
pub fn openapi_json() -> String {
    let (_, document) = routes().split_for_parts();
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

async fn not_found(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(ProblemCode::NotFound, format!("no path {path}; see GET /docs")).into()
}

async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(200).collect();
    let text = format!("{path} does not know {method}; see GET /docs");
    Problem::new(ProblemCode::MethodNotAllowed, text).into()
}
