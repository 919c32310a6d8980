//! `/openapi.json` and `/docs`: the API explains itself, without any other server.

use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use derms_proto::{Problem, ProblemCode};
use http::{HeaderValue, header};
use utoipa_swagger_ui::Config;

use super::access::{Access, Routes};
use super::problem::Failure;

/// The page loads nothing from elsewhere, and no other page can hold it in a frame: it can send
/// orders.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
                      frame-ancestors 'none'";

/// The OpenAPI 3.1 document
#[utoipa::path(get, path = "/openapi.json", operation_id = "get_openapi", tag = "service", responses(
    (status = 200, description = "The document", content_type = "application/json", body = Object),
))]
pub(super) async fn openapi() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| super::openapi_json().into());
    let mut response = DOCUMENT.clone().into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A page to read this document and to try the API on
#[utoipa::path(get, path = "/docs", operation_id = "get_docs", tag = "service", responses(
    (status = 308, description = "The page is at docs/",
        headers(("Location" = String, description = "Relative to this path"))),
))]
pub(super) async fn redirect() -> Redirect {
    // The page names its parts relative to itself, so it must end in a slash; relative as well,
    // for the service may be mounted under a prefix.
    Redirect::permanent("docs/")
}

/// The page and its parts.
pub(super) fn pages(routes: Routes) -> Routes {
    let start = get(|| page("index.html".to_owned()));
    let part = get(|Path(file): Path<String>| page(file));
    routes
        .undocumented(Access::Docs, "/docs/", start)
        .undocumented(Access::Docs, "/docs/{file}", part)
}

async fn page(file: String) -> Result<Response, Failure> {
    // Without a word about it, the page would show the document to a validator in the internet.
    let config = Config::from("../openapi.json").validator_url("none");
    match utoipa_swagger_ui::serve(&file, Arc::new(config)) {
        Ok(Some(found)) => {
            let mut response = found.bytes.into_owned().into_response();
            let headers = response.headers_mut();
            if let Ok(kind) = HeaderValue::try_from(found.content_type) {
                headers.insert(header::CONTENT_TYPE, kind);
            }
            headers.insert(
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static(POLICY),
            );
            headers.insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("max-age=3600"),
            );
            Ok(response)
        }
        Ok(None) => Err(Problem::new(ProblemCode::NotFound, "no such page; see /docs/").into()),
        Err(error) => {
            tracing::error!(%error, "can't serve the API page");
            Err(Problem::new(ProblemCode::Internal, "the log of the headend tells more").into())
        }
    }
}
