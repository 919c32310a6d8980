//! Authentication in front of any service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use derms_proto::{Problem, ProblemCode};
use http::{HeaderValue, Request, Response, StatusCode, header};
use tower::Layer;
use tower_service::Service;

use super::{Authenticate, Authentication, Principal, Unproved};

/// Lets through who shows a good bearer token, with its [`Principal`] as a request extension, and
/// answers the others 401.
///
/// For a gateway that has more than the headend behind one authentication: a headend behind this
/// layer takes the principal from it. It knows no path, so probes need a token here; the headend's
/// own [`authentication`](crate::HeadendBuilder::authentication) lets them pass.
///
/// ```
/// use derms_headend_sdk::auth::{AuthLayer, TokenFile};
/// use derms_headend_sdk::{Headend, proto::Fleet};
/// use tower::ServiceBuilder;
///
/// # async fn build() -> Result<(), Box<dyn std::error::Error>> {
/// let headend = Headend::builder(Fleet::load("assets.yaml")?).require_principal().build().await?;
/// let service = ServiceBuilder::new()
///     .layer(AuthLayer::new(TokenFile::open("tokens.yaml")?))
///     .service(headend.rest_service());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AuthLayer(Arc<Authentication>);

impl AuthLayer {
    /// Asks this authenticator.
    #[must_use]
    pub fn new(authenticator: impl Authenticate) -> Self {
        let mut authentication = Authentication::default();
        authentication.add(Arc::new(authenticator));
        Self(Arc::new(authentication))
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService {
            authentication: Arc::clone(&self.0),
            inner,
        }
    }
}

/// A service behind an [`AuthLayer`].
#[derive(Debug, Clone)]
pub struct AuthService<S> {
    authentication: Arc<Authentication>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: From<Bytes> + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = AuthFuture<R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let authentication = Arc::clone(&self.authentication);
        // The one that is ready goes with the request.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        AuthFuture(Box::pin(async move {
            let (head, body) = request.into_parts();
            let proved = head.extensions.get::<Principal>();
            let identified = authentication.identify(proved, &head.headers).await;
            request = Request::from_parts(head, body);
            match identified {
                Ok(principal) => {
                    if let Some(principal) = principal {
                        request.extensions_mut().insert(principal);
                    }
                    inner.call(request).await
                }
                Err(unproved) => Ok(refusal(unproved)),
            }
        }))
    }
}

fn refusal<R: From<Bytes>>(unproved: Unproved) -> Response<R> {
    let problem = Problem::new(ProblemCode::Unauthenticated, unproved.text());
    // A problem is text alone, which can always be written.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body).into());
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(unproved.challenge()),
    );
    response
}

/// The answer of an [`AuthService`] on its way.
pub struct AuthFuture<R, E>(Pin<Box<Answer<R, E>>>);

type Answer<R, E> = dyn Future<Output = Result<Response<R>, E>> + Send;

impl<R, E> fmt::Debug for AuthFuture<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthFuture")
    }
}

impl<R, E> Future for AuthFuture<R, E> {
    type Output = Result<Response<R>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}
