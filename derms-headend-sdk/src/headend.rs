//! The handle of a running headend.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{
    Dispatch, DispatchId, DispatchPreview, Fleet, LimitId, NewDispatch, NewLimit, NewStop,
    PowerLimit, Stop, StopId,
};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};

use crate::auth::Principal;
use crate::builder::HeadendBuilder;
use crate::core::Core;
use crate::dispatcher::{DispatchError, Submitted};
use crate::error::ServeError;
use crate::limits::{LimitError, StopError};
use crate::refusals::LinkRefusals;
use crate::serve::{self, Addresses, Security, Server, Settings};
use crate::service::HeadendService;
use crate::store::StoreError;

/// What sessions and store have at least to end, even when connections took the whole limit.
const LAST: Duration = Duration::from_secs(1);

/// A running headend; cheap to clone, all clones are the same headend.
///
/// Its background work ends with [`shutdown`](Self::shutdown), or when the last handle, service and
/// session are gone. Several headends run beside each other in one process.
#[derive(Debug, Clone)]
pub struct Headend {
    core: Arc<Core>,
}

impl Headend {
    /// Begins to set up a headend for this fleet.
    pub fn builder(fleet: Fleet) -> HeadendBuilder {
        HeadendBuilder::new(fleet)
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn new(core: Core) -> Self {
        Self {
            core: Arc::new(core),
        }
    }

    #[cfg(test)]
    pub(crate) fn background(&self) -> tokio_util::task::TaskTracker {
        self.core.background.clone()
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.core.fleet
    }

    /// REST and gRPC as one service.
    #[must_use]
    pub fn service(&self) -> HeadendService {
        HeadendService::new(&self.core, true, true)
    }

    /// REST alone.
    #[must_use]
    pub fn rest_service(&self) -> HeadendService {
        HeadendService::new(&self.core, true, false)
    }

    /// The agent link alone, with the health service of gRPC; anything else is answered 404, the
    /// probes of REST included.
    #[must_use]
    pub fn grpc_service(&self) -> HeadendService {
        HeadendService::new(&self.core, false, true)
    }

    /// Gives an order, as `POST /dispatch` does. Once it is taken it is carried out, even if this
    /// call is dropped.
    ///
    /// # Errors
    /// It was not taken; see [`DispatchError`].
    pub async fn dispatch(
        &self,
        new: &NewDispatch,
        principal: Option<&Principal>,
    ) -> Result<Dispatch, DispatchError> {
        self.core
            .submit(new.clone(), principal.cloned(), None, None)
            .await
            .map(|s: Submitted| s.dispatch)
    }

    /// Tells what an order would do, as `POST /dispatch/preview` does. Nothing is stored or sent.
    ///
    /// # Errors
    /// It would not be taken; see [`DispatchError`].
    pub async fn preview(&self, new: &NewDispatch) -> Result<DispatchPreview, DispatchError> {
        self.core.dispatcher.preview(new).await
    }

    /// Ends an order, as `DELETE /dispatch/{id}` does; answers it as it stands, `None` if it is not
    /// known. What was sent has ended when its agent says so. Once it was begun it is carried out,
    /// even if this call is dropped, and also while the store is away.
    ///
    /// # Errors
    /// The store can't be reached, and nothing was sent.
    pub async fn cancel(
        &self,
        id: DispatchId,
        principal: Option<&Principal>,
    ) -> Result<Option<Dispatch>, StoreError> {
        self.core.cancel(id, principal.cloned()).await
    }

    /// Sets a limit, as `POST /limits` does. Once it is taken it comes into force, even if this call
    /// is dropped.
    ///
    /// # Errors
    /// It was not taken; see [`LimitError`].
    pub async fn set_limit(
        &self,
        new: &NewLimit,
        principal: Option<&Principal>,
    ) -> Result<PowerLimit, LimitError> {
        self.core
            .set_limit(new.clone(), principal.cloned(), None, None)
            .await
    }

    /// Removes a limit, as `DELETE /limits/{id}` does.
    ///
    /// # Errors
    /// It goes on holding; see [`LimitError`].
    pub async fn remove_limit(
        &self,
        id: LimitId,
        principal: Option<&Principal>,
    ) -> Result<PowerLimit, LimitError> {
        self.core.remove_limit(id, principal.cloned()).await
    }

    /// Stops assets, as `POST /stop` does; the stop is carried out even if this call is dropped, and
    /// even if the store is away.
    ///
    /// # Errors
    /// Nothing was stopped; see [`StopError`].
    pub async fn stop(
        &self,
        new: &NewStop,
        principal: Option<&Principal>,
    ) -> Result<Stop, StopError> {
        self.core
            .stop_assets(new.clone(), principal.cloned(), None, None)
            .await
    }

    /// Ends a stop, as `DELETE /stop/{id}` does: each of its assets returns after a random part of
    /// `within`, at most a day.
    ///
    /// # Errors
    /// It goes on holding; see [`StopError`].
    pub async fn resume(
        &self,
        id: StopId,
        within: Duration,
        principal: Option<&Principal>,
    ) -> Result<Stop, StopError> {
        self.core.resume(id, within, principal.cloned()).await
    }

    /// One order as it stands; `None` if it is not known.
    ///
    /// # Errors
    /// The store can't be reached.
    pub async fn get_dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError> {
        self.core.dispatcher.dispatch(id).await
    }

    /// What this headend counts, in the text format 0.0.4 of Prometheus, as `GET /metrics` gives it:
    /// for a host that adds it to what it exports itself. All names begin with `derms_`. Takes up to
    /// 2 s when the store does not answer.
    pub async fn metrics(&self) -> String {
        self.core.metrics.text(&self.core).await
    }

    /// How often callers of the agent link were turned away since the start.
    #[must_use]
    pub fn link_refusals(&self) -> LinkRefusals {
        self.core.refusals.snapshot()
    }

    /// Whether another headend has taken the store over
    /// ([`StoreError::TakenOver`]). This one then ends all sessions, takes no new one and is never
    /// ready again; [`serve`](Self::serve) returns. The process should end with an error.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        self.core.taken_over.is_cancelled()
    }

    /// Binds an address with a backlog for a whole fleet; port 0 takes a free one. To be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// The address can't be bound, or there is no tokio runtime.
    pub fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
        serve::bind(address)
    }

    /// Serves on these listeners, each with its service, over HTTP/1.1 and HTTP/2 (with prior
    /// knowledge), with TLS on all of them if the headend was built with it, until `shutdown` resolves or [another headend](Self::is_taken_over) has the store; then ends in this order:
    ///
    /// 1. no new connection and no new agent stream is taken;
    /// 2. the health service says `NOT_SERVING`; every agent gets `Close(DRAINING)` with its own time to come back, and its stream ends;
    /// 3. requests in hand are finished, those that wait for an answer of an agent at once;
    /// 4. after the drain limit (10 s unless set) what is left is cut, with a warning;
    /// 5. what was received is stored; what can't be was never acknowledged, and its agent has it.
    ///
    /// So it returns within the drain limit and 3 s, whatever peers and store do. Dropping the
    /// future instead closes the listeners and cuts their connections.
    ///
    /// Limits of a connection: HTTP/2 pings after 10 s of silence and ends it after 10 s without an
    /// answer; a TLS handshake takes at most 10 s; a client must begin to speak HTTP within 10 s and send the head of an HTTP/1
    /// request, at most 64 KiB, within 30 s; HTTP/2 without a stream is ended after 30 s to 60 s; 8
    /// streams at once; 19,000 connections per listener, and of one address half of them unless
    /// [set](crate::HeadendBuilder::max_connections_per_address).
    pub async fn serve(
        &self,
        listeners: Vec<(TcpListener, HeadendService)>,
        shutdown: impl Future<Output = ()>,
    ) {
        self.serve_with(Settings::default(), listeners, shutdown)
            .await;
    }

    pub(crate) async fn serve_with(
        &self,
        settings: Settings,
        listeners: Vec<(TcpListener, HeadendService)>,
        shutdown: impl Future<Output = ()>,
    ) {
        let security = Security {
            tls: self.core.auth.tls.clone(),
            refusals: Arc::clone(&self.core.refusals),
            addresses: Arc::new(Addresses::new(
                self.core.config.max_connections_per_address,
                self.core.auth.proxies.clone(),
            )),
        };
        let server = Server::start(listeners, settings, &security, &self.core.drain);
        tokio::select! {
            () = shutdown => {}
            () = self.core.drain.cancelled() => {}
        }
        let limit = Instant::now() + self.core.config.drain_limit;
        self.core.drain.cancel();
        server.finish(limit).await;
        self.finish(limit).await;
    }

    /// Ends all sessions and the background work; what was received is stored first. For a
    /// headend that is mounted in another server; [`serve`](Self::serve) does it by itself.
    ///
    /// Returns within the drain limit and 2 s.
    pub async fn shutdown(&self) {
        self.finish(Instant::now() + self.core.config.drain_limit)
            .await;
    }

    async fn finish(&self, limit: Instant) {
        self.core.drain.cancel();
        self.core.streams.close();
        if timeout_at(limit.max(Instant::now() + LAST), self.core.streams.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.core.streams.len(),
                "sessions did not end in time"
            );
        }
        self.core.stop.cancel();
        self.core.background.close();
        if timeout_at(
            limit.max(Instant::now() + LAST),
            self.core.background.wait(),
        )
        .await
        .is_err()
        {
            tracing::warn!("the store did not take what was left in time; agents still have it");
        }
    }
}
