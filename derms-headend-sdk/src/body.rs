//! The response body of the service.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// The response body of [`HeadendService`](crate::HeadendService).
#[derive(Debug)]
pub struct Body(Inner);

#[derive(Debug)]
enum Inner {
    Rest(axum::body::Body),
    Grpc(tonic::body::Body),
}

/// Why a response body ended early.
#[derive(Debug, thiserror::Error)]
#[error("the response body ended early")]
pub struct BodyError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Body {
    pub(crate) fn rest(body: axum::body::Body) -> Self {
        Self(Inner::Rest(body))
    }

    pub(crate) fn grpc(body: tonic::body::Body) -> Self {
        Self(Inner::Grpc(body))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::rest(bytes.into())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Rest(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|error| BodyError(error.into())),
            Inner::Grpc(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|error| BodyError(error.into())),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Rest(body) => body.is_end_stream(),
            Inner::Grpc(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Rest(body) => body.size_hint(),
            Inner::Grpc(body) => body.size_hint(),
        }
    }
}
