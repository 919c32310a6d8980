//! REST and gRPC as one `tower::Service`.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use derms_proto::pb::agent_link_server::AgentLinkServer;
use http::{HeaderMap, Request, Response, header};
use tower_service::Service;

use crate::api;
use crate::body::Body;
use crate::core::Core;
use crate::gateway::Gateway;

/// The whole headend as a service: mount it in any hyper or tower application.
///
/// Requests with a gRPC content type go to the agent link, all others to REST; either can be left
/// out ([`Headend::rest_service`](crate::Headend::rest_service),
/// [`Headend::grpc_service`](crate::Headend::grpc_service)). Never fails: every failure is a
/// response. Cheap to clone.
///
/// A host gives the caller's address as [`PeerAddr`](crate::PeerAddr) and its identity as
/// [`Principal`](crate::Principal) in the request extensions, if it knows them.
#[derive(Clone)]
pub struct HeadendService {
    rest: Option<axum::Router>,
    grpc: Option<AgentLinkServer<Gateway>>,
}

impl HeadendService {
    pub(crate) fn new(core: &Arc<Core>, rest: bool, grpc: bool) -> Self {
        Self {
            rest: rest.then(|| api::router(Arc::clone(core))),
            grpc: grpc.then(|| Gateway::server(Arc::clone(core))),
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
        let grpc = is_grpc(request.headers());
        ResponseFuture(match (&mut self.grpc, &mut self.rest) {
            (Some(grpc_service), _) if grpc => {
                let answer = grpc_service.call(request);
                Box::pin(async move {
                    let Ok(response) = answer.await;
                    Ok(response.map(Body::grpc))
                })
            }
            (_, Some(rest)) => {
                let answer = Service::call(rest, request.map(axum::body::Body::new));
                Box::pin(async move {
                    let Ok(response) = answer.await;
                    Ok(response.map(Body::rest))
                })
            }
            _ => Box::pin(async move {
                let response = api::only_grpc();
                Ok(response.map(Body::rest))
            }),
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
        self.0.as_mut().poll(cx)
    }
}

/// `application/grpc`, alone or followed by `+` or `;`: `application/grpc-web` is another protocol.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let rest = value.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_grpc_content_type_goes_to_the_agent_link() {
        let grpc = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            is_grpc(&headers)
        };
        assert!(grpc("application/grpc"));
        assert!(grpc("application/grpc+proto"));
        assert!(grpc("application/grpc;charset=utf-8"));
        assert!(!grpc("application/grpc-web"));
        assert!(!grpc("application/json"));
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
