//! From an address to a stream of messages: one connection per attempt.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{HeadendMessage, Probe, ProbeAnswer, WireError};
use derms_proto::wire::TraceContext as _;
use derms_proto::{AgentId, Check, CloseReason, Timestamp, Traceparent, pb};
use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tower::Service;

use crate::async_trait;
use crate::session::End;
use crate::{tls, token};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Messages that may wait for the network. Full: the link is given up, logs are sent again.
pub(crate) const OUTBOUND: usize = 256;
const MAX_MESSAGE: usize = 1 << 20;
/// How long the headend may take to end its side after this side has ended.
const GOODBYE: Duration = Duration::from_secs(1);

/// How it begins when the headend does not take the agent's certificate.
pub(crate) const REFUSED: &str = "the headend refuses the agent's certificate";

/// Bytes both ways.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens connections.
#[async_trait]
pub(crate) trait Dial: Send + Sync + fmt::Debug + 'static {
    async fn dial(&self, uri: &Uri) -> io::Result<Box<dyn Io>>;
}

/// Dials over TCP.
#[derive(Debug)]
pub(crate) struct Tcp;

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, uri: &Uri) -> io::Result<Box<dyn Io>> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // TLS comes on top.
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // Else the kernel repeats unacknowledged bytes to a dead peer for a quarter of an hour.
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let stream = connector.call(uri.clone()).await;
        let stream = stream.map_err(|error| io::Error::other(chain(&error)))?;
        Ok(Box::new(stream.into_inner()))
    }
}

/// Makes a connection one that nobody else can read, and proves both ends of it.
#[async_trait]
pub(crate) trait Secure: Send + Sync + fmt::Debug + 'static {
    /// Whether what it needs is there and fits this address.
    fn check(&self, headend: &Uri) -> Result<(), Box<dyn Error + Send + Sync>>;

    async fn secure(&self, io: Box<dyn Io>, headend: &Uri) -> io::Result<Box<dyn Io>>;

    /// Looks at what the agent shows, under the name of that check.
    fn own_certificate(&self, name: &'static str, agent: AgentId, now: Timestamp) -> Check;

    /// As [`secure`](Self::secure), and tells what was found of the handshake and of the headend's
    /// certificate, under the names of these two checks.
    async fn handshake(
        &self,
        names: [&'static str; 2],
        io: Box<dyn Io>,
        headend: &Uri,
        now: Timestamp,
    ) -> (Option<Box<dyn Io>>, [Check; 2]);
}

/// What an agent shows and wants to see of an address.
#[derive(Debug, Default)]
pub(crate) struct Security {
    /// For `https`.
    pub(crate) tls: Option<Arc<dyn Secure>>,
    pub(crate) token: Option<PathBuf>,
}

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub(crate) struct Link {
    channel: Channel,
    authorization: Option<AsciiMetadataValue>,
}

/// Dials once and prepares HTTP/2 on it.
pub(crate) async fn open(dialer: &dyn Dial, security: &Security, uri: &Uri) -> Result<Link, End> {
    let unreachable = |text: String| End::Unreachable { text };
    let authorization = authorization(security).await.map_err(unreachable)?;
    let mut io = dial(dialer, uri).await.map_err(unreachable)?;
    if let (Some("https"), Some(tls)) = (uri.scheme_str(), &security.tls) {
        io = timeout(HANDSHAKE_TIMEOUT, tls.secure(io, uri))
            .await
            .map_err(|_| unreachable(format!("no TLS within {HANDSHAKE_TIMEOUT:?}")))?
            .map_err(|error| unreachable(chain(&error)))?;
    }
    Ok(Link {
        channel: http2(io, uri).await.map_err(unreachable)?,
        authorization,
    })
}

/// What proves the agent in each call, if it has a token.
pub(crate) async fn authorization(
    security: &Security,
) -> Result<Option<AsciiMetadataValue>, String> {
    let token = security.token.clone();
    let authorization = tokio::task::spawn_blocking(move || {
        token.map(|path| token::authorization(&path)).transpose()
    });
    let authorization = authorization.await.map_err(|error| chain(&error))?;
    authorization.map_err(|error| chain(&error))
}

pub(crate) async fn dial(dialer: &dyn Dial, uri: &Uri) -> Result<Box<dyn Io>, String> {
    timeout(CONNECT_TIMEOUT, dialer.dial(uri))
        .await
        .map_err(|_| format!("no connection within {CONNECT_TIMEOUT:?}"))?
        .map_err(|error| error.to_string())
}

async fn http2(io: Box<dyn Io>, uri: &Uri) -> Result<Channel, String> {
    // Tonic would reconnect by itself and without delay: its connector works once.
    let mut io = Some(TokioIo::new(io));
    let once = tower::service_fn(move |_: Uri| {
        let io = io.take();
        async move { io.ok_or_else(|| io::Error::other("one connection per attempt")) }
    });
    // With another scheme tonic would want TLS of its own.
    let endpoint = Endpoint::from(plain(uri))
        .origin(uri.clone())
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    timeout(HANDSHAKE_TIMEOUT, endpoint.connect_with_connector(once))
        .await
        .map_err(|_| format!("no HTTP/2 within {HANDSHAKE_TIMEOUT:?}"))?
        .map_err(|error| chain(&error))
}

/// Asks what a Register would be answered.
pub(crate) async fn probe(
    io: Box<dyn Io>,
    uri: &Uri,
    authorization: Option<AsciiMetadataValue>,
    probe: Probe,
) -> Result<ProbeAnswer, Status> {
    let channel = http2(io, uri).await.map_err(Status::unknown)?;
    let mut client =
        pb::agent_link_client::AgentLinkClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let mut request = Request::new(pb::ProbeRequest::from(probe));
    if let Some(authorization) = authorization {
        request
            .metadata_mut()
            .insert("authorization", authorization);
    }
    let answer = client.probe(request).await?.into_inner();
    ProbeAnswer::try_from(answer).map_err(|error| Status::unknown(error.to_string()))
}

/// What a status says, with its causes.
pub(crate) fn told(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    }
}

/// The same address with `http`.
fn plain(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// What comes out of a stream.
#[derive(Debug)]
pub(crate) enum Inbound {
    Message(Box<HeadendMessage>, Option<Traceparent>),
    Malformed(WireError),
    Ended(End),
}

/// Runs one stream to its end: what is queued goes out, what comes in goes to `inbound`, the last
/// of it always [`Inbound::Ended`] unless `close` came first.
pub(crate) async fn run(
    link: Link,
    outbound: mpsc::Receiver<pb::AgentMessage>,
    inbound: impl AsyncFn(Inbound),
    close: CancellationToken,
) {
    let read = async {
        let end = match read(link, outbound, &inbound).await {
            Ok(()) => End::Lost {
                text: "the stream ended".into(),
            },
            Err(end) => end,
        };
        inbound(Inbound::Ended(end)).await;
    };
    let closed = async {
        close.cancelled().await;
        tokio::time::sleep(GOODBYE).await;
    };
    tokio::select! {
        () = read => {}
        () = closed => {}
    }
}

async fn read(
    link: Link,
    outbound: mpsc::Receiver<pb::AgentMessage>,
    inbound: &impl AsyncFn(Inbound),
) -> Result<(), End> {
    let mut client = pb::agent_link_client::AgentLinkClient::new(link.channel)
        .max_decoding_message_size(MAX_MESSAGE);
    let mut request = Request::new(ReceiverStream::new(outbound));
    if let Some(authorization) = link.authorization {
        request
            .metadata_mut()
            .insert("authorization", authorization);
    }
    let response = client.stream(request).await;
    let mut stream = response
        .map_err(|status| end_of(&status, false))?
        .into_inner();
    let mut in_session = false;
    while let Some(message) = stream
        .message()
        .await
        .map_err(|status| end_of(&status, in_session))?
    {
        in_session = true;
        let trace = message.trace_context().and_then(Traceparent::parse);
        match HeadendMessage::try_from(message) {
            Ok(message) => inbound(Inbound::Message(Box::new(message), trace)).await,
            Err(error) => inbound(Inbound::Malformed(error)).await,
        }
    }
    Ok(())
}

/// Before a session exists the status says whether trying again may help.
fn end_of(status: &Status, in_session: bool) -> End {
    let text = match status.source() {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None => format!("{}: {}", status.code(), status.message()),
    };
    if in_session {
        return End::Lost { text };
    }
    let reason = match status.code() {
        Code::Unauthenticated => CloseReason::Unauthenticated,
        Code::PermissionDenied => CloseReason::Forbidden,
        Code::Unimplemented => CloseReason::Incompatible,
        _ => return End::Unreachable { text },
    };
    End::Refused { reason, text }
}

/// An error with its causes, each said once; of TLS, what it says.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    if let Some(text) = tls::explain(error) {
        return text;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_a_session_the_status_tells_whether_trying_again_may_help() {
        for (code, reason) in [
            (Code::Unauthenticated, Some(CloseReason::Unauthenticated)),
            (Code::PermissionDenied, Some(CloseReason::Forbidden)),
            (Code::Unimplemented, Some(CloseReason::Incompatible)),
            (Code::Unavailable, None),
            (Code::ResourceExhausted, None),
            (Code::Unknown, None),
        ] {
            let status = Status::new(code, "no");
            match (end_of(&status, false), reason) {
                (End::Refused { reason: found, .. }, Some(reason)) => assert_eq!(found, reason),
                (End::Unreachable { .. }, None) => {}
                (end, _) => panic!("{code:?}: {end:?}"),
            }
            assert!(matches!(end_of(&status, true), End::Lost { .. }));
        }
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_a_failure_with_its_cause() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri: Uri = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        drop(listener);
        let end = open(&Tcp, &Security::default(), &uri).await.unwrap_err();
        assert!(end.text().contains("refused"), "{}", end.text());
    }
}
