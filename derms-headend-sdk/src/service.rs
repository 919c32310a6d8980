//! REST and gRPC as one `tower::Service`.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use derms_proto::pb::agent_link_server::AgentLinkServer;
use http::{HeaderMap, Method, Request, Response, header};
use tonic::Status;
use tonic_health::pb::health_server::{self, HealthServer};
use tower_service::Service;

use crate::api;
use crate::body::Body;
use crate::core::Core;
use crate::gateway::{Gateway, Probe};

/// The whole headend as a service: mount it in any hyper or tower application.
///
/// gRPC calls (by content type, and a path of a service and a method) go to the agent link, those of
/// `grpc.health.v1.Health` to the health service (which says what `GET /readyz` does), all other requests to REST; either can be left out
/// ([`Headend::rest_service`](crate::Headend::rest_service),
/// [`Headend::grpc_service`](crate::Headend::grpc_service)). Never fails: every failure is a
/// response, a panic in a handler too. Cheap to clone.
///
/// A host gives the caller's address as [`PeerAddr`](crate::PeerAddr) and its identity as
/// [`Principal`](crate::Principal) in the request extensions, if it knows them.
#[derive(Clone)]
pub struct HeadendService {
    rest: Option<axum::Router>,
    grpc: Option<Grpc>,
}

#[derive(Clone)]
struct Grpc {
    link: AgentLinkServer<Gateway>,
    health: HealthServer<Probe>,
}

impl HeadendService {
    pub(crate) fn new(core: &Arc<Core>, rest: bool, grpc: bool) -> Self {
        Self {
            rest: rest.then(|| api::router(Arc::clone(core))),
            grpc: grpc.then(|| Grpc {
                link: Gateway::server(Arc::clone(core)),
                health: Probe::server(Arc::clone(core)),
            }),
        }
    }
}

impl fmt::Debug for HeadendService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadendService")
            .field("rest", &self.rest.is_some())
            .field("grpc", &self.grpc.is_some())
            .finish()
    }
}

impl<B> Service<Request<B>> for HeadendService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both services inside are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let grpc = is_grpc(&request);
        ResponseFuture(match (&mut self.grpc, &mut self.rest) {
            (Some(service), _) if grpc => {
                let answer = if is_health(request.uri().path()) {
                    service.health.call(request)
                } else {
                    service.link.call(request)
                };
                Box::pin(async move {
                    let Ok(response) = answer.await;
                    Ok(response.map(Body::grpc))
                })
            }
            (None, _) if grpc => Box::pin(async {
                let status = Status::unimplemented(
                    "the agent link is not served here; use the address of the headend's gRPC side",
                );
                Ok(status.into_http().map(Body::grpc))
            }),
            (_, Some(rest)) => {
                let answer = Service::call(rest, request.map(axum::body::Body::new));
                Box::pin(async move {
                    let Ok(response) = answer.await;
                    Ok(response.map(Body::rest))
                })
            }
            (_, None) => Box::pin(async { Ok(api::only_grpc().map(Body::rest)) }),
        })
    }
}

type Answer = dyn Future<Output = Result<Response<Body>, Infallible>> + Send;

/// The answer of a [`HeadendService`] on its way.
pub struct ResponseFuture(Pin<Box<Answer>>);

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A fault of one handler must not take down the connection and the other streams on it.
        let poll = catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx)));
        poll.unwrap_or_else(|_| {
            tracing::error!("a handler panicked; its caller was answered with a failure");
            Poll::Ready(Ok(api::panicked().map(Body::rest)))
        })
    }
}

fn is_health(path: &str) -> bool {
    let service = path.split('/').nth(1);
    service == Some(health_server::SERVICE_NAME)
}

/// Whether this is a gRPC call: an unknown one is answered in the words of gRPC, everything else
/// in those of REST, whatever it says it carries.
fn is_grpc<B>(request: &Request<B>) -> bool {
    // `/package.Service/Method`: no path of REST has a dot before its second slash.
    let mut path = request.uri().path().split('/').skip(1);
    let service = path.next().is_some_and(|service| service.contains('.'));
    let called = service && path.next().is_some() && path.next().is_none();
    called && request.method() == Method::POST && has_grpc_content(request.headers())
}

/// `application/grpc`, alone or followed by `+` or `;`: `application/grpc-web` is another protocol.
fn has_grpc_content(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let rest = value.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grpc(method: &str, path: &str, content_type: &str) -> bool {
        let request = Request::builder().method(method).uri(path);
        is_grpc(
            &request
                .header(header::CONTENT_TYPE, content_type)
                .body(())
                .unwrap(),
        )
    }

    #[test]
    fn only_the_grpc_content_type_is_a_grpc_call() {
        let call = |content_type| grpc("POST", "/derms.v1.AgentLink/Stream", content_type);
        assert!(call("application/grpc"));
        assert!(call("application/grpc+proto"));
        assert!(call("application/grpc;charset=utf-8"));
        assert!(!call("application/grpc-web"));
        assert!(!call("application/json"));
    }

    #[test]
    fn a_rest_path_is_no_grpc_call_whatever_it_says_it_carries() {
        assert!(grpc(
            "POST",
            "/grpc.health.v1.Health/Check",
            "application/grpc"
        ));
        assert!(!grpc(
            "GET",
            "/derms.v1.AgentLink/Stream",
            "application/grpc"
        ));
        for path in [
            "/",
            "/dispatch",
            "/dispatch/history",
            "/openapi.json",
            "/docs/swagger-ui.css",
        ] {
            assert!(!grpc("POST", path, "application/grpc"), "{path}");
        }
    }
}
