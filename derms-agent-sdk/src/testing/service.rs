//! The gRPC side of the fake headend.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use derms_proto::link::{
    AgentMessage, Grant, GrantStatus, HeadendMessage, LogAck, LogKind, PROTOCOL_MINOR, Probe,
    ProbeAnswer,
};
use derms_proto::{Timestamp, pb};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::{Connected, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use super::FakeSession;
use crate::async_trait;
use crate::clock::Clock;
use crate::connect::Io;

/// Messages that a test may leave unread before the stream ends.
const UNREAD: usize = 4_096;

pub(super) type Incoming = Result<ServerIo, Infallible>;
pub(super) type ToAgent = mpsc::Sender<Result<pb::HeadendMessage, Status>>;

/// What the streams of one fake headend share.
#[derive(Debug)]
pub(super) struct Shared {
    sessions: mpsc::Sender<FakeSession>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    refusal: Mutex<Option<(Code, &'static str)>>,
    /// By how many microseconds its clock is ahead in answers to probes; `None`: it knows none.
    probes: Mutex<Option<i64>>,
    pub(super) away: AtomicBool,
    pub(super) attempts: AtomicU64,
    pub(super) epochs: AtomicU64,
    pub(super) revisions: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        sessions: mpsc::Sender<FakeSession>,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            sessions,
            clock,
            tasks,
            stop,
            refusal: Mutex::new(None),
            probes: Mutex::new(None),
            away: AtomicBool::new(false),
            attempts: AtomicU64::new(0),
            epochs: AtomicU64::new(0),
            revisions: AtomicU64::new(0),
        }
    }

    pub(super) fn refuse_with(&self, refusal: Option<(Code, &'static str)>) {
        *lock(&self.refusal) = refusal;
    }

    pub(super) fn answer_probes(&self, micros_ahead: Option<i64>) {
        *lock(&self.probes) = micros_ahead;
    }
}

pub(super) async fn serve(shared: Arc<Shared>, incoming: ReceiverStream<Incoming>) {
    let service = pb::agent_link_server::AgentLinkServer::new(Link(shared));
    let served = Server::builder()
        .add_service(service)
        .serve_with_incoming(incoming)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the fake headend failed");
    }
}

struct Link(Arc<Shared>);

#[async_trait]
impl pb::agent_link_server::AgentLink for Link {
    type StreamStream = ReceiverStream<Result<pb::HeadendMessage, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let shared = &self.0;
        shared.attempts.fetch_add(1, Ordering::SeqCst);
        let refusal = *lock(&shared.refusal);
        if let Some((code, text)) = refusal {
            return Err(Status::new(code, text));
        }
        let (to_agent, stream) = mpsc::channel(UNREAD);
        let reading = read(Arc::clone(shared), request.into_inner(), to_agent);
        let stop = shared.stop.clone();
        shared.tasks.spawn(stop.run_until_cancelled_owned(reading));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn probe(
        &self,
        request: Request<pb::ProbeRequest>,
    ) -> Result<Response<pb::ProbeAnswer>, Status> {
        let shared = &self.0;
        let Some(ahead) = *lock(&shared.probes) else {
            return Err(Status::unimplemented("probes are not known here"));
        };
        let probe = Probe::try_from(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let now = shared.clock.now().wall;
        let grants = probe.asset_ids.into_iter().map(|asset_id| Grant {
            asset_id,
            status: GrantStatus::Granted,
            last_revision: 0,
            text: None,
        });
        let answer = ProbeAnswer {
            server_time: Timestamp::from_unix_micros(now.unix_micros().saturating_add(ahead)),
            protocol_minor: PROTOCOL_MINOR,
            capabilities: Vec::new(),
            principal: None,
            grants: grants.collect(),
            durable_acks: true,
            connected: false,
        };
        Ok(Response::new(answer.into()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a stream to its end; the session is handed out when its Register has come.
async fn read(shared: Arc<Shared>, mut stream: Streaming<pb::AgentMessage>, to_agent: ToAgent) {
    let Ok(Some(first)) = stream.message().await else {
        return;
    };
    let Ok(AgentMessage::Register(register)) = AgentMessage::try_from(first) else {
        let status = Status::invalid_argument("the first message is not Register");
        let _ = to_agent.send(Err(status)).await;
        return;
    };
    let (sender, from_agent) = mpsc::channel(UNREAD);
    // Held weakly, so that a session that is dropped or cut ends the stream.
    let weak = to_agent.downgrade();
    let answers = Arc::new(AtomicBool::new(true));
    let session = FakeSession::new(
        Arc::clone(&shared),
        register,
        to_agent,
        from_agent,
        Arc::clone(&answers),
    );
    if shared.sessions.send(session).await.is_err() {
        return;
    }
    while let Ok(Some(message)) = stream.message().await {
        let Ok(message) = AgentMessage::try_from(message) else {
            return;
        };
        if answers.load(Ordering::SeqCst)
            && let Some(answer) = answer(&shared, &message)
            && let Some(to_agent) = weak.upgrade()
        {
            let _ = to_agent.try_send(Ok(answer.into()));
        }
        if sender.try_send(message).is_err() {
            return;
        }
    }
}

/// What a headend says by itself: acknowledgements.
fn answer(shared: &Shared, message: &AgentMessage) -> Option<HeadendMessage> {
    let ack = |kind, log_id, up_to_seq| {
        HeadendMessage::LogAck(LogAck {
            kind,
            log_id,
            up_to_seq,
            refused: Vec::new(),
            rewind: false,
        })
    };
    match message {
        AgentMessage::Telemetry(batch) => {
            let last = batch.first_seq + batch.samples.len() as u64 - 1;
            Some(ack(LogKind::Telemetry, batch.log_id, last))
        }
        AgentMessage::Report(batch) => {
            let last = batch.first_seq + batch.entries.len() as u64 - 1;
            Some(ack(LogKind::Report, batch.log_id, last))
        }
        AgentMessage::Heartbeat(heartbeat) => Some(HeadendMessage::HeartbeatAck {
            monotonic: heartbeat.monotonic,
            server_time: shared.clock.now().wall,
        }),
        _ => None,
    }
}

/// The server's end of a connection.
pub(super) struct ServerIo(Box<dyn Io>);

impl ServerIo {
    pub(super) fn new(io: Box<dyn Io>) -> Self {
        Self(io)
    }
}

impl Connected for ServerIo {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for ServerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}
