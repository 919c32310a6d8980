//! The gRPC side: one stream of one agent.

mod claim;
mod driver;
mod facts;
mod health;
mod log;
mod probe;
mod session;
mod update;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use derms_proto::pb;
use derms_proto::pb::agent_link_server::{AgentLink, AgentLinkServer};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::auth::Principal;
use crate::core::Core;
use crate::identity::AgentIdentity;
use crate::link_auth::Credentials;
use crate::mailbox::Mailbox;
use crate::peer::{ConnectionHandle, PeerAddr};
use crate::refusals::Refusal;
use crate::registry::Outbound;
pub(crate) use claim::AT_THE_STORE;
use driver::Driver;
pub(crate) use health::Probe;

/// The agent link as a gRPC service.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    core: Arc<Core>,
}

impl Gateway {
    pub(crate) fn server(core: Arc<Core>) -> AgentLinkServer<Self> {
        let largest = core.config.limits.max_message_bytes as usize;
        AgentLinkServer::new(Self { core }).max_decoding_message_size(largest)
    }
}

#[tonic::async_trait]
impl AgentLink for Gateway {
    type StreamStream = OutboundStream;

    async fn stream(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<OutboundStream>, Status> {
        self.refuse_while_draining()?;
        let credentials = self.identify(&request)?;
        let extensions = request.extensions();
        let peer = peer(extensions);
        let principal = principal(extensions, credentials.as_ref());
        let connection = extensions.get::<ConnectionHandle>().cloned();
        let (outbound, queue) = mpsc::channel(self.core.config.outbound_queue);
        let driver = Driver {
            core: Arc::clone(&self.core),
            inbound: request.into_inner(),
            mailbox: Arc::new(Mailbox::new(outbound.clone())),
            outbound,
            peer,
            principal,
            credentials,
            connection,
        };
        // The agent sends Register only when it has seen response headers: answer at once.
        self.core.streams.spawn(driver.run());
        Ok(Response::new(OutboundStream(queue)))
    }

    async fn probe(
        &self,
        request: Request<pb::ProbeRequest>,
    ) -> Result<Response<pb::ProbeAnswer>, Status> {
        self.refuse_while_draining()?;
        let credentials = self.identify(&request)?;
        let extensions = request.extensions();
        let asker = probe::Asker {
            peer: peer(extensions),
            principal: principal(extensions, credentials.as_ref()),
            credentials,
        };
        let answer = probe::answer(&self.core, request.into_inner(), asker).await?;
        Ok(Response::new(answer.into()))
    }
}

impl Gateway {
    fn refuse_while_draining(&self) -> Result<(), Status> {
        if self.core.drain.is_cancelled() {
            return Err(Status::unavailable(
                "the headend is shutting down; try again later",
            ));
        }
        Ok(())
    }

    /// Who is calling; `None` if nobody has to prove it.
    fn identify<T>(&self, request: &Request<T>) -> Result<Option<Credentials>, Status> {
        let (extensions, headers) = (request.extensions(), request.metadata().as_ref());
        let identified = self
            .core
            .auth
            .identify(extensions, headers, self.core.clock.now());
        identified.map_err(|text| {
            self.core.refusals.record(&Refusal::Identity {
                peer: peer(extensions).as_deref(),
                agent: None,
                text,
            });
            Status::unauthenticated(text)
        })
    }
}

/// As whom the caller is shown.
fn principal(extensions: &Extensions, credentials: Option<&Credentials>) -> Option<Principal> {
    extensions.get::<Principal>().cloned().or_else(|| {
        let agent = credentials?.agent;
        Some(Principal::new(AgentIdentity::new(agent).urn()))
    })
}

fn peer(extensions: &Extensions) -> Option<String> {
    extensions.get::<PeerAddr>().map(|peer| peer.0.to_string())
}

/// Messages to an agent; ends when the session's task lets go of its sender.
#[derive(Debug)]
pub(crate) struct OutboundStream(mpsc::Receiver<Outbound>);

impl Stream for OutboundStream {
    type Item = Result<pb::HeadendMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0
            .poll_recv(cx)
            .map(|message| message.map(|message| Ok(*message)))
    }
}
