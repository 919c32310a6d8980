//! How requests leave: over TCP, or into any tower service.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::ServiceExt;
use tower::util::{BoxCloneSyncService, Oneshot};
use tower_service::Service;

use crate::{BoxError, Error, tls};

/// How long one address may take to accept a connection; below the default time limit of a call,
/// so that a call to nowhere fails as `Connect` and not as `Timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a request: bytes in memory.
#[derive(Debug, Clone, Default)]
pub struct Body(Full<Bytes>);

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Full::new(bytes))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

type Inner = BoxCloneSyncService<Request<Body>, Response<AnswerBody>, BoxError>;

#[derive(Clone)]
pub(crate) struct Transport(Inner);

impl Transport {
    /// Over TCP, and TLS if the base says so.
    pub(crate) fn to(base: &Base, ca: Option<&Path>) -> Result<Self, Error> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        match (base.is_https(), ca) {
            (true, ca) => tls::transport(connector, ca),
            (false, None) => Ok(pooled(connector)),
            (false, Some(_)) => Err(Error::invalid_request(format!(
                "`{}` is not for TLS, and a CA was given; write https://",
                base.as_str()
            ))),
        }
    }

    pub(crate) fn service<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let boxed = |body: B| {
            body.map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
                .map_err(Into::into)
                .boxed_unsync()
        };
        Self(BoxCloneSyncService::new(
            service
                .map_response(move |response: Response<B>| response.map(boxed))
                .map_err(Into::into),
        ))
    }

    pub(crate) fn send(&self, request: Request<Body>) -> Oneshot<Inner, Request<Body>> {
        self.0.clone().oneshot(request)
    }
}

/// A client that keeps connections.
pub(crate) fn pooled<C>(connector: C) -> Transport
where
    C: legacy::connect::Connect + Clone + Send + Sync + 'static,
{
    let client = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector);
    Transport::service(client)
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

/// Whether the request never left, somewhere in the chain of causes.
pub(crate) fn is_connect(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<legacy::Error>() {
            return error.is_connect();
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        next = error.source();
    }
    false
}

/// Where a headend is: scheme and authority (or neither, for a service of the caller) and the
/// path that all calls are under, with no slash at its end.
#[derive(Debug, Clone)]
pub(crate) struct Base(String);

impl Base {
    /// Checks a base for the client's own connector.
    pub(crate) fn of_tcp(uri: &Uri) -> Result<Self, Error> {
        match uri.scheme_str() {
            Some("http" | "https") => Self::of_service(uri),
            _ => Err(Error::invalid_request(format!(
                "`{uri}` is no base address of a headend; write it like http://127.0.0.1:3001",
            ))),
        }
    }

    /// Checks a base for a service of the caller.
    pub(crate) fn of_service(uri: &Uri) -> Result<Self, Error> {
        let fault = if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            // Not quoted: it holds a password.
            return Err(Error::invalid_request(
                "the base address holds a user name; use `ClientBuilder::header` for credentials",
            ));
        } else if uri.query().is_some() {
            "has a query; leave it out"
        } else if !uri.path().starts_with('/') {
            "is no base address of a headend; write it like http://127.0.0.1:3001/derms or /derms"
        } else {
            let origin = match (uri.scheme_str(), uri.authority()) {
                (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
                _ => String::new(),
            };
            return Ok(Self(origin + uri.path().trim_end_matches('/')));
        };
        Err(Error::invalid_request(format!("`{uri}` {fault}")))
    }

    fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of a path (with its query) under this base.
    pub(crate) fn join(&self, target: &str) -> Result<Uri, Error> {
        let Self(base) = self;
        format!("{base}{target}")
            .parse()
            .map_err(|error| Error::invalid_request(format!("`{base}{target}`: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(uri: &str) -> Result<Base, String> {
        Base::of_tcp(&uri.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_are_appended_to_the_path_of_the_base() {
        for base in ["http://h:3001/derms", "http://h:3001/derms/"] {
            let uri = tcp(base).unwrap().join("/assets?a=b").unwrap();
            assert_eq!(uri, "http://h:3001/derms/assets?a=b");
        }
        assert_eq!(
            tcp("http://h").unwrap().join("/assets").unwrap(),
            "http://h/assets"
        );
    }

    #[test]
    fn a_base_for_a_service_may_be_a_path_alone() {
        let join = |base: &'static str| {
            let base = Base::of_service(&Uri::from_static(base)).unwrap();
            base.join("/assets").unwrap()
        };
        assert_eq!(join("/"), "/assets");
        assert_eq!(join("/derms"), "/derms/assets");
        assert_eq!(join("https://h/derms"), "https://h/derms/assets");
    }

    #[test]
    fn a_ca_without_tls_is_refused() {
        let base = Base::of_tcp(&Uri::from_static("http://h:3001")).unwrap();
        let error = Transport::to(&base, Some(Path::new("ca.pem"))).unwrap_err();
        assert!(error.to_string().contains("write https://"), "{error}");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn https_without_the_feature_is_refused_and_told_where_tls_comes_from() {
        let base = Base::of_tcp(&Uri::from_static("https://h:3001")).unwrap();
        let error = Transport::to(&base, None).unwrap_err().to_string();
        assert!(
            error.contains("feature `tls`") && error.contains("Client::with_service"),
            "{error}"
        );
    }

    #[test]
    fn a_base_that_is_no_address_of_a_headend_is_refused_with_an_example() {
        for base in ["/derms", "127.0.0.1:3001", "ftp://h/", "*"] {
            let error = tcp(base).unwrap_err();
            assert!(error.contains("http://127.0.0.1:3001"), "{error}");
        }
        assert!(tcp("http://h/?a=b").unwrap_err().contains("query"));
    }

    #[test]
    fn a_password_in_the_base_is_refused_and_not_repeated() {
        let error = tcp("http://ann:secret@h/").unwrap_err();
        assert!(
            error.contains("header") && !error.contains("secret"),
            "{error}"
        );
    }
}
