//! The gRPC side of the fake headend.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use derms_proto::link::{AgentMessage, HeadendMessage, LogAck, LogKind};
use derms_proto::pb;
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
            away: AtomicBool::new(false),
            attempts: AtomicU64::new(0),
            epochs: AtomicU64::new(0),
            revisions: AtomicU64::new(0),
        }
    }

    pub(super) fn refuse_with(&self, refusal: Option<(Code, &'static str)>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
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
        let refusal = *shared
            .refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((code, text)) = refusal {
            return Err(Status::new(code, text));
        }
        let (to_agent, stream) = mpsc::channel(UNREAD);
        let reading = read(Arc::clone(shared), request.into_inner(), to_agent);
        let stop = shared.stop.clone();
        shared.tasks.spawn(stop.run_until_cancelled_owned(reading));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
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
