//! `grpc.health.v1.Health`: what `/readyz` says, for those who ask over gRPC.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::pb::agent_link_server::SERVICE_NAME;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::core::Core;

/// How often a watcher is told of a change.
const LOOK: Duration = Duration::from_secs(1);
/// Everyone may watch, and each watcher is a task.
const MOST_WATCHERS: usize = 64;
/// The name of a service is all that a request holds.
const LARGEST_REQUEST: usize = 4 << 10;

#[derive(Debug, Clone)]
pub(crate) struct Probe {
    core: Arc<Core>,
    watchers: Arc<Semaphore>,
}

impl Probe {
    pub(crate) fn server(core: Arc<Core>) -> HealthServer<Self> {
        let probe = Self {
            core,
            watchers: Arc::new(Semaphore::new(MOST_WATCHERS)),
        };
        HealthServer::new(probe).max_decoding_message_size(LARGEST_REQUEST)
    }
}

#[tonic::async_trait]
impl Health for Probe {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        known(request.get_ref())?;
        Ok(Response::new(answer(status(&self.core).await)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        known(request.get_ref())?;
        let watcher = Arc::clone(&self.watchers).try_acquire_owned();
        let watcher = watcher.map_err(|_| {
            Status::resource_exhausted("too many watch the health of this headend; use Check")
        })?;
        let (sender, receiver) = mpsc::channel(1);
        let core = Arc::clone(&self.core);
        let watching = watch(core, sender, watcher);
        self.core.streams.spawn(watching);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Tells the status, and each change of it, until the headend drains: a stream without an end would hold
/// up its end.
async fn watch(
    core: Arc<Core>,
    sender: mpsc::Sender<Result<HealthCheckResponse, Status>>,
    _watcher: OwnedSemaphorePermit,
) {
    let mut told = None;
    loop {
        let draining = core.drain.is_cancelled();
        let now = status(&core).await;
        if told != Some(now) {
            // A watcher that does not read is no reason to wait.
            let told_now = sender.try_send(Ok(answer(now)));
            told = told_now.is_ok().then_some(now).or(told);
        }
        if draining {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = core.drain.cancelled() => {}
            () = sender.closed() => return,
        }
    }
}

async fn status(core: &Core) -> ServingStatus {
    match core.not_ready_now().await {
        None => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    }
}

/// The headend as a whole, or the agent link.
fn known(request: &HealthCheckRequest) -> Result<(), Status> {
    match request.service.as_str() {
        "" | SERVICE_NAME => Ok(()),
        _ => Err(Status::not_found(
            "no such service here; ask for derms.v1.AgentLink, or for none",
        )),
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
