//! A headend that does what the test says.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use derms_proto::Timestamp;
use http::Uri;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::Code;

use super::service::{self, Incoming, ServerIo, Shared};
use super::{FakeSession, patiently};
use crate::clock::{Clock, SystemClock, TokioClock};
use crate::connect::{Dial, Io};
use crate::{AgentBuilder, AgentRuntime, async_trait};

/// A pipe that holds this much makes a peer wait, as a network does.
const PIPE: usize = 64 << 10;

/// A headend that does what the test says; it stops when it is dropped.
#[derive(Debug)]
pub struct FakeHeadend {
    uri: Uri,
    sessions: mpsc::Receiver<FakeSession>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    dialer: Option<Arc<dyn Dial>>,
    _stops: DropGuard,
}

impl FakeHeadend {
    /// Reached through memory by agents of [`agent`](Self::agent). Nothing real is waited for, so
    /// a test may pause Tokio's clock. Must be called inside a Tokio runtime.
    #[must_use]
    pub fn in_memory() -> Self {
        let start = Timestamp::UNIX_EPOCH.saturating_add(Duration::from_secs(1_700_000_000));
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(start));
        let (incoming, queue) = mpsc::channel(16);
        let mut headend = Self::serve(Uri::from_static("http://headend.test"), queue, clock);
        headend.dialer = Some(Arc::new(Memory {
            incoming,
            shared: Arc::clone(&headend.shared),
        }));
        headend
    }

    /// On a loopback port of its own.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn on_loopback() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let uri = format!("http://{}", listener.local_addr()?);
        let uri = uri.parse().map_err(io::Error::other)?;
        let (incoming, queue) = mpsc::channel(16);
        let headend = Self::serve(uri, queue, Arc::new(SystemClock::new()));
        let stop = headend.shared.stop.clone();
        headend
            .shared
            .tasks
            .spawn(stop.run_until_cancelled_owned(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let io: Box<dyn Io> = Box::new(stream);
                    if incoming.send(Ok(ServerIo::new(io))).await.is_err() {
                        return;
                    }
                }
            }));
        Ok(headend)
    }

    fn serve(uri: Uri, incoming: mpsc::Receiver<Incoming>, clock: Arc<dyn Clock>) -> Self {
        let (sender, sessions) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared::new(sender, Arc::clone(&clock), tasks, stop.clone()));
        let server = service::serve(Arc::clone(&shared), ReceiverStream::new(incoming));
        shared
            .tasks
            .spawn(stop.clone().run_until_cancelled_owned(server));
        Self {
            uri,
            sessions,
            shared,
            clock,
            dialer: None,
            _stops: stop.drop_guard(),
        }
    }

    /// Starts to put an agent together that dials this headend.
    pub fn agent(&self) -> AgentBuilder {
        let builder = AgentRuntime::builder(self.uri.clone());
        match &self.dialer {
            Some(dialer) => builder.through(Arc::clone(dialer), Arc::clone(&self.clock)),
            None => builder,
        }
    }

    /// Its address; of use on a loopback port.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Its clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// From now on every attempt fails: in memory nobody listens, on a port the status is
    /// `UNAVAILABLE`. Streams that exist go on.
    pub fn go_away(&self) {
        self.shared.refuse_with(Some((Code::Unavailable, "gone")));
        self.shared.away.store(true, Ordering::SeqCst);
    }

    /// From now on every stream is refused with this gRPC status code.
    pub fn refuse(&self, code: i32) {
        self.shared
            .refuse_with(Some((Code::from_i32(code), "refused by the test")));
        self.shared.away.store(false, Ordering::SeqCst);
    }

    /// From now on streams are accepted, as at the start.
    pub fn come_back(&self) {
        self.shared.refuse_with(None);
        self.shared.away.store(false, Ordering::SeqCst);
    }

    /// From now on probes are answered: all assets are granted, and the headend's clock is ahead of
    /// this machine's by so many microseconds. At the start probes are not known, as to an older
    /// headend.
    pub fn answer_probes(&self, micros_ahead: i64) {
        self.shared.answer_probes(Some(micros_ahead));
    }

    /// How many attempts to connect or to open a stream there were.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.shared.attempts.load(Ordering::SeqCst)
    }

    /// The next session; its Register has come and is not answered.
    ///
    /// # Panics
    /// If none comes within 60 s.
    pub async fn accept(&mut self) -> FakeSession {
        patiently("a session", self.sessions.recv()).await
    }

    /// The next session, answered: every asset is granted, its logs continue where the agent's
    /// heads are.
    ///
    /// # Panics
    /// If none comes within 60 s.
    pub async fn accept_and_grant(&mut self) -> FakeSession {
        let mut session = self.accept().await;
        let registered = session.registered();
        session.answer(registered).await;
        session
    }
}

#[derive(Debug)]
struct Memory {
    incoming: mpsc::Sender<Incoming>,
    shared: Arc<Shared>,
}

#[async_trait]
impl Dial for Memory {
    async fn dial(&self, _: &Uri) -> io::Result<Box<dyn Io>> {
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens");
        if self.shared.away.load(Ordering::SeqCst) {
            self.shared.attempts.fetch_add(1, Ordering::SeqCst);
            return Err(refused());
        }
        let (agent, headend) = tokio::io::duplex(PIPE);
        let headend = ServerIo::new(Box::new(headend));
        self.incoming
            .send(Ok(headend))
            .await
            .map_err(|_| refused())?;
        Ok(Box::new(agent))
    }
}
