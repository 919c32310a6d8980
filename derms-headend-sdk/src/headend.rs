//! The handle of a running headend.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use derms_proto::{Dispatch, DispatchId, Fleet, NewDispatch};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Principal;
use crate::builder::HeadendBuilder;
use crate::core::Core;
use crate::dispatcher::{DispatchError, Submitted};
use crate::error::ServeError;
use crate::serve;
use crate::service::HeadendService;
use crate::store::StoreError;

/// A running headend; cheap to clone, all clones are the same headend.
///
/// Its background work ends with [`shutdown`](Self::shutdown). Several headends run beside each
/// other in one process.
#[derive(Debug, Clone)]
pub struct Headend {
    core: Arc<Core>,
}

impl Headend {
    /// Begins to set up a headend for this fleet.
    pub fn builder(fleet: Fleet) -> HeadendBuilder {
        HeadendBuilder::new(fleet)
    }

    pub(crate) fn new(core: Core) -> Self {
        Self {
            core: Arc::new(core),
        }
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

    /// The agent link alone; anything else is answered 404.
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
        self.core.submit(new.clone(), principal.cloned(), None).await.map(|s: Submitted| s.dispatch)
    }

    /// One order as it stands; `None` if it is not known.
    ///
    /// # Errors
    /// The store can't be reached.
    pub async fn get_dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError> {
        self.core.dispatcher.dispatch(id).await
    }

    /// Binds an address with a backlog for a whole fleet; port 0 takes a free one.
    ///
    /// # Errors
    /// The address can't be bound. Must be called inside a tokio runtime.
    pub fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
        serve::bind(address)
    }

    /// Serves on these listeners, each with its service, until `shutdown` resolves; then ends in
    /// this order:
    ///
    /// 1. no new connection and no new stream is taken;
    /// 2. every agent gets `Close(DRAINING)` with its own time to come back, and its stream ends;
    /// 3. requests in hand are finished;
    /// 4. what was received is stored and acknowledged;
    /// 5. after the drain limit (10 s unless set) what is left is cut, with a warning.
    pub async fn serve(
        &self,
        listeners: Vec<(TcpListener, HeadendService)>,
        shutdown: impl Future<Output = ()>,
    ) {
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        let acceptors = TaskTracker::new();
        for (listener, service) in listeners {
            acceptors.spawn(serve::accept(
                listener,
                service,
                connections.clone(),
                self.core.drain.clone(),
                cut.clone(),
            ));
        }
        acceptors.close();
        tokio::select! {
            () = shutdown => {}
            () = self.core.drain.cancelled() => {}
        }
        let limit = tokio::time::Instant::now() + self.core.config.drain_limit;
        self.core.drain.cancel();
        acceptors.wait().await;
        connections.close();
        if tokio::time::timeout_at(limit, connections.wait()).await.is_err() {
            tracing::warn!(left = connections.len(), "connections did not end in time; cutting them");
            cut.cancel();
            connections.wait().await;
        }
        self.shutdown().await;
    }

    /// Ends all sessions and the background work; what was received is stored first. For a
    /// headend that is mounted in another server; [`serve`](Self::serve) does it by itself.
    pub async fn shutdown(&self) {
        let limit = self.core.config.drain_limit;
        self.core.drain.cancel();
        self.core.streams.close();
        if tokio::time::timeout(limit, self.core.streams.wait()).await.is_err() {
            tracing::warn!(left = self.core.streams.len(), "sessions did not end in time");
        }
        self.core.stop.cancel();
        self.core.background.close();
        if tokio::time::timeout(limit, self.core.background.wait()).await.is_err() {
            tracing::warn!("the store did not take what was left in time; agents still have it");
        }
    }
}
