//! One connection, from its first byte to its end.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::TcpKeepalive;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::opening::{Opened, Version, open};
use super::transport::Transport;
use super::{Acceptor, Security, Settings};
use crate::bell::Bell;
use crate::certificate::PeerCertificate;
use crate::peer::{ConnectionHandle, Encrypted, PeerAddr};
use crate::refusals::Refusal;
use crate::tls::HandshakeError;

type BoxError = Box<dyn Error + Send + Sync>;

/// gRPC A18.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// An agent needs one stream; tonic and hyper alone would allow 200.
const STREAMS_PER_CONNECTION: u32 = 8;
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// What waits for a peer that does not read, per stream.
const SEND_BUFFER: usize = 64 << 10;
const MAX_HEAD: u32 = 16 << 10;
/// HTTP/1 reads heads and bodies into one buffer; hyper refuses less than 8 KiB.
const HTTP1_BUFFER: usize = 64 << 10;

impl Acceptor {
    pub(super) async fn connection(self, stream: TcpStream, peer: SocketAddr, turn: Arc<Notify>) {
        let Self {
            service,
            settings,
            security,
            tasks,
            drain,
            cut,
        } = self;
        if let Err(error) = tune(&stream) {
            tracing::debug!(%peer, %error, "can't set socket options");
        }
        // Boxed: a connection that lives needs no room for how it began.
        let opening = Box::pin(begin(&settings, &security, stream, peer));
        let begun = tokio::select! {
            begun = opening => begun,
            // It has not asked for anything yet.
            () = drain.cancelled() => return,
            () = cut.cancelled() => return,
            () = turn.notified() => {
                tracing::debug!(%peer, "too many connections that say nothing; the oldest is closed");
                return;
            }
        };
        drop(turn);
        let Some((version, stream, certificate)) = begun else {
            return;
        };
        let encrypted = security.tls.is_some();
        drop(security);

        let handle = ConnectionHandle::default();
        let inserted = handle.clone();
        let service = service.map_request(move |mut request: http::Request<_>| {
            request.extensions_mut().insert(PeerAddr(peer));
            request.extensions_mut().insert(inserted.clone());
            if encrypted {
                request.extensions_mut().insert(Encrypted);
            }
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(Arc::clone(certificate));
            }
            request
        });
        let service = TowerToHyperService::new(service);
        let io = TokioIo::new(stream);
        // Boxed, or each idle connection would have room for the larger of the two, twice.
        let mut idle = None;
        let mut connection: Pin<Box<dyn Connection>> = match version {
            Version::Http1 => Box::pin(http1(&settings).serve_connection(io, service)),
            Version::Http2 => {
                let streams = Arc::new(Streams::default());
                idle = Some(Box::pin(idle_for(settings.idle, Arc::clone(&streams))));
                let tracked = Tracked { tasks, streams };
                Box::pin(http2(&settings, tracked).serve_connection(io, service))
            }
        };
        drop(settings);
        let mut ended = pin!(async {
            tokio::select! {
                () = handle.is_cut() => {}
                () = cut.cancelled() => {}
            }
        });
        let mut drained = pin!(drain.cancelled());
        let mut draining = false;
        // The connection is woken for each message; to ask for these takes locks that all share.
        let seldom = Bell::new();
        let end = poll_fn(|cx| {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            let rare = seldom.poll(cx, |cx| {
                if ended.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Rare::Cut);
                }
                if draining {
                    return Poll::Pending;
                }
                let idle = idle.as_mut().map(|idle| idle.as_mut().poll(cx));
                if idle.is_some_and(|idle| idle.is_ready()) || drained.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Rare::Drain);
                }
                Poll::Pending
            });
            match rare {
                Poll::Ready(Rare::Cut) => Poll::Ready(Ok(())),
                Poll::Ready(Rare::Drain) => {
                    draining = true;
                    connection.as_mut().drain();
                    connection.as_mut().poll(cx)
                }
                Poll::Pending => Poll::Pending,
            }
        });
        if let Err(error) = end.await {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}

/// The TLS handshake, if there is to be one, and the version of HTTP; `None` if it does not come to
/// that in time.
async fn begin(
    settings: &Settings,
    security: &Security,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(Version, Opened, Option<Arc<PeerCertificate>>)> {
    let (stream, certificate) = match &security.tls {
        None => (Transport::Plain(stream), None),
        Some(tls) => match timeout(settings.handshake, tls.accept(stream)).await {
            Ok(Ok((stream, certificate))) => (Transport::Tls(stream), certificate),
            Ok(Err(HandshakeError::Certificate(text))) => {
                security.refusals.record(&Refusal::Handshake { peer, text });
                return None;
            }
            Ok(Err(HandshakeError::Other(error))) => {
                tracing::debug!(%peer, %error, "no TLS");
                return None;
            }
            Err(_) => {
                tracing::debug!(%peer, "a TLS handshake that did not end in time");
                return None;
            }
        },
    };
    let Ok(Ok((version, stream))) = timeout(settings.opening, open(stream)).await else {
        tracing::debug!(%peer, "a connection that did not say what it wants");
        return None;
    };
    Some((version, stream, certificate))
}

/// What hardly ever happens to a connection.
enum Rare {
    Cut,
    Drain,
}

/// A connection of either version.
trait Connection: Future<Output = hyper::Result<()>> + Send {
    /// No new request is taken; it ends when those in hand are answered.
    fn drain(self: Pin<&mut Self>);
}

type Io = TokioIo<Opened>;

impl<S, B> Connection for http1::Connection<Io, S>
where
    S: HttpService<Incoming, ResBody = B, Error: Into<BoxError>, Future: Send> + Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, B> Connection for http2::Connection<Io, S, Tracked>
where
    S: HttpService<Incoming, ResBody = B, Error: Into<BoxError>, Future: Send + 'static> + Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn http1(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head)
        .max_buf_size(HTTP1_BUFFER);
    builder
}

fn http2(settings: &Settings, tracked: Tracked) -> http2::Builder<Tracked> {
    let mut builder = http2::Builder::new(tracked);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.keep_alive_interval)
        .keep_alive_timeout(settings.keep_alive_timeout)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD);
    builder
}

/// The streams of one connection of HTTP/2.
#[derive(Debug, Default)]
pub(super) struct Streams {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Ends when there was no stream for `period`, at most twice that later: a peer that answers pings
/// and asks for nothing would stay for ever.
pub(super) async fn idle_for(period: Duration, streams: Arc<Streams>) {
    let mut before = 0;
    loop {
        sleep(period).await;
        let begun = streams.begun.load(Ordering::Relaxed);
        if begun == before && streams.ended.load(Ordering::Relaxed) == begun {
            return;
        }
        before = begun;
    }
}

/// Runs the streams of HTTP/2 where the end of serving waits for them, and counts them.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) tasks: TaskTracker,
    pub(super) streams: Arc<Streams>,
}

impl<F> Executor<F> for Tracked
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let stream = Stream::begin(&self.streams);
        // Not a block that awaits it: that would hold it twice.
        self.tasks.spawn(task.map(move |_| drop(stream)));
    }
}

/// Counts as ended when it is dropped, a panic included.
struct Stream(Arc<Streams>);

impl Stream {
    fn begin(all: &Arc<Streams>) -> Self {
        all.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(all))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(USER_TIMEOUT))
}
