//! One connection, from its first byte to its end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::TcpKeepalive;
use tokio::io::{AsyncReadExt as _, join};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::{Acceptor, Settings};
use crate::peer::{ConnectionHandle, PeerAddr};

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

const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Acceptor {
    pub(super) async fn connection(self, mut stream: TcpStream, peer: SocketAddr) {
        let Self {
            service,
            settings,
            tasks,
            drain,
            cut,
        } = self;
        if let Err(error) = tune(&stream) {
            tracing::debug!(%peer, %error, "can't set socket options");
        }
        let opening = tokio::select! {
            opening = timeout(settings.opening, open(&mut stream)) => opening,
            // It has not asked for anything yet.
            () = drain.cancelled() => return,
            () = cut.cancelled() => return,
        };
        let Ok(Ok(Opening { version, bytes })) = opening else {
            tracing::debug!(%peer, "a connection that did not say what it wants");
            return;
        };

        let handle = ConnectionHandle::default();
        let inserted = handle.clone();
        let service = service.map_request(move |mut request: http::Request<_>| {
            request.extensions_mut().insert(PeerAddr(peer));
            request.extensions_mut().insert(inserted.clone());
            request
        });
        let (read, write) = stream.into_split();
        let io = TokioIo::new(join(io::Cursor::new(bytes).chain(read), write));
        let builder = builder(&settings, tasks, version);
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
}

#[derive(Debug, Clone, Copy)]
enum Version {
    Http1,
    Http2,
}

struct Opening {
    version: Version,
    /// What was read to find it out.
    bytes: Vec<u8>,
}

/// Reads until it is clear which version of HTTP is spoken. hyper-util does the same without a
/// time limit: a connection that stops within the preface would stay for ever.
async fn open(stream: &mut TcpStream) -> io::Result<Opening> {
    let mut bytes = [0; HTTP2_PREFACE.len()];
    let mut filled = 0;
    let version = loop {
        let read = stream.read(&mut bytes[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        if bytes[..filled] != HTTP2_PREFACE[..filled] {
            break Version::Http1;
        }
        if filled == bytes.len() {
            break Version::Http2;
        }
    };
    Ok(Opening {
        version,
        bytes: bytes[..filled].to_vec(),
    })
}

fn builder(settings: &Settings, tasks: TaskTracker, version: Version) -> auto::Builder<Tracked> {
    let mut builder = auto::Builder::new(Tracked(tasks));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head)
        .max_buf_size(HTTP1_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.keep_alive_interval)
        .keep_alive_timeout(settings.keep_alive_timeout)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD);
    match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder.http2_only(),
    }
}

/// Runs the streams of HTTP/2 where the end of serving waits for them.
#[derive(Debug, Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(USER_TIMEOUT))
}
