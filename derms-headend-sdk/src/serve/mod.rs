//! Listeners: connections with keep-alive and limits, and an end that comes.

mod addresses;
mod connection;
mod opening;
mod transport;
mod waiting;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::waiting::Waiting;
use crate::error::ServeError;
use crate::refusals::Refusals;
use crate::service::HeadendService;
use crate::tls::ServerTls;

pub(crate) use addresses::Addresses;
pub(crate) use transport::Io;

/// Room for all agents that come back at once after an outage.
const BACKLOG: i32 = 4_096;
/// Connections of one listener that may be open at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 19_000;
/// What ends a cut connection takes no longer than this.
const CUT: Duration = Duration::from_secs(1);

/// The time limits of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// HTTP/2: silence until a ping (gRPC A8). TCP alone sees no black hole.
    pub(crate) keep_alive_interval: Duration,
    /// HTTP/2: a ping without an answer for so long means that the peer is gone (gRPC A8).
    pub(crate) keep_alive_timeout: Duration,
    /// Until TLS is spoken.
    pub(crate) handshake: Duration,
    /// Until it is known which version of HTTP is spoken; the HTTP server has no limit for that.
    pub(crate) opening: Duration,
    /// Connections of one listener for which that is not known; with one more the oldest is closed.
    pub(crate) max_opening: usize,
    /// HTTP/2: without a stream for so long, it is ended; at most twice that.
    pub(crate) idle: Duration,
    /// HTTP/1: until the head of a request is whole, from the end of the one before.
    pub(crate) head: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            opening: Duration::from_secs(10),
            max_opening: 4_096,
            idle: Duration::from_secs(30),
            head: Duration::from_secs(30),
        }
    }
}

/// Binds a listener with a backlog for a whole fleet.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = || -> io::Result<TcpListener> {
        // Registering a socket outside a runtime would panic.
        Handle::try_current().map_err(io::Error::other)?;
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // On Windows the same option lets another process take the port.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listener().map_err(|source| ServeError::Bind { address, source })
}

/// What a connection must get through before it may ask for anything.
#[derive(Debug, Clone)]
pub(crate) struct Security {
    /// `None`: HTTP without TLS.
    pub(crate) tls: Option<ServerTls>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) addresses: Arc<Addresses>,
}

/// Listeners at work. Dropped, it cuts their connections.
#[derive(Debug)]
pub(crate) struct Server {
    tasks: TaskTracker,
    cut: DropGuard,
}

impl Server {
    /// Takes connections until `drain`; those that live then end by themselves or are cut.
    pub(crate) fn start(
        listeners: Vec<(TcpListener, HeadendService)>,
        settings: Settings,
        security: &Security,
        drain: &CancellationToken,
    ) -> Self {
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        let settings = Arc::new(settings);
        for (listener, service) in listeners {
            let acceptor = Acceptor {
                service,
                settings: Arc::clone(&settings),
                security: security.clone(),
                tasks: tasks.clone(),
                drain: drain.clone(),
                cut: cut.clone(),
            };
            tasks.spawn(acceptor.run(listener));
        }
        Self {
            tasks,
            cut: cut.drop_guard(),
        }
    }

    /// Waits for the connections, which must have been told to drain, and cuts what is left.
    pub(crate) async fn finish(self, until: Instant) {
        self.tasks.close();
        if timeout_at(until, self.tasks.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(
            left = self.tasks.len(),
            "connections did not end in time; cutting them"
        );
        drop(self.cut);
        if timeout(CUT, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                left = self.tasks.len(),
                "requests are still at work; leaving them"
            );
        }
    }
}

/// Where connections come from.
trait Listen: Send + Sync + 'static {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::accept(self).await
    }
}

#[derive(Debug, Clone)]
struct Acceptor {
    service: HeadendService,
    settings: Arc<Settings>,
    security: Security,
    tasks: TaskTracker,
    drain: CancellationToken,
    cut: CancellationToken,
}

impl Acceptor {
    async fn run(self, listener: impl Listen) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut waiting = Waiting::new(self.settings.max_opening);
        let ended = async {
            tokio::select! {
                () = self.drain.cancelled() => {}
                () = self.cut.cancelled() => {}
            }
        };
        let accepting = async {
            loop {
                // Never closed, so there is always a place in the end.
                let place = Arc::clone(&places).acquire_owned().await;
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let Some(share) = self.security.addresses.take(peer) else {
                            continue;
                        };
                        let (acceptor, turn) = (self.clone(), waiting.enter());
                        // Not a block that awaits it: that would hold it twice.
                        let connection = acceptor.connection(stream, peer, turn);
                        let connection = connection.map(move |()| drop((place, share)));
                        self.tasks.spawn(connection);
                    }
                    Err(error) if is_of_the_peer(&error) => {
                        tracing::debug!(%error, "a connection ended before it was accepted");
                    }
                    Err(error) => {
                        // Mostly out of file descriptors: the next attempt would fail as fast.
                        tracing::warn!(%error, "can't accept a connection; pausing for a second");
                        sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        };
        tokio::select! {
            () = ended => {}
            () = accepting => {}
        }
    }
}

/// Whether accepting failed by what the peer did, which says nothing about the next one.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionAborted | K::ConnectionRefused | K::ConnectionReset
    )
}
