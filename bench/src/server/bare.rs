//! What tonic alone costs: decode, keep the latest value, acknowledge. No checks, no store, no
//! sessions, no limits; everything that the headend does beyond this is its price.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::pb::agent_link_server::{AgentLink, AgentLinkServer};
use derms_headend_sdk::proto::pb::{self, agent_message, headend_message};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_stream::adapters::Map;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::{ANY, answer, runtime};
use crate::fleet;
use crate::words::{self, Listening, Result, Times};

const QUEUE: usize = 32;

/// Boxed, or each idle stream would have room for a queue of whole messages.
type Message = Box<pb::HeadendMessage>;
type Outbound = mpsc::Sender<Message>;
type Item = std::result::Result<pb::HeadendMessage, Status>;

#[derive(Debug)]
struct Bare {
    latest: Mutex<HashMap<String, pb::Sample>>,
    agents: Mutex<HashMap<String, Outbound>>,
    /// Who waits for the report of an order.
    orders: Mutex<HashMap<String, oneshot::Sender<()>>>,
    ages: Mutex<Times>,
}

pub(crate) fn run() -> Result {
    runtime()?.block_on(async {
        let bare = Arc::new(Bare {
            latest: Mutex::default(),
            agents: Mutex::default(),
            orders: Mutex::default(),
            ages: Mutex::new(Times::new()?),
        });
        // The headend's own socket: the same backlog for both.
        let (grpc, orders) = (Headend::bind(ANY)?, TcpListener::bind(ANY).await?);
        words::tell(&Listening {
            agents: grpc.local_addr()?,
            orders: orders.local_addr()?,
        })?;
        let incoming = TcpIncoming::from(grpc).with_nodelay(Some(true));
        let service = AgentLinkServer::new(Link(Arc::clone(&bare)));
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        tokio::spawn(take_orders(Arc::clone(&bare), orders));
        answer(async |_| {
            let mut ages = bare.ages.lock();
            let spread = ages.spread();
            ages.clear();
            Ok(spread)
        })
        .await?;
        Ok(ExitCode::SUCCESS)
    })
}

#[derive(Debug)]
struct Link(Arc<Bare>);

#[tonic::async_trait]
impl AgentLink for Link {
    type StreamStream = Map<ReceiverStream<Message>, fn(Message) -> Item>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> std::result::Result<Response<Self::StreamStream>, Status> {
        let (outbound, queue) = mpsc::channel(QUEUE);
        tokio::spawn(serve(Arc::clone(&self.0), request.into_inner(), outbound));
        Ok(Response::new(
            ReceiverStream::new(queue).map(|message| Ok(*message)),
        ))
    }

    async fn probe(
        &self,
        _: Request<pb::ProbeRequest>,
    ) -> std::result::Result<Response<pb::ProbeAnswer>, Status> {
        Err(Status::unimplemented("only streams are measured"))
    }
}

async fn serve(bare: Arc<Bare>, mut inbound: Streaming<pb::AgentMessage>, outbound: Outbound) {
    while let Ok(Some(message)) = inbound.message().await {
        let answer = match message.body {
            Some(agent_message::Body::Register(register)) => {
                bare.agents
                    .lock()
                    .insert(register.agent_id, outbound.clone());
                headend_message::Body::Registered(pb::Registered {
                    epoch: 1,
                    ..pb::Registered::default()
                })
            }
            Some(agent_message::Body::Telemetry(telemetry)) => {
                headend_message::Body::LogAck(bare.telemetry(telemetry))
            }
            Some(agent_message::Body::Report(report)) => {
                headend_message::Body::LogAck(bare.report(report))
            }
            _ => continue,
        };
        if outbound.send(message_of(answer)).await.is_err() {
            return;
        }
    }
}

impl Bare {
    fn telemetry(&self, telemetry: pb::Telemetry) -> pb::LogAck {
        let up_to_seq = telemetry.first_seq + telemetry.samples.len() as u64 - 1;
        for sample in telemetry.samples {
            let measured_at = sample.measured_at;
            self.latest.lock().insert(sample.asset_id.clone(), sample);
            if let Some(age) = measured_at.and_then(age) {
                self.ages.lock().add(age);
            }
        }
        ack(pb::LogKind::Telemetry, telemetry.log_id, up_to_seq)
    }

    fn report(&self, report: pb::Report) -> pb::LogAck {
        let up_to_seq = report.first_seq + report.entries.len() as u64 - 1;
        for entry in report.entries {
            if let Some(waiting) = self.orders.lock().remove(&entry.asset_id) {
                let _ = waiting.send(());
            }
        }
        ack(pb::LogKind::Report, report.log_id, up_to_seq)
    }
}

fn ack(kind: pb::LogKind, log_id: String, up_to_seq: u64) -> pb::LogAck {
    pb::LogAck {
        kind: kind.into(),
        log_id,
        up_to_seq,
        ..pb::LogAck::default()
    }
}

fn message_of(body: headend_message::Body) -> Message {
    Box::new(pb::HeadendMessage {
        traceparent: None,
        body: Some(body),
    })
}

fn age(measured_at: prost_types::Timestamp) -> Option<Duration> {
    SystemTime::try_from(measured_at).ok()?.elapsed().ok()
}

async fn take_orders(bare: Arc<Bare>, listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(orders(Arc::clone(&bare), stream));
    }
}

/// One order per line, the number of its agent; answered with a line when it was reported.
async fn orders(bare: Arc<Bare>, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let asset_id = fleet::asset_id(line.parse().unwrap_or(u32::MAX)).to_string();
        let Some(agent) = bare.agents.lock().get(&asset_id).cloned() else {
            continue;
        };
        let (reported, report) = oneshot::channel();
        bare.orders.lock().insert(asset_id.clone(), reported);
        let setpoint = pb::Setpoint {
            asset_id,
            mw: 1.0,
            ..pb::Setpoint::default()
        };
        let order = message_of(headend_message::Body::Setpoint(setpoint));
        if agent.send(order).await.is_ok() && report.await.is_ok() {
            write.write_all(b"\n").await?;
        }
    }
    Ok(())
}
