//! The client and the one request path of all its calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use derms_proto::Problem;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK, RETRY_AFTER,
};
use http::response::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tower_service::Service;

use crate::query::Query;
use crate::token::TokenFile;
use crate::transport::{AnswerBody, Base, Transport, is_connect};
use crate::{Body, BoxError, ClientBuilder, Error, retry};

const EVENT_STREAM: &str = "text/event-stream";
const CSV: &str = "text/csv";

/// A client of one headend. Cheap to clone; clones share connections.
///
/// Every method is one REST call and needs a tokio runtime with its timer enabled. A call that is
/// dropped before it is done may or may not have reached the headend.
#[derive(Clone)]
pub struct Client {
    settings: Arc<Settings>,
}

pub(crate) struct Settings {
    pub(crate) base: Base,
    pub(crate) transport: Transport,
    pub(crate) headers: HeaderMap,
    pub(crate) token: Option<TokenFile>,
    pub(crate) timeout: Duration,
    pub(crate) max_response_bytes: usize,
    pub(crate) retries: u32,
}

/// One call, as often as it is sent.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    /// JSON.
    pub(crate) body: Option<Bytes>,
    pub(crate) idempotency_key: Option<HeaderValue>,
    pub(crate) wanted: Wanted,
    /// Of server-sent events those after this one.
    pub(crate) last_event_id: Option<HeaderValue>,
    /// On top of the client's time limit.
    pub(crate) extra_time: Duration,
    /// Whether the client may send it again by itself.
    pub(crate) retry: bool,
    /// Whether the caller may make the same call again without a second effect.
    pub(crate) repeatable: bool,
}

/// The form of a good answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    #[default]
    Json,
    Csv,
    /// Server-sent events.
    Events,
}

impl Wanted {
    const fn accept(self) -> &'static str {
        match self {
            Self::Json => "application/json, application/problem+json",
            Self::Csv => "text/csv, application/problem+json",
            Self::Events => "text/event-stream, application/problem+json",
        }
    }
}

impl Call {
    pub(crate) fn get(path: &str, query: &Query) -> Self {
        Self {
            target: query.after(path),
            retry: true,
            repeatable: true,
            ..Self::default()
        }
    }
}

/// A whole answer that is no error.
#[derive(Debug)]
struct Answer {
    head: Parts,
    body: Bytes,
}

impl Client {
    /// A client of the headend at `base` (`http://host:port`, with the path that it is nested
    /// under, if any), over TCP, with all defaults of [`ClientBuilder`]. Connects on first use.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`]: `base` is no such address, or is `https` without the feature
    /// `tls`; TLS may also come with a service of your own, see [`with_service`](Self::with_service).
    pub fn new(base: Uri) -> Result<Self, Error> {
        Self::builder(base).build()
    }

    /// A client that sends its requests into `service`: one that speaks TLS, a stack of
    /// middleware, or a headend in the same process (then `base` may be a path alone, like `/`).
    /// See [`ClientBuilder::service`].
    ///
    /// # Errors
    /// [`Error::InvalidRequest`]: `base` has a query or a user name, or lacks a path or a scheme.
    pub fn with_service<S, B>(base: Uri, service: S) -> Result<Self, Error>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        Self::builder(base).service(service).build()
    }

    /// A client with other settings than the defaults.
    pub fn builder(base: Uri) -> ClientBuilder {
        ClientBuilder::new(base)
    }

    pub(crate) fn from_settings(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(&Call::get(path, &Query::default())).await
    }

    /// Sends a call, again where that is safe, and reads the answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        let Answer { head, body } = self.send(call).await?;
        serde_json::from_slice(&body).map_err(|source| {
            let reason = "a body that is not the expected JSON".to_owned();
            invalid(call, &head, reason, Some(source.into()))
        })
    }

    /// Sends a call for CSV, again where that is safe; the text, and what the header `Link` says.
    pub(crate) async fn csv(&self, call: &Call) -> Result<(String, Option<String>), Error> {
        let Answer { head, body } = self.send(call).await?;
        of_kind(call, &head, CSV)?;
        let text = String::from_utf8(body.into()).map_err(|source| {
            let reason = "CSV that is no UTF-8".to_owned();
            invalid(call, &head, reason, Some(source.into()))
        })?;
        let link = head.headers.get(LINK).and_then(|link| link.to_str().ok());
        Ok((text, link.map(str::to_owned)))
    }

    /// Sends a call once or more and ignores the body of a good answer.
    pub(crate) async fn probe(&self, call: &Call) -> Result<(), Error> {
        self.send(call).await.map(|_| ())
    }

    async fn send(&self, call: &Call) -> Result<Answer, Error> {
        let mut repeat = 0;
        loop {
            let error = match self.attempt(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !call.retry || repeat == self.settings.retries || !error.is_transient() {
                return Err(error);
            }
            let Some(delay) = retry::delay(repeat, error.retry_after()) else {
                return Err(error);
            };
            tokio::time::sleep(delay).await;
            repeat += 1;
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, Error> {
        let whole = async {
            let (head, body) = self.respond(call).await?;
            let body = self.collect(call, &head, body).await?;
            Ok(Answer { head, body })
        };
        self.in_time(call, whole).await
    }

    /// Sends a call once and gives the body of a good answer as it comes; only its head has a time
    /// limit.
    pub(crate) async fn open(&self, call: &Call) -> Result<AnswerBody, Error> {
        let (head, body) = self.in_time(call, self.respond(call)).await?;
        of_kind(call, &head, EVENT_STREAM)?;
        Ok(body)
    }

    async fn in_time<T>(
        &self,
        call: &Call,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = self.settings.timeout.saturating_add(call.extra_time);
        match tokio::time::timeout(limit, answer).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout {
                limit,
                repeatable: call.repeatable,
            }),
        }
    }

    /// The head of a good answer, and its body.
    async fn respond(&self, call: &Call) -> Result<(Parts, AnswerBody), Error> {
        let token = self.settings.token.as_ref();
        let sent = token.map(TokenFile::header);
        let result = self.exchange(call, sent.clone()).await;
        // What was refused so was not done.
        let refused = matches!(&result, Err(Error::Api { status, .. }) if *status == StatusCode::UNAUTHORIZED);
        match (token, sent) {
            (Some(token), Some(sent)) if refused && token.renew(&sent) => {
                self.exchange(call, Some(token.header())).await
            }
            _ => result,
        }
    }

    async fn exchange(
        &self,
        call: &Call,
        token: Option<HeaderValue>,
    ) -> Result<(Parts, AnswerBody), Error> {
        let request = self.request(call, token)?;
        let response = match self.settings.transport.send(request).await {
            Ok(response) => response,
            Err(source) if is_connect(source.as_ref()) => {
                return Err(Error::Connect {
                    base: self.settings.base.as_str().to_owned(),
                    source,
                });
            }
            Err(source) => return Err(self.broke_off(call, source)),
        };
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok((head, body));
        }
        let body = self.collect(call, &head, body).await?;
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Error::Api {
                status: head.status,
                problem: Box::new(problem),
                retry_after: retry_after(&head.headers),
                repeatable: call.repeatable,
            },
            Err(error) => {
                let reason = "a body that is no problem".to_owned();
                invalid(call, &head, reason, Some(error.into()))
            }
        })
    }

    async fn collect(&self, call: &Call, head: &Parts, body: AnswerBody) -> Result<Bytes, Error> {
        let limit = self.settings.max_response_bytes;
        match collect(body, limit).await {
            Ok(Some(body)) => Ok(body),
            Ok(None) => {
                let reason = format!("a body of more than {limit} bytes");
                Err(invalid(call, head, reason, None))
            }
            Err(source) => Err(self.broke_off(call, source)),
        }
    }

    pub(crate) fn broke_off(&self, call: &Call, source: BoxError) -> Error {
        Error::Transport {
            base: self.settings.base.as_str().to_owned(),
            repeatable: call.repeatable,
            source,
        }
    }

    pub(crate) fn max_response_bytes(&self) -> usize {
        self.settings.max_response_bytes
    }

    fn request(&self, call: &Call, token: Option<HeaderValue>) -> Result<Request<Body>, Error> {
        let mut request = Request::new(call.body.clone().map(Body::from).unwrap_or_default());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = self.settings.base.join(&call.target)?;
        let headers = request.headers_mut();
        headers.clone_from(&self.settings.headers);
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token);
        }
        headers.insert(ACCEPT, HeaderValue::from_static(call.wanted.accept()));
        if let Some(id) = &call.last_event_id {
            headers.insert(HeaderName::from_static("last-event-id"), id.clone());
        }
        if call.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(key) = &call.idempotency_key {
            headers.insert(HeaderName::from_static("idempotency-key"), key.clone());
        }
        Ok(request)
    }
}

/// The whole body, or `None` if it is longer than `limit` bytes.
async fn collect(mut body: AnswerBody, limit: usize) -> Result<Option<Bytes>, BoxError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if data.len() > limit - whole.len() {
                return Ok(None);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(Some(whole.freeze()))
}

/// Whether the body is what was asked for.
fn of_kind(call: &Call, head: &Parts, kind: &str) -> Result<(), Error> {
    let content = head.headers.get(CONTENT_TYPE);
    let content = content.and_then(|value| value.to_str().ok());
    if content.is_some_and(|content| content.starts_with(kind)) {
        return Ok(());
    }
    Err(invalid(call, head, format!("no {kind}"), None))
}

fn invalid(call: &Call, head: &Parts, reason: String, source: Option<BoxError>) -> Error {
    Error::InvalidResponse {
        status: head.status,
        reason,
        retry_after: retry_after(&head.headers),
        repeatable: call.repeatable,
        source,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse();
    Some(Duration::from_secs(seconds.ok()?))
}

// By hand: the values of headers are often secrets, and `keys()` itself would print them.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.settings.base.as_str())
            .field("headers", &self.settings.headers.keys().collect::<Vec<_>>())
            .field("timeout", &self.settings.timeout)
            .field("max_response_bytes", &self.settings.max_response_bytes)
            .field("retries", &self.settings.retries)
            .finish_non_exhaustive()
    }
}
