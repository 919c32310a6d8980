//! What the listener tells the services about a connection, as request extensions.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

/// The network address of the caller.
///
/// [`Headend::serve`](crate::Headend::serve) inserts it; a host with a listener of its own may do
/// the same, for REST too: it is what agents, the log and the audit trail show, and failed logins are
/// counted by it. Without it they show none, and all callers fail as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// The request came over TLS.
///
/// A host with a listener of its own may insert it as a request extension, so that browsers are told
/// to come over TLS alone (`Strict-Transport-Security`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encrypted;

/// Cuts a connection whose peer has stopped reading: there is no other way to end its streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionHandle(CancellationToken);

impl ConnectionHandle {
    pub(crate) fn cut(&self) {
        self.0.cancel();
    }

    pub(crate) async fn is_cut(&self) {
        self.0.cancelled().await;
    }
}
