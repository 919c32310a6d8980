//! `/openapi.json` and `/docs`: the API explains itself, without any other server.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{OriginalUri, Path};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use derms_proto::{Problem, ProblemCode};
use http::{HeaderValue, header};
use utoipa_swagger_ui::Config;

use super::problem::Failure;
use crate::core::Core;

/// The OpenAPI 3.1 document
#[utoipa::path(get, path = "/openapi.json", tag = "service", responses(
    (status = 200, description = "The document", content_type = "application/json", body = Object),
))]
pub(super) async fn openapi() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| super::openapi_json().into());
    let mut response = DOCUMENT.clone().into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The page to try the API on.
pub(super) fn pages() -> Router<Arc<Core>> {
    Router::new()
        // The page names its parts relative to itself, so it must end in a slash; relative, for
        // the service may be mounted under a prefix.
        .route("/docs", get(|OriginalUri(uri): OriginalUri| async move {
            Redirect::permanent(&format!("{}/", uri.path()))
        }))
        .route("/docs/", get(|| page("index.html".to_owned())))
        .route("/docs/{file}", get(|Path(file): Path<String>| page(file)))
}

async fn page(file: String) -> Result<Response, Failure> {
    let config = Arc::new(Config::from("../openapi.json"));
    match utoipa_swagger_ui::serve(&file, config) {
        Ok(Some(found)) => {
            let mut response = found.bytes.into_owned().into_response();
            if let Ok(kind) = HeaderValue::try_from(found.content_type) {
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            Ok(response)
        }
        Ok(None) => Err(Problem::new(ProblemCode::NotFound, "no such page; see /docs/").into()),
        Err(error) => {
            tracing::error!(%error, "can't serve the API page");
            Err(Problem::new(ProblemCode::Internal, "the log of the headend tells more").into())
        }
    }
}
