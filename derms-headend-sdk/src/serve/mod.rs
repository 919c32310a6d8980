//! The listener loop: connections with keep-alive and limits, and an end that comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::error::ServeError;
use crate::peer::{ConnectionHandle, PeerAddr};
use crate::service::HeadendService;

/// gRPC A8: a ping after 10 s of silence, lost after 10 s more. TCP alone sees no black hole.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// gRPC A18.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// A client that connects and says nothing is never timed out by the HTTP server.
const FIRST_BYTE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(10);
/// An agent needs one stream; tonic and hyper alone would allow 200.
const STREAMS_PER_CONNECTION: u32 = 8;
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Room for all agents that come back at once after an outage.
const BACKLOG: i32 = 4_096;
/// Connections that may be open at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 19_000;

/// Binds a listener with a backlog for a whole fleet.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listener().map_err(|source| ServeError::Bind { address, source })
}

/// Takes connections until `drain`; those that live then end by themselves or by `cut`.
pub(crate) async fn accept(
    listener: TcpListener,
    service: HeadendService,
    connections: TaskTracker,
    drain: CancellationToken,
    cut: CancellationToken,
) {
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = drain.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (service, drain, cut) = (service.clone(), drain.clone(), cut.clone());
                connections.spawn(async move {
                    connection(stream, peer, service, drain, cut).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Mostly out of file descriptors: the next attempt would fail as fast.
                tracing::warn!(%error, "can't accept a connection; pausing for a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: HeadendService,
    drain: CancellationToken,
    cut: CancellationToken,
) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%peer, %error, "can't set socket options");
    }
    let spoke = tokio::time::timeout(FIRST_BYTE, stream.readable()).await;
    if !matches!(spoke, Ok(Ok(()))) {
        tracing::debug!(%peer, "a connection that said nothing");
        return;
    }
    let handle = ConnectionHandle::default();
    let inserted = handle.clone();
    let service = service.map_request(move |mut request: http::Request<_>| {
        request.extensions_mut().insert(PeerAddr(peer));
        request.extensions_mut().insert(inserted.clone());
        request
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(16 << 10);
    let io = TokioIo::new(stream);
    let connection = builder.serve_connection(io, TowerToHyperService::new(service));
    tokio::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%peer, error = %*error, "connection ended");
                }
                return;
            }
            () = drain.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = handle.is_cut() => return,
            () = cut.cancelled() => return,
        }
    }
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(USER_TIMEOUT))
}
